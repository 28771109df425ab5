// Attention of one query: energies, softmax, context.

// Energies of N keys at once: N chains of 32 lanes hide the latency of fma.
template <int N>
inline void dot_keys(const Attention& a, int64_t j) noexcept {
  const float* key[N];
  V sum[N][kVectors];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    key[n] = row_of(a.keys, j + n);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[n][v] = zero();
  }
  int64_t i = 0;
  for (; i + kLanes <= a.key_size; i += kLanes) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V query = load(a.query + i + v * kWidth);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[n][v] = fma(query, load(key[n] + i + v * kWidth), sum[n][v]);
    }
  }
  if (i < a.key_size) {
    const int64_t left = a.key_size - i;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V query = load_tail(a.query + i, v, left, zero());
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        sum[n][v] = fma(query, load_tail(key[n] + i, v, left, zero()), sum[n][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) a.weights[j + n] = a.scale * fold_add(sum[n]);
}

inline void dot_energies(const Attention& a) noexcept {
  constexpr int most = kRegisters / (2 * kVectors);
  constexpr int N = most > 4 ? 4 : most;
  int64_t j = 0;
  for (; j + N <= a.count; j += N) dot_keys<N>(a, j);
  for (; j < a.count; ++j) dot_keys<1>(a, j);
}

// The activations of a key do not depend on each other: the processor overlaps them by itself.
template <class Act>
[[gnu::noinline]] void additive_with(const Attention& a, Act activation) noexcept {
  const float *factor = a.v, *query = a.query;
  const int64_t size = a.key_size;
  for (int64_t j = 0; j < a.count; ++j) {
    const float* key = row_of(a.keys, j);
    V sum[kVectors] = {};
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) {
      times<kVectors>([&](int v) noexcept __attribute__((always_inline)) {
        const int64_t at = i + v * kWidth;
        sum[v] = fma(load(factor + at), activation(add(load(query + at), load(key + at))), sum[v]);
      });
    }
    if (i < size) {
      times<kVectors>([&](int v) noexcept __attribute__((always_inline)) {
        // beyond the end v is 0 and the activation of 0 + 0 finite: the term is 0
        const V asked = load_tail(query + i, v, size - i, zero());
        const V term = activation(add(asked, load_tail(key + i, v, size - i, zero())));
        sum[v] = fma(load_tail(factor + i, v, size - i, zero()), term, sum[v]);
      });
    }
    a.weights[j] = a.scale * fold_add(sum);
  }
}

void additive_energies(const Attention& a) noexcept {
  with_activation(a.activation, [&a](auto activation) noexcept { additive_with(a, activation); });
}

// N registers of the context from register `at` on, over all memory rows in order.
template <int N>
[[gnu::noinline]] void context_part(const Attention& a, int64_t at) noexcept {
  V sum[N];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) sum[n] = zero();
  for (int64_t j = 0; j < a.count; ++j) {
    const float* value = row_of(a.values, j) + at;
    const V weight = set(a.weights[j]);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sum[n] = fma(weight, load(value + n * kWidth), sum[n]);
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    store_part(a.context + at + n * kWidth, sum[n], a.value_size - at - n * kWidth);
  }
}

// energy_activation(e + energy_bias) over what the scores left in `weights`.
void bend_energies(const Attention& a) noexcept {
  with_activation(a.energy_activation, [&a](auto activation) noexcept {
    for (int64_t j = 0; j < a.count; j += kWidth) {
      const V e = load_part(a.weights + j, a.count - j, zero());
      store_part(a.weights + j, activation(add(e, set(a.energy_bias))), a.count - j);
    }
  });
}

// weights_j exp(-(j - centre)^2 / (2 sigma^2)), after the softmax and not normalised again.
void focus(const Attention& a) noexcept {
  const V scale = set(-0.5F / (a.sigma * a.sigma));
  for (int64_t j = 0; j < a.count; ++j) {
    const V distance = set(float(j) - a.centre);
    const V weight = exp(mul(mul(distance, distance), scale));
    store_part(a.weights + j, mul(set(a.weights[j]), weight), 1);
  }
}

void attention(const Attention& a) noexcept {
  if (a.query == nullptr) {
    for (int64_t j = 0; j < a.count; ++j) a.weights[j] = a.scale * row_of(a.scores, j)[0];
  } else if (a.v == nullptr) {
    dot_energies(a);
  } else {
    additive_energies(a);
  }
  if (a.energy_bias != 0.0F || a.energy_activation != Activation::identity) bend_energies(a);
  if (a.normaliser == Normaliser::softmax && a.count > 0) {
    softmax_row(a.weights, a.weights, a.count);
  }
  if (a.sigma > 0.0F) focus(a);

  const int64_t size = (a.value_size + kWidth - 1) / kWidth * kWidth;
  int64_t at = 0;
  for (; at + 8 * kWidth <= size; at += 8 * kWidth) context_part<8>(a, at);
  for (; at + 4 * kWidth <= size; at += 4 * kWidth) context_part<4>(a, at);
  for (; at < size; at += kWidth) context_part<1>(a, at);
}
