// What lives longer than a call: batches that sentences join and leave, states of a decode by hand.
#pragma once

#include <pybind11/pybind11.h>

namespace s2s::python {

void add_pipeline(pybind11::module_& module);

}  // namespace s2s::python
