#include "engine/workspace.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "core/errors.h"

namespace s2s {
namespace {

// The sum over items of (a S + b) (c S + d); (a, b) = (0, 1) where there is no such position.
double units(const Plan& plan, const Slot& slot, const Shape& shape) {
  const auto length = [&](Along along) {
    return along == kItems ? Length{0, 1} : plan.lengths[static_cast<std::size_t>(along)];
  };
  const Counts& counts = slot.level == Level::sentence ? shape.sentences : shape.rows;
  const Length first = length(slot.along), second = length(slot.across);
  const auto product = [](int64_t x, int64_t y) { return static_cast<double>(x * y); };
  return product(first.a, second.a) * counts.squares +
         (product(first.a, second.b) + product(first.b, second.a)) * counts.positions +
         product(first.b, second.b) * counts.items;
}

// Every slot begins on a cache line. Kernels read and write whole padded rows and no further, ids
// are packed.
double floats_of(const Plan& plan, const Slot& slot, const Shape& shape) {
  constexpr double kLine = kAlignment / sizeof(float);
  const double floats = units(plan, slot, shape) * static_cast<double>(slot.width);
  return std::ceil(floats / kLine) * kLine;
}

std::string in_units(double bytes) {
  const bool large = bytes >= double{10 << 20};
  const double units = std::ceil(bytes / (large ? 1 << 20 : 1 << 10));
  return std::to_string(std::llround(units)) + (large ? " MiB" : " KiB");
}

bool covers(const Counts& a, const Counts& b) {
  return a.items >= b.items && a.positions >= b.positions && a.squares >= b.squares;
}

Counts larger(const Counts& a, const Counts& b) {
  return {std::max(a.items, b.items), std::max(a.positions, b.positions),
          std::max(a.squares, b.squares)};
}

}  // namespace

Workspace::Workspace(const Plan& plan, int64_t max_bytes)
    : plan_(plan), max_bytes_(max_bytes), addresses_(plan.slots.size(), nullptr) {
  for (std::size_t n = 0; n < plan.slots.size(); ++n)
    if (plan.slots[n].level == Level::fixed)
      addresses_[n] = const_cast<float*>(plan.slots[n].fixed);  // read only, by construction
}

double Workspace::floats_for(const Shape& shape) const noexcept {
  double total = kLanes;  // a slice of the last row may be read a vector further than it goes
  for (const Slot& slot : plan_.slots)
    if (slot.level != Level::fixed) total += floats_of(plan_, slot, shape);
  return total;
}

double Workspace::bytes_for(const Shape& shape) const noexcept {
  return floats_for(shape) * sizeof(float);
}

void Workspace::reserve(const Shape& shape, bool keep) {
  if (covers(shape_.sentences, shape.sentences) && covers(shape_.rows, shape.rows)) return;
  const auto limit = static_cast<double>(max_bytes_);
  Shape both = {larger(shape.sentences, shape_.sentences), larger(shape.rows, shape_.rows)};
  if (!keep && bytes_for(both) > limit) both = shape;
  const double bytes = bytes_for(both);
  if (bytes > limit)
    throw Error(ErrorKind::input,
                "this call needs " + in_units(bytes) + " of workspace, more than " +
                    in_units(limit) +
                    ": lower beam_size or batch_size, shorten the source, or load with a "
                    "larger max_memory");
  move_to(Memory(static_cast<std::size_t>(bytes)), both, keep);
}

void Workspace::move_to(Memory fresh, const Shape& shape, bool keep) {
  float* next = fresh.floats();
  for (std::size_t n = 0; n < plan_.slots.size(); ++n) {
    const Slot& slot = plan_.slots[n];
    if (slot.level == Level::fixed) continue;
    if (keep && memory_.size() > 0)
      std::memcpy(next, addresses_[n],
                  static_cast<std::size_t>(floats_of(plan_, slot, shape_)) * sizeof(float));
    addresses_[n] = next;
    next += static_cast<int64_t>(floats_of(plan_, slot, shape));
  }
  memory_ = std::move(fresh);
  shape_ = shape;
}

void Workspace::exchange(SlotId a, SlotId b) noexcept {
  std::swap(addresses_[static_cast<std::size_t>(a)], addresses_[static_cast<std::size_t>(b)]);
}

}  // namespace s2s
