#include "ops/scan.h"

#include <algorithm>
#include <cstring>

namespace s2s {
namespace {

const float* row_of(const ConstRows& rows, int64_t r) noexcept {
  return rows.data + (rows.index != nullptr ? rows.index[r] : r) * rows.stride;
}

class Scan : public Op {
 public:
  Scan(Call& call, ScanParts parts) : parts_(std::move(parts)) {
    for (const ScanState& state : parts_.states)
      held_.push_back(call.scratch(kItems, padded(state.value.type.size)));
  }

  void run(const Context& context) const noexcept override {
    start(context);
    const int32_t longest = context.frame.longest(parts_.along);
    for (int32_t t = 0; t < longest && !context.interrupted(t); ++t) {
      load(context, t);
      for (const auto& op : parts_.body) op->run(context);
      keep(context, t);
    }
  }

 private:
  int32_t position(const Context& context, int32_t item, int32_t t) const noexcept {
    const int32_t* offsets = context.frame.positions[parts_.along].offsets;
    return parts_.backward ? offsets[item + 1] - 1 - t : offsets[item] + t;
  }
  bool live(const Context& context, int32_t item, int32_t t) const noexcept {
    const int32_t* offsets = context.frame.positions[parts_.along].offsets;
    return t < offsets[item + 1] - offsets[item];
  }

  void start(const Context& context) const noexcept {
    for (const ScanState& state : parts_.states) {
      const int64_t size = state.value.type.size, stride = padded(size);
      for (int32_t item = 0; item < context.frame.items; ++item) {
        float* to = context.floats(state.value.slot) + item * stride;
        if (state.starts)
          std::memcpy(to, row_of(state.initial.rows(context), item), bytes(size));
        else
          std::memset(to, 0, bytes(stride));
      }
    }
  }

  // An item that has ended steps on with what it has; nothing of that is kept.
  void load(const Context& context, int32_t t) const noexcept {
    const int64_t stride = padded(parts_.input.type.size);
    for (int32_t item = 0; item < context.frame.items; ++item) {
      if (!live(context, item, t)) continue;
      float* to = context.floats(parts_.input.slot) + item * stride;
      for (const Reader& x : parts_.x) {
        std::memcpy(to, row_of(x.rows(context), position(context, item, t)), bytes(x.size()));
        to += x.size();
      }
    }
  }

  // All next values are read before the first state changes: one may be another's old value.
  void keep(const Context& context, int32_t t) const noexcept {
    for (int32_t item = 0; item < context.frame.items; ++item) {
      if (!live(context, item, t)) continue;
      const int64_t stride = padded(parts_.sequence.type.size);
      std::memcpy(context.floats(parts_.sequence.slot) + position(context, item, t) * stride,
                  row_of(parts_.result.rows(context), item), bytes(parts_.sequence.type.size));
      for (std::size_t n = 0; n < parts_.states.size(); ++n)
        std::memcpy(held(context, n, item), row_of(parts_.states[n].next.rows(context), item),
                    bytes(parts_.states[n].value.type.size));
      for (std::size_t n = 0; n < parts_.states.size(); ++n) {
        const Value& value = parts_.states[n].value;
        std::memcpy(context.floats(value.slot) + item * padded(value.type.size),
                    held(context, n, item), bytes(value.type.size));
      }
    }
  }

  float* held(const Context& context, std::size_t n, int32_t item) const noexcept {
    return context.floats(held_[n]) + item * padded(parts_.states[n].value.type.size);
  }
  static std::size_t bytes(int64_t floats) noexcept {
    return static_cast<std::size_t>(floats) * sizeof(float);
  }

  ScanParts parts_;
  std::vector<SlotId> held_;
};

}  // namespace

std::unique_ptr<Op> make_scan(Call& call, ScanParts parts) {
  return std::make_unique<Scan>(call, std::move(parts));
}

}  // namespace s2s
