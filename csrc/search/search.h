// Greedy and beam search, and teacher-forced scores, over many sentences at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "search/history.h"
#include "search/results.h"
#include "search/step_model.h"

namespace s2s {

struct SearchOptions {
  int32_t start = -1;          // fed at step 0; -1 is "none"
  std::vector<int32_t> end;    // different ids that end a hypothesis
  int32_t beam_size = 1;       // 1 is greedy
  int32_t num_hypotheses = 1;  // at least 1, at most beam_size
  bool alignment = false;      // keep the attention weights of every step
  // Empty, or for each sentence ids that are fed behind `start` before anything is scored. Without
  // a start ("none") a prompt stands in its place, and must not be empty.
  std::span<const std::span<const int32_t>> prompts;
};

// A search and its memory between calls; an identical second call makes no heap allocation.
// Options are checked by the caller. What the model throws passes through; the results are then
// empty and the search can be used again.
class Search {
 public:
  // Searches sentences 0 ... max_lengths.size() - 1. A maximum counts generated ids including the
  // end token and is at least 1.
  //
  // Each step takes the best (1 + ends) * beam_size continuations of a sentence (greedy: the best
  // one). Those that end leave the beam for the list of finished hypotheses; the best beam_size
  // others live on. A sentence stops when no live hypothesis can enter its num_hypotheses best
  // finished ones, or at its maximum, where live ones compete with reason length. Ties go to the
  // lower token id, then the lower parent row, and between finished ones to the earlier.
  void run(StepModel& model, const SearchOptions& options, std::span<const int32_t> max_lengths,
           SearchResults& results);

  // Scores one given target for each sentence, without start; end[0], where there is one, is
  // added and scored (reason eos; length without an end). The numbers are those of run().
  void score(StepModel& model, const SearchOptions& options,
             std::span<const std::span<const int32_t>> targets, SearchResults& results);

 private:
  // A hypothesis that is continued by the row of the same index.
  struct Live {
    double log_prob;
    int32_t link;
  };

  // A possible continuation of a row.
  struct Choice {
    double log_prob;
    int32_t row;
    Candidate token;
  };

  struct Finished {
    double log_prob;
    double score;
    int32_t link;
    int32_t length;
    FinishReason reason;
  };

  struct Rows {
    std::vector<StepRow> step;
    std::vector<Live> live;
  };

  static bool better(const Choice& a, const Choice& b) noexcept;

  void begin(const SearchOptions& options, int32_t sentences, int32_t hypotheses,
             SearchResults& results);
  void start(const SearchOptions& options, int32_t sentence);
  bool feed(const SearchOptions& options, int32_t row);
  void step(StepModel& model, int32_t count, std::span<const int32_t> wanted);
  void next_rows();
  void write(SearchResults& results) const;

  void advance(const SearchOptions& options, int32_t first, int32_t last, int32_t max_length);
  void choose(int32_t first, int32_t last);
  void live_on(const Choice& choice);
  void finish(const Choice& choice, FinishReason reason);
  void insert(int32_t sentence, const Finished& finished) noexcept;
  bool decided(int32_t sentence, const Live& best, int32_t length) const noexcept;

  int32_t beam_ = 1;
  int32_t width_ = 1;  // continuations of a sentence that a step looks at
  int32_t hypotheses_ = 1;
  Rows rows_, next_;  // of this step and the next one
  StepScores scores_;
  History history_;
  std::vector<Choice> choices_;     // of one sentence
  std::vector<int32_t> wanted_;     // [rows], the tokens that score() asks for
  std::vector<Finished> finished_;  // [sentences, hypotheses_], best first
  std::vector<int32_t> finished_counts_;
  std::vector<int32_t> lead_;  // [sentences], steps before the first scored one
};

}  // namespace s2s
