// Python's door to the engine floor: values are checked and copied here, nothing is computed.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "bindings/constraints.h"
#include "bindings/errors.h"
#include "bindings/kernel_addresses.h"
#include "bindings/rules.h"
#include "bindings/threads.h"
#include "core/entry.h"
#include "core/errors.h"
#include "core/isa.h"
#include "engine/batch.h"
#include "engine/measure.h"
#include "engine/session.h"

// The heap test's hook reads how deep this thread is inside the core.
extern "C" __attribute__((visibility("default"))) int s2s_entry_depth() { return s2s::entry_depth; }

namespace py = pybind11;

namespace s2s {
namespace {

using Floats = py::array_t<float, py::array::c_style>;

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const py::object raised = python_error(error);
    PyErr_SetObject(py::type::handle_of(raised).ptr(), raised.ptr());
  }
}

// --- the model ---

Kind kind_of(const std::string& word, const std::string& where) {
  if (word == "id") return Kind::id;
  if (word == "ids") return Kind::ids;
  if (word == "vector") return Kind::vector;
  if (word == "sequence") return Kind::sequence;
  if (word == "alignment") return Kind::alignment;
  throw Error(ErrorKind::model_format, where + ": kind '" + word + "' is unknown");
}

ValueType type_of(const py::dict& value, const std::string& where) {
  return {kind_of(value["kind"].cast<std::string>(), where), value["size"].cast<int64_t>()};
}

Attribute attribute_of(py::handle value) {
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>();
  if (py::isinstance<py::int_>(value)) return value.cast<int64_t>();
  if (py::isinstance<py::float_>(value)) return value.cast<double>();
  return value.cast<std::string>();
}

GraphSpec graph_of(const py::dict& value);

NodeSpec node_of(const py::dict& value) {
  NodeSpec node;
  node.name = value["name"].cast<std::string>();
  node.op = value["op"].cast<std::string>();
  for (const auto& [role, reference] : value["inputs"].cast<py::dict>()) {
    auto& references = node.inputs[role.cast<std::string>()];
    if (py::isinstance<py::str>(reference))
      references.push_back(reference.cast<std::string>());
    else
      references = reference.cast<std::vector<std::string>>();
  }
  node.weights = value["weights"].cast<std::map<std::string, std::string>>();
  for (const auto& [name, attribute] : value["attributes"].cast<py::dict>())
    node.attributes[name.cast<std::string>()] = attribute_of(attribute);
  if (value.contains("body"))
    node.body = std::make_shared<GraphSpec>(graph_of(value["body"].cast<py::dict>()));
  return node;
}

GraphSpec graph_of(const py::dict& value) {
  GraphSpec graph;
  for (const auto& [key, input] : value["inputs"].cast<py::dict>()) {
    const auto name = key.cast<std::string>();
    graph.inputs.push_back({name, type_of(input.cast<py::dict>(), "input '" + name + "'")});
  }
  if (value.contains("states"))
    for (const auto& [key, item] : value["states"].cast<py::dict>()) {
      const auto state = item.cast<py::dict>();
      const auto name = key.cast<std::string>();
      StateSpec spec{type_of(state, "state '" + name + "'"), "", state["next"].cast<std::string>()};
      if (!state["initial"].is_none()) spec.initial = state["initial"].cast<std::string>();
      graph.states.emplace_back(name, spec);
    }
  for (const auto& node : value["nodes"].cast<py::list>())
    graph.nodes.push_back(node_of(node.cast<py::dict>()));
  for (const auto& [name, reference] : value["outputs"].cast<py::dict>())
    graph.outputs.emplace_back(name.cast<std::string>(), reference.cast<std::string>());
  return graph;
}

std::map<std::string, std::string> types_of(const Model& model) {
  std::map<std::string, std::string> types;
  for (const auto& [name, type] : model.plan().compute_types) types[name] = to_string(type);
  return types;
}

Tensor tensor_of(const std::string& name, py::handle value, std::vector<Floats>& alive) {
  if (!py::isinstance<Floats>(value))
    throw Error(ErrorKind::model_format,
                "tensor '" + name + "' must be a contiguous float32 array");
  alive.push_back(py::reinterpret_borrow<Floats>(value));
  const Floats& array = alive.back();
  Tensor tensor;
  tensor.shape.assign(array.shape(), array.shape() + array.ndim());
  tensor.data = array.data();
  return tensor;
}

