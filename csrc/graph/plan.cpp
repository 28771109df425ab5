#include "graph/plan.h"

#include <algorithm>
#include <unordered_map>

#include "core/entry.h"
#include "core/errors.h"
#include "graph/folding.h"
#include "graph/readers.h"
#include "graph/side_by_side.h"
#include "ops/product.h"
#include "ops/scan.h"

namespace s2s {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 24;
// Floats that a plan may take per row: so many, or so many for each weight of the model.
constexpr int64_t kMaxWidth = int64_t{1} << 25;
constexpr int64_t kWidthPerWeight = 64;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::model_format, what); }

class Planner {
 public:
  explicit Planner(const ModelSpec& model)
      : model_(model), folding_(layout_, steps_, model.fold_bytes) {}

  Plan make() {
    if (model_.encoder) encoder(*model_.encoder);
    if (model_.decoder) decoder(*model_.decoder);
    drop_unread();
    folding_.report();
    int64_t width = 0, weights = 0;
    for (const Slot& slot : layout_.slots) width += slot.width;
    for (const auto& [name, tensor] : model_.tensors) {
      const bool multiplied = layout_.multiplied.contains(tensor.data);
      const auto table = layout_.tables.find(tensor.data);
      plan_.compute_types[name] = multiplied ? tensor.type : ComputeType::float32;
      if (multiplied && table != layout_.tables.end()) plan_.float_columns[name] = table->second;
      int64_t count = 1;
      for (const int64_t size : tensor.shape) count *= size;
      weights += count;
    }
    const int64_t most = std::max(kMaxWidth, kWidthPerWeight * weights);
    if (width > most)
      refuse("the graphs' values take " + std::to_string(width) + " floats per row, at most " +
             std::to_string(most) + " for a model of " + std::to_string(weights) + " weights");
    plan_.slots = std::move(layout_.slots);
    plan_.lengths = std::move(layout_.lengths);
    plan_.row_maps = layout_.row_maps;
    plan_.step_bytes = layout_.step_bytes;
    return std::move(plan_);
  }

 private:
  // Where nodes stand: the graph's name in messages, where their steps go, and, inside the body of
  // a scan, the level of the scan.
  struct Place {
    std::string where;
    std::vector<Step>& steps;
    bool decoder;
    std::string prefix;  // of nodes' names in `Plan::folded`
    bool body = false;
    Level level = Level::fixed;
  };
  using Values = std::unordered_map<std::string, Value>;

  void encoder(const GraphSpec& graph) {
    Values values;
    for (const InputSpec& input : graph.inputs) {
      check_size(input.type, "graph encoder, input '" + input.name + "'");
      if (input.type.kind == Kind::sequence) folding_.stop();
      const Value value = new_input(input.type, Level::sentence);
      if (input.name == "source_length") {
        plan_.source_length = value.slot;
      } else if (input.name == "position") {
        plan_.position = value.slot;
        plan_.position_bound = input.type.size;
      } else {
        plan_.inputs.push_back({input.name, input.type, value.slot});
      }
      define(values, input.name, value, "graph encoder");
    }
    nodes(graph, values, {"graph encoder", steps_, false, "encoder."});
    for (const auto& [name, reference] : graph.outputs) {
      const Value& value = find(values, reference, "graph encoder, output '" + name + "'");
      if (value.type.kind == Kind::id)
        refuse("graph encoder, output '" + name + "' is " + to_string(value.type));
      plan_.outputs.push_back({name, value});
      roots_.push_back(value.slot);
    }
  }

