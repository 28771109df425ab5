#include "limits.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace s2s::bench {
namespace {

constexpr int kChains = 16;  // enough to hide the latency of an fma on two ports

#if defined(__x86_64__)
// Adding has the throughput of loading on the CPUs at hand, and four chains a port hide its
// latency.
[[gnu::target("avx2,fma")]] float read_256(const float* data, int64_t count) noexcept {
  __m256 sum[8] = {};
  for (int64_t i = 0; i < count; i += 64)
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) sum[j] = _mm256_add_ps(sum[j], _mm256_loadu_ps(data + i + j * 8));
  for (int j = 1; j < 8; ++j) sum[0] = _mm256_add_ps(sum[0], sum[j]);
  return _mm256_cvtss_f32(sum[0]);
}

// `Streams` at once: more requests in flight than one stream has, which memory may reward; a hint
// some lines ahead may do the same.
template <int Streams, bool Hint>
[[gnu::target("avx512f")]] float read_streams_512(const float* data, int64_t count) noexcept {
  __m512 sum[8] = {};
  const int64_t part = count / Streams;
  constexpr int wide = 8 / Streams;
  for (int64_t i = 0; i < part; i += 16 * wide)
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const float* at = data + j / wide * part + i + j % wide * 16;
      if (Hint) __builtin_prefetch(at + 1024, 0, 3);
      sum[j] = _mm512_add_ps(sum[j], _mm512_loadu_ps(at));
    }
  for (int j = 1; j < 8; ++j) sum[0] = _mm512_add_ps(sum[0], sum[j]);
  return _mm512_cvtss_f32(sum[0]);
}

[[gnu::target("avx512f")]] int64_t fma_512(int64_t count, float* keep) noexcept {
  __m512 sum[kChains];
  for (int j = 0; j < kChains; ++j) sum[j] = _mm512_set1_ps(*keep + static_cast<float>(j));
  const __m512 a = _mm512_set1_ps(0.5F), b = _mm512_set1_ps(1.0F);
  for (int64_t i = 0; i < count; ++i)
#pragma GCC unroll 16
    for (__m512& one : sum) one = _mm512_fmadd_ps(one, a, b);
  for (const __m512& one : sum) *keep += _mm512_cvtss_f32(one);
  return count * kChains * 16 * 2;
}

[[gnu::target("avx2,fma")]] int64_t fma_256(int64_t count, float* keep) noexcept {
  __m256 sum[12];
  for (int j = 0; j < 12; ++j) sum[j] = _mm256_set1_ps(*keep + static_cast<float>(j));
  const __m256 a = _mm256_set1_ps(0.5F), b = _mm256_set1_ps(1.0F);
  for (int64_t i = 0; i < count; ++i)
#pragma GCC unroll 12
    for (__m256& one : sum) one = _mm256_fmadd_ps(one, a, b);
  for (const __m256& one : sum) *keep += _mm256_cvtss_f32(one);
  return count * 12 * 8 * 2;
}

[[gnu::target("avx512f,avx512vnni")]] int64_t vnni_512(int64_t count, float* keep) noexcept {
  __m512i sum[kChains];  // none begins like another: the compiler makes one of those that do
  for (int j = 0; j < kChains; ++j) sum[j] = _mm512_set1_epi32(static_cast<int>(*keep) + j);
  const __m512i a = _mm512_set1_epi8(static_cast<char>(*keep)), b = _mm512_set1_epi8(3);
  for (int64_t i = 0; i < count; ++i)
#pragma GCC unroll 16
    for (__m512i& one : sum) one = _mm512_dpbusd_epi32(one, a, b);
  for (const __m512i& one : sum) *keep += static_cast<float>(_mm512_cvtsi512_si32(one));
  return count * kChains * 64 * 2;
}

// The same of signed bytes on AVX2, as exact code has to do it: pairs in 16 bits, then fours in 32.
[[gnu::target("avx2")]] int64_t madd_256(int64_t count, float* keep) noexcept {
  constexpr int chains = 8;
  __m256i sum[chains];
  for (int j = 0; j < chains; ++j) sum[j] = _mm256_set1_epi32(j);
  __m256i a = _mm256_set1_epi8(static_cast<char>(*keep));
  const __m256i b = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 8
    for (__m256i& one : sum) {
      __asm__ volatile("" : "+x"(a));  // no product is like the one before
      one = _mm256_add_epi32(one, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
  for (const __m256i& one : sum) *keep += static_cast<float>(_mm256_extract_epi32(one, 0));
  return count * chains * 32 * 2;
}

bool has_avx512() noexcept { return __builtin_cpu_supports("avx512f"); }
bool has_avx2() noexcept { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

float read_plain(const float* data, int64_t count) noexcept {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += data[i];
  return sum;
}

int64_t fma_plain(int64_t count, float* keep) noexcept {
  float sum[kChains];
  for (float& one : sum) one = *keep;
  for (int64_t i = 0; i < count; ++i)
    for (float& one : sum) one = one * 0.5F + 1.0F;
  for (const float one : sum) *keep += one;
  return count * kChains * 2;
}

}  // namespace

float read_all(int way, const float* data, int64_t bytes) noexcept {
  const int64_t count = bytes / 4;
#if defined(__x86_64__)
  if (has_avx512()) {
    if (way == 0) return read_streams_512<1, false>(data, count);
    if (way == 1) return read_streams_512<1, true>(data, count);
    return way == 2 ? read_streams_512<4, false>(data, count)
                    : read_streams_512<8, true>(data, count);
  }
  if (has_avx2()) return read_256(data, count);
#endif
  static_cast<void>(way);
  return read_plain(data, count);
}

int64_t multiply_add(int64_t count, float* keep) noexcept {
#if defined(__x86_64__)
  if (has_avx512()) return fma_512(count, keep);
  if (has_avx2()) return fma_256(count, keep);
#endif
  return fma_plain(count, keep);
}

int64_t dot_bytes(int64_t count, float* keep) noexcept {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni")) return vnni_512(count, keep);
  if (has_avx2()) return madd_256(count, keep);
#endif
  static_cast<void>(count);
  static_cast<void>(keep);
  return 0;
}

}  // namespace s2s::bench
