// What Python passes for one sentence, checked and kept alive for a call.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bindings/constraints.h"
#include "bindings/library.h"
#include "bindings/rules.h"

namespace s2s::python {

using Floats = py::array_t<float, py::array::c_style>;

template <typename T>
py::array_t<T> array_of(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// Ids as the vocabulary checked them: Python integers, or a contiguous int32 array.
inline std::vector<int32_t> ids_of(py::handle value) {
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

// Reads the commonest source, a list of ids or of strings, by the commonest rule: ids before and
// behind it.
class IdReader {
 public:
  IdReader(int64_t size, std::vector<int32_t> prepend, std::vector<int32_t> append,
           int64_t max_length, py::dict words)
      : size_(size),
        max_length_(max_length),
        prepend_(std::move(prepend)),
        append_(std::move(append)),
        words_(std::move(words)) {}

  // False where x is anything else, or not in order: there is a longer way that says what is wrong.
  bool read(py::handle x, std::vector<int32_t>& ids) const {
    if (!PyList_CheckExact(x.ptr())) return false;
    const Py_ssize_t count = PyList_GET_SIZE(x.ptr());
    if (count < 1 || count > max_length_) return false;
    const bool strings = PyUnicode_CheckExact(PyList_GET_ITEM(x.ptr(), 0)) != 0;
    ids.reserve(static_cast<std::size_t>(count) + prepend_.size() + append_.size());
    ids.assign(prepend_.begin(), prepend_.end());
    for (Py_ssize_t n = 0; n < count; ++n) {
      PyObject* item = PyList_GET_ITEM(x.ptr(), n);
      if (strings) {
        if (PyUnicode_CheckExact(item) == 0) return false;
        item = PyDict_GetItem(words_.ptr(), item);
        if (item == nullptr) return false;
      }
      if (!PyLong_CheckExact(item)) return false;
      int overflow = 0;
      const long id = PyLong_AsLongAndOverflow(item, &overflow);
      if (overflow != 0 || id < 0 || id >= size_) return false;
      ids.push_back(static_cast<int32_t>(id));
    }
    ids.insert(ids.end(), append_.begin(), append_.end());
    return true;
  }

 private:
  int64_t size_, max_length_;
  std::vector<int32_t> prepend_, append_;
  py::dict words_;
};

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

inline void check_request(const Plan& plan, const DecodeRequest& request,
                          std::span<const int32_t> max_lengths) {
  if (!plan.has_decoder) refuse("this model has no decoder");
  check_constraints(request.rules, plan.logits.type.size);
  if ((request.alignment || request.rules.coverage > 0.0) && plan.alignment.slot < 0)
    refuse("this model gives no alignment");
  for (const int32_t length : max_lengths) check_whole("max_length", length, 1'000'000);
}

inline std::vector<int32_t> target_of(const Session& session, py::handle value) {
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

}  // namespace s2s::python