  void decoder(const GraphSpec& graph) {
    const std::string where = "graph decoder";
    plan_.has_decoder = true;
    Values values;
    for (const PlanOutput& output : plan_.outputs)
      define(values, "encoder." + output.name, output.value, where);
    for (const InputSpec& input : graph.inputs) decoder_input(input, values);
    if (plan_.token < 0) refuse(where + ": the input 'token' is missing");
    for (const auto& [name, state] : graph.states) {
      check_size(state.type, where + ", state '" + name + "'");
      if (state.type.kind != Kind::vector && state.type.kind != Kind::sequence)
        refuse(where + ", state '" + name + "' must be a vector or a sequence");
      define(values, "state." + name, new_input(state.type, Level::row), where);
    }
    output_layer_ = output_layer(graph);
    nodes(graph, values, {where, steps_, true, "decoder."});
    for (const auto& [name, state] : graph.states) add_state(name, state, values);
    decoder_outputs(graph, values);
  }

  void decoder_input(const InputSpec& input, Values& values) {
    const std::string where = "graph decoder, input '" + input.name + "'";
    check_size(input.type, where);
    Value value;
    if (input.name == "source_length") {
      if (input.type != ValueType{Kind::vector, 1}) refuse(where + " must be vector[1]");
      if (plan_.source_length < 0)
        plan_.source_length = new_input(input.type, Level::sentence).slot;
      value.type = input.type;
      value.slot = plan_.source_length;
    } else if (input.name == "token" || input.name == "step") {
      if (input.type.kind != Kind::id) refuse(where + " must be an id");
      value = new_input(input.type, Level::row);
      (input.name == "token" ? plan_.token : plan_.step) = value.slot;
      if (input.name == "step") plan_.step_bound = input.type.size;
      if (input.name == "token") vocabulary_ = input.type.size;
    } else {
      refuse(where + ": a decoder's inputs are token, step and source_length");
    }
    define(values, input.name, value, "graph decoder");
  }

  void decoder_outputs(const GraphSpec& graph, Values& values) {
    for (const auto& [name, reference] : graph.outputs) {
      const std::string where = "graph decoder, output '" + name + "'";
      // Whatever computes them, logits and alignment are values of the row level.
      const Value value = copied(find(values, reference, where), where, false);
      if (name == "logits" || name == "log_probabilities") {
        if (plan_.logits.slot >= 0)
          refuse(where + ": logits and log_probabilities exclude each other");
        plan_.normalised = name == "log_probabilities";
        if (value.type != ValueType{Kind::vector, vocabulary_})
          refuse(where + " is " + to_string(value.type) + ", must be vector[" +
                 std::to_string(vocabulary_) + "]");
        plan_.logits = value;
      } else if (name == "alignment") {
        if (value.type.kind != Kind::sequence) refuse(where + " must be a sequence");
        plan_.alignment = value;
      } else {
        refuse(where + " is none of logits, log_probabilities and alignment");
      }
      roots_.push_back(value.slot);
    }
    if (plan_.logits.slot < 0) refuse("graph decoder: the output 'logits' is missing");
  }

  void nodes(const GraphSpec& graph, Values& values, const Place& place) {
    for (const NodeSpec& node : graph.nodes) {
      const std::string here = place.where + ", node '" + node.name + "' (" + node.op + ")";
      Call call(here, layout_);
      call.in_decoder = place.decoder;
      for (const auto& [role, references] : node.inputs)
        for (const std::string& reference : references) {
          const Value& value = find(values, reference, here);
          call.inputs[role].push_back(value);
          call.level = std::max(call.level, value.level);
        }
      if (place.body) call.level = place.level;
      const bool output_layer = place.decoder && !place.body && node.name == output_layer_;
      if (output_layer) call.screen_from = model_.screen_from;
      for (const auto& [role, tensor] : node.weights) {
        const auto found = model_.tensors.find(tensor);
        if (found == model_.tensors.end()) refuse(here + ": there is no tensor '" + tensor + "'");
        call.weights[role] = found->second;
      }
      call.attributes = node.attributes;
      if (place.body && (node.op == "scan" || node.op == "first_step" || node.op == "to_positions"))
        refuse(here + " may not stand in the body of a scan");
      if ((node.op == "scan") != (node.body != nullptr)) refuse(here + ": a scan has a body");
      const bool folding = place.decoder && !place.body;
      std::vector<std::string> folded;
      if (folding) folded = folding_.fold(node, graph, call);
      Made made =
          node.body != nullptr ? scan(node, values, call, here, place) : make_op(node.op, call);
      if (folding) folding_.remember(node, call, made);
      if (call.front_folded) {
        const std::vector<std::string>& x = node.inputs.at("x");
        const auto table = std::find_if(x.begin(), x.end(), [&](const std::string& reference) {
          return std::find(folded.begin(), folded.end(), reference) == folded.end();
        });
        folded.insert(folded.begin(), *table);
      }
      if (!folded.empty()) plan_.folded[place.prefix + node.name] = folded;
      if (dynamic_cast<const ScreenedLinear*>(made.op.get()) != nullptr)
        plan_.screened_weight = node.weights.at("weight");
      add_step(std::move(made), call, place.prefix + node.name, place.steps,
               [&](const std::string& role, const Value& value) {
                 check_size(value.type, here);
                 define(values, role.empty() ? node.name : node.name + "." + role, value, here);
               });
    }
  }

