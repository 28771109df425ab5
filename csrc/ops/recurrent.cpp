// RNN, GRU and LSTM, as cells of one step and as layers over the source. A layer is its cell,
// position by position: both run the same `Recurrence`.
#include <algorithm>
#include <optional>

#include "ops/makers.h"
#include "ops/recurrences.h"

namespace s2s {
namespace {

template <typename Recurrence>
InputProduct input_product(Call& call, const Recurrence& recurrence) {
  const int64_t size = recurrence.block();
  const std::vector<float> bias = recurrence.input_bias(call);
  if (call.has("x") != call.has("weight_ih")) call.fail("x and weight_ih must be given together");
  if (!call.has("x")) return InputProduct(bias);
  const std::vector<Value>& x = call.joined("x");
  const int64_t depth = joined_size(x);
  const Tensor& weight = call.weight("weight_ih", {Recurrence::kGates * size, depth});
  return {call, x, {weight.data, depth, size, Recurrence::kGates, 0, depth, weight.type}, bias};
}

std::optional<Reader> state(Call& call, const std::string& role, int64_t size) {
  if (!call.has(role)) return std::nullopt;
  const Value& value = call.input(role, Kind::vector);
  if (value.type.size != size)
    call.fail(role + " is " + to_string(value.type) + ", must be vector[" + std::to_string(size) +
              "]");
  return call.read(value, kItems);
}

template <typename Recurrence>
class CellOp : public Op {
 public:
  explicit CellOp(Call& call)
      : recurrence_(call),
        input_(input_product(call, recurrence_)),
        h_(state(call, "h", recurrence_.size())),
        c_(Recurrence::kMemory ? state(call, "c", recurrence_.block()) : std::nullopt),
        gates_(call.scratch(kItems, input_.width())),
        inputs_(recurrence_.keeps_inputs() ? call.scratch(kItems, input_.width()) : gates_),
        hidden_(call.scratch(kItems, padded(recurrence_.block()))),
        h_next(call.output({Kind::vector, recurrence_.size()}, kItems)) {
    if (Recurrence::kMemory) c_next = call.output({Kind::vector, recurrence_.block()}, kItems);
  }

  void run(const Context& context) const noexcept override {
    const Rows inputs = {context.floats(inputs_), input_.width(), nullptr};
    CellStep step;
    step.rows = context.frame.items;
    step.gates = {context.floats(gates_), input_.width(), nullptr};
    step.inputs = input_.ready(context);
    if (step.inputs.data == nullptr) {
      input_.run(context, inputs, Activation::identity);
      step.inputs = {inputs.data, inputs.stride, nullptr};
    }
    if (h_) step.h = h_->rows(context);
    if (c_) step.c = c_->rows(context);
    const int64_t block = padded(recurrence_.block());
    step.hidden = {context.floats(hidden_), block, nullptr};
    step.h_next = {context.floats(h_next.slot), padded(recurrence_.size()), nullptr};
    if (Recurrence::kMemory) step.c_next = {context.floats(c_next.slot), block, nullptr};
    recurrence_.run(context, step);
  }

 private:
  Recurrence recurrence_;
  InputProduct input_;
  std::optional<Reader> h_, c_;
  SlotId gates_, inputs_, hidden_;

 public:
  Value h_next, c_next;
};

template <typename Recurrence>
class LayerOp : public Layer {
 public:
  explicit LayerOp(Call& call)
      : recurrence_(call),
        input_(input_product(call, recurrence_)),
        along_(call.along(call.joined("x"))),
        backward_(direction_backward(call)),
        h0_(state(call, "h", recurrence_.size())),
        c0_(Recurrence::kMemory ? state(call, "c", recurrence_.block()) : std::nullopt),
        inputs_(call.scratch(along_, input_.width())),
        gates_(call.scratch(kItems, input_.width())),
        hidden_(call.scratch(kItems, padded(recurrence_.block()))),
        live_(call.scratch(kItems, 1)),
        current_(call.scratch(kItems, 1)),
        previous_(call.scratch(kItems, 1)),
        named_(call.scratch(kItems, 1)),
        sequence(call.output({Kind::sequence, recurrence_.size()}, along_)),
        h_last(call.output({Kind::vector, recurrence_.size()}, kItems)) {
    if (Recurrence::kMemory) c_last = call.output({Kind::vector, recurrence_.block()}, kItems);
  }

  void run(const Context& context) const noexcept override {
    ConstRows inputs = input_.ready(context);
    if (inputs.data == nullptr) {
      const Rows made = {context.floats(inputs_), input_.width(), nullptr};
      input_.run(context, made, Activation::identity);
      inputs = {made.data, made.stride, nullptr};
    }
    const Frame& frame = context.frame;
    const int32_t longest = frame.longest(along_);
    const std::size_t bytes = recurrence_.product().bytes();
    recurrence_.product().promise(context, frame.items, longest);
    for (int32_t t = 0; t < longest && !context.interrupted(t); ++t)
      recurrence_.run(context.in_step(t, bytes), step_at(context, t, inputs));
    const int32_t* offsets = frame.positions[along_].offsets;
    int32_t* last = context.ids(current_);
    for (int32_t item = 0; item < frame.items; ++item)
      last[item] = backward_ ? offsets[item] : offsets[item + 1] - 1;
    const int64_t stride = padded(recurrence_.size());
    context.kernels.copy({.x = {context.floats(sequence.slot), stride, last},
                          .out = {context.floats(h_last.slot), stride, nullptr},
                          .rows = frame.items,
                          .size = recurrence_.size()});
  }

