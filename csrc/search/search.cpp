#include "search/search.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

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

}  // namespace

void Search::run(StepModel& model, const SearchOptions& options,
                 std::span<const int32_t> max_lengths, SearchResults& results) {
  results.reset(static_cast<int32_t>(max_lengths.size()), options.num_hypotheses);
  open(options, model.vocabulary(), max_lengths);
  while (live()) {
    if (model.interrupted()) {
      interrupt(options);
      break;
    }
    proceed(model, options);
  }
  close(results);
}

void Search::open(const SearchOptions& options, int64_t vocabulary,
                  std::span<const int32_t> max_lengths) {
  const int32_t sentences = static_cast<int32_t>(max_lengths.size());
  begin(options, sentences, options.num_hypotheses);
  max_lengths_.assign(max_lengths.begin(), max_lengths.end());
  beam_ = options.beam_size;
  // With K live rows at most `ends` * K continuations end, so K others are always among these.
  const SearchRules& rules = options.rules;
  const auto end_count = static_cast<int64_t>(options.end.size());
  const bool make_room = rules.ended == Ended::leave || rules.ended == Ended::leading;
  const int64_t width = beam_ > 1 && make_room ? (1 + end_count) * beam_ : beam_;
  width_ = static_cast<int32_t>(std::min<int64_t>(width, std::numeric_limits<int32_t>::max()));
  // Under a minimum the ends may stand before all that are wanted.
  count_ = static_cast<int32_t>(
      std::min<int64_t>(width_ + (rules.min_length > 1 ? end_count : 0), vocabulary));
  for (int32_t s = 0; s < sentences; ++s) start(options, s);
  next_rows();
}

// One step of all live rows.
void Search::proceed(StepModel& model, const SearchOptions& options) {
  const bool forced = limit_ends(options);
  wanted_.assign(forced ? rows_.step.size() : 0, forced ? options.end[0] : 0);
  step(model, count_, wanted_);
  const int32_t row_count = static_cast<int32_t>(rows_.step.size());
  for (int32_t first = 0, last = 0; first < row_count; first = last) {
    const int32_t sentence = rows_.step[first].sentence;
    while (last < row_count && rows_.step[last].sentence == sentence) ++last;
    if (feed(options, first)) continue;
    advance(options, first, last, max_lengths_[sentence]);
  }
  next_rows();
}

void Search::interrupt(const SearchOptions& options) {
  for (size_t r = 0; r < rows_.step.size(); ++r) {
    const StepRow& row = rows_.step[r];
    const Live& live = rows_.live[r];
    const int32_t length = std::max(row.step - progress_[row.sentence].lead, 0);
    insert(row.sentence, {live.log_prob, options.rules.penalty.score(live.log_prob, length),
                          live.link, length, FinishReason::interrupted});
  }
  rows_.step.clear();
  rows_.live.clear();
}

void Search::certain(int32_t sentence, std::vector<int32_t>& ids) const {
  std::vector<History::End> ends;
  for (size_t r = 0; r < rows_.step.size(); ++r)
    if (rows_.step[r].sentence == sentence)
      ends.push_back(
          {rows_.live[r].link, std::max(rows_.step[r].step - progress_[sentence].lead, 0)});
  const Finished* best = finished_.data() + static_cast<int64_t>(sentence) * hypotheses_;
  if (progress_[sentence].finished > 0) ends.push_back({best->link, best->length});
  history_.read_common(ends, ids);
}

void Search::score(StepModel& model, const SearchOptions& options,
                   std::span<const std::span<const int32_t>> targets, SearchResults& results) {
  const int32_t sentences = static_cast<int32_t>(targets.size());
  results.reset(sentences, 1);
  begin(options, sentences, 1);
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
      const Choice choice = {rows_.live[row].log_prob + token.value, row, token};
      if (i + 1 < length_of(rows_.step[row].sentence)) {
        live_on(choice);
      } else {
        finish(options.rules, choice, reason);
      }
    }
    next_rows();
  }
  close(results);
}

