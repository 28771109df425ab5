// A decode in progress: one model, one kernel table, one workspace, one team. One caller at a time.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/interruption.h"
#include "engine/frames.h"
#include "engine/model.h"
#include "engine/screening.h"
#include "engine/workspace.h"
#include "search/search.h"

namespace s2s {

// One input of one sentence: `length` ids, or `length` rows of features (1 for a vector).
struct SourceInput {
  const int32_t* ids = nullptr;
  const float* features = nullptr;
  int64_t length = 0;
};

// Per sentence, one SourceInput for each input of the plan, in its order.
using Source = std::span<const SourceInput>;

struct DecodeRequest {
  int32_t beam_size = 1;
  int32_t num_hypotheses = 1;
  bool alignment = false;
  SearchRules rules;
};

// For models without an encoder: one prompt per sentence, none otherwise.
using Prompts = std::span<const std::span<const int32_t>>;

class Session : private StepModel {
 public:
  // `isa` as kernels_for() takes it. One call runs on at most `threads` threads, a product on as
  // many as have `member_bytes` each (core/team.h). No call takes a workspace of more than
  // `max_bytes`.
  Session(std::shared_ptr<const Model> model, const std::string& isa, int threads = 1,
          int64_t member_bytes = kMemberBytes, int64_t max_bytes = Workspace::kMaxBytes);
  static constexpr int64_t kMemberBytes = Team::kMemberBytes;

  const char* isa() const noexcept { return kernels_.isa; }
  // The functions that run; a test disassembles them.
  const Kernels& kernels() const noexcept { return kernels_; }
  const Model& model() const noexcept { return *model_; }
  int threads() const noexcept { return team_.threads(); }
  void set_threads(int threads);  // throws Error(busy)
  int64_t workspace_bytes() const noexcept { return workspace_.bytes() + screening_.held(); }
  int64_t max_bytes() const noexcept { return workspace_.max_bytes(); }
  // Whether decodes of one row screen an output layer that can be: for tests and measurements, as
  // no bit depends on it.
  bool screens() const noexcept { return screens_; }
  void set_screens(bool screens) noexcept { screens_ = screens; }
  const Screening::Counts& screened() const noexcept { return screening_.counts(); }
  // The workspace of `sentences` sources of one length under a beam, in bytes.
  double workspace_bytes_for(int64_t length, int32_t beam, int32_t sentences) const noexcept;

  // Decodes sentences together; an exact search takes one. Throws Error(input), Error(numerical),
  // Error(busy). Interrupted, it gives what it has: live hypotheses with the reason `interrupted`.
  const SearchResults& decode(std::span<const Source> sources, const DecodeRequest& request,
                              std::span<const int32_t> max_lengths, Prompts prompts = {},
                              Interruption* interruption = nullptr);
  // Takes all memory that decodes within these bounds need, and touches it: sources of up to
  // `source_length` positions, so many of them together, request.beam_size, `max_length` ids. What
  // constraints and samples need besides is taken by the first decode that has them.
  void warm_up(int64_t source_length, int32_t sentences, DecodeRequest request, int32_t max_length);
  // Scores one target per sentence.
  const SearchResults& score(std::span<const Source> sources,
                             std::span<const std::span<const int32_t>> targets, bool alignment,
                             Prompts prompts = {}, const SearchRules& rules = {},
                             Interruption* interruption = nullptr);
  // Runs the encoder over one sentence; `output` reads what it left, until the next call.
  void encode(const Source& source, Interruption* interruption = nullptr);
  struct OutputView {
    const float* data;
    Kind kind;
    int64_t rows;     // 1 for a vector
    int64_t columns;  // 1 but for alignments
    int64_t size;
    int64_t stride;
  };
  OutputView output(std::size_t index) const noexcept;
  // The best id and its log-probability for each row of the encoder's output `index`.
  struct Label {
    int32_t id;
    float log_prob;
  };
  std::vector<Label> label(const Source& source, std::size_t index,
                           Interruption* interruption = nullptr);
  // The log-probabilities of given labels, one for each row.
  std::vector<float> score_labels(const Source& source, std::size_t index,
                                  std::span<const int32_t> labels);
  // Logits of every step of one target under teacher forcing: [steps, vocabulary].
  std::vector<float> forced_logits(const Source& source, std::span<const int32_t> target,
                                   std::span<const int32_t> prompt = {});

 private:
  class Busy;
  friend class Batch;
  friend class DecoderState;
  friend class DecodeClock;

  void fill(SearchOptions& options, const DecodeRequest& request, Prompts prompts) const;
  int32_t vocabulary() const noexcept override;
  void step(std::span<const StepRow> rows, StepScores& scores) override;
  bool defers() const noexcept override;
  std::span<const LogSoftmax> settle() override;
  std::span<const float> alignment(int32_t row) const noexcept override;
  int32_t heads() const noexcept override;
  bool interrupted() noexcept override {
    return interruption_ != nullptr && interruption_->asked();
  }
  int32_t source_length(int32_t sentence) const noexcept;

  void search_exactly(std::span<const Source> sources, std::span<const int32_t> max_lengths);
  void begin(std::span<const Source> sources, int32_t beam);
  void begin_sources(std::span<const Source> sources, int32_t beam);  // all of it but the graph
  void check_sources(std::span<const Source> sources) const;
  void load_inputs(std::span<const Source> sources);
  int64_t length_of(const Source& source) const noexcept;
  void move_states(std::span<const StepRow> rows);
  void move_positions(const PlanState& state, std::span<const StepRow> rows);
  void check_step(const StepRow& row) const;
  void run_step(std::span<const StepRow> rows);
  // Its three parts: rows find their places and states, the graph, weights that results keep.
  void begin_step(std::span<const StepRow> rows);
  void compute_step();
  void end_step();
  void run_inputs(std::span<const StepRow> rows);
  // The graph but for an output layer that is screened.
  void compute_inputs();
  // Deferred scores of the one row whose inputs run_inputs has computed.
  void screen(std::span<const StepRow> rows, StepScores& scores);
  // Scores of the rows of the last step from `first` on.
  void rank(std::span<const StepRow> rows, std::size_t first, StepScores& scores);
  // Throws Error(numerical) naming `where` for logits that are no numbers.
  LogSoftmax log_softmax(const Normaliser32& found, const char* what, int64_t where,
                         int32_t sentence) const;
  Context context(const Frame& frame) noexcept {
    Context found = {kernels_,           frame,  frames_.sentences(),
                     workspace_.slots(), &team_, interruption_};
    return frame.steps == nullptr ? found : found.in_step(frame.steps[0], plan_.step_bytes);
  }

  std::shared_ptr<const Model> model_;
  const Plan& plan_;
  const Kernels& kernels_;
  Workspace workspace_;
  Frames frames_;
  Screening screening_;
  bool screens_ = true;
  std::vector<int64_t> source_lengths_;
  Search search_;
  SearchResults results_;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  Interruption* interruption_ = nullptr;  // of the call that is running
  int64_t member_bytes_;
  Team team_;

  std::vector<Normaliser32> normalisers_;  // of one step, by row
  std::vector<float> alignment_;           // of one step, packed: positions x heads
  std::vector<float> filtered_;            // [vocabulary], the logits of a row that options change
  SearchOptions options_;
};

}  // namespace s2s
