// Greedy and beam search, and teacher-forced scores, over many sentences at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "search/history.h"
#include "search/results.h"
#include "search/rules.h"
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
  SearchRules rules;
};

// A search and its memory between calls; an identical second call makes no heap allocation.
// Options are checked by the caller. What the model throws passes through; the results are then
// empty and the search can be used again.
class Search {
 public:
  // Searches sentences 0 ... max_lengths.size() - 1. A maximum counts generated ids including the
  // end token and is at least 1.
  //
  // Greedy takes the best continuation of a sentence alone, under every rule. A beam of K looks at
  // the best (1 + ends) * K of them where those that end make room, else at K; which of them live
  // on and when a sentence stops is told by `rules`. Hypotheses cut at the maximum have reason
  // length. Within a beam all are ranked by log-probability, results by score. Ties go to an ended
  // one in the beam, the lower token id, the lower parent row; between finished ones to the
  // earlier.
  void run(StepModel& model, const SearchOptions& options, std::span<const int32_t> max_lengths,
           SearchResults& results);

  // The same, step by step: `open`, then `proceed` with what a step of rows() gives as long as
  // live(), then `close`. A search may be closed before it has ended, once `interrupt` has made
  // results of what lives: as at a maximum, they compete with the ended ones.
  void open(const SearchOptions& options, int64_t vocabulary, std::span<const int32_t> max_lengths);
  bool live() const noexcept { return !rows_.step.empty(); }
  std::span<const StepRow> rows() const noexcept { return rows_.step; }
  void proceed(StepModel& model, const SearchOptions& options);
  void interrupt(const SearchOptions& options);
  void close(SearchResults& results) const;
  // The ids that every hypothesis of a sentence begins with that can still be its best result: the
  // live ones and the best ended one. Grows from step to step, and never changes.
  void certain(int32_t sentence, std::vector<int32_t>& ids) const;

  // Scores one given target for each sentence, without start; end[0], where there is one, is
  // added and scored (reason eos; length without an end). The numbers are those of run(); of the
  // rules only the penalty counts.
  void score(StepModel& model, const SearchOptions& options,
             std::span<const std::span<const int32_t>> targets, SearchResults& results);

 private:
  // A hypothesis that is continued by the row of the same index.
  struct Live {
    double log_prob;
    int32_t link;
  };

  // A possible continuation of a row; below 0, an ended one that has its place in the beam.
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

  // Where a sentence is.
  struct Progress {
    int32_t lead = 0;      // steps before the first scored one
    int32_t finished = 0;  // in finished_
    int32_t ended = 0;     // all that ever were finished
    int32_t kept = 0;      // in kept_
    bool topped = false;   // an ended one has held the best place
  };

  struct Rows {
    std::vector<StepRow> step;
    std::vector<Live> live;
  };

  static bool better(const Choice& a, const Choice& b) noexcept;

  void begin(const SearchOptions& options, int32_t sentences, int32_t hypotheses);
  void start(const SearchOptions& options, int32_t sentence);
  bool feed(const SearchOptions& options, int32_t row);
  void step(StepModel& model, int32_t count, std::span<const int32_t> wanted);
  void next_rows();

  void advance(const SearchOptions& options, int32_t first, int32_t last, int32_t max_length);
  void choose(const SearchOptions& options, int32_t first, int32_t last, int32_t length,
              bool must_end);
  void live_on(const Choice& choice);
  void finish(const SearchRules& rules, const Choice& choice, FinishReason reason);
  void insert(int32_t sentence, const Finished& finished) noexcept;
  void cut(const SearchOptions& options, int32_t sentence, int32_t living);
  bool decided(const SearchRules& rules, int32_t sentence, const Live& best, int32_t length,
               int32_t max_length) const noexcept;

  int32_t beam_ = 1;
  int32_t width_ = 1;  // continuations of a sentence that a step looks at
  int32_t count_ = 1;  // candidates of a row that it asks for
  int32_t hypotheses_ = 1;
  Rows rows_, next_;  // of this step and the next one
  StepScores scores_;
  History history_;
  std::vector<int32_t> max_lengths_;  // [sentences]
  std::vector<Choice> choices_;       // of one sentence
  std::vector<int32_t> wanted_;       // [rows], tokens whose log-probabilities are asked for
  std::vector<Finished> finished_;    // [sentences, hypotheses_], best first
  std::vector<double> kept_;          // [sentences, beam_] where ended ones stay: log-probabilities
  std::vector<Progress> progress_;    // [sentences]
};

}  // namespace s2s
