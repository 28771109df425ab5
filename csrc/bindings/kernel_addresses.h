// Where the kernels that a session runs lie in memory, for the test that disassembles them. Calls
// none of them.
#pragma once

#include <cstdint>
#include <vector>

#include "bindings/library.h"

namespace s2s::python {

inline std::vector<std::uintptr_t> kernel_addresses(const Session& session) {
  const Kernels& k = session.kernels();
  const auto address = [](auto* function) { return reinterpret_cast<std::uintptr_t>(function); };
  return {address(k.linear),     address(k.copy),      address(k.binary),    address(k.interpolate),
          address(k.quantise),   address(k.map),       address(k.softmax),   address(k.pool),
          address(k.lstm_gates), address(k.gru_gates), address(k.gru_reset), address(k.attention),
          address(k.normaliser), address(k.top_k),     address(k.enclose)};
}

}  // namespace s2s::python
