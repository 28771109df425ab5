// All that search may know of a model: rows go in, the best tokens of each row come out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "search/row_filter.h"

namespace s2s {

// One live hypothesis of a step. Rows are grouped by sentence, sentences in ascending order.
// `parent` is the row of the previous step that this one continues; -1 starts its sentence.
struct StepRow {
  int32_t token = -1;
  int32_t parent = -1;
  int32_t sentence = 0;
  int32_t step = 0;
};

// Turns logits of one row into log-probabilities.
struct LogSoftmax {
  float maximum = 0.0F;
  float log_sum = 0.0F;
  float operator()(float logit) const noexcept { return (logit - maximum) - log_sum; }
};

// What a step gives back for its rows. Search sets `count`, `wanted` and `deferred` and sizes both
// vectors before the call; the step only writes their elements.
struct StepScores {
  int32_t count = 0;                    // candidates asked for per row, 0 ... vocabulary
  std::span<const int32_t> wanted;      // empty, or one token per row whose log-probability to give
  RowFilter* filter = nullptr;          // changes each row around its normalisation, where given
  bool deferred = false;                // one row, and logits stand for log-probabilities so far
  std::vector<Candidate> candidates;    // [rows, count]: log-probability and token, best first
  std::vector<float> wanted_log_probs;  // [rows] where wanted is given
};

class StepModel {
 public:
  virtual ~StepModel() = default;
  virtual int32_t vocabulary() const noexcept = 0;
  // Computes one step. Throws Error(numerical) naming the step where a logit is NaN or infinite.
  virtual void step(std::span<const StepRow> rows, StepScores& scores) = 0;
  // Whether steps of one row may be deferred, from here to the end of a search.
  virtual bool defers() const noexcept { return false; }
  // What makes log-probabilities of the logits of every step since the search began, in order.
  virtual std::span<const LogSoftmax> settle() { return {}; }
  // Attention weights of a row of the last step over its sentence's positions; empty without.
  virtual std::span<const float> alignment(int32_t row) const noexcept = 0;
  // Heads of an alignment, side by side at each position.
  virtual int32_t heads() const noexcept = 0;
  // The call must end: asked before every step, and once true it stays so.
  virtual bool interrupted() noexcept { return false; }
};

}  // namespace s2s
