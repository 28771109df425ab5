// concat and slice: features moved, never computed.
#include "ops/makers.h"

namespace s2s {
namespace {

class Concat : public Op {
 public:
  Concat(Call& call, const std::vector<Value>& x, bool positions, const Value& out)
      : out_(out.slot), stride_(padded(out.type.size)), positions_(positions) {
    for (const Value& value : x) parts_.push_back(call.read(value, positions));
  }

  void run(const Context& context) const noexcept override {
    float* to = context.floats(out_);
    const int64_t rows = positions_ ? context.frame.positions : context.frame.items;
    for (const Reader& part : parts_) {
      context.kernels.copy({.x = part.rows(context),
                            .out = {to, stride_, nullptr},
                            .rows = rows,
                            .size = part.size()});
      to += part.size();
    }
  }

 private:
  std::vector<Reader> parts_;
  SlotId out_;
  int64_t stride_;
  bool positions_;
};

class Slice : public Op {
 public:
  Slice(Reader x, int64_t start, bool positions, const Value& out)
      : x_(x), start_(start), size_(out.type.size), out_(out.slot), positions_(positions) {}

  void run(const Context& context) const noexcept override {
    ConstRows x = x_.rows(context);
    x.data += start_;
    context.kernels.copy({.x = x,
                          .out = {context.floats(out_), padded(size_), nullptr},
                          .rows = positions_ ? context.frame.positions : context.frame.items,
                          .size = size_});
  }

 private:
  Reader x_;
  int64_t start_, size_;
  SlotId out_;
  bool positions_;
};

}  // namespace

Made make_concat(Call& call) {
  call.only({"x"}, {});
  const std::vector<Value>& x = call.joined("x");
  const bool positions = any_sequence(x);
  const Value out = call.output({positions ? Kind::sequence : Kind::vector, joined_size(x)});
  return {std::make_unique<Concat>(call, x, positions, out), {{"", out}}};
}

Made make_slice(Call& call) {
  call.only({"x"}, {"start", "stop"});
  const Value& x = call.features_input("x");
  const int64_t start = call.integer("start", 0, int64_t{1} << 24);
  const int64_t stop = call.integer("stop", 1, int64_t{1} << 24);
  if (start >= stop || stop > x.type.size)
    call.fail("takes features " + std::to_string(start) + " to " + std::to_string(stop) +
              " of x, which is " + to_string(x.type));
  const Value out = call.output({x.type.kind, stop - start});
  const bool positions = x.is_sequence();
  return {std::make_unique<Slice>(call.read(x, positions), start, positions, out), {{"", out}}};
}

}  // namespace s2s
