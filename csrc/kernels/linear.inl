// The product. A tile of floats sums one block of terms: k runs in order, one fma a term. Totals
// lie in the output rows. Sums of blocks round less than one long chain does: every fma rounds at
// the size of its sum, and a block's is small.

inline constexpr int64_t kBlock = 64;  // terms; the last block of a segment takes what is left

// Registers first ... first + U - 1 of each panel's line; F: lines are fetched ahead. noinline:
// each tile keeps its own registers.
template <int R, int P, int U, int first, bool F, class Weight>
[[gnu::noinline]] void tile(const Linear& a, const Weight* weights, int64_t row,
                            int64_t panel) noexcept {
  static_assert(P * kLanes * sizeof(float) <= sizeof kZeros);
  const int64_t column = panel * kLanes + first * kWidth;
  const float* from[R];
  float* to[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    from[r] = a.init.data != nullptr ? row_of(a.init, row + r) + column : kZeros;
    to[r] = row_of(a.out, row + r) + column;
  }
  const int64_t stride = a.depth * kGroupLine<Weight>;
  const Weight* weight = weights + grouped<Weight>(a.first + panel, a.depth);
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
        if constexpr (F) fetch_ahead<R, P>(weight, stride);
        multiply_add<R, P, U, first>(sum, weight, stride, x, k);
        weight += kGroupLine<Weight>;
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

template <int R, int P, bool F, class Weight>
inline void panel_tile(const Linear& a, const Weight* weights, int64_t row,
                       int64_t panel) noexcept {
  constexpr int U = tile_vectors<Weight, R>();
  tile<R, P, U, 0, F>(a, weights, row, panel);
  if constexpr (U < kVectors) tile<R, P, U, U, F>(a, weights, row, panel);
}

template <int R, int P, bool F, class Weight>
inline void last_panels(const Linear& a, const Weight* weights, int64_t row, int64_t panel,
                        int64_t count) noexcept {
  if (count == P) return panel_tile<R, P, F>(a, weights, row, panel);
  if constexpr (P > 1) last_panels<R, P - 1, F>(a, weights, row, panel, count);
}

// Tiles of P panels, and one of the last ones, `widest` at most. There and back: what a product
// reads last lies nearest when it comes again, and is read first then.
template <int R, int P, int widest, bool F, class Weight>
inline void walk(const Linear& a, const Weight* weights, int64_t row, int64_t begin,
                 int64_t end) noexcept {
  const int64_t tiles = end - begin > widest ? (end - begin - widest + P - 1) / P : 0;
  const int64_t rest = begin + tiles * P;
  if (a.back && rest < end) last_panels<R, widest, F>(a, weights, row, rest, end - rest);
  for (int64_t n = 0; n < tiles; ++n)
    panel_tile<R, P, F>(a, weights, row, begin + (a.back ? tiles - 1 - n : n) * P);
  if (!a.back && rest < end) last_panels<R, widest, F>(a, weights, row, rest, end - rest);
}

// R rows, panels begin ... end-1.
template <int R, class Weight>
inline void row_tile(const Linear& a, const Weight* weights, int64_t row, int64_t begin,
                     int64_t end) noexcept {
  constexpr int P = tile_panels<Weight, R>();
  constexpr int widest = widest_panels<Weight, R>();
  constexpr int aligned = alignment<Weight, P>;
  static_assert(P % aligned == 0 && (widest <= aligned || aligned == kGroup<Weight>));
  if constexpr (aligned > 1) {
    if (const int64_t before = (a.first + begin) % aligned; before != 0) {
      const int64_t count = aligned - before < end - begin ? aligned - before : end - begin;
      last_panels<R, aligned - 1, (R > 2)>(a, weights, row, begin, count);
      begin += count;
      if (begin == end) return;
    }
  }
  if constexpr (R < 3) {
    constexpr bool floats = kWidth == 16 && sizeof(Weight) == 4;  // two panels are one stream
    if constexpr (floats && R == 1) {
      if (a.panels * a.depth * kLanes * int64_t{sizeof(Weight)} <= kFirstCache)
        return walk<R, kFirstPanels, kFirstPanels - 1, false>(a, weights, row, begin, end);
    }
    constexpr int near = floats ? 2 : P, last = floats ? 3 : widest;
    if (a.ahead) return walk<R, near, last, true>(a, weights, row, begin, end);
  }
  walk<R, P, widest, (R > 2)>(a, weights, row, begin, end);
}

template <int R, class Weight>
inline void some_rows(const Linear& a, const Weight* weights, int64_t rows, int64_t row,
                      int64_t begin, int64_t end) noexcept {
  if (rows == R) return row_tile<R>(a, weights, row, begin, end);
  if constexpr (R > 1) some_rows<R - 1>(a, weights, rows, row, begin, end);
}

// The next tile of `left` rows: the tallest that leaves no tile of few chains behind it. Four rows
// of AVX2 are such a tile (8 chains, no slack), too.
template <int tallest>
inline int64_t next_rows(int64_t left) noexcept {
  if (left <= tallest) return left;
  int64_t rows = tallest;
  for (; rows > 1; --rows) {
    const int64_t rest = left - rows;
    if (rest >= tallest / 2 && !(kRegisters == 16 && tallest == 6 && rest == 4)) break;
  }
  return rows;
}

// All rows and panels, for weights of one type.
template <class Weight>
inline void all_tiles(const Linear& a, const Weight* weights) noexcept {
  constexpr int tallest = tile_rows<Weight>();
  if (a.rows <= tallest) return some_rows<tallest>(a, weights, a.rows, 0, 0, a.panels);
  for (int64_t begin = 0; begin < a.panels; begin += kShared) {
    const int64_t end = begin + kShared < a.panels ? begin + kShared : a.panels;
    for (int64_t row = 0; row < a.rows;) {
      const int64_t rows = next_rows<tallest>(a.rows - row);
      some_rows<tallest>(a, weights, rows, row, begin, end);
      row += rows;
    }
  }
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
  } else if (a.bytes.weight != nullptr) {
    if (!a.bytes.quantised) quantise(a);
    all_tiles(a, a.bytes.weight);
  } else if (a.words != nullptr) {
    all_tiles(a, a.words);
  } else {
    all_tiles(a, a.weight);
  }
  activate_rows(a);
}
