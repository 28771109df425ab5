// A large output layer, screened: all outputs of a row in int8 with bounds on what float32 gives,
// then in float32 those that can be among the best, with the bits of the whole product. Knows
// weights and how kernels round; never tokens, nor what the best are wanted for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "ops/product.h"

namespace s2s {

class ScreenedLinear : public Op {
 public:
  // Screens a product of float32 weights with one row of inputs: `x` joined, `matrix` and `bias`
  // as given to `product`, which is not folded.
  ScreenedLinear(Call& call, InputProduct product, const std::vector<Value>& x,
                 const Matrix& matrix, std::span<const float> bias, SlotId out);

  // All outputs of all rows.
  void run(const Context& context) const noexcept override;

  // The bytes that screening keeps, beside the weights.
  std::size_t bytes() const noexcept;
  int64_t width() const noexcept { return product_.width(); }
  // The most panels that survivors() computes: a quarter of them, at least four.
  int64_t most() const noexcept { return std::max<int64_t>(product_.product().panels() / 4, 4); }
  static constexpr int64_t kMostWanted = 16;

  // For a frame of one row: computes the panels of 32 outputs that hold the `count` best outputs
  // (any order among equal ones) and gives their number, with the panels in ascending order.
  // Outputs of other panels are estimates then. -1 where that is not known: where more than
  // `panels` could hold them or an output could be larger than 2^101 or no number, or for
  // count > kMostWanted. With a count of 0 it only says that all outputs are below that.
  int64_t survivors(const Context& context, int64_t count,
                    std::span<int32_t> panels) const noexcept;
  // Computes the panel of output i, too.
  void compute(const Context& context, int64_t i) const noexcept;

  // What row 0 of a frame reads, as row_floats() floats; and all outputs of such rows, `stride`
  // floats apart, without a frame.
  int64_t row_floats() const noexcept { return row_floats_; }
  void keep(const Context& context, float* row) const noexcept;
  void outputs_of(const Context& context, const float* rows, int64_t count,
                  Rows out) const noexcept;

 private:
  static double norm(std::span<const Segment> segments) noexcept;
  double residual(const Context& context, std::span<const Segment> segments) const noexcept;

  InputProduct product_;
  Product bytes_;
  Memory start_;             // the bias; behind the last output what is below any other
  Memory deviation_, norm_;  // by output: upper bounds of |w - s q| and of |w| and |s q|
  double largest_norm_ = 0.0;
  std::vector<int64_t> sizes_;  // of the joined values
  double gamma_terms_, gamma_blocks_;
  int64_t row_floats_ = 0;
  SlotId out_, lower_, upper_;
};

}  // namespace s2s
