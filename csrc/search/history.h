// What a search remembers of its steps: back-pointers and alignments, and the way back along them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "search/results.h"
#include "search/step_model.h"

namespace s2s {

class History {
 public:
  void clear(bool alignment);
  void reserve(std::size_t links) { links_.reserve(links); }

  // Once after each step of the model, before its links are added: keeps the step's alignments.
  void begin_step(const StepModel& model, int32_t rows);

  // Continues the hypothesis that ends in link `parent` (-1: an empty one) by a token that `row`
  // of the last step scored. Gives the new link.
  int32_t add(int32_t parent, int32_t row, Candidate token);

  // Writes the `length` tokens that end in `link`; the last id of an eos hypothesis is left out.
  void read(int32_t link, int32_t length, FinishReason reason, bool alignment,
            Hypothesis& hypothesis) const;

  // Where every step had one row: the links' logits become log-probabilities, by step.
  void settle(std::span<const LogSoftmax> steps) noexcept;
  // The sum of the log-probabilities of the hypothesis that ends in `link`, in order.
  double log_prob(int32_t link);

  // The tokens of the hypothesis that ends in `link`, and that without the last of them.
  int32_t length(int32_t link) const noexcept;
  int32_t parent(int32_t link) const noexcept { return links_[link].parent; }

  // Appends the ids of the hypothesis that ends in `link`.
  void append_ids(int32_t link, std::vector<int32_t>& ids) const;

  // Wu et al. 2016, eq. 14, without beta: the sum over positions i of log(min(sum_j a_ij, 1)), a_ij
  // the mean of the heads, every scored token a j. A sum below 2^-126 counts as that.
  double coverage(int32_t link, int32_t heads);

  // The last link of a hypothesis of `length` tokens.
  struct End {
    int32_t link;
    int32_t length;
  };
  // The tokens that all of these begin with; `ends` is used up.
  void read_common(std::span<End> ends, std::vector<int32_t>& ids) const;

 private:
  // `row` counts over all steps.
  struct Link {
    int32_t token;
    int32_t parent;
    float log_prob;
    int32_t row;
  };

  void read_alignment(int32_t link, int32_t length, std::vector<float>& alignment) const;

  std::vector<Link> links_;
  std::vector<float> weights_;   // the alignments of all rows of all steps, one after another
  std::vector<int64_t> begins_;  // [rows of all steps + 1], where each begins in weights_
  std::vector<int32_t> path_;    // rows or links of one hypothesis, last first
  std::vector<double> covered_;  // [positions]
  int32_t step_row_ = 0;         // the first row of the last step
  int32_t next_row_ = 0;
  bool alignment_ = false;
};

}  // namespace s2s
