// Tests of the search floor against a table-driven model, a plain reference beam search that
// looks at the whole vocabulary, and the enumeration of all hypotheses.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "search/search.h"

namespace {
long allocations = 0;
}  // namespace

// Not inlined: gcc 12 warns of a mismatch where it sees through delete but not through new.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size > 0 ? size : 1);
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (void* memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace s2s;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// Log-probabilities are a function of the sentence's name, all tokens so far and the next one.
// `levels` > 0 rounds them to few values (many ties, exact sums); `impossible` of 16 are -inf, and
// so is every token from `usable` on.
struct Table {
  uint64_t seed = 1;
  int32_t vocabulary = 6;
  int32_t levels = 0;
  uint32_t impossible = 0;
  int32_t usable = 1 << 30;

  uint64_t first(int32_t name, int32_t start) const {
    const uint64_t sentence = mixed(seed * 1000003U + static_cast<uint64_t>(name));
    return mixed(sentence + static_cast<uint32_t>(start));
  }
  static uint64_t next(uint64_t state, int32_t token) {
    return mixed(state * 31 + static_cast<uint64_t>(token) + 7);
  }
  float log_prob(uint64_t state, int32_t token) const {
    const uint64_t bits = mixed(state ^ (static_cast<uint64_t>(token) << 32));
    if (token >= usable || (bits & 15U) < impossible) return -kInfinity;
    const float unit = static_cast<float>(bits >> 40) * 0x1p-24F;
    if (levels > 0) return -0.25F * (1.0F + std::floor(unit * static_cast<float>(levels)));
    return -0.01F - 4.0F * unit;
  }
  static float weight(uint64_t state, int32_t position) {
    return static_cast<float>(mixed(state + static_cast<uint64_t>(position)) >> 40);
  }
};

class FakeModel : public StepModel {
 public:
  // names[s] is what makes a sentence itself, wherever it is in the batch
  FakeModel(const Table& table, std::vector<int32_t> names)
      : table_(table), names_(std::move(names)) {
    states_.reserve(1 << 14);
    previous_.reserve(1 << 14);
    sentences_.reserve(1 << 14);
    previous_sentences_.reserve(1 << 14);
    all_.resize(static_cast<size_t>(table.vocabulary));
    weights_.resize(16);
  }

  int32_t vocabulary() const noexcept override { return table_.vocabulary; }
  int32_t heads() const noexcept override { return 1; }
  int32_t source_length(int32_t sentence) const noexcept {
    return 1 + names_[static_cast<size_t>(sentence)] % 5;
  }
  std::span<const float> alignment(int32_t row) const noexcept override {
    const int32_t length = source_length(sentences_[static_cast<size_t>(row)]);
    for (int32_t j = 0; j < length; ++j) weights_[j] = Table::weight(states_[row], j);
    return {weights_.data(), static_cast<size_t>(length)};
  }

  void step(std::span<const StepRow> rows, StepScores& scores) override {
    if (fail_at == steps++) throw std::runtime_error("as asked");
    states_.swap(previous_);
    sentences_.swap(previous_sentences_);
    states_.clear();
    sentences_.clear();
    CHECK(scores.count <= table_.vocabulary);
    CHECK(scores.candidates.size() == rows.size() * static_cast<size_t>(scores.count));
    CHECK(scores.wanted.empty() || scores.wanted.size() == rows.size());
    int32_t before = -1;
    for (const StepRow& row : rows) {
      CHECK(row.sentence >= before);
      before = row.sentence;
      uint64_t state = 0;
      if (row.parent < 0) {
        CHECK(row.step == 0);
        state = table_.first(names_[static_cast<size_t>(row.sentence)], row.token);
      } else {
        CHECK(row.parent < static_cast<int32_t>(previous_.size()));
        CHECK(previous_sentences_[static_cast<size_t>(row.parent)] == row.sentence);
        state = Table::next(previous_[static_cast<size_t>(row.parent)], row.token);
      }
      states_.push_back(state);
      sentences_.push_back(row.sentence);
    }
    for (size_t r = 0; r < rows.size(); ++r) fill(r, scores);
  }

  int32_t fail_at = -1;
  int32_t steps = 0;

 private:
  void fill(size_t r, StepScores& scores) {
    row_.resize(all_.size());
    for (int32_t v = 0; v < table_.vocabulary; ++v) row_[v] = table_.log_prob(states_[r], v);
    if (scores.filter != nullptr) {
      scores.filter->adjust(static_cast<int32_t>(r), row_);
      scores.filter->mask(static_cast<int32_t>(r), row_);
    }
    if (!scores.wanted.empty()) {
      scores.wanted_log_probs[r] = row_[static_cast<size_t>(scores.wanted[r])];
    }
    if (scores.count == 0) return;
    for (int32_t v = 0; v < table_.vocabulary; ++v) all_[v] = {row_[v], v};
    const auto better = [](Candidate a, Candidate b) {
      return a.value != b.value ? a.value > b.value : a.id < b.id;
    };
    std::partial_sort(all_.begin(), all_.begin() + scores.count, all_.end(), better);
    std::copy_n(all_.begin(), scores.count,
                scores.candidates.begin() + static_cast<int64_t>(r) * scores.count);
  }

  Table table_;
  std::vector<int32_t> names_;
  std::vector<uint64_t> states_, previous_;
  std::vector<int32_t> sentences_, previous_sentences_;
  std::vector<Candidate> all_;
  std::vector<float> row_;
  mutable std::vector<float> weights_;
};

bool same_bits(const Hypothesis& a, const Hypothesis& b) {
  const auto equal = [](const std::vector<float>& x, const std::vector<float>& y) {
    return x.size() == y.size() &&
           (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
  };
  return a.ids == b.ids && equal(a.token_log_probs, b.token_log_probs) &&
         equal(a.alignment, b.alignment) && a.reason == b.reason &&
         std::memcmp(&a.log_prob, &b.log_prob, sizeof(double)) == 0 &&
         std::memcmp(&a.score, &b.score, sizeof(double)) == 0;
}

bool same_bits(std::span<const Hypothesis> a, std::span<const Hypothesis> b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!same_bits(a[i], b[i])) return false;
  }
  return true;
}

