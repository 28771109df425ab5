// Packed weights and the joined inputs they multiply: what `linear` and the recurrent operations
// share. Panels of 32 outputs; the gates of a cell are blocks, each padded to whole panels.
#pragma once

#include <span>

#include "ops/op.h"

namespace s2s {

inline constexpr int64_t kMaxSegments = 64;

// The inputs of a product in order. An embedding at the front may have moved into the weights.
class Join {
 public:
  Join() = default;
  // Reads `values` on items or positions; leaves out the first one where it is `folded`.
  Join(Call& call, const std::vector<Value>& values, Along along, bool folded);
  int64_t fill(const Context& context, Segment* segments) const noexcept;

 private:
  std::vector<Reader> readers_;
};

// `blocks` row blocks of `block_size` outputs of a row-major matrix with `depth` columns, of which
// columns first ... first+used-1 are multiplied.
struct Matrix {
  const float* weight = nullptr;
  int64_t depth = 0;
  int64_t block_size = 0;
  int64_t blocks = 1;
  int64_t first = 0;
  int64_t used = 0;
  ComputeType type = ComputeType::float32;

  // Row i of a block, from the first column that is multiplied.
  const float* row(int64_t block, int64_t i) const {
    return weight + (block * block_size + i) * depth + first;
  }
};

// What the panels from `panel` on start from in place of a product's `init`.
struct Tail {
  int64_t panel = INT64_MAX;
  ConstRows init;
};

// Weights in panels, kept in the type that the matrix asks for. Those that bfloat16 holds exactly
// are kept in it in place of float32: half the bytes to read, the same bits.
class Product {
 public:
  Product() = default;
  // Float32 or bfloat16, run without slots.
  explicit Product(const Matrix& matrix);
  // For rows along items or positions.
  Product(Call& call, const Matrix& matrix, Along along);

  int64_t width() const { return panels_ * kLanes; }
  int64_t panels() const { return panels_; }
  int64_t depth() const { return depth_; }
  std::size_t bytes() const { return weight_.size() + scale_.size() + offset_.size(); }
  // Of a product in int8: the weight of an output for input k is byte(output, k) * scale(output).
  int8_t byte(int64_t output, int64_t k) const noexcept;
  float scale(int64_t output) const noexcept { return scale_.floats()[output]; }
  // Where a run leaves what it has made of its rows of inputs (kernels.h, Bytes).
  const float* quantised(const Context& context) const noexcept { return context.floats(scratch_); }
  // out[r] = activation(init[r] + W [segments][r])
  void run(const Context& context, std::span<const Segment> segments, int64_t rows, ConstRows init,
           Rows out, Activation activation, const Tail& tail = {}) const noexcept;
  // What a run of so many rows takes, as bytes that are streamed.
  int64_t cost(int64_t rows) const noexcept;
  // Tells the team that so many runs are to come.
  void promise(const Context& context, int64_t rows, int64_t times) const noexcept {
    if (context.team != nullptr) context.team->promise(cost(rows), times);
  }
  // The outputs of panels first ... first+count-1 of one row alone, where they stand in `out`: the
  // bits of all of them.
  void run_panels(const Context& context, std::span<const Segment> segments, const float* init,
                  float* out, int64_t first, int64_t count) const noexcept;

 private:
  Linear call_of(const Context& context, std::span<const Segment> segments, int64_t rows,
                 ConstRows init, Rows out, Activation activation) const noexcept;
  static void narrow(Linear& call, int64_t first, int64_t count) noexcept;
  template <typename Pack>
  void pack_rows(const Matrix& matrix, int64_t run, const Pack& pack);
  void pack_floats(const Matrix& matrix);
  void pack_words(const Matrix& matrix);
  void pack_bytes(const Matrix& matrix);
  static void run_parts(const Kernels& kernels, Linear call, const Tail& tail, int64_t first,
                        int64_t count) noexcept;
  void share(const Context& context, const Linear& whole, const Tail& tail,
             int members) const noexcept;

  Memory weight_;
  Memory scale_, offset_;  // int8: by output
  ComputeType type_ = ComputeType::float32;
  int64_t depth_ = 0;
  int64_t panels_ = 0;
  SlotId scratch_ = -1;  // int8: the inputs as bytes
};

// act(b + start + W [x1; x2; ...]) over items or positions of a frame. Where x1 is an embedding of
// a small vocabulary, b + W1 x1 is a table made at load, by the same additions in the same order:
// the same bits with one row read instead of a product.
class InputProduct {
 public:
  InputProduct() = default;
  InputProduct(Call& call, const std::vector<Value>& x, const Matrix& matrix,
               std::span<const float> padded_bias);
  // The product without inputs: the bias alone.
  explicit InputProduct(std::span<const float> padded_bias);
  int64_t width() const { return width_; }
  bool folded() const noexcept { return table_ids_ >= 0; }
  const Product& product() const noexcept { return product_; }
  void run(const Context& context, Rows out, Activation activation) const noexcept;
  // Where nothing is multiplied or added, what a run would copy: rows of the table or the bias.
  ConstRows ready(const Context& context) const noexcept;
  // What the product joins, at most kMaxSegments; gives their number.
  int64_t fill(const Context& context, Segment* segments) const noexcept {
    return join_.fill(context, segments);
  }
  ConstRows bias_rows() const noexcept { return {start_.floats(), 0, nullptr}; }

 private:
  ConstRows start_rows(const Context& context) const noexcept;
  void fold(const EmbeddingSource& embedding, const Matrix& matrix, std::span<const float> bias);

  Join join_;
  Product product_;
  Memory start_;  // the bias, or the table: row -1 (no token) first
  int64_t width_ = 0;
  std::vector<Reader> added_;  // to the bias or the row of the table
  SlotId table_ids_ = -1;      // ids that pick rows of the table; -1: `start_` is one bias row
  Along along_ = kItems;
};

// Biases laid out as padded blocks; null parts are zeros.
std::vector<float> padded_blocks(const float* first, const float* second, int64_t block_size,
                                 int64_t blocks);

}  // namespace s2s
