// The vector header for any processor: four floats of the compiler's vector extension, and an fma
// emulated exactly. The slow reference level.
// Included inside the anonymous namespace of portable.cpp.
using V = float __attribute__((vector_size(16)));
using M = int32_t __attribute__((vector_size(16)));  // all bits of a lane, or none
using Bits = uint32_t __attribute__((vector_size(16)));
using Doubles = double __attribute__((vector_size(16)));
using DoubleBits = uint64_t __attribute__((vector_size(16)));

inline constexpr int kWidth = 4;       // floats in a register
inline constexpr int kRegisters = 16;  // what a tile may plan with

inline V zero() noexcept { return V{}; }
inline V set(float x) noexcept { return V{x, x, x, x}; }
using Constant = float;  // a number of a formula
using Bound = float;     // one that bounds a range
inline V load(const float* p) noexcept {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, V v) noexcept { __builtin_memcpy(p, &v, sizeof v); }
// The first n floats at p, `fill` in the other lanes; nothing else is read.
inline V load_part(const float* p, int64_t n, V fill) noexcept {
  if (n >= kWidth) return load(p);
  for (int64_t i = 0; i < n; ++i) fill[i] = p[i];
  return fill;
}
inline void store_part(float* p, V v, int64_t n) noexcept {
  if (n >= kWidth) return store(p, v);
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

// Words 0, 2, 4, ... and 1, 3, 5, ... of 2 * kWidth bfloat16 words, widened. Little-endian.
inline V widen_even(const uint16_t* p) noexcept {
  Bits words;
  __builtin_memcpy(&words, p, sizeof words);
  return V(words << 16);
}
inline V widen_odd(const uint16_t* p) noexcept {
  Bits words;
  __builtin_memcpy(&words, p, sizeof words);
  return V(words & 0xFFFF0000U);
}

inline V add(V a, V b) noexcept { return a + b; }
inline V sub(V a, V b) noexcept { return a - b; }
inline V mul(V a, V b) noexcept { return a * b; }
inline V div(V a, V b) noexcept { return a / b; }

inline Doubles widen(V v) noexcept { return Doubles{v[0], v[1]}; }
inline V swap_halves(V v) noexcept { return V{v[2], v[3], v[0], v[1]}; }

// a * b + c in doubles, rounded to odd. The product of two floats is exact in a double (48 bits,
// exponents far inside the range). The error of the sum is exact by Knuth's two-sum; where it is
// not zero and the sum's last bit is even, the odd neighbour on the error's side replaces it. A
// double rounded to odd keeps 53 >= 24 + 2 bits, so rounding it once more, to float, is the single
// rounding of fma (Boldo and Melquiond, 2008), for denormal results too. Infinities and NaN make
// the error NaN, which compares false and leaves the sum alone.
inline Doubles fma_to_odd(Doubles a, Doubles b, Doubles c) noexcept {
  const Doubles product = a * b;
  const Doubles sum = product + c;
  const Doubles back = sum - product;
  const Doubles error = (product - (sum - back)) + (c - back);
  const DoubleBits inexact = DoubleBits((error < 0.0) | (error > 0.0));
  const DoubleBits word = DoubleBits(sum);
  const DoubleBits even = (word & 1) - 1;                              // all bits, or none
  const DoubleBits step = 1 - 2 * ((word ^ DoubleBits(error)) >> 63);  // +1 away from zero, or -1
  return Doubles(word + (step & even & inexact));
}
// noinline: gcc 12 gives other bits for several inlined copies when it vectorises straight-line
// code (-fno-tree-slp-vectorize cures it, too).
[[gnu::noinline]] inline V fma(V a, V b, V c) noexcept {
  const Doubles low = fma_to_odd(widen(a), widen(b), widen(c));
  const Doubles high =
      fma_to_odd(widen(swap_halves(a)), widen(swap_halves(b)), widen(swap_halves(c)));
  return V{float(low[0]), float(low[1]), float(high[0]), float(high[1])};
}
// a > b ? a : b, so b where one of them is NaN or both are zeros.
inline V max(V a, V b) noexcept { return a > b ? a : b; }
// a < b ? a : b, so b where one of them is NaN or both are zeros.
inline V min(V a, V b) noexcept { return a < b ? a : b; }
inline V abs(V a) noexcept { return V(Bits(a) & 0x7FFFFFFFU); }
inline V negate(V a) noexcept { return V(Bits(a) ^ 0x80000000U); }
// |magnitude| with the sign of `sign`, for magnitude >= 0.
inline V with_sign(V magnitude, V sign) noexcept {
  return V(Bits(magnitude) | (Bits(sign) & 0x80000000U));
}
// Adds the low nine bits of t, a signed number, to the exponent of v.
inline V add_exponent(V v, V t) noexcept { return V(Bits(v) + (Bits(t) << 23)); }

inline M less(V a, V b) noexcept { return a < b; }
inline M either(M a, M b) noexcept { return a | b; }
inline uint32_t bits(M m) noexcept {
  return uint32_t((m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8));
}
inline V select(M m, V yes, V no) noexcept { return m ? yes : no; }

// Folds the lanes of one register: i with i+2, then +1.
inline float reduce_add(V v) noexcept { return (v[0] + v[2]) + (v[1] + v[3]); }
inline float larger(float a, float b) noexcept { return a > b ? a : b; }
inline float reduce_max(V v) noexcept { return larger(larger(v[0], v[2]), larger(v[1], v[3])); }

// Integers: four of 32 bits, or four bytes for each of four outputs.
using I = int32_t __attribute__((vector_size(16)));

inline I zero_ints() noexcept { return I{}; }
inline I load(const int32_t* p) noexcept {
  I v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline I load_bytes(const int8_t* p) noexcept {
  I v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline V to_floats(I v) noexcept { return __builtin_convertvector(v, V); }
inline I add(I a, I b) noexcept { return a + b; }
// The bits of |v|.
inline I magnitude(V v) noexcept { return I(abs(v)); }
inline I max(I a, I b) noexcept { return a > b ? a : b; }
inline int32_t reduce_max(I v) noexcept {
  const int32_t low = v[0] > v[1] ? v[0] : v[1], high = v[2] > v[3] ? v[2] : v[3];
  return low > high ? low : high;
}
// The lowest byte of each lane.
inline void store_low_bytes(uint8_t* p, V v) noexcept {
  const Bits words = Bits(v);
  for (int i = 0; i < kWidth; ++i) p[i] = uint8_t(words[i]);
}

inline constexpr int kByteOffset = 0;  // what is added to the bytes of inputs

// Four bytes of an input, repeated.
struct Four {
  int32_t x[4];
};
inline Four four(const uint8_t* p) noexcept {
  return {{int8_t(p[0]), int8_t(p[1]), int8_t(p[2]), int8_t(p[3])}};
}
// Little-endian: byte k of a lane belongs to x[k].
inline I dot(I w, Four x, I sum) noexcept {
  sum += (I(Bits(w) << 24) >> 24) * x.x[0];
  sum += (I(Bits(w) << 16) >> 24) * x.x[1];
  sum += (I(Bits(w) << 8) >> 24) * x.x[2];
  return sum + (w >> 24) * x.x[3];
}