  template <typename Define>
  static void add_step(Made made, const Call& call, const std::string& node,
                       std::vector<Step>& steps, const Define& define_output) {
    Step step{std::move(made.op), call.run_level(), call.reads, {}, node};
    for (const auto& [role, value] : made.outputs) {
      if (value.level == Level::fixed) step.level = Level::fixed;
      step.writes.push_back(value.slot);
      define_output(role, value);
    }
    steps.push_back(std::move(step));
  }

  // The body's vectors are slots of the scan's own items; it sees everything that the scan sees.
  Made scan(const NodeSpec& node, const Values& outer, Call& call, const std::string& where,
            const Place& place) {
    const GraphSpec& body = *node.body;
    call.only({"x"}, {"direction"});
    const std::vector<Value>& x = call.joined("x");
    ScanParts parts;
    parts.along = call.along(x);
    if (parts.along == kItems) refuse(where + ": x holds no sequence");
    const std::string& direction = call.word("direction");
    if (direction != "forward" && direction != "backward")
      refuse(where + ": direction is '" + direction + "', must be forward or backward");
    parts.backward = direction == "backward";
    call.level = std::max(call.run_level(), captured_level(body, outer));
    for (const Value& value : x) parts.x.push_back(call.read(value, parts.along));
    const ValueType features = {Kind::vector, joined_size(x)};
    if (body.inputs.size() != 1 || body.inputs.front().name != "x" ||
        body.inputs.front().type != features)
      refuse(where + ": the body has one input, x, which is " + to_string(features));

    Values values;
    for (const auto& [name, value] : outer) values.emplace("outer." + name, value);
    parts.input = call.output(features, kItems);
    values.emplace("x", parts.input);
    for (const auto& [name, state] : body.states) {
      check_size(state.type, where + ", state '" + name + "'");
      if (state.type.kind != Kind::vector || name == "sequence")
        refuse(where + ", state '" + name + "' must be a vector of another name than sequence");
      parts.states.push_back({call.output(state.type, kItems), false, {}, {}});
      define(values, "state." + name, parts.states.back().value, where);
    }
    std::vector<Step> steps;
    nodes(body, values,
          {where, steps, place.decoder, place.prefix + node.name + ".", true, call.level});
    finish_scan(body, values, call, where, parts);
    for (Step& step : steps) {
      call.reads.insert(call.reads.end(), step.reads.begin(), step.reads.end());
      (step.level == Level::fixed ? plan_.fixed_ops : parts.body).push_back(std::move(step.op));
    }
    Made made;
    made.outputs.emplace_back("sequence", parts.sequence);
    for (std::size_t n = 0; n < body.states.size(); ++n)
      made.outputs.emplace_back(body.states[n].first, parts.states[n].value);
    made.op = make_scan(call, std::move(parts));
    return made;
  }

