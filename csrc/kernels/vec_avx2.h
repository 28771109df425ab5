// The vector header for AVX2 with FMA: eight floats in a register.
// Included inside the anonymous namespace of avx2.cpp.
using V = __m256;
using M = __m256;  // all bits of a lane, or none

inline constexpr int kWidth = 8;       // floats in a register
inline constexpr int kRegisters = 16;  // what a tile may plan with

inline __m256i first(int64_t n) noexcept {  // the mask of lanes 0 ... n-1
  const int32_t count = n >= kWidth ? kWidth : n <= 0 ? 0 : int32_t(n);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline V zero() noexcept { return _mm256_setzero_ps(); }
inline V set(float x) noexcept { return _mm256_set1_ps(x); }
// A number of a formula, which stays an operand in memory: sixteen registers do not hold those of
// exp and tanh beside the data, and a compiler that moves them out of a loop puts them on the
// stack. The empty statement claims to change it, so that nothing is moved.
struct Constant {
  constexpr Constant(float x) noexcept : repeated{x, x, x, x, x, x, x, x} {}
  alignas(32) float repeated[kWidth];
};
using Bound = Constant;  // one that bounds a range
inline V set(Constant& x) noexcept {
  asm("" : "+m"(x));
  return _mm256_load_ps(x.repeated);
}
inline V load(const float* p) noexcept { return _mm256_loadu_ps(p); }
inline void store(float* p, V v) noexcept { _mm256_storeu_ps(p, v); }
// The first n floats at p, `fill` in the other lanes; nothing else is read.
inline V load_part(const float* p, int64_t n, V fill) noexcept {
  const __m256i mask = first(n);
  return _mm256_blendv_ps(fill, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
}
// Plain stores: the masked store is microcoded on some processors.
inline void store_part(float* p, V v, int64_t n) noexcept {
  if (n >= kWidth) return _mm256_storeu_ps(p, v);
  if (n <= 0) return;
  __m128 half = _mm256_castps256_ps128(v);
  if ((n & 4) != 0) {
    _mm_storeu_ps(p, half);
    half = _mm256_extractf128_ps(v, 1);
    p += 4;
  }
  if ((n & 2) != 0) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), half);
    half = _mm_movehl_ps(half, half);
    p += 2;
  }
  if ((n & 1) != 0) _mm_store_ss(p, half);
}

// Words 0, 2, 4, ... and 1, 3, 5, ... of 2 * kWidth bfloat16 words, widened.
inline V widen_even(const uint16_t* p) noexcept {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}
inline V widen_odd(const uint16_t* p) noexcept {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(int(0xFFFF0000))));
}

inline V add(V a, V b) noexcept { return _mm256_add_ps(a, b); }
inline V sub(V a, V b) noexcept { return _mm256_sub_ps(a, b); }
inline V mul(V a, V b) noexcept { return _mm256_mul_ps(a, b); }
inline V div(V a, V b) noexcept { return _mm256_div_ps(a, b); }
inline V fma(V a, V b, V c) noexcept { return _mm256_fmadd_ps(a, b, c); }
// a > b ? a : b, so b where one of them is NaN or both are zeros.
inline V max(V a, V b) noexcept { return _mm256_max_ps(a, b); }
// a < b ? a : b, so b where one of them is NaN or both are zeros.
inline V min(V a, V b) noexcept { return _mm256_min_ps(a, b); }
inline V abs(V a) noexcept { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), a); }
inline V negate(V a) noexcept { return _mm256_xor_ps(_mm256_set1_ps(-0.0F), a); }
// |magnitude| with the sign of `sign`, for magnitude >= 0.
inline V with_sign(V magnitude, V sign) noexcept {
  return _mm256_or_ps(magnitude, _mm256_and_ps(_mm256_set1_ps(-0.0F), sign));
}
// Adds the low nine bits of t, a signed number, to the exponent of v.
inline V add_exponent(V v, V t) noexcept {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}

inline M less(V a, V b) noexcept { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
inline M either(M a, M b) noexcept { return _mm256_or_ps(a, b); }
inline uint32_t bits(M m) noexcept { return uint32_t(_mm256_movemask_ps(m)); }
inline V select(M m, V yes, V no) noexcept { return _mm256_blendv_ps(no, yes, m); }

// Folds the lanes of one register: i with i+4, then +2, +1.
inline float reduce_add(V v) noexcept {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
inline float reduce_max(V v) noexcept {
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

// Integers: eight of 32 bits, or four bytes for each of eight outputs. A type of lanes of 32 bits,
// unlike __m256i: gcc 12 keeps sums that change between the two types twice, and spills.
using I = int32_t __attribute__((vector_size(32)));

inline I zero_ints() noexcept { return I{}; }
inline I load(const int32_t* p) noexcept {
  return I(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline I load_bytes(const int8_t* p) noexcept {
  return I(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline V to_floats(I v) noexcept { return _mm256_cvtepi32_ps(__m256i(v)); }
inline I add(I a, I b) noexcept { return a + b; }
// The bits of |v|.
inline I magnitude(V v) noexcept { return I(v) & 0x7FFFFFFF; }
inline I max(I a, I b) noexcept { return a > b ? a : b; }
inline int32_t reduce_max(I v) noexcept {
  const auto a = __m256i(v);
  const __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i c = _mm_max_epi32(b, _mm_unpackhi_epi64(b, b));
  return _mm_cvtsi128_si32(_mm_max_epi32(c, _mm_shuffle_epi32(c, 1)));
}
// The lowest byte of each lane.
inline void store_low_bytes(uint8_t* p, V v) noexcept {
  const __m256i bytes = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0xFF));
  const __m128i words =
      _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}

inline constexpr int kByteOffset = 0;  // what is added to the bytes of inputs

// Four bytes of an input, repeated, and their magnitudes.
struct Four {
  __m256i value, magnitude;
};
inline Four four(const uint8_t* p) noexcept {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  const __m256i x = _mm256_set1_epi32(word);
  return {x, _mm256_abs_epi8(x)};
}
// Exact: |x|, |w| <= 127, a pair's sum is at most 32258 < 2^15, so that nothing saturates.
inline I dot(I w, Four x, I sum) noexcept {
  const __m256i pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_sign_epi8(__m256i(w), x.value));
  return sum + I(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
