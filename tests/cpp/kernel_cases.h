// Calls of every kernel on random shapes around the edges of registers, with what each must give:
// exact where a plain loop of fma says it, within a bound where exp is inside. Knows the kernel
// table; never a model. The same numbers on every machine: nothing here asks it for random ones.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/kernels.h"

namespace cases {

using namespace s2s;
using Floats = std::vector<float>;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {  // splitmix64
    uint64_t x = state_ += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  bool coin() { return below(2) == 0; }
  float number(float range = 2.0F) {
    return (static_cast<float>(next() >> 40) * 0x1p-23F - 1.0F) * range;
  }
  int64_t size() {  // around the edges of registers, panels and blocks
    static constexpr int64_t sizes[] = {1,  2,  3,  4,  5,  7,  8,  9,  15, 16,  17,
                                        31, 32, 33, 47, 63, 64, 65, 96, 97, 129, 200};
    return sizes[below(std::size(sizes))];
  }
  Floats numbers(int64_t count, float range = 2.0F) {
    Floats values(static_cast<std::size_t>(count));
    for (float& value : values) value = number(range);
    return values;
  }

 private:
  uint64_t state_;
};

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows with NaN where a kernel may read and must not care, in any order if `index` is set.
struct Table {
  Table(Random& random, int64_t rows, int64_t size, float range = 2.0F)
      : stride(padded(size) + 32 * random.below(2) + random.below(3)),
        data(static_cast<std::size_t>(rows * stride + 32), kNaN) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < size; ++i) at(r, i) = random.number(range);
    if (!random.coin()) return;
    index.resize(static_cast<std::size_t>(rows));
    std::iota(index.begin(), index.end(), 0);
    for (auto& entry : index) std::swap(entry, index[random.below(rows)]);
  }
  float& at(int64_t r, int64_t i) { return data[static_cast<std::size_t>(r * stride + i)]; }
  // What a kernel sees as row r.
  float seen(int64_t r, int64_t i) const {
    const int64_t row = index.empty() ? r : index[static_cast<std::size_t>(r)];
    return data[static_cast<std::size_t>(row * stride + i)];
  }
  ConstRows rows() const { return {data.data(), stride, index.empty() ? nullptr : index.data()}; }

  int64_t stride;
  Floats data;
  std::vector<int32_t> index;
};

struct Case {
  std::string name;
  std::function<Floats(const Kernels&)> run;
  std::function<std::vector<double>()> expected;  // none: only the bits of levels are compared
  double bound = 0.0;                             // of |got - expected| / max(1, |expected|)
};

// Outputs of rows, without what stands behind their ends.
class Output {
 public:
  Output(int64_t rows, int64_t size)
      : rows_(rows), size_(size), stride_(padded(size) + 1), data_(rows * stride_ + 1, -7.0F) {}
  Rows rows() { return {data_.data(), stride_, nullptr}; }
  Floats values() const {
    Floats values;
    for (int64_t r = 0; r < rows_; ++r)
      values.insert(values.end(), data_.begin() + r * stride_, data_.begin() + r * stride_ + size_);
    return values;
  }
  // Floats between and behind the rows, which nobody may write.
  bool intact() const {
    for (int64_t r = 0; r < rows_; ++r)
      if (data_[static_cast<std::size_t>((r + 1) * stride_ - 1)] != -7.0F) return false;
    return data_.back() == -7.0F;
  }
  Floats checked() const { return intact() ? values() : Floats{}; }

 private:
  int64_t rows_, size_, stride_;
  Floats data_;
};

// --- the functions once more, in double ---

inline double exact(Activation kind, double x) {
  switch (kind) {
    case Activation::identity: return x;
    case Activation::tanh: return std::tanh(x);
    case Activation::sigmoid: return 1.0 / (1.0 + std::exp(-x));
    case Activation::hard_sigmoid: return std::clamp(0.2 * x + 0.5, 0.0, 1.0);
    case Activation::hard_sigmoid_6: return std::clamp(x / 6.0 + 0.5, 0.0, 1.0);
    case Activation::relu: return std::max(x, 0.0);
    case Activation::softplus: return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
  }
  return x;
}
inline Activation any_activation(Random& random) { return Activation(random.below(7)); }
inline double bound_of(Activation kind) { return kind == Activation::identity ? 0.0 : 1e-6; }

inline std::vector<double> softmax_of(const std::vector<double>& x) {
  const double most = *std::max_element(x.begin(), x.end());
  std::vector<double> out;
  for (const double value : x) out.push_back(std::exp(value - most));
  const double sum = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& value : out) value /= sum;
  return out;
}

// --- products ---

enum class Weights { floats, words, bytes };

struct Product {
  Product(Random& random, Weights kind)
      : type(kind), rows(1 + random.below(9)), first(random.below(8)), panels(1 + random.below(8)) {
    const int64_t count = 1 + random.below(3);
    for (int64_t s = 0; s < count; ++s) {
      const int64_t size = random.size();
      inputs.emplace_back(random, rows, size);
      sizes.push_back(size);
      depth += size;
    }
    const int64_t outputs = panels * kLanes;
    weight = random.numbers(outputs * depth, 0.5F);
    if (type == Weights::words)
      for (float& w : weight) w = std::bit_cast<float>(std::bit_cast<uint32_t>(w) & 0xFFFF0000U);
    if (type == Weights::bytes)
      for (float& w : weight) w = std::trunc(w * 254.0F);
    scale = random.numbers(outputs, 0.01F);
    init = random.numbers(rows * outputs);
    has_init = random.coin();
    activation = any_activation(random);
    pack();
  }