std::shared_ptr<Model> make_model(const py::dict& graphs, const py::dict& tensors, int32_t start,
                                  std::vector<int32_t> end,
                                  const std::map<std::string, std::string>& compute_types) {
  ModelSpec spec;
  std::vector<Floats> alive;
  const char* what = "a graph";
  try {
    if (graphs.contains("encoder")) spec.encoder = graph_of(graphs["encoder"].cast<py::dict>());
    if (graphs.contains("decoder")) spec.decoder = graph_of(graphs["decoder"].cast<py::dict>());
    if (!spec.encoder && !spec.decoder)
      throw Error(ErrorKind::model_format, "the model has neither an encoder nor a decoder");
    what = "the name of a tensor";
    for (const auto& [key, value] : tensors) {
      const auto name = key.cast<std::string>();
      spec.tensors[name] = tensor_of(name, value, alive);
      const auto type = compute_types.find(name);
      if (type != compute_types.end()) spec.tensors[name].type = compute_type_of(type->second);
    }
  } catch (const py::cast_error&) {
    throw Error(ErrorKind::model_format, std::string(what) + " is not of the documented form");
  } catch (const py::error_already_set& error) {  // a key that is missing, a string that is none
    throw Error(ErrorKind::model_format,
                std::string(what) + " is not of the documented form: " + error.what());
  }
  const py::gil_scoped_release release;
  return std::make_shared<Model>(spec, TargetRule{start, std::move(end)});
}

// Seconds of a product of some rows with a weight, by compute type.
std::map<std::string, double> measured(const Floats& weight, const std::string& isa, int64_t rows) {
  if (weight.ndim() != 2) refuse("a weight to measure must have two dimensions");
  check_whole("rows", rows, 1024);
  const py::gil_scoped_release release;
  std::map<std::string, double> seconds;
  for (const ComputeType type : {ComputeType::float32, ComputeType::bfloat16, ComputeType::int8})
    seconds[to_string(type)] =
        time_product(weight.data(), weight.shape(0), weight.shape(1), type, rows, isa);
  return seconds;
}

// --- sources and targets ---

// Ids as the vocabulary checked them: Python integers, or a contiguous int32 array.
std::vector<int32_t> ids_of(py::handle value) {
  std::vector<int32_t> ids;
  if (PyList_Check(value.ptr()) != 0) {
    const Py_ssize_t size = PyList_GET_SIZE(value.ptr());
    ids.reserve(static_cast<std::size_t>(size));
    for (Py_ssize_t n = 0; n < size; ++n) {
      int overflow = 0;
      PyObject* item = PyList_GET_ITEM(value.ptr(), n);
      if (!PyLong_CheckExact(item)) refuse("id " + std::to_string(n) + " is not an integer");
      const long id = PyLong_AsLongAndOverflow(item, &overflow);
      if (overflow != 0 || id < INT32_MIN || id > INT32_MAX)
        refuse("id " + std::to_string(n) + " does not fit in 32 bits");
      ids.push_back(static_cast<int32_t>(id));
    }
    return ids;
  }
  using Ids = py::array_t<int32_t, py::array::c_style>;
  if (!py::isinstance<Ids>(value)) refuse("ids must be a list of integers or an int32 array");
  const auto array = py::reinterpret_borrow<Ids>(value);
  if (array.ndim() != 1) refuse("ids must have one dimension");
  ids.assign(array.data(), array.data() + array.size());
  return ids;
}

// One sentence's inputs, kept alive for the call.
class Sentence {
 public:
  Sentence(const Plan& plan, const py::list& inputs) {
    if (inputs.size() != plan.inputs.size())
      refuse("a source has " + std::to_string(inputs.size()) + " inputs, the model has " +
             std::to_string(plan.inputs.size()));
    ids_.reserve(inputs.size());
    for (std::size_t n = 0; n < inputs.size(); ++n) {
      const PlanInput& input = plan.inputs[n];
      if (input.type.kind == Kind::ids || input.type.kind == Kind::id) {
        ids_.push_back(ids_of(inputs[n]));
        views_.push_back({ids_.back().data(), nullptr, static_cast<int64_t>(ids_.back().size())});
        continue;
      }
      if (!py::isinstance<Floats>(inputs[n])) refuse("features must be a float32 array");
      arrays_.push_back(py::reinterpret_borrow<Floats>(inputs[n]));
      const Floats& array = arrays_.back();
      if (array.ndim() != 2 || array.shape(1) != input.type.size)
        refuse("input '" + input.name + "' takes rows of " + std::to_string(input.type.size));
      views_.push_back({nullptr, array.data(), array.shape(0)});
    }
  }
  Source source() const { return views_; }

