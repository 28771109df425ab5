// Python's door to the engine floor: values are checked and copied here, nothing is computed.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <optional>

#include "core/entry.h"
#include "core/errors.h"
#include "core/isa.h"
#include "engine/batch.h"
#include "engine/session.h"

// The heap test's hook reads how deep this thread is inside the core.
extern "C" __attribute__((visibility("default"))) int s2s_entry_depth() {
  return s2s::entry_depth;
}

namespace py = pybind11;

namespace s2s {
namespace {

using Floats = py::array_t<float, py::array::c_style>;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::input, what); }

const char* python_class(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::model_format: return "ModelFormatError";
    case ErrorKind::input: return "InputError";
    case ErrorKind::input_too_long: return "InputTooLongError";
    case ErrorKind::numerical: return "NumericalError";
    case ErrorKind::busy: return "EngineBusy";
    case ErrorKind::unsupported_isa: return "UnsupportedIsaError";
    case ErrorKind::not_implemented: return "NotImplementedError";
  }
  return "S2SError";
}

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const bool builtin = error.kind() == ErrorKind::not_implemented;
    const py::module_ classes = py::module_::import(builtin ? "builtins" : "s2s_engine.errors");
    const py::object type = classes.attr(python_class(error.kind()));
    PyErr_SetString(type.ptr(), error.what());
  }
}

// --- the model ---

