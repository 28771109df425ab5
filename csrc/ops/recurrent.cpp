// GRU and LSTM, as cells of one step and as layers over the source. A layer is its cell, position
// by position: both run the same `Recurrence`.
#include <algorithm>
#include <optional>

#include "ops/makers.h"
#include "ops/product.h"

namespace s2s {
namespace {

// What the recurrent half of a step reads and writes; a state without data is zero.
struct Step {
  int64_t rows = 0;
  ConstRows inputs;  // W_ih x + b per gate block
  ConstRows h;
  ConstRows c;
  Rows gates;   // scratch, may be where `inputs` are
  Rows hidden;  // scratch of one block
  Rows h_next;
  Rows c_next;
};

struct Activations {
  Activation state;
  Activation gate;
};

class Lstm {
 public:
  static constexpr int64_t kGates = 4;
  static constexpr bool kMemory = true;

  explicit Lstm(const Call& call, int64_t size)
      : size_(size),
        activations_{call.activation("activation"), call.activation("gate_activation")},
        recurrent_({call.weight("weight_hh", {kGates * size, size}).data, size, size, kGates, 0,
                    size}) {
    if (call.number("clip") != 0.0) call.not_built("clip");
  }

  std::vector<float> input_bias(const Call& call) const {
    return padded_blocks(call.optional_weight("bias_ih", {kGates * size_}),
                         call.optional_weight("bias_hh", {kGates * size_}), size_, kGates);
  }

  void run(const Kernels& kernels, const Step& step) const noexcept {
    ConstRows gates = step.inputs;
    if (step.h.data != nullptr) {
      const Segment h = {step.h, size_};
      recurrent_.run(kernels, {&h, 1}, step.rows, step.inputs, step.gates, Activation::identity);
      gates = {step.gates.data, step.gates.stride, step.gates.index};
    }
    kernels.lstm_gates({gates, step.c, step.c_next, step.h_next, step.rows, size_,
                        activations_.state, activations_.gate});
  }

 private:
  int64_t size_;
  Activations activations_;
  Product recurrent_;
};

class Gru {
 public:
  static constexpr int64_t kGates = 3;
  static constexpr bool kMemory = false;

  explicit Gru(const Call& call, int64_t size)
      : size_(size),
        activations_{call.activation("activation"), call.activation("gate_activation")},
        after_(reset_after(call)) {
    const float* weight = call.weight("weight_hh", {kGates * size, size}).data;
    gates_ = Product({weight, size, size, 2, 0, size});
    candidate_ = Product({weight + 2 * size * size, size, size, 1, 0, size});
    const float* bias = call.optional_weight("bias_hh", {kGates * size});
    const auto padded_bias = padded_blocks(bias == nullptr ? nullptr : bias + 2 * size, nullptr,
                                           size, 1);
    candidate_bias_ = Memory(padded_bias.size() * sizeof(float));
    std::copy(padded_bias.begin(), padded_bias.end(), candidate_bias_.floats());
  }

  // The candidate's recurrent bias stays apart where the reset gate multiplies it.
  std::vector<float> input_bias(const Call& call) const {
    const float* recurrent = call.optional_weight("bias_hh", {kGates * size_});
    std::vector<float> merged(static_cast<std::size_t>(kGates * size_), 0.0F);
    if (recurrent != nullptr)
      std::copy_n(recurrent, (after_ ? 2 : 3) * size_, merged.begin());
    return padded_blocks(call.optional_weight("bias_ih", {kGates * size_}), merged.data(), size_,
                         kGates);
  }

  void run(const Kernels& kernels, const Step& step) const noexcept {
    const int64_t block = padded(size_);
    const Segment h = {step.h, size_};
    const bool started = step.h.data != nullptr;
    const ConstRows bias = {candidate_bias_.floats(), 0, nullptr};
    ConstRows gates = step.inputs;
    ConstRows hidden = after_ ? bias : ConstRows{};
    ConstRows candidate = {};
    if (started) {
      gates_.run(kernels, {&h, 1}, step.rows, step.inputs, step.gates, Activation::identity);
      gates = {step.gates.data, step.gates.stride, step.gates.index};
      candidate = {step.inputs.data + 2 * block, step.inputs.stride, step.inputs.index};
      if (after_) {
        candidate_.run(kernels, {&h, 1}, step.rows, bias, step.hidden, Activation::identity);
        hidden = {step.hidden.data, step.hidden.stride, step.hidden.index};
      } else {
        kernels.gru_reset({gates, step.h, step.hidden, step.rows, size_, activations_.gate});
        const Segment kept = {{step.hidden.data, step.hidden.stride, nullptr}, size_};
        const Rows to = {step.gates.data + 2 * block, step.gates.stride, step.gates.index};
        candidate_.run(kernels, {&kept, 1}, step.rows, candidate, to, Activation::identity);
        candidate = {to.data, to.stride, to.index};
      }
    } else {
      candidate = {gates.data + 2 * block, gates.stride, gates.index};
    }
    kernels.gru_gates({gates, candidate, hidden, step.h, step.h_next, step.rows, size_,
                       activations_.state, activations_.gate});
  }