  // The highest level of the outer values that a body reads: the scan runs once for each of them.
  static Level captured_level(const GraphSpec& body, const Values& outer) {
    Level level = Level::fixed;
    const auto see = [&](const std::string& reference) {
      if (!reference.starts_with("outer.")) return;
      const auto found = outer.find(reference.substr(6));
      if (found != outer.end()) level = std::max(level, found->second.level);
    };
    for (const NodeSpec& node : body.nodes)
      for (const auto& [role, references] : node.inputs)
        for (const std::string& reference : references) see(reference);
    for (const auto& [name, state] : body.states) {
      see(state.initial);
      see(state.next);
    }
    for (const auto& [name, reference] : body.outputs) see(reference);
    return level;
  }

  static void finish_scan(const GraphSpec& body, const Values& values, Call& call,
                          const std::string& where, ScanParts& parts) {
    for (std::size_t n = 0; n < body.states.size(); ++n) {
      const auto& [name, state] = body.states[n];
      const std::string here = where + ", state '" + name + "'";
      if (!state.initial.empty()) {
        const Value& initial = find(values, state.initial, here);
        if (!state.initial.starts_with("outer.") || initial.type != state.type)
          refuse(here + ": initial must be an outer." + to_string(state.type));
        parts.states[n].starts = true;
        parts.states[n].initial = call.read(initial, kItems);
      }
      const Value& next = find(values, state.next, here);
      if (next.type != state.type)
        refuse(here + ": next is " + to_string(next.type) + ", must be " + to_string(state.type));
      parts.states[n].next = call.read(next, kItems);
    }
    if (body.outputs.size() != 1 || body.outputs.front().first != "sequence")
      refuse(where + ": the body has one output, sequence");
    const Value& result = find(values, body.outputs.front().second, where);
    if (result.type.kind != Kind::vector)
      refuse(where + ": the body's output is " + to_string(result.type) + ", must be a vector");
    parts.result = call.read(result, kItems);
    parts.sequence = call.output({Kind::sequence, result.type.size}, parts.along);
  }

  void add_state(const std::string& name, const StateSpec& state, Values& values) {
    const std::string where = "graph decoder, state '" + name + "'";
    PlanState planned;
    planned.slot = values.at("state." + name).slot;
    planned.width = padded(state.type.size);
    planned.along = state.type.kind == Kind::sequence ? kSource : kItems;
    if (!state.initial.empty()) {
      const Value& initial = find(values, state.initial, where);
      if (initial.level == Level::row || initial.type != state.type ||
          initial.along != planned.along)
        refuse(where + ": initial must be an encoder output of type " + to_string(state.type));
      planned.initial = initial.slot;
      initial_fixed(planned, initial, where);
      roots_.push_back(planned.initial);
      keep({planned.initial});
    }
    const Value& next = find(values, state.next, where);
    if (next.type != state.type || next.along != planned.along)
      refuse(where + ": next is " + to_string(next.type) + ", must be " + to_string(state.type));
    const bool own =
        next.level == Level::row && !state.next.starts_with("state.") &&
        std::find(next_slots_.begin(), next_slots_.end(), next.slot) == next_slots_.end();
    planned.next = own ? next.slot : copied(next, where, true).slot;
    next_slots_.push_back(planned.next);
    roots_.push_back(planned.next);
    plan_.states.push_back(planned);
  }

  // A constant as an initial state becomes a value of each sentence.
  void initial_fixed(PlanState& planned, const Value& initial, const std::string& where) {
    if (initial.level == Level::fixed)
      planned.initial = copy_of(initial, Level::sentence, where).slot;
  }

  // A value of the row level of its own: the value itself where it is one already.
  Value copied(const Value& value, const std::string& where, bool always) {
    return value.level == Level::row && !always ? value : copy_of(value, Level::row, where);
  }

