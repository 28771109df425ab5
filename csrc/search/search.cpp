#include "search/search.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>

#include "core/errors.h"

namespace s2s {
namespace {

constexpr double kImpossible = -std::numeric_limits<double>::infinity();

bool ends(const SearchOptions& options, int32_t token) noexcept {
  return std::find(options.end.begin(), options.end.end(), token) != options.end.end();
}

// At a sentence's maximum only the first end token is possible.
bool limit_ends(const SearchOptions& options) noexcept {
  return options.rules.limit == Limit::end && !options.end.empty();
}

// The id that step `step` of a sentence feeds while its prompt lasts.
int32_t fed(const SearchOptions& options, int32_t sentence, int32_t step) noexcept {
  if (options.prompts.empty()) return options.start;
  const int32_t before = options.start >= 0 ? 1 : 0;
  return step < before ? options.start : options.prompts[sentence][step - before];
}

const Automaton* automaton_of(const SearchOptions& options) noexcept {
  const Constraints* constraints = options.rules.constraints.get();
  return constraints == nullptr ? nullptr : constraints->automaton.get();
}

std::span<const int32_t> prefix_of(const SearchOptions& options) noexcept {
  const Constraints* constraints = options.rules.constraints.get();
  return constraints == nullptr ? std::span<const int32_t>{} : constraints->prefix;
}

// The only id that may stand at the end of `length` ids: of the prefix, or an end at the maximum;
// -1 where there is a choice.
int32_t forced_id(const SearchOptions& options, int32_t length, int32_t max_length) noexcept {
  const std::span<const int32_t> prefix = prefix_of(options);
  const auto i = static_cast<size_t>(length - 1);
  if (length >= 1 && i < prefix.size()) return prefix[i];
  return length >= max_length && limit_ends(options) ? options.end[0] : -1;
}

}  // namespace

void Search::run(StepModel& model, const SearchOptions& options,
                 std::span<const int32_t> max_lengths, SearchResults& results) {
  results.reset(static_cast<int32_t>(max_lengths.size()), options.num_hypotheses);
  open(options, model.vocabulary(), max_lengths);
  defer(model, options);
  while (live()) {
    if (model.interrupted()) {
      interrupt(options);
      break;
    }
    proceed(model, options);
  }
  settle(model, options);
  close(options, results);
}

void Search::defer(const StepModel& model, const SearchOptions& options) noexcept {
  scores_.deferred = max_lengths_.size() == 1 && lanes_ == 1 && beam_ == 1 && hypotheses_ == 1 &&
                     scores_.filter == nullptr && !options.rules.exact && model.defers() &&
                     !(options.rules.ended == Ended::expand && takes_places(options.rules.limit));
}

void Search::settle(StepModel& model, const SearchOptions& options) {
  if (!scores_.deferred) return;
  history_.settle(model.settle());
  if (progress_.front().finished == 0) return;
  const SearchRules& rules = options.rules;
  Finished& found = finished_.front();
  found.log_prob = history_.log_prob(found.link);
  found.score = rules.penalty.score(found.log_prob, found.length);
  if (rules.coverage > 0.0) found.score += rules.coverage * history_.coverage(found.link, heads_);
}

void Search::open(const SearchOptions& options, int64_t vocabulary,
                  std::span<const int32_t> max_lengths) {
  const int32_t sentences = static_cast<int32_t>(max_lengths.size());
  const SearchRules& rules = options.rules;
  const bool samples = rules.sampling.on;
  const int32_t lanes = samples ? options.num_hypotheses : rules.groups;
  beam_ = samples ? 1 : options.beam_size / lanes;
  begin(options, sentences, lanes, (options.num_hypotheses + lanes - 1) / lanes);
  max_lengths_.assign(max_lengths.begin(), max_lengths.end());
  nodes_ = 0;
  filter_.begin(rules.constraints.get(), rules.sampling, options.end);
  scores_.filter = filter_.active() ? &filter_ : nullptr;
  scores_.deferred = false;
  // With K live rows at most `ends` * K continuations end, so K others are always among these.
  const auto end_count = static_cast<int64_t>(options.end.size());
  const bool make_room = rules.ended == Ended::leave || rules.ended == Ended::leading;
  const int64_t width = beam_ > 1 && make_room ? (1 + end_count) * beam_ : beam_;
  width_ = static_cast<int32_t>(std::min<int64_t>(width, std::numeric_limits<int32_t>::max()));
  // Under a minimum the ends may stand before all that are wanted, under diversity the ids of
  // earlier groups.
  const int64_t passed = (rules.min_length > 1 ? end_count : 0) +
                         (rules.diversity > 0.0 ? int64_t{beam_} * (lanes - 1) : 0);
  count_ = static_cast<int32_t>(std::min(width_ + passed, vocabulary));
  for (int32_t s = 0; s < sentences; ++s) start(options, s);
  next_rows();
}

void Search::reserve(const SearchOptions& options, int64_t vocabulary,
                     std::span<const int32_t> max_lengths) {
  open(options, vocabulary, max_lengths);
  const auto lanes = static_cast<size_t>(lanes_), beam = static_cast<size_t>(beam_);
  size_t links = 0;
  for (const int32_t length : max_lengths)
    links += lanes * (static_cast<size_t>(width_) * static_cast<size_t>(length) + beam);
  if (options.rules.ended == Ended::expand) links *= 2;  // a result, and what continues it
  history_.reserve(links);
  choices_.reserve(beam * static_cast<size_t>(count_) + beam);
  taken_.reserve(lanes * beam);
}

// One step of all live rows.
void Search::proceed(StepModel& model, const SearchOptions& options) {
  heads_ = model.heads();
  nodes_ += static_cast<int64_t>(rows_.step.size());
  if (nodes_ > options.nodes)
    throw Error(ErrorKind::input, "the exact search has no proof within " +
                                      std::to_string(options.rules.max_nodes) +
                                      " nodes; raise max_nodes, or lower max_length");
  prepare(options);
  step(model, count_, wanted_);
  const int32_t row_count = static_cast<int32_t>(rows_.step.size());
  for (int32_t first = 0, last = 0; first < row_count; first = last) {
    const int32_t lane = rows_.live[first].lane;
    while (last < row_count && rows_.live[last].lane == lane) ++last;
    if (feed(options, first)) continue;
    const int32_t sentence = rows_.step[first].sentence;
    if (first == 0 || rows_.step[first - 1].sentence != sentence) taken_.clear();
    advance(options, first, last, max_lengths_[sentence]);
  }
  next_rows();
}

void Search::score(StepModel& model, const SearchOptions& options,
                   std::span<const std::span<const int32_t>> targets, SearchResults& results) {
  const int32_t sentences = static_cast<int32_t>(targets.size());
  results.reset(sentences, 1);
  begin(options, sentences, 1, 1);
  heads_ = model.heads();
  scores_.filter = nullptr;
  scores_.deferred = sentences == 1 && model.defers();
  const bool has_end = !options.end.empty();
  const FinishReason reason = has_end ? FinishReason::eos : FinishReason::length;
  const auto length_of = [&](int32_t s) { return targets[s].size() + (has_end ? 1 : 0); };

  for (int32_t s = 0; s < sentences; ++s) {
    if (length_of(s) > 0) {
      start(options, s);
    } else {
      insert(s, {0.0, options.rules.penalty.score(0.0, 0), -1, 0, reason});
    }
  }
  next_rows();
  while (live()) {
    if (model.interrupted()) {
      interrupt(options);
      break;
    }
    wanted_.clear();
    for (const StepRow& row : rows_.step) {
      const std::span<const int32_t> target = targets[row.sentence];
      const int32_t i = std::max(row.step - progress_[row.sentence].lead, 0);
      const bool inside = static_cast<size_t>(i) < target.size();
      wanted_.push_back(inside ? target[i] : options.end.empty() ? 0 : options.end[0]);
    }
    step(model, 0, wanted_);
    for (int32_t row = 0; row < static_cast<int32_t>(rows_.step.size()); ++row) {
      if (feed(options, row)) continue;
      const auto i =
          static_cast<size_t>(rows_.step[row].step - progress_[rows_.step[row].sentence].lead);
      const Candidate token = {scores_.wanted_log_probs[row], wanted_[row]};
      const double log_prob = rows_.live[row].log_prob + token.value;
      const Choice choice = {log_prob, log_prob, row, token};
      if (i + 1 < length_of(rows_.step[row].sentence)) {
        live_on(options, choice);
      } else {
        finish(options, choice, reason);
      }
    }
    next_rows();
  }
  settle(model, options);
  close(options, results);
}

void Search::begin(const SearchOptions& options, int32_t sentences, int32_t lanes,
                   int32_t hypotheses) {
  lanes_ = lanes;
  hypotheses_ = hypotheses;
  const size_t all = static_cast<size_t>(sentences) * static_cast<size_t>(lanes);
  history_.clear(options.reads_alignment());
  next_.step.clear();
  next_.live.clear();
  finished_.resize(all * static_cast<size_t>(hypotheses));
  progress_.assign(all, {});
  if (options.rules.ended == Ended::stay) kept_.resize(all * static_cast<size_t>(beam_));
  if (options.rules.stop == Stop::places || options.rules.limit == Limit::closed)
    held_.assign(all * static_cast<size_t>(beam_), 0);
  for (size_t lane = 0; lane < all && !options.prompts.empty(); ++lane)
    progress_[lane].lead =
        static_cast<int32_t>(options.prompts[lane / static_cast<size_t>(lanes)].size()) -
        (options.start >= 0 ? 0 : 1);
}

void Search::start(const SearchOptions& options, int32_t sentence) {
  const Automaton* automaton = automaton_of(options);
  const int32_t state = automaton == nullptr ? Automaton::kNowhere : automaton->start;
  for (int32_t lane = sentence * lanes_; lane < (sentence + 1) * lanes_; ++lane) {
    next_.step.push_back({fed(options, sentence, 0), -1, sentence, 0});
    next_.live.push_back({0.0, -1, lane, state});
  }
}

// While a prompt lasts, its next id follows whatever the step said.
bool Search::feed(const SearchOptions& options, int32_t row) {
  const StepRow& now = rows_.step[row];
  const Live& live = rows_.live[row];
  if (now.step >= progress_[live.lane].lead) return false;
  next_.step.push_back({fed(options, now.sentence, now.step + 1), row, now.sentence, now.step + 1});
  next_.live.push_back(live);
  return true;
}

// What options say of the rows of a step before it runs.
void Search::prepare(const SearchOptions& options) {
  const auto prefix = static_cast<int32_t>(prefix_of(options).size());
  const bool forces = prefix > 0 || limit_ends(options);
  wanted_.clear();
  filter_.clear();
  if (!forces && !filter_.active()) return;
  const bool reads_ids = filter_.reads_ids();
  for (size_t row = 0; row < rows_.step.size(); ++row) {
    const StepRow& now = rows_.step[row];
    const Live& live = rows_.live[row];
    const int32_t length = now.step + 1 - progress_[live.lane].lead;
    const int32_t forced = forced_id(options, length, max_lengths_[now.sentence]);
    if (forces) wanted_.push_back(std::max(forced, 0));
    if (!filter_.active()) continue;
    if (reads_ids) history_.append_ids(live.link, filter_.ids());
    filter_.add({live.state, live.lane % lanes_, length - 1, length > prefix, forced < 0});
  }
}

void Search::step(StepModel& model, int32_t count, std::span<const int32_t> wanted) {
  scores_.count = count;
  scores_.wanted = wanted;
  scores_.candidates.resize(rows_.step.size() * static_cast<size_t>(count));
  scores_.wanted_log_probs.resize(wanted.size());
  model.step(rows_.step, scores_);
  history_.begin_step(model, static_cast<int32_t>(rows_.step.size()));
}

// Both lists always have the same capacity, so it does not matter which of them a later search
// begins with.
void Search::next_rows() {
  std::swap(rows_, next_);
  next_.step.clear();
  next_.live.clear();
  next_.step.reserve(rows_.step.capacity());
  next_.live.reserve(rows_.live.capacity());
}

// Moves the sentence of rows first ... last-1 one token on.
void Search::advance(const SearchOptions& options, int32_t first, int32_t last,
                     int32_t max_length) {
  const SearchRules& rules = options.rules;
  const int32_t lane = rows_.live[first].lane;
  Progress& progress = progress_[lane];
  const int32_t length = rows_.step[first].step + 1 - progress.lead;
  const bool at_limit = length >= max_length;
  const size_t begin = next_.step.size();

  choose(options, first, last, length, forced_id(options, length, max_length));
  progress.kept = 0;
  if (rules.stop == Stop::head || rules.stop == Stop::first) progress.topped = false;
  int32_t place = 0, living = 0, able = 0;
  bool full = false;
  for (const Choice& choice : choices_) {
    const bool leading = place < beam_;
    const bool was_ended = choice.row < 0;
    const bool over = !was_ended && rows_.live[choice.row].ends > 0;
    const bool ended = was_ended || ends(options, choice.token.id);
    if (ended && leading) hold(rules, lane, place);
    const bool counts = (ended && rules.limit == Limit::again) ||
                        (leading && rules.limit == Limit::closed && held(lane, place));
    if (place++ == 0) progress.topped |= ended;
    if (ended && !over) {
      if (rules.ended == Ended::leading && !leading) continue;
      if (!was_ended) {
        ++progress.ended;
        finish(options, choice, FinishReason::eos);
      }
      if (rules.ended == Ended::stay)
        kept_[static_cast<int64_t>(lane) * beam_ + progress.kept++] = choice.log_prob;
      full = rules.stop == Stop::count && progress.ended >= rules.finished_limit;
      if (full) break;
      if (rules.ended != Ended::expand) continue;
    }
    if (living == beam_) continue;
    if (++living == beam_ && !at_limit)
      progress.dropped = std::max(progress.dropped, choice.log_prob);
    if (rules.diversity > 0.0 && !ended && !over) taken_.push_back(choice.token.id);
    able += may_count(rules.limit, rows_.live[choice.row].ends + ended);
    live_on(options, choice, ended);
    if (counts) count(options, next_.live.back(), length, FinishReason::length);
  }
  for (; place < beam_; ++place) hold(rules, lane, place);
  if (!full && !at_limit && able > 0 && !stopped(rules, lane, begin, length, max_length)) return;
  // After all that ended: on equal scores those come first.
  const bool counts = !full && (at_limit || takes_places(rules.limit));
  for (size_t row = begin; counts && row < next_.live.size(); ++row) {
    if (rules.limit == Limit::fill && progress.finished == hypotheses_) break;
    count(options, next_.live[row], length, FinishReason::length);
  }
  next_.step.resize(begin);
  next_.live.resize(begin);
}

// Fills choices_ with the best possible continuations of rows first ... last-1 that a step of this
// rule looks at, in order, the ended ones in the beam among them. Impossible ones (-inf, ends below
// the minimum) are left out, unless the lane would be left with nothing: then fall_back().
void Search::choose(const SearchOptions& options, int32_t first, int32_t last, int32_t length,
                    int32_t forced) {
  const int32_t lane = rows_.live[first].lane;
  const Progress& progress = progress_[lane];
  const bool diverse = !taken_.empty();
  const int32_t count = scores_.count;
  const bool may_end = length >= options.rules.min_length;
  const int32_t width = options.rules.ended == Ended::shrink ? beam_ - progress.ended : width_;
  choices_.clear();
  // Without a token, the lowest id, and of a lower row than any other: first among equals.
  for (int32_t i = 0; i < progress.kept; ++i) {
    const double log_prob = kept_[static_cast<int64_t>(lane) * beam_ + i];
    choices_.push_back({log_prob, log_prob, i - beam_, {}});
  }
  double floor = options.floor;  // `width` choices are known to be at least as good as this
  for (int32_t row = first; row < last; ++row) {
    const double log_prob = rows_.live[row].log_prob;
    if (forced >= 0) {
      const Candidate token = {scores_.wanted_log_probs[row], forced};
      const double sum = log_prob + token.value;
      if (sum != kImpossible) choices_.push_back({sum, sum, row, token});
      continue;
    }
    const Candidate* candidates = scores_.candidates.data() + static_cast<int64_t>(row) * count;
    int32_t taken = 0;
    for (int32_t i = 0; i < count && (taken < width || diverse); ++i) {
      const double sum = log_prob + candidates[i].value;
      const Choice choice = {diverse ? rank_of(options, sum, candidates[i].id) : sum, sum, row,
                             candidates[i]};
      if ((!diverse && sum < floor) || sum == kImpossible) break;  // best first
      if (!may_end && ends(options, choice.token.id)) continue;
      choices_.push_back(choice);
      ++taken;
    }
    if (taken == width) floor = std::max(floor, choices_.back().log_prob);
  }
  if (choices_.empty() && progress.finished == 0 && !options.rules.exact)
    fall_back(first, last, forced);
  if (choices_.size() > static_cast<size_t>(width)) {
    std::nth_element(choices_.begin(), choices_.begin() + width, choices_.end(), better);
    choices_.resize(static_cast<size_t>(width));
  }
  std::sort(choices_.begin(), choices_.end(), better);
}

// Nothing is possible: the first row's best one, so that there is a result. Under constraints a row
// that has some continuation, below the minimum an end, and nothing in a dead end.
void Search::fall_back(int32_t first, int32_t last, int32_t forced) {
  for (int32_t row = first; row < last; ++row) {
    const Candidate best = forced >= 0
                               ? Candidate{scores_.wanted_log_probs[row], forced}
                               : scores_.candidates[static_cast<size_t>(row) * scores_.count];
    if (filter_.active() && static_cast<double>(best.value) == kImpossible) continue;
    const double log_prob = rows_.live[row].log_prob + best.value;
    choices_.push_back({log_prob, log_prob, row, best});
    return;
  }
}

// Vijayakumar et al. 2016, eq. 4 with the Hamming diversity of section 4.1.
double Search::rank_of(const SearchOptions& options, double log_prob,
                       int32_t token) const noexcept {
  const auto times = std::count(taken_.begin(), taken_.end(), token);
  return log_prob - options.rules.diversity * static_cast<double>(times);
}

bool Search::better(const Choice& a, const Choice& b) noexcept {
  if (a.rank != b.rank) return a.rank > b.rank;
  if (a.token.id != b.token.id) return a.token.id < b.token.id;
  return a.row < b.row;
}

// `ended`: by this id, under a rule that continues ended ones.
void Search::live_on(const SearchOptions& options, const Choice& choice, bool ended) {
  const StepRow& row = rows_.step[choice.row];
  const Live& live = rows_.live[choice.row];
  const Automaton* automaton = automaton_of(options);
  const int32_t state =
      automaton == nullptr ? live.state : automaton->next(live.state, choice.token.id);
  const int32_t link = history_.add(live.link, choice.row, choice.token);
  next_.step.push_back({choice.token.id, choice.row, row.sentence, row.step + 1});
  next_.live.push_back(live);
  Live& next = next_.live.back();
  next.log_prob = choice.log_prob;
  next.link = link;
  next.state = state;
  next.counted = ended && live.ends == 0;
  next.ends += ended;
  if (!next.counted) return;
  next.end = link;
  next.end_log_prob = choice.log_prob;
}

void Search::finish(const SearchOptions& options, const Choice& choice, FinishReason reason) {
  const Live& live = rows_.live[choice.row];
  const int32_t length = rows_.step[choice.row].step + 1 - progress_[live.lane].lead;
  const int32_t link = history_.add(live.link, choice.row, choice.token);
  const SearchRules& rules = options.rules;
  double score = rules.penalty.score(choice.log_prob, length);
  if (rules.coverage > 0.0) score += rules.coverage * history_.coverage(link, heads_);
  insert(live.lane, {choice.log_prob, score, link, length, reason});
}

}  // namespace s2s
