// The memory of one session: every slot of a plan at an address, for so many sentences, positions
// and rows. Growing is the only time it allocates.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/plan.h"

namespace s2s {

// Sums over sentences (and over rows): of 1, of the source length, of its square.
struct Counts {
  int64_t items = 0;
  int64_t positions = 0;
  int64_t squares = 0;
};

struct Shape {
  Counts sentences;
  Counts rows;
};

class Workspace {
 public:
  explicit Workspace(const Plan& plan);

  // Room for `shape`; what the slots held is lost where it must grow.
  void reserve(const Shape& shape);
  float* const* slots() const noexcept { return addresses_.data(); }
  float* floats(SlotId slot) const noexcept { return addresses_[static_cast<std::size_t>(slot)]; }
  int32_t* ids(SlotId slot) const noexcept { return reinterpret_cast<int32_t*>(floats(slot)); }
  // Two slots of one width change places: how a state takes its next value without a copy.
  void exchange(SlotId a, SlotId b) noexcept;
  int64_t bytes() const noexcept { return static_cast<int64_t>(memory_.size()); }

 private:
  const Plan& plan_;
  Shape shape_;
  Memory memory_;
  std::vector<float*> addresses_;
};

}  // namespace s2s
