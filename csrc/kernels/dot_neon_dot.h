// Products of bytes for Armv8.2-A with the dot product (FEAT_DotProd); behind vec_neon.h. Exact.
inline I dot(I w, Four x, I sum) noexcept { return vdotq_s32(sum, vreinterpretq_s8_s32(w), x); }
