#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "ops/makers.h"

namespace s2s {
namespace {

struct Energy {
  float scale = 1.0F;
  Activation activation = Activation::tanh;
  Activation energy_activation = Activation::identity;
  float energy_bias = 0.0F;
  Normaliser normaliser = Normaliser::softmax;
};

// The positions around a centre that an attention may see.
struct Window {
  std::optional<Reader> centre;
  bool centre_is_id = false;
  int64_t size = 0;
  bool gaussian = false;
};

// Queries of items (or of positions, in self-attention) over the positions of their memory.
class AttentionOp : public Attending {
 public:
  std::optional<Reader> query;
  std::optional<SequenceReader> keys, scores;
  SequenceReader values;
  Memory v;
  Energy energy;
  Window window;
  int64_t heads = 1;
  int64_t key_size = 0;
  Along along = kItems;  // of the queries
  Value context_value, weights_value;
  SlotId dense = -1;  // weights of one head and query, by position

  void unread(SlotId slot) noexcept override {
    if (slot == weights_value.slot) spread_ = false;
    if (slot == context_value.slot) context_read_ = false;
  }

  bool one_head_of_items() const noexcept override { return heads == 1 && along == kItems; }

  Value attend(Call& call, const Value& others) override {
    further_.push_back(
        {call.read_sequence(others), call.output({Kind::vector, others.type.size}, kItems)});
    return further_.back().context;
  }

  void run(const Context& context) const noexcept override {
    const ConstRows queries = query ? query->rows(context) : ConstRows{};
    float* weights = context.floats(weights_value.slot);
    const int64_t row_width = padded(heads);
    const Frame& frame = context.frame;
    for (int32_t item = 0; item < frame.items; ++item) {
      const int32_t first = along == kItems ? item : frame.positions[along].offsets[item];
      const int32_t last = along == kItems ? item + 1 : frame.positions[along].offsets[item + 1];
      const int64_t count = values.of(context, item).count;
      for (int32_t row = first; row < last; ++row) {
        for (int64_t head = 0; head < heads; ++head)
          attend(context, queries, item, row, head, weights + head);
        weights += count * row_width;
      }
    }
  }

 private:
  void attend(const Context& context, const ConstRows& queries, int32_t item, int32_t row,
              int64_t head, float* weights) const noexcept {
    const SequenceReader::Span memory = values.of(context, item);
    const int64_t width = context_value.type.size / heads;
    int64_t begin = 0, end = memory.count;
    float energy_scale = energy.scale;  // NaN for a centre that is none: the logits' check finds it
    Attention call;
    if (window.centre) {
      // in double: the borders are exact, and a centre far outside overflows no integer
      const double centre = centre_of(context, row);
      if (std::isnan(centre)) energy_scale = std::numeric_limits<float>::quiet_NaN();
      const auto size = static_cast<double>(window.size), count = static_cast<double>(memory.count);
      if (!std::isnan(centre)) {
        begin = static_cast<int64_t>(std::clamp(std::ceil(centre - size), 0.0, count));
        end = static_cast<int64_t>(std::clamp(std::floor(centre + size) + 1.0, 0.0, count));
      }
      end = std::max(begin, end);
      call.centre = static_cast<float>(centre - static_cast<double>(begin));
      call.sigma = window.gaussian ? static_cast<float>(window.size) * 0.5F : 0.0F;
    }
    if (query) {
      const int64_t from = queries.index != nullptr ? queries.index[row] : row;
      call.query = queries.data + from * queries.stride + head * key_size;
      call.keys = part(keys->of(context, item).rows, begin, head * key_size);
      call.v = v.floats() != nullptr ? v.floats() + head * padded(key_size) : nullptr;
      call.key_size = key_size;
    } else {
      call.scores = part(scores->of(context, item).rows, begin, head);
    }
    call.values = part(memory.rows, begin, head * width);
    call.count = end - begin;
    call.value_size = context_read_ ? width : 0;
    call.scale = energy_scale;
    call.activation = energy.activation;
    call.normaliser = energy.normaliser;
    call.energy_bias = energy.energy_bias;
    call.energy_activation = energy.energy_activation;
    call.weights = context.floats(dense);
    const int64_t stride = padded(context_value.type.size);
    call.context = context.floats(context_value.slot) + row * stride + head * width;
    context.kernels.attention(call);
    for (const Further& further : further_) attend_again(context, further, item, row, begin, call);
    if (!spread_) return;
    const int64_t step = padded(heads);
    for (int64_t j = 0; j < memory.count; ++j)
      weights[j * step] = j >= begin && j < end ? call.weights[j - begin] : 0.0F;
  }

  // Other values, with the weights that are there.
  struct Further {
    SequenceReader values;
    Value context;
  };
  static void attend_again(const Context& context, const Further& further, int32_t item,
                           int32_t row, int64_t begin, const Attention& done) noexcept {
    const int64_t size = further.context.type.size;
    Attention again;
    again.scores = {done.weights, 1, nullptr};
    again.values = part(further.values.of(context, item).rows, begin, 0);
    again.count = done.count;
    again.value_size = size;
    again.normaliser = Normaliser::none;
    again.weights = done.weights;
    again.context = context.floats(further.context.slot) + row * padded(size);
    context.kernels.attention(again);
  }

