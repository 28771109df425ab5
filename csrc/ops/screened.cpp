#include "ops/screened.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

// The bound. Of one output: weights w, inputs x, bias b; in int8 w = s q + d and x = t p + f, with
// whole numbers q and p; u = 2^-24; gamma(n) = n u / (1 - n u); |v| is the 2-norm of a vector.
//
// L is what the float32 kernel gives, y = b + w.x without any rounding. A term of a block of at
// most 64 passes as many roundings at most, and one for each of the m blocks; the bias passes m.
// By Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., lemma 3.1 and section 3.1
// (any order of summation; an fma rounds once), and Cauchy-Schwarz:
//   |L - y| <= gamma(64 + m) |w| |x| + gamma(m) |b|                                            (1)
// The estimate is a = fl(fl(q.p) fl(s t) + b), q.p exact in 32 bits. With r = s q.(t p) + b,
//   y - r = d.x + s q.f, so |y - r| <= |d| |x| + |s q| |f|                                     (2)
//   |a - r| <= 2.1 u |s q| |t p| + u |a|                                                       (3)
// where the last term is (2.5) of Higham: an error is at most u of the rounded number, too. From
// (3), |b| <= |a| + |r - b| + |a - r| <= (1 + u) |a| + (1 + 2.1 u) |s q| |t p|. With N >= |w|, |s
// q| and |t p| <= |x| + |f| the sum of (1) to (3) is at most
//   |d| |x| + N (|f| + gamma(64 + m) |x| + (1.01 gamma(m) + 2.1 u) (|x| + |f|))
//     + (1.01 gamma(m) + u) |a|                                                                (4)
// Underflows (sums do not, products by at most 2^-150 each: at most 2^17 of them, and one in s t,
// which is multiplied by q.p < 2^31) come to less than 2^-117 altogether.
//
// kernels.enclose computes (4) by three fma and rounds the bounds to nearest, by u |a| and u of (4)
// at most: 2.1 u stands in place of u in (4), every factor is taken larger by 2^-20 = 16 u, and
// `least` is 2^-100. Norms are sums of at most 2^17 squares in double precision, whose terms round
// by 2^-52 of themselves (products of floats and of a float with a byte are exact there): 2^-30 is
// more than enough.
//
// All of it holds where nothing overflows, which N |x| <= 2^100 and |b| <= 2^100 make sure of.

namespace s2s {
namespace {

constexpr int64_t kBlock = 64;  // terms of a block of the kernels
constexpr double kUnit = 0x1p-24;
constexpr double kLargest = 0x1p100;
constexpr float kLeast = 0x1p-100F;
constexpr float kBelowAll = -0x1p102F;

double gamma(int64_t n) {
  const double nu = static_cast<double>(n) * kUnit;
  return nu / (1.0 - nu);
}

// The 2-norm of a sum of squares, rounded up.
double norm_of(double squares) { return std::sqrt(squares) * (1.0 + 0x1p-30); }

float rounded_up(double x) {
  return std::nextafter(static_cast<float>(x), std::numeric_limits<float>::infinity());
}

float factor(double x) { return rounded_up(x * (1.0 + 0x1p-20)); }

// An upper bound of the 2-norm of numbers; four sums side by side, for their latency.
class Norm {
 public:
  void add(int64_t k, double x) noexcept { sums_[static_cast<std::size_t>(k % 4)] += x * x; }
  double value() const noexcept { return norm_of((sums_[0] + sums_[1]) + (sums_[2] + sums_[3])); }

