// What a search has to give: when a sentence is done, its ended hypotheses, what lives when it is
// interrupted, and what is certain of it before it has ended. Knows no steps.
#include <algorithm>
#include <cstddef>
#include <limits>

#include "core/errors.h"
#include "search/search.h"

namespace s2s {
namespace {

constexpr double kImpossible = -std::numeric_limits<double>::infinity();

}  // namespace

// Keeps the best `hypotheses_` of a lane, best first; on equal scores the earlier one.
void Search::insert(int32_t lane, const Finished& finished) noexcept {
  Finished* list = finished_.data() + static_cast<int64_t>(lane) * hypotheses_;
  int32_t& size = progress_[lane].finished;
  if (size == hypotheses_) {
    if (list[size - 1].score >= finished.score) return;
    --size;
  }
  int32_t place = size++;
  for (; place > 0 && list[place - 1].score < finished.score; --place) {
    list[place] = list[place - 1];
  }
  list[place] = finished;
}

// What has a place of this step becomes a result, where it may and is none. Of what continues an
// ended one, that is the ended one with the score of all.
void Search::count(const SearchOptions& options, Live& live, int32_t length, FinishReason reason) {
  const SearchRules& rules = options.rules;
  if (live.counted || !may_count(rules.limit, live.ends)) return;
  live.counted = true;
  double score = rules.penalty.score(live.log_prob, length);
  if (rules.coverage > 0.0) score += rules.coverage * history_.coverage(live.link, heads_);
  Finished result = {live.log_prob, score, live.link, length, reason};
  if (live.ends > 0)
    result = {live.end_log_prob, score, live.end, history_.length(live.end), FinishReason::eos};
  insert(live.lane, result);
}

// An ended hypothesis, or none, has this place in a step.
void Search::hold(const SearchRules& rules, int32_t lane, int32_t place) noexcept {
  if (rules.stop != Stop::places && rules.limit != Limit::closed) return;
  uint8_t& held =
      held_[static_cast<size_t>(lane) * static_cast<size_t>(beam_) + static_cast<size_t>(place)];
  progress_[lane].held += held == 0;
  held = 1;
}

bool Search::held(int32_t lane, int32_t place) const noexcept {
  return held_[static_cast<size_t>(lane) * static_cast<size_t>(beam_) +
               static_cast<size_t>(place)] != 0;
}

// Whether a lane is done below its maximum while something lives, but for Stop::count.
bool Search::stopped(const SearchRules& rules, int32_t lane, size_t begin, int32_t length,
                     int32_t max_length) const noexcept {
  const Progress& progress = progress_[lane];
  if (rules.stop == Stop::places) return progress.held == beam_;
  if (rules.stop == Stop::first) return progress.topped;
  if (progress.finished < hypotheses_) return false;
  if (rules.stop == Stop::top || rules.stop == Stop::head) return progress.topped;
  if (rules.stop == Stop::both) return progress.topped && progress.ended >= rules.finished_limit;
  return rules.stop == Stop::best && decided(rules, lane, begin, length, max_length);
}

// Nothing that may still be a result can enter the finished ones; those of `length` ids begin at
// `begin`. Coverage is at most 0.
bool Search::decided(const SearchRules& rules, int32_t lane, size_t begin, int32_t length,
                     int32_t max_length) const noexcept {
  double best = kImpossible;
  for (size_t row = begin; row < next_.live.size(); ++row)
    if (may_count(rules.limit, next_.live[row].ends))
      best = std::max(best, next_.live[row].log_prob);
  const int64_t worst = static_cast<int64_t>(lane + 1) * hypotheses_ - 1;
  const int32_t shortest = std::max(length + 1, std::min(rules.min_length, max_length));
  return finished_[worst].score >= rules.penalty.reachable(best, shortest, max_length);
}

void Search::interrupt(const SearchOptions& options) {
  for (size_t r = 0; r < rows_.step.size(); ++r) {
    Live& live = rows_.live[r];
    const int32_t length = std::max(rows_.step[r].step - progress_[live.lane].lead, 0);
    count(options, live, length, FinishReason::interrupted);
  }
  rows_.step.clear();
  rows_.live.clear();
}

void Search::certain(const SearchOptions& options, int32_t sentence,
                     std::vector<int32_t>& ids) const {
  std::vector<History::End> ends;
  const auto add = [&](int32_t link, int32_t length, bool ended) {
    ends.push_back(ended ? History::End{history_.parent(link), length - 1}
                         : History::End{link, length});
  };
  for (size_t r = 0; r < rows_.step.size(); ++r) {
    const Live& live = rows_.live[r];
    if (rows_.step[r].sentence != sentence || !may_count(options.rules.limit, live.ends)) continue;
    if (live.ends > 0) {
      add(live.end, history_.length(live.end), true);
    } else {
      add(live.link, std::max(rows_.step[r].step - progress_[live.lane].lead, 0), false);
    }
  }
  for (int32_t lane = sentence * lanes_; lane < (sentence + 1) * lanes_; ++lane) {
    const Finished& best = finished_[static_cast<size_t>(lane) * static_cast<size_t>(hypotheses_)];
    if (progress_[lane].finished > 0)
      add(best.link, best.length, best.reason == FinishReason::eos && best.length > 0);
  }
  history_.read_common(ends, ids);
}

bool Search::proven() const noexcept {
  const double dropped = progress_.front().dropped;
  return dropped == kImpossible || dropped < worst();
}

double Search::worst() const noexcept {
  const bool full = progress_.front().finished == hypotheses_;
  return full ? finished_[static_cast<size_t>(hypotheses_) - 1].score : kImpossible;
}

// The best of all lanes of each sentence; on equal scores the lower lane's.
void Search::close(const SearchOptions& options, SearchResults& results) {
  const auto lanes = static_cast<size_t>(lanes_);
  for (size_t lane = 0; lane < progress_.size(); lane += lanes) {
    merged_.assign(lanes, 0);
    int32_t count = 0;
    for (; count < options.num_hypotheses; ++count) {
      const Finished* best = nullptr;
      size_t from = 0;
      for (size_t l = 0; l < lanes; ++l) {
        if (merged_[l] == progress_[lane + l].finished) continue;
        const Finished& next = finished_[(lane + l) * static_cast<size_t>(hypotheses_) +
                                         static_cast<size_t>(merged_[l])];
        if (best != nullptr && best->score >= next.score) continue;
        best = &next;
        from = l;
      }
      if (best == nullptr) break;
      ++merged_[from];
      Hypothesis& hypothesis = results.add(static_cast<int32_t>(lane / lanes));
      history_.read(best->link, best->length, best->reason, options.alignment, hypothesis);
      hypothesis.log_prob = best->log_prob;
      hypothesis.score = best->score;
    }
    if (count > 0 || (options.rules.exact && !proven())) continue;
    results.reset(0, 0);
    throw Error(ErrorKind::input,
                "nothing is left to generate: every hypothesis ran into a dead end of "
                "suppress_tokens, no_repeat_ngram_size or allowed_tokens; loosen one of them");
  }
}

}  // namespace s2s
