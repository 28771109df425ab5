// Greedy and beam search, and teacher-forced scores, over many sentences at once.
#pragma once

#include <cmath>
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
  int32_t beam_size = 1;       // 1 is greedy; a multiple of the groups
  int32_t num_hypotheses = 1;  // at least 1, at most beam_size but for samples
  bool alignment = false;      // keep the attention weights of every step
  // Empty, or for each sentence ids that are fed behind `start` before anything is scored. Without
  // a start ("none") a prompt stands in its place, and must not be empty.
  std::span<const std::span<const int32_t>> prompts;
  SearchRules rules;

  double floor = -HUGE_VAL;   // hypotheses below it are dropped: for exact searches
  int64_t nodes = INT64_MAX;  // rows that may be computed
  bool reads_alignment() const noexcept { return alignment || rules.coverage > 0.0; }
};

// The rows that a sentence may have in a step.
inline int32_t rows_of_sentence(const SearchRules& rules, int32_t beam_size,
                                int32_t num_hypotheses) noexcept {
  return rules.sampling.on ? num_hypotheses : beam_size;
}

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
  // earlier. Throws Error(input) where the constraints leave a sentence without a hypothesis.
  void run(StepModel& model, const SearchOptions& options, std::span<const int32_t> max_lengths,
           SearchResults& results);

  // The same, step by step: `open`, then `proceed` with what a step of rows() gives as long as
  // live(), then `settle` and `close`. A search may be closed before it has ended, once `interrupt`
  // has made results of what lives: as at a maximum, they compete with the ended ones.
  void open(const SearchOptions& options, int64_t vocabulary, std::span<const int32_t> max_lengths);
  // Behind `open`: lets the model defer the steps of one sentence with one hypothesis. That one is
  // ranked against no other, so that its ids ask for no log-probabilities. `settle` makes these of
  // logits, and with them the result's numbers.
  void defer(const StepModel& model, const SearchOptions& options) noexcept;
  bool deferred() const noexcept { return scores_.deferred; }
  void settle(StepModel& model, const SearchOptions& options);
  bool live() const noexcept { return !rows_.step.empty(); }
  std::span<const StepRow> rows() const noexcept { return rows_.step; }
  void proceed(StepModel& model, const SearchOptions& options);
  void interrupt(const SearchOptions& options);
  void close(const SearchOptions& options, SearchResults& results);
  // Takes the memory that such a search may need at most, whatever it finds.
  void reserve(const SearchOptions& options, int64_t vocabulary,
               std::span<const int32_t> max_lengths);
  // The ids that every hypothesis of a sentence begins with that can still be its best result: what
  // may become one and the best of each lane. Grows from step to step, and never changes.
  void certain(const SearchOptions& options, int32_t sentence, std::vector<int32_t>& ids) const;

  // What the last run over one sentence says of all hypotheses: that none which it dropped for want
  // of a place could be among its results; the score of the last of these, where there are as many
  // as wanted; the rows that it computed.
  bool proven() const noexcept;
  double worst() const noexcept;
  int64_t nodes() const noexcept { return nodes_; }

  // Scores one given target for each sentence, without start; end[0], where there is one, is
  // added and scored (reason eos; length without an end). The numbers are those of run(); of the
  // rules only the penalties count.
  void score(StepModel& model, const SearchOptions& options,
             std::span<const std::span<const int32_t>> targets, SearchResults& results);

 private:
  // A hypothesis that is continued by the row of the same index. Every sentence has the same number
  // of lanes, searches of their own that share its steps: groups of a beam, or samples.
  struct Live {
    double log_prob;
    int32_t link;
    int32_t lane;   // counted over all sentences
    int32_t state;  // of the automaton
    // Under Ended::expand: how many ends it has, up to the first of them its last link and
    // log_prob, and whether it is a result as it stands.
    int32_t ends = 0;
    int32_t end = -1;
    double end_log_prob = 0.0;
    bool counted = false;
  };

  // A possible continuation of a row; below 0, an ended one that has its place in the beam.
  struct Choice {
    double rank;  // log_prob, less what diversity takes
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

  // Where a lane is.
  struct Progress {
    int32_t lead = 0;            // steps before the first scored one
    int32_t finished = 0;        // in finished_
    int32_t ended = 0;           // all that were live until they ended
    int32_t kept = 0;            // in kept_
    int32_t held = 0;            // set in held_
    bool topped = false;         // an ended one has held the best place
    double dropped = -HUGE_VAL;  // no hypothesis without a place was better
  };

  struct Rows {
    std::vector<StepRow> step;
    std::vector<Live> live;
  };

  static bool better(const Choice& a, const Choice& b) noexcept;

  void begin(const SearchOptions& options, int32_t sentences, int32_t lanes, int32_t hypotheses);
  void start(const SearchOptions& options, int32_t sentence);
  bool feed(const SearchOptions& options, int32_t row);
  void step(StepModel& model, int32_t count, std::span<const int32_t> wanted);
  void next_rows();
  void prepare(const SearchOptions& options);

  void advance(const SearchOptions& options, int32_t first, int32_t last, int32_t max_length);
  void choose(const SearchOptions& options, int32_t first, int32_t last, int32_t length,
              int32_t forced);
  void fall_back(int32_t first, int32_t last, int32_t forced);
  double rank_of(const SearchOptions& options, double log_prob, int32_t token) const noexcept;
  void live_on(const SearchOptions& options, const Choice& choice, bool ended = false);
  void hold(const SearchRules& rules, int32_t lane, int32_t place) noexcept;
  bool held(int32_t lane, int32_t place) const noexcept;
  void finish(const SearchOptions& options, const Choice& choice, FinishReason reason);
  void insert(int32_t lane, const Finished& finished) noexcept;
  void count(const SearchOptions& options, Live& live, int32_t length, FinishReason reason);
  bool stopped(const SearchRules& rules, int32_t lane, size_t begin, int32_t length,
               int32_t max_length) const noexcept;
  bool decided(const SearchRules& rules, int32_t lane, size_t begin, int32_t length,
               int32_t max_length) const noexcept;

  int32_t lanes_ = 1;       // of a sentence
  int32_t beam_ = 1;        // places of a lane
  int32_t width_ = 1;       // continuations of a lane that a step looks at
  int32_t count_ = 1;       // candidates of a row that it asks for
  int32_t hypotheses_ = 1;  // that a lane keeps
  int32_t heads_ = 1;
  int64_t nodes_ = 0;
  RowFilter filter_;
  Rows rows_, next_;  // of this step and the next one
  StepScores scores_;
  History history_;
  std::vector<int32_t> max_lengths_;  // [sentences]
  std::vector<Choice> choices_;       // of one lane
  std::vector<int32_t> taken_;        // ids that places of earlier lanes of a sentence take
  std::vector<int32_t> wanted_;       // [rows], tokens whose log-probabilities are asked for
  std::vector<Finished> finished_;    // [lanes, hypotheses_], best first
  std::vector<double> kept_;          // [lanes, beam_] where ended ones stay: log-probabilities
  std::vector<uint8_t> held_;         // [lanes, beam_] for Stop::places and Limit::closed
  std::vector<Progress> progress_;    // [lanes]
  std::vector<int32_t> merged_;       // [lanes of a sentence], how many of each are results
};

}  // namespace s2s
