// What an operation is: checked once into an Op with packed weights and slots, then run for many
// items. Knows kinds, spaces and the arena; never tokens as text, search or files.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "core/errors.h"
#include "core/interruption.h"
#include "core/memory.h"
#include "core/team.h"
#include "kernels/kernels.h"

namespace s2s {

enum class Kind { id, ids, vector, sequence, alignment };

struct ValueType {
  Kind kind = Kind::vector;
  int64_t size = 0;
  bool operator==(const ValueType&) const = default;
};

std::string to_string(const ValueType& type);

// How many positions a sequence has: a * source length + b.
struct Length {
  int64_t a = 1;
  int64_t b = 0;
  bool operator==(const Length&) const = default;
};

// What a value is repeated along: items, or the positions of one of the layout's lengths.
using Along = int32_t;
inline constexpr Along kItems = -1;
inline constexpr Along kSource = 0;  // the first length is the source's own

// Values of a decoder step have one item per row (live hypothesis), all others one per sentence.
// `fixed` values are the same for every item and live with the model.
enum class Level { fixed, sentence, row };

using SlotId = int32_t;

// A buffer of the arena: `width` floats (or ids) for each item, for each position of each item, or
// (alignments) for each pair of positions of each item.
struct Slot {
  Level level = Level::sentence;
  Along along = kItems;
  int64_t width = 1;
  const float* fixed = nullptr;  // Level::fixed: the data itself
  Along across = kItems;         // the second position of a pair
};

// An embedding that a product may fold into its weights: rows of `weight` picked by `ids`, or
// one-hot rows where there is no weight.
struct EmbeddingSource {
  const float* weight = nullptr;
  int64_t vocabulary = 0;
  int64_t size = 0;
  float scale = 1.0F;
  SlotId ids = -1;
};

// A value as its readers see it.
struct Value {
  ValueType type;
  SlotId slot = -1;
  Level level = Level::sentence;
  Along along = kItems;
  EmbeddingSource embedding;  // ids set where the value is an embedding or one-hot
  Along across = kItems;      // alignments: the memory's positions
  bool is_sequence() const { return along != kItems; }
};

// How a product keeps a weight.
enum class ComputeType { float32, bfloat16, int8 };

std::string to_string(ComputeType type);
ComputeType compute_type_of(const std::string& word);  // float32 for any other word

struct Tensor {
  std::vector<int64_t> shape;
  const float* data = nullptr;
  ComputeType type = ComputeType::float32;  // of the products that multiply it
};

using Attribute = std::variant<bool, int64_t, double, std::string>;

// The positions of one length: item i owns offsets[i] ... offsets[i+1]-1. The maps lead from a
// position to what it reads elsewhere.
struct Positions {
  int32_t count = 0;
  const int32_t* offsets = nullptr;
  const int32_t* item = nullptr;               // its item
  const int32_t* sentence = nullptr;           // row level only: its sentence
  const int32_t* sentence_position = nullptr;  // row level only: where its sentence keeps it
};

// How the items of one level are laid out.
struct Frame {
  int32_t items = 0;
  const Positions* positions = nullptr;       // by length
  const int32_t* sentence_of_item = nullptr;  // row level only
  const int32_t* steps = nullptr;             // row level only: the number of the step

  int64_t count(Along along) const noexcept {
    return along == kItems ? items : positions[along].count;
  }
  // Positions of the longest item.
  int32_t longest(Along along) const noexcept {
    const int32_t* offsets = positions[along].offsets;
    int32_t found = 0;
    for (int32_t item = 0; item < items; ++item)
      found = std::max(found, offsets[item + 1] - offsets[item]);
    return found;
  }
};

// What an Op runs against: one frame, the slots' addresses, one kernel table, one team.
struct Context {
  const Kernels& kernels;
  const Frame& frame;
  const Frame& sentences;
  float* const* slots;
  Team* team = nullptr;  // shares large products; nullptr: the caller alone
  Interruption* interruption = nullptr;
  // A step's weights are in the second cache; come from memory; are read from their end.
  bool near = false, far = false, back = false;

  // Fewer bytes stay in a second cache from step to step; of up to kTurns a part does, if they are
  // read there and back in turns.
  static constexpr std::size_t kStays = std::size_t{1} << 20, kTurns = std::size_t{1} << 21;
  // Products of more than so many are read in turns, and fetch nothing ahead where they stay.
  // Hardware reads smaller ones sooner in one direction and with hints.
  static constexpr std::size_t kLarge = std::size_t{1} << 19;
  // Of more than so many, a third cache that others use too keeps little: hardware reads them best.
  static constexpr std::size_t kFar = std::size_t{1} << 23;

