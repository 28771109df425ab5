#include "search/row_filter.h"

#include <algorithm>
#include <limits>
#include <string>

#include "core/errors.h"

namespace s2s {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

}  // namespace

void RowFilter::begin(const Constraints* constraints, const Sampling& sampling,
                      std::span<const int32_t> end) noexcept {
  constraints_ = constraints;
  sampling_ = sampling;
  end_ = end;
  active_ = sampling.on || (constraints != nullptr && constraints->filters());
}

void RowFilter::clear() noexcept {
  places_.clear();
  ids_.clear();
  begins_.clear();
}

void RowFilter::add(const RowPlace& place) {
  if (begins_.empty()) begins_.push_back(0);
  places_.push_back(place);
  begins_.push_back(ids_.size());
}

std::span<const int32_t> RowFilter::ids_of(int32_t row) const noexcept {
  const auto r = static_cast<std::size_t>(row);
  return {ids_.data() + begins_[r], begins_[r + 1] - begins_[r]};
}

void RowFilter::adjust(int32_t row, std::span<float> logits) {
  if (constraints_ == nullptr || constraints_->repetition_penalty == 1.0F) return;
  const std::span<const int32_t> ids = ids_of(row);
  scratch_.assign(ids.begin(), ids.end());
  std::sort(scratch_.begin(), scratch_.end());
  scratch_.erase(std::unique(scratch_.begin(), scratch_.end()), scratch_.end());
  const float penalty = constraints_->repetition_penalty;
  for (const int32_t id : scratch_) {
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = logit > 0.0F ? logit / penalty : logit * penalty;
  }
}

void RowFilter::mask(int32_t row, std::span<float> logits) {
  const RowPlace& place = places_[static_cast<std::size_t>(row)];
  if (!place.restricted) return;
  if (constraints_ != nullptr) {
    const Constraints& rule = *constraints_;
    for (const int32_t id : rule.suppressed) logits[static_cast<std::size_t>(id)] = kImpossible;
    block_ngrams(ids_of(row), rule.no_repeat_ngram_size, logits);
    if (rule.automaton != nullptr) {
      const bool may_end = rule.automaton->may_end(place.state);
      keep(rule.automaton->arcs(place.state), may_end ? end_ : std::span<const int32_t>{}, logits);
    }
    if (rule.continuations) {
      scratch_.clear();
      rule.continuations(ids_of(row), scratch_);
      for (const int32_t id : scratch_)
        if (id < 0 || static_cast<std::size_t>(id) >= logits.size())
          throw Error(ErrorKind::input, "allowed_tokens gave the id " + std::to_string(id) +
                                            ", outside the target vocabulary of " +
                                            std::to_string(logits.size()) + " ids");
      keep(scratch_, {}, logits);
    }
  }
  if (!sampling_.on || !place.drawn) return;
  const double number = uniform(sampling_.seed, static_cast<uint64_t>(place.sample),
                                static_cast<uint64_t>(place.step));
  const int32_t drawn = sampler_.draw(logits, sampling_, number);
  keep({&drawn, drawn < 0 ? std::size_t{0} : std::size_t{1}}, {}, logits);
}

// Everything but these becomes impossible; an id may be named twice.
void RowFilter::keep(std::span<const int32_t> some, std::span<const int32_t> others,
                     std::span<float> logits) {
  kept_.clear();
  for (const auto& ids : {some, others})
    for (const int32_t id : ids) kept_.push_back(logits[static_cast<std::size_t>(id)]);
  std::fill(logits.begin(), logits.end(), kImpossible);
  std::size_t at = 0;
  for (const auto& ids : {some, others})
    for (const int32_t id : ids) logits[static_cast<std::size_t>(id)] = kept_[at++];
}

}  // namespace s2s
