#include "engine/session.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/entry.h"
#include "core/errors.h"
#include "core/isa.h"
#include "core/logarithm.h"

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

// Holds a session for one call: the floating-point environment, and nobody else inside.
class Session::Busy {
 public:
  explicit Busy(Session& session) : session_(session) {
    if (session_.busy_.test_and_set(std::memory_order_acquire))
      throw Error(ErrorKind::busy, "this session is in use by another thread; use one per thread");
  }
  ~Busy() { session_.busy_.clear(std::memory_order_release); }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Session& session_;
  Entry entry_;
};

Session::Session(std::shared_ptr<const Model> model, const std::string& isa)
    : model_(std::move(model)),
      plan_(model_->plan()),
      kernels_(kernels_for(isa)),
      workspace_(plan_) {}

const SearchResults& Session::decode(std::span<const Source> sources, const DecodeRequest& request,
                                     std::span<const int32_t> max_lengths) {
  const Busy busy(*this);
  begin(sources, request.beam_size);
  options_.start = model_->target().start;
  options_.end.assign(model_->target().end.begin(), model_->target().end.end());
  options_.beam_size = request.beam_size;
  options_.num_hypotheses = request.num_hypotheses;
  options_.alignment = request.alignment;
  search_.run(*this, options_, max_lengths, results_);
  return results_;
}

const SearchResults& Session::score(std::span<const Source> sources,
                                    std::span<const std::span<const int32_t>> targets,
                                    bool alignment) {
  const Busy busy(*this);
  begin(sources, 1);
  options_.start = model_->target().start;
  options_.end.assign(model_->target().end.begin(), model_->target().end.end());
  options_.beam_size = options_.num_hypotheses = 1;
  options_.alignment = alignment;
  search_.score(*this, options_, targets, results_);
  return results_;
}

void Session::encode(const Source& source) {
  const Busy busy(*this);
  begin({&source, 1}, 0);
}

Session::OutputView Session::output(std::size_t index) const noexcept {
  const Value& value = plan_.outputs[index].value;
  const int64_t stride = value.level == Level::fixed ? 0 : padded(value.type.size);
  return {workspace_.floats(value.slot), value.is_sequence() ? sentences_.positions : -1,
          value.type.size, stride};
}

std::vector<Session::Label> Session::label(const Source& source, std::size_t index) {
  const Busy busy(*this);
  begin({&source, 1}, 0);
  const OutputView logits = output(index);
  std::vector<Label> labels;
  for (int64_t row = 0; row < std::abs(logits.rows); ++row) {
    const float* x = logits.data + row * logits.stride;
    const LogSoftmax log_prob = log_softmax(x, logits.size, "position", row, 0);
    Candidate best;
    kernels_.top_k(x, logits.size, 1, &best);
    labels.push_back({best.id, log_prob(best.value)});
  }
  return labels;
}

std::vector<float> Session::forced_logits(const Source& source, std::span<const int32_t> target) {
  const Busy busy(*this);
  begin({&source, 1}, 1);
  const auto size = static_cast<std::size_t>(vocabulary());
  std::vector<float> logits((target.size() + 1) * size);
  for (std::size_t n = 0; n <= target.size(); ++n) {
    const int32_t token = n == 0 ? model_->target().start : target[n - 1];
    const StepRow row = {token, n == 0 ? -1 : 0, 0, static_cast<int32_t>(n)};
    run_step({&row, 1});
    std::copy_n(workspace_.floats(plan_.logits.slot), size, logits.data() + n * size);
  }
  return logits;
}

int32_t Session::vocabulary() const noexcept { return static_cast<int32_t>(model_->vocabulary()); }

int32_t Session::source_length(int32_t sentence) const noexcept {
  const auto s = static_cast<std::size_t>(sentence);
  return offsets_[s + 1] - offsets_[s];
}

std::span<const float> Session::alignment(int32_t row) const noexcept {
  if (plan_.alignment.slot < 0) return {};
  const auto r = static_cast<std::size_t>(row);
  return {alignment_.data() + row_offsets_[r],
          static_cast<std::size_t>(row_offsets_[r + 1] - row_offsets_[r])};
}

// --- one sentence level ---

void Session::begin(std::span<const Source> sources, int32_t beam) {
  check_sources(sources);
  frame_sentences(sources);
  const int64_t rows = static_cast<int64_t>(sources.size()) * beam;
  workspace_.reserve({static_cast<int64_t>(sources.size()), sentences_.positions, rows,
                      static_cast<int64_t>(sentences_.positions) * beam});
  load_inputs(sources);
  for (const auto& op : plan_.sentence_ops) op->run(context(sentences_));
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
            throw Error(ErrorKind::input, where + ": id " + std::to_string(given.ids[i]) +
                                              " at " + std::to_string(i) + " is outside 0.." +
                                              std::to_string(input.type.size - 1));
      const bool sequence = input.type.kind == Kind::ids || input.type.kind == Kind::sequence;
      if (!sequence) {
        if (given.length != 1) throw Error(ErrorKind::input, where + " takes one row");
        continue;
      }
      if (length >= 0 && given.length != length)
        throw Error(ErrorKind::input, where + " has " + std::to_string(given.length) +
                                          " positions, another input has " + std::to_string(length));
      length = given.length;
      if (plan_.position >= 0 && length > plan_.position_bound)
        throw Error(ErrorKind::input_too_long,
                    "the source has " + std::to_string(length) +
                        " positions, the model has embeddings for " +
                        std::to_string(plan_.position_bound));
    }
  }
}

