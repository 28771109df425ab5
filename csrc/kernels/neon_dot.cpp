// Compiled for Armv8.2-A with the dot product; includes no C++ standard header, on purpose: an
// inline function compiled for this level must not be what the linker picks for every caller.
#include <arm_neon.h>
#include <stdint.h>

#include "kernels.h"

namespace s2s {
namespace {

// clang-format off
#include "vec_neon.h"
#include "dot_neon_dot.h"
// clang-format on

#include "table.inl"

}  // namespace

extern const Kernels kNeonDot;
const Kernels kNeonDot = make_table("neon_dot");

}  // namespace s2s
