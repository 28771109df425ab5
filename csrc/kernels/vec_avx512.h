// The vector header for AVX-512 (f, bw, cd, dq, vl): sixteen floats in a register.
// Included inside the anonymous namespace of avx512.cpp.
using V = __m512;
using M = __mmask16;

inline constexpr int kWidth = 16;      // floats in a register
inline constexpr int kRegisters = 32;  // what a tile may plan with

// The zero-masking forms under a full mask: the compiler drops the mask, and gcc 12 warns of an
// uninitialised register in the plain ones.
inline constexpr M kAll = 0xFFFF;

inline M first(int64_t n) noexcept {  // the mask of lanes 0 ... n-1
  return n >= kWidth ? kAll : n <= 0 ? M(0) : M((1U << n) - 1U);
}

inline V zero() noexcept { return _mm512_setzero_ps(); }
inline V set(float x) noexcept { return _mm512_set1_ps(x); }
inline V load(const float* p) noexcept { return _mm512_loadu_ps(p); }
inline void store(float* p, V v) noexcept { _mm512_storeu_ps(p, v); }
// The first n floats at p, `fill` in the other lanes; nothing else is read.
inline V load_part(const float* p, int64_t n, V fill) noexcept {
  return _mm512_mask_loadu_ps(fill, first(n), p);
}
inline void store_part(float* p, V v, int64_t n) noexcept { _mm512_mask_storeu_ps(p, first(n), v); }

// Words 0, 2, 4, ... and 1, 3, 5, ... of 2 * kWidth bfloat16 words, widened.
inline V widen_even(const uint16_t* p) noexcept {
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, _mm512_loadu_si512(p), 16));
}
inline V widen_odd(const uint16_t* p) noexcept {
  const __m512i high = _mm512_set1_epi32(int(0xFFFF0000));
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), high));
}

inline V add(V a, V b) noexcept { return _mm512_add_ps(a, b); }
inline V sub(V a, V b) noexcept { return _mm512_sub_ps(a, b); }
inline V mul(V a, V b) noexcept { return _mm512_mul_ps(a, b); }
inline V div(V a, V b) noexcept { return _mm512_div_ps(a, b); }
inline V fma(V a, V b, V c) noexcept { return _mm512_fmadd_ps(a, b, c); }
// a > b ? a : b, so b where one of them is NaN or both are zeros.
inline V max(V a, V b) noexcept { return _mm512_maskz_max_ps(kAll, a, b); }
// a < b ? a : b, so b where one of them is NaN or both are zeros.
inline V min(V a, V b) noexcept { return _mm512_maskz_min_ps(kAll, a, b); }
inline V abs(V a) noexcept { return _mm512_andnot_ps(_mm512_set1_ps(-0.0F), a); }
inline V negate(V a) noexcept { return _mm512_xor_ps(_mm512_set1_ps(-0.0F), a); }
// |magnitude| with the sign of `sign`, for magnitude >= 0.
inline V with_sign(V magnitude, V sign) noexcept {
  return _mm512_or_ps(magnitude, _mm512_and_ps(_mm512_set1_ps(-0.0F), sign));
}
// Adds the low nine bits of t, a signed number, to the exponent of v.
inline V add_exponent(V v, V t) noexcept {
  const __m512i exponent = _mm512_maskz_slli_epi32(kAll, _mm512_castps_si512(t), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), exponent));
}

inline M less(V a, V b) noexcept { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline M either(M a, M b) noexcept { return M(a | b); }
inline uint32_t bits(M m) noexcept { return m; }
inline V select(M m, V yes, V no) noexcept { return _mm512_mask_blend_ps(m, no, yes); }

template <int half>
inline __m256 half_of(V v) noexcept {
  return _mm512_maskz_extractf32x8_ps(0xFF, v, half);
}

// Folds the lanes of one register: i with i+8, then +4, +2, +1.
inline float reduce_add(V v) noexcept {
  const __m256 a = _mm256_add_ps(half_of<0>(v), half_of<1>(v));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
inline float reduce_max(V v) noexcept {
  const __m256 a = _mm256_max_ps(half_of<0>(v), half_of<1>(v));
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

// Integers: sixteen of 32 bits, or four bytes for each of sixteen outputs. A type of lanes of 32
// bits, unlike __m512i: gcc 12 keeps sums that change between the two types twice, and spills.
using I = int32_t __attribute__((vector_size(64)));

inline I zero_ints() noexcept { return I{}; }
inline I load(const int32_t* p) noexcept { return I(_mm512_loadu_si512(p)); }
inline I load_bytes(const int8_t* p) noexcept { return I(_mm512_loadu_si512(p)); }
inline V to_floats(I v) noexcept { return _mm512_maskz_cvtepi32_ps(kAll, __m512i(v)); }
inline I add(I a, I b) noexcept {  // wraps around
  using Unsigned = uint32_t __attribute__((vector_size(64)));
  return I(Unsigned(a) + Unsigned(b));
}
// The bits of |v|.
inline I magnitude(V v) noexcept { return I(v) & 0x7FFFFFFF; }
inline I max(I a, I b) noexcept { return a > b ? a : b; }
inline int32_t reduce_max(I v) noexcept {
  const __m256i a = _mm256_max_epi32(_mm512_maskz_extracti32x8_epi32(0xFF, __m512i(v), 0),
                                     _mm512_maskz_extracti32x8_epi32(0xFF, __m512i(v), 1));
  const __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i c = _mm_max_epi32(b, _mm_unpackhi_epi64(b, b));
  return _mm_cvtsi128_si32(_mm_max_epi32(c, _mm_shuffle_epi32(c, 1)));
}
// The lowest byte of each lane.
inline void store_low_bytes(uint8_t* p, V v) noexcept {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_maskz_cvtepi32_epi8(kAll, _mm512_castps_si512(v)));
}
inline I repeat_four(const uint8_t* p) noexcept {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return I(_mm512_set1_epi32(word));
}
