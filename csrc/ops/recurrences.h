// The recurrent halves of RNN, GRU and LSTM, which cells and layers share. Knows one step of some
// rows; never positions, nor where a step's inputs come from.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "ops/product.h"

namespace s2s {

// What the recurrent half of a step reads and writes; a state without data is zero.
struct CellStep {
  int64_t rows = 0;
  ConstRows inputs;  // W_ih x + b per gate block
  ConstRows h;
  ConstRows c;
  Rows gates;   // scratch; may be where `inputs` are, unless the recurrence keeps these
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
  bool keeps_inputs() const { return false; }  // reads them after its products

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

  void run(const Context& context, const CellStep& step) const noexcept {
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
  bool keeps_inputs() const { return false; }

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

  void run(const Context& context, const CellStep& step) const noexcept {
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
  bool keeps_inputs() const { return after_; }

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

  void run(const Context& context, const CellStep& step) const noexcept {
    const Kernels& kernels = context.kernels;
    const int64_t block = padded(size_);
    const Segment h = {step.h, size_};
    const auto from = [block](ConstRows rows, int64_t blocks) {
      return ConstRows{rows.data + blocks * block, rows.stride, rows.index};
    };
    const ConstRows bias = {candidate_bias_.floats(), 0, nullptr};
    const ConstRows sums = {step.gates.data, step.gates.stride, step.gates.index};
    const Rows last = {step.gates.data + 2 * block, step.gates.stride, step.gates.index};
    ConstRows gates = step.inputs, candidate = from(gates, 2);
    ConstRows hidden = after_ ? bias : ConstRows{};
    if (step.h.data != nullptr && after_) {
      // One product: its last block starts from the bias, and the candidate's inputs stay apart.
      recurrent_.run(context, {&h, 1}, step.rows, gates, step.gates, Activation::identity,
                     {2 * block / kLanes, bias});
      gates = sums, hidden = from(sums, 2);
    } else if (step.h.data != nullptr) {
      recurrent_.run(context, {&h, 1}, step.rows, gates, step.gates, Activation::identity);
      kernels.gru_reset({sums, step.h, step.hidden, step.rows, size_, activations_.gate});
      const ConstRows reset = {step.hidden.data, step.hidden.stride, step.hidden.index};
      const Segment kept = {reset, size_};
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

}  // namespace s2s