// ---- what the results must be, written for reading and not for speed

struct Path {
  Hypothesis hypothesis;  // ids with the end token while it is being built
  uint64_t state = 0;
};

Path extended(const Table& table, const Path& path, int32_t token, int32_t positions) {
  Path next = path;
  Hypothesis& h = next.hypothesis;
  if (!h.ids.empty()) next.state = Table::next(path.state, h.ids.back());
  const float value = table.log_prob(next.state, token);
  h.ids.push_back(token);
  h.token_log_probs.push_back(value);
  for (int32_t j = 0; j < positions; ++j) h.alignment.push_back(Table::weight(next.state, j));
  h.log_prob += static_cast<double>(value);
  h.score = h.log_prob;
  return next;
}

bool is_end(const SearchOptions& options, int32_t token) {
  return std::count(options.end.begin(), options.end.end(), token) > 0;
}

Hypothesis closed(const Path& path, FinishReason reason) {
  Hypothesis h = path.hypothesis;
  h.reason = reason;
  if (reason == FinishReason::eos) h.ids.pop_back();
  return h;
}

void keep(std::vector<Hypothesis>& list, const Hypothesis& h, int32_t most) {
  list.push_back(h);
  std::stable_sort(list.begin(), list.end(),
                   [](const auto& a, const auto& b) { return a.score > b.score; });
  if (list.size() > static_cast<size_t>(most)) list.pop_back();
}