  int64_t positions(const Frame& frame) const noexcept override { return frame.longest(along_); }
  int64_t position_bytes(const Frame& frame) const noexcept override {
    return recurrence_.product().cost(frame.items);
  }

 private:
  static bool direction_backward(const Call& call) {
    const std::string& direction = call.word("direction");
    if (direction != "forward" && direction != "backward")
      call.fail("the attribute direction is '" + direction + "', must be forward or backward");
    return direction == "backward";
  }

  // Step t of all items that are longer than t: the rows of the products are these items.
  // `inputs` are by position, or rows that positions name.
  CellStep step_at(const Context& context, int32_t t, ConstRows inputs) const noexcept {
    const Frame& frame = context.frame;
    const int32_t* offsets = frame.positions[along_].offsets;
    int32_t* live = context.ids(live_);
    int32_t* current = context.ids(current_);
    int32_t* previous = context.ids(previous_);
    int32_t* named = inputs.index != nullptr ? context.ids(named_) : current;
    int32_t rows = 0;
    for (int32_t item = 0; item < frame.items; ++item) {
      const int32_t begin = offsets[item], end = offsets[item + 1];
      if (t >= end - begin) continue;
      live[rows] = item;
      current[rows] = backward_ ? end - 1 - t : begin + t;
      previous[rows] = backward_ ? end - t : begin + t - 1;
      if (inputs.index != nullptr) named[rows] = inputs.index[current[rows]];
      ++rows;
    }
    const int64_t stride = padded(recurrence_.size());
    const int64_t block = padded(recurrence_.block());
    CellStep step;
    step.rows = rows;
    step.inputs = {inputs.data, inputs.stride, named};
    step.gates = {context.floats(gates_), input_.width(), nullptr};
    step.hidden = {context.floats(hidden_), block, nullptr};
    step.h_next = {context.floats(sequence.slot), stride, current};
    if (t > 0) step.h = {context.floats(sequence.slot), stride, previous};
    if (t == 0 && h0_) step.h = indexed(h0_->rows(context), live);
    if (!Recurrence::kMemory) return step;
    step.c_next = {context.floats(c_last.slot), block, live};
    if (t > 0) step.c = {context.floats(c_last.slot), block, live};
    if (t == 0 && c0_) step.c = indexed(c0_->rows(context), live);
    return step;
  }

  // At t = 0 every item is live, so that `live` counts up and rows keep their own index.
  static ConstRows indexed(ConstRows rows, const int32_t* live) noexcept {
    if (rows.index == nullptr) rows.index = live;
    return rows;
  }

  Recurrence recurrence_;
  InputProduct input_;
  Along along_;
  bool backward_;
  std::optional<Reader> h0_, c0_;
  SlotId inputs_, gates_, hidden_, live_, current_, previous_, named_;

 public:
  Value sequence, h_last, c_last;
};

template <typename Recurrence>
Made make_cell(Call& call) {
  if (call.has("x") && any_sequence(call.joined("x")))
    call.fail("x holds a sequence; a cell takes vectors, a layer takes sequences");
  auto op = std::make_unique<CellOp<Recurrence>>(call);
  Made made;
  made.outputs.emplace_back(Recurrence::kMemory ? "h" : "", op->h_next);
  if (Recurrence::kMemory) made.outputs.emplace_back("c", op->c_next);
  made.op = std::move(op);
  return made;
}

template <typename Recurrence>
Made make_layer(Call& call) {
  if (!any_sequence(call.joined("x")))
    call.fail("x holds no sequence; a layer takes sequences, a cell takes vectors");
  auto op = std::make_unique<LayerOp<Recurrence>>(call);
  Made made;
  made.outputs = {{"sequence", op->sequence}, {"h", op->h_last}};
  if (Recurrence::kMemory) made.outputs.emplace_back("c", op->c_last);
  made.op = std::move(op);
  return made;
}

}  // namespace

Made make_rnn_cell(Call& call) {
  call.only({"x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"}, {"activation"});
  return make_cell<Rnn>(call);
}

Made make_gru_cell(Call& call) {
  call.only({"x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"},
            {"activation", "gate_activation", "reset"});
  return make_cell<Gru>(call);
}

Made make_lstm_cell(Call& call) {
  call.only(
      {"x", "h", "c", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "peephole", "projection"},
      {"activation", "gate_activation", "clip"});
  return make_cell<Lstm>(call);
}

Made make_rnn(Call& call) {
  call.only({"x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"},
            {"direction", "activation"});
  return make_layer<Rnn>(call);
}

Made make_gru(Call& call) {
  call.only({"x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"},
            {"direction", "activation", "gate_activation", "reset"});
  return make_layer<Gru>(call);
}

Made make_lstm(Call& call) {
  call.only(
      {"x", "h", "c", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "peephole", "projection"},
      {"direction", "activation", "gate_activation", "clip"});
  return make_layer<Lstm>(call);
}

}  // namespace s2s
