// RNN, GRU and LSTM, as cells of one step and as layers over the source. A layer is its cell,
// position by position: both run the same `Recurrence`.
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

// h' = activation(W x + b + U h)
class Rnn {
 public:
  static constexpr int64_t kGates = 1;
  static constexpr bool kMemory = false;

  explicit Rnn(Call& call)
      : size_(call.weight("weight_hh", {-1, -1}).shape[1]),
        activation_(call.activation("activation")) {
    const Tensor& weight = call.weight("weight_hh", {size_, size_});
    recurrent_ = Product(call, {weight.data, size_, size_, 1, 0, size_, weight.type}, kItems);
  }

  const Product& product() const { return recurrent_; }  // the largest
  int64_t size() const { return size_; }
  int64_t block() const { return size_; }

  std::vector<float> input_bias(const Call& call) const {
    return padded_blocks(call.optional_weight("bias_ih", {size_}),
                         call.optional_weight("bias_hh", {size_}), size_, 1);
  }

  void run(const Context& context, const Step& step) const noexcept {
    const Kernels& kernels = context.kernels;
    const Segment h = {step.h, size_};
    if (step.h.data != nullptr)
      recurrent_.run(context, {&h, 1}, step.rows, step.inputs, step.h_next, activation_);
    else
      kernels.map({activation_, step.inputs, step.h_next, step.rows, size_});
  }

 private:
  int64_t size_;
  Activation activation_;
  Product recurrent_;
};

class Lstm {
 public:
  static constexpr int64_t kGates = 4;
  static constexpr bool kMemory = true;

  explicit Lstm(Call& call)
      : size_(call.weight("weight_hh", {-1, -1}).shape[1]),
        block_(call.weight("weight_hh", {-1, size_}).shape[0] / kGates),
        activations_{call.activation("activation"), call.activation("gate_activation")},
        clip_(static_cast<float>(call.number("clip"))) {
    const Tensor& weight = call.weight("weight_hh", {kGates * block_, size_});
    recurrent_ = Product(call, {weight.data, size_, block_, kGates, 0, size_, weight.type}, kItems);
    if (call.has("projection")) {
      const Tensor& weight_hr = call.weight("projection", {size_, block_});
      projection_ =
          Product(call, {weight_hr.data, block_, size_, 1, 0, block_, weight_hr.type}, kItems);
      projected_ = true;
    } else if (size_ != block_) {
      call.fail("weight_hh has 4 x " + std::to_string(block_) + " rows and " +
                std::to_string(size_) + " columns; without a projection these are equal");
    }
    if (!(clip_ >= 0.0F)) call.fail("the attribute clip must be at least 0");
    const float* peephole = call.optional_weight("peephole", {3 * block_});
    if (peephole == nullptr) return;
    const std::vector<float> blocks = padded_blocks(peephole, nullptr, block_, 3);
    peephole_ = Memory(blocks.size() * sizeof(float));
    std::copy(blocks.begin(), blocks.end(), peephole_.floats());
  }

  const Product& product() const { return recurrent_; }
  int64_t size() const { return size_; }
  int64_t block() const { return block_; }

  std::vector<float> input_bias(const Call& call) const {
    return padded_blocks(call.optional_weight("bias_ih", {kGates * block_}),
                         call.optional_weight("bias_hh", {kGates * block_}), block_, kGates);
  }

  void run(const Context& context, const Step& step) const noexcept {
    const Kernels& kernels = context.kernels;
    ConstRows gates = step.inputs;
    if (step.h.data != nullptr) {
      const Segment h = {step.h, size_};
      recurrent_.run(context, {&h, 1}, step.rows, step.inputs, step.gates, Activation::identity);
      gates = {step.gates.data, step.gates.stride, step.gates.index};
    }
    kernels.lstm_gates({.gates = gates,
                        .c = step.c,
                        .c_next = step.c_next,
                        .h_next = projected_ ? step.hidden : step.h_next,
                        .rows = step.rows,
                        .size = block_,
                        .activation = activations_.state,
                        .gate_activation = activations_.gate,
                        .peephole = peephole_.floats(),
                        .clip = clip_});
    if (!projected_) return;
    const Segment h = {{step.hidden.data, step.hidden.stride, nullptr}, block_};
    projection_.run(context, {&h, 1}, step.rows, {}, step.h_next, Activation::identity);
  }

