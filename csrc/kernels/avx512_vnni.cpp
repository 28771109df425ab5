// Compiled for AVX-512 f, bw, cd, dq, vl, vnni; includes no C++ standard header, on purpose: an
// inline function compiled for this level must not be what the linker picks for every caller.
#include <immintrin.h>
#include <stdint.h>

#include "kernels.h"

namespace s2s {
namespace {

// clang-format off
#include "vec_avx512.h"
#include "dot_vnni.h"
// clang-format on

#include "table.inl"

}  // namespace

extern const Kernels kAvx512Vnni;
const Kernels kAvx512Vnni = make_table("avx512_vnni");

}  // namespace s2s
