// add, multiply, interpolate, activation, softmax: row by row over features.
#include "ops/makers.h"

namespace s2s {
namespace {

// Items or positions of a frame, and where the result goes.
struct Target {
  SlotId slot;
  int64_t size;
  Along along;

  explicit Target(const Value& out) : slot(out.slot), size(out.type.size), along(out.along) {}
  Rows rows(const Context& context) const noexcept {
    return {context.floats(slot), padded(size), nullptr};
  }
  int64_t count(const Context& context) const noexcept { return context.frame.count(along); }
};

Operand operand(const Context& context, const Reader& reader, int64_t size) noexcept {
  return {reader.rows(context), reader.size() == 1 && size != 1};
}

// The type that values broadcast to: sizes equal or 1, a sequence if any is one.
ValueType broadcast(const Call& call, const std::vector<Value>& values) {
  int64_t size = 1;
  for (const Value& value : values) {
    if (value.type.kind != Kind::vector && value.type.kind != Kind::sequence)
      call.fail("takes vectors and sequences, got " + to_string(value.type));
    if (value.type.size == 1) continue;
    if (size != 1 && size != value.type.size)
      call.fail("sizes must be equal or 1, got " + std::to_string(size) + " and " +
                std::to_string(value.type.size));
    size = value.type.size;
  }
  return {any_sequence(values) ? Kind::sequence : Kind::vector, size};
}

class Chain : public Op {
 public:
  Chain(Binary kind, std::vector<Reader> x, const Value& out)
      : kind_(kind), x_(std::move(x)), target_(out) {}

  void run(const Context& context) const noexcept override {
    const Rows out = target_.rows(context);
    Operand left = operand(context, x_.front(), target_.size);
    for (std::size_t n = 1; n < x_.size(); ++n) {
      context.kernels.binary({kind_, left, operand(context, x_[n], target_.size), out,
                              target_.count(context), target_.size});
      left = {{out.data, out.stride, nullptr}, false};
    }
  }

 private:
  Binary kind_;
  std::vector<Reader> x_;
  Target target_;
};

class InterpolateOp : public Op {
 public:
  InterpolateOp(Reader gate, Reader a, Reader b, const Value& out)
      : gate_(gate), a_(a), b_(b), target_(out) {}

  void run(const Context& context) const noexcept override {
    context.kernels.interpolate({operand(context, gate_, target_.size),
                                 operand(context, a_, target_.size),
                                 operand(context, b_, target_.size), target_.rows(context),
                                 target_.count(context), target_.size});
  }

 private:
  Reader gate_, a_, b_;
  Target target_;
};

class MapOp : public Op {
 public:
  MapOp(Activation function, Reader x, const Value& out)
      : function_(function), x_(x), target_(out) {}

  void run(const Context& context) const noexcept override {
    context.kernels.map(
        {function_, x_.rows(context), target_.rows(context), target_.count(context), target_.size});
  }

 private:
  Activation function_;
  Reader x_;
  Target target_;
};

class SoftmaxOp : public Op {
 public:
  SoftmaxOp(Reader x, const Value& out) : x_(x), target_(out) {}

  void run(const Context& context) const noexcept override {
    context.kernels.softmax(
        {x_.rows(context), target_.rows(context), target_.count(context), target_.size});
  }

 private:
  Reader x_;
  Target target_;
};

Made make_chain(Call& call, Binary kind) {
  call.only({"x"}, {});
  const std::vector<Value>& x = call.joined("x");
  if (x.size() < 2) call.fail("needs at least two values in x");
  const ValueType type = broadcast(call, x);
  std::vector<Reader> readers;
  const Along along = call.along(x);
  for (const Value& value : x) readers.push_back(call.read(value, along));
  const Value out = call.output(type, along);
  return {std::make_unique<Chain>(kind, std::move(readers), out), {{"", out}}};
}

}  // namespace

Made make_add(Call& call) { return make_chain(call, Binary::add); }
Made make_multiply(Call& call) { return make_chain(call, Binary::multiply); }

Made make_interpolate(Call& call) {
  call.only({"gate", "a", "b"}, {});
  const Value& gate = call.features_input("gate");
  const Value& a = call.features_input("a");
  const Value& b = call.features_input("b");
  const ValueType type = broadcast(call, {gate, a, b});
  const Along along = call.along({gate, a, b});
  const Reader readers[] = {call.read(gate, along), call.read(a, along), call.read(b, along)};
  const Value out = call.output(type, along);
  return {std::make_unique<InterpolateOp>(readers[0], readers[1], readers[2], out), {{"", out}}};
}

Made make_activation(Call& call) {
  call.only({"x"}, {"function"});
  const Value& x = call.features_input("x");
  const Activation function = call.activation("function");
  const Reader reader = call.read(x, x.along);
  const Value out = call.output(x.type, x.along);
  return {std::make_unique<MapOp>(function, reader, out), {{"", out}}};
}

Made make_softmax(Call& call) {
  call.only({"x"}, {});
  const Value& x = call.features_input("x");
  const Reader reader = call.read(x, x.along);
  const Value out = call.output(x.type, x.along);
  return {std::make_unique<SoftmaxOp>(reader, out), {{"", out}}};
}

}  // namespace s2s
