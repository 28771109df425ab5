// Scores of hypotheses: log-probabilities over a penalty of the length.
#pragma once

#include <cstdint>

namespace s2s {

// What a log-probability is divided by; n is the length, which counts generated ids and the end
// token, and the offset.
struct LengthPenalty {
  enum class Kind : int32_t {
    none,   // 1
    power,  // n ^ alpha
    gnmt,   // ((5 + n) / 6) ^ alpha, Wu et al. 2016, eq. 14
  };
  Kind kind = Kind::power;
  double alpha = 0.0;
  int32_t offset = 0;  // at least 0: programs that count the start token have 1

  double score(double log_prob, int32_t length) const noexcept;

  // The highest score that a hypothesis of this log-probability can have when it ends with at least
  // `shortest` and at most `longest` ids: log-probabilities only fall.
  double reachable(double log_prob, int32_t shortest, int32_t longest) const noexcept {
    // A log-probability is at most 0, so the largest divisor is the best.
    return score(log_prob, alpha < 0.0 ? shortest : longest);
  }
};

}  // namespace s2s
