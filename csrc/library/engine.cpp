#include "library/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string>

#include "core/errors.h"

namespace s2s {
namespace {

constexpr int32_t kMaxRows = 1024;        // beams and samples
constexpr int32_t kMaxSteps = 1'000'000;  // ids of one hypothesis
constexpr int32_t kMaxBatch = 1 << 20;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::input, what); }

void check_whole(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    refuse(std::string(name) + " is " + std::to_string(value) + ", must be " + std::to_string(low) +
           " to " + std::to_string(high));
}

// Without a way out of the loop, so that compilers take many at once.
bool all_below(const int32_t* ids, int64_t length, int64_t size) noexcept {
  bool outside = false;
  for (int64_t i = 0; i < length; ++i)
    outside |= static_cast<uint32_t>(ids[i]) >= static_cast<uint32_t>(size);
  return !outside;
}

[[noreturn]] void refuse_id(const int32_t* ids, int64_t length, int64_t size, int32_t source) {
  int64_t i = 0;
  while (i + 1 < length && ids[i] >= 0 && ids[i] < size) ++i;
  refuse("token " + std::to_string(i) + " of source " + std::to_string(source) + " is " +
         std::to_string(ids[i]) + ", outside the vocabulary of " + std::to_string(size) +
         " ids (0.." + std::to_string(size - 1) + ")");
}

// A deadline and a flag; a clock is read where there is a deadline alone.
class Deadline final : public Interruption {
 public:
  Deadline(double seconds, const int32_t* cancel) : cancel_(cancel), timed_(seconds < HUGE_VAL) {
    constexpr double kLongest = 1e9;  // seconds, which nanoseconds in 64 bits hold
    if (timed_)
      end_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(std::min(seconds, kLongest)));
  }
  bool needed() const noexcept { return timed_ || cancel_ != nullptr; }
  int32_t stopped() const noexcept { return stopped_; }
  bool asked() noexcept override {
    if (stopped_ != S2S_OK) return true;
    if (cancel_ != nullptr && __atomic_load_n(cancel_, __ATOMIC_ACQUIRE) != 0)
      stopped_ = S2S_CANCELLED;
    else if (timed_ && Clock::now() >= end_)
      stopped_ = S2S_TIMEOUT;
    return stopped_ != S2S_OK;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const int32_t* cancel_;
  bool timed_;
  Clock::time_point end_;
  int32_t stopped_ = S2S_OK;
};

}  // namespace

void SourceRule::prepare(const int32_t* ids, int64_t length, std::vector<int32_t>& out) const {
  const std::size_t first = out.size();
  out.insert(out.end(), prepend.begin(), prepend.end());
  out.insert(out.end(), ids, ids + length);
  out.insert(out.end(), append.begin(), append.end());
  if (truncate > 0 && out.size() - first > static_cast<std::size_t>(truncate))
    out.resize(first + static_cast<std::size_t>(truncate));
  const auto size = static_cast<int64_t>(out.size() - first);
  int64_t padded = INT64_MAX;
  for (const int64_t to : pad_to)
    if (to >= size) padded = std::min(padded, to);
  const auto where = static_cast<std::ptrdiff_t>(pad_left ? first : out.size());
  if (padded < INT64_MAX)
    out.insert(out.begin() + where, static_cast<std::size_t>(padded - size), pad_id);
  if (reverse) std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
}

s2s_engine* hand_over(Handover given) {
  return std::make_unique<s2s_engine>(std::move(given)).release();
}

}  // namespace s2s

using namespace s2s;

