// Constraints of a search as Python gives them: checked here, and a caller's function called back.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/rules.h"

namespace s2s::python {

namespace py = pybind11;

using Ids = std::vector<int32_t>;
// begins, tokens, targets, final states, start: what Automaton holds.
using Arcs = std::tuple<Ids, Ids, Ids, std::vector<bool>, int32_t>;

inline std::shared_ptr<const Automaton> make_automaton(const Arcs& arcs) {
  const auto& [begins, tokens, targets, final, start] = arcs;
  const std::size_t states = final.size();
  const auto known = [&](int32_t state) {
    return state >= 0 && static_cast<std::size_t>(state) < states;
  };
  bool fits = begins.size() == states + 1 && begins.front() == 0 &&
              static_cast<std::size_t>(begins.back()) == tokens.size() &&
              tokens.size() == targets.size() && known(start);
  for (std::size_t s = 0; fits && s < states; ++s) {
    fits = begins[s] <= begins[s + 1];
    for (auto a = static_cast<std::size_t>(begins[s]);
         fits && a + 1 < static_cast<std::size_t>(begins[s + 1]); ++a)
      fits = tokens[a] < tokens[a + 1];
  }
  for (const int32_t target : targets) fits = fits && known(target);
  if (!fits) refuse("the arcs of an automaton are not in order");
  return std::make_shared<Automaton>(
      Automaton{begins, tokens, targets, {final.begin(), final.end()}, start});
}

// A function that is let go under the interpreter's lock, whoever does it last.
struct Held {
  explicit Held(py::function given) : function(std::move(given)) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    const py::gil_scoped_acquire lock;
    function = py::function();
  }
  py::object function;
};

// Search runs without the lock, and the function is called under it.
inline Continuations make_continuations(const py::function& given) {
  const auto held = std::make_shared<Held>(given);
  return [held](std::span<const int32_t> ids, Ids& allowed) {
    const py::gil_scoped_acquire lock;
    py::list so_far;
    for (const int32_t id : ids) so_far.append(id);
    const py::object answer = held->function(so_far);
    if (!py::isinstance<py::iterable>(answer) || py::isinstance<py::str>(answer))
      refuse("allowed_tokens gave " + py::repr(answer).cast<std::string>() +
             ", must give an iterable of ids");
    for (const py::handle id : answer) {
      const Py_ssize_t value = PyIndex_Check(id.ptr()) && !py::isinstance<py::bool_>(id)
                                   ? PyNumber_AsSsize_t(id.ptr(), nullptr)
                                   : -1;
      PyErr_Clear();
      if (value < 0 || value > INT32_MAX)
        refuse("allowed_tokens gave " + py::repr(id).cast<std::string>() +
               ", must give ids of the target vocabulary");
      allowed.push_back(static_cast<int32_t>(value));
    }
  };
}

inline std::shared_ptr<Constraints> make_constraints(
    Ids prefix, std::optional<Ids> end, Ids suppressed, float repetition_penalty,
    int32_t no_repeat_ngram_size, const std::optional<Arcs>& automaton,
    const std::optional<py::function>& continuations) {
  auto made = std::make_shared<Constraints>();
  made->prefix = std::move(prefix);
  made->end = std::move(end);
  made->suppressed = std::move(suppressed);
  if (!(repetition_penalty > 0.0F && repetition_penalty <= 10.0F))
    refuse("repetition_penalty is " + std::to_string(repetition_penalty) +
           ", must be above 0, at most 10");
  made->repetition_penalty = repetition_penalty;
  made->no_repeat_ngram_size = no_repeat_ngram_size;
  if (automaton) made->automaton = make_automaton(*automaton);
  if (continuations) made->continuations = make_continuations(*continuations);
  return made;
}

// The same, with another prefix; the automaton is shared.
inline std::shared_ptr<Constraints> with_prefix(const Constraints& given, Ids prefix) {
  auto made = std::make_shared<Constraints>(given);
  made->prefix = std::move(prefix);
  return made;
}

// For callers that do not come through Python's options.
inline void check_constraints(const SearchRules& rules, int64_t vocabulary) {
  if (rules.constraints == nullptr) return;
  const Constraints& given = *rules.constraints;
  const auto check = [vocabulary](const char* what, const Ids& ids) {
    for (const int32_t id : ids)
      if (id < 0 || id >= vocabulary)
        refuse(std::string(what) + ": " + std::to_string(id) + " is outside the vocabulary of " +
               std::to_string(vocabulary) + " ids");
  };
  check("prefix", given.prefix);
  check("suppress_tokens", given.suppressed);
  if (given.end) check("end_tokens", *given.end);
  if (given.automaton != nullptr) check("allowed_tokens", given.automaton->tokens);
}

}  // namespace s2s::python
