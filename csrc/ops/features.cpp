// maxout, layer_norm, one_hot, first_step: row by row over features.
#include <algorithm>
#include <cstring>

#include "ops/makers.h"

namespace s2s {
namespace {

class Maxout : public Op {
 public:
  Maxout(Reader x, int64_t pieces, const Value& out) : x_(x), pieces_(pieces), out_(out) {}

  void run(const Context& context) const noexcept override {
    const ConstRows rows = x_.rows(context);
    const int64_t size = out_.type.size, stride = padded(size);
    const int64_t count = context.frame.count(out_.along);
    for (int64_t r = 0; r < count; ++r) {
      const float* x = rows.data + (rows.index != nullptr ? rows.index[r] : r) * rows.stride;
      float* out = context.floats(out_.slot) + r * stride;
      for (int64_t j = 0; j < size; ++j, x += pieces_) {
        float best = x[0];
        // a NaN stays: it must reach the check of the logits
        for (int64_t p = 1; p < pieces_; ++p) best = x[p] < best ? best : x[p];
        out[j] = best;
      }
    }
  }

 private:
  Reader x_;
  int64_t pieces_;
  Value out_;
};

class LayerNormOp : public Op {
 public:
  LayerNormOp(Reader x, float eps, const Value& out) : x_(x), eps_(eps), out_(out) {}
  Memory weight, bias;

  void run(const Context& context) const noexcept override {
    context.kernels.layer_norm({.x = x_.rows(context),
                                .out = {context.floats(out_.slot), padded(out_.type.size), nullptr},
                                .rows = context.frame.count(out_.along),
                                .size = out_.type.size,
                                .eps = eps_,
                                .weight = weight.floats(),
                                .bias = bias.floats()});
  }

 private:
  Reader x_;
  float eps_;
  Value out_;
};

class OneHot : public Op {
 public:
  OneHot(Reader ids, const Value& out) : ids_(ids), out_(out) {}

  void run(const Context& context) const noexcept override {
    const int64_t stride = padded(out_.type.size);
    const int64_t count = context.frame.count(out_.along);
    float* out = context.floats(out_.slot);
    std::fill_n(out, count * stride, 0.0F);
    const ConstRows at = ids_.rows(context);
    const auto* ids = reinterpret_cast<const int32_t*>(at.data);
    for (int64_t r = 0; r < count; ++r) {
      const int32_t id = ids[at.index != nullptr ? at.index[r] : r];
      if (id >= 0) out[r * stride + id] = 1.0F;
    }
  }

 private:
  Reader ids_;
  Value out_;
};

class FirstStep : public Op {
 public:
  FirstStep(Reader first, Reader otherwise, const Value& out)
      : first_(first), otherwise_(otherwise), out_(out) {}

  void run(const Context& context) const noexcept override {
    const ConstRows choices[] = {otherwise_.rows(context), first_.rows(context)};
    const int64_t stride = padded(out_.type.size);
    for (int32_t r = 0; r < context.frame.items; ++r) {
      const ConstRows& rows = choices[context.frame.steps[r] == 0 ? 1 : 0];
      const int64_t from = rows.index != nullptr ? rows.index[r] : r;
      std::memcpy(context.floats(out_.slot) + r * stride, rows.data + from * rows.stride,
                  static_cast<std::size_t>(out_.type.size) * sizeof(float));
    }
  }

 private:
  Reader first_, otherwise_;
  Value out_;
};

Memory padded_copy(const float* data, int64_t size) {
  if (data == nullptr) return {};
  Memory memory(static_cast<std::size_t>(padded(size)) * sizeof(float));
  std::copy_n(data, size, memory.floats());
  return memory;
}

}  // namespace

Made make_maxout(Call& call) {
  call.only({"x"}, {"pieces"});
  const Value& x = call.features_input("x");
  const int64_t pieces = call.integer("pieces", 1, int64_t{1} << 24);
  if (x.type.size % pieces != 0)
    call.fail("pieces is " + std::to_string(pieces) + ", must divide the size of x, which is " +
              to_string(x.type));
  const Reader reader = call.read(x, x.along);
  const Value out = call.output({x.type.kind, x.type.size / pieces}, x.along);
  return {std::make_unique<Maxout>(reader, pieces, out), {{"", out}}};
}

Made make_layer_norm(Call& call) {
  call.only({"x", "weight", "bias"}, {"eps"});
  const Value& x = call.features_input("x");
  const auto eps = static_cast<float>(call.number("eps"));
  if (!(eps >= 0.0F)) call.fail("the attribute eps must be at least 0");
  const Reader reader = call.read(x, x.along);
  const Value out = call.output(x.type, x.along);
  auto op = std::make_unique<LayerNormOp>(reader, eps, out);
  op->weight = padded_copy(call.optional_weight("weight", {x.type.size}), x.type.size);
  op->bias = padded_copy(call.optional_weight("bias", {x.type.size}), x.type.size);
  return {std::move(op), {{"", out}}};
}

Made make_one_hot(Call& call) {
  call.only({"x"}, {"size"});
  const auto found = call.inputs.find("x");
  const bool ids = found != call.inputs.end() && found->second.size() == 1 &&
                   found->second.front().type.kind == Kind::ids;
  const Value& x = call.input("x", ids ? Kind::ids : Kind::id);
  const int64_t size = call.integer("size", 1, int64_t{1} << 24);
  if (x.type.size > size)
    call.fail("size is " + std::to_string(size) + ", fewer than the ids of x, which is " +
              to_string(x.type));
  Value out = call.output({ids ? Kind::sequence : Kind::vector, size}, x.along);
  if (x.level == call.run_level()) out.embedding = {nullptr, size, size, 1.0F, x.slot};
  return {std::make_unique<OneHot>(call.read(x, x.along), out), {{"", out}}};
}

Made make_first_step(Call& call) {
  call.only({"first", "otherwise"}, {});
  if (!call.in_decoder) call.fail("stands in a decoder only: nothing else counts steps");
  const Value& first = call.input("first", Kind::vector);
  const Value& otherwise = call.input("otherwise", Kind::vector);
  if (first.type.size != otherwise.type.size)
    call.fail("first is " + to_string(first.type) + " and otherwise is " +
              to_string(otherwise.type));
  call.level = Level::row;
  const Reader readers[] = {call.read(first, kItems), call.read(otherwise, kItems)};
  const Value out = call.output(first.type, kItems);
  return {std::make_unique<FirstStep>(readers[0], readers[1], out), {{"", out}}};
}

}  // namespace s2s
