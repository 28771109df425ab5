// Python's door to the engine floor: values are checked and copied here, nothing is computed.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "bindings/arguments.h"
#include "bindings/errors.h"
#include "bindings/found.h"
#include "bindings/handover.h"
#include "bindings/kernel_addresses.h"
#include "bindings/library.h"
#include "bindings/pipeline.h"
#include "bindings/threads.h"
#include "bindings/watch.h"

namespace s2s::python {
namespace {

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const py::object made = python_error(error);
    PyErr_SetObject(py::type::handle_of(made).ptr(), made.ptr());
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
  for (const auto& [name, type] : model.plan().compute_types) types[name] = name_of(type);
  return types;
}

// The weight of an output layer that is screened, and the bytes that this keeps beside it.
std::map<std::string, std::size_t> screened_of(const Model& model) {
  const Plan& plan = model.plan();
  if (plan.screened == nullptr) return {};
  return {{plan.screened_weight, plan.screened_bytes}};
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
                                  const std::map<std::string, std::string>& compute_types,
                                  int64_t fold_bytes, int64_t screen_from) {
  ModelSpec spec;
  spec.fold_bytes = fold_bytes;
  spec.screen_from = screen_from;
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
  return library().make_model(spec, TargetRule{start, std::move(end)});
}

// Seconds of a product of some rows with a weight, by compute type.
std::map<std::string, double> measured(const Floats& weight, const std::string& isa, int64_t rows) {
  if (weight.ndim() != 2) refuse("a weight to measure must have two dimensions");
  check_whole("rows", rows, 1024);
  const py::gil_scoped_release release;
  std::map<std::string, double> seconds;
  for (const ComputeType type : {ComputeType::float32, ComputeType::bfloat16, ComputeType::int8})
    seconds[name_of(type)] =
        library().time_product(weight.data(), weight.shape(0), weight.shape(1), type, rows, isa);
  return seconds;
}

// --- sessions ---

DecodeRequest make_request(int32_t beam_size, int32_t num_hypotheses, bool alignment,
                           const SearchRules& rules) {
  check_whole("beam_size", beam_size, 1024);
  check_whole("num_hypotheses", num_hypotheses, rules.sampling.on ? 1024 : beam_size);
  if (rules.sampling.on ? beam_size > 1 || rules.groups > 1 : beam_size % rules.groups != 0)
    refuse("samples take a beam of 1, groups a beam_size that they divide");
  return {beam_size, num_hypotheses, alignment, rules};
}

Found run(Session& session, const Source& source, const DecodeRequest& request, int32_t max_length,
          Prompts prompts, const CancelToken* token, double seconds,
          std::vector<int32_t> ids = {}) {
  Watch watch(token, seconds);
  const SearchResults* results = nullptr;
  {
    const py::gil_scoped_release release;
    results = &session.decode({&source, 1}, request, {&max_length, 1}, prompts, &watch);
  }
  const Stopped stopped = watch.end();
  return {results->sentence(0), session, stopped, std::move(ids)};
}

Found decode(Session& session, const py::list& inputs, const DecodeRequest& request,
             int32_t max_length, py::handle given, const CancelToken* token, double seconds) {
  const Prompt prompt(session, given);
  check_request(session.model().plan(), request, {&max_length, 1});
  const Sentence sentence(session.model().plan(), inputs);
  return run(session, sentence.source(), request, max_length, prompt.prompts(), token, seconds);
}

// The short way of a list of ids that is in order; None for anything else.
std::optional<Found> decode_ids(Session& session, py::handle x, const IdReader& reader,
                                const DecodeRequest& request, int32_t factor, int32_t addend,
                                const CancelToken* token, double seconds) {
  const Plan& plan = session.model().plan();
  std::vector<int32_t> ids;
  if (plan.inputs.size() != 1 || !reader.read(x, ids)) return std::nullopt;
  const SourceInput input = {ids.data(), nullptr, static_cast<int64_t>(ids.size())};
  const int64_t length = factor * input.length + addend;
  const auto limit = static_cast<int32_t>(std::clamp<int64_t>(length, 1, 1'000'000));
  check_request(plan, request, {&limit, 1});
  return run(session, {&input, 1}, request, limit, {}, token, seconds, std::move(ids));
}

void warm_up(Session& session, int64_t source_length, int32_t sentences,
             const DecodeRequest& request, int32_t max_length) {
  check_whole("source_length", source_length, int64_t{1} << 30);
  check_whole("sentences", sentences, int64_t{1} << 20);
  check_whole("max_length", max_length, 1'000'000);
  const py::gil_scoped_release release;
  session.warm_up(source_length, sentences, request, max_length);
}

// Seconds of the core's own work for a decode: the mean of so many without Python in between.
double time_decode(Session& session, const py::list& inputs, const DecodeRequest& request,
                   int32_t max_length, int32_t times) {
  check_request(session.model().plan(), request, {&max_length, 1});
  const Sentence sentence(session.model().plan(), inputs);
  const Source source = sentence.source();
  const py::gil_scoped_release release;
  const auto start = Watch::Clock::now();
  for (int32_t n = 0; n < times; ++n) session.decode({&source, 1}, request, {&max_length, 1});
  return std::chrono::duration<double>(Watch::Clock::now() - start).count() / times;
}

// The seconds of a decode's parts (engine/measure.h).
py::dict profile(Session& session, const py::list& sources, const DecodeRequest& request,
                 const std::vector<int32_t>& max_lengths) {
  check_request(session.model().plan(), request, max_lengths);
  if (request.rules.exact) refuse("an exact search has no fixed beam to time");
  if (session.model().plan().inputs.empty()) refuse("a model without an encoder takes a prompt");
  if (sources.empty() || sources.size() != max_lengths.size())
    refuse("a profile takes a max_length for each of its sources");
  std::vector<Sentence> sentences;
  for (const py::handle inputs : sources)
    sentences.emplace_back(session.model().plan(), py::cast<py::list>(inputs));
  std::vector<Source> views;
  for (const Sentence& sentence : sentences) views.push_back(sentence.source());
  Profile found;
  {
    const py::gil_scoped_release release;
    found = library().profile(*session, views, request, max_lengths);
  }
  py::list nodes;
  for (const Profile::Node& node : found.nodes)
    nodes.append(py::make_tuple(node.name, node.step ? "step" : "sentence", node.seconds));
  py::list results;
  for (int32_t n = 0; n < found.results->size(); ++n)
    results.append(py::cast(Found(found.results->sentence(n), session, Stopped::no)));
  py::dict out;
  out["nodes"] = nodes;
  out["results"] = results;
  out["steps"] = found.steps;
  out["begin"] = found.begin;
  out["states"] = found.states;
  out["rank"] = found.rank;
  out["search"] = found.search;
  out["clock"] = found.clock;
  return out;
}

py::tuple score(Session& session, const py::list& inputs, py::handle target, bool alignment,
                py::handle given, const SearchRules& rules) {
  const Prompt prompt(session, given);
  const Sentence sentence(session.model().plan(), inputs);
  const Source source = sentence.source();
  const std::vector<int32_t> ids = target_of(session, target);
  const std::span<const int32_t> view = ids;
  check_request(session.model().plan(), {1, 1, alignment, {.coverage = rules.coverage}}, {});
  check_constraints(rules, session.model().vocabulary());
  Watch watch(nullptr, Watch::kNever);
  const SearchResults* results = nullptr;
  {
    const py::gil_scoped_release release;
    results = &session.score({&source, 1}, {&view, 1}, alignment, prompt.prompts(), rules, &watch);
  }
  watch.end();
  return hypothesis_tuple(results->sentence(0).front(), session.model().plan().alignment.type.size);
}

py::dict encode(Session& session, const py::list& inputs) {
  const Sentence sentence(session.model().plan(), inputs);
  Watch watch(nullptr, Watch::kNever);
  {
    const py::gil_scoped_release release;
    session.encode(sentence.source(), &watch);
  }
  watch.end();
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

void check_output(const Session& session, std::size_t output) {
  if (output >= session.model().plan().outputs.size())
    refuse("the encoder has no output " + std::to_string(output));
}

py::tuple label(Session& session, const py::list& inputs, std::size_t output) {
  check_output(session, output);
  const Sentence sentence(session.model().plan(), inputs);
  Watch watch(nullptr, Watch::kNever);
  std::vector<Session::Label> labels;
  {
    const py::gil_scoped_release release;
    labels = session.label(sentence.source(), output, &watch);
  }
  watch.end();
  std::vector<int32_t> ids;
  std::vector<float> log_probs;
  for (const Session::Label& found : labels) {
    ids.push_back(found.id);
    log_probs.push_back(found.log_prob);
  }
  return py::make_tuple(py::cast(ids), array_of(log_probs));
}

Floats score_labels(Session& session, const py::list& inputs, py::handle labels,
                    std::size_t output) {
  check_output(session, output);
  const Sentence sentence(session.model().plan(), inputs);
  const std::vector<int32_t> ids = ids_of(labels);
  std::vector<float> log_probs;
  {
    const py::gil_scoped_release release;
    log_probs = session.score_labels(sentence.source(), output, ids);
  }
  return array_of(log_probs);
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

void bind(py::module_& module) {
  module.doc() = "The C++ core of s2s_engine; use s2s_engine.Engine.";
  py::register_exception_translator(&translate);
  module.def("available_isas", &available_isas);
  bind_threads(module);
  module.def("default_isa", [] { return std::string(kernels_for("").isa); });
  module.def("time_products", &measured, py::arg("weight"), py::arg("isa"), py::arg("rows") = 1);
  module.attr("SCREEN_FROM") = ModelSpec::kScreenFrom;
  py::class_<Model, std::shared_ptr<Model>>(module, "Model")
      .def(py::init(&make_model), py::arg("graphs"), py::arg("tensors"), py::arg("start"),
           py::arg("end"), py::arg("compute_types") = std::map<std::string, std::string>(),
           py::arg("fold_bytes") = kFoldBytes, py::arg("screen_from") = ModelSpec::kScreenFrom)
      .def_property_readonly("screened", &screened_of)
      .def_property_readonly("compute_types", &types_of)
      .def_property_readonly("float_columns",
                             [](const Model& model) { return model.plan().float_columns; })
      .def_property_readonly("folded", [](const Model& model) { return model.plan().folded; })
      .def_property_readonly("inputs", [](const Model& model) {
        std::vector<std::string> names;
        for (const PlanInput& input : model.plan().inputs) names.push_back(input.name);
        return names;
      });
  py::class_<Constraints, std::shared_ptr<Constraints>>(module, "Constraints")
      .def(py::init(&make_constraints), py::kw_only(), py::arg("prefix") = Ids{},
           py::arg("end") = py::none(), py::arg("suppressed") = Ids{},
           py::arg("repetition_penalty") = 1.0F, py::arg("no_repeat_ngram_size") = 0,
           py::arg("automaton") = py::none(), py::arg("continuations") = py::none())
      .def("with_prefix", &with_prefix, py::arg("prefix"));
  py::class_<SearchRules>(module, "SearchRules")
      .def(py::init(&make_rules), py::kw_only(), py::arg("ended") = "leave",
           py::arg("stop") = "best", py::arg("limit") = "compete", py::arg("finished_limit") = 1,
           py::arg("min_length") = 0, py::arg("length_penalty") = 0.0,
           py::arg("length_penalty_kind") = "power", py::arg("length_penalty_offset") = 0,
           py::arg("coverage_penalty") = 0.0, py::arg("beam_groups") = 1,
           py::arg("diversity_penalty") = 0.0, py::arg("sampling") = py::none(),
           py::arg("constraints") = py::none(), py::arg("max_nodes") = 0);
  py::class_<DecodeRequest>(module, "Request")
      .def(py::init(&make_request), py::arg("beam_size") = 1, py::arg("num_hypotheses") = 1,
           py::arg("alignment") = false, py::arg("rules") = SearchRules{});
  bind_handover(module);
  add_pipeline(module);
  py::class_<Session>(module, "Session")
      .def(py::init(&make_session), py::arg("model"), py::arg("isa"), py::arg("threads") = 1,
           py::arg("member_bytes") = Session::kMemberBytes, py::arg("max_bytes") = py::none())
      .def_property_readonly("isa", &Session::isa)
      .def_property("threads", &Session::threads, &set_threads)
      .def_property_readonly("workspace_bytes", &Session::workspace_bytes)
      .def_property("screens", &Session::screens, &Session::set_screens)
      .def_property_readonly("screened",
                             [](const Session& session) {
                               const Screening::Counts& counts = session.screened();
                               return std::array{counts.steps, counts.failed, counts.panels};
                             })
      .def_property_readonly("kernel_addresses", &kernel_addresses)
      .def("workspace_bytes_for", &Session::workspace_bytes_for, py::arg("length"),
           py::arg("beam_size"), py::arg("batch_size"))
      .def("warm_up", &warm_up, py::arg("source_length"), py::arg("sentences"), py::arg("request"),
           py::arg("max_length"))
      .def("decode", &decode, py::arg("inputs"), py::arg("request"), py::arg("max_length"),
           py::arg("prompt") = py::none(), py::arg("cancel") = py::none(),
           py::arg("seconds") = Watch::kNever)
      .def("decode_ids", &decode_ids)
      .def("time_decode", &time_decode, py::arg("inputs"), py::arg("request"),
           py::arg("max_length"), py::arg("times"))
      .def("profile", &profile, py::arg("sources"), py::arg("request"), py::arg("max_lengths"))
      .def("score", &score, py::arg("inputs"), py::arg("target"), py::arg("alignment"),
           py::arg("prompt") = py::none(), py::arg("rules") = SearchRules{})
      .def("encode", &encode, py::arg("inputs"))
      .def("label", &label, py::arg("inputs"), py::arg("output"))
      .def("score_labels", &score_labels, py::arg("inputs"), py::arg("labels"), py::arg("output"))
      .def("forced_logits", &forced_logits, py::arg("inputs"), py::arg("target"),
           py::arg("prompt") = py::none());
}

}  // namespace s2s::python

PYBIND11_MODULE(_core, module) { s2s::python::bind(module); }