std::vector<Hypothesis> reference_beam(const Table& table, const SearchOptions& options,
                                       int32_t name, int32_t max_length) {
  const int32_t beam = options.beam_size;
  const int32_t positions = options.alignment ? 1 + name % 5 : 0;
  const size_t width = beam == 1 ? 1 : (1 + options.end.size()) * static_cast<size_t>(beam);
  std::vector<Hypothesis> finished;
  Path root;
  root.state = table.first(name, options.start);
  std::vector<Path> live = {root};
  for (int32_t length = 1; !live.empty(); ++length) {
    std::vector<Path> all;
    for (int32_t v = 0; v < table.vocabulary; ++v) {
      for (const Path& path : live) all.push_back(extended(table, path, v, positions));
    }
    std::stable_sort(all.begin(), all.end(), [](const Path& a, const Path& b) {
      return a.hypothesis.log_prob > b.hypothesis.log_prob;
    });
    if (all.size() > width) all.resize(width);
    std::vector<Path> next;
    for (const Path& path : all) {
      if (path.hypothesis.log_prob == -static_cast<double>(kInfinity)) continue;
      if (is_end(options, path.hypothesis.ids.back())) {
        keep(finished, closed(path, FinishReason::eos), options.num_hypotheses);
      } else if (next.size() < static_cast<size_t>(beam)) {
        next.push_back(path);
      }
    }
    if (length == max_length) {
      for (const Path& path : next) {
        keep(finished, closed(path, FinishReason::length), options.num_hypotheses);
      }
      break;
    }
    if (!next.empty() && finished.size() == static_cast<size_t>(options.num_hypotheses) &&
        finished.back().score >= next[0].hypothesis.log_prob) {
      break;
    }
    live = next;
  }
  return finished;
}

// All hypotheses of at most max_length ids, best first (no order among equals).
std::vector<Hypothesis> enumerated(const Table& table, const SearchOptions& options, int32_t name,
                                   int32_t max_length) {
  std::vector<Hypothesis> result;
  Path root;
  root.state = table.first(name, options.start);
  std::vector<Path> open = {root};
  while (!open.empty()) {
    const Path path = open.back();
    open.pop_back();
    for (int32_t v = 0; v < std::min(table.usable, table.vocabulary); ++v) {
      const Path next = extended(table, path, v, 0);
      if (next.hypothesis.log_prob == -static_cast<double>(kInfinity)) continue;
      const int32_t length = static_cast<int32_t>(next.hypothesis.ids.size());
      if (is_end(options, v)) {
        result.push_back(closed(next, FinishReason::eos));
      } else if (length == max_length) {
        result.push_back(closed(next, FinishReason::length));
      } else {
        open.push_back(next);
      }
    }
  }
  std::sort(result.begin(), result.end(),
            [](const auto& a, const auto& b) { return a.score > b.score; });
  return result;
}

SearchResults searched(const Table& table, const SearchOptions& options,
                       const std::vector<int32_t>& names, const std::vector<int32_t>& lengths) {
  FakeModel model(table, names);
  Search search;
  SearchResults results;
  search.run(model, options, lengths, results);
  return results;
}

std::vector<std::vector<int32_t>> end_sets(int32_t vocabulary) {
  return {{}, {vocabulary - 1}, {0, vocabulary - 1}};
}

// Every rule, with a penalty and a minimum that change with it.
std::vector<SearchRules> every_rule() {
  using Kind = LengthPenalty::Kind;
  std::vector<SearchRules> rules;
  for (const Ended ended :
       {Ended::leave, Ended::leading, Ended::place, Ended::shrink, Ended::stay, Ended::expand}) {
    for (const Stop stop : {Stop::best, Stop::count, Stop::top, Stop::both, Stop::head, Stop::first,
                            Stop::places, Stop::empty}) {
      for (const Limit limit :
           {Limit::compete, Limit::fill, Limit::end, Limit::done, Limit::again, Limit::closed}) {
        const int32_t n = static_cast<int32_t>(rules.size());
        const Kind kind = n % 3 == 0 ? Kind::none : n % 3 == 1 ? Kind::power : Kind::gnmt;
        rules.push_back({ended, stop, limit, 5 + n % 2, n % 5, {kind, n % 4 < 2 ? 0.7 : -0.4}});
      }
    }
  }
  return rules;
}

// ---- tests

void test_beam_equals_enumeration_where_it_is_exhaustive() {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    for (int32_t length = 1; length <= 4; ++length) {
      // 81 possible hypotheses at most, under a vocabulary large enough for a beam of 100
      const Table table = {seed, 100, 0, seed % 3 == 0 ? 4U : 0U, 3};
      for (const auto& end : {std::vector<int32_t>{}, {1}, {0, 2}, {2, 77}}) {
        for (const int32_t n : {1, 2, 7, 100}) {
          const SearchOptions options = {5, end, 100, n, false};
          std::vector<Hypothesis> all = enumerated(table, options, 3, length);
          if (all.empty()) continue;  // then one impossible hypothesis is left
          all.resize(std::min(all.size(), static_cast<size_t>(n)));
          const SearchResults found = searched(table, options, {3}, {length});
          CHECK(same_bits(all, found.sentence(0)));
        }
      }
    }
  }
}