 private:
  static bool reset_after(const Call& call) {
    const std::string& reset = call.word("reset");
    if (reset != "after" && reset != "before")
      call.fail("the attribute reset is '" + reset + "', must be after or before");
    return reset == "after";
  }

  int64_t size_;
  Activations activations_;
  bool after_;
  Product gates_;
  Product candidate_;
  Memory candidate_bias_;
};

template <typename Recurrence>
int64_t hidden_size(const Call& call) {
  const int64_t size = call.weight("weight_hh", {-1, -1}).shape[1];
  call.weight("weight_hh", {Recurrence::kGates * size, size});
  return size;
}

template <typename Recurrence>
InputProduct input_product(Call& call, const Recurrence& recurrence, int64_t size) {
  const std::vector<float> bias = recurrence.input_bias(call);
  if (call.has("x") != call.has("weight_ih")) call.fail("x and weight_ih must be given together");
  if (!call.has("x")) return InputProduct(bias);
  const std::vector<Value>& x = call.joined("x");
  const int64_t depth = joined_size(x);
  const float* weight = call.weight("weight_ih", {Recurrence::kGates * size, depth}).data;
  return {call, x, {weight, depth, size, Recurrence::kGates, 0, depth}, bias};
}

std::optional<Reader> state(Call& call, const std::string& role, int64_t size) {
  if (!call.has(role)) return std::nullopt;
  const Value& value = call.input(role, Kind::vector);
  if (value.type.size != size)
    call.fail(role + " is " + to_string(value.type) + ", must be vector[" + std::to_string(size) +
              "]");
  return call.read(value, false);
}

template <typename Recurrence>
class CellOp : public Op {
 public:
  CellOp(Call& call, int64_t size)
      : recurrence_(call, size),
        input_(input_product(call, recurrence_, size)),
        has_input_(call.has("x")),
        h_(state(call, "h", size)),
        c_(Recurrence::kMemory ? state(call, "c", size) : std::nullopt),
        gates_(call.scratch(false, Recurrence::kGates * padded(size))),
        hidden_(call.scratch(false, padded(size))),
        stride_(padded(size)) {}

  SlotId h_next = -1;
  SlotId c_next = -1;

  void run(const Context& context) const noexcept override {
    const Rows gates = {context.floats(gates_), input_.width(), nullptr};
    Step step;
    step.rows = context.frame.items;
    step.gates = gates;
    if (has_input_) {
      input_.run(context, gates, Activation::identity);
      step.inputs = {gates.data, gates.stride, nullptr};
    } else {
      step.inputs = input_.bias_rows();
    }
    if (h_) step.h = h_->rows(context);
    if (c_) step.c = c_->rows(context);
    step.hidden = {context.floats(hidden_), stride_, nullptr};
    step.h_next = {context.floats(h_next), stride_, nullptr};
    if (Recurrence::kMemory) step.c_next = {context.floats(c_next), stride_, nullptr};
    recurrence_.run(context.kernels, step);
  }

 private:
  Recurrence recurrence_;
  InputProduct input_;
  bool has_input_;
  std::optional<Reader> h_, c_;
  SlotId gates_, hidden_;
  int64_t stride_;
};

template <typename Recurrence>
class LayerOp : public Op {
 public:
  LayerOp(Call& call, int64_t size)
      : recurrence_(call, size),
        input_(input_product(call, recurrence_, size)),
        backward_(direction_backward(call)),
        h0_(state(call, "h", size)),
        c0_(Recurrence::kMemory ? state(call, "c", size) : std::nullopt),
        inputs_(call.scratch(true, Recurrence::kGates * padded(size))),
        gates_(call.scratch(false, Recurrence::kGates * padded(size))),
        hidden_(call.scratch(false, padded(size))),
        live_(call.scratch(false, 1)),
        current_(call.scratch(false, 1)),
        previous_(call.scratch(false, 1)),
        size_(size) {}

  SlotId sequence = -1;
  SlotId h_last = -1;
  SlotId c_last = -1;

