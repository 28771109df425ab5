#include "bindings/pipeline.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/arguments.h"
#include "bindings/errors.h"
#include "bindings/found.h"
#include "bindings/library.h"
#include "bindings/watch.h"

namespace s2s::python {
namespace {

py::object exception_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return python_error(error);
  } catch (const std::bad_alloc& error) {
    return py::reinterpret_borrow<py::object>(PyExc_MemoryError)(error.what());
  } catch (const py::error_already_set& error) {  // of a caller's function
    if (PyObject_IsInstance(error.value().ptr(), PyExc_Exception) != 1) throw;
    if (error.trace()) PyException_SetTraceback(error.value().ptr(), error.trace().ptr());
    return error.value();
  }
}

class PythonBatch {
 public:
  PythonBatch(Session& session, const DecodeRequest& request)
      : session_(session), request_(request), batch_(session, request) {
    check_request(session.model().plan(), request, {});
    if (request.rules.exact) refuse("an exact search is of one source at a time");
  }

  int32_t live() const { return batch_.live(); }

  // key, inputs, max_length, prompt or None, constraints of its own or None
  using Given = std::tuple<int64_t, py::list, int32_t, py::object, std::shared_ptr<Constraints>>;

  void join(const std::vector<Given>& given, const CancelToken* token, double seconds) {
    std::vector<Sentence> sentences;
    std::vector<Prompt> prompts;
    std::vector<Batch::Sentence> joining;
    sentences.reserve(given.size());
    prompts.reserve(given.size());
    for (const auto& [key, inputs, max_length, prompt, constraints] : given) {
      check_whole("max_length", max_length, 1'000'000);
      if (constraints)
        check_constraints({.constraints = constraints}, session_.model().vocabulary());
      sentences.emplace_back(session_.model().plan(), inputs);
      prompts.emplace_back(session_, prompt);
      joining.push_back(
          {key, sentences.back().source(), max_length, prompts.back().view(), constraints});
    }
    Watch watch(token, seconds);
    {
      const py::gil_scoped_release release;
      batch_.join(joining, &watch);
    }
    stopped_ = watch.end();
  }

  // Those that have left after at most so many steps: (key, Found or an exception).
  py::list run(int64_t steps, const CancelToken* token, double seconds) {
    if (stopped_ == Stopped::no) {
      Watch watch(token, seconds);
      {
        const py::gil_scoped_release release;
        batch_.run(steps, &watch);
      }
      stopped_ = watch.end();
    }
    return taken();
  }

  // Everybody leaves with what there is.
  py::list interrupt() {
    if (stopped_ == Stopped::no) stopped_ = Stopped::cancelled;
    batch_.interrupt();
    return taken();
  }

  py::object stopped() const {
    return stopped_ == Stopped::no ? py::object(py::none()) : py::str(word_of(stopped_));
  }

  std::vector<int32_t> certain() const {
    std::vector<int32_t> ids;
    batch_.certain(ids);
    return ids;
  }

 private:
  py::list taken() {
    py::list out;
    for (const Batch::Left& left : batch_.take()) {
      py::object what = left.failure ? exception_of(left.failure)
                                     : py::cast(Found(left.hypotheses, session_, stopped_));
      out.append(py::make_tuple(left.key, std::move(what)));
    }
    return out;
  }

  Session& session_;
  DecodeRequest request_;
  Batch batch_;
  Stopped stopped_ = Stopped::no;
};

class PythonState {
 public:
  PythonState(Session& session, const py::list& inputs)
      : sentence_(session.model().plan(), inputs), source_(sentence_.source()) {
    if (!session.model().plan().has_decoder) refuse("this model has no decoder");
    Watch watch(nullptr, Watch::kNever);
    {
      const py::gil_scoped_release release;
      state_.emplace(session, source_, &watch);
    }
    watch.end();
    vocabulary_ = session.model().vocabulary();
  }

  Floats feed(int32_t id, int32_t step) {
    if (id < -1 || id >= vocabulary_) refuse("id " + std::to_string(id) + " is not the model's");
    if (step < 0) refuse("step is " + std::to_string(step) + ", must be 0 or more");
    std::vector<float> log_probs;
    {
      const py::gil_scoped_release release;
      log_probs = state_->feed(id, step);
    }
    return array_of(log_probs);
  }

  py::bytes states() const {
    const std::vector<float> states = state_->states();
    return {reinterpret_cast<const char*>(states.data()), states.size() * sizeof(float)};
  }

  void restore(const py::bytes& given) {
    const auto view = static_cast<std::string_view>(given);
    if (view.size() % sizeof(float) != 0) refuse("states must be whole float32 numbers");
    std::vector<float> states(view.size() / sizeof(float));
    std::memcpy(states.data(), view.data(), view.size());
    state_->restore(states);
  }

 private:
  Sentence sentence_;
  Source source_;
  std::optional<DecoderState> state_;
  int64_t vocabulary_ = 0;
};

}  // namespace

void add_pipeline(py::module_& module) {
  module.def("set_main_thread", [](unsigned long id) { Watch::main_thread = id; });
  py::class_<CancelToken>(module, "CancelToken",
                          "Cancels the calls that it is given to as `cancel=`, from any thread, "
                          "within one step, and for good.")
      .def(py::init<const CancelToken*>(), py::arg("parent") = py::none(), py::keep_alive<1, 2>())
      .def("cancel", &CancelToken::cancel, "Cancels; a second time changes nothing.")
      .def_property_readonly("cancelled", &CancelToken::cancelled, "Whether it was cancelled.")
      .def_readwrite("_on_check", &CancelToken::on_check);
  py::class_<Found>(module, "Found")
      .def_property_readonly("hypotheses", &Found::hypotheses)
      .def_property_readonly("ids", &Found::ids)
      .def_property_readonly("source", &Found::source)
      .def_property_readonly("stopped", &Found::stopped);
  py::class_<IdReader>(module, "IdReader")
      .def(py::init<int64_t, std::vector<int32_t>, std::vector<int32_t>, int64_t, py::dict>(),
           py::arg("size"), py::arg("prepend"), py::arg("append"), py::arg("max_length"),
           py::arg("words"));
  py::class_<PythonBatch>(module, "Batch")
      .def(py::init<Session&, const DecodeRequest&>(), py::arg("session"), py::arg("request"),
           py::keep_alive<1, 2>())
      .def_property_readonly("live", &PythonBatch::live)
      .def_property_readonly("stopped", &PythonBatch::stopped)
      .def("join", &PythonBatch::join, py::arg("sources"), py::arg("cancel") = py::none(),
           py::arg("seconds") = Watch::kNever)
      .def("run", &PythonBatch::run, py::arg("steps"), py::arg("cancel") = py::none(),
           py::arg("seconds") = Watch::kNever)
      .def("interrupt", &PythonBatch::interrupt)
      .def("certain", &PythonBatch::certain);
  py::class_<PythonState>(module, "DecoderState")
      .def(py::init<Session&, const py::list&>(), py::arg("session"), py::arg("inputs"),
           py::keep_alive<1, 2>())
      .def("feed", &PythonState::feed, py::arg("id"), py::arg("step"))
      .def("states", &PythonState::states)
      .def("restore", &PythonState::restore, py::arg("states"));
}

}  // namespace s2s::python