void test_run_equals_reference_beam() {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    for (const int32_t vocabulary : {1, 2, 3, 6, 23}) {
      for (const auto& end : end_sets(vocabulary)) {
        if (vocabulary == 1 && end.size() == 2) continue;
        for (const int32_t beam : {1, 2, 3, 5, 30}) {
          for (const int32_t levels : {0, 1, 3, 12}) {
            const uint32_t impossible = levels == 12 ? 2 : 0;
            const Table table = {seed, vocabulary, levels, impossible};
            const int32_t n = 1 + static_cast<int32_t>(seed) % beam;
            const SearchOptions options = {-1, end, beam, n, true};
            const std::vector<int32_t> names = {0, 1, 2, 3};
            const std::vector<int32_t> lengths = {1, 9, 2, 5};
            const SearchResults found = searched(table, options, names, lengths);
            for (int32_t s = 0; s < 4; ++s) {
              const auto expected = reference_beam(table, options, s, lengths[s]);
              if (expected.empty()) continue;  // only impossible ones
              CHECK(same_bits(expected, found.sentence(s)));
            }
          }
        }
      }
    }
  }
}

void test_greedy_takes_the_best_token_until_it_is_an_end() {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const Table table = {seed, 7, seed % 2 == 0 ? 2 : 0};
    const SearchOptions options = {2, {4}, 1, 1, false};
    std::vector<int32_t> ids;
    double log_prob = 0.0;
    uint64_t state = table.first(0, 2);
    FinishReason reason = FinishReason::length;
    for (int32_t i = 0; i < 12; ++i) {
      int32_t best = 0;
      for (int32_t v = 1; v < 7; ++v) {
        if (table.log_prob(state, v) > table.log_prob(state, best)) best = v;
      }
      log_prob += static_cast<double>(table.log_prob(state, best));
      if (best == 4) {
        reason = FinishReason::eos;
        break;
      }
      ids.push_back(best);
      state = Table::next(state, best);
    }
    const SearchResults results = searched(table, options, {0}, {12});
    CHECK(results.sentence(0).size() == 1);
    const Hypothesis& found = results.sentence(0)[0];
    CHECK(found.ids == ids && found.log_prob == log_prob && found.reason == reason);
    CHECK(found.token_log_probs.size() == ids.size() + (reason == FinishReason::eos ? 1 : 0));
  }
}

void test_ties_go_to_lower_token_then_lower_parent() {
  const Table table = {1, 5, 1};  // every token has the same log-probability
  const SearchResults beam = searched(table, {-1, {}, 3, 3, false}, {0}, {2});
  CHECK(beam.sentence(0)[0].ids == (std::vector<int32_t>{0, 0}));
  CHECK(beam.sentence(0)[1].ids == (std::vector<int32_t>{1, 0}));
  CHECK(beam.sentence(0)[2].ids == (std::vector<int32_t>{2, 0}));
  const SearchResults greedy = searched(table, {-1, {}, 1, 1, false}, {0}, {3});
  CHECK(greedy.sentence(0)[0].ids == (std::vector<int32_t>{0, 0, 0}));
  const SearchResults ended = searched(table, {-1, {0}, 2, 2, false}, {0}, {1});
  CHECK(ended.sentence(0)[0].ids.empty());
  CHECK(ended.sentence(0)[0].reason == FinishReason::eos);
  CHECK(ended.sentence(0)[1].ids == (std::vector<int32_t>{1}));
  CHECK(ended.sentence(0)[1].reason == FinishReason::length);
  const SearchResults late = searched(table, {-1, {4}, 4, 1, false}, {0}, {1});
  CHECK(late.sentence(0)[0].reason == FinishReason::eos);  // finished before it was cut
}

