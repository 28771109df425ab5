#include "graph/folding.h"

#include <algorithm>

#include "graph/readers.h"

namespace s2s {
namespace {

// Operations that multiply `x`, and the blocks of outputs that they pad.
int64_t blocks_of(const std::string& op) {
  if (op == "lstm_cell") return 4;
  if (op == "gru_cell") return 3;
  return op == "rnn_cell" || op == "linear" ? 1 : 0;
}

// Zeros; an address of its own even where there are none.
Memory numbers(int64_t count) {
  return Memory(static_cast<std::size_t>(std::max<int64_t>(count, 1)) * sizeof(float));
}

}  // namespace

std::vector<std::string> Folding::fold(const NodeSpec& node, const GraphSpec& graph, Call& call) {
  std::vector<std::string> folded;
  if (stopped_ || call.level != Level::row) return folded;
  if (blocks_of(node.op) > 0) fold_contexts(node, call, folded);
  if (node.op == "attention") fold_query(node, graph, call, folded);
  return folded;
}

void Folding::remember(const NodeSpec& node, const Call& call, const Made& made) {
  if (call.level != Level::row || made.outputs.empty()) return;
  const SlotId slot = made.outputs.front().second.slot;
  if (auto* attention = dynamic_cast<Attending*>(made.op.get())) {
    const Value& values = call.inputs.at("values").front();
    if (attention->one_head_of_items() && values.level == Level::sentence)
      contexts_[slot] = {attention, values};
  }
  if (node.op != "linear" || call.has("bias") || !call.start.empty()) return;
  const std::vector<Value>& x = call.inputs.at("x");
  if (x.size() == 1 && x.front().type.kind == Kind::vector && call.word("activation") == "identity")
    factors_[slot] = {call.weights.at("weight"), x.front()};
}

void Folding::report() {
  for (const auto& [part, whole] : whole_) {
    if (layout_.multiplied.contains(part)) layout_.multiplied.insert(whole);
    const auto table = layout_.tables.find(part);
    if (table != layout_.tables.end()) layout_.tables[whole] = table->second;
  }
}

// Of an output, a step reads `size` weights, or else a float of each position. Twice those of 32
// positions pay, since every position has to be multiplied once. Weights in bfloat16 count as in
// float32, whose bits they have.
bool Folding::pays(const Tensor& weight, int64_t size) const {
  return size * (weight.type == ComputeType::int8 ? 1 : 4) >= least_bytes_;
}

void Folding::fold_contexts(const NodeSpec& node, Call& call, std::vector<std::string>& folded) {
  const auto weight = call.weights.find(node.op == "linear" ? "weight" : "weight_ih");
  const auto joined = call.inputs.find("x");
  if (weight == call.weights.end() || joined == call.inputs.end()) return;
  const Tensor whole = weight->second;
  const std::vector<Value> x = joined->second;
  const int64_t blocks = blocks_of(node.op);
  // what does not fit is left to the maker, which names it
  if (any_sequence(x) || whole.shape.size() != 2 || whole.shape[0] % blocks != 0 ||
      whole.shape[1] != joined_size(x))
    return;
  const int64_t rows = whole.shape[0], depth = whole.shape[1], block = rows / blocks;
  std::vector<Value> rest;
  std::vector<std::pair<int64_t, int64_t>> columns;  // of what is left: the first, and how many
  int64_t first = 0;
  for (std::size_t n = 0; n < x.size(); first += x[n++].type.size) {
    const int64_t size = x[n].type.size;
    const auto context = contexts_.find(x[n].slot);
    if (context == contexts_.end() || !pays(whole, size)) {
      rest.push_back(x[n]);
      columns.emplace_back(first, size);
      continue;
    }
    const int64_t out = blocks == 1 ? rows : blocks * padded(block);
    Memory part = numbers(out * size);
    for (int64_t i = 0; i < rows; ++i)
      std::copy_n(whole.data + i * depth + first, size,
                  part.floats() + (blocks == 1 ? i : i / block * padded(block) + i % block) * size);
    call.start.push_back(
        context_of(context->second, kept(whole, {out, size}, std::move(part)), node.name));
    folded.push_back(node.inputs.at("x")[n]);
  }
  if (folded.empty()) return;
  Memory left = numbers(rows * joined_size(rest));
  float* next = left.floats();
  for (int64_t i = 0; i < rows; ++i)
    for (const auto& [from, size] : columns)
      next = std::copy_n(whole.data + i * depth + from, size, next);
  weight->second = kept(whole, {rows, joined_size(rest)}, std::move(left));
  joined->second = rest;
}

void Folding::fold_query(const NodeSpec& node, const GraphSpec& graph, Call& call,
                         std::vector<std::string>& folded) {
  const auto query = call.inputs.find("query"), keys = call.inputs.find("keys");
  if (query == call.inputs.end() || keys == call.inputs.end() || call.word("score") != "dot" ||
      call.integer("heads", 1, INT64_MAX) != 1 || query->second.size() != 1 ||
      keys->second.size() != 1)
    return;
  const Value& key = keys->second.front();
  const auto factor = factors_.find(query->second.front().slot);
  if (factor == factors_.end() || key.level != Level::sentence || !key.is_sequence()) return;
  const Tensor weight = factor->second.weight;
  const int64_t rows = weight.shape[0], depth = weight.shape[1];
  const std::string reference = node.inputs.at("query").front();
  if (rows != key.type.size || rows > kMaxBytesDepth || !pays(weight, rows) ||
      readers(graph, reference) != 1)
    return;
  Memory across = numbers(rows * depth);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < depth; ++k) across.floats()[k * rows + i] = weight.data[i * depth + k];
  const Tensor transposed = kept(weight, {depth, rows}, std::move(across));
  keys->second = {product_of(key, transposed, node.name, steps_.end())};
  query->second = {factor->second.x};
  folded.push_back(reference);
}

// The attention's context of W m_j in place of m_j; the product stands before the attention.
Value Folding::context_of(const Attended& attended, const Tensor& columns,
                          const std::string& node) {
  const auto attention = [&] {
    return std::find_if(steps_.begin(), steps_.end(),
                        [&](const Step& step) { return step.op.get() == attended.attention; });
  };
  const Value values = product_of(attended.values, columns, node, attention());
  Call call("node '" + node + "', what is folded of it", layout_);
  call.level = Level::row;
  const Value context = attended.attention->attend(call, values);
  Step& step = *attention();
  step.reads.insert(step.reads.end(), call.reads.begin(), call.reads.end());
  step.writes.push_back(context.slot);
  return context;
}

Value Folding::product_of(const Value& values, const Tensor& weight, const std::string& node,
                          std::vector<Step>::iterator before) {
  Call call("node '" + node + "', what is folded of it", layout_);
  call.in_decoder = true;
  call.level = values.level;
  call.inputs["x"] = {values};
  call.weights["weight"] = weight;
  call.attributes["activation"] = std::string("identity");
  Made made = make_op("linear", call);
  const Value product = made.outputs.front().second;
  steps_.insert(
      before,
      Step{std::move(made.op), call.run_level(), call.reads, {product.slot}, "decoder." + node});
  return product;
}

Tensor Folding::kept(const Tensor& whole, std::vector<int64_t> shape, Memory numbers) {
  numbers_.push_back(std::move(numbers));
  const auto known = whole_.find(whole.data);
  whole_[numbers_.back().floats()] = known == whole_.end() ? whole.data : known->second;
  return {std::move(shape), numbers_.back().floats(), whole.type};
}

}  // namespace s2s
