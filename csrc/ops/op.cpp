#include "ops/op.h"

#include <algorithm>

#include "ops/makers.h"

namespace s2s {
namespace {

constexpr int64_t kMaxJoined = 64;
constexpr int64_t kMaxFeatures = int64_t{1} << 24;

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::id: return "id";
    case Kind::ids: return "ids";
    case Kind::vector: return "vector";
    case Kind::sequence: return "sequence";
    case Kind::alignment: return "alignment";
  }
  return "?";
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) {
    if (!text.empty()) text += 'x';
    text += size < 0 ? "?" : std::to_string(size);
  }
  return text;
}

}  // namespace

std::string to_string(const ValueType& type) {
  return std::string(kind_name(type.kind)) + "[" + std::to_string(type.size) + "]";
}

std::string to_string(ComputeType type) {
  return type == ComputeType::int8       ? "int8"
         : type == ComputeType::bfloat16 ? "bfloat16"
                                         : "float32";
}

ComputeType compute_type_of(const std::string& word) {
  for (const ComputeType type : {ComputeType::int8, ComputeType::bfloat16})
    if (word == to_string(type)) return type;
  return ComputeType::float32;
}

bool any_sequence(const std::vector<Value>& values) {
  return std::any_of(values.begin(), values.end(),
                     [](const Value& value) { return value.is_sequence(); });
}

int64_t joined_size(const std::vector<Value>& values) {
  int64_t size = 0;
  for (const Value& value : values) size += value.type.size;
  return size;
}

Along Layout::length(const Length& length) {
  const auto found = std::find(lengths.begin(), lengths.end(), length);
  if (found != lengths.end()) return static_cast<Along>(found - lengths.begin());
  lengths.push_back(length);
  return static_cast<Along>(lengths.size()) - 1;
}

Reader::Reader(const Value& value, Level level, Along along)
    : slot_(value.slot), stride_(padded(value.type.size)), size_(value.type.size), along_(along) {
  if (value.type.kind == Kind::id || value.type.kind == Kind::ids) stride_ = 1;
  if (value.level == Level::fixed) {
    stride_ = 0;
  } else if (value.level == level) {
    if (along != kItems && !value.is_sequence()) via_ = Via::item;
  } else if (value.is_sequence()) {
    via_ = Via::sentence_position;
  } else {
    via_ = along != kItems ? Via::sentence_of_position : Via::sentence_of_item;
  }
}

ConstRows Reader::rows(const Context& context) const noexcept {
  const Frame& frame = context.frame;
  const int32_t* index = nullptr;
  switch (via_) {
    case Via::direct: break;
    case Via::item: index = frame.positions[along_].item; break;
    case Via::sentence_of_item: index = frame.sentence_of_item; break;
    case Via::sentence_of_position: index = frame.positions[along_].sentence; break;
    case Via::sentence_position: index = frame.positions[along_].sentence_position; break;
  }
  return {context.floats(slot_), stride_, index};
}

SequenceReader::SequenceReader(const Value& value, Level level)
    : slot_(value.slot),
      stride_(value.type.kind == Kind::ids ? 1 : padded(value.type.size)),
      along_(value.along),
      of_sentence_(level == Level::row && value.level != Level::row) {}

SequenceReader::Span SequenceReader::of(const Context& context, int32_t item) const noexcept {
  const Frame& frame = of_sentence_ ? context.sentences : context.frame;
  const int32_t owner = of_sentence_ ? context.frame.sentence_of_item[item] : item;
  const int32_t* offsets = frame.positions[along_].offsets;
  const int32_t first = offsets[owner];
  const float* data = context.floats(slot_) + first * stride_;
  return {{data, stride_, nullptr}, first, offsets[owner + 1] - first};
}

void Call::fail(const std::string& what) const {
  throw Error(ErrorKind::model_format, where_ + ": " + what);
}

const Value& Call::input(const std::string& role, Kind kind) const {
  const auto found = inputs.find(role);
  if (found == inputs.end() || found->second.size() != 1) fail(role + " must be one value");
  const Value& value = found->second.front();
  if (value.type.kind != kind)
    fail(role + " is " + to_string(value.type) + ", must be a " + kind_name(kind));
  return value;
}

const Value& Call::features_input(const std::string& role) const {
  const auto found = inputs.find(role);
  const bool sequence = found != inputs.end() && found->second.size() == 1 &&
                        found->second.front().type.kind == Kind::sequence;
  return input(role, sequence ? Kind::sequence : Kind::vector);
}

const std::vector<Value>& Call::joined(const std::string& role) const {
  const auto found = inputs.find(role);
  if (found == inputs.end() || (found->second.empty() && start.empty()))
    fail(role + " must name at least one value");
  const std::vector<Value>& values = found->second;
  for (const Value& value : values)
    if (value.type.kind != Kind::vector && value.type.kind != Kind::sequence)
      fail(role + " holds " + to_string(value.type) + ", must hold vectors and sequences");
  if (static_cast<int64_t>(values.size()) > kMaxJoined)
    fail(role + " joins " + std::to_string(values.size()) + " values, at most 64");
  if (joined_size(values) > kMaxFeatures) fail(role + " joins more than 2^24 features");
  return values;
}

const Tensor& Call::weight(const std::string& role, std::initializer_list<int64_t> shape) const {
  const auto found = weights.find(role);
  if (found == weights.end()) fail("the weight " + role + " is missing");
  const Tensor& tensor = found->second;
  const bool fits = tensor.shape.size() == shape.size() &&
                    std::equal(shape.begin(), shape.end(), tensor.shape.begin(),
                               [](int64_t want, int64_t have) { return want < 0 || want == have; });
  if (!fits) fail(role + " is " + shape_text(tensor.shape) + ", must be " + shape_text(shape));
  return tensor;
}