 private:
  std::vector<std::vector<int32_t>> ids_;
  std::vector<Floats> arrays_;
  std::vector<SourceInput> views_;
};

template <typename T>
py::array_t<T> array_of(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// (ids, token_log_probs, log_prob, score, reason, alignment or None); an alignment is
// (target, source), or (heads, target, source).
py::tuple hypothesis_tuple(const Hypothesis& h, int64_t heads) {
  py::object alignment = py::none();
  const auto steps = static_cast<py::ssize_t>(h.token_log_probs.size());
  constexpr py::ssize_t kRest = -1;
  if (!h.alignment.empty()) {
    auto packed = array_of(h.alignment);
    alignment = heads == 1 ? py::object(packed.reshape({steps, kRest}))
                           : py::object(packed.reshape({steps, kRest, py::ssize_t{heads}})
                                            .attr("transpose")(2, 0, 1)
                                            .attr("copy")());
  }
  return py::make_tuple(py::cast(h.ids), array_of(h.token_log_probs), h.log_prob, h.score,
                        h.reason == FinishReason::eos ? "eos" : "length", alignment);
}

template <typename Range>
py::list hypotheses_list(const Range& hypotheses, const Session& session) {
  const int64_t heads = session.model().plan().alignment.type.size;
  py::list out;
  for (const Hypothesis& h : hypotheses) out.append(hypothesis_tuple(h, heads));
  return out;
}

// --- sessions ---

void check_request(const Plan& plan, int32_t beam_size, int32_t num_hypotheses, bool alignment,
                   std::span<const int32_t> max_lengths, const SearchRules& rules) {
  if (!plan.has_decoder) refuse("this model has no decoder");
  check_whole("beam_size", beam_size, 1024);
  check_whole("num_hypotheses", num_hypotheses, rules.sampling.on ? 1024 : beam_size);
  if (rules.sampling.on ? beam_size > 1 || rules.groups > 1 : beam_size % rules.groups != 0)
    refuse("samples take a beam of 1, groups a beam_size that they divide");
  check_constraints(rules, plan.logits.type.size);
  if ((alignment || rules.coverage > 0.0) && plan.alignment.slot < 0)
    refuse("this model gives no alignment");
  for (const int32_t length : max_lengths) check_whole("max_length", length, 1'000'000);
}

std::vector<int32_t> target_of(const Session& session, py::handle value) {
  if (!session.model().plan().has_decoder) refuse("this model has no decoder");
  std::vector<int32_t> ids = ids_of(value);
  const auto limit = session.model().vocabulary();
  for (const int32_t id : ids)
    if (id < 0 || id >= limit)
      refuse("target id " + std::to_string(id) + " is outside the vocabulary of " +
             std::to_string(limit) + " ids");
  return ids;
}

// A model without an encoder reads a prompt; for any other model there is none.
class Prompt {
 public:
  Prompt(const Session& session, py::handle value) : given_(!value.is_none()) {
    if (given_ == !session.model().plan().inputs.empty())
      refuse("a prompt is for models without an encoder, which need one");
    if (!given_) return;
    ids_ = target_of(session, value);
    if (session.model().target().start < 0 && ids_.empty())
      refuse("the prompt is empty, and the model has no start token to begin with");
    view_ = ids_;
  }
  Prompts prompts() const { return given_ ? Prompts{&view_, 1} : Prompts{}; }
  std::span<const int32_t> view() const { return view_; }

 private:
  bool given_;
  std::vector<int32_t> ids_;
  std::span<const int32_t> view_;
};

py::list decode(Session& session, const py::list& inputs, int32_t beam_size, int32_t num_hypotheses,
                bool alignment, int32_t max_length, py::handle given, const SearchRules& rules) {
  const Prompt prompt(session, given);
  check_request(session.model().plan(), beam_size, num_hypotheses, alignment, {&max_length, 1},
                rules);
  const Sentence sentence(session.model().plan(), inputs);
  const Source source = sentence.source();
  const SearchResults* results = nullptr;
  {
    const py::gil_scoped_release release;
    results = &session.decode({&source, 1}, {beam_size, num_hypotheses, alignment, rules},
                              {&max_length, 1}, prompt.prompts());
  }
  return hypotheses_list(results->sentence(0), session);
}

py::tuple score(Session& session, const py::list& inputs, py::handle target, bool alignment,
                py::handle given, const SearchRules& rules) {
  const Prompt prompt(session, given);
  const Sentence sentence(session.model().plan(), inputs);
  const Source source = sentence.source();
  const std::vector<int32_t> ids = target_of(session, target);
  const std::span<const int32_t> view = ids;
  check_request(session.model().plan(), 1, 1, alignment, {}, {.coverage = rules.coverage});
  check_constraints(rules, session.model().vocabulary());
  const SearchResults* results = nullptr;
  {
    const py::gil_scoped_release release;
    results = &session.score({&source, 1}, {&view, 1}, alignment, prompt.prompts(), rules);
  }
  return hypothesis_tuple(results->sentence(0).front(), session.model().plan().alignment.type.size);
}

py::list decode_many(const std::vector<Session*>& sessions, const std::vector<py::list>& sources,
                     int32_t beam_size, int32_t num_hypotheses, bool alignment,
                     const std::vector<int32_t>& max_lengths, int32_t batch_size,
                     const std::vector<py::object>& given, const SearchRules& rules) {
  if (sessions.empty() || max_lengths.size() != sources.size())
    refuse("a batch needs a session, and a limit for every source");
  if (given.size() != (sessions.front()->model().plan().inputs.empty() ? sources.size() : 0))
    refuse("prompts are for models without an encoder, one for every source");
  check_whole("batch_size", batch_size, 1 << 20);
  if (rules.exact) batch_size = 1;
  check_request(sessions.front()->model().plan(), beam_size, num_hypotheses, alignment, max_lengths,
                rules);
  std::vector<Prompt> prompts;
  std::vector<std::span<const int32_t>> prompt_views;
  prompts.reserve(given.size());
  for (const py::object& prompt : given) prompts.emplace_back(*sessions.front(), prompt);
  for (const Prompt& prompt : prompts) prompt_views.push_back(prompt.view());
  std::vector<Sentence> sentences;
  sentences.reserve(sources.size());
  for (const py::list& inputs : sources)
    sentences.emplace_back(sessions.front()->model().plan(), inputs);
  std::vector<Source> views;
  for (const Sentence& sentence : sentences) views.push_back(sentence.source());
  std::vector<Hypotheses> results;
  {
    const py::gil_scoped_release release;
    results = decode_batch(sessions, views, {beam_size, num_hypotheses, alignment, rules},
                           max_lengths, batch_size, prompt_views);
  }
  py::list out;
  for (const Hypotheses& hypotheses : results)
    out.append(hypotheses_list(hypotheses, *sessions.front()));
  return out;
}

py::dict encode(Session& session, const py::list& inputs) {
  const Sentence sentence(session.model().plan(), inputs);
  {
    const py::gil_scoped_release release;
    session.encode(sentence.source());
  }
  py::dict out;
  const auto& outputs = session.model().plan().outputs;
  for (std::size_t n = 0; n < outputs.size(); ++n) {
    const Session::OutputView view = session.output(n);
    if (view.kind == Kind::ids) continue;  // for the decoder's use
    Floats array({view.rows * view.columns, view.size});
    for (int64_t r = 0; r < view.rows * view.columns; ++r)
      std::memcpy(array.mutable_data(r, 0), view.data + r * view.stride,
                  static_cast<std::size_t>(view.size) * sizeof(float));
    py::object value = array;
    if (view.kind == Kind::vector) value = array.reshape({view.size});
    if (view.kind == Kind::alignment)  // (heads, queries, positions), or without heads
      value = view.size == 1 ? py::object(array.reshape({view.rows, view.columns}))
                             : py::object(array.reshape({view.rows, view.columns, view.size})
                                              .attr("transpose")(2, 0, 1)
                                              .attr("copy")());
    out[py::str(outputs[n].name)] = value;
  }
  return out;
}

py::tuple label(Session& session, const py::list& inputs, std::size_t output) {
  if (output >= session.model().plan().outputs.size())
    refuse("the encoder has no output " + std::to_string(output));
  const Sentence sentence(session.model().plan(), inputs);
  std::vector<Session::Label> labels;
  {
    const py::gil_scoped_release release;
    labels = session.label(sentence.source(), output);
  }
  std::vector<int32_t> ids;
  std::vector<float> log_probs;
  for (const Session::Label& found : labels) {
    ids.push_back(found.id);
    log_probs.push_back(found.log_prob);
  }
  return py::make_tuple(py::cast(ids), array_of(log_probs));
}

Floats forced_logits(Session& session, const py::list& inputs, py::handle target,
                     py::handle given) {
  const Prompt prompt(session, given);
  const Sentence sentence(session.model().plan(), inputs);
  const std::vector<int32_t> ids = target_of(session, target);
  std::vector<float> logits;
  {
    const py::gil_scoped_release release;
    logits = session.forced_logits(sentence.source(), ids, prompt.view());
  }
  const auto steps = static_cast<py::ssize_t>(ids.size() + 1);
  return Floats(array_of(logits).reshape({steps, static_cast<py::ssize_t>(-1)}));
}

}  // namespace
}  // namespace s2s

