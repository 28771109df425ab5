// Products of bytes for AVX-512 without VNNI; behind vec_avx512.h.
inline constexpr int kByteOffset = 0;  // what is added to the bytes of inputs

// Four bytes of an input, repeated: their magnitudes and which are below zero.
struct Four {
  __m512i magnitude;
  __mmask64 negative;
};
inline Four four(const uint8_t* p) noexcept {
  const auto x = __m512i(repeat_four(p));
  return {_mm512_abs_epi8(x), _mm512_movepi8_mask(x)};
}
// Exact: |x|, |w| <= 127, a pair's sum is at most 32258 < 2^15, so that nothing saturates.
inline I dot(I w, Four x, I sum) noexcept {
  const auto bytes = __m512i(w);
  const __m512i signs = _mm512_mask_sub_epi8(bytes, x.negative, _mm512_setzero_si512(), bytes);
  const __m512i pairs = _mm512_maddubs_epi16(x.magnitude, signs);
  return sum + I(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
