// The vector header for Armv8-A: four floats in a register, little-endian. Included inside the
// anonymous namespace of neon.cpp.
using V = float32x4_t;
using M = uint32x4_t;  // all bits of a lane, or none

inline constexpr int kWidth = 4;       // floats in a register
inline constexpr int kRegisters = 32;  // what a tile may plan with

using Constant = float;  // a number of a formula
using Bound = float;     // one that bounds a range

inline V zero() noexcept { return vdupq_n_f32(0.0F); }
inline V set(float x) noexcept { return vdupq_n_f32(x); }
inline V load(const float* p) noexcept { return vld1q_f32(p); }
inline void store(float* p, V v) noexcept { vst1q_f32(p, v); }
// The first n floats at p, `fill` in the other lanes; nothing else is read.
inline V load_part(const float* p, int64_t n, V fill) noexcept {
  if (n >= kWidth) return load(p);
  if (n > 0) fill = vld1q_lane_f32(p, fill, 0);
  if (n > 1) fill = vld1q_lane_f32(p + 1, fill, 1);
  if (n > 2) fill = vld1q_lane_f32(p + 2, fill, 2);
  return fill;
}
inline void store_part(float* p, V v, int64_t n) noexcept {
  if (n >= kWidth) return store(p, v);
  if (n > 0) vst1q_lane_f32(p, v, 0);
  if (n > 1) vst1q_lane_f32(p + 1, v, 1);
  if (n > 2) vst1q_lane_f32(p + 2, v, 2);
}

// Words 0, 2, 4, ... and 1, 3, 5, ... of 2 * kWidth bfloat16 words, widened.
inline V widen_even(const uint16_t* p) noexcept {
  return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(vld1q_u16(p)), 16));
}
inline V widen_odd(const uint16_t* p) noexcept {
  const uint32x4_t words = vreinterpretq_u32_u16(vld1q_u16(p));
  return vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xFFFF0000U)));
}

inline V add(V a, V b) noexcept { return vaddq_f32(a, b); }
inline V sub(V a, V b) noexcept { return vsubq_f32(a, b); }
inline V mul(V a, V b) noexcept { return vmulq_f32(a, b); }
inline V div(V a, V b) noexcept { return vdivq_f32(a, b); }
inline V fma(V a, V b, V c) noexcept { return vfmaq_f32(c, a, b); }
inline V select(M m, V yes, V no) noexcept { return vbslq_f32(m, yes, no); }
// a > b ? a : b, so b where one of them is NaN or both are zeros; FMAX would answer otherwise.
inline V max(V a, V b) noexcept { return select(vcgtq_f32(a, b), a, b); }
// a < b ? a : b, so b where one of them is NaN or both are zeros.
inline V min(V a, V b) noexcept { return select(vcltq_f32(a, b), a, b); }
inline V abs(V a) noexcept { return vabsq_f32(a); }
inline V negate(V a) noexcept { return vnegq_f32(a); }
// |magnitude| with the sign of `sign`, for magnitude >= 0.
inline V with_sign(V magnitude, V sign) noexcept {
  return vbslq_f32(vdupq_n_u32(0x80000000U), sign, magnitude);
}
// Adds the low nine bits of t, a signed number, to the exponent of v.
inline V add_exponent(V v, V t) noexcept {
  const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(t), 23);
  return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(v), exponent));
}

inline M less(V a, V b) noexcept { return vcltq_f32(a, b); }
inline M either(M a, M b) noexcept { return vorrq_u32(a, b); }
inline uint32_t bits(M m) noexcept { return vaddvq_u32(vandq_u32(m, M{1, 2, 4, 8})); }

// Folds the lanes of one register: i with i+2, then +1.
inline float reduce_add(V v) noexcept {
  const float32x2_t half = vadd_f32(vget_low_f32(v), vget_high_f32(v));
  return vget_lane_f32(half, 0) + vget_lane_f32(half, 1);
}
inline float reduce_max(V v) noexcept {
  const float32x2_t a = vget_low_f32(v), b = vget_high_f32(v);
  const float32x2_t half = vbsl_f32(vcgt_f32(a, b), a, b);
  const float x = vget_lane_f32(half, 0), y = vget_lane_f32(half, 1);
  return x > y ? x : y;
}

// Integers: four of 32 bits, or four bytes for each of four outputs.
using I = int32x4_t;

inline I zero_ints() noexcept { return vdupq_n_s32(0); }
inline I load(const int32_t* p) noexcept { return vld1q_s32(p); }
inline I load_bytes(const int8_t* p) noexcept { return vreinterpretq_s32_s8(vld1q_s8(p)); }
inline V to_floats(I v) noexcept { return vcvtq_f32_s32(v); }
inline I add(I a, I b) noexcept { return vaddq_s32(a, b); }  // wraps around
// The bits of |v|.
inline I magnitude(V v) noexcept { return vreinterpretq_s32_f32(abs(v)); }
inline I max(I a, I b) noexcept { return vmaxq_s32(a, b); }
inline int32_t reduce_max(I v) noexcept { return vmaxvq_s32(v); }
// The lowest byte of each lane.
inline void store_low_bytes(uint8_t* p, V v) noexcept {
  const uint16x4_t words = vmovn_u32(vreinterpretq_u32_f32(v));
  const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
  vst1_lane_u32(reinterpret_cast<uint32_t*>(p), vreinterpret_u32_u8(bytes), 0);
}

inline constexpr int kByteOffset = 0;  // what is added to the bytes of inputs

// Four bytes of an input, repeated.
using Four = int8x16_t;
inline Four four(const uint8_t* p) noexcept {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}
