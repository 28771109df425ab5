// Products of bytes for AVX-512 VNNI, which multiplies bytes without a sign by bytes with one;
// behind vec_avx512.h.
inline constexpr int kByteOffset = 128;  // what is added to the bytes of inputs

using Four = I;  // four bytes of an input, repeated
inline Four four(const uint8_t* p) noexcept { return repeat_four(p); }
// Wraps around and never saturates: exact once `offset` is added.
inline I dot(I w, Four x, I sum) noexcept {
  return I(_mm512_dpbusd_epi32(__m512i(sum), __m512i(x), __m512i(w)));
}
