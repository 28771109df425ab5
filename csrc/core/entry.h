// What every entry into the core does: the default floating-point environment inside, the caller's
// restored outside, and a mark that the heap test reads.
#pragma once

#include <cfenv>

namespace s2s {

// How deep this thread is inside the core: 0 outside.
inline thread_local int entry_depth = 0;

class Entry {
 public:
  Entry() noexcept {
    std::fegetenv(&caller_);
    std::fesetenv(FE_DFL_ENV);
    ++entry_depth;
  }
  ~Entry() {
    --entry_depth;
    std::fesetenv(&caller_);
  }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

 private:
  std::fenv_t caller_;
};

}  // namespace s2s
