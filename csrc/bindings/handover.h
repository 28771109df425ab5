// An engine that leaves Python: a capsule that counts it, for callers of the C interface.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/rules.h"

namespace s2s::python {

inline constexpr const char* kCapsule = "s2s_engine.engine";

inline pybind11::capsule hand_over(std::shared_ptr<Model> model, const std::string& isa,
                                   int threads, int64_t max_bytes, int64_t max_input_length,
                                   const DecodeRequest& request,
                                   const std::array<int, 4>& max_length, double timeout,
                                   SourceRule rule) {
  const auto [numerator, denominator, addend, most] = max_length;
  check_whole("max_length's numerator", numerator + int64_t{1}, 1'000'001);
  check_whole("max_length's denominator", denominator, 1'000'000);
  check_whole("max_length's addend", addend + int64_t{1}, 1'000'001);
  check_whole("max_length's most", most, 1'000'000);
  s2s_engine* const engine = library().hand_over({std::move(model),
                                                  isa,
                                                  threads,
                                                  max_bytes,
                                                  max_input_length,
                                                  std::move(rule),
                                                  {numerator, denominator, addend, most},
                                                  request,
                                                  timeout});
  return pybind11::capsule(engine, kCapsule, [](PyObject* capsule) {
    s2s_engine_release(static_cast<s2s_engine*>(PyCapsule_GetPointer(capsule, kCapsule)));
  });
}

inline void bind_handover(pybind11::module_& module) {
  namespace py = pybind11;
  py::class_<SourceRule>(module, "SourceRule")
      .def(py::init([](std::vector<int32_t> prepend, std::vector<int32_t> append, int64_t truncate,
                       std::vector<int64_t> pad_to, bool pad_left, int32_t pad_id, bool reverse) {
             return SourceRule{std::move(prepend),
                               std::move(append),
                               truncate,
                               std::move(pad_to),
                               pad_left,
                               pad_id,
                               reverse};
           }),
           py::kw_only(), py::arg("prepend"), py::arg("append"), py::arg("truncate"),
           py::arg("pad_to"), py::arg("pad_left"), py::arg("pad_id"), py::arg("reverse"));
  module.def("hand_over", &hand_over, py::arg("model"), py::arg("isa"), py::arg("threads"),
             py::arg("max_bytes"), py::arg("max_input_length"), py::arg("request"),
             py::arg("max_length"), py::arg("timeout"), py::arg("rule"));
}

}  // namespace s2s::python
