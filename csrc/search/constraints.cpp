#include "search/constraints.h"

#include <algorithm>
#include <cstddef>
#include <limits>

namespace s2s {

std::span<const int32_t> Automaton::arcs(int32_t state) const noexcept {
  if (state == kNowhere) return {};
  const auto first = static_cast<size_t>(begins[state]);
  return {tokens.data() + first, static_cast<size_t>(begins[state + 1]) - first};
}

int32_t Automaton::next(int32_t state, int32_t token) const noexcept {
  const std::span<const int32_t> from = arcs(state);
  const auto at = std::lower_bound(from.begin(), from.end(), token);
  if (at == from.end() || *at != token) return kNowhere;
  return targets[static_cast<size_t>(begins[state] + (at - from.begin()))];
}

bool Constraints::filters() const noexcept {
  return reads_ids() || !suppressed.empty() || automaton != nullptr;
}

void block_ngrams(std::span<const int32_t> ids, int32_t size, std::span<float> logits) noexcept {
  const auto n = static_cast<size_t>(size);
  if (n == 0 || ids.size() < n) return;
  const std::span<const int32_t> tail = ids.last(n - 1);
  for (size_t i = 0; i + n <= ids.size(); ++i)
    if (std::equal(tail.begin(), tail.end(), ids.begin() + static_cast<std::ptrdiff_t>(i)))
      logits[static_cast<size_t>(ids[i + n - 1])] = -std::numeric_limits<float>::infinity();
}

}  // namespace s2s
