// A decode by hand: one source, one hypothesis, ids fed by the caller, states that can be taken out
// and put back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/session.h"

namespace s2s {

class DecoderState {
 public:
  // Encodes the source. Until it is destroyed, the session is for this alone.
  DecoderState(Session& session, const Source& source, Interruption* interruption = nullptr);

  // Makes step number `step` with this id (-1: none), from the states as they are; step 0 begins
  // with the initial ones. Gives the log-probabilities of what may follow, [vocabulary].
  std::vector<float> feed(int32_t id, int32_t step);
  // The states after the last step, one behind the other, and back. Throws Error(input) for
  // another number of floats.
  std::vector<float> states() const;
  void restore(std::span<const float> states);

 private:
  std::size_t size(const PlanState& state) const noexcept;

  Session& session_;
};

}  // namespace s2s
