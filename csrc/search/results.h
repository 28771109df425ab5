// What a search gives back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace s2s {

// `interrupted`: the call had to end before the hypothesis did.
enum class FinishReason : int32_t { eos, length, interrupted };

// One result. `ids` leaves out start and end; `token_log_probs` has the end token's as well.
// `alignment` holds scored tokens x source_length values, row major, when asked for.
struct Hypothesis {
  std::vector<int32_t> ids;
  std::vector<float> token_log_probs;
  std::vector<float> alignment;
  double log_prob = 0.0;  // sum of token_log_probs in order, in double
  double score = 0.0;
  FinishReason reason = FinishReason::eos;
};

// The results of one search: slots keep their memory, so an identical second search allocates
// nothing. `sentence(s)` gives the hypotheses of sentence s, best first; 0 <= s < size().
class SearchResults {
 public:
  int32_t size() const noexcept { return static_cast<int32_t>(counts_.size()); }
  std::span<const Hypothesis> sentence(int32_t index) const noexcept {
    const auto first = static_cast<std::size_t>(index) * static_cast<std::size_t>(per_sentence_);
    return {slots_.data() + first, static_cast<std::size_t>(counts_[index])};
  }

  // Used by the search. `add` gives the next slot of a sentence, with the contents of an earlier
  // search; at most per_sentence slots each.
  void reset(int32_t sentences, int32_t per_sentence);
  Hypothesis& add(int32_t sentence) noexcept;

 private:
  std::vector<Hypothesis> slots_;  // [sentences, per_sentence], and what larger searches left
  std::vector<int32_t> counts_;
  int32_t per_sentence_ = 0;
};

}  // namespace s2s
