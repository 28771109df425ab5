#include "ops/makers.h"
#include "ops/screened.h"

namespace s2s {
namespace {

class LinearOp : public Op {
 public:
  LinearOp(InputProduct product, Activation activation, SlotId out)
      : product_(std::move(product)), activation_(activation), out_(out) {}

  void run(const Context& context) const noexcept override {
    product_.run(context, {context.floats(out_), product_.width(), nullptr}, activation_);
  }

 private:
  InputProduct product_;
  Activation activation_;
  SlotId out_;
};

}  // namespace

Made make_linear(Call& call) {
  call.only({"x", "weight", "bias"}, {"activation"});
  const std::vector<Value>& x = call.joined("x");
  const int64_t depth = joined_size(x);
  const Tensor& weight = call.weight("weight", {-1, depth});
  const int64_t size = weight.shape[0];
  const auto bias = padded_blocks(call.optional_weight("bias", {size}), nullptr, size, 1);
  const Activation activation = call.activation("activation");
  const Matrix matrix = {weight.data, depth, size, 1, 0, depth, weight.type};
  InputProduct product(call, x, matrix, bias);
  const Value out =
      call.output({any_sequence(x) ? Kind::sequence : Kind::vector, size}, call.along(x));
  if (weight.type == ComputeType::float32 && call.run_level() == Level::row && !any_sequence(x) &&
      activation == Activation::identity && depth <= kMaxBytesDepth && !product.folded() &&
      call.start.empty() && static_cast<int64_t>(product.product().bytes()) >= call.screen_from)
    return {std::make_unique<ScreenedLinear>(call, std::move(product), x, matrix, bias, out.slot),
            {{"", out}}};
  return {std::make_unique<LinearOp>(std::move(product), activation, out.slot), {{"", out}}};
}

}  // namespace s2s
