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

bool likelier(const Candidate& a, const Candidate& b) noexcept {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

}  // namespace

double uniform(uint64_t seed, uint64_t sample, uint64_t step) noexcept {
  return static_cast<double>(mixed(mixed(mixed(seed) + sample) + step) >> 11) * 0x1p-53;
}

int32_t Sampler::draw(std::span<const float> logits, const Sampling& rule, double number) {
  pool_.clear();
  float best = -std::numeric_limits<float>::infinity();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] == -std::numeric_limits<float>::infinity()) continue;
    pool_.push_back({logits[id], static_cast<int32_t>(id)});
    best = std::max(best, logits[id]);
  }
  if (pool_.empty()) return -1;
  cut(rule);
  double total = 0.0;
  for (const Candidate& id : pool_) total += weight(id.value, best, rule.temperature);
  const double end = number * total;
  double sum = 0.0;
  for (const Candidate& id : pool_) {
    sum += weight(id.value, best, rule.temperature);
    if (sum > end) return id.id;
  }
  return pool_.back().id;
}

// Leaves the ids that may be drawn, in their order.
void Sampler::cut(const Sampling& rule) {
  const bool some = rule.topk > 0 && static_cast<size_t>(rule.topk) < pool_.size();
  if (some) {
    std::nth_element(pool_.begin(), pool_.begin() + rule.topk, pool_.end(), likelier);
    pool_.resize(static_cast<size_t>(rule.topk));
  }
  if (rule.topp < 1.0) {
    std::sort(pool_.begin(), pool_.end(), likelier);
    const float best = pool_.front().value;
    double total = 0.0, sum = 0.0;
    for (const Candidate& id : pool_) total += weight(id.value, best, rule.temperature);
    size_t kept = 0;
    for (; kept < pool_.size() && sum < rule.topp * total; ++kept)
      sum += weight(pool_[kept].value, best, rule.temperature);
    pool_.resize(kept);
  }
  if (some || rule.topp < 1.0)
    std::sort(pool_.begin(), pool_.end(),
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

double Sampler::weight(float logit, float best, double temperature) const noexcept {
  return exponential((static_cast<double>(logit) - best) / temperature);
}

}  // namespace s2s
