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
                    int64_t rows, const std::string& isa) {
  const Entry entry;
  Layout layout;
  Call call("a product that is measured", layout);
  const Product product(call, {weight, depth, outputs, 1, 0, depth, type}, kItems);
  const auto floats = [rows](int64_t width) {
    return Memory(static_cast<std::size_t>(rows * width) * sizeof(float));
  };
  const Memory input = floats(padded(depth)), output = floats(product.width());
  const Memory scratch = floats(quantised_stride(depth));
  std::fill_n(input.floats(), rows * padded(depth), 1.0F);
  float* const slots[] = {scratch.floats()};
  const Frame none;
  const Context context = {kernels_for(isa), none, none, slots};
  const Segment segment = {{input.floats(), padded(depth), nullptr}, depth};
  const int64_t repeats = kWork / std::max<int64_t>(outputs * depth * rows, 1) + 1;
  using Clock = std::chrono::steady_clock;
  auto best = Clock::duration::max();
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    for (int64_t n = 0; n < repeats; ++n)
      product.run(context, {&segment, 1}, rows, {}, {output.floats(), product.width(), nullptr},
                  Activation::identity);
    best = std::min(best, Clock::now() - begin);
  }
  return std::chrono::duration<double>(best).count() / static_cast<double>(repeats);
}

}  // namespace s2s