void test_impossible_tokens_are_left_out_unless_nothing_else_exists() {
  const Table none = {1, 5, 0, 16};
  for (const int32_t beam : {1, 2, 5}) {
    const SearchResults results = searched(none, {-1, {4}, beam, beam, false}, {0}, {3});
    CHECK(results.sentence(0).size() == 1);
    CHECK(results.sentence(0)[0].ids == (std::vector<int32_t>{0, 0, 0}));
    CHECK(results.sentence(0)[0].log_prob == -static_cast<double>(kInfinity));
  }
  const Table two = {1, 5, 0, 0, 2};  // tokens 0 and 1, of which 1 ends
  const SearchResults results = searched(two, {-1, {1}, 5, 5, false}, {0}, {3});
  CHECK(results.sentence(0).size() == 4);
  for (const Hypothesis& h : results.sentence(0)) CHECK(h.log_prob > -100.0);
}

void test_n_best_returns_n_where_n_exist() {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    for (const int32_t n : {1, 2, 6}) {
      const Table table = {seed, 6, 0};
      const SearchResults results = searched(table, {-1, {2}, 6, n, false}, {0, 1}, {1, 8});
      CHECK(results.sentence(0).size() == static_cast<size_t>(n));
      CHECK(results.sentence(1).size() == static_cast<size_t>(n));
    }
  }
}

void test_result_does_not_depend_on_batch() {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    for (const int32_t beam : {1, 2, 5}) {
      const Table table = {seed, 11, seed % 2 == 0 ? 3 : 0};
      const SearchOptions options = {1, {0, 3}, beam, beam, true};
      std::vector<int32_t> names, lengths;
      for (int32_t s = 0; s < 17; ++s) {
        names.push_back(s * 5 % 17);
        lengths.push_back(1 + s * 7 % 13);
      }
      const SearchResults together = searched(table, options, names, lengths);
      for (int32_t s = 0; s < 17; ++s) {
        const SearchResults alone = searched(table, options, {names[s]}, {lengths[s]});
        CHECK(same_bits(together.sentence(s), alone.sentence(0)));
      }
    }
  }
}

void test_result_does_not_depend_on_batch_or_the_search_before_under_any_rule() {
  Search search;
  SearchResults together;
  for (const SearchRules& rules : every_rule()) {
    for (const int32_t beam : {1, 2, 5}) {
      const Table table = {7, 11, beam == 2 ? 3 : 0};
      SearchOptions options = {1, {0, 3}, beam, beam, true};
      options.rules = rules;
      const std::vector<int32_t> names = {0, 5, 2, 3, 9, 4};
      const std::vector<int32_t> lengths = {1, 8, 13, 2, 6, 8};
      FakeModel model(table, names);
      search.run(model, options, lengths, together);
      for (int32_t s = 0; s < 6; ++s) {
        const SearchResults alone = searched(table, options, {names[s]}, {lengths[s]});
        CHECK(!alone.sentence(0).empty());
        CHECK(same_bits(together.sentence(s), alone.sentence(0)));
      }
    }
  }
}

void test_second_run_does_not_allocate_under_any_rule() {
  for (const SearchRules& rules : every_rule()) {
    const Table table = {5, 40};
    SearchOptions options = {1, {3}, 5, 5, true};
    options.rules = rules;
    FakeModel model(table, {0, 1, 2});
    const std::vector<int32_t> lengths = {9, 30, 17};
    Search search;
    SearchResults results;
    search.run(model, options, lengths, results);
    const long before = allocations;
    search.run(model, options, lengths, results);
    CHECK(allocations == before);
  }
}

