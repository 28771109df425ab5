// The rules of a search by the names that Python gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "bindings/library.h"
#include "core/errors.h"

namespace s2s::python {

[[noreturn]] inline void refuse(const std::string& what) { throw Error(ErrorKind::input, what); }

// The ranges that Python's options keep, for callers that do not come through them.
inline void check_whole(const char* name, int64_t value, int64_t high) {
  if (value < 1 || value > high)
    refuse(std::string(name) + " is " + std::to_string(value) + ", must be 1 to " +
           std::to_string(high));
}

template <typename Word>
struct Named {
  const char* name;
  Word value;
};

template <typename Word, std::size_t N>
Word word_of(const char* what, const std::string& given, const Named<Word> (&words)[N]) {
  std::string known;
  for (const Named<Word>& word : words) {
    if (given == word.name) return word.value;
    known += (known.empty() ? "" : ", ") + std::string(word.name);
  }
  refuse(std::string(what) + " is '" + given + "', must be one of " + known);
}

// temperature, topk (0: all), topp, seed
using SamplingRule = std::tuple<double, int32_t, double, uint64_t>;

inline Sampling make_sampling(const SamplingRule& given) {
  const auto [temperature, topk, topp, seed] = given;
  if (!(temperature >= 1e-3 && temperature <= 1e3) || topk < 0 || !(topp > 0.0 && topp <= 1.0))
    refuse("sampling needs a temperature of 0.001 to 1000, topk of at least 0 and topp of 0 to 1");
  return {true, temperature, topk, topp, seed};
}

inline SearchRules make_rules(const std::string& ended, const std::string& stop,
                              const std::string& limit, int32_t finished_limit, int32_t min_length,
                              double length_penalty, const std::string& length_penalty_kind,
                              int32_t length_penalty_offset, double coverage_penalty,
                              int32_t beam_groups, double diversity_penalty,
                              const std::optional<SamplingRule>& sampling,
                              std::shared_ptr<Constraints> constraints, int64_t max_nodes) {
  using Kind = LengthPenalty::Kind;
  SearchRules rules;
  rules.ended = word_of<Ended>("ended", ended,
                               {{"leave", Ended::leave},
                                {"leading", Ended::leading},
                                {"place", Ended::place},
                                {"shrink", Ended::shrink},
                                {"stay", Ended::stay},
                                {"expand", Ended::expand}});
  rules.stop = word_of<Stop>("stop", stop,
                             {{"best", Stop::best},
                              {"count", Stop::count},
                              {"top", Stop::top},
                              {"both", Stop::both},
                              {"head", Stop::head},
                              {"first", Stop::first},
                              {"places", Stop::places},
                              {"empty", Stop::empty}});
  rules.limit = word_of<Limit>("limit", limit,
                               {{"compete", Limit::compete},
                                {"fill", Limit::fill},
                                {"end", Limit::end},
                                {"done", Limit::done},
                                {"again", Limit::again},
                                {"closed", Limit::closed}});
  rules.penalty.kind =
      word_of<Kind>("length_penalty_kind", length_penalty_kind,
                    {{"none", Kind::none}, {"power", Kind::power}, {"gnmt", Kind::gnmt}});
  if (!(length_penalty >= -10.0 && length_penalty <= 10.0))
    refuse("length_penalty is " + std::to_string(length_penalty) + ", must be -10 to 10");
  rules.penalty.alpha = length_penalty;
  if (length_penalty_offset < 0 || length_penalty_offset > 1000)
    refuse("length_penalty_offset is " + std::to_string(length_penalty_offset) +
           ", must be 0 to 1000");
  rules.penalty.offset = length_penalty_offset;
  rules.finished_limit = finished_limit;
  rules.min_length = min_length;
  if (!(coverage_penalty >= 0.0 && coverage_penalty <= 10.0) || beam_groups < 1 ||
      !(diversity_penalty >= 0.0 && diversity_penalty <= 1e6))
    refuse("coverage_penalty, beam_groups or diversity_penalty is out of range");
  rules.coverage = coverage_penalty;
  rules.groups = beam_groups;
  rules.diversity = diversity_penalty;
  if (sampling) rules.sampling = make_sampling(*sampling);
  rules.constraints = std::move(constraints);
  rules.exact = max_nodes > 0;
  rules.max_nodes = max_nodes;
  if (rules.exact &&
      (rules.ended != Ended::leave || rules.stop != Stop::best || rules.limit != Limit::compete ||
       length_penalty != 0.0 || coverage_penalty != 0.0 || beam_groups > 1 || sampling))
    refuse("an exact search goes with leave, best and compete, and without penalties and samples");
  return rules;
}

}  // namespace s2s::python
