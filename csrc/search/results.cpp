#include "search/results.h"

#include <cstddef>

namespace s2s {

void SearchResults::reset(int32_t sentences, int32_t per_sentence) {
  const size_t slots = static_cast<size_t>(sentences) * static_cast<size_t>(per_sentence);
  if (slots_.size() < slots) slots_.resize(slots);
  counts_.assign(static_cast<size_t>(sentences), 0);
  per_sentence_ = per_sentence;
}

Hypothesis& SearchResults::add(int32_t sentence) noexcept {
  const size_t first = static_cast<size_t>(sentence) * static_cast<size_t>(per_sentence_);
  return slots_[first + static_cast<size_t>(counts_[sentence]++)];
}

}  // namespace s2s
