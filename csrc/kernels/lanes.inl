// Rows, and the thirty-two virtual lanes of a reduction: element i belongs to lane i % 32.

inline constexpr int kVectors = int(kLanes) / kWidth;  // registers of 32 lanes

// body(0), body(1) ... body(n - 1), each with a constant: what is indexed by it stays in registers.
template <int n, class Body>
[[gnu::always_inline]] inline void times(Body body) noexcept {
  if constexpr (n > 1) times<n - 1>(body);
  if constexpr (n > 0) body(n - 1);
}

inline const float* row_of(const ConstRows& rows, int64_t r) noexcept {
  return rows.data + (rows.index != nullptr ? int64_t(rows.index[r]) : r) * rows.stride;
}
inline float* row_of(const Rows& rows, int64_t r) noexcept {
  return rows.data + (rows.index != nullptr ? int64_t(rows.index[r]) : r) * rows.stride;
}

// lane i + lane i+16, then +8, +4, +2, +1; destroys v.
template <int step = kVectors / 2>
[[gnu::always_inline]] inline float fold_add(V (&v)[kVectors]) noexcept {
  if constexpr (step == 0) return reduce_add(v[0]);
  times<step>([&v](int i) noexcept { v[i] = add(v[i], v[i + step]); });
  if constexpr (step > 0) return fold_add<step / 2>(v);
}

template <int step = kVectors / 2>
[[gnu::always_inline]] inline float fold_max(V (&v)[kVectors]) noexcept {
  if constexpr (step == 0) return reduce_max(v[0]);
  times<step>([&v](int i) noexcept { v[i] = max(v[i], v[i + step]); });
  if constexpr (step > 0) return fold_max<step / 2>(v);
}

// The tail of a reduction reads all 32 lanes, neutral beyond the end: lanes without an element do
// the same arithmetic on every instruction set.
[[gnu::always_inline]] inline V load_tail(const float* p, int v, int64_t left, V fill) noexcept {
  return load_part(p + v * kWidth, left - v * kWidth, fill);
}
