// The product. A tile holds the sums of R rows and P panels (or U registers of one) over one block
// of terms: k runs in order, one fma a term. Totals lie in the output rows. Sums of blocks round
// less than one long chain does: every fma rounds at the size of its sum, and a block's is small.

inline constexpr int64_t kBlock = 64;  // terms; the last block of a segment takes what is left

// Registers of a panel that one tile takes. A panel's line is read in halves where whole panels
// would leave room for few rows.
template <int R>
constexpr int tile_vectors() {
  if (kWidth == 4) return 4;
  return kRegisters == 16 && R > 3 ? kVectors / 2 : kVectors;
}
// Panels side by side: enough chains to hide the latency of fma (8 of them), and no more streams
// than needed. The last tile takes up to `widest` panels, so that no lone panel is left over.
template <int R>
constexpr int tile_panels() {
  if (kRegisters == 32) return R == 1 ? 4 : R == 2 ? 3 : R < 7 ? 2 : 1;
  return kWidth == 8 && R == 1 ? 2 : 1;
}
template <int R>
constexpr int widest_panels() {
  if (kRegisters == 32) return R == 1 ? 7 : R == 2 ? 5 : R == 3 ? 3 : R < 7 ? 2 : 1;
  return kWidth == 8 && R == 1 ? 3 : 1;
}
inline constexpr int kTileRows = kRegisters == 32 ? 8 : kWidth == 8 ? 6 : 1;
inline constexpr int64_t kGroup = 2;  // panels that many rows share while they are in cache

// Register v of a line of 32 weights.
[[gnu::always_inline]] inline V line_vector(const float* line, int v) noexcept {
  return load(line + v * kWidth);
}
[[gnu::always_inline]] inline V line_vector(const uint16_t* line, int v) noexcept {
  constexpr int half = kVectors / 2;
  return v < half ? widen_even(line + v * 2 * kWidth) : widen_odd(line + (v - half) * 2 * kWidth);
}

// One k of a tile. The smaller set, weights or inputs, stays in registers; the other passes by.
template <int R, int P, int U, class Weight>
[[gnu::always_inline]] inline void multiply_add(V (&sum)[R][P][U], const Weight* weight, int first,
                                                int64_t stride, const float* const (&x)[R],
                                                int64_t k) noexcept {
  if constexpr (R > P * U) {
    V w[P][U];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int u = 0; u < U; ++u) w[p][u] = line_vector(weight + p * stride, first + u);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V term = set(x[r][k]);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (int u = 0; u < U; ++u) sum[r][p][u] = fma(w[p][u], term, sum[r][p][u]);
      }
    }
  } else {
    V term[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) term[r] = set(x[r][k]);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int u = 0; u < U; ++u) {
        const V w = line_vector(weight + p * stride, first + u);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r][p][u] = fma(w, term[r], sum[r][p][u]);
      }
    }
  }
}

// Tiles of few rows read as fast as the caches give; tiles of many rows have fewer panels in flight
// and leave the hardware's prefetcher too little to go by. On Zen 5 this brings 10-25 % from memory
// and some 5 % from L3, and costs at most 5 % in L2. Into the first cache: the hint for the second
// one costs 20 % in L3.
template <int P, class Weight>
[[gnu::always_inline]] inline void fetch_ahead(const Weight* weight, int64_t stride) noexcept {
  constexpr int64_t distance = (P == 1 ? 64 : 32) * kLanes;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    __builtin_prefetch(weight + p * stride + distance, 0, 3);
    if (sizeof(Weight) == 4) {
      __builtin_prefetch(weight + p * stride + distance + kLanes / 2, 0, 3);
    }
  }
}

// What totals start from where there is no `init`.
alignas(64) inline constexpr float kZeros[widest_panels<1>() * kLanes] = {};

