// Products of bytes: inputs are quantised row by row, sums of integers are exact in any order, and
// one fma an output makes floats of them (kernels.h, Bytes).

// Adding 1.5 * 2^23 leaves a float whose last bits are the nearest integer, ties to even; the even
// kByteOffset changes no tie.
inline constexpr float kToInteger = 12582912.0F + float(kByteOffset);
inline constexpr float kLeast = 0x1p-100F;  // below it a row counts as zeros: 127 / x may overflow

// The largest magnitude of a row, as bits: their order is that of the magnitudes, and that of a NaN
// is above all.
inline float largest_magnitude(const Linear& a, int64_t row) noexcept {
  I largest = zero_ints();
  for (int64_t s = 0; s < a.segment_count; ++s) {
    const Segment& segment = a.segments[s];
    const float* x = row_of(segment.x, row);
    for (int64_t k = 0; k < segment.size; k += kWidth) {
      largest = max(largest, magnitude(load_part(x + k, segment.size - k, zero())));
    }
  }
  return __builtin_bit_cast(float, reduce_max(largest));
}

// Each row's bytes go to its part of the scratch, the scale that they are to be multiplied with to
// the last float there.
void quantise(const Linear& a) noexcept {
  const int64_t stride = quantised_stride(a.depth);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float largest = largest_magnitude(a, r);
    const V inverse = set(largest >= kLeast ? 127.0F / largest : 0.0F);
    float* row = a.bytes.scratch + r * stride;
    auto* to = reinterpret_cast<uint8_t*>(row);
    for (int64_t s = 0; s < a.segment_count; ++s) {
      const Segment& segment = a.segments[s];
      const float* x = row_of(segment.x, r);
      for (int64_t k = 0; k < segment.size; k += kWidth) {
        store_low_bytes(
            to + k, add(mul(load_part(x + k, segment.size - k, zero()), inverse), set(kToInteger)));
      }
      to += segment.size;
    }
    row[stride - 1] = largest / 127.0F + (largest - largest);  // NaN where largest is no number
  }
}

// What the offset of the inputs' bytes has added to a sum is taken off again.
[[gnu::always_inline]] inline I without_offset(I sum, const int32_t* offset) noexcept {
  return kByteOffset == 0 ? sum : add(sum, load(offset));
}

// Sums side by side of one output, each over every C-th group: sums of integers may be split.
template <int R, int P, int U>
constexpr int chains() {
  return R * P * U < 8 ? 8 / (R * P * U) : 1;
}

// F: lines are fetched ahead. noinline: each tile keeps its own registers.
template <int R, int P, int U, int first, bool F>
[[gnu::noinline]] void tile(const Linear& a, const int8_t* weights, int64_t row,
                            int64_t panel) noexcept {
  constexpr int64_t line = kGroupLine<int8_t>;
  constexpr int C = chains<R, P, U>();
  static_assert(P * kLanes * sizeof(float) <= sizeof kZeros);
  const int64_t column = panel * kLanes + first * kWidth;
  const int64_t groups = (a.depth + 3) / 4, stride = groups * line;
  const int8_t* weight = weights + grouped<int8_t>(a.first + panel, groups);
  const float* scratch = a.bytes.scratch + row * quantised_stride(a.depth);
  const uint8_t* x[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    x[r] = reinterpret_cast<const uint8_t*>(scratch + r * quantised_stride(a.depth));
  }
  I sum[C][R][P][U];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (int u = 0; u < U; ++u) sum[c][r][p][u] = zero_ints();
      }
    }
  }
  int64_t k = 0;
#pragma GCC unroll 1
  for (; k + C <= groups; k += C) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      if constexpr (F) fetch_ahead<R, P>(weight, stride);
      multiply_add<R, P, U, first>(sum[c], weight, stride, x, k + c);
      weight += line;
    }
  }
#pragma GCC unroll 1
  for (; C > 1 && k < groups; ++k) {
    multiply_add<R, P, U, first>(sum[0], weight, stride, x, k);
    weight += line;
  }
#pragma GCC unroll 8
  for (int c = 1; c < C; ++c) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (int u = 0; u < U; ++u) sum[0][r][p][u] = add(sum[0][r][p][u], sum[c][r][p][u]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const V input_scale = set(scratch[(r + 1) * quantised_stride(a.depth) - 1]);
    const float* from = a.init.data != nullptr ? row_of(a.init, row + r) + column : kZeros;
    float* to = row_of(a.out, row + r) + column;
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int u = 0; u < U; ++u) {
        const int at = p * int(kLanes) + u * kWidth;
        const V scale = mul(load(a.bytes.scale + column + at), input_scale);
        const V total = to_floats(without_offset(sum[0][r][p][u], a.bytes.offset + column + at));
        store(to + at, fma(total, scale, load(from + at)));
      }
    }
  }
}
