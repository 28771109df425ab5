#include "engine/session.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/errors.h"
#include "core/isa.h"
#include "engine/busy.h"

namespace s2s {

Model::Model(const ModelSpec& spec, TargetRule target)
    : plan_(make_plan(spec)), target_(std::move(target)) {
  const auto known = [this](int32_t id) { return id >= 0 && id < vocabulary(); };
  if (!plan_.has_decoder) return;
  if (target_.start != -1 && !known(target_.start))
    throw Error(ErrorKind::model_format, "target: start is " + std::to_string(target_.start) +
                                             ", outside the vocabulary of " +
                                             std::to_string(vocabulary()) + " ids");
  if (!std::all_of(target_.end.begin(), target_.end.end(), known))
    throw Error(ErrorKind::model_format, "target: end names an id outside the vocabulary");
}

Session::Session(std::shared_ptr<const Model> model, const std::string& isa, int threads,
                 int64_t member_bytes, int64_t max_bytes)
    : model_(std::move(model)),
      plan_(model_->plan()),
      kernels_(kernels_for(isa)),
      workspace_(plan_, max_bytes),
      frames_(plan_),
      screening_(plan_),
      member_bytes_(member_bytes),
      team_(threads, member_bytes) {}

void Session::set_threads(int threads) {
  if (threads == team_.threads()) return;
  const Busy busy(*this);
  team_.resize(threads, member_bytes_);
}

const SearchResults& Session::decode(std::span<const Source> sources, const DecodeRequest& request,
                                     std::span<const int32_t> max_lengths, Prompts prompts,
                                     Interruption* interruption) {
  const Busy busy(*this, interruption);
  begin(sources, rows_of_sentence(request.rules, request.beam_size, request.num_hypotheses));
  fill(options_, request, prompts);
  if (request.rules.exact)
    search_exactly(sources, max_lengths);
  else
    search_.run(*this, options_, max_lengths, results_);
  return results_;
}

// Candidates of a step, 8 bytes each.
constexpr int64_t kMaxExactCandidates = int64_t{1} << 28;

// A beam that is doubled until no hypothesis without a place could have been a result. What has
// been found bounds the next search from below, as in the depth-first search of Stahlberg and Byrne
// 2019, algorithm 1: nothing worse is continued.
void Session::search_exactly(std::span<const Source> sources,
                             std::span<const int32_t> max_lengths) {
  options_.nodes = options_.rules.max_nodes;
  while (true) {
    search_.run(*this, options_, max_lengths, results_);
    if (search_.proven() || interrupted()) return;
    options_.nodes -= search_.nodes();
    options_.floor = std::max(options_.floor, search_.worst());
    options_.beam_size *= 2;
    if (int64_t{options_.beam_size} * model_->vocabulary() > kMaxExactCandidates)
      throw Error(ErrorKind::input, "the exact search has no proof with a beam of " +
                                        std::to_string(options_.beam_size / 2) +
                                        "; lower max_length");
    begin(sources, options_.beam_size);
  }
}

const SearchResults& Session::score(std::span<const Source> sources,
                                    std::span<const std::span<const int32_t>> targets,
                                    bool alignment, Prompts prompts, const SearchRules& rules,
                                    Interruption* interruption) {
  const Busy busy(*this, interruption);
  begin(sources, 1);
  fill(options_, {1, 1, alignment, rules}, prompts);
  search_.score(*this, options_, targets, results_);
  return results_;
}

void Session::fill(SearchOptions& options, const DecodeRequest& request, Prompts prompts) const {
  const TargetRule& target = model_->target();
  const Constraints* constraints = request.rules.constraints.get();
  const bool replaced = constraints != nullptr && constraints->end.has_value();
  const std::vector<int32_t>& end = replaced ? *constraints->end : target.end;
  options.start = target.start;
  options.end.assign(end.begin(), end.end());
  options.beam_size = request.beam_size;
  options.num_hypotheses = request.num_hypotheses;
  options.alignment = request.alignment;
  options.prompts = prompts;
  options.rules = request.rules;
  options.floor = -HUGE_VAL;
  options.nodes = INT64_MAX;
}

void Session::encode(const Source& source, Interruption* interruption) {
  const Busy busy(*this, interruption);
  begin({&source, 1}, 0);
}

Session::OutputView Session::output(std::size_t index) const noexcept {
  const Value& value = plan_.outputs[index].value;
  return {workspace_.floats(value.slot),
          value.type.kind,
          frames_.sentences().count(value.along),
          frames_.sentences().count(value.across),
          value.type.size,
          value.level == Level::fixed ? 0 : padded(value.type.size)};
}

std::vector<Session::Label> Session::label(const Source& source, std::size_t index,
                                           Interruption* interruption) {
  const Busy busy(*this, interruption);
  begin({&source, 1}, 0);
  if (interrupted()) return {};
  const OutputView logits = output(index);
  std::vector<Label> labels;
  for (int64_t row = 0; row < logits.rows; ++row) {
    const float* x = logits.data + row * logits.stride;
    const LogSoftmax log_prob =
        log_softmax(kernels_.normaliser(x, logits.size), "position", row, 0);
    Candidate best;
    kernels_.top_k(x, logits.size, 1, &best);
    labels.push_back({best.id, log_prob(best.value)});
  }
  return labels;
}

std::vector<float> Session::score_labels(const Source& source, std::size_t index,
                                         std::span<const int32_t> labels) {
  const Busy busy(*this);
  begin({&source, 1}, 0);
  const OutputView logits = output(index);
  if (logits.rows != static_cast<int64_t>(labels.size()))
    throw Error(ErrorKind::input, "the target has " + std::to_string(labels.size()) +
                                      " tokens, must have " + std::to_string(logits.rows) +
                                      ", one for each that this model labels");
  std::vector<float> log_probs;
  for (int64_t row = 0; row < logits.rows; ++row) {
    const float* x = logits.data + row * logits.stride;
    const int32_t label = labels[static_cast<std::size_t>(row)];
    if (label < 0 || label >= logits.size)
      throw Error(ErrorKind::input, "label " + std::to_string(label) + " is outside the " +
                                        std::to_string(logits.size) + " of this model");
    log_probs.push_back(
        log_softmax(kernels_.normaliser(x, logits.size), "position", row, 0)(x[label]));
  }
  return log_probs;
}

std::vector<float> Session::forced_logits(const Source& source, std::span<const int32_t> target,
                                          std::span<const int32_t> prompt) {
  const Busy busy(*this);
  begin({&source, 1}, 1);
  std::vector<int32_t> fed;
  if (model_->target().start >= 0 || prompt.empty()) fed.push_back(model_->target().start);
  fed.insert(fed.end(), prompt.begin(), prompt.end());
  const std::size_t first = fed.size() - 1;  // the step that scores the target's first id
  fed.insert(fed.end(), target.begin(), target.end());
  const auto size = static_cast<std::size_t>(vocabulary());
  std::vector<float> logits((target.size() + 1) * size);
  for (std::size_t n = 0; n < fed.size(); ++n) {
    const StepRow row = {fed[n], n == 0 ? -1 : 0, 0, static_cast<int32_t>(n)};
    run_step({&row, 1});
    if (n < first) continue;
    std::copy_n(workspace_.floats(plan_.logits.slot), size, logits.data() + (n - first) * size);
  }
  return logits;
}

double Session::workspace_bytes_for(int64_t length, int32_t beam,
                                    int32_t sentences) const noexcept {
  const double n = sentences, s = static_cast<double>(length), k = beam;
  const double screening = n * k == 1.0 ? static_cast<double>(screening_.bytes()) : 0.0;
  return screening +
         workspace_.bytes_for({{n, n * s, n * s * s}, {n * k, n * k * s, n * k * s * s}});
}

int32_t Session::vocabulary() const noexcept { return static_cast<int32_t>(model_->vocabulary()); }

int32_t Session::heads() const noexcept {
  return plan_.alignment.slot < 0 ? 1 : static_cast<int32_t>(plan_.alignment.type.size);
}

int32_t Session::source_length(int32_t sentence) const noexcept {
  return frames_.source_length(sentence);
}

std::span<const float> Session::alignment(int32_t row) const noexcept {
  if (plan_.alignment.slot < 0) return {};
  const Positions& positions = frames_.rows().positions[plan_.alignment.along];
  const int64_t heads = plan_.alignment.type.size;
  const int32_t first = positions.offsets[row], last = positions.offsets[row + 1];
  return {alignment_.data() + first * heads, static_cast<std::size_t>((last - first) * heads)};
}

// --- one sentence level ---

void Session::begin(std::span<const Source> sources, int32_t beam) {
  begin_sources(sources, beam);
  for (const auto& op : plan_.sentence_ops)
    if (!interrupted()) op->run(context(frames_.sentences()));
}

void Session::begin_sources(std::span<const Source> sources, int32_t beam) {
  check_sources(sources);
  source_lengths_.clear();
  Counts counts;
  for (const Source& source : sources) {
    const int64_t length = length_of(source);
    source_lengths_.push_back(length);
    counts.items += 1;
    counts.positions += static_cast<double>(length);
    counts.squares += static_cast<double>(length) * static_cast<double>(length);
  }
  screening_.begin();
  frames_.start(source_lengths_);
  workspace_.reserve(
      {counts, {counts.items * beam, counts.positions * beam, counts.squares * beam}});
  if (workspace_.bytes() + screening_.held() > workspace_.max_bytes()) screening_.release();
  load_inputs(sources);
}

void Session::check_sources(std::span<const Source> sources) const {
  for (const Source& source : sources) {
    if (source.size() != plan_.inputs.size())
      throw Error(ErrorKind::input, "a source has " + std::to_string(source.size()) +
                                        " inputs, the model has " +
                                        std::to_string(plan_.inputs.size()));
    int64_t length = -1;
    for (std::size_t n = 0; n < source.size(); ++n) {
      const PlanInput& input = plan_.inputs[n];
      const SourceInput& given = source[n];
      const bool ids = input.type.kind == Kind::ids || input.type.kind == Kind::id;
      const std::string where = "input '" + input.name + "'";
      if ((ids ? given.ids == nullptr : given.features == nullptr) || given.length < 1)
        throw Error(ErrorKind::input, where + " is empty; it needs at least one position");
      if (ids)
        for (int64_t i = 0; i < given.length; ++i)
          if (given.ids[i] < 0 || given.ids[i] >= input.type.size)
            throw Error(ErrorKind::input, where + ": id " + std::to_string(given.ids[i]) + " at " +
                                              std::to_string(i) + " is outside 0.." +
                                              std::to_string(input.type.size - 1));
      const bool sequence = input.type.kind == Kind::ids || input.type.kind == Kind::sequence;
      if (!sequence) {
        if (given.length != 1) throw Error(ErrorKind::input, where + " takes one row");
        continue;
      }
      if (length >= 0 && given.length != length)
        throw Error(ErrorKind::input, where + " has " + std::to_string(given.length) +
                                          " positions, another input has " +
                                          std::to_string(length));
      length = given.length;
      if (plan_.position >= 0 && length > plan_.position_bound)
        throw Error(ErrorKind::input_too_long, "the source has " + std::to_string(length) +
                                                   " positions, the model has embeddings for " +
                                                   std::to_string(plan_.position_bound));
    }
  }
}

// A model without sequence inputs has one position per sentence, which nothing reads.
int64_t Session::length_of(const Source& source) const noexcept {
  for (std::size_t n = 0; n < source.size(); ++n) {
    const Kind kind = plan_.inputs[n].type.kind;
    if (kind == Kind::ids || kind == Kind::sequence) return source[n].length;
  }
  return 1;
}

void Session::load_inputs(std::span<const Source> sources) {
  for (std::size_t n = 0; n < plan_.inputs.size(); ++n) {
    const PlanInput& input = plan_.inputs[n];
    const int64_t width = padded(input.type.size);
    int64_t row = 0;
    for (const Source& source : sources) {
      const SourceInput& given = source[n];
      if (given.ids != nullptr) {
        std::copy_n(given.ids, given.length, workspace_.ids(input.slot) + row);
      } else {
        for (int64_t r = 0; r < given.length; ++r)
          std::copy_n(given.features + r * input.type.size, input.type.size,
                      workspace_.floats(input.slot) + (row + r) * width);
      }
      row += given.length;
    }
  }
  const Frame& sentences = frames_.sentences();
  for (int32_t item = 0; item < sentences.items; ++item) {
    const int32_t begin = sentences.positions[kSource].offsets[item];
    const int32_t length = source_length(item);
    if (plan_.source_length >= 0)
      workspace_.floats(plan_.source_length)[item * kLanes] = static_cast<float>(length);
    if (plan_.position >= 0)
      for (int32_t j = 0; j < length; ++j) workspace_.ids(plan_.position)[begin + j] = j;
  }
}

// --- one step ---

void Session::check_step(const StepRow& row) const {
  if (plan_.step >= 0 && row.step >= plan_.step_bound)
    throw Error(ErrorKind::input, "step " + std::to_string(row.step) + " is beyond the model's " +
                                      std::to_string(plan_.step_bound) + "; lower max_length");
}

void Session::run_step(std::span<const StepRow> rows) {
  begin_step(rows);
  compute_step();
  end_step();
}

// All of a step but an output layer that is screened.
void Session::run_inputs(std::span<const StepRow> rows) {
  begin_step(rows);
  compute_inputs();
  end_step();
}

void Session::begin_step(std::span<const StepRow> rows) {
  frames_.step(rows);
  move_states(rows);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    workspace_.ids(plan_.token)[r] = rows[r].token;
    check_step(rows[r]);
    if (plan_.step >= 0) workspace_.ids(plan_.step)[r] = rows[r].step;
  }
}

