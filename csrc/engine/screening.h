// The steps of one decode whose logits are computed only where they are needed, and normalised
// later, many steps at a time. Knows the output layer and rows of its inputs; never what is chosen.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/plan.h"
#include "search/step_model.h"

namespace s2s {

// What ranking a logit costs, in the bytes that a product streams in its time.
inline constexpr int64_t kRankBytes = 24;

class Screening {
 public:
  explicit Screening(const Plan& plan) noexcept : layer_(plan.screened.get()) {}

  // What a decode takes beside the workspace.
  int64_t bytes() const noexcept;
  // What it has taken of these.
  int64_t held() const noexcept { return static_cast<int64_t>(kept_.size() + logits_.size()); }
  void begin();
  void release() noexcept;

  // The scores of one row whose inputs stand in the frame of `context`, as logits; false where its
  // logits must all be computed. Then `computed` adds a step whose scores are log-probabilities.
  bool step(const Context& context, float* logits, int64_t vocabulary, StepScores& scores);
  void computed() { softmaxes_.push_back({}); }
  // The steps since `begin`, settled by `softmax_of(normaliser, step)`.
  template <typename SoftmaxOf>
  std::span<const LogSoftmax> settle(const Context& context, int64_t vocabulary,
                                     const SoftmaxOf& softmax_of) {
    normalise(context, vocabulary);
    for (const Found& found : found_)
      softmaxes_[static_cast<std::size_t>(found.step)] = softmax_of(found.normaliser, found.step);
    found_.clear();
    return softmaxes_;
  }

  // Since the session was made: steps that were screened, steps that had to be computed all the
  // same, and panels of 32 outputs that were computed for the screened ones.
  struct Counts {
    int64_t steps = 0;
    int64_t failed = 0;
    int64_t panels = 0;
  };
  const Counts& counts() const noexcept { return counts_; }

 private:
  // Steps whose inputs are multiplied together: so many rows cost their multiplications, not the
  // weights that they read.
  static constexpr int64_t kRows = 32;
  // After a screening that failed, so many steps are not screened, twice as many each time.
  static constexpr int32_t kLongestPause = 32;

  struct Found {
    int32_t step;
    Normaliser32 normaliser;
  };

  int64_t survivors(const Context& context, int64_t count);
  void normalise(const Context& context, int64_t vocabulary);

  const ScreenedLinear* layer_;
  Memory kept_;                   // [kRows, row_floats], inputs of rows that are to be normalised
  Memory logits_;                 // [kRows, width]
  std::vector<int32_t> waiting_;  // the steps of these rows
  std::vector<Found> found_;      // normalised ones
  std::vector<LogSoftmax> softmaxes_;  // of all steps
  std::vector<int32_t> panels_;
  int32_t pause_ = 0, left_ = 0;  // steps that the last pause took; that are left of it
  Counts counts_;
};

}  // namespace s2s