Kind kind_of(const std::string& word, const std::string& where) {
  if (word == "id") return Kind::id;
  if (word == "ids") return Kind::ids;
  if (word == "vector") return Kind::vector;
  if (word == "sequence") return Kind::sequence;
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

std::shared_ptr<Model> make_model(const py::dict& graphs, const py::dict& tensors, int32_t start,
                                  std::vector<int32_t> end) {
  ModelSpec spec;
  try {
    if (graphs.contains("encoder")) spec.encoder = graph_of(graphs["encoder"].cast<py::dict>());
    if (graphs.contains("decoder")) spec.decoder = graph_of(graphs["decoder"].cast<py::dict>());
  } catch (const py::cast_error&) {
    throw Error(ErrorKind::model_format, "a graph is not of the documented form");
  }
  std::vector<Floats> alive;
  for (const auto& [name, value] : tensors) {
    if (!py::isinstance<Floats>(value))
      throw Error(ErrorKind::model_format, "tensor '" + name.cast<std::string>() +
                                               "' must be a contiguous float32 array");
    alive.push_back(py::reinterpret_borrow<Floats>(value));
    const Floats& array = alive.back();
    Tensor tensor;
    tensor.shape.assign(array.shape(), array.shape() + array.ndim());
    tensor.data = array.data();
    spec.tensors[name.cast<std::string>()] = tensor;
  }
  const py::gil_scoped_release release;
  return std::make_shared<Model>(spec, TargetRule{start, std::move(end)});
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

// (ids, token_log_probs, log_prob, score, reason, alignment or None)
py::tuple hypothesis_tuple(const Hypothesis& h) {
  py::object alignment = py::none();
  const auto steps = static_cast<py::ssize_t>(h.token_log_probs.size());
  if (!h.alignment.empty())
    alignment = array_of(h.alignment).reshape({steps, static_cast<py::ssize_t>(-1)});
  return py::make_tuple(py::cast(h.ids), array_of(h.token_log_probs), h.log_prob, h.score,
                        h.reason == FinishReason::eos ? "eos" : "length", alignment);
}

template <typename Range>
py::list hypotheses_list(const Range& hypotheses) {
  py::list out;
  for (const Hypothesis& h : hypotheses) out.append(hypothesis_tuple(h));
  return out;
}

// --- sessions ---

py::list decode(Session& session, const py::list& inputs, int32_t beam_size, int32_t num_hypotheses,
                bool alignment, int32_t max_length) {
  const Sentence sentence(session.model().plan(), inputs);
  const Source source = sentence.source();
  const SearchResults* results = nullptr;
  {
    const py::gil_scoped_release release;
    results = &session.decode({&source, 1}, {beam_size, num_hypotheses, alignment}, {&max_length, 1});
  }
  return hypotheses_list(results->sentence(0));
}

py::tuple score(Session& session, const py::list& inputs, py::handle target, bool alignment) {
  const Sentence sentence(session.model().plan(), inputs);
  const Source source = sentence.source();
  const std::vector<int32_t> ids = ids_of(target);
  const std::span<const int32_t> view = ids;
  const SearchResults* results = nullptr;
  {
    const py::gil_scoped_release release;
    results = &session.score({&source, 1}, {&view, 1}, alignment);
  }
  return hypothesis_tuple(results->sentence(0).front());
}

py::list decode_many(const std::vector<Session*>& sessions, const std::vector<py::list>& sources,
                     int32_t beam_size, int32_t num_hypotheses, bool alignment,
                     const std::vector<int32_t>& max_lengths, int32_t batch_size) {
  std::vector<Sentence> sentences;
  sentences.reserve(sources.size());
  for (const py::list& inputs : sources)
    sentences.emplace_back(sessions.front()->model().plan(), inputs);
  std::vector<Source> views;
  for (const Sentence& sentence : sentences) views.push_back(sentence.source());
  std::vector<Hypotheses> results;
  {
    const py::gil_scoped_release release;
    results = decode_batch(sessions, views, {beam_size, num_hypotheses, alignment}, max_lengths,
                           batch_size);
  }
  py::list out;
  for (const Hypotheses& hypotheses : results) out.append(hypotheses_list(hypotheses));
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
    const int64_t rows = view.rows < 0 ? 1 : view.rows;
    Floats array({rows, view.size});
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(array.mutable_data(r, 0), view.data + r * view.stride,
                  static_cast<std::size_t>(view.size) * sizeof(float));
    out[py::str(outputs[n].name)] = view.rows < 0 ? array.reshape({view.size}) : array;
  }
  return out;
}

py::tuple label(Session& session, const py::list& inputs, std::size_t output) {
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

Floats forced_logits(Session& session, const py::list& inputs, py::handle target) {
  const Sentence sentence(session.model().plan(), inputs);
  const std::vector<int32_t> ids = ids_of(target);
  const auto limit = session.model().vocabulary();
  for (const int32_t id : ids)
    if (id < 0 || id >= limit) refuse("target id " + std::to_string(id) + " is out of range");
  std::vector<float> logits;
  {
    const py::gil_scoped_release release;
    logits = session.forced_logits(sentence.source(), ids);
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
  module.def("default_isa", [] { return std::string(kernels_for("").isa); });
  py::class_<Model, std::shared_ptr<Model>>(module, "Model")
      .def(py::init(&make_model), py::arg("graphs"), py::arg("tensors"), py::arg("start"),
           py::arg("end"))
      .def_property_readonly("inputs", [](const Model& model) {
        std::vector<std::string> names;
        for (const PlanInput& input : model.plan().inputs) names.push_back(input.name);
        return names;
      });
  py::class_<Session>(module, "Session")
      .def(py::init<std::shared_ptr<const Model>, const std::string&>(), py::arg("model"),
           py::arg("isa"))
      .def_property_readonly("isa", &Session::isa)
      .def_property_readonly("workspace_bytes", &Session::workspace_bytes)
      .def("decode", &decode, py::arg("inputs"), py::arg("beam_size"), py::arg("num_hypotheses"),
           py::arg("alignment"), py::arg("max_length"))
      .def("score", &score, py::arg("inputs"), py::arg("target"), py::arg("alignment"))
      .def("encode", &encode, py::arg("inputs"))
      .def("label", &label, py::arg("inputs"), py::arg("output"))
      .def("forced_logits", &forced_logits, py::arg("inputs"), py::arg("target"));
  module.def("decode_batch", &decode_many, py::arg("sessions"), py::arg("sources"),
             py::arg("beam_size"), py::arg("num_hypotheses"), py::arg("alignment"),
             py::arg("max_lengths"), py::arg("batch_size"));
}