 private:
  std::array<double, 4> sums_ = {};
};

// The `count`-th largest of the values, or -infinity where there are fewer; of 16 at most.
float nth_largest(std::span<const float> values, int64_t count) {
  std::array<float, ScreenedLinear::kMostWanted> best;
  const auto last = static_cast<std::size_t>(count - 1);
  best.fill(-std::numeric_limits<float>::infinity());
  for (const float value : values) {
    if (!(value > best[last])) continue;
    std::size_t at = last;
    for (; at > 0 && best[at - 1] < value; --at) best[at] = best[at - 1];
    best[at] = value;
  }
  return best[last];
}

const float* row_of(const ConstRows& rows) {
  return rows.data + (rows.index != nullptr ? rows.index[0] : 0) * rows.stride;
}

}  // namespace

ScreenedLinear::ScreenedLinear(Call& call, InputProduct product, const std::vector<Value>& x,
                               const Matrix& matrix, std::span<const float> bias, SlotId out)
    : product_(std::move(product)), out_(out) {
  Matrix narrow = matrix;
  narrow.type = ComputeType::int8;
  bytes_ = Product(call, narrow, kItems);
  lower_ = call.scratch(kItems, padded(bytes_.panels()));
  upper_ = call.scratch(kItems, padded(bytes_.panels()));
  int64_t blocks = 0;
  for (const Value& value : x) {
    sizes_.push_back(value.type.size);
    blocks += (value.type.size + kBlock - 1) / kBlock;
    row_floats_ += padded(value.type.size);
  }
  gamma_terms_ = gamma(kBlock + blocks);
  gamma_blocks_ = gamma(blocks);

  const auto width = static_cast<std::size_t>(bytes_.width());
  for (Memory* memory : {&start_, &deviation_, &norm_}) memory->reserve(width * sizeof(float));
  std::fill_n(start_.floats(), width, kBelowAll);
  std::copy_n(bias.data(), matrix.block_size, start_.floats());
  for (int64_t i = 0; i < matrix.block_size; ++i) {
    const float* row = matrix.row(0, i);
    const double scale = bytes_.scale(i);
    double given = 0.0, kept = 0.0, lost = 0.0;
    for (int64_t k = 0; k < matrix.used; ++k) {
      const double w = row[k], q = scale * bytes_.byte(i, k), d = w - q;
      given += w * w;
      kept += q * q;
      lost += d * d;
    }
    deviation_.floats()[i] = rounded_up(norm_of(lost));
    norm_.floats()[i] = rounded_up(norm_of(std::max(given, kept)));
    const bool usable = std::max(given, kept) <= kLargest * kLargest &&
                        std::abs(bias[static_cast<std::size_t>(i)]) <= kLargest;
    largest_norm_ = usable ? std::max(largest_norm_, double{norm_.floats()[i]}) : HUGE_VAL;
  }
}

void ScreenedLinear::run(const Context& context) const noexcept {
  product_.run(context, {context.floats(out_), width(), nullptr}, Activation::identity);
}

std::size_t ScreenedLinear::bytes() const noexcept {
  return bytes_.bytes() + start_.size() + deviation_.size() + norm_.size();
}

double ScreenedLinear::norm(std::span<const Segment> segments) noexcept {
  Norm norm;
  for (const Segment& segment : segments) {
    const float* x = row_of(segment.x);
    for (int64_t k = 0; k < segment.size; ++k) norm.add(k, x[k]);
  }
  return norm.value();
}

double ScreenedLinear::residual(const Context& context,
                                std::span<const Segment> segments) const noexcept {
  const float* scratch = bytes_.quantised(context);
  const auto* byte = reinterpret_cast<const uint8_t*>(scratch);
  const double scale = scratch[quantised_stride(bytes_.depth()) - 1];
  Norm norm;
  for (const Segment& segment : segments) {
    const float* x = row_of(segment.x);
    for (int64_t k = 0; k < segment.size; ++k)
      norm.add(k, x[k] - scale * static_cast<int8_t>(byte[k] - context.kernels.byte_offset));
    byte += segment.size;
  }
  return norm.value();
}

int64_t ScreenedLinear::survivors(const Context& context, int64_t count,
                                  std::span<int32_t> panels) const noexcept {
  Segment joined[kMaxSegments];
  const std::span<const Segment> segments(joined,
                                          static_cast<std::size_t>(product_.fill(context, joined)));
  const double inputs = norm(segments);
  // false for a NaN, and for an infinity times zero
  if (!(inputs <= kLargest && largest_norm_ * inputs <= kLargest) || count > kMostWanted) return -1;
  if (count == 0) return 0;
  float* out = context.floats(out_);
  bytes_.run(context, segments, 1, {start_.floats(), 0, nullptr}, {out, width(), nullptr},
             Activation::identity);
  const double lost = residual(context, segments);
  const double bytes = 1.01 * gamma_blocks_ + 2.1 * kUnit;
  const float* lower = context.floats(lower_);
  const float* upper = context.floats(upper_);
  const int64_t all = bytes_.panels();
  context.kernels.enclose(
      {.estimate = out,
       .deviation = deviation_.floats(),
       .norm = norm_.floats(),
       .by_deviation = factor(inputs),
       .by_norm = factor(lost + gamma_terms_ * inputs + bytes * (inputs + lost)),
       .by_estimate = factor(bytes),
       .least = kLeast,
       .panels = all,
       .lower = context.floats(lower_),
       .upper = context.floats(upper_)});
  const float reached = nth_largest({lower, static_cast<std::size_t>(all)}, count);
  std::size_t found = 0;
  for (int64_t panel = 0; panel < all; ++panel) {
    if (upper[panel] < reached) continue;
    if (found == panels.size()) return -1;
    panels[found++] = static_cast<int32_t>(panel);
  }
  for (const int32_t panel : panels.first(found))
    product_.product().run_panels(context, segments, product_.bias_rows().data, out, panel, 1);
  return static_cast<int64_t>(found);
}

void ScreenedLinear::compute(const Context& context, int64_t i) const noexcept {
  Segment joined[kMaxSegments];
  const auto count = static_cast<std::size_t>(product_.fill(context, joined));
  product_.product().run_panels(context, {joined, count}, product_.bias_rows().data,
                                context.floats(out_), i / kLanes, 1);
}

void ScreenedLinear::keep(const Context& context, float* row) const noexcept {
  Segment joined[kMaxSegments];
  const auto count = static_cast<std::size_t>(product_.fill(context, joined));
  for (const Segment& segment : std::span(joined, count)) {
    std::copy_n(row_of(segment.x), segment.size, row);
    row += padded(segment.size);
  }
}

void ScreenedLinear::outputs_of(const Context& context, const float* rows, int64_t count,
                                Rows out) const noexcept {
  Segment joined[kMaxSegments];
  std::size_t number = 0;
  for (const int64_t size : sizes_) {
    joined[number++] = {{rows, row_floats_, nullptr}, size};
    rows += padded(size);
  }
  product_.product().run(context, {joined, number}, count, product_.bias_rows(), out,
                         Activation::identity);
}

}  // namespace s2s