  // What loops over positions ask, at some of them: whatever they leave is not looked at any more.
  bool interrupted(int32_t position) const noexcept {
    return position % 8 == 0 && interruption != nullptr && interruption->asked();
  }
  // In a step whose products take so many bytes, which the next step reads again.
  Context in_step(int32_t step, std::size_t bytes) const noexcept {
    Context other = *this;
    other.near = bytes < kStays;
    other.far = bytes > kFar;
    other.back = bytes <= kTurns && step % 2 == 1;
    return other;
  }
  float* floats(SlotId slot) const noexcept { return slots[slot]; }
  int32_t* ids(SlotId slot) const noexcept { return reinterpret_cast<int32_t*>(slots[slot]); }
};

class Op {
 public:
  virtual ~Op() = default;
  virtual void run(const Context& context) const noexcept = 0;
  // Told once, by the plan: nobody reads this output, it need not be written.
  virtual void unread(SlotId) noexcept {}
};

class Call;

// What runs position after position, each of them needing the one before.
class Layer : public Op {
 public:
  virtual int64_t positions(const Frame& frame) const noexcept = 0;
  // Bytes of weights that each of them streams (Product::cost).
  virtual int64_t position_bytes(const Frame& frame) const noexcept = 0;
};

// An attention, which can give the contexts of more than its own values.
class Attending : public Op {
 public:
  virtual bool one_head_of_items() const noexcept = 0;
  // The context of other values of the same positions; for one head that asks for items.
  virtual Value attend(Call& call, const Value& values) = 0;
};

// How an operand is read by an operation that works on items or on positions.
class Reader {
 public:
  Reader() = default;
  Reader(const Value& value, Level level, Along along);
  ConstRows rows(const Context& context) const noexcept;
  SlotId slot() const noexcept { return slot_; }
  int64_t size() const noexcept { return size_; }

 private:
  enum class Via { direct, item, sentence_of_item, sentence_of_position, sentence_position };
  SlotId slot_ = -1;
  int64_t stride_ = 0;
  int64_t size_ = 0;
  Along along_ = kItems;
  Via via_ = Via::direct;
};

// A sequence operand read item by item: where the positions of an item begin, and how many.
class SequenceReader {
 public:
  SequenceReader() = default;
  SequenceReader(const Value& value, Level level);
  struct Span {
    ConstRows rows;
    int32_t first;
    int32_t count;
  };
  Span of(const Context& context, int32_t item) const noexcept;

 private:
  SlotId slot_ = -1;
  int64_t stride_ = 0;
  Along along_ = kSource;
  bool of_sentence_ = false;  // read by rows, kept by sentences
};

// The slots and lengths of a plan. `row_maps`: some operation of the row level works on positions.
struct Layout {
  std::vector<Slot> slots;
  std::vector<Length> lengths{Length{}};
  bool row_maps = false;
  std::set<const float*> multiplied;       // matrices of products
  std::size_t step_bytes = 0;              // of those of the row level, packed
  std::map<const float*, int64_t> tables;  // those with an embedding folded in: its columns
  // Rows of embeddings by weight, ids and size, until all are made.
  std::map<std::tuple<const float*, int64_t, int64_t>, std::shared_ptr<const Memory>> embeddings;
  SlotId add(Level level, Along along, int64_t width) {
    slots.push_back({level, along, width});
    return static_cast<SlotId>(slots.size()) - 1;
  }
  Along length(const Length& length);
};

// One use of an operation: what its maker checks and takes apart.
class Call {
 public:
  Call(std::string where, Layout& layout) : where_(std::move(where)), layout_(layout) {}

  std::map<std::string, std::vector<Value>> inputs;
  std::map<std::string, Tensor> weights;
  std::map<std::string, Attribute> attributes;
  Level level = Level::fixed;  // the highest of the inputs' levels
  bool in_decoder = false;     // steps are counted
  std::vector<Value> start;    // what a product's sums begin with, beside the bias
  bool front_folded = false;   // the first of `x` became a table
  // For the operation that makes the logits: from how many bytes of weights it is screened.
  int64_t screen_from = INT64_MAX;

  [[noreturn]] void fail(const std::string& what) const;
  bool has(const std::string& role) const {
    return inputs.contains(role) || weights.contains(role);
  }
  // The one value of a role, of one of the kinds.
  const Value& input(const std::string& role, Kind kind) const;
  const Value& features_input(const std::string& role) const;  // vector or sequence
  // The values of a role that join along features, each a vector or a sequence.
  const std::vector<Value>& joined(const std::string& role) const;
  const Tensor& weight(const std::string& role, std::initializer_list<int64_t> shape) const;
  const float* optional_weight(const std::string& role, std::initializer_list<int64_t> shape) const;
  double number(const std::string& name) const;
  int64_t integer(const std::string& name, int64_t low, int64_t high) const;
  bool flag(const std::string& name) const;
  const std::string& word(const std::string& name) const;
  Activation activation(const std::string& name) const;
  // Refuses roles and attributes beyond these; every attribute listed must be there.
  void only(std::initializer_list<const char*> roles,
            std::initializer_list<const char*> names) const;

  // A new value of this operation; level fixed becomes sentence unless the op says otherwise.
  Value output(ValueType type, Along along);
  SlotId scratch(Along along, int64_t width);
  // What the joined or broadcast values are along: one length, or items.
  Along along(const std::vector<Value>& values) const;
  Level run_level() const { return level == Level::fixed ? Level::sentence : level; }
  // How this operation reads an operand; what nobody reads is not computed.
  Reader read(const Value& value, Along along);
  SequenceReader read_sequence(const Value& value);
  std::vector<SlotId> reads;
  Layout& layout() { return layout_; }

 private:
  std::string where_;
  Layout& layout_;
};

// What a maker returns: the operation to run (none where nothing is left to do) and its outputs by
// role; a single output has the role "".
struct Made {
  std::unique_ptr<Op> op;
  std::vector<std::pair<std::string, Value>> outputs;
};

bool any_sequence(const std::vector<Value>& values);
int64_t joined_size(const std::vector<Value>& values);

// Checks a use of the operation `name` against its shape rule and makes it ready to run.
// Throws Error(model_format) naming the node, the shapes and the rule.
Made make_op(const std::string& name, Call& call);

}  // namespace s2s