  float centre_of(const Context& context, int32_t row) const noexcept {
    const ConstRows rows = window.centre->rows(context);
    const int64_t from = rows.index != nullptr ? rows.index[row] : row;
    const float* at = rows.data + from * rows.stride;
    if (!window.centre_is_id) return *at;
    int32_t id = 0;
    std::memcpy(&id, at, sizeof id);
    return static_cast<float>(id);
  }

  static ConstRows part(ConstRows rows, int64_t row, int64_t column) noexcept {
    rows.data += row * rows.stride + column;
    return rows;
  }

  bool spread_ = true;
  bool context_read_ = true;
  std::vector<Further> further_;
};

void read_energy(const Call& call, Energy& energy) {
  const std::string& normaliser = call.word("normaliser");
  if (normaliser != "softmax" && normaliser != "none")
    call.fail("the attribute normaliser is '" + normaliser + "', must be softmax or none");
  energy.normaliser = normaliser == "softmax" ? Normaliser::softmax : Normaliser::none;
  energy.scale = static_cast<float>(call.number("scale"));
  energy.activation = call.activation("activation");
  energy.energy_activation = call.activation("energy_activation");
  if (const float* bias = call.optional_weight("energy_bias", {1})) energy.energy_bias = *bias;
}

void read_window(Call& call, AttentionOp& op) {
  op.window.size = call.integer("window", 0, int64_t{1} << 24);
  op.window.gaussian = call.flag("gaussian");
  if (call.inputs.contains("centre") != (op.window.size > 0))
    call.fail("a centre needs a window of at least 1, and a window a centre");
  if (op.window.size == 0) {
    if (op.window.gaussian) call.fail("gaussian needs a centre and a window");
    return;
  }
  const std::vector<Value>& given = call.inputs.at("centre");
  if (given.size() != 1) call.fail("centre must be one value");
  const Value& centre = given.front();
  const Kind kind = centre.type.kind;
  op.window.centre_is_id = kind == Kind::id || kind == Kind::ids;
  if ((!op.window.centre_is_id && centre.type.size != 1) || kind == Kind::alignment)
    call.fail("centre is " + to_string(centre.type) + ", must be an id or of size 1");
  if (centre.along != kItems && centre.along != op.along)
    call.fail("centre is a sequence, the query is not of its length");
  op.window.centre = call.read(centre, op.along);
}

void read_query(Call& call, AttentionOp& op, bool additive) {
  const Value& query = call.features_input("query");
  const Value& keys = call.input("keys", Kind::sequence);
  if (call.has("scores") || call.has("v") != additive)
    call.fail(additive ? "score 'additive' takes query, keys and v"
                       : "score 'dot' takes query and keys only");
  if (query.type.size != keys.type.size || query.type.size % op.heads != 0)
    call.fail("query is " + to_string(query.type) + " and keys is " + to_string(keys.type) +
              ": sizes must be equal and divide by heads");
  op.key_size = keys.type.size / op.heads;
  op.along = query.along;
  op.query = call.read(query, op.along);
  op.keys = call.read_sequence(keys);
  if (!additive) return;
  const float* v = call.weight("v", {keys.type.size}).data;
  op.v = Memory(static_cast<std::size_t>(op.heads * padded(op.key_size)) * sizeof(float));
  for (int64_t head = 0; head < op.heads; ++head)
    std::copy_n(v + head * op.key_size, op.key_size, op.v.floats() + head * padded(op.key_size));
}

}  // namespace

Made make_attention(Call& call) {
  call.only({"query", "keys", "scores", "values", "centre", "v", "energy_bias"},
            {"score", "scale", "heads", "activation", "energy_activation", "normaliser", "window",
             "gaussian"});
  auto op = std::make_unique<AttentionOp>();
  op->heads = call.integer("heads", 1, int64_t{1} << 24);
  read_energy(call, op->energy);
  const Value& values = call.input("values", Kind::sequence);
  if (values.type.size % op->heads != 0)
    call.fail("values is " + to_string(values.type) + ", its size must divide by heads");
  const std::string& score = call.word("score");
  const char* matched = score == "given" ? "scores" : "keys";
  if (score == "given") {
    if (call.has("query") || call.has("keys") || call.has("v"))
      call.fail("score 'given' takes scores and values only");
    const Value& scores = call.input("scores", Kind::sequence);
    if (scores.type.size != op->heads) call.fail("scores is " + to_string(scores.type));
    op->scores = call.read_sequence(scores);
  } else if (score == "dot" || score == "additive") {
    read_query(call, *op, score == "additive");
  } else {
    call.fail("the attribute score is '" + score + "', must be dot, additive or given");
  }
  if (call.inputs.at(matched).front().along != values.along)
    call.fail(std::string(matched) + " and values must have one length");
  read_window(call, *op);
  op->values = call.read_sequence(values);
  const bool self = op->along != kItems;
  op->context_value =
      call.output({self ? Kind::sequence : Kind::vector, values.type.size}, op->along);
  op->weights_value = call.output({self ? Kind::alignment : Kind::sequence, op->heads},
                                  self ? op->along : values.along);
  if (self) {
    op->weights_value.across = values.along;
    call.layout().slots[static_cast<std::size_t>(op->weights_value.slot)].across = values.along;
  }
  op->dense = call.scratch(values.along, 1);
  const std::vector<std::pair<std::string, Value>> outputs = {{"context", op->context_value},
                                                              {"weights", op->weights_value}};
  return {std::move(op), outputs};
}

}  // namespace s2s