// Constraints, samples, groups and coverage, in names that tables of 40 ids have.
std::vector<SearchRules> option_rules() {
  const auto loop = std::make_shared<Automaton>();
  loop->begins = {0, 3, 5};
  loop->tokens = {1, 4, 5, 2, 6};
  loop->targets = {1, 0, 1, 0, 1};
  loop->final = {1, 0};
  Constraints some;
  some.prefix = {4, 5};
  some.suppressed = {6, 7};
  some.repetition_penalty = 1.5F;
  some.no_repeat_ngram_size = 2;
  Constraints walk;
  walk.automaton = loop;
  walk.end = std::vector<int32_t>{9};
  Constraints called;
  called.continuations = [](std::span<const int32_t> ids, std::vector<int32_t>& allowed) {
    for (int32_t id = 0; id < 40; ++id)
      if ((static_cast<size_t>(id) + ids.size()) % 3 != 0) allowed.push_back(id);
  };
  std::vector<SearchRules> rules(7);
  rules[0].constraints = std::make_shared<Constraints>(some);
  rules[1].constraints = std::make_shared<Constraints>(walk);
  rules[2].constraints = std::make_shared<Constraints>(called);
  rules[3].sampling = {true, 1.5, 7, 0.8, 99};
  rules[4].groups = 3;
  rules[4].diversity = 0.5;
  rules[5].coverage = 0.3;
  rules[6].constraints = rules[0].constraints;
  rules[6].sampling = {true, 1.0, 0, 1.0, 5};
  return rules;
}

SearchOptions with_rules(const SearchRules& rules, int32_t places) {
  const bool walks = rules.constraints != nullptr && rules.constraints->end.has_value();
  SearchOptions options = {1, {walks ? 9 : 3}, rules.sampling.on ? 1 : places, places, true};
  options.rules = rules;
  return options;
}

void test_options_neither_depend_on_batch_nor_allocate_twice() {
  const Table table = {11, 40};
  const std::vector<int32_t> names = {0, 5, 2, 3, 9, 4};
  const std::vector<int32_t> lengths = {3, 8, 13, 4, 6, 8};
  for (const SearchRules& rules : option_rules()) {
    const SearchOptions options = with_rules(rules, 6);
    FakeModel model(table, names);
    Search search;
    SearchResults together;
    search.run(model, options, lengths, together);
    const long before = allocations;
    search.run(model, options, lengths, together);
    CHECK(allocations == before);
    for (int32_t s = 0; s < 6; ++s) {
      const SearchResults alone = searched(table, options, {names[s]}, {lengths[s]});
      CHECK(!alone.sentence(0).empty());
      CHECK(same_bits(together.sentence(s), alone.sentence(0)));
    }
  }
}

void test_what_constraints_say_holds() {
  const std::vector<SearchRules> rules = option_rules();
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const Table table = {seed, 40};
    const SearchResults some = searched(table, with_rules(rules[0], 6), {0}, {12});
    for (const Hypothesis& h : some.sentence(0)) {
      CHECK(h.ids.size() >= 2 && h.ids[0] == 4 && h.ids[1] == 5);
      for (size_t i = 0; i < h.ids.size(); ++i) {
        CHECK(h.ids[i] != 6 && h.ids[i] != 7);
        for (size_t j = 0; j + 1 < i; ++j)
          CHECK(i + 1 >= h.ids.size() || h.ids[i] != h.ids[j] || h.ids[i + 1] != h.ids[j + 1]);
      }
    }
    const Automaton& automaton = *rules[1].constraints->automaton;
    const SearchResults walks = searched(table, with_rules(rules[1], 6), {0}, {12});
    for (const Hypothesis& h : walks.sentence(0)) {
      int32_t state = automaton.start;
      for (const int32_t id : h.ids) state = automaton.next(state, id);
      CHECK(state != Automaton::kNowhere);
      CHECK(h.reason == FinishReason::length || automaton.may_end(state));
    }
    const SearchResults called = searched(table, with_rules(rules[2], 6), {0}, {12});
    for (const Hypothesis& h : called.sentence(0))
      for (size_t i = 0; i < h.ids.size(); ++i) CHECK((static_cast<size_t>(h.ids[i]) + i) % 3 != 0);
  }
}

void test_dead_ends_leave_the_search_usable() {
  const Table table = {1, 40};
  FakeModel model(table, {0, 1});
  Search search;
  SearchResults results;
  SearchRules rules;
  Constraints none;
  none.continuations = [](std::span<const int32_t> ids, std::vector<int32_t>& allowed) {
    if (ids.size() < 2) allowed = {5, 6};
  };
  rules.constraints = std::make_shared<Constraints>(none);
  bool threw = false;
  try {
    search.run(model, with_rules(rules, 3), std::vector<int32_t>{9, 9}, results);
  } catch (const Error& error) {
    threw = error.kind() == ErrorKind::input;
  }
  CHECK(threw && results.size() == 0);
  const SearchOptions plain = with_rules({}, 3);
  search.run(model, plain, std::vector<int32_t>{9, 9}, results);
  const SearchResults expected = searched(table, plain, {0, 1}, {9, 9});
  for (int32_t s = 0; s < 2; ++s) CHECK(same_bits(expected.sentence(s), results.sentence(s)));
}

