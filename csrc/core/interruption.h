// Why a call may have to end before it is done: asked between steps, by whoever computes.
#pragma once

namespace s2s {

class Interruption {
 public:
  virtual ~Interruption() = default;
  // True once the call must end, and from then on.
  virtual bool asked() noexcept = 0;
};

}  // namespace s2s
