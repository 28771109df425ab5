#include <cstring>
#include <memory>

#include "ops/makers.h"

namespace s2s {
namespace {

// Rows of a table picked by ids. The table has a zero row in front, for the id -1, and serves all
// operations that pick from the same weight.
using Table = std::shared_ptr<const Memory>;

Table table_of(const EmbeddingSource& source, Layout& layout) {
  Table& table = layout.embeddings[{source.weight, source.vocabulary, source.size}];
  if (table != nullptr) return table;
  const int64_t stride = padded(source.size);
  Memory rows(static_cast<std::size_t>((source.vocabulary + 1) * stride) * sizeof(float));
  for (int64_t row = 0; row < source.vocabulary; ++row)
    std::memcpy(rows.floats() + (row + 1) * stride, source.weight + row * source.size,
                static_cast<std::size_t>(source.size) * sizeof(float));
  table = std::make_shared<const Memory>(std::move(rows));
  return table;
}

class Embedding : public Op {
 public:
  Embedding(const EmbeddingSource& source, Table table, Reader ids, Along along, SlotId out)
      : table_(std::move(table)),
        ids_(ids),
        out_(out),
        size_(source.size),
        scale_(source.scale),
        along_(along) {}

  void run(const Context& context) const noexcept override {
    const int64_t stride = padded(size_), rows = context.frame.count(along_);
    const ConstRows at = ids_.rows(context);
    const auto* ids = reinterpret_cast<const int32_t*>(at.data);
    const float* table = table_->floats() + stride;
    float* out = context.floats(out_);
    if (at.index == nullptr) return copy(context, {table, stride, ids}, out, rows);
    for (int64_t r = 0; r < rows; ++r)  // ids of sentences, read by the rows of a scan's body
      copy(context, {table + ids[at.index[r]] * stride, stride, nullptr}, out + r * stride, 1);
  }

 private:
  void copy(const Context& context, ConstRows x, float* out, int64_t rows) const noexcept {
    context.kernels.copy({.x = x,
                          .out = {out, padded(size_), nullptr},
                          .rows = rows,
                          .size = size_,
                          .scale = scale_});
  }

  Table table_;
  Reader ids_;
  SlotId out_;
  int64_t size_;
  float scale_;
  Along along_;
};

// A vector that is the same for every item; the plan keeps its floats.
class Constant : public Op {
 public:
  explicit Constant(int64_t size) : value(static_cast<std::size_t>(padded(size)) * sizeof(float)) {}
  void run(const Context&) const noexcept override {}
  Memory value;
};

}  // namespace

Made make_embedding(Call& call) {
  call.only({"x", "weight"}, {"scale"});
  const auto found = call.inputs.find("x");
  const bool positions = found != call.inputs.end() && found->second.size() == 1 &&
                         found->second.front().type.kind == Kind::ids;
  const Value& x = call.input("x", positions ? Kind::ids : Kind::id);
  const Tensor& weight = call.weight("weight", {-1, -1});
  if (weight.shape[0] < x.type.size)
    call.fail("weight has " + std::to_string(weight.shape[0]) + " rows, fewer than the " +
              std::to_string(x.type.size) + " ids of x");
  Value out = call.output({positions ? Kind::sequence : Kind::vector, weight.shape[1]}, x.along);
  const EmbeddingSource source = {weight.data, weight.shape[0], weight.shape[1],
                                  static_cast<float>(call.number("scale")), x.slot};
  if (x.level == call.run_level()) out.embedding = source;
  const Reader ids = call.read(x, x.along);
  return {
      std::make_unique<Embedding>(source, table_of(source, call.layout()), ids, x.along, out.slot),
      {{"", out}}};
}

Made make_constant(Call& call) {
  call.only({"value"}, {"size"});
  const int64_t size = call.integer("size", 1, int64_t{1} << 24);
  const float* value = call.optional_weight("value", {size});
  auto op = std::make_unique<Constant>(size);
  if (value != nullptr)
    std::memcpy(op->value.bytes(), value, static_cast<std::size_t>(size) * sizeof(float));
  Value out;
  out.type = {Kind::vector, size};
  out.level = Level::fixed;
  call.layout().slots.push_back({Level::fixed, kItems, padded(size), op->value.floats()});
  out.slot = static_cast<SlotId>(call.layout().slots.size()) - 1;
  return {std::move(op), {{"", out}}};
}

}  // namespace s2s