// A model without sequence inputs has one position per sentence, which nothing reads.
void Session::frame_sentences(std::span<const Source> sources) {
  offsets_.assign(1, 0);
  for (const Source& source : sources) {
    int64_t length = 1;
    for (std::size_t n = 0; n < source.size(); ++n) {
      const Kind kind = plan_.inputs[n].type.kind;
      if (kind == Kind::ids || kind == Kind::sequence) length = source[n].length;
    }
    if (offsets_.back() + length > INT32_MAX)
      throw Error(ErrorKind::input_too_long, "the batch has more than 2^31 positions");
    offsets_.push_back(offsets_.back() + static_cast<int32_t>(length));
  }
  item_of_position_.resize(static_cast<std::size_t>(offsets_.back()));
  for (std::size_t item = 0; item + 1 < offsets_.size(); ++item)
    std::fill(item_of_position_.begin() + offsets_[item],
              item_of_position_.begin() + offsets_[item + 1], static_cast<int32_t>(item));
  sentences_ = {};
  sentences_.items = static_cast<int32_t>(sources.size());
  sentences_.positions = offsets_.back();
  sentences_.offsets = offsets_.data();
  sentences_.item_of_position = item_of_position_.data();
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
  for (int32_t item = 0; item < sentences_.items; ++item) {
    const int32_t begin = offsets_[static_cast<std::size_t>(item)];
    const int32_t length = source_length(item);
    if (plan_.source_length >= 0)
      workspace_.floats(plan_.source_length)[item * kLanes] = static_cast<float>(length);
    if (plan_.position >= 0)
      for (int32_t j = 0; j < length; ++j) workspace_.ids(plan_.position)[begin + j] = j;
  }
}

// --- one step ---

void Session::step(std::span<const StepRow> rows, StepScores& scores) {
  run_step(rows);
  const auto count = static_cast<std::size_t>(scores.count);
  scores.candidates.resize(rows.size() * count);
  scores.wanted_log_probs.resize(scores.wanted.size());
  const int64_t width = padded(plan_.logits.type.size);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const float* logits = workspace_.floats(plan_.logits.slot) + static_cast<int64_t>(r) * width;
    const LogSoftmax log_prob =
        log_softmax(logits, plan_.logits.type.size, "step", rows[r].step, rows[r].sentence);
    if (!scores.wanted.empty())
      scores.wanted_log_probs[r] = log_prob(logits[scores.wanted[r]]);
    if (count == 0) continue;
    Candidate* best = scores.candidates.data() + r * count;
    kernels_.top_k(logits, plan_.logits.type.size, scores.count, best);
    for (std::size_t n = 0; n < count; ++n) best[n].value = log_prob(best[n].value);
  }
}

LogSoftmax Session::log_softmax(const float* logits, int64_t size, const char* what,
                                int64_t where, int32_t sentence) const {
  const Normaliser32 found = kernels_.normaliser(logits, size);
  if (!std::isfinite(found.sum) || !std::isfinite(found.maximum))
    throw Error(ErrorKind::numerical, "the logits of " + std::string(what) + " " +
                                          std::to_string(where) + " of sentence " +
                                          std::to_string(sentence) + " hold a NaN or an infinity");
  return {found.maximum, static_cast<float>(natural_log(found.sum))};
}

void Session::run_step(std::span<const StepRow> rows) {
  frame_rows(rows);
  move_states(rows);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    workspace_.ids(plan_.token)[r] = rows[r].token;
    if (plan_.step < 0) continue;
    if (rows[r].step >= plan_.step_bound)
      throw Error(ErrorKind::input, "step " + std::to_string(rows[r].step) +
                                        " is beyond the model's " +
                                        std::to_string(plan_.step_bound) + "; lower max_length");
    workspace_.ids(plan_.step)[r] = rows[r].step;
  }
  for (const auto& op : plan_.row_ops) op->run(context(rows_));
  if (plan_.alignment.slot < 0 || !options_.alignment) return;
  const float* weights = workspace_.floats(plan_.alignment.slot);
  const int64_t width = padded(plan_.alignment.type.size);
  alignment_.resize(static_cast<std::size_t>(rows_.positions));
  for (int32_t p = 0; p < rows_.positions; ++p)
    alignment_[static_cast<std::size_t>(p)] = weights[p * width];
}

void Session::frame_rows(std::span<const StepRow> rows) {
  row_offsets_.assign(1, 0);
  sentence_of_row_.clear();
  for (const StepRow& row : rows) {
    sentence_of_row_.push_back(row.sentence);
    row_offsets_.push_back(row_offsets_.back() + source_length(row.sentence));
  }
  rows_ = {};
  rows_.items = static_cast<int32_t>(rows.size());
  rows_.positions = row_offsets_.back();
  rows_.offsets = row_offsets_.data();
  rows_.sentence_of_item = sentence_of_row_.data();
  if (!plan_.row_maps) return;
  const auto positions = static_cast<std::size_t>(rows_.positions);
  row_of_position_.resize(positions);
  sentence_of_position_.resize(positions);
  sentence_position_.resize(positions);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const int32_t first = offsets_[static_cast<std::size_t>(rows[r].sentence)];
    for (int32_t p = row_offsets_[r]; p < row_offsets_[r + 1]; ++p) {
      const auto position = static_cast<std::size_t>(p);
      row_of_position_[position] = static_cast<int32_t>(r);
      sentence_of_position_[position] = rows[r].sentence;
      sentence_position_[position] = first + p - row_offsets_[r];
    }
  }
  rows_.item_of_position = row_of_position_.data();
  rows_.sentence_of_position = sentence_of_position_.data();
  rows_.sentence_position = sentence_position_.data();
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

}  // namespace s2s
