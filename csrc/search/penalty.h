// Scores of hypotheses: log-probabilities over a penalty of the length.
#pragma once

#include <cstdint>

namespace s2s {

// What a log-probability is divided by; a length counts generated ids and the end token.
struct LengthPenalty {
  enum class Kind : int32_t {
    none,   // 1
    power,  // length ^ alpha
    gnmt,   // ((5 + length) / 6) ^ alpha, Wu et al. 2016, eq. 14
  };
  Kind kind = Kind::power;
  double alpha = 0.0;

  double score(double log_prob, int32_t length) const noexcept;

  // The highest score that a hypothesis of this log-probability can have when it ends with at least
  // `shortest` and at most `longest` ids: log-probabilities only fall.
  double reachable(double log_prob, int32_t shortest, int32_t longest) const noexcept {
    // A log-probability is at most 0, so the largest divisor is the best.
    return score(log_prob, alpha < 0.0 ? shortest : longest);
  }
};

}  // namespace s2s
