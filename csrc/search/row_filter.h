// What options do to a row of logits before its best are taken. Plain decodes have none of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "search/constraints.h"
#include "search/sampling.h"

namespace s2s {

// Where a row stands: `step` counts from its first scored id.
struct RowPlace {
  int32_t state = Automaton::kNowhere;  // of the automaton, where there is one
  int32_t sample = 0;
  int32_t step = 0;
  bool restricted = true;  // by the constraints; a prefix is not
  bool drawn = true;       // where ids are drawn; a forced id is not
};

class RowFilter {
 public:
  // For one search; both stay while it lasts, `constraints` may be null. `end` are its end tokens.
  void begin(const Constraints* constraints, const Sampling& sampling,
             std::span<const int32_t> end) noexcept;
  bool active() const noexcept { return active_; }
  bool reads_ids() const noexcept { return active_ && constraints_ && constraints_->reads_ids(); }

  // The rows of a step: cleared, then added in their order. `ids` are what a row has generated, as
  // `reads_ids` asks for.
  void clear() noexcept;
  std::vector<int32_t>& ids() noexcept { return ids_; }  // the next row's are appended here
  void add(const RowPlace& place);

  // Before a row is normalised.
  void adjust(int32_t row, std::span<float> logits);
  // After: what cannot follow becomes -inf; where ids are drawn all but one. Throws Error(input)
  // for an id that a caller's function gives and that is none.
  void mask(int32_t row, std::span<float> logits);

 private:
  std::span<const int32_t> ids_of(int32_t row) const noexcept;
  void keep(std::span<const int32_t> some, std::span<const int32_t> others,
            std::span<float> logits);

  const Constraints* constraints_ = nullptr;
  Sampling sampling_;
  std::span<const int32_t> end_;
  bool active_ = false;
  std::vector<RowPlace> places_;
  std::vector<int32_t> ids_;         // of all rows, one after another
  std::vector<std::size_t> begins_;  // [rows + 1]
  std::vector<int32_t> scratch_;
  std::vector<float> kept_;
  Sampler sampler_;
};

}  // namespace s2s
