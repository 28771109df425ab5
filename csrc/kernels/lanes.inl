// Rows, and the thirty-two virtual lanes of a reduction: element i belongs to lane i % 32.

inline constexpr int kVectors = int(kLanes) / kWidth;  // registers of 32 lanes

inline const float* row_of(const ConstRows& rows, int64_t r) noexcept {
  return rows.data + (rows.index != nullptr ? int64_t(rows.index[r]) : r) * rows.stride;
}
inline float* row_of(const Rows& rows, int64_t r) noexcept {
  return rows.data + (rows.index != nullptr ? int64_t(rows.index[r]) : r) * rows.stride;
}

// lane i + lane i+16, then +8, +4, +2, +1; destroys v.
[[gnu::always_inline]] inline float fold_add(V (&v)[kVectors]) noexcept {
#pragma GCC unroll 8
  for (int step = kVectors / 2; step > 0; step /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < step; ++i) v[i] = add(v[i], v[i + step]);
  }
  return reduce_add(v[0]);
}

[[gnu::always_inline]] inline float fold_max(V (&v)[kVectors]) noexcept {
#pragma GCC unroll 8
  for (int step = kVectors / 2; step > 0; step /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < step; ++i) v[i] = max(v[i], v[i + step]);
  }
  return reduce_max(v[0]);
}

// The tail of a reduction reads all 32 lanes, neutral beyond the end: lanes without an element do
// the same arithmetic on every instruction set.
[[gnu::always_inline]] inline V load_tail(const float* p, int v, int64_t left, V fill) noexcept {
  return load_part(p + v * kWidth, left - v * kWidth, fill);
}
