// Numbers of threads, for Python: what a process may use. Starts none.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "core/cpus.h"

namespace s2s {

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

}  // namespace s2s
