// The one exception of the core; bindings turn its kind into the Python class of the same name.
#pragma once

#include <stdexcept>
#include <string>

namespace s2s {

enum class ErrorKind { model_format, input, input_too_long, numerical, busy, unsupported_isa };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace s2s