// Every length from `shortest` to `longest` at most, for log-probabilities that fall further.
void test_no_score_is_above_the_reachable_one() {
  using Kind = LengthPenalty::Kind;
  for (const Kind kind : {Kind::none, Kind::power, Kind::gnmt}) {
    for (const double alpha : {-2.0, -0.3, 0.0, 0.3, 1.0, 2.0}) {
      const LengthPenalty penalty = {kind, alpha};
      for (int32_t shortest = 1; shortest < 20; ++shortest) {
        for (int32_t longest = shortest; longest < 30; ++longest) {
          const double most = penalty.reachable(-3.7, shortest, longest);
          double best = -static_cast<double>(kInfinity);
          for (int32_t n = shortest; n <= longest; ++n) {
            best = std::max(best, penalty.score(-3.7, n));
            CHECK(penalty.score(-3.8, n) < most);
          }
          CHECK(best == most);
        }
      }
    }
  }
}

void test_score_equals_run_for_the_same_ids() {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const bool has_end = seed % 4 != 0;
    const Table table = {seed, 9};
    SearchOptions options = {1, {}, 3, 2, seed % 2 == 0};
    options.rules.penalty.alpha = 0.25 * static_cast<double>(seed % 5);
    if (has_end) options.end = {2};
    const std::vector<int32_t> names = {4, 1, 8, 3};
    const std::vector<int32_t> lengths = {20, 3, 30, 7};
    const SearchResults found = searched(table, options, names, lengths);
    for (size_t n = 0; n < 2; ++n) {
      std::vector<std::span<const int32_t>> targets;
      for (int32_t s = 0; s < 4; ++s) targets.emplace_back(found.sentence(s)[n].ids);
      FakeModel model(table, names);
      Search search;
      SearchResults scored;
      search.score(model, options, targets, scored);
      for (int32_t s = 0; s < 4; ++s) {
        const Hypothesis& expected = found.sentence(s)[n];
        CHECK(scored.sentence(s).size() == 1);
        const Hypothesis& actual = scored.sentence(s)[0];
        if (!has_end || expected.reason == FinishReason::eos) {
          CHECK(same_bits(expected, actual));
        } else {  // a cut hypothesis: the end token comes on top
          const size_t cut = expected.token_log_probs.size();
          CHECK(actual.ids == expected.ids && actual.reason == FinishReason::eos);
          CHECK(actual.token_log_probs.size() == cut + 1);
          CHECK(std::equal(expected.token_log_probs.begin(), expected.token_log_probs.end(),
                           actual.token_log_probs.begin()));
          CHECK(actual.log_prob ==
                expected.log_prob + static_cast<double>(actual.token_log_probs.back()));
        }
      }
    }
  }
}

void test_score_of_empty_targets() {
  const Table table = {1, 9};
  const std::vector<int32_t> one = {5};
  const std::vector<std::span<const int32_t>> targets = {{}, one, {}};
  FakeModel model(table, {0, 1, 2});
  Search search;
  SearchResults results;
  search.score(model, {1, {}, 1, 1, true}, targets, results);
  CHECK(results.sentence(0)[0].token_log_probs.empty() && results.sentence(0)[0].log_prob == 0.0);
  CHECK(results.sentence(0)[0].alignment.empty());
  CHECK(results.sentence(1)[0].ids == one);
  search.score(model, {1, {3}, 1, 1, true}, targets, results);
  CHECK(results.sentence(2)[0].ids.empty() && results.sentence(2)[0].token_log_probs.size() == 1);
  search.run(model, {}, {}, results);
  CHECK(results.size() == 0);
}

