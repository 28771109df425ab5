// Draws ids at random: what comes out is a function of the logits, a seed, the sample's number and
// its step, and of nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace s2s {

// Off: the best ids are taken. Else probabilities are those of logits / temperature, over the
// `topk` likeliest ids (0: all), and of these over the fewest whose sum reaches `topp`.
struct Sampling {
  bool on = false;
  double temperature = 1.0;
  int32_t topk = 0;
  double topp = 1.0;
  uint64_t seed = 0;
};

// A number in [0, 1), a multiple of 2^-53: a counter hashed by the finaliser of splitmix64.
double uniform(uint64_t seed, uint64_t sample, uint64_t step) noexcept;

class Sampler {
 public:
  // The drawn id, -1 where every logit is -inf. Ids are laid out in their order, so that a cut that
  // leaves everything changes nothing.
  int32_t draw(std::span<const float> logits, const Sampling& rule, double number);

 private:
  struct Weighted {
    double weight;
    float logit;
    int32_t id;
  };

  double total() const noexcept;
  size_t fewest(double enough);
  void keep(size_t count);

  std::vector<Weighted> pool_;
};

}  // namespace s2s
