// A session's steps as a search sees them: what the logits of rows say of their ids, at once or
// later.
#include <cmath>

#include "core/errors.h"
#include "core/logarithm.h"
#include "engine/session.h"

namespace s2s {

void Session::step(std::span<const StepRow> rows, StepScores& scores) {
  if (!scores.deferred) {
    run_step(rows);
    return rank(rows, 0, scores);
  }
  run_inputs(rows);
  screen(rows, scores);
}

void Session::screen(std::span<const StepRow> rows, StepScores& scores) {
  const Context here = context(frames_.rows());
  if (screening_.step(here, workspace_.floats(plan_.logits.slot), vocabulary(), scores)) return;
  plan_.screened->run(here);
  rank(rows, 0, scores);
  screening_.computed();
}

bool Session::defers() const noexcept {
  return screens_ && plan_.screened != nullptr &&
         workspace_.bytes() + screening_.bytes() <= workspace_.max_bytes();
}

std::span<const LogSoftmax> Session::settle() {
  return screening_.settle(context(frames_.rows()), vocabulary(),
                           [this](const Normaliser32& found, int32_t step) {
                             return log_softmax(found, "step", step, 0);
                           });
}

// Rows are ranked by any member of the team, each as a whole. Rows that a filter changes are ranked
// by the caller in their order: a caller's function or a random sequence may be in it.
void Session::rank(std::span<const StepRow> rows, std::size_t first, StepScores& scores) {
  const auto count = static_cast<std::size_t>(scores.count);
  scores.candidates.resize(rows.size() * count);
  scores.wanted_log_probs.resize(scores.wanted.size());
  normalisers_.resize(rows.size());
  const int64_t size = plan_.logits.type.size, number = static_cast<int64_t>(rows.size());
  const auto logits_of = [&](std::size_t row) {
    return workspace_.floats(plan_.logits.slot) + static_cast<int64_t>(first + row) * padded(size);
  };
  const auto best_of = [&](std::size_t row, const float* logits) noexcept {
    if (count > 0)
      kernels_.top_k(logits, size, scores.count, scores.candidates.data() + row * count);
  };
  const auto rank = [&](int64_t row, int) noexcept {
    const auto r = static_cast<std::size_t>(row);
    normalisers_[r] = kernels_.normaliser(logits_of(r), size);
    best_of(r, logits_of(r));
  };
  if (scores.filter == nullptr)
    team_.run(number, team_.members_for(number * size * kRankBytes), rank);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const float* logits = logits_of(r);
    if (scores.filter != nullptr) {
      filtered_.assign(logits, logits + size);
      scores.filter->adjust(static_cast<int32_t>(r), filtered_);
      logits = filtered_.data();
      normalisers_[r] = kernels_.normaliser(logits, size);
    }
    const LogSoftmax log_prob =
        log_softmax(normalisers_[r], "step", rows[r].step, rows[r].sentence);
    if (scores.filter != nullptr) {
      scores.filter->mask(static_cast<int32_t>(r), filtered_);
      best_of(r, logits);
    }
    if (!scores.wanted.empty()) scores.wanted_log_probs[r] = log_prob(logits[scores.wanted[r]]);
    Candidate* best = scores.candidates.data() + r * count;
    for (std::size_t n = 0; n < count; ++n) best[n].value = log_prob(best[n].value);
  }
}

LogSoftmax Session::log_softmax(const Normaliser32& found, const char* what, int64_t where,
                                int32_t sentence) const {
  if (!std::isfinite(found.sum) || !std::isfinite(found.maximum))
    throw Error(ErrorKind::numerical, "the logits of " + std::string(what) + " " +
                                          std::to_string(where) + " of sentence " +
                                          std::to_string(sentence) + " hold a NaN or an infinity");
  if (plan_.normalised) return {0.0F, 0.0F};
  return {found.maximum, static_cast<float>(natural_log(found.sum))};
}

}  // namespace s2s
