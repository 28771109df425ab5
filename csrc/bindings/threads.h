// Numbers of threads, for Python: what a session may use, and what a process may. Starts none.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "bindings/library.h"
#include "bindings/rules.h"

namespace s2s::python {

inline constexpr int64_t kMaxThreads = 1024;

inline std::unique_ptr<Session> make_session(std::shared_ptr<const Model> model,
                                             const std::string& isa, int threads,
                                             int64_t member_bytes,
                                             std::optional<int64_t> max_bytes) {
  check_whole("threads", threads, kMaxThreads);
  check_whole("member_bytes", member_bytes, int64_t{1} << 40);
  return std::make_unique<Session>(std::move(model), isa, threads, member_bytes,
                                   max_bytes.value_or(Workspace::kMaxBytes));
}

inline void set_threads(Session& session, int threads) {
  check_whole("threads", threads, kMaxThreads);
  session.set_threads(threads);
}

inline void bind_threads(pybind11::module_& module) {
  namespace py = pybind11;
  module.def("usable_cpus", &usable_cpus);
  module.def("assume_cpus", &assume_cpus, py::arg("count"));
  module.def("group_quota", &group_quota, py::arg("groups"), py::arg("mount"));
  module.def(
      "usable",
      [](int allowed, double quota, int thread_limit) {
        return usable({allowed, quota, thread_limit});
      },
      py::arg("allowed"), py::arg("quota"), py::arg("thread_limit"));
}

}  // namespace s2s::python
