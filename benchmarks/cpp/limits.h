// What this machine can do at best, measured: reading a working set again and again, and adding
// products. Knows registers and a clock; nothing of kernels.
#pragma once

#include <cstdint>

namespace s2s::bench {

// Ways to read, of which another one is the fastest from each cache.
inline constexpr int kWays = 4;

// Reads `bytes` (a multiple of 1024) once; returns what keeps it from being left out.
float read_all(int way, const float* data, int64_t bytes) noexcept;

// Makes `count` dependent rounds of multiply-adds; returns how many floating-point operations that
// were, an fma being two.
int64_t multiply_add(int64_t count, float* keep) noexcept;

// The same of 8-bit products, exact, with sums of four in 32 bits; 0 where nobody has written how.
int64_t dot_bytes(int64_t count, float* keep) noexcept;

}  // namespace s2s::bench