// noinline: each tile keeps its own registers.
template <int R, int P, int U, class Weight>
[[gnu::noinline]] void tile(const Linear& a, const Weight* weights, int64_t row, int64_t panel,
                            int64_t offset) noexcept {
  const int64_t column = panel * kLanes + offset;
  const float* from[R];
  float* to[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    from[r] = a.init.data != nullptr ? row_of(a.init, row + r) + column : kZeros;
    to[r] = row_of(a.out, row + r) + column;
  }
  const int64_t stride = a.depth * kLanes;
  const Weight* weight = weights + panel * stride;
  const int first = U == kVectors ? 0 : int(offset / kWidth);  // register of the panel's line
  for (int64_t s = 0; s < a.segment_count; ++s) {
    const Segment& segment = a.segments[s];
    const int64_t size = segment.size;
    const float* x[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) x[r] = row_of(segment.x, row + r);
    for (int64_t k = 0; k < size;) {
      const int64_t end = k + kBlock < size ? k + kBlock : size;
      V sum[R][P][U];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
          for (int u = 0; u < U; ++u) sum[r][p][u] = zero();
        }
      }
#pragma GCC unroll 2
      for (; k < end; ++k) {
        if constexpr (R > 2) fetch_ahead<P>(weight, stride);
        multiply_add<R, P, U>(sum, weight, first, stride, x, k);
        weight += kLanes;
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
          for (int u = 0; u < U; ++u) {
            const int at = p * int(kLanes) + u * kWidth;
            store(to[r] + at, add(load(from[r] + at), sum[r][p][u]));
          }
        }
        from[r] = to[r];
      }
    }
  }
}

template <int R, int P>
inline void panel_tile(const Linear& a, int64_t row, int64_t panel) noexcept {
  constexpr int U = tile_vectors<R>();
  for (int64_t offset = 0; offset < kLanes; offset += U * kWidth) {
    if (a.words != nullptr) {
      tile<R, P, U>(a, a.words, row, panel, offset);
    } else {
      tile<R, P, U>(a, a.weight, row, panel, offset);
    }
  }
}

template <int R, int P>
inline void last_panels(const Linear& a, int64_t row, int64_t panel, int64_t count) noexcept {
  if (count == P) return panel_tile<R, P>(a, row, panel);
  if constexpr (P > 1) last_panels<R, P - 1>(a, row, panel, count);
}

// R rows, panels begin ... end-1.
template <int R>
inline void row_tile(const Linear& a, int64_t row, int64_t begin, int64_t end) noexcept {
  constexpr int P = tile_panels<R>();
  constexpr int widest = widest_panels<R>();
  for (; end - begin > widest; begin += P) panel_tile<R, P>(a, row, begin);
  last_panels<R, widest>(a, row, begin, end - begin);
}

template <int R>
inline void some_rows(const Linear& a, int64_t rows, int64_t row, int64_t begin,
                      int64_t end) noexcept {
  if (rows == R) return row_tile<R>(a, row, begin, end);
  if constexpr (R > 1) some_rows<R - 1>(a, rows, row, begin, end);
}

// The next tile of `left` rows: the tallest that leaves no tile of few chains behind it. Four rows
// of AVX2 are such a tile (8 chains, no slack), too.
inline int64_t next_rows(int64_t left) noexcept {
  if (left <= kTileRows) return left;
  int64_t rows = kTileRows;
  for (; rows > 1; --rows) {
    const int64_t rest = left - rows;
    if (rest >= kTileRows / 2 && !(kTileRows == 6 && rest == 4)) break;
  }
  return rows;
}

// A product without inputs is what it starts with.
inline void start_rows(const Linear& a) noexcept {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* start = a.init.data != nullptr ? row_of(a.init, r) : nullptr;
    float* out = row_of(a.out, r);
    for (int64_t i = 0; i < a.panels * kLanes; i += kWidth) {
      store(out + i, start != nullptr ? load(start + i) : zero());
    }
  }
}

// The activation, over outputs that are still in the first cache.
inline void activate_rows(const Linear& a) noexcept {
  if (a.activation == Activation::identity) return;
  const int64_t size = a.panels * kLanes;
  with_activation(a.activation, [&a, size](auto activation) noexcept {
    for (int64_t r = 0; r < a.rows; ++r) {
      float* out = row_of(a.out, r);
      for (int64_t i = 0; i < size; i += kWidth) store(out + i, activation(load(out + i)));
    }
  });
}

void linear(const Linear& a) noexcept {
  if (a.depth == 0) {
    start_rows(a);
  } else if (a.rows <= kTileRows) {
    some_rows<kTileRows>(a, a.rows, 0, 0, a.panels);
  } else {
    for (int64_t begin = 0; begin < a.panels; begin += kGroup) {
      const int64_t end = begin + kGroup < a.panels ? begin + kGroup : a.panels;
      for (int64_t row = 0; row < a.rows;) {
        const int64_t rows = next_rows(a.rows - row);
        some_rows<kTileRows>(a, rows, row, begin, end);
        row += rows;
      }
    }
  }
  activate_rows(a);
}