void Search::begin(const SearchOptions& options, int32_t sentences, int32_t hypotheses) {
  hypotheses_ = hypotheses;
  history_.clear(options.alignment);
  next_.step.clear();
  next_.live.clear();
  finished_.resize(static_cast<size_t>(sentences) * static_cast<size_t>(hypotheses));
  progress_.assign(static_cast<size_t>(sentences), {});
  if (options.rules.ended == Ended::stay)
    kept_.resize(static_cast<size_t>(sentences) * static_cast<size_t>(options.beam_size));
  for (int32_t s = 0; s < sentences && !options.prompts.empty(); ++s)
    progress_[s].lead =
        static_cast<int32_t>(options.prompts[s].size()) - (options.start >= 0 ? 0 : 1);
}

void Search::start(const SearchOptions& options, int32_t sentence) {
  next_.step.push_back({fed(options, sentence, 0), -1, sentence, 0});
  next_.live.push_back({0.0, -1});
}

// While a prompt lasts, its next id follows whatever the step said.
bool Search::feed(const SearchOptions& options, int32_t row) {
  const StepRow& now = rows_.step[row];
  if (now.step >= progress_[now.sentence].lead) return false;
  next_.step.push_back({fed(options, now.sentence, now.step + 1), row, now.sentence, now.step + 1});
  next_.live.push_back({0.0, -1});
  return true;
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
  const int32_t sentence = rows_.step[first].sentence;
  Progress& progress = progress_[sentence];
  const int32_t length = rows_.step[first].step + 1 - progress.lead;
  const bool at_limit = length >= max_length;
  const size_t begin = next_.step.size();

  choose(options, first, last, length, at_limit && limit_ends(options));
  progress.kept = 0;
  int32_t place = 0, living = 0;
  bool full = false;
  for (const Choice& choice : choices_) {
    const bool leading = place < beam_;
    const bool was_ended = choice.row < 0;
    const bool ended = was_ended || ends(options, choice.token.id);
    if (place++ == 0) progress.topped |= ended;
    if (!ended) {
      if (living == beam_) continue;
      ++living;
      if (!at_limit) live_on(choice);
      continue;
    }
    if (rules.ended == Ended::leading && !leading) continue;
    if (!was_ended) finish(rules, choice, FinishReason::eos);
    if (rules.ended == Ended::stay)
      kept_[static_cast<int64_t>(sentence) * beam_ + progress.kept++] = choice.log_prob;
    full = rules.stop == Stop::count && progress.ended >= rules.finished_limit;
    if (full) break;
  }
  const bool topped =
      rules.stop == Stop::top && progress.topped && progress.finished == hypotheses_;
  if (at_limit) {
    if (!full) cut(options, sentence, living);
  } else if (living > 0 &&
             (full || topped || decided(rules, sentence, next_.live[begin], length, max_length))) {
    next_.step.resize(begin);
    next_.live.resize(begin);
  }
}

// The live ones of the last step, after all that ended: on equal scores those come first.
void Search::cut(const SearchOptions& options, int32_t sentence, int32_t living) {
  const bool fill = options.rules.limit == Limit::fill;
  for (const Choice& choice : choices_) {
    if (living == 0 || (fill && progress_[sentence].finished == hypotheses_)) return;
    if (choice.row < 0 || ends(options, choice.token.id)) continue;
    finish(options.rules, choice, FinishReason::length);
    --living;
  }
}

