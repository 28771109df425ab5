// The handles of the C interface: an engine that is counted, a session with the memory of its
// calls.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "include/s2s_engine.h"
#include "library/handover.h"

struct s2s_engine {
  explicit s2s_engine(s2s::Handover given) : made_of(std::move(given)) {}

  const s2s::Handover made_of;
  std::atomic<int64_t> count = 1;
};

struct s2s_session {
  // Counts the engine.
  explicit s2s_session(s2s_engine* engine);
  ~s2s_session();
  s2s_session(const s2s_session&) = delete;
  s2s_session& operator=(const s2s_session&) = delete;

  // Each throws s2s::Error; `decode` gives S2S_OK, S2S_TIMEOUT, S2S_CANCELLED, or S2S_VERSION where
  // the size of the options does not fit.
  int32_t decode(const int32_t* ids, const int64_t* lengths, int32_t count,
                 const s2s_options* options);
  void warm_up(int64_t source_length, int32_t beam_size, int32_t batch_size);
  s2s_options defaults() const noexcept;
  int32_t num_hypotheses(int32_t sentence) const noexcept;
  s2s_hypothesis hypothesis(int32_t sentence, int32_t index) const noexcept;

 private:
  class Inside;
  s2s_options merged(const s2s_options* given) const noexcept;  // its size fits
  void read(const int32_t* ids, const int64_t* lengths, int32_t count, bool prepared);
  void prepare();
  int32_t limit_of(int64_t source_length, int32_t max_length) const;
  void check(const s2s::DecodeRequest& request, int32_t count) const;

  s2s_engine* engine_;
  const s2s::Handover& made_of_;
  const s2s::Plan& plan_;
  s2s::Session session_;
  std::atomic_flag inside_ = ATOMIC_FLAG_INIT;

  // Of the last decode.
  s2s::DecodeRequest request_;
  std::vector<int32_t> ids_;  // prepared, one source behind the other; others are the caller's
  std::vector<s2s::SourceInput> inputs_;
  std::vector<s2s::Source> sources_;
  std::vector<std::span<const int32_t>> prompts_;
  std::vector<int32_t> limits_;
  const s2s::SearchResults* results_ = nullptr;
  int32_t stopped_ = S2S_OK;
};

namespace s2s {

// Whether a struct of this size can be read or written, as far as it goes.
inline bool fits(std::size_t size, std::size_t known) {
  return size >= sizeof size && size <= known;
}

// An engine that is counted once.
s2s_engine* hand_over(Handover given);

}  // namespace s2s
