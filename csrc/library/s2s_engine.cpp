// The functions of the C interface: nothing is thrown through them, and a message is kept for what
// went wrong. Knows codes; what a call does is in engine.cpp.
#include "include/s2s_engine.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include "core/errors.h"
#include "library/engine.h"

namespace s2s {
namespace {

constexpr uint32_t kMajor = 16;  // bits below the major version

thread_local char last_message[1024] = "";

int32_t fail(int32_t code, std::string_view message) noexcept {
  const std::size_t size = std::min(message.size(), sizeof last_message - 1);
  std::memcpy(last_message, message.data(), size);
  last_message[size] = '\0';
  return code;
}

int32_t code_of(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::input: return S2S_INPUT;
    case ErrorKind::input_too_long: return S2S_INPUT_TOO_LONG;
    case ErrorKind::numerical: return S2S_NUMERICAL;
    case ErrorKind::busy: return S2S_BUSY;
    default: return S2S_FAILED;
  }
}

template <typename Body>
int32_t guarded(const Body& body) noexcept {
  try {
    return body();
  } catch (const Error& error) {
    return fail(code_of(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return fail(S2S_MEMORY, "there is not enough memory for this call");
  } catch (const std::exception& error) {
    return fail(S2S_FAILED, error.what());
  } catch (...) {  // a caller's function among the rules may throw anything
    return fail(S2S_FAILED, "a function of the caller's has thrown");
  }
}

int32_t of_another_size(const char* what, std::size_t size, std::size_t known) {
  return fail(S2S_VERSION, std::string("the size of ") + what + " is " + std::to_string(size) +
                               ", must be " + std::to_string(sizeof size) + " to " +
                               std::to_string(known) + ": the caller was built for a newer " +
                               "s2s_engine, or has not set it");
}

}  // namespace
}  // namespace s2s

extern "C" {

uint32_t s2s_abi_version(void) { return S2S_ABI_VERSION; }

int32_t s2s_check_version(uint32_t built_with) {
  const uint32_t mine = S2S_ABI_VERSION;
  if (built_with >> s2s::kMajor == mine >> s2s::kMajor && built_with <= mine) return S2S_OK;
  const auto name = [](uint32_t version) {
    return std::to_string(version >> s2s::kMajor) + "." +
           std::to_string(version & ((1U << s2s::kMajor) - 1));
  };
  return s2s::guarded([&] {
    return s2s::fail(S2S_VERSION, "the caller was built for version " + name(built_with) +
                                      " of the C interface, this library has " + name(mine) +
                                      ": install a newer s2s_engine, or build the caller again");
  });
}

const char* s2s_message(void) { return s2s::last_message; }

s2s_engine* s2s_engine_retain(s2s_engine* engine) {
  engine->count.fetch_add(1, std::memory_order_relaxed);
  return engine;
}

void s2s_engine_release(s2s_engine* engine) {
  if (engine != nullptr && engine->count.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    const std::unique_ptr<s2s_engine> last(engine);
  }
}

int64_t s2s_source_vocabulary(const s2s_engine* engine) {
  const auto& inputs = engine->made_of.model->plan().inputs;
  return inputs.empty() ? s2s_target_vocabulary(engine) : inputs.front().type.size;
}

int64_t s2s_target_vocabulary(const s2s_engine* engine) {
  return engine->made_of.model->vocabulary();
}

int32_t s2s_session_new(s2s_engine* engine, s2s_session** session) {
  *session = nullptr;
  return s2s::guarded([&] {
    *session = std::make_unique<s2s_session>(engine).release();
    return S2S_OK;
  });
}

void s2s_session_free(s2s_session* session) { const std::unique_ptr<s2s_session> last(session); }

int32_t s2s_warm_up(s2s_session* session, int64_t source_length, int32_t beam_size,
                    int32_t batch_size) {
  return s2s::guarded([&] {
    session->warm_up(source_length, beam_size, batch_size);
    return S2S_OK;
  });
}

int32_t s2s_options_init(const s2s_session* session, s2s_options* options, size_t size) {
  return s2s::guarded([&] {
    s2s_options all = session->defaults();
    if (!s2s::fits(size, sizeof all)) return s2s::of_another_size("options", size, sizeof all);
    all.size = size;
    std::memcpy(options, &all, size);
    return int32_t{S2S_OK};
  });
}

int32_t s2s_decode(s2s_session* session, const int32_t* ids, int64_t length,
                   const s2s_options* options) {
  return s2s_decode_batch(session, ids, &length, 1, options);
}

int32_t s2s_decode_batch(s2s_session* session, const int32_t* ids, const int64_t* lengths,
                         int32_t count, const s2s_options* options) {
  return s2s::guarded([&] {
    const int32_t code = session->decode(ids, lengths, count, options);
    if (code == S2S_TIMEOUT) return s2s::fail(code, "the decode did not end within its timeout");
    if (code == S2S_CANCELLED) return s2s::fail(code, "the decode was cancelled");
    if (code == S2S_VERSION) return s2s::of_another_size("options", options->size, sizeof *options);
    return code;
  });
}

int32_t s2s_num_hypotheses(const s2s_session* session, int32_t sentence) {
  return session->num_hypotheses(sentence);
}

int32_t s2s_hypothesis_at(const s2s_session* session, int32_t sentence, int32_t index,
                          s2s_hypothesis* hypothesis) {
  return s2s::guarded([&]() -> int32_t {
    const std::size_t size = hypothesis->size;
    if (!s2s::fits(size, sizeof *hypothesis))
      return s2s::of_another_size("a hypothesis", size, sizeof *hypothesis);
    const int32_t count = session->num_hypotheses(sentence);
    if (index < 0 || index >= count)
      return s2s::fail(S2S_INPUT, "there is no hypothesis " + std::to_string(index) +
                                      " of sentence " + std::to_string(sentence) + ", which has " +
                                      std::to_string(count));
    s2s_hypothesis all = session->hypothesis(sentence, index);
    all.size = size;
    std::memcpy(hypothesis, &all, size);
    return S2S_OK;
  });
}
}