  Value copy_of(const Value& value, Level level, const std::string& where) {
    Call call(where, layout_);
    if (value.type.kind != Kind::vector && value.type.kind != Kind::sequence)
      refuse(where + " is " + to_string(value.type) + ", must be a vector or a sequence");
    call.in_decoder = true;
    call.inputs["x"].push_back(value);
    call.level = level;
    Value out;
    add_step(make_op("concat", call), call, where.substr(where.find(' ') + 1), steps_,
             [&](const std::string&, const Value& made) { out = made; });
    return out;
  }

  Value new_input(const ValueType& type, Level level) {
    Value value;
    value.type = type;
    value.level = level;
    const bool ids = type.kind == Kind::id || type.kind == Kind::ids;
    value.along = type.kind == Kind::ids || type.kind == Kind::sequence ? kSource : kItems;
    value.slot = layout_.add(level, value.along, ids ? 1 : padded(type.size));
    return value;
  }

  static void define(Values& values, const std::string& name, const Value& value,
                     const std::string& where) {
    if (!values.emplace(name, value).second) refuse(where + ": '" + name + "' is defined twice");
  }

  static const Value& find(const Values& values, const std::string& reference,
                           const std::string& where) {
    const auto found = values.find(reference);
    if (found == values.end()) refuse(where + ": '" + reference + "' is not a value known here");
    return found->second;
  }

  static void check_size(const ValueType& type, const std::string& where) {
    if (type.size < 1 || type.size > kMaxSize)
      refuse(where + " is " + to_string(type) + "; sizes are 1 to 2^24");
  }

  // Keeps, from the last step to the first, what a root or a kept step reads.
  void drop_unread() {
    std::vector<bool> read(layout_.slots.size(), false);
    for (const SlotId slot : roots_) read[static_cast<std::size_t>(slot)] = true;
    std::vector<Step> kept;
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      const auto is_read = [&](SlotId slot) { return bool{read[static_cast<std::size_t>(slot)]}; };
      if (std::none_of(step->writes.begin(), step->writes.end(), is_read)) continue;
      for (const SlotId slot : step->writes) {
        if (is_read(slot)) continue;
        step->op->unread(slot);
        Slot& unused = layout_.slots[static_cast<std::size_t>(slot)];
        if (unused.across != kItems) unused.width = 0;
      }
      for (const SlotId slot : step->reads) read[static_cast<std::size_t>(slot)] = true;
      if (step->level == Level::row) keep(step->reads);
      kept.push_back(std::move(*step));
    }
    std::reverse(kept.begin(), kept.end());
    for (Step& step : side_by_side(std::move(kept))) {
      plan_.nodes[step.op.get()] = step.node;
      if (auto* screened = dynamic_cast<ScreenedLinear*>(step.op.get())) {
        plan_.screened_bytes = screened->bytes();
        plan_.screened.reset(static_cast<ScreenedLinear*>(step.op.release()));
        continue;
      }
      auto& ops = step.level == Level::fixed      ? plan_.fixed_ops
                  : step.level == Level::sentence ? plan_.sentence_ops
                                                  : plan_.row_ops;
      ops.push_back(std::move(step.op));
    }
  }

  void keep(const std::vector<SlotId>& slots) {
    for (const SlotId slot : slots)
      if (layout_.slots[static_cast<std::size_t>(slot)].level == Level::sentence &&
          std::find(plan_.kept.begin(), plan_.kept.end(), slot) == plan_.kept.end())
        plan_.kept.push_back(slot);
  }

  const ModelSpec& model_;
  Plan plan_;
  Layout layout_;
  std::vector<Step> steps_;
  Folding folding_;
  std::vector<SlotId> roots_;
  std::vector<SlotId> next_slots_;
  int64_t vocabulary_ = 0;
  std::string output_layer_;
};

}  // namespace

Plan make_plan(const ModelSpec& model) {
  const Entry entry;  // tables are folded here: the caller's rounding mode must not reach them
  return Planner(model).make();
}

}  // namespace s2s
