// reverse, join, to_positions, scatter: values moved between positions.
#include <algorithm>
#include <cstring>
#include <map>

#include "ops/makers.h"

namespace s2s {
namespace {

class Reverse : public Op {
 public:
  Reverse(SequenceReader x, const Value& out) : x_(x), out_(out) {}

  void run(const Context& context) const noexcept override {
    const bool ids = out_.type.kind == Kind::ids;
    const std::size_t bytes = static_cast<std::size_t>(ids ? 1 : out_.type.size) * sizeof(float);
    const int64_t stride = ids ? 1 : padded(out_.type.size);
    float* out = context.floats(out_.slot);
    for (int32_t item = 0; item < context.frame.items; ++item) {
      const SequenceReader::Span span = x_.of(context, item);
      for (int32_t j = span.count - 1; j >= 0; --j, out += stride)
        std::memcpy(out, span.rows.data + j * span.rows.stride, bytes);
    }
  }

 private:
  SequenceReader x_;
  Value out_;
};

// Parts behind each other along positions; a vector is one position.
class JoinPositions : public Op {
 public:
  struct Part {
    bool vector;
    Reader items;
    SequenceReader positions;
  };
  JoinPositions(std::vector<Part> parts, const Value& out) : parts_(std::move(parts)), out_(out) {}

  void run(const Context& context) const noexcept override {
    const int64_t size = out_.type.size, stride = padded(size);
    float* out = context.floats(out_.slot);
    for (int32_t item = 0; item < context.frame.items; ++item)
      for (const Part& part : parts_) {
        ConstRows rows;
        int64_t count = 1;
        if (part.vector) {
          rows = part.items.rows(context);
          rows.data += (rows.index != nullptr ? rows.index[item] : item) * rows.stride;
          rows.index = nullptr;
        } else {
          const SequenceReader::Span span = part.positions.of(context, item);
          rows = span.rows;
          count = span.count;
        }
        context.kernels.copy(
            {.x = rows, .out = {out, stride, nullptr}, .rows = count, .size = size});
        out += count * stride;
      }
  }

 private:
  std::vector<Part> parts_;
  Value out_;
};

class ToPositions : public Op {
 public:
  ToPositions(Reader x, const Value& out) : x_(x), out_(out) {}

  void run(const Context& context) const noexcept override {
    const ConstRows rows = x_.rows(context);
    const Positions& positions = context.frame.positions[kSource];
    float* out = context.floats(out_.slot);
    for (int32_t item = 0; item < context.frame.items; ++item) {
      const float* x = rows.data + (rows.index != nullptr ? rows.index[item] : item) * rows.stride;
      const int32_t begin = positions.offsets[item], end = positions.offsets[item + 1];
      for (int32_t p = begin; p < end; ++p)
        out[p * kLanes] = p - begin < x_.size() ? x[p - begin] : 0.0F;
    }
  }

 private:
  Reader x_;
  Value out_;
};

class Scatter : public Op {
 public:
  Scatter(SequenceReader weights, SequenceReader ids, const Value& out)
      : weights_(weights), ids_(ids), out_(out) {}

  void run(const Context& context) const noexcept override {
    const int64_t stride = padded(out_.type.size);
    for (int32_t item = 0; item < context.frame.items; ++item) {
      float* out = context.floats(out_.slot) + item * stride;
      std::fill_n(out, stride, 0.0F);
      const SequenceReader::Span weights = weights_.of(context, item);
      const auto* ids = reinterpret_cast<const int32_t*>(ids_.of(context, item).rows.data);
      for (int32_t j = 0; j < weights.count; ++j)
        if (ids[j] >= 0) out[ids[j]] += weights.rows.data[j * weights.rows.stride];
    }
  }

 private:
  SequenceReader weights_, ids_;
  Value out_;
};

}  // namespace

Made make_reverse(Call& call) {
  call.only({"x"}, {});
  const auto found = call.inputs.find("x");
  const bool ids = found != call.inputs.end() && found->second.size() == 1 &&
                   found->second.front().type.kind == Kind::ids;
  const Value& x = call.input("x", ids ? Kind::ids : Kind::sequence);
  const SequenceReader reader = call.read_sequence(x);
  const Value out = call.output(x.type, x.along);
  return {std::make_unique<Reverse>(reader, out), {{"", out}}};
}

Made make_join(Call& call) {
  call.only({"x"}, {});
  const std::vector<Value>& x = call.joined("x");
  if (x.size() < 2 || !any_sequence(x))
    call.fail("x must hold at least two values, one a sequence");
  std::vector<JoinPositions::Part> parts;
  Length length{0, 0};
  for (const Value& value : x) {
    if (value.type.size != x.front().type.size)
      call.fail("x holds " + to_string(value.type) + " and " + to_string(x.front().type) +
                ": sizes must be equal");
    const bool vector = !value.is_sequence();
    const Length own =
        vector ? Length{0, 1} : call.layout().lengths[static_cast<std::size_t>(value.along)];
    length = {length.a + own.a, length.b + own.b};
    parts.push_back({vector, vector ? call.read(value, kItems) : Reader{},
                     vector ? SequenceReader{} : call.read_sequence(value)});
  }
  if (length.a > 16 || length.b > 4096) call.fail("joins more than 16 S + 4096 positions");
  const Along along = call.layout().length(length);
  const Value out = call.output({Kind::sequence, x.front().type.size}, along);
  return {std::make_unique<JoinPositions>(std::move(parts), out), {{"", out}}};
}

Made make_to_positions(Call& call) {
  call.only({"x"}, {});
  const Value& x = call.input("x", Kind::vector);
  const Reader reader = call.read(x, kItems);
  const Value out = call.output({Kind::sequence, 1}, kSource);
  return {std::make_unique<ToPositions>(reader, out), {{"", out}}};
}

Made make_scatter(Call& call) {
  call.only({"weights", "ids"}, {"size"});
  const Value& weights = call.input("weights", Kind::sequence);
  const Value& ids = call.input("ids", Kind::ids);
  const int64_t size = call.integer("size", 1, int64_t{1} << 24);
  if (weights.type.size != 1) call.fail("weights is " + to_string(weights.type));
  if (weights.along != ids.along) call.fail("weights and ids must have one length");
  if (ids.type.size > size)
    call.fail("size is " + std::to_string(size) + ", fewer than the ids' " + to_string(ids.type));
  const SequenceReader readers[] = {call.read_sequence(weights), call.read_sequence(ids)};
  const Value out = call.output({Kind::vector, size}, kItems);
  return {std::make_unique<Scatter>(readers[0], readers[1], out), {{"", out}}};
}

}  // namespace s2s