PYBIND11_MODULE(_core, module) {
  using namespace s2s;
  module.doc() = "The C++ core of s2s_engine; use s2s_engine.Engine.";
  py::register_exception_translator(&translate);
  module.def("available_isas", &available_isas);
  bind_threads(module);
  module.def("default_isa", [] { return std::string(kernels_for("").isa); });
  module.def("time_products", &measured, py::arg("weight"), py::arg("isa"), py::arg("rows") = 1);
  py::class_<Model, std::shared_ptr<Model>>(module, "Model")
      .def(py::init(&make_model), py::arg("graphs"), py::arg("tensors"), py::arg("start"),
           py::arg("end"), py::arg("compute_types") = std::map<std::string, std::string>())
      .def_property_readonly("compute_types", &types_of)
      .def_property_readonly("float_columns",
                             [](const Model& model) { return model.plan().float_columns; })
      .def_property_readonly("inputs", [](const Model& model) {
        std::vector<std::string> names;
        for (const PlanInput& input : model.plan().inputs) names.push_back(input.name);
        return names;
      });
  py::class_<Constraints, std::shared_ptr<Constraints>>(module, "Constraints")
      .def(py::init(&make_constraints), py::kw_only(), py::arg("prefix") = Ids{},
           py::arg("end") = py::none(), py::arg("suppressed") = Ids{},
           py::arg("repetition_penalty") = 1.0F, py::arg("no_repeat_ngram_size") = 0,
           py::arg("automaton") = py::none(), py::arg("continuations") = py::none());
  py::class_<SearchRules>(module, "SearchRules")
      .def(py::init(&make_rules), py::kw_only(), py::arg("ended") = "leave",
           py::arg("stop") = "best", py::arg("limit") = "compete", py::arg("finished_limit") = 1,
           py::arg("min_length") = 0, py::arg("length_penalty") = 0.0,
           py::arg("length_penalty_kind") = "power", py::arg("coverage_penalty") = 0.0,
           py::arg("beam_groups") = 1, py::arg("diversity_penalty") = 0.0,
           py::arg("sampling") = py::none(), py::arg("constraints") = py::none(),
           py::arg("max_nodes") = 0);
  py::class_<Session>(module, "Session")
      .def(py::init(&make_session), py::arg("model"), py::arg("isa"), py::arg("threads") = 1,
           py::arg("member_bytes") = Session::kMemberBytes)
      .def_property_readonly("isa", &Session::isa)
      .def_property("threads", &Session::threads, &set_threads)
      .def_property_readonly("workspace_bytes", &Session::workspace_bytes)
      .def_property_readonly("kernel_addresses", &kernel_addresses)
      .def("decode", &decode, py::arg("inputs"), py::arg("beam_size"), py::arg("num_hypotheses"),
           py::arg("alignment"), py::arg("max_length"), py::arg("prompt") = py::none(),
           py::arg("rules") = SearchRules{})
      .def("score", &score, py::arg("inputs"), py::arg("target"), py::arg("alignment"),
           py::arg("prompt") = py::none(), py::arg("rules") = SearchRules{})
      .def("encode", &encode, py::arg("inputs"))
      .def("label", &label, py::arg("inputs"), py::arg("output"))
      .def("forced_logits", &forced_logits, py::arg("inputs"), py::arg("target"),
           py::arg("prompt") = py::none());
  module.def("decode_batch", &decode_many, py::arg("sessions"), py::arg("sources"),
             py::arg("beam_size"), py::arg("num_hypotheses"), py::arg("alignment"),
             py::arg("max_lengths"), py::arg("batch_size"), py::arg("prompts"),
             py::arg("rules") = SearchRules{});
}
