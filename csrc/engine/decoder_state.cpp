#include "engine/decoder_state.h"

#include <algorithm>

#include "engine/busy.h"

namespace s2s {

DecoderState::DecoderState(Session& session, const Source& source, Interruption* interruption)
    : session_(session) {
  const Session::Busy busy(session_, interruption);
  session_.begin({&source, 1}, 1);
}

std::vector<float> DecoderState::feed(int32_t id, int32_t step) {
  const Session::Busy busy(session_);
  const StepRow row = {id, step == 0 ? -1 : 0, 0, step};
  session_.run_step({&row, 1});
  const auto size = static_cast<std::size_t>(session_.vocabulary());
  const float* logits = session_.workspace_.floats(session_.plan_.logits.slot);
  const LogSoftmax log_prob = session_.log_softmax(
      session_.kernels_.normaliser(logits, static_cast<int64_t>(size)), "step", step, 0);
  std::vector<float> log_probs(size);
  std::transform(logits, logits + size, log_probs.begin(), log_prob);
  return log_probs;
}

std::size_t DecoderState::size(const PlanState& state) const noexcept {
  return static_cast<std::size_t>(session_.frames_.sentences().count(state.along) * state.width);
}

std::vector<float> DecoderState::states() const {
  std::vector<float> states;
  for (const PlanState& state : session_.plan_.states) {
    const float* from = session_.workspace_.floats(state.next);
    states.insert(states.end(), from, from + size(state));
  }
  return states;
}

void DecoderState::restore(std::span<const float> states) {
  const Session::Busy busy(session_);
  std::size_t total = 0;
  for (const PlanState& state : session_.plan_.states) total += size(state);
  if (total != states.size())
    throw Error(ErrorKind::input, "the states are " + std::to_string(states.size()) +
                                      " numbers, must be " + std::to_string(total));
  const StepRow row = {-1, -1, 0, 0};
  session_.frames_.step({&row, 1});  // the one row of the step before
  const float* from = states.data();
  for (const PlanState& state : session_.plan_.states) {
    std::copy_n(from, size(state), session_.workspace_.floats(state.next));
    from += size(state);
  }
}

}  // namespace s2s
