// Entry: the default floating-point environment inside, the caller's outside.
#include "core/entry.h"

#include <cfenv>
#include <cstdint>
#include <cstdio>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// Results and operands below 2^-126 become 0, as a host application may have asked for.
void flush_to_zero() {
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040U);
#elif defined(__aarch64__)
  uint64_t control = 0;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("msr fpcr, %0" : : "r"(control | (uint64_t{1} << 24)));
#endif
}

float half(float x) {
  volatile float kept = x;
  return kept * 0.5F;
}

int failures = 0;

void check(bool truth, const char* what) {
  if (truth) return;
  ++failures;
  std::printf("failed: %s\n", what);
}

}  // namespace

int main() {
  constexpr float least = 0x1p-126F;
  std::fesetround(FE_UPWARD);
  flush_to_zero();
#if defined(__x86_64__) || defined(__aarch64__)
  check(half(least) == 0.0F, "the caller flushes to zero");
#endif
  {
    const s2s::Entry entry;
    check(half(least) == 0x1p-127F, "small numbers are kept inside");
    check(std::fegetround() == FE_TONEAREST, "rounds to nearest inside");
  }
#if defined(__x86_64__) || defined(__aarch64__)
  check(half(least) == 0.0F, "the caller flushes to zero again");
#endif
  check(std::fegetround() == FE_UPWARD, "the caller rounds upward again");
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
