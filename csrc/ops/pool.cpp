#include <map>

#include "ops/makers.h"

namespace s2s {
namespace {

enum class How { first, last, mean, max, sum };

class PoolOp : public Op {
 public:
  PoolOp(How how, SequenceReader x, const Value& out)
      : how_(how), x_(x), out_(out.slot), size_(out.type.size) {}

  void run(const Context& context) const noexcept override {
    const int64_t stride = padded(size_);
    for (int32_t item = 0; item < context.frame.items; ++item) {
      SequenceReader::Span span = x_.of(context, item);
      float* out = context.floats(out_) + item * stride;
      if (how_ == How::first || how_ == How::last) {
        if (how_ == How::last) span.rows.data += (span.count - 1) * span.rows.stride;
        context.kernels.copy(
            {.x = span.rows, .out = {out, stride, nullptr}, .rows = 1, .size = size_});
      } else {
        const Pool kind = how_ == How::mean ? Pool::mean : how_ == How::max ? Pool::max : Pool::sum;
        context.kernels.pool({kind, span.rows, span.count, size_, out});
      }
    }
  }

 private:
  How how_;
  SequenceReader x_;
  SlotId out_;
  int64_t size_;
};

}  // namespace

Made make_pool(Call& call) {
  static const std::map<std::string, How> words = {{"first", How::first},
                                                   {"last", How::last},
                                                   {"mean", How::mean},
                                                   {"max", How::max},
                                                   {"sum", How::sum}};
  call.only({"x"}, {"how"});
  const Value& x = call.input("x", Kind::sequence);
  const auto how = words.find(call.word("how"));
  if (how == words.end()) call.fail("the attribute how is '" + call.word("how") + "', unknown");
  const SequenceReader reader = call.read_sequence(x);
  const Value out = call.output({Kind::vector, x.type.size}, kItems);
  return {std::make_unique<PoolOp>(how->second, reader, out), {{"", out}}};
}

}  // namespace s2s