const float* Call::optional_weight(const std::string& role,
                                   std::initializer_list<int64_t> shape) const {
  return weights.contains(role) ? weight(role, shape).data : nullptr;
}

double Call::number(const std::string& name) const {
  const auto found = attributes.find(name);
  if (found != attributes.end()) {
    if (const auto* real = std::get_if<double>(&found->second)) return *real;
    if (const auto* whole = std::get_if<int64_t>(&found->second))
      return static_cast<double>(*whole);
  }
  fail("the attribute " + name + " must be a number");
}

int64_t Call::integer(const std::string& name, int64_t low, int64_t high) const {
  const auto found = attributes.find(name);
  const auto* whole = found == attributes.end() ? nullptr : std::get_if<int64_t>(&found->second);
  if (whole == nullptr || *whole < low || *whole > high)
    fail("the attribute " + name + " must be an integer " + std::to_string(low) + " to " +
         std::to_string(high));
  return *whole;
}

bool Call::flag(const std::string& name) const {
  const auto found = attributes.find(name);
  const auto* value = found == attributes.end() ? nullptr : std::get_if<bool>(&found->second);
  if (value == nullptr) fail("the attribute " + name + " must be true or false");
  return *value;
}

const std::string& Call::word(const std::string& name) const {
  const auto found = attributes.find(name);
  const auto* value =
      found == attributes.end() ? nullptr : std::get_if<std::string>(&found->second);
  if (value == nullptr) fail("the attribute " + name + " must be a word");
  return *value;
}

Activation Call::activation(const std::string& name) const {
  static const std::map<std::string, Activation> words = {
      {"identity", Activation::identity},
      {"tanh", Activation::tanh},
      {"sigmoid", Activation::sigmoid},
      {"hard_sigmoid", Activation::hard_sigmoid},
      {"hard_sigmoid_6", Activation::hard_sigmoid_6},
      {"relu", Activation::relu},
      {"softplus", Activation::softplus}};
  const auto found = words.find(word(name));
  if (found == words.end()) fail("the attribute " + name + " is '" + word(name) + "', unknown");
  return found->second;
}

void Call::only(std::initializer_list<const char*> roles,
                std::initializer_list<const char*> names) const {
  const auto among = [](const std::string& key, std::initializer_list<const char*> known) {
    return std::find(known.begin(), known.end(), key) != known.end();
  };
  for (const auto& [role, values] : inputs)
    if (!among(role, roles)) fail("has no input " + role);
  for (const auto& [role, tensor] : weights)
    if (!among(role, roles)) fail("has no weight " + role);
  for (const auto& [name, value] : attributes)
    if (!among(name, names)) fail("has no attribute " + name);
  for (const char* name : names)
    if (!attributes.contains(name)) fail(std::string("lacks the attribute ") + name);
}

Value Call::output(ValueType type, Along along) {
  Value value;
  value.type = type;
  value.level = run_level();
  value.along = along;
  const int64_t width = type.kind == Kind::ids || type.kind == Kind::id ? 1 : padded(type.size);
  value.slot = layout_.add(value.level, along, width);
  return value;
}

SlotId Call::scratch(Along along, int64_t width) { return layout_.add(run_level(), along, width); }

Along Call::along(const std::vector<Value>& values) const {
  Along along = kItems;
  for (const Value& value : values) {
    if (value.along == kItems) continue;
    if (along != kItems && along != value.along)
      fail("sequences must have one length, got two (a joined one is longer than the source)");
    along = value.along;
  }
  return along;
}

Reader Call::read(const Value& value, Along along) {
  reads.push_back(value.slot);
  layout_.row_maps |= along != kItems && level == Level::row;
  return {value, run_level(), along};
}

SequenceReader Call::read_sequence(const Value& value) {
  reads.push_back(value.slot);
  return {value, run_level()};
}

Made make_op(const std::string& name, Call& call) {
  using Maker = Made (*)(Call&);
  static const std::map<std::string, Maker> makers = {{"embedding", make_embedding},
                                                      {"constant", make_constant},
                                                      {"linear", make_linear},
                                                      {"concat", make_concat},
                                                      {"slice", make_slice},
                                                      {"add", make_add},
                                                      {"multiply", make_multiply},
                                                      {"interpolate", make_interpolate},
                                                      {"activation", make_activation},
                                                      {"softmax", make_softmax},
                                                      {"pool", make_pool},
                                                      {"gru", make_gru},
                                                      {"lstm", make_lstm},
                                                      {"gru_cell", make_gru_cell},
                                                      {"lstm_cell", make_lstm_cell},
                                                      {"attention", make_attention},
                                                      {"rnn", make_rnn},
                                                      {"rnn_cell", make_rnn_cell},
                                                      {"one_hot", make_one_hot},
                                                      {"maxout", make_maxout},
                                                      {"layer_norm", make_layer_norm},
                                                      {"reverse", make_reverse},
                                                      {"join", make_join},
                                                      {"to_positions", make_to_positions},
                                                      {"scatter", make_scatter},
                                                      {"first_step", make_first_step}};
  const auto found = makers.find(name);
  if (found == makers.end()) call.fail("'" + name + "' is not an operation of format 1");
  return found->second(call);
}

}  // namespace s2s
