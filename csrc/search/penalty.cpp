#include "search/penalty.h"

#include "core/power.h"

namespace s2s {

double LengthPenalty::score(double log_prob, int32_t length) const noexcept {
  if (kind == Kind::none || alpha == 0.0 || length < 1) return log_prob;
  const double n = int64_t{length} + offset;
  return log_prob / power(kind == Kind::power ? n : (5.0 + n) / 6.0, alpha);
}

}  // namespace s2s
