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

// Seconds, of the fastest round.
double cost_of_a_read() {
  constexpr int kReads = 64;
  auto best = Clock::duration::max();
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    auto end = begin;
    for (int n = 0; n < kReads; ++n) end = Clock::now();
    best = std::min(best, end - begin);
  }
  return seconds(best) / kReads;
}

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

// A session's decode with a clock behind each of its parts.
class DecodeClock final : public StepModel {
 public:
  explicit DecodeClock(Session& session) : session_(session), plan_(session.plan_) {
    name(plan_.sentence_ops, false, sentence_ops_);
    name(plan_.row_ops, true, row_ops_);
    if (plan_.screened != nullptr) screened_ = named(plan_.screened.get(), true);
  }

  Profile run(std::span<const Source> sources, const DecodeRequest& request,
              std::span<const int32_t> max_lengths) {
    found_.clock = cost_of_a_read();
    const Session::Busy busy(session_);
    last_ = Clock::now();
    session_.begin_sources(
        sources, rows_of_sentence(request.rules, request.beam_size, request.num_hypotheses));
    session_.fill(session_.options_, request, {});
    lap(begin_);
    run(plan_.sentence_ops, sentence_ops_, session_.frames_.sentences());
    session_.search_.run(*this, session_.options_, max_lengths, session_.results_);
    lap(search_);
    for (std::size_t n = 0; n < laps_.size(); ++n) found_.nodes[n].seconds = taken(laps_[n]);
    found_.results = &session_.results_;
    found_.begin = taken(begin_);
    found_.states = taken(states_);
    found_.rank = taken(rank_);
    found_.search = taken(search_);
    return std::move(found_);
  }

  int32_t vocabulary() const noexcept override { return session_.vocabulary(); }
  int32_t heads() const noexcept override { return session_.heads(); }
  std::span<const float> alignment(int32_t row) const noexcept override {
    return session_.alignment(row);
  }
  bool defers() const noexcept override { return session_.defers(); }
  void step(std::span<const StepRow> rows, StepScores& scores) override {
    lap(search_);
    ++found_.steps;
    session_.begin_step(rows);
    lap(states_);
    run(plan_.row_ops, row_ops_, session_.frames_.rows());
    if (plan_.screened != nullptr && !scores.deferred) {
      plan_.screened->run(session_.context(session_.frames_.rows()));
      lap(laps_[screened_]);
    }
    session_.end_step();
    lap(states_);
    if (scores.deferred)
      session_.screen(rows, scores);
    else
      session_.rank(rows, 0, scores);
    lap(scores.deferred ? laps_[screened_] : rank_);
  }
  std::span<const LogSoftmax> settle() override {
    lap(search_);
    const std::span<const LogSoftmax> settled = session_.settle();
    lap(laps_[screened_]);
    return settled;
  }

 private:
  struct Lap {
    Clock::duration time{};
    int64_t reads = 0;
  };
  using Ops = std::vector<std::unique_ptr<Op>>;

  // The place of a node among those that were named, which a node has once for each level.
  std::size_t named(const Op* op, bool step) {
    const std::string& node = plan_.nodes.at(op);
    const auto known = std::find_if(
        found_.nodes.begin(), found_.nodes.end(),
        [&](const Profile::Node& one) { return one.name == node && one.step == step; });
    const auto place = static_cast<std::size_t>(known - found_.nodes.begin());
    if (known == found_.nodes.end()) {
      found_.nodes.push_back({node, step, 0.0});
      laps_.emplace_back();
    }
    return place;
  }
  void name(const Ops& ops, bool step, std::vector<std::size_t>& places) {
    for (const auto& op : ops) places.push_back(named(op.get(), step));
  }
  void run(const Ops& ops, const std::vector<std::size_t>& places, const Frame& frame) {
    for (std::size_t n = 0; n < ops.size(); ++n) {
      ops[n]->run(session_.context(frame));
      lap(laps_[places[n]]);
    }
  }
  void lap(Lap& lap) noexcept {
    const auto now = Clock::now();
    lap.time += now - last_;
    ++lap.reads;
    last_ = now;
  }
  double taken(const Lap& lap) const noexcept {
    return std::max(seconds(lap.time) - static_cast<double>(lap.reads) * found_.clock, 0.0);
  }

  Session& session_;
  const Plan& plan_;
  Profile found_;
  std::vector<std::size_t> sentence_ops_, row_ops_;  // their places among the nodes
  std::size_t screened_ = 0;
  std::vector<Lap> laps_;  // by node
  Lap begin_, states_, rank_, search_;
  Clock::time_point last_;
};

Profile profile(Session& session, std::span<const Source> sources, const DecodeRequest& request,
                std::span<const int32_t> max_lengths) {
  return DecodeClock(session).run(sources, request, max_lengths);
}

}  // namespace s2s
