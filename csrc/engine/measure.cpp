#include "engine/measure.h"

#include <algorithm>
#include <chrono>

#include "core/entry.h"
#include "core/isa.h"
#include "ops/product.h"

namespace s2s {
namespace {

constexpr int kRounds = 15;
constexpr int64_t kWork = int64_t{1} << 20;  // multiplications of a round, at least

}  // namespace

double time_product(const float* weight, int64_t outputs, int64_t depth, ComputeType type,
                    const std::string& isa) {
  const Entry entry;
  Layout layout;
  Call call("a product that is measured", layout);
  const Product product(call, {weight, depth, outputs, 1, 0, depth, type}, kItems);
  const Memory input(static_cast<std::size_t>(padded(depth)) * sizeof(float));
  const Memory scratch(static_cast<std::size_t>(quantised_stride(depth)) * sizeof(float));
  const Memory output(static_cast<std::size_t>(product.width()) * sizeof(float));
  std::fill_n(input.floats(), depth, 1.0F);
  float* const slots[] = {scratch.floats()};
  const Frame none;
  const Context context = {kernels_for(isa), none, none, slots};
  const Segment segment = {{input.floats(), 0, nullptr}, depth};
  const int64_t repeats = kWork / std::max<int64_t>(outputs * depth, 1) + 1;
  using Clock = std::chrono::steady_clock;
  auto best = Clock::duration::max();
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    for (int64_t n = 0; n < repeats; ++n)
      product.run(context, {&segment, 1}, 1, {}, {output.floats(), 0, nullptr},
                  Activation::identity);
    best = std::min(best, Clock::now() - begin);
  }
  return std::chrono::duration<double>(best).count() / static_cast<double>(repeats);
}

}  // namespace s2s
