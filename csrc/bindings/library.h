// The engine floor as Python's module sees it: the classes and functions of the shared library
// under their own names, as handles whose calls go through its table. Computes nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "library/table.h"

namespace s2s::python {

inline const Table& library() {
  static const auto* const table =
      static_cast<const Table*>(s2s_private_table(build_stamp().c_str()));
  if (table == nullptr)
    throw std::runtime_error(
        "s2s_engine._core and libs2s_engine are of different builds: install s2s_engine again");
  return *table;
}

inline std::vector<std::string> available_isas() { return library().available_isas(); }
inline const Kernels& kernels_for(const std::string& name) { return library().kernels_for(name); }
inline int usable_cpus() { return library().usable_cpus(); }
inline void assume_cpus(int count) { library().assume_cpus(count); }
inline double group_quota(const std::string& groups, const std::string& mount) {
  return library().group_quota(groups, mount);
}
inline int usable(const Limits& limits) { return library().usable(limits); }
inline std::string name_of(ComputeType type) { return library().name_of(type); }
inline ComputeType compute_type_of(const std::string& name) {
  return library().compute_type_of(name);
}

// Members of T through pointers that the library gives.
template <typename T>
class Handle {
 public:
  explicit Handle(std::shared_ptr<T> object) : object_(std::move(object)) {}
  T& operator*() const noexcept { return *object_; }

 protected:
  template <typename Member, typename... Arguments>
  decltype(auto) call(Member member, Arguments&&... arguments) const {
    return (object_.get()->*member)(std::forward<Arguments>(arguments)...);
  }
  std::shared_ptr<T> object_;
};

class Session : public Handle<s2s::Session> {
 public:
  using OutputView = s2s::Session::OutputView;
  using Label = s2s::Session::Label;
  static constexpr int64_t kMemberBytes = s2s::Session::kMemberBytes;

  Session(std::shared_ptr<const Model> model, const std::string& isa, int threads,
          int64_t member_bytes, int64_t max_bytes)
      : Handle(library().make_session(std::move(model), isa, threads, member_bytes, max_bytes)) {}

  const char* isa() const noexcept { return object_->isa(); }
  const Kernels& kernels() const noexcept { return object_->kernels(); }
  const Model& model() const noexcept { return object_->model(); }
  int threads() const noexcept { return object_->threads(); }
  bool screens() const noexcept { return object_->screens(); }
  void set_screens(bool screens) noexcept { object_->set_screens(screens); }
  const Screening::Counts& screened() const noexcept { return object_->screened(); }
  int64_t workspace_bytes() const noexcept { return object_->workspace_bytes(); }
  void set_threads(int threads) { call(library().set_threads, threads); }
  double workspace_bytes_for(int64_t length, int32_t beam, int32_t sentences) const {
    return call(library().workspace_bytes_for, length, beam, sentences);
  }
  void warm_up(int64_t source_length, int32_t sentences, const DecodeRequest& request,
               int32_t max_length) {
    call(library().warm_up, source_length, sentences, request, max_length);
  }
  const SearchResults& decode(std::span<const Source> sources, const DecodeRequest& request,
                              std::span<const int32_t> max_lengths, Prompts prompts = {},
                              Interruption* interruption = nullptr) {
    return call(library().decode, sources, request, max_lengths, prompts, interruption);
  }
  const SearchResults& score(std::span<const Source> sources,
                             std::span<const std::span<const int32_t>> targets, bool alignment,
                             Prompts prompts, const SearchRules& rules,
                             Interruption* interruption) {
    return call(library().score, sources, targets, alignment, prompts, rules, interruption);
  }
  void encode(const Source& source, Interruption* interruption) {
    call(library().encode, source, interruption);
  }
  OutputView output(std::size_t index) const { return call(library().output, index); }
  std::vector<Label> label(const Source& source, std::size_t index, Interruption* interruption) {
    return call(library().label, source, index, interruption);
  }
  std::vector<float> score_labels(const Source& source, std::size_t index,
                                  std::span<const int32_t> labels) {
    return call(library().score_labels, source, index, labels);
  }
  std::vector<float> forced_logits(const Source& source, std::span<const int32_t> target,
                                   std::span<const int32_t> prompt) {
    return call(library().forced_logits, source, target, prompt);
  }
};

class Batch : public Handle<s2s::Batch> {
 public:
  using Left = s2s::Batch::Left;
  using Sentence = s2s::Batch::Sentence;

  Batch(Session& session, const DecodeRequest& request)
      : Handle(library().make_batch(*session, request)) {}

  int32_t live() const noexcept { return object_->live(); }
  void join(std::span<const Sentence> sentences, Interruption* interruption) {
    call(library().join, sentences, interruption);
  }
  void run(int64_t steps, Interruption* interruption) { call(library().run, steps, interruption); }
  void interrupt() { call(library().interrupt); }
  std::vector<Left> take() { return call(library().take); }
  void certain(std::vector<int32_t>& ids) const { call(library().certain, ids); }
};

class DecoderState : public Handle<s2s::DecoderState> {
 public:
  DecoderState(Session& session, const Source& source, Interruption* interruption)
      : Handle(library().make_state(*session, source, interruption)) {}

  std::vector<float> feed(int32_t id, int32_t step) { return call(library().feed, id, step); }
  std::vector<float> states() const { return call(library().states); }
  void restore(std::span<const float> states) { call(library().restore, states); }
};

}  // namespace s2s::python