// Fills choices_ with the best possible continuations of rows first ... last-1 that a step of this
// rule looks at, in order, the ended ones in the beam among them. Impossible ones (-inf, ends below
// the minimum) are left out, unless the sentence would be left with nothing: then it goes on with
// its first row's best one.
void Search::choose(const SearchOptions& options, int32_t first, int32_t last, int32_t length,
                    bool must_end) {
  const int32_t sentence = rows_.step[first].sentence;
  const Progress& progress = progress_[sentence];
  const int32_t count = scores_.count;
  const bool may_end = length >= options.rules.min_length;
  const int32_t width = options.rules.ended == Ended::shrink ? beam_ - progress.ended : width_;
  const auto forced = [&](int32_t row) {
    return Candidate{scores_.wanted_log_probs[row], options.end[0]};
  };
  choices_.clear();
  // Without a token, the lowest id, and of a lower row than any other: first among equals.
  for (int32_t i = 0; i < progress.kept; ++i)
    choices_.push_back({kept_[static_cast<int64_t>(sentence) * beam_ + i], i - beam_, {}});
  double floor = kImpossible;  // `width` choices are known to be at least as good as this
  for (int32_t row = first; row < last; ++row) {
    const double log_prob = rows_.live[row].log_prob;
    if (must_end) {
      const Choice choice = {log_prob + forced(row).value, row, forced(row)};
      if (choice.log_prob != kImpossible) choices_.push_back(choice);
      continue;
    }
    const Candidate* candidates = scores_.candidates.data() + static_cast<int64_t>(row) * count;
    int32_t taken = 0;
    for (int32_t i = 0; i < count && taken < width; ++i) {
      const Choice choice = {log_prob + candidates[i].value, row, candidates[i]};
      if (choice.log_prob < floor || choice.log_prob == kImpossible) break;  // best first
      if (!may_end && ends(options, choice.token.id)) continue;
      choices_.push_back(choice);
      ++taken;
    }
    if (taken == width) floor = std::max(floor, choices_.back().log_prob);
  }
  if (choices_.empty() && progress.finished == 0) {
    const Candidate best =
        must_end ? forced(first) : scores_.candidates[static_cast<size_t>(first) * count];
    choices_.push_back({rows_.live[first].log_prob + best.value, first, best});
  }
  if (choices_.size() > static_cast<size_t>(width)) {
    std::nth_element(choices_.begin(), choices_.begin() + width, choices_.end(), better);
    choices_.resize(static_cast<size_t>(width));
  }
  std::sort(choices_.begin(), choices_.end(), better);
}

bool Search::better(const Choice& a, const Choice& b) noexcept {
  if (a.log_prob != b.log_prob) return a.log_prob > b.log_prob;
  if (a.token.id != b.token.id) return a.token.id < b.token.id;
  return a.row < b.row;
}

void Search::live_on(const Choice& choice) {
  const StepRow& row = rows_.step[choice.row];
  const int32_t link = history_.add(rows_.live[choice.row].link, choice.row, choice.token);
  next_.step.push_back({choice.token.id, choice.row, row.sentence, row.step + 1});
  next_.live.push_back({choice.log_prob, link});
}

void Search::finish(const SearchRules& rules, const Choice& choice, FinishReason reason) {
  const StepRow& row = rows_.step[choice.row];
  const int32_t length = row.step + 1 - progress_[row.sentence].lead;
  const int32_t link = history_.add(rows_.live[choice.row].link, choice.row, choice.token);
  const double score = rules.penalty.score(choice.log_prob, length);
  ++progress_[row.sentence].ended;
  insert(row.sentence, {choice.log_prob, score, link, length, reason});
}

// Keeps the best `hypotheses_` of a sentence, best first; on equal scores the earlier one.
void Search::insert(int32_t sentence, const Finished& finished) noexcept {
  Finished* list = finished_.data() + static_cast<int64_t>(sentence) * hypotheses_;
  int32_t& size = progress_[sentence].finished;
  if (size == hypotheses_) {
    if (list[size - 1].score >= finished.score) return;
    --size;
  }
  int32_t place = size++;
  for (; place > 0 && list[place - 1].score < finished.score; --place) {
    list[place] = list[place - 1];
  }
  list[place] = finished;
}

// No live hypothesis can enter the finished ones any more; `best` is the best of them, of `length`
// ids.
bool Search::decided(const SearchRules& rules, int32_t sentence, const Live& best, int32_t length,
                     int32_t max_length) const noexcept {
  if (rules.stop != Stop::best || progress_[sentence].finished < hypotheses_) return false;
  const int64_t worst = static_cast<int64_t>(sentence + 1) * hypotheses_ - 1;
  const int32_t shortest = std::max(length + 1, std::min(rules.min_length, max_length));
  return finished_[worst].score >= rules.penalty.reachable(best.log_prob, shortest, max_length);
}

void Search::close(SearchResults& results) const {
  const int32_t sentences = static_cast<int32_t>(progress_.size());
  for (int32_t s = 0; s < sentences; ++s) {
    for (int32_t i = 0; i < progress_[s].finished; ++i) {
      const Finished& finished = finished_[static_cast<int64_t>(s) * hypotheses_ + i];
      Hypothesis& hypothesis = results.add(s);
      history_.read(finished.link, finished.length, finished.reason, hypothesis);
      hypothesis.log_prob = finished.log_prob;
      hypothesis.score = finished.score;
    }
  }
}

}  // namespace s2s