 private:
  int64_t size_;   // of h
  int64_t block_;  // of c and each gate
  Activations activations_;
  float clip_;
  bool projected_ = false;
  Product recurrent_;
  Product projection_;
  Memory peephole_;
};

class Gru {
 public:
  static constexpr int64_t kGates = 3;
  static constexpr bool kMemory = false;

  explicit Gru(Call& call)
      : size_(call.weight("weight_hh", {-1, -1}).shape[1]),
        activations_{call.activation("activation"), call.activation("gate_activation")},
        after_(reset_after(call)) {
    const int64_t size = size_;
    const Tensor& weight = call.weight("weight_hh", {kGates * size, size});
    const Matrix gates = {weight.data, size, size, after_ ? 3 : 2, 0, size, weight.type};
    const Matrix last = {weight.data + 2 * size * size, size, size, 1, 0, size, weight.type};
    recurrent_ = Product(call, gates, kItems);
    if (!after_) candidate_ = Product(call, last, kItems);
    const float* bias = call.optional_weight("bias_hh", {kGates * size});
    const auto padded_bias =
        padded_blocks(bias == nullptr ? nullptr : bias + 2 * size, nullptr, size, 1);
    candidate_bias_ = Memory(padded_bias.size() * sizeof(float));
    std::copy(padded_bias.begin(), padded_bias.end(), candidate_bias_.floats());
  }

  const Product& product() const { return recurrent_; }
  int64_t size() const { return size_; }
  int64_t block() const { return size_; }

  // The candidate's recurrent bias stays apart where the reset gate multiplies it.
  std::vector<float> input_bias(const Call& call) const {
    const float* recurrent = call.optional_weight("bias_hh", {kGates * size_});
    std::vector<float> merged(static_cast<std::size_t>(kGates * size_), 0.0F);
    if (recurrent != nullptr) std::copy_n(recurrent, (after_ ? 2 : 3) * size_, merged.begin());
    return padded_blocks(call.optional_weight("bias_ih", {kGates * size_}), merged.data(), size_,
                         kGates);
  }

  void run(const Context& context, const Step& step) const noexcept {
    const Kernels& kernels = context.kernels;
    const int64_t block = padded(size_);
    const Segment h = {step.h, size_};
    const auto from = [block](ConstRows rows, int64_t blocks) {
      return ConstRows{rows.data + blocks * block, rows.stride, rows.index};
    };
    const ConstRows bias = {candidate_bias_.floats(), 0, nullptr};
    const ConstRows sums = {step.gates.data, step.gates.stride, step.gates.index};
    const ConstRows scratch = {step.hidden.data, step.hidden.stride, step.hidden.index};
    const Rows last = {step.gates.data + 2 * block, step.gates.stride, step.gates.index};
    ConstRows gates = step.inputs, candidate = from(gates, 2);
    ConstRows hidden = after_ ? bias : ConstRows{};
    if (step.h.data != nullptr && after_) {
      // One product: its last block begins with the bias, where the candidate's inputs make room.
      kernels.copy({candidate, step.hidden, step.rows, block});
      if (sums.data != gates.data) kernels.copy({gates, step.gates, step.rows, 2 * block});
      kernels.copy({bias, last, step.rows, block});
      recurrent_.run(context, {&h, 1}, step.rows, sums, step.gates, Activation::identity);
      gates = sums, candidate = scratch, hidden = from(sums, 2);
    } else if (step.h.data != nullptr) {
      recurrent_.run(context, {&h, 1}, step.rows, gates, step.gates, Activation::identity);
      kernels.gru_reset({sums, step.h, step.hidden, step.rows, size_, activations_.gate});
      const Segment kept = {scratch, size_};
      candidate_.run(context, {&kept, 1}, step.rows, candidate, last, Activation::identity);
      gates = sums, candidate = from(sums, 2);
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
  Product recurrent_;  // reset before: of the gates alone
  Product candidate_;
  Memory candidate_bias_;
};

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
        has_input_(call.has("x")),
        h_(state(call, "h", recurrence_.size())),
        c_(Recurrence::kMemory ? state(call, "c", recurrence_.block()) : std::nullopt),
        gates_(call.scratch(kItems, input_.width())),
        hidden_(call.scratch(kItems, padded(recurrence_.block()))),
        h_next(call.output({Kind::vector, recurrence_.size()}, kItems)) {
    if (Recurrence::kMemory) c_next = call.output({Kind::vector, recurrence_.block()}, kItems);
  }

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
    const int64_t block = padded(recurrence_.block());
    step.hidden = {context.floats(hidden_), block, nullptr};
    step.h_next = {context.floats(h_next.slot), padded(recurrence_.size()), nullptr};
    if (Recurrence::kMemory) step.c_next = {context.floats(c_next.slot), block, nullptr};
    recurrence_.run(context, step);
  }