void Session::compute_step() {
  compute_inputs();
  if (plan_.screened != nullptr) plan_.screened->run(context(frames_.rows()));
}

void Session::compute_inputs() {
  for (const auto& op : plan_.row_ops) op->run(context(frames_.rows()));
}

void Session::end_step() {
  if (plan_.alignment.slot < 0 || !options_.reads_alignment()) return;
  const float* weights = workspace_.floats(plan_.alignment.slot);
  const int64_t heads = plan_.alignment.type.size, width = padded(heads);
  const int64_t count = frames_.rows().count(plan_.alignment.along);
  alignment_.resize(static_cast<std::size_t>(count * heads));
  for (int64_t p = 0; p < count; ++p)
    std::copy_n(weights + p * width, heads, alignment_.data() + p * heads);
}

// Rows that keep their place take their states by exchange; others are gathered by parent.
void Session::move_states(std::span<const StepRow> rows) {
  bool in_place = true;
  for (std::size_t r = 0; r < rows.size(); ++r)
    in_place = in_place && rows[r].parent == static_cast<int32_t>(r);
  for (const PlanState& state : plan_.states) {
    if (in_place) {
      workspace_.exchange(state.slot, state.next);
      continue;
    }
    if (state.along != kItems) {
      move_positions(state, rows);
      continue;
    }
    const auto bytes = static_cast<std::size_t>(state.width) * sizeof(float);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      float* to = workspace_.floats(state.slot) + static_cast<int64_t>(r) * state.width;
      if (rows[r].parent >= 0)
        std::memcpy(to, workspace_.floats(state.next) + rows[r].parent * state.width, bytes);
      else if (state.initial >= 0)
        std::memcpy(to, workspace_.floats(state.initial) + rows[r].sentence * state.width, bytes);
      else
        std::memset(to, 0, bytes);
    }
  }
}

// The same for a state of the sequence kind: all positions of a row move together.
void Session::move_positions(const PlanState& state, std::span<const StepRow> rows) {
  const int32_t* offsets = frames_.rows().positions[state.along].offsets;
  const int32_t* before = frames_.offsets_before(state.along);
  const int32_t* of_sentence = frames_.sentences().positions[state.along].offsets;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const int64_t floats = (offsets[r + 1] - offsets[r]) * state.width;
    const auto bytes = static_cast<std::size_t>(floats) * sizeof(float);
    float* to = workspace_.floats(state.slot) + offsets[r] * state.width;
    if (rows[r].parent >= 0) {
      const int32_t from = before[rows[r].parent];
      std::memcpy(to, workspace_.floats(state.next) + from * state.width, bytes);
    } else if (state.initial >= 0) {
      const int32_t from = of_sentence[rows[r].sentence];
      std::memcpy(to, workspace_.floats(state.initial) + from * state.width, bytes);
    } else {
      std::memset(to, 0, bytes);
    }
  }
}

}  // namespace s2s
