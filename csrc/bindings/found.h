// What a decode gives to Python: numbers as the core left them, made into lists when they are read.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/watch.h"

namespace s2s::python {

// (ids, token_log_probs, log_prob, score, reason, alignment or None); an alignment is
// (target, source), or (heads, target, source).
inline const char* word_of(FinishReason reason, Stopped stopped) {
  if (reason == FinishReason::interrupted) return word_of(stopped);
  return reason == FinishReason::eos ? "eos" : "length";
}

inline py::tuple hypothesis_tuple(const Hypothesis& h, int64_t heads,
                                  Stopped stopped = Stopped::no) {
  py::object alignment = py::none();
  const auto steps = static_cast<py::ssize_t>(h.token_log_probs.size());
  constexpr py::ssize_t kRest = -1;
  if (!h.alignment.empty()) {
    auto packed = array_of(h.alignment);
    alignment = heads == 1 ? py::object(packed.reshape({steps, kRest}))
                           : py::object(packed.reshape({steps, kRest, py::ssize_t{heads}})
                                            .attr("transpose")(2, 0, 1)
                                            .attr("copy")());
  }
  return py::make_tuple(py::cast(h.ids), array_of(h.token_log_probs), h.log_prob, h.score,
                        word_of(h.reason, stopped), alignment);
}

class Found {
 public:
  Found(std::span<const Hypothesis> hypotheses, const Session& session, Stopped stopped,
        std::vector<int32_t> source = {})
      : hypotheses_(hypotheses.begin(), hypotheses.end()),
        source_(std::move(source)),
        heads_(session.model().plan().alignment.type.size),
        stopped_(stopped) {}

  py::list hypotheses() const {
    py::list out;
    for (const Hypothesis& h : hypotheses_) out.append(hypothesis_tuple(h, heads_, stopped_));
    return out;
  }
  py::object ids() const { return py::cast(hypotheses_.at(0).ids); }
  py::object source() const { return py::cast(source_); }
  py::object stopped() const {
    return stopped_ == Stopped::no ? py::object(py::none()) : py::str(word_of(stopped_));
  }

 private:
  std::vector<Hypothesis> hypotheses_;
  std::vector<int32_t> source_;
  int64_t heads_;
  Stopped stopped_;
};

}  // namespace s2s::python
