// The core's errors as Python's.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>

#include "core/errors.h"

namespace s2s::python {

inline const char* python_class(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::model_format: return "ModelFormatError";
    case ErrorKind::input: return "InputError";
    case ErrorKind::input_too_long: return "InputTooLongError";
    case ErrorKind::numerical: return "NumericalError";
    case ErrorKind::busy: return "EngineBusy";
    case ErrorKind::unsupported_isa: return "UnsupportedIsaError";
  }
  return "S2SError";
}

// The Python exception that stands for one of the core's.
inline pybind11::object python_error(const Error& error) {
  const auto classes = pybind11::module_::import("s2s_engine.errors");
  return classes.attr(python_class(error.kind()))(error.what());
}

}  // namespace s2s::python
