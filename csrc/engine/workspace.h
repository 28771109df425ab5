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
  Workspace(const Plan& plan, int64_t max_bytes);

  // Room for `shape`; what the slots held is lost where it must grow, unless it is to be kept.
  // Throws Error(input) before it allocates more than max_bytes.
  void reserve(const Shape& shape, bool keep = false);
  // What `reserve` takes for a shape, in bytes.
  double bytes_for(const Shape& shape) const noexcept;
  static constexpr int64_t kMaxBytes = int64_t{8} << 30;
  float* const* slots() const noexcept { return addresses_.data(); }
  float* floats(SlotId slot) const noexcept { return addresses_[static_cast<std::size_t>(slot)]; }
  int32_t* ids(SlotId slot) const noexcept { return reinterpret_cast<int32_t*>(floats(slot)); }
  // Two slots of one width change places: how a state takes its next value without a copy.
  void exchange(SlotId a, SlotId b) noexcept;
  int64_t max_bytes() const noexcept { return max_bytes_; }
  int64_t bytes() const noexcept { return static_cast<int64_t>(memory_.size()); }

 private:
  double floats_for(const Shape& shape) const noexcept;
  void move_to(Memory fresh, const Shape& shape, bool keep);

  const Plan& plan_;
  int64_t max_bytes_;
  Shape shape_;
  Memory memory_;
  std::vector<float*> addresses_;
};

}  // namespace s2s
