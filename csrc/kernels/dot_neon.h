// Products of bytes for Armv8-A without the dot product; behind vec_neon.h.
// Exact: a product is at most 127^2 < 2^15 - 1, sums of pairs are taken in 32 bits.
inline I dot(I w, Four x, I sum) noexcept {
  const int8x16_t bytes = vreinterpretq_s8_s32(w);
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(bytes), vget_low_s8(x)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(bytes, x));
  return vaddq_s32(sum, vpaddq_s32(low, high));
}
