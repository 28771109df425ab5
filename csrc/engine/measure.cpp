#include "engine/measure.h"

#include <algorithm>
#include <chrono>

#include "core/entry.h"
#include "core/isa.h"
#include "engine/busy.h"
#include "ops/product.h"

namespace s2s {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

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
  auto best = Clock::duration::max();
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    for (int64_t n = 0; n < repeats; ++n)
      product.run(context, {&segment, 1}, rows, {}, {output.floats(), product.width(), nullptr},
                  Activation::identity);
    best = std::min(best, Clock::now() - begin);
  }
  return seconds(best) / static_cast<double>(repeats);
}

// A session's step with a clock between its parts.
class StepClock final : public StepModel {
 public:
  explicit StepClock(Session& session) : session_(session) {}

  StepTimes run(Source source, const DecodeRequest& request, int32_t max_length) {
    const Session::Busy busy(session_);
    session_.begin({&source, 1},
                   rows_of_sentence(request.rules, request.beam_size, request.num_hypotheses));
    session_.fill(session_.options_, request, {});
    const auto begin = Clock::now();
    session_.search_.run(*this, session_.options_, {&max_length, 1}, session_.results_);
    times_.search = seconds(Clock::now() - begin) - times_.graph - times_.states - times_.rank;
    return times_;
  }

  int32_t vocabulary() const noexcept override { return session_.vocabulary(); }
  int32_t heads() const noexcept override { return session_.heads(); }
  std::span<const float> alignment(int32_t row) const noexcept override {
    return session_.alignment(row);
  }
  void step(std::span<const StepRow> rows, StepScores& scores) override {
    const auto begin = Clock::now();
    session_.begin_step(rows);
    const auto placed = Clock::now();
    session_.compute_step();
    const auto computed = Clock::now();
    session_.end_step();
    session_.rank(rows, 0, scores);
    const auto ranked = Clock::now();
    ++times_.steps;
    times_.states += seconds(placed - begin);
    times_.graph += seconds(computed - placed);
    times_.rank += seconds(ranked - computed);
  }

 private:
  Session& session_;
  StepTimes times_;
};

StepTimes time_steps(Session& session, Source source, const DecodeRequest& request,
                     int32_t max_length) {
  return StepClock(session).run(source, request, max_length);
}

}  // namespace s2s
