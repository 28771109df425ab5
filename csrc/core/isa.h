// Which kernel tables this machine can run, and the one a session is to use.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace s2s {

// Names of the runnable instruction sets, slowest first.
std::vector<std::string> available_isas();

// The table of a name; an empty name means S2S_ISA, or the fastest where that is not set.
// Throws Error(unsupported_isa) listing what is available: never a fallback.
const Kernels& kernels_for(const std::string& name);

}  // namespace s2s