  void run(const Context& context) const noexcept override {
    input_.run(context, {context.floats(inputs_), input_.width(), nullptr}, Activation::identity);
    const Frame& frame = context.frame;
    int32_t longest = 0;
    for (int32_t item = 0; item < frame.items; ++item)
      longest = std::max(longest, frame.offsets[item + 1] - frame.offsets[item]);
    for (int32_t t = 0; t < longest; ++t) recurrence_.run(context.kernels, step_at(context, t));
    int32_t* last = context.ids(current_);
    for (int32_t item = 0; item < frame.items; ++item)
      last[item] = backward_ ? frame.offsets[item] : frame.offsets[item + 1] - 1;
    const int64_t stride = padded(size_);
    context.kernels.copy({.x = {context.floats(sequence), stride, last},
                          .out = {context.floats(h_last), stride, nullptr},
                          .rows = frame.items,
                          .size = size_});
  }

 private:
  static bool direction_backward(const Call& call) {
    const std::string& direction = call.word("direction");
    if (direction != "forward" && direction != "backward")
      call.fail("the attribute direction is '" + direction + "', must be forward or backward");
    return direction == "backward";
  }

  // Step t of all items that are longer than t: the rows of the products are these items.
  Step step_at(const Context& context, int32_t t) const noexcept {
    const Frame& frame = context.frame;
    int32_t* live = context.ids(live_);
    int32_t* current = context.ids(current_);
    int32_t* previous = context.ids(previous_);
    int32_t rows = 0;
    for (int32_t item = 0; item < frame.items; ++item) {
      const int32_t begin = frame.offsets[item], end = frame.offsets[item + 1];
      if (t >= end - begin) continue;
      live[rows] = item;
      current[rows] = backward_ ? end - 1 - t : begin + t;
      previous[rows] = backward_ ? end - t : begin + t - 1;
      ++rows;
    }
    const int64_t stride = padded(size_);
    Step step;
    step.rows = rows;
    step.inputs = {context.floats(inputs_), input_.width(), current};
    step.gates = {context.floats(gates_), input_.width(), nullptr};
    step.hidden = {context.floats(hidden_), stride, nullptr};
    step.h_next = {context.floats(sequence), stride, current};
    if (t > 0) step.h = {context.floats(sequence), stride, previous};
    if (t == 0 && h0_) step.h = indexed(h0_->rows(context), live);
    if (!Recurrence::kMemory) return step;
    step.c_next = {context.floats(c_last), stride, live};
    if (t > 0) step.c = {context.floats(c_last), stride, live};
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
  bool backward_;
  std::optional<Reader> h0_, c0_;
  SlotId inputs_, gates_, hidden_, live_, current_, previous_;
  int64_t size_;
};

template <typename Recurrence>
Made make_cell(Call& call) {
  if (call.has("x") && any_sequence(call.joined("x")))
    call.fail("x holds a sequence; a cell takes vectors, a layer takes sequences");
  const int64_t size = hidden_size<Recurrence>(call);
  auto op = std::make_unique<CellOp<Recurrence>>(call, size);
  const Value h = call.output({Kind::vector, size});
  op->h_next = h.slot;
  Made made;
  made.outputs.emplace_back(Recurrence::kMemory ? "h" : "", h);
  if (Recurrence::kMemory) {
    const Value c = call.output({Kind::vector, size});
    op->c_next = c.slot;
    made.outputs.emplace_back("c", c);
  }
  made.op = std::move(op);
  return made;
}

template <typename Recurrence>
Made make_layer(Call& call) {
  if (!any_sequence(call.joined("x")))
    call.fail("x holds no sequence; a layer takes sequences, a cell takes vectors");
  const int64_t size = hidden_size<Recurrence>(call);
  auto op = std::make_unique<LayerOp<Recurrence>>(call, size);
  const Value sequence = call.output({Kind::sequence, size});
  const Value h = call.output({Kind::vector, size});
  op->sequence = sequence.slot;
  op->h_last = h.slot;
  Made made;
  made.outputs = {{"sequence", sequence}, {"h", h}};
  if (Recurrence::kMemory) {
    const Value c = call.output({Kind::vector, size});
    op->c_last = c.slot;
    made.outputs.emplace_back("c", c);
  }
  made.op = std::move(op);
  return made;
}

}  // namespace

Made make_gru_cell(Call& call) {
  call.only({"x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"},
            {"activation", "gate_activation", "reset"});
  return make_cell<Gru>(call);
}

Made make_lstm_cell(Call& call) {
  call.only({"x", "h", "c", "weight_ih", "weight_hh", "bias_ih", "bias_hh"},
            {"activation", "gate_activation", "clip"});
  return make_cell<Lstm>(call);
}

Made make_gru(Call& call) {
  call.only({"x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"},
            {"direction", "activation", "gate_activation", "reset"});
  return make_layer<Gru>(call);
}

Made make_lstm(Call& call) {
  call.only({"x", "h", "c", "weight_ih", "weight_hh", "bias_ih", "bias_hh"},
            {"direction", "activation", "gate_activation", "clip"});
  return make_layer<Lstm>(call);
}

}  // namespace s2s
