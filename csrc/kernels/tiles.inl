// What the products of all weight types share: the shape of a tile and one term of it. A tile holds
// the sums of R rows and P panels (or U registers of one).

// How far panel p of a tile is from its first one; `stride` is between two groups. A tile lies
// within a group or begins with one: its number is a multiple of alignment<Weight, P>.
template <class Weight>
[[gnu::always_inline]] constexpr int64_t panel_offset(int p, int64_t stride) noexcept {
  return p / kGroup<Weight> * stride + p % kGroup<Weight> * kLine<Weight>;
}
template <class Weight, int P>
inline constexpr int alignment = P < kGroup<Weight> ? P : int(kGroup<Weight>);

// Registers of a panel that one tile takes. A panel's line is read in halves where whole panels
// would leave room for few rows; narrow weights need registers to widen or to hold signs, too.
template <class Weight, int R>
constexpr int tile_vectors() {
  if (kWidth == 4) return kRegisters == 32 && R < 3 ? kVectors : kVectors / 2;
  return kRegisters == 16 && R > (sizeof(Weight) == 4 ? 3 : 2) ? kVectors / 2 : kVectors;
}
// Panels side by side: enough chains to hide the latency of fma (8 of them), and no more streams
// than needed and than there are registers to address; few rows of bytes find their chains along k,
// and read one stream. The last tile takes up to `widest` panels, so that no lone panel is left
// over.
template <class Weight, int R>
constexpr int tile_panels() {
  if (kWidth == 4) return 1;
  if (sizeof(Weight) == 1 && R < 4) return kRegisters == 32 ? 2 : 1;
  if (kRegisters == 32) return R < 3 ? 4 : R < 7 ? 2 : 1;
  return kWidth == 8 && R == 1 ? 2 : 1;
}
template <class Weight, int R>
constexpr int widest_panels() {
  if (kWidth == 4) return 1;
  if (sizeof(Weight) == 1 && R < 4) return kRegisters == 32 ? 2 : 1;
  if (kRegisters == 32 && R == 3) return sizeof(Weight) == 2 ? 2 : 3;
  if (kRegisters == 32) return R == 1 ? 6 : R == 2 ? 5 : R < 7 ? 2 : 1;
  return kWidth == 8 && R == 1 ? (sizeof(Weight) == 2 ? 2 : 3) : 1;
}
template <class Weight>
constexpr int tile_rows() {
  if (kWidth == 4) return kRegisters == 32 ? 5 : 1;
  if (kRegisters == 32) return sizeof(Weight) == 1 ? 8 : 6;
  return sizeof(Weight) == 1 ? 4 : 6;
}
inline constexpr int64_t kShared = 2;  // panels that many rows multiply while they are in cache

// Register v of a line.
[[gnu::always_inline]] inline V line_vector(const float* line, int v) noexcept {
  return load(line + v * kWidth);
}
[[gnu::always_inline]] inline V line_vector(const uint16_t* line, int v) noexcept {
  constexpr int half = kVectors / 2;
  return v < half ? widen_even(line + v * 2 * kWidth) : widen_odd(line + (v - half) * 2 * kWidth);
}
[[gnu::always_inline]] inline I line_vector(const int8_t* line, int v) noexcept {
  return load_bytes(line + v * 4 * kWidth);
}

// The register that is the i-th to be multiplied: of bfloat16 words, the two that one load gives
// follow each other.
template <class Weight, int U>
constexpr int order(int i) {
  return sizeof(Weight) == 2 && U == kVectors ? i % 2 * (U / 2) + i / 2 : i;
}

// What line k multiplies, for all outputs alike, and the sum of the products.
[[gnu::always_inline]] inline V term_of(const float* x, int64_t k) noexcept { return set(x[k]); }
[[gnu::always_inline]] inline Four term_of(const uint8_t* x, int64_t k) noexcept {
  return four(x + 4 * k);
}
[[gnu::always_inline]] inline V sum_of(V w, V term, V sum) noexcept { return fma(w, term, sum); }
[[gnu::always_inline]] inline I sum_of(I w, Four term, I sum) noexcept { return dot(w, term, sum); }

// One line of a tile. The smaller set, weights or inputs, stays in registers; the other passes by.
template <int R, int P, int U, int first, class Sum, class Weight, class Input>
[[gnu::always_inline]] inline void multiply_add(Sum (&sum)[R][P][U], const Weight* weight,
                                                int64_t stride, const Input* const (&x)[R],
                                                int64_t k) noexcept {
  if constexpr (R > P * U) {
    Sum w[P][U];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int u = 0; u < U; ++u)
        w[p][u] = line_vector(weight + panel_offset<Weight>(p, stride), first + u);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto term = term_of(x[r], k);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (int u = 0; u < U; ++u) sum[r][p][u] = sum_of(w[p][u], term, sum[r][p][u]);
      }
    }
  } else {
    decltype(term_of(x[0], k)) term[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) term[r] = term_of(x[r], k);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int i = 0; i < U; ++i) {
        const int u = order<Weight, U>(i);
        const Sum w = line_vector(weight + panel_offset<Weight>(p, stride), first + u);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r][p][u] = sum_of(w, term[r], sum[r][p][u]);
      }
    }
  }
}

// How many bytes ahead of the line that it multiplies a tile fetches; 0: it leaves that to the
// hardware. Measured on Zen 5: one stream of lines comes from the third cache at 105 GB/s without a
// hint and at 130 with one, 2 to 8 KiB ahead; two streams and more gain nothing or lose. From
// memory few rows are a tenth slower with it (Linear::ahead). Tiles of many rows multiply longer
// than they read, and gain up to a quarter from memory by hints that are further ahead. Into the
// first cache: the hint for the second one costs 20 % in the third.
template <class Weight, int R, int P>
constexpr int64_t ahead() {
  constexpr int64_t few = 2048, size = sizeof(Weight);
  if (R > 2) return (P == 1 ? 64 : 32) * kGroupLine<Weight> * size;
  return kWidth > 4 && (size > 1 || (kWidth == 16 && R == 1)) ? few : 0;
}
template <int R, int P, class Weight>
[[gnu::always_inline]] inline void fetch_ahead(const Weight* weight, int64_t stride) noexcept {
  constexpr int64_t line = kLine<Weight>, bytes = ahead<Weight, R, P>();
#pragma GCC unroll 8
  for (int p = 0; p < P && bytes > 0; ++p) {
    const Weight* at = weight + panel_offset<Weight>(p, stride) + bytes / int64_t{sizeof(Weight)};
    __builtin_prefetch(at, 0, 3);
    if (line * sizeof(Weight) == 128) __builtin_prefetch(at + line / 2, 0, 3);
  }
}

// Floats of so many bytes stay in the first cache. From there, one row is multiplied by six panels
// at once, which are enough chains for two fma a cycle; further away two suffice.
inline constexpr int64_t kFirstCache = 48 << 10;
inline constexpr int kFirstPanels = 6;

// What totals start from where there is no `init`.
alignas(64) inline constexpr float kZeros[kFirstPanels * kLanes] = {};
