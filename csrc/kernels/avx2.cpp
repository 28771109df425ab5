// Compiled with -mavx2 -mfma -mf16c; includes no C++ standard header, on purpose: an inline
// function compiled for this level must not be what the linker picks for every caller.
#include <immintrin.h>
#include <stdint.h>

#include "kernels.h"

namespace s2s {
namespace {

#include "table.inl"
#include "vec_avx2.h"

}  // namespace

extern const Kernels kAvx2;
const Kernels kAvx2 = make_table("avx2");

}  // namespace s2s
