// Compiled for Armv8-A; includes no C++ standard header, on purpose: an inline function
// compiled for this level must not be what the linker picks for every caller.
#include <arm_neon.h>
#include <stdint.h>

#include "kernels.h"

namespace s2s {
namespace {

// clang-format off
#include "vec_neon.h"
#include "dot_neon.h"
// clang-format on

#include "table.inl"

}  // namespace

extern const Kernels kNeon;
const Kernels kNeon = make_table("neon");

}  // namespace s2s
