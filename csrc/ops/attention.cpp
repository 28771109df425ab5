#include <cstring>
#include <optional>

#include "ops/makers.h"

namespace s2s {
namespace {

struct Energy {
  float scale;
  Activation activation;
  Normaliser normaliser;
};

// One query per item over the positions of the item's (or its sentence's) memory.
class AttentionOp : public Op {
 public:
  std::optional<Reader> query;
  std::optional<SequenceReader> keys, scores;
  SequenceReader values;
  Memory v;
  Energy energy{};
  int64_t key_size = 0;
  Value context_value, weights_value;
  SlotId gathered = -1;

  void unread(SlotId slot) noexcept override {
    if (slot == weights_value.slot) spread_ = false;
  }

  void run(const Context& context) const noexcept override {
    const int64_t width = padded(context_value.type.size);
    const ConstRows queries = query ? query->rows(context) : ConstRows{};
    int32_t written = 0;
    for (int32_t item = 0; item < context.frame.items; ++item) {
      const SequenceReader::Span memory = values.of(context, item);
      float* weights = context.floats(gathered) + written;
      Attention call = {};
      if (query) {
        const int64_t row = queries.index != nullptr ? queries.index[item] : item;
        call.query = queries.data + row * queries.stride;
        call.keys = keys->of(context, item).rows;
        call.v = v.floats();
        call.key_size = key_size;
      } else {
        call.scores = scores->of(context, item).rows;
      }
      call.values = memory.rows;
      call.count = memory.count;
      call.value_size = context_value.type.size;
      call.scale = energy.scale;
      call.activation = energy.activation;
      call.normaliser = energy.normaliser;
      call.weights = weights;
      call.context = context.floats(context_value.slot) + item * width;
      context.kernels.attention(call);
      if (spread_) spread(context, weights, written, memory.count);
      written += memory.count;
    }
  }

 private:
  // Weights as a value of the graph: one row for each position of each item.
  void spread(const Context& context, const float* weights, int32_t first,
              int32_t count) const noexcept {
    float* out = context.floats(weights_value.slot) + first * kLanes;
    for (int32_t j = 0; j < count; ++j) out[j * kLanes] = weights[j];
  }

  bool spread_ = true;
};

}  // namespace

Made make_attention(Call& call) {
  call.only({"query", "keys", "scores", "values", "v"},
            {"score", "scale", "heads", "activation", "energy_activation", "normaliser", "window",
             "gaussian"});
  const std::string& score = call.word("score");
  if (call.integer("heads", 1, 1 << 24) != 1) call.not_built("heads above 1");
  if (call.word("energy_activation") != "identity") call.not_built("energy_activation");
  if (call.integer("window", 0, 1 << 24) != 0) call.not_built("window");
  if (call.flag("gaussian")) call.not_built("gaussian");
  const std::string& normaliser = call.word("normaliser");
  if (normaliser != "softmax" && normaliser != "none")
    call.fail("the attribute normaliser is '" + normaliser + "', must be softmax or none");
  auto op = std::make_unique<AttentionOp>();
  op->energy = {static_cast<float>(call.number("scale")), call.activation("activation"),
                normaliser == "softmax" ? Normaliser::softmax : Normaliser::none};
  const Value& values = call.input("values", Kind::sequence);
  if (score == "given") {
    if (call.has("query") || call.has("keys") || call.has("v"))
      call.fail("score 'given' takes scores and values only");
    const Value& scores = call.input("scores", Kind::sequence);
    if (scores.type.size != 1) call.fail("scores is " + to_string(scores.type));
    op->scores = call.read_sequence(scores);
  } else if (score == "dot" || score == "additive") {
    const Value& query = call.input("query", Kind::vector);
    const Value& keys = call.input("keys", Kind::sequence);
    if (call.has("scores") || call.has("v") != (score == "additive"))
      call.fail("score '" + score + "' takes query and keys" +
                (score == "additive" ? " and v" : " only"));
    if (query.type.size != keys.type.size)
      call.fail("query is " + to_string(query.type) + " and keys is " + to_string(keys.type));
    op->key_size = keys.type.size;
    op->query = call.read(query, false);
    op->keys = call.read_sequence(keys);
    if (score == "additive") {
      const float* v = call.weight("v", {op->key_size}).data;
      op->v = Memory(static_cast<std::size_t>(padded(op->key_size)) * sizeof(float));
      std::memcpy(op->v.bytes(), v, static_cast<std::size_t>(op->key_size) * sizeof(float));
    }
  } else {
    call.fail("the attribute score is '" + score + "', must be dot, additive or given");
  }
  op->values = call.read_sequence(values);
  op->context_value = call.output({Kind::vector, values.type.size});
  op->weights_value = call.output({Kind::sequence, 1});
  op->gathered = call.scratch(true, 1);
  const std::vector<std::pair<std::string, Value>> outputs = {{"context", op->context_value},
                                                             {"weights", op->weights_value}};
  return {std::move(op), outputs};
}

}  // namespace s2s
