// (x - mean) / sqrt(variance + eps) * weight + bias; both sums over 32 lanes.

// The sum of term(x_i, sum of its lane); `fill` stands beyond the end and must add nothing.
template <class Term>
[[gnu::always_inline]] inline float lane_sum(const float* x, int64_t size, V fill,
                                             Term term) noexcept {
  V sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sum[v] = zero();
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[v] = term(load(x + i + v * kWidth), sum[v]);
  }
  if (i < size) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[v] = term(load_tail(x + i, v, size - i, fill), sum[v]);
  }
  return fold_add(sum);
}

void layer_norm(const LayerNorm& a) noexcept {
  const float count = float(a.size);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = row_of(a.x, r);
    float* out = row_of(a.out, r);
    const auto plus = [](V value, V sum) noexcept { return add(sum, value); };
    const V mean = set(lane_sum(x, a.size, zero(), plus) / count);
    const auto plus_square = [mean](V value, V sum) noexcept {
      const V distance = sub(value, mean);
      return fma(distance, distance, sum);
    };
    const float variance = lane_sum(x, a.size, mean, plus_square) / count;
    const V root = set(__builtin_sqrtf(variance + a.eps));
    for (int64_t i = 0; i < a.size; i += kWidth) {
      V value = div(sub(load(x + i), mean), root);
      if (a.weight != nullptr) value = mul(value, load(a.weight + i));
      if (a.bias != nullptr) value = add(value, load(a.bias + i));
      store(out + i, value);
    }
  }
}
