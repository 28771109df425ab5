// What test programs count: checks, from any thread, and those that failed, with their places.
#pragma once

#include <atomic>
#include <cstdio>

inline std::atomic<int> failures = 0;
inline std::atomic<long> checks = 0;

inline void check(bool truth, const char* what, const char* file, int line) {
  ++checks;
  if (truth) return;
  if (++failures <= 20) std::printf("%s:%d: failed: %s\n", file, line, what);
}
#define CHECK(truth) check((truth), #truth, __FILE__, __LINE__)

// The end of a program: 0 where every check held.
inline int counted() {
  std::printf("%ld checks, %d failed\n", checks.load(), failures.load());
  return failures == 0 ? 0 : 1;
}
