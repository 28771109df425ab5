// The rules of a search: where ended hypotheses go, when a sentence stops, what its limit does, how
// lengths count. docs/search.md describes them, and which programs follow which.
#pragma once

#include <cstdint>
#include <memory>

#include "search/constraints.h"
#include "search/penalty.h"
#include "search/sampling.h"

namespace s2s {

// What becomes of a hypothesis that ends; K is the beam size. All of them are kept as results.
enum class Ended : int32_t {
  leave,    // it frees its place at once: a step looks at enough candidates for K live ones
  leading,  // so too among the K best candidates of its step; behind them it is dropped
  place,    // it takes one of its step's K places, which is free again in the next
  shrink,   // it takes its place with it: the beam is smaller from then on
  stay,     // it keeps its place while it is among the K best, with its log-probability
  expand,   // it is continued like the others; what comes of it has places (see Limit)
};

// When a sentence stops, besides at its limit and without live hypotheses.
enum class Stop : int32_t {
  best,    // no live hypothesis can enter the best ended ones any more
  count,   // `finished_limit` hypotheses have ended; later ones of that step are not taken
  top,     // the best place of a step has held an ended one, and as many have ended as are wanted
  both,    // as top, once `finished_limit` have ended
  head,    // the best place of this step holds one, and as many have ended as are wanted
  first,   // the best place of this step holds one, however few have ended
  places,  // each of the K places has held an ended one, or nothing, in some step
  empty,   // at nothing else
};

// Which hypotheses are results besides those that end: live ones at a sentence's maximum, or more.
enum class Limit : int32_t {
  compete,  // they are results like the ended ones
  fill,     // they are results only where fewer have ended than are wanted
  end,      // the last id can only be the (first) end token; without one they compete
  done,     // all that have places when the sentence is done, whyever, and have ended once at most
  again,    // all that have places then; and what ended before, whenever it ends again
  closed,   // as done; and in every step those whose place Stop::places would count
};

// Whether a limit takes results from the places of a step, what continues ended ones among them.
inline bool takes_places(Limit limit) noexcept { return limit >= Limit::done; }

// Whether it may make a result of a hypothesis with so many ends, the last id's among them.
inline bool may_count(Limit limit, int32_t ends) noexcept {
  if (limit == Limit::again) return true;
  return takes_places(limit) ? ends < 2 : ends == 0;
}

struct SearchRules {
  Ended ended = Ended::leave;
  Stop stop = Stop::best;
  Limit limit = Limit::compete;
  int32_t finished_limit = 1;  // for Stop::count and both; at least num_hypotheses
  int32_t min_length = 0;      // no end token before this many ids, itself included
  LengthPenalty penalty;
  double coverage = 0.0;  // beta of Wu et al. 2016, eq. 14, at least 0; above it needs alignments
  // A beam may be split into groups of one size, each a search of its own; a later group ranks an
  // id by log_prob - diversity * (places of earlier groups that take it in this step).
  int32_t groups = 1;
  double diversity = 0.0;
  Sampling sampling;
  std::shared_ptr<const Constraints> constraints;  // null: none
  // The best of all, proven: for leave, best and compete, without penalties, groups and samples.
  bool exact = false;
  int64_t max_nodes = 0;  // rows that an exact search of a sentence may compute
};

}  // namespace s2s
