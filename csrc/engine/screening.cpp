#include "engine/screening.h"

#include <algorithm>

namespace s2s {
namespace {

// The best `count` of the outputs of some panels in ascending order, ties to the lower id; gives
// how many there were.
int64_t best_of(const float* logits, int64_t vocabulary, std::span<const int32_t> panels,
                int64_t count, Candidate* best) noexcept {
  int64_t held = 0;
  for (const int32_t panel : panels) {
    const int64_t end = std::min((panel + 1) * kLanes, vocabulary);
    for (int64_t i = panel * kLanes; i < end; ++i) {
      if (held == count && !(logits[i] > best[held - 1].value)) continue;
      int64_t at = held < count ? held++ : held - 1;
      for (; at > 0 && best[at - 1].value < logits[i]; --at) best[at] = best[at - 1];
      best[at] = {logits[i], static_cast<int32_t>(i)};
    }
  }
  return held;
}

}  // namespace

int64_t Screening::bytes() const noexcept {
  if (layer_ == nullptr) return 0;
  return kRows * (layer_->row_floats() + layer_->width()) * static_cast<int64_t>(sizeof(float));
}

void Screening::begin() {
  waiting_.clear();
  found_.clear();
  softmaxes_.clear();
}

void Screening::release() noexcept {
  kept_ = Memory();
  logits_ = Memory();
}

bool Screening::step(const Context& context, float* logits, int64_t vocabulary,
                     StepScores& scores) {
  const int64_t count = scores.count;
  const int64_t panels = survivors(context, count);
  if (panels < 0) return false;
  const std::span<const int32_t> found(panels_.data(), static_cast<std::size_t>(panels));
  best_of(logits, vocabulary, found, count, scores.candidates.data());
  for (const int32_t id : scores.wanted) {
    layer_->compute(context, id);
    scores.wanted_log_probs[0] = logits[id];
  }
  kept_.reserve(static_cast<std::size_t>(kRows * layer_->row_floats()) * sizeof(float));
  if (static_cast<int64_t>(waiting_.size()) == kRows) normalise(context, vocabulary);
  layer_->keep(context,
               kept_.floats() + static_cast<int64_t>(waiting_.size()) * layer_->row_floats());
  waiting_.push_back(static_cast<int32_t>(softmaxes_.size()));
  softmaxes_.push_back({});
  ++counts_.steps;
  counts_.panels += panels;
  return true;
}

// Whatever is screened or not, the bits are the same: a pause may depend on anything.
int64_t Screening::survivors(const Context& context, int64_t count) {
  if (left_ > 0) {
    --left_;
    return -1;
  }
  panels_.resize(static_cast<std::size_t>(layer_->most()));
  const int64_t found = layer_->survivors(context, count, panels_);
  pause_ = found >= 0 ? 0 : std::clamp(2 * pause_, 1, kLongestPause);
  left_ = pause_;
  if (found < 0) ++counts_.failed;
  return found;
}

void Screening::normalise(const Context& context, int64_t vocabulary) {
  if (waiting_.empty()) return;
  const int64_t width = layer_->width(), rows = static_cast<int64_t>(waiting_.size());
  logits_.reserve(static_cast<std::size_t>(kRows * width) * sizeof(float));
  layer_->outputs_of(context, kept_.floats(), rows, {logits_.floats(), width, nullptr});
  const std::size_t first = found_.size();
  for (const int32_t step : waiting_) found_.push_back({step, {}});
  const auto normaliser = [&](int64_t row, int) noexcept {
    found_[first + static_cast<std::size_t>(row)].normaliser =
        context.kernels.normaliser(logits_.floats() + row * width, vocabulary);
  };
  context.team->run(rows, context.team->members_for(rows * vocabulary * kRankBytes), normaliser);
  waiting_.clear();
}

}  // namespace s2s
