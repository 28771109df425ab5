// The memory of one session: every slot of a plan at an address, for so many sentences, positions
// and rows. Growing is the only time it allocates.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/plan.h"

namespace s2s {

// Sums over sentences (and over rows): of 1, of the source length, of its square. In double, which
// cannot overflow and is exact for everything that is small enough to be allocated.
struct Counts {
  double items = 0;
  double positions = 0;
  double squares = 0;
};

struct Shape {
  Counts sentences;
  Counts rows;
};

class Workspace {
 public:
  explicit Workspace(const Plan& plan);

  // Room for `shape`; what the slots held is lost where it must grow. Throws Error(input) before
  // it allocates more than kMaxBytes.
  void reserve(const Shape& shape);
  static constexpr int64_t kMaxBytes = int64_t{8} << 30;
  float* const* slots() const noexcept { return addresses_.data(); }
  float* floats(SlotId slot) const noexcept { return addresses_[static_cast<std::size_t>(slot)]; }
  int32_t* ids(SlotId slot) const noexcept { return reinterpret_cast<int32_t*>(floats(slot)); }
  // Two slots of one width change places: how a state takes its next value without a copy.
  void exchange(SlotId a, SlotId b) noexcept;
  int64_t bytes() const noexcept { return static_cast<int64_t>(memory_.size()); }

 private:
  double floats_for(const Shape& shape) const noexcept;

  const Plan& plan_;
  Shape shape_;
  Memory memory_;
  std::vector<float*> addresses_;
};

}  // namespace s2s