 private:
  Recurrence recurrence_;
  InputProduct input_;
  bool has_input_;
  std::optional<Reader> h_, c_;
  SlotId gates_, hidden_;

 public:
  Value h_next, c_next;
};

template <typename Recurrence>
class LayerOp : public Op {
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
        sequence(call.output({Kind::sequence, recurrence_.size()}, along_)),
        h_last(call.output({Kind::vector, recurrence_.size()}, kItems)) {
    if (Recurrence::kMemory) c_last = call.output({Kind::vector, recurrence_.block()}, kItems);
  }

  void run(const Context& context) const noexcept override {
    input_.run(context, {context.floats(inputs_), input_.width(), nullptr}, Activation::identity);
    const Frame& frame = context.frame;
    const int32_t* offsets = frame.positions[along_].offsets;
    int32_t longest = 0;
    for (int32_t item = 0; item < frame.items; ++item)
      longest = std::max(longest, offsets[item + 1] - offsets[item]);
    recurrence_.product().promise(context, frame.items, longest);
    for (int32_t t = 0; t < longest && !context.interrupted(t); ++t)
      recurrence_.run(context.in_step(t), step_at(context, t));
    int32_t* last = context.ids(current_);
    for (int32_t item = 0; item < frame.items; ++item)
      last[item] = backward_ ? offsets[item] : offsets[item + 1] - 1;
    const int64_t stride = padded(recurrence_.size());
    context.kernels.copy({.x = {context.floats(sequence.slot), stride, last},
                          .out = {context.floats(h_last.slot), stride, nullptr},
                          .rows = frame.items,
                          .size = recurrence_.size()});
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
    const int32_t* offsets = frame.positions[along_].offsets;
    int32_t* live = context.ids(live_);
    int32_t* current = context.ids(current_);
    int32_t* previous = context.ids(previous_);
    int32_t rows = 0;
    for (int32_t item = 0; item < frame.items; ++item) {
      const int32_t begin = offsets[item], end = offsets[item + 1];
      if (t >= end - begin) continue;
      live[rows] = item;
      current[rows] = backward_ ? end - 1 - t : begin + t;
      previous[rows] = backward_ ? end - t : begin + t - 1;
      ++rows;
    }
    const int64_t stride = padded(recurrence_.size());
    const int64_t block = padded(recurrence_.block());
    Step step;
    step.rows = rows;
    step.inputs = {context.floats(inputs_), input_.width(), current};
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
  SlotId inputs_, gates_, hidden_, live_, current_, previous_;

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
