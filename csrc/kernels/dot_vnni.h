// Products of bytes for AVX-512 VNNI, which multiplies bytes without a sign by bytes with one;
// behind vec_avx512.h.
inline constexpr int kByteOffset = 128;  // what is added to the bytes of inputs

using Four = I;  // four bytes of an input, repeated
inline Four four(const uint8_t* p) noexcept { return repeat_four(p); }
// Wraps around, never saturates: sums that begin at `offset` end exact.
inline I dot(I w, Four x, I sum) noexcept { return _mm512_dpbusd_epi32(sum, x, w); }