  // Weight of output o for input k.
  float of(int64_t o, int64_t k) const { return weight[static_cast<std::size_t>(o * depth + k)]; }

  void pack() {
    const int64_t groups = (depth + 3) / 4;
    const int64_t all = first + panels;
    floats.resize(static_cast<std::size_t>(grouped<float>((all + 1) / 2 * 2, depth)));
    words.resize(static_cast<std::size_t>(grouped<uint16_t>((all + 3) / 4 * 4, depth)));
    bytes.resize(static_cast<std::size_t>(grouped<int8_t>((all + 1) / 2 * 2, groups)));
    offset.resize(static_cast<std::size_t>(panels * kLanes));
    for (int64_t o = 0; o < panels * kLanes; ++o) {
      const int64_t panel = o / kLanes, lane = o % kLanes;
      for (int64_t k = 0; k < depth; ++k) {
        const int64_t line = grouped<float>(first + panel, depth) + k * kGroupLine<float>;
        const int64_t word = grouped<uint16_t>(first + panel, depth) + k * kGroupLine<uint16_t>;
        floats[static_cast<std::size_t>(line + lane)] = of(o, k);
        words[static_cast<std::size_t>(word + 2 * (lane % 16) + lane / 16)] =
            static_cast<uint16_t>(std::bit_cast<uint32_t>(of(o, k)) >> 16);
        if (type != Weights::bytes) continue;
        const int64_t group = grouped<int8_t>(first + panel, groups) + k / 4 * kGroupLine<int8_t>;
        bytes[static_cast<std::size_t>(group + 4 * lane + k % 4)] = static_cast<int8_t>(of(o, k));
        offset[static_cast<std::size_t>(o)] -= 128 * static_cast<int32_t>(of(o, k));
      }
    }
  }

  Floats run(const Kernels& kernels) const {
    std::vector<Segment> segments;
    for (std::size_t s = 0; s < sizes.size(); ++s) segments.push_back({inputs[s].rows(), sizes[s]});
    Output output(rows, panels * kLanes);
    Floats scratch(static_cast<std::size_t>(rows * quantised_stride(depth)));
    Linear call;
    if (type == Weights::floats) call.weight = floats.data();
    if (type == Weights::words) call.words = words.data();
    if (type == Weights::bytes)
      call.bytes = {bytes.data(), scale.data(), offset.data(), scratch.data()};
    call.segments = segments.data();
    call.segment_count = static_cast<int64_t>(segments.size());
    call.depth = depth;
    if (has_init) call.init = {init.data(), panels * kLanes, nullptr};
    call.out = output.rows();
    call.rows = rows;
    call.first = first;
    call.panels = panels;
    call.activation = activation;
    kernels.linear(call);
    const Floats found = output.checked();
    const auto same = [](float a, float b) {
      return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
    };
    for (const auto [ahead, back] : {std::pair(true, true), {false, false}, {false, true}}) {
      Output other(rows, panels * kLanes);
      call.out = other.rows();
      call.ahead = ahead;
      call.back = back;
      kernels.linear(call);
      const Floats again = other.checked();
      if (!std::equal(found.begin(), found.end(), again.begin(), again.end(), same)) return {};
    }
    return found;
  }

  float sum_of_floats(int64_t r, int64_t o) const {
    float total = has_init ? init[static_cast<std::size_t>(r * panels * kLanes + o)] : 0.0F;
    int64_t at = 0;
    for (std::size_t s = 0; s < sizes.size(); at += sizes[s++]) {
      for (int64_t begin = 0; begin < sizes[s]; begin += 64) {
        float sum = 0.0F;
        for (int64_t k = begin; k < std::min(begin + 64, sizes[s]); ++k)
          sum = std::fma(of(o, at + k), inputs[s].seen(r, k), sum);
        total += sum;
      }
    }
    return total;
  }
  float sum_of_bytes(int64_t r, int64_t o) const {
    Floats x;
    for (std::size_t s = 0; s < sizes.size(); ++s)
      for (int64_t k = 0; k < sizes[s]; ++k) x.push_back(inputs[s].seen(r, k));
    float most = 0.0F;
    for (const float value : x) most = std::max(most, std::fabs(value));
    const float inverse = most >= 0x1p-100F ? 127.0F / most : 0.0F;
    int64_t sum = 0;
    for (int64_t k = 0; k < depth; ++k)
      sum += static_cast<int64_t>(of(o, k)) *
             static_cast<int64_t>(std::nearbyint(x[static_cast<std::size_t>(k)] * inverse));
    return std::fma(static_cast<float>(sum), scale[static_cast<std::size_t>(o)] * (most / 127.0F),
                    has_init ? init[static_cast<std::size_t>(r * panels * kLanes + o)] : 0.0F);
  }
  std::vector<double> expected() const {
    std::vector<double> values;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = 0; o < panels * kLanes; ++o)
        values.push_back(
            exact(activation, type == Weights::bytes ? sum_of_bytes(r, o) : sum_of_floats(r, o)));
    return values;
  }

  Weights type;
  int64_t rows, first, panels, depth = 0;
  std::vector<Table> inputs;
  std::vector<int64_t> sizes;
  Floats weight, scale, init, floats;
  std::vector<uint16_t> words;
  std::vector<int8_t> bytes;
  std::vector<int32_t> offset;
  bool has_init = false;
  Activation activation;
};

inline Case product_case(Random& random, Weights type) {
  const auto product = std::make_shared<Product>(random, type);
  static const char* names[] = {"linear", "linear bfloat16", "linear int8"};
  return {names[static_cast<int>(type)],
          [product](const Kernels& kernels) { return product->run(kernels); },
          [product] { return product->expected(); }, bound_of(product->activation)};
}

}  // namespace cases
