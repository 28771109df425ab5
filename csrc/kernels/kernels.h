// The numeric floor: pointers and sizes in, floats out. Knows no memory, no threads, no models.
//
// Every instruction set fills one table of the same functions, and every function gives the same
// bits in each of them (docs/architecture.md, "How bits stay equal"): products are sums of blocks
// of 64 terms, one fma each in the order of k; reductions run over 32 virtual lanes folded by one
// fixed tree; exp and tanh are our own.
#pragma once

#include <stdint.h>

namespace s2s {

// Outputs of a weight panel, virtual lanes of a reduction, and the padding of every row.
inline constexpr int64_t kLanes = 32;

constexpr int64_t padded(int64_t size) { return (size + kLanes - 1) / kLanes * kLanes; }

// Row r starts at data + (index ? index[r] : r) * stride. A stride of 0 repeats one row; an index
// of -1 reads the row before the first one (tables keep a zero row there). Rows begin on any float
// address, and padded(size) floats of a row may be read; `Rows` may be written as far, too.
struct ConstRows {
  const float* data = nullptr;
  int64_t stride = 0;
  const int32_t* index = nullptr;
};

struct Rows {
  float* data = nullptr;
  int64_t stride = 0;
  const int32_t* index = nullptr;
};

enum class Activation : int32_t {
  identity,
  tanh,
  sigmoid,
  hard_sigmoid,
  hard_sigmoid_6,
  relu,
  softplus
};
enum class Binary : int32_t { add, multiply };
enum class Pool : int32_t { mean, max, sum };
enum class Normaliser : int32_t { softmax, none };

// `size` inputs of a product, taken from the rows of x in the order k = 0 ... size-1.
struct Segment {
  ConstRows x;
  int64_t size = 0;
};

// Weights of a product in int8, -127 ... 127: out = activation(fma(float(sum), scale * s, init)).
// `sum` is the exact sum of weight and input bytes; a row's inputs, of all segments together, are
// quantised to q = round(x * (127 / m)), ties to even, with m the largest |x| and s = m / 127
// (q = 0 where m < 2^-100; s is NaN where m is no number).
// weight: [groups of 2 panels][(depth + 3) / 4][2][32 outputs][4 k], zeros behind the last k; the
// last group may have room left. scale: by output.
// offset: -128 times the sum of an output's weights, for processors that multiply bytes without a
// sign. scratch: rows * quantised_stride(depth) floats.
// Exact: |sum| <= depth * 127^2 < 2^31 up to kMaxBytesDepth.
struct Bytes {
  const int8_t* weight = nullptr;
  const float* scale = nullptr;
  const int32_t* offset = nullptr;
  float* scratch = nullptr;
  bool quantised = false;  // the scratch holds the inputs already
};
inline constexpr int64_t kMaxBytesDepth = int64_t{1} << 17;
// A row's bytes, as far as whole registers are stored behind them, and its scale.
constexpr int64_t quantised_stride(int64_t depth) { return padded(depth / 4 + 8); }

// out[r] = activation(init[r] + W [x1; x2; ...][r]). Blocks of 64 k, the last one of each segment
// shorter, are summed by one fma per k in order, from zero, and added to init one after another.
// weight: [groups of 2 panels][depth][2][32], depth = sum of the segments' sizes; the last group
// may have room left. `first` is the panel of the weights that makes the first outputs; out rows:
// panels * 32 floats. words: bfloat16 instead, in groups of 4, where no weight loses by it: each is
// widened by a shift, and the bits of the result are the same. Word 2i of a panel's line is output
// i and word 2i + 1 output 16 + i. init: what the sums are added to (a repeated bias, rows of a
// table, earlier partial sums; it may be `out` itself); no data means zeros. bytes: int8 instead
// (see there).
struct Linear {
  const float* weight = nullptr;
  const uint16_t* words = nullptr;
  Bytes bytes = {};
  const Segment* segments = nullptr;
  int64_t segment_count = 0;
  int64_t depth = 0;
  ConstRows init;
  Rows out;
  int64_t rows = 0;
  int64_t first = 0;
  int64_t panels = 0;
  Activation activation = Activation::identity;
  bool ahead = true;  // few rows: lines are fetched ahead
  bool back = false;  // few rows: the last panels first
};

// Weights that a panel multiplies at once, a line: 32 for one k, or 32 times four bytes for four.
template <class Weight>
inline constexpr int64_t kLine = kLanes;
template <>
inline constexpr int64_t kLine<int8_t> = 4 * kLanes;
// Panels that lie line by line beside each other, so that fewer streams are read: 256 bytes a line
// of a group.
template <class Weight>
inline constexpr int64_t kGroup = 256 / (kLine<Weight> * int64_t{sizeof(Weight)});
// Weights from one line of a panel to the next, and before its first one; `lines` of a panel.
template <class Weight>
inline constexpr int64_t kGroupLine = kGroup<Weight> * kLine<Weight>;
template <class Weight>
constexpr int64_t grouped(int64_t panel, int64_t lines) {
  constexpr int64_t group = kGroup<Weight>;
  return (panel / group * lines * group + panel % group) * kLine<Weight>;
}

// out[r][i] = x[r][i] * scale for i < size; writes exactly `size` floats of each row.
struct Copy {
  ConstRows x;
  Rows out;
  int64_t rows = 0;
  int64_t size = 0;
  float scale = 1.0F;
};

// One operand of an element-wise operation: a scalar operand has one float a row.
struct Operand {
  ConstRows x;
  bool scalar = false;
};

struct BinaryMap {
  Binary kind = Binary::add;
  Operand a, b;
  Rows out;
  int64_t rows = 0;
  int64_t size = 0;
};

// out = fma(gate, a, (1 - gate) * b)
struct Interpolate {
  Operand gate, a, b;
  Rows out;
  int64_t rows = 0;
  int64_t size = 0;
};

struct Map {
  Activation activation = Activation::identity;
  ConstRows x;
  Rows out;
  int64_t rows = 0;
  int64_t size = 0;
};

struct Softmax {
  ConstRows x;
  Rows out;
  int64_t rows = 0;
  int64_t size = 0;
};

// out[0 ... size-1] over rows 0 ... count-1 of x, added in that order; mean divides the sum.
struct PoolRows {
  Pool kind = Pool::mean;
  ConstRows x;
  int64_t count = 0;
  int64_t size = 0;
  float* out = nullptr;
};

// gates[r]: four blocks of padded(size) floats, i f g o before their activations.
// c' = fma(f, c, i * g), h' = o * activation(c'). No data in c means zeros. c_next may be c.
// peephole: blocks p_i p_f p_o added as fma(p, c, gate), for o with c'. clip > 0 bounds |c'|.
struct LstmGates {
  ConstRows gates;
  ConstRows c;
  Rows c_next;
  Rows h_next;
  int64_t rows = 0;
  int64_t size = 0;
  Activation activation = Activation::tanh;
  Activation gate_activation = Activation::sigmoid;
  const float* peephole = nullptr;
  float clip = 0.0F;
};

// gates[r]: two blocks of padded(size) floats, r z before their activations; candidate[r]: n's.
// Reset after: n = activation(fma(r, hidden, candidate)) with hidden = W_hn h + b_hn.
// Reset before (no data in hidden): n = activation(candidate), its recurrent part added already.
// h' = fma(z, h, (1 - z) * n). No data in h means zeros; h_next, which holds n first, is not h.
struct GruGates {
  ConstRows gates;
  ConstRows candidate;
  ConstRows hidden;
  ConstRows h;
  Rows h_next;
  int64_t rows = 0;
  int64_t size = 0;
  Activation activation = Activation::tanh;
  Activation gate_activation = Activation::sigmoid;
};

// out = gate_activation(r) * h, what a reset gate before the product leaves of the state.
// gates[r] starts at the block of r.
struct GruReset {
  ConstRows gates;
  ConstRows h;
  Rows out;
  int64_t rows = 0;
  int64_t size = 0;
  Activation gate_activation = Activation::sigmoid;
};

// out = (x - mean) / sqrt(variance + eps) * weight + bias, biased variance, sums over 32 lanes.
// No data in weight or bias: ones, zeros.
struct LayerNorm {
  ConstRows x;
  Rows out;
  int64_t rows = 0;
  int64_t size = 0;
  float eps = 0.0F;
  const float* weight = nullptr;
  const float* bias = nullptr;
};

// Attention of one query over `count` memory rows, in one pass:
//   dot      (query, no v):   e_j = scale * (query . key_j), 32 lanes
//   additive (query and v):   e_j = scale * (v . activation(query + key_j)), 32 lanes
//   given    (no query):      e_j = scale * scores[j][0]
// weights = softmax(e) or e itself; context = sum_j weights_j value_j, one fma per j in order.
// Energies pass through energy_activation(e + energy_bias) before the softmax. With sigma > 0 the
// weights are then multiplied by exp(-(j - centre)^2 / (2 sigma^2)), j counted from 0.
// `weights` (count floats) is always written; count may be 0, and the context is then zeros.
struct Attention {
  const float* query = nullptr;
  ConstRows keys;
  const float* v = nullptr;
  ConstRows scores;
  ConstRows values;
  int64_t count = 0;
  int64_t key_size = 0;
  int64_t value_size = 0;
  float scale = 1.0F;
  Activation activation = Activation::tanh;
  Normaliser normaliser = Normaliser::softmax;
  float* weights = nullptr;
  float* context = nullptr;
  float energy_bias = 0.0F;
  Activation energy_activation = Activation::identity;
  float centre = 0.0F;
  float sigma = 0.0F;
};

// The maximum of x[0 ... size-1] and the sum of exp(x - maximum) over 32 lanes. A NaN anywhere
// makes the sum NaN.
struct Normaliser32 {
  float maximum;
  float sum;
};

// One candidate of a row: larger values first, ties to the lower id.
struct Candidate {
  float value;
  int32_t id;
};

// Values that are known within error_i = deviation_i * by_deviation + norm_i * by_norm
// + |estimate_i| * by_estimate + least, all of it 0 or more and rounded to nearest, three fma an
// error: of each panel of 32, the largest estimate_i - error_i and the largest estimate_i +
// error_i.
struct Enclosures {
  const float* estimate = nullptr;
  const float* deviation = nullptr;
  const float* norm = nullptr;
  float by_deviation = 0.0F;
  float by_norm = 0.0F;
  float by_estimate = 0.0F;
  float least = 0.0F;
  int64_t panels = 0;
  float* lower = nullptr;  // [panels]
  float* upper = nullptr;  // [panels]
};

struct Kernels {
  const char* isa;
  int32_t byte_offset;  // what `quantise` adds to the bytes of inputs, modulo 256
  void (*linear)(const Linear&) noexcept;
  void (*quantise)(const Linear&) noexcept;  // the inputs of a product of bytes, into its scratch
  void (*copy)(const Copy&) noexcept;
  void (*binary)(const BinaryMap&) noexcept;
  void (*interpolate)(const Interpolate&) noexcept;
  void (*map)(const Map&) noexcept;
  void (*softmax)(const Softmax&) noexcept;
  void (*pool)(const PoolRows&) noexcept;
  void (*lstm_gates)(const LstmGates&) noexcept;
  void (*gru_gates)(const GruGates&) noexcept;
  void (*gru_reset)(const GruReset&) noexcept;
  void (*layer_norm)(const LayerNorm&) noexcept;
  void (*attention)(const Attention&) noexcept;
  Normaliser32 (*normaliser)(const float* x, int64_t size) noexcept;
  // The best `count` <= size of x, best first; NaN is never chosen before a number.
  void (*top_k)(const float* x, int64_t size, int64_t count, Candidate* best) noexcept;
  void (*enclose)(const Enclosures&) noexcept;
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;
extern const Kernels kNeon;
extern const Kernels kNeonDot;

}  // namespace s2s
