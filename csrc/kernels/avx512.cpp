// Compiled for AVX-512 f, bw, cd, dq, vl; includes no C++ standard header, on purpose: an inline
// function compiled for this level must not be what the linker picks for every caller.
#include <immintrin.h>
#include <stdint.h>

#include "kernels.h"

namespace s2s {
namespace {

// clang-format off
#include "vec_avx512.h"
#include "dot_avx512.h"
// clang-format on

#include "table.inl"

}  // namespace

extern const Kernels kAvx512;
const Kernels kAvx512 = make_table("avx512");

}  // namespace s2s
