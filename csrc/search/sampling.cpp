#include "search/sampling.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "core/power.h"

namespace s2s {
namespace {

uint64_t mixed(uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

template <typename Item>
bool likelier(const Item& a, const Item& b) noexcept {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

}  // namespace

double uniform(uint64_t seed, uint64_t sample, uint64_t step) noexcept {
  return static_cast<double>(mixed(mixed(mixed(seed) + sample) + step) >> 11) * 0x1p-53;
}

int32_t Sampler::draw(std::span<const float> logits, const Sampling& rule, double number) {
  pool_.clear();
  float best = kImpossible;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] == kImpossible) continue;
    pool_.push_back({0.0, logits[id], static_cast<int32_t>(id)});
    best = std::max(best, logits[id]);
  }
  if (pool_.empty()) return -1;
  if (rule.topk > 0 && static_cast<size_t>(rule.topk) < pool_.size()) {
    std::nth_element(pool_.begin(), pool_.begin() + rule.topk, pool_.end(), likelier<Weighted>);
    keep(static_cast<size_t>(rule.topk));
  }
  for (Weighted& id : pool_)
    id.weight = exponential((static_cast<double>(id.logit) - best) / rule.temperature);
  if (rule.topp < 1.0) keep(fewest(rule.topp * total()));
  const double end = number * total();
  double sum = 0.0;
  for (const Weighted& id : pool_) {
    sum += id.weight;
    if (sum > end) return id.id;
  }
  return pool_.back().id;
}

// In the order of the pool.
double Sampler::total() const noexcept {
  double sum = 0.0;
  for (const Weighted& id : pool_) sum += id.weight;
  return sum;
}

// Brings the likeliest ids to the front, in their order, until they weigh `enough`: how many do.
size_t Sampler::fewest(double enough) {
  double sum = 0.0;
  size_t count = 0, sorted = 0;
  for (; count < pool_.size() && sum < enough; ++count) {
    if (count == sorted) {
      sorted = std::min(pool_.size(), 4 * sorted + 16);
      const auto from = pool_.begin() + static_cast<std::ptrdiff_t>(count);
      const auto to = pool_.begin() + static_cast<std::ptrdiff_t>(sorted);
      std::partial_sort(from, to, pool_.end(), likelier<Weighted>);
    }
    sum += pool_[count].weight;
  }
  return count;
}

// The first so many stay, in the order of their ids.
void Sampler::keep(size_t count) {
  pool_.resize(count);
  std::sort(pool_.begin(), pool_.end(),
            [](const Weighted& a, const Weighted& b) { return a.id < b.id; });
}

}  // namespace s2s