// One call at a time: what a session keeps of a call is not the core's alone.
class s2s_session::Inside {
 public:
  explicit Inside(std::atomic_flag& inside) : inside_(inside) {
    if (inside_.test_and_set(std::memory_order_acquire))
      throw Error(ErrorKind::busy, "this session is in use by another thread; use one per thread");
  }
  ~Inside() { inside_.clear(std::memory_order_release); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  std::atomic_flag& inside_;
};

s2s_session::s2s_session(s2s_engine* engine)
    : engine_(engine),
      made_of_(engine->made_of),
      plan_(made_of_.model->plan()),
      session_(made_of_.model, made_of_.isa, made_of_.threads, Session::kMemberBytes,
               made_of_.max_bytes),
      request_(made_of_.request) {
  s2s_engine_retain(engine_);
}

s2s_session::~s2s_session() { s2s_engine_release(engine_); }

s2s_options s2s_session::defaults() const noexcept {
  const DecodeRequest& request = made_of_.request;
  return {sizeof(s2s_options),       request.beam_size,
          request.num_hypotheses,    0,
          request.alignment ? 1 : 0, 0,
          made_of_.timeout,          nullptr};
}

// The caller's options as far as the caller knows them.
s2s_options s2s_session::merged(const s2s_options* given) const noexcept {
  s2s_options options = defaults();
  if (given != nullptr) std::memcpy(&options, given, given->size);
  return options;
}

void s2s_session::check(const DecodeRequest& request, int32_t count) const {
  const SearchRules& rules = request.rules;
  check_whole("beam_size", request.beam_size, 1, kMaxRows);
  check_whole("num_hypotheses", request.num_hypotheses, 1,
              rules.sampling.on ? kMaxRows : request.beam_size);
  if (rules.sampling.on ? request.beam_size > 1 : request.beam_size % rules.groups != 0)
    refuse("samples take a beam of 1, groups a beam_size that they divide");
  if (request.alignment && plan_.alignment.slot < 0) refuse("this model gives no alignment");
  if (rules.exact && count > 1) refuse("an exact search is of one source at a time");
}

// What a prepared source of this length may generate, under the options' own number if there is
// one.
int32_t s2s_session::limit_of(int64_t source_length, int32_t max_length) const {
  const LengthRule& rule = made_of_.max_length;
  const int64_t wanted =
      max_length > 0
          ? max_length
          : std::min<int64_t>(rule.numerator * source_length / rule.denominator + rule.addend,
                              rule.most);
  const auto limit = static_cast<int32_t>(std::clamp<int64_t>(wanted, 1, kMaxSteps));
  const Constraints* constraints = request_.rules.constraints.get();
  if (constraints != nullptr && static_cast<int64_t>(constraints->prefix.size()) >= limit)
    refuse("the prefix has " + std::to_string(constraints->prefix.size()) +
           " tokens, must have fewer than the " + std::to_string(limit) +
           " that max_length allows here");
  if (plan_.step >= 0 && limit > plan_.step_bound)
    refuse("max_length allows " + std::to_string(limit) + " ids here, more than the " +
           std::to_string(plan_.step_bound) + " steps of this model");
  return limit;
}

// Fills `inputs_`, and the sources or, of a model without an encoder, the prompts.
void s2s_session::read(const int32_t* ids, const int64_t* lengths, int32_t count, bool prepared) {
  const bool prompts = plan_.inputs.empty();
  const int64_t size = prompts ? made_of_.model->vocabulary() : plan_.inputs.front().type.size;
  const int64_t low = prompts && made_of_.model->target().start >= 0 ? 0 : 1;
  inputs_.clear();
  for (int32_t n = 0; n < count; ++n) {
    const int64_t length = lengths[n];
    if (length < low)
      refuse("source " + std::to_string(n) + " has " + std::to_string(length) +
             " tokens, must have at least " + std::to_string(low));
    if (length > made_of_.max_input_length)
      throw Error(ErrorKind::input_too_long,
                  "the source has " + std::to_string(length) + " tokens, more than " +
                      std::to_string(made_of_.max_input_length) +
                      ": load the engine with a larger max_input_length");
    if (!all_below(ids, length, size)) refuse_id(ids, length, size, n);
    inputs_.push_back({ids, nullptr, length});
    ids += length;
  }
  if (!prompts && !prepared && !made_of_.source.nothing()) prepare();
  sources_.clear();
  prompts_.clear();
  for (const SourceInput& input : inputs_) {
    sources_.push_back(prompts ? Source{} : Source{&input, 1});
    if (prompts) prompts_.push_back({input.ids, static_cast<std::size_t>(input.length)});
  }
}

// Puts the prepared sources in the place of those that the caller gave.
void s2s_session::prepare() {
  ids_.clear();
  for (SourceInput& input : inputs_) {
    const std::size_t begin = ids_.size();
    made_of_.source.prepare(input.ids, input.length, ids_);
    input.length = static_cast<int64_t>(ids_.size() - begin);
  }
  const int32_t* next = ids_.data();  // which has moved while ids were added
  for (SourceInput& input : inputs_) {
    input.ids = next;
    next += input.length;
  }
}

int32_t s2s_session::decode(const int32_t* ids, const int64_t* lengths, int32_t count,
                            const s2s_options* given) {
  const Inside inside(inside_);
  results_ = nullptr;
  if (given != nullptr && !fits(given->size, sizeof *given)) return S2S_VERSION;
  const s2s_options options = merged(given);
  check_whole("the number of sources", count, 1, kMaxBatch);
  check_whole("max_length", options.max_length, 0, kMaxSteps);
  if (!(options.timeout >= 0.0)) refuse("timeout is negative or no number");
  request_.beam_size = options.beam_size;
  request_.num_hypotheses = options.num_hypotheses;
  request_.alignment = options.attention != 0;
  check(request_, count);
  Deadline deadline(options.timeout, options.cancel);
  read(ids, lengths, count, options.prepared != 0);
  limits_.clear();
  for (const SourceInput& input : inputs_)
    limits_.push_back(limit_of(input.length, options.max_length));
  const SearchResults& results = session_.decode(sources_, request_, limits_, prompts_,
                                                 deadline.needed() ? &deadline : nullptr);
  stopped_ = deadline.stopped();
  results_ = &results;
  return stopped_;
}

void s2s_session::warm_up(int64_t source_length, int32_t beam_size, int32_t batch_size) {
  const Inside inside(inside_);
  results_ = nullptr;
  check_whole("source_length", source_length, 1, made_of_.max_input_length);
  check_whole("batch_size", batch_size, 1, kMaxBatch);
  const std::vector<int32_t> ids(static_cast<std::size_t>(source_length), 0);
  std::vector<int32_t> prepared;
  made_of_.source.prepare(ids.data(), source_length, prepared);
  const auto longest = plan_.inputs.empty() ? source_length : static_cast<int64_t>(prepared.size());
  request_ = made_of_.request;
  request_.beam_size = beam_size;
  request_.num_hypotheses = request_.rules.sampling.on ? request_.num_hypotheses : 1;
  check(request_, 1);
  session_.warm_up(longest, batch_size, request_, limit_of(longest, 0));

  // What the handle itself keeps of a call; a source is longer before it is cut.
  const auto count = static_cast<std::size_t>(batch_size);
  ids_.reserve(count * static_cast<std::size_t>(longest) + prepared.capacity());
  inputs_.reserve(count);
  sources_.reserve(count);
  prompts_.reserve(count);
  limits_.reserve(count);
}

int32_t s2s_session::num_hypotheses(int32_t sentence) const noexcept {
  if (results_ == nullptr || sentence < 0 || sentence >= results_->size()) return 0;
  return static_cast<int32_t>(results_->sentence(sentence).size());
}

s2s_hypothesis s2s_session::hypothesis(int32_t sentence, int32_t index) const noexcept {
  const Hypothesis& found = results_->sentence(sentence)[static_cast<std::size_t>(index)];
  const auto steps = static_cast<int64_t>(found.token_log_probs.size());
  const int64_t heads = plan_.alignment.slot < 0 ? 1 : plan_.alignment.type.size;
  const bool attention = !found.alignment.empty();
  const auto weights = static_cast<int64_t>(found.alignment.size());
  int32_t reason = found.reason == FinishReason::eos ? S2S_FINISH_EOS : S2S_FINISH_LENGTH;
  if (found.reason == FinishReason::interrupted)
    reason = stopped_ == S2S_TIMEOUT ? S2S_FINISH_TIMEOUT : S2S_FINISH_CANCELLED;
  return {.size = sizeof(s2s_hypothesis),
          .ids = found.ids.data(),
          .length = static_cast<int64_t>(found.ids.size()),
          .token_log_probs = found.token_log_probs.data(),
          .steps = steps,
          .attention = attention ? found.alignment.data() : nullptr,
          .source_length = attention ? weights / (steps * heads) : 0,
          .heads = attention ? static_cast<int32_t>(heads) : 0,
          .finish_reason = reason,
          .log_prob = found.log_prob,
          .score = found.score};
}
