#include "engine/workspace.h"

#include <algorithm>

namespace s2s {
namespace {

int64_t units(const Slot& slot, const Shape& shape) {
  if (slot.level == Level::sentence) return slot.positions ? shape.positions : shape.sentences;
  return slot.positions ? shape.row_positions : shape.rows;
}

// Every slot begins on a cache line. Kernels read and write whole padded rows and no further, ids
// are packed.
int64_t floats_of(const Slot& slot, const Shape& shape) {
  constexpr int64_t kLine = static_cast<int64_t>(kAlignment / sizeof(float));
  return (units(slot, shape) * slot.width + kLine - 1) / kLine * kLine;
}

}  // namespace

Workspace::Workspace(const Plan& plan) : plan_(plan), addresses_(plan.slots.size(), nullptr) {
  for (std::size_t n = 0; n < plan.slots.size(); ++n)
    if (plan.slots[n].level == Level::fixed)
      addresses_[n] = const_cast<float*>(plan.slots[n].fixed);  // read only, by construction
}

void Workspace::reserve(const Shape& shape) {
  if (shape.sentences <= shape_.sentences && shape.positions <= shape_.positions &&
      shape.rows <= shape_.rows && shape.row_positions <= shape_.row_positions)
    return;
  shape_ = {std::max(shape.sentences, shape_.sentences), std::max(shape.positions, shape_.positions),
            std::max(shape.rows, shape_.rows),
            std::max(shape.row_positions, shape_.row_positions)};
  int64_t total = kLanes;  // a slice of the last row may be read a vector further than it goes
  for (const Slot& slot : plan_.slots)
    if (slot.level != Level::fixed) total += floats_of(slot, shape_);
  memory_.reserve(static_cast<std::size_t>(total) * sizeof(float));
  float* next = memory_.floats();
  for (std::size_t n = 0; n < plan_.slots.size(); ++n) {
    if (plan_.slots[n].level == Level::fixed) continue;
    addresses_[n] = next;
    next += floats_of(plan_.slots[n], shape_);
  }
}

void Workspace::exchange(SlotId a, SlotId b) noexcept {
  std::swap(addresses_[static_cast<std::size_t>(a)], addresses_[static_cast<std::size_t>(b)]);
}

}  // namespace s2s
