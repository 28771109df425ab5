// How the sentences of a batch, and the live rows of a step, are laid out: offsets and maps for
// every length that a plan uses. Vectors keep their memory from call to call.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/plan.h"
#include "search/step_model.h"

namespace s2s {

class Frames {
 public:
  explicit Frames(const Plan& plan);

  // A batch of sentences of these source lengths; 1 where a model reads no sequence.
  // Throws Error(input_too_long) where positions do not fit in 31 bits.
  void start(std::span<const int64_t> source_lengths);
  // The rows of the next step.
  void step(std::span<const StepRow> rows);

  const Frame& sentences() const noexcept { return sentences_; }
  const Frame& rows() const noexcept { return rows_; }
  int32_t source_length(int32_t sentence) const noexcept;
  // Where the positions of rows began in the step before.
  const int32_t* offsets_before(Along along) const noexcept {
    return row_maps_[static_cast<std::size_t>(along)].before.data();
  }

 private:
  struct Maps {
    std::vector<int32_t> offsets, item, sentence, sentence_position, before;
  };
  void start_length(std::span<const int64_t> source_lengths, std::size_t length);
  void step_length(std::span<const StepRow> rows, std::size_t length);

  const std::vector<Length>& lengths_;
  bool row_maps_needed_;
  Frame sentences_, rows_;
  std::vector<Maps> sentence_maps_, row_maps_;
  std::vector<Positions> sentence_positions_, row_positions_;
  std::vector<int32_t> sentence_of_row_, steps_;
};

}  // namespace s2s
