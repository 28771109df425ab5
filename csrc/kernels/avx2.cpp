// Compiled with -mavx2 -mfma -mf16c; includes no C++ standard header, on purpose: an inline
// function compiled for this level must not be what the linker picks for every caller.
#include <immintrin.h>
#include <stdint.h>

#include "kernels.h"

namespace s2s {
namespace {

#include "vec_avx2.h"

#include "table.inl"

}  // namespace

extern const Kernels kAvx2;
const Kernels kAvx2 = make_table("avx2");

}  // namespace s2s
