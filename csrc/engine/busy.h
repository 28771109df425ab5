// Who is inside a session. For the engine floor's own files.
#pragma once

#include "core/entry.h"
#include "core/errors.h"
#include "engine/session.h"

namespace s2s {

// Holds a session for one call: the floating-point environment, and nobody else inside.
class Session::Busy {
 public:
  explicit Busy(Session& session, Interruption* interruption = nullptr) : session_(session) {
    if (session_.busy_.test_and_set(std::memory_order_acquire))
      throw Error(ErrorKind::busy, "this session is in use by another thread; use one per thread");
    session_.interruption_ = interruption;
  }
  ~Busy() {
    session_.interruption_ = nullptr;
    session_.options_.rules.constraints.reset();  // a caller's function may be among them
    session_.team_.rest();
    session_.busy_.clear(std::memory_order_release);
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Session& session_;
  Entry entry_;
};

}  // namespace s2s
