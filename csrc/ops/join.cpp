// concat and slice: features moved, never computed.
#include "ops/makers.h"

namespace s2s {
namespace {

class Concat : public Op {
 public:
  Concat(Call& call, const std::vector<Value>& x, const Value& out)
      : out_(out.slot), stride_(padded(out.type.size)), along_(out.along) {
    for (const Value& value : x) parts_.push_back(call.read(value, along_));
  }

  void run(const Context& context) const noexcept override {
    float* to = context.floats(out_);
    const int64_t rows = context.frame.count(along_);
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
  Along along_;
};

class Slice : public Op {
 public:
  Slice(Reader x, int64_t start, const Value& out)
      : x_(x), start_(start), size_(out.type.size), out_(out.slot), along_(out.along) {}

  void run(const Context& context) const noexcept override {
    ConstRows x = x_.rows(context);
    x.data += start_;
    context.kernels.copy({.x = x,
                          .out = {context.floats(out_), padded(size_), nullptr},
                          .rows = context.frame.count(along_),
                          .size = size_});
  }

 private:
  Reader x_;
  int64_t start_, size_;
  SlotId out_;
  Along along_;
};

}  // namespace

Made make_concat(Call& call) {
  call.only({"x"}, {});
  const std::vector<Value>& x = call.joined("x");
  const ValueType type = {any_sequence(x) ? Kind::sequence : Kind::vector, joined_size(x)};
  const Value out = call.output(type, call.along(x));
  return {std::make_unique<Concat>(call, x, out), {{"", out}}};
}

Made make_slice(Call& call) {
  call.only({"x"}, {"start", "stop"});
  const Value& x = call.features_input("x");
  const int64_t start = call.integer("start", 0, int64_t{1} << 24);
  const int64_t stop = call.integer("stop", 1, int64_t{1} << 24);
  if (start >= stop || stop > x.type.size)
    call.fail("takes features " + std::to_string(start) + " to " + std::to_string(stop) +
              " of x, which is " + to_string(x.type));
  const Value out = call.output({x.type.kind, stop - start}, x.along);
  return {std::make_unique<Slice>(call.read(x, x.along), start, out), {{"", out}}};
}

}  // namespace s2s