void test_finished_sentences_leave_the_step() {
  const Table table = {1, 4, 1};  // all tie: greedy takes token 0
  FakeModel model(table, {0, 1});
  Search search;
  SearchResults results;
  search.run(model, {-1, {0}, 1, 1, false}, std::vector<int32_t>{100, 100}, results);
  CHECK(model.steps == 1);
  model.steps = 0;
  search.run(model, {-1, {3}, 1, 1, false}, std::vector<int32_t>{2, 7}, results);
  CHECK(model.steps == 7);
  model.steps = 0;
  search.run(model, {-1, {0}, 4, 1, false}, std::vector<int32_t>{100, 100}, results);
  CHECK(model.steps == 1);  // the finished one ties with the best live one
}

void test_search_can_be_used_after_a_model_threw() {
  const Table table = {3, 8};
  const SearchOptions options = {0, {1}, 4, 4, true};
  const std::vector<int32_t> lengths = {9, 9};
  const SearchResults expected = searched(table, options, {0, 1}, lengths);
  FakeModel model(table, {0, 1});
  Search search;
  SearchResults results;
  search.run(model, options, lengths, results);
  model.steps = 0;
  model.fail_at = 2;
  bool threw = false;
  try {
    search.run(model, options, lengths, results);
  } catch (const std::runtime_error&) {
    threw = true;
  }
  CHECK(threw && results.size() == 2 && results.sentence(0).empty());
  model.fail_at = -1;
  search.run(model, options, lengths, results);
  for (int32_t s = 0; s < 2; ++s) CHECK(same_bits(expected.sentence(s), results.sentence(s)));
}

void test_earlier_searches_leave_no_trace() {
  const Table table = {3, 8};
  FakeModel model(table, {0, 1});
  Search search;
  SearchResults results;
  for (const int32_t beam : {4, 1, 3, 2, 4}) {
    for (const bool alignment : {true, false}) {
      const SearchOptions options = {0, {1}, beam, beam, alignment};
      const std::vector<int32_t> lengths = {9, 2 * beam};
      const SearchResults expected = searched(table, options, {0, 1}, lengths);
      search.run(model, options, lengths, results);
      for (int32_t s = 0; s < 2; ++s) CHECK(same_bits(expected.sentence(s), results.sentence(s)));
    }
  }
}

void test_second_run_does_not_allocate() {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    for (const int32_t beam : {1, 2, 5}) {
      const Table table = {seed, 40};
      const SearchOptions options = {1, {3}, beam, beam, seed % 2 == 0};
      FakeModel model(table, {0, 1, 2, 3, 4});
      const std::vector<int32_t> lengths = {9, 30, 1, 17, 30};
      Search search;
      SearchResults results;
      search.run(model, options, lengths, results);
      const long before = allocations;
      search.run(model, options, lengths, results);
      CHECK(allocations == before);

      std::vector<std::vector<int32_t>> ids;
      for (int32_t s = 0; s < 5; ++s) ids.push_back(results.sentence(s)[0].ids);
      const std::vector<std::span<const int32_t>> targets(ids.begin(), ids.end());
      search.score(model, options, targets, results);
      const long after = allocations;
      search.score(model, options, targets, results);
      CHECK(allocations == after);
    }
  }
}

}  // namespace

int main() {
  test_beam_equals_enumeration_where_it_is_exhaustive();
  test_run_equals_reference_beam();
  test_greedy_takes_the_best_token_until_it_is_an_end();
  test_ties_go_to_lower_token_then_lower_parent();
  test_impossible_tokens_are_left_out_unless_nothing_else_exists();
  test_n_best_returns_n_where_n_exist();
  test_result_does_not_depend_on_batch();
  test_result_does_not_depend_on_batch_or_the_search_before_under_any_rule();
  test_second_run_does_not_allocate_under_any_rule();
  test_options_neither_depend_on_batch_nor_allocate_twice();
  test_what_constraints_say_holds();
  test_dead_ends_leave_the_search_usable();
  test_no_score_is_above_the_reachable_one();
  test_score_equals_run_for_the_same_ids();
  test_score_of_empty_targets();
  test_finished_sentences_leave_the_step();
  test_search_can_be_used_after_a_model_threw();
  test_earlier_searches_leave_no_trace();
  test_second_run_does_not_allocate();
  return counted();
}
