// Maximum, sum of exponentials, softmax.

// Over two sets of 32 lanes, for the latency of max. A NaN may or may not survive: the sums of
// exponentials that follow find it.
inline float maximum(const float* x, int64_t size) noexcept {
  const V lowest = set(-kInfinity);
  V even[kVectors], odd[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) even[v] = odd[v] = lowest;
  int64_t i = 0;
  for (; i + 2 * kLanes <= size; i += 2 * kLanes) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      even[v] = max(even[v], load(x + i + v * kWidth));
      odd[v] = max(odd[v], load(x + i + kLanes + v * kWidth));
    }
  }
  for (; i < size; i += kLanes) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      even[v] = max(even[v], load_tail(x + i, v, size - i, lowest));
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) even[v] = max(even[v], odd[v]);
  return fold_max(even);
}

// The sum of exp(x - maximum) over 32 lanes; each term is given to keep(i, v, term) on its way.
template <class Keep>
[[gnu::always_inline]] inline float sum_of_exp(const float* x, int64_t size, float most,
                                               Keep keep) noexcept {
  V sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sum[v] = zero();
  int64_t i = 0;
  const auto take =
      [&sum, &i, &keep, most ](int v, V value) noexcept __attribute__((always_inline)) {
    const V term = exp(sub(value, set(most)));
    keep(i + v * kWidth, term);
    sum[v] = add(sum[v], term);
  };
  for (; i + kLanes <= size; i += kLanes) {
    times<kVectors>([&](int v) noexcept
                    __attribute__((always_inline)) { take(v, load(x + i + v * kWidth)); });
  }
  if (i < size) {
    // exp(-inf - maximum) = 0 does not count, unless maximum = -inf, and then the sum is NaN anyway
    times<kVectors>([&](int v) noexcept __attribute__((always_inline)) {
      take(v, load_tail(x + i, v, size - i, set(-kInfinity)));
    });
  }
  return fold_add(sum);
}

Normaliser32 normaliser(const float* x, int64_t size) noexcept {
  const float most = maximum(x, size);
  return {most, sum_of_exp(x, size, most, [](int64_t, V) noexcept {})};
}

// out may be x; writes exactly `size` floats.
void softmax_row(const float* x, float* out, int64_t size) noexcept {
  const float most = maximum(x, size);
  const V sum = set(sum_of_exp(x, size, most, [out, size](int64_t i, V term) noexcept {
    store_part(out + i, term, size - i);
  }));
  int64_t i = 0;
  for (; i + kWidth <= size; i += kWidth) store(out + i, div(load(out + i), sum));
  if (i < size) store_part(out + i, div(load_part(out + i, size - i, zero()), sum), size - i);
}

void softmax(const Softmax& a) noexcept {
  for (int64_t r = 0; r < a.rows; ++r) softmax_row(row_of(a.x, r), row_of(a.out, r), a.size);
}
