// The bounds of a screened output layer, on random and on the worst inputs: what float32 gives is
// never outside, and the best outputs have the bits of the whole product. Knows single layers; the
// decodes that use them are tested in tests/test_screened.py.
#include <cstdio>
#include <string>

#include "core/isa.h"
#include "kernel_cases.h"
#include "ops/screened.h"

namespace {

using namespace s2s;
using cases::Floats;
using cases::Random;

int failures = 0;

void check(bool right, const std::string& what) {
  if (right) return;
  if (++failures <= 20) std::printf("%s\n", what.c_str());
}

// One layer, its slots for one row, and what it says of inputs.
class Layer {
 public:
  Layer(const Floats& weight, const Floats& bias, std::vector<int64_t> sizes)
      : outputs_(static_cast<int64_t>(bias.size())), sizes_(std::move(sizes)) {
    Call call("a layer", layout_);
    call.level = Level::row;
    int64_t depth = 0;
    for (const int64_t size : sizes_) {
      inputs_.push_back({{Kind::vector, size}, layout_.add(Level::row, kItems, padded(size))});
      inputs_.back().level = Level::row;
      depth += size;
    }
    const Matrix matrix = {weight.data(), depth, outputs_, 1, 0, depth, ComputeType::float32};
    const Floats padded_bias = padded_blocks(bias.data(), nullptr, outputs_, 1);
    InputProduct product(call, inputs_, matrix, padded_bias);
    out_ = layout_.add(Level::row, kItems, padded(outputs_));
    layer_ = std::make_unique<ScreenedLinear>(call, std::move(product), inputs_, matrix,
                                              padded_bias, out_);
    for (const Slot& slot : layout_.slots) {
      memory_.emplace_back(static_cast<std::size_t>(slot.width + kLanes) * sizeof(float));
      slots_.push_back(memory_.back().floats());
    }
    frame_.items = 1;
  }

  void set(const Floats& x) {
    std::size_t at = 0;
    for (const Value& input : inputs_) {
      std::copy_n(x.data() + at, input.type.size, slots_[static_cast<std::size_t>(input.slot)]);
      at += static_cast<std::size_t>(input.type.size);
    }
  }
  Floats all(const std::string& isa) {
    layer_->run(context(isa));
    return {out(), out() + outputs_};
  }
  int64_t survivors(const std::string& isa, int64_t count) {
    panels_.resize(static_cast<std::size_t>(layer_->most()));
    return layer_->survivors(context(isa), count, panels_);
  }
  const float* out() const { return slots_[static_cast<std::size_t>(out_)]; }
  int32_t panel(int64_t n) const { return panels_[static_cast<std::size_t>(n)]; }
  int64_t panels() const { return layer_->width() / kLanes; }
  // The bounds of the last screening: of each panel, the largest lower and upper one.
  const float* lower() const { return slots_[slots_.size() - 2]; }
  const float* upper() const { return slots_[slots_.size() - 1]; }

 private:
  Context context(const std::string& isa) {
    return {kernels_for(isa), frame_, frame_, slots_.data()};
  }

  int64_t outputs_;
  std::vector<int64_t> sizes_;
  Layout layout_;
  std::vector<Value> inputs_;
  std::unique_ptr<ScreenedLinear> layer_;
  SlotId out_ = -1;
  std::vector<Memory> memory_;
  std::vector<float*> slots_;
  std::vector<int32_t> panels_;
  Frame frame_;
};

float power_of_two(Random& random, int low, int high) {
  return std::ldexp(1.0F, low + static_cast<int>(random.below(high - low + 1)));
}

Floats inputs(Random& random, int64_t depth) {
  Floats x = random.numbers(depth);
  const int64_t kind = random.below(5);
  const float scale = kind == 4 ? power_of_two(random, -148, 40) : power_of_two(random, -10, 10);
  for (float& value : x) {
    if (kind == 1 && random.below(8) != 0) value = 0.0F;
    if (kind == 2) value = value * value * value * value;  // few large ones
    if (kind == 3) value = std::trunc(value * 63.5F) / 63.5F;
    value *= scale;
  }
  return x;
}

std::vector<int64_t> parts(Random& random) {
  std::vector<int64_t> sizes;
  for (int64_t n = 1 + random.below(3); n > 0; --n) sizes.push_back(random.size());
  return sizes;
}

int64_t total(const std::vector<int64_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

// Every panel's largest output is at most its upper bound, and at least its lower one.
void check_bounds(Layer& layer, const Floats& expected, const std::string& what) {
  for (int64_t panel = 0; panel < layer.panels(); ++panel) {
    const auto begin = expected.begin() + panel * kLanes;
    const auto count = static_cast<int64_t>(expected.end() - begin);
    const float most = *std::max_element(begin, begin + std::min(kLanes, count));
    check(most <= layer.upper()[panel], what + ": an upper bound is too low");
    check(most >= layer.lower()[panel], what + ": a lower bound is too high");
  }
}

// The best `count` are in the panels that survive, with the bits of the whole product.
void check_best(Layer& layer, const Floats& expected, int64_t count, int64_t found,
                const std::string& what) {
  const auto size = static_cast<int64_t>(expected.size());
  std::vector<bool> exact(expected.size(), false);
  for (int64_t n = 0; n < found; ++n) {
    const int64_t begin = layer.panel(n) * kLanes;
    check(n == 0 || layer.panel(n) > layer.panel(n - 1), what + ": panels are not in order");
    for (int64_t i = begin; i < std::min(begin + kLanes, size); ++i) {
      const auto at = static_cast<std::size_t>(i);
      exact[at] = true;
      check(std::bit_cast<uint32_t>(layer.out()[i]) == std::bit_cast<uint32_t>(expected[at]),
            what + ": another bit than the whole product");
    }
  }
  Floats sorted = expected;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const float worst = sorted[static_cast<std::size_t>(std::min(count, size) - 1)];
  for (std::size_t i = 0; i < expected.size(); ++i)
    check(exact[i] || expected[i] < worst, what + ": one of the best was dropped");
}

int64_t screened = 0, refused = 0;

void random_layer(Random& random, const std::vector<std::string>& isas, int round) {
  const std::vector<int64_t> sizes = parts(random);
  const int64_t depth = total(sizes);
  const int64_t outputs = random.coin() ? random.size() : 300 + random.below(1500);
  Floats weight = random.numbers(outputs * depth);
  Floats bias = random.numbers(outputs);
  const int64_t kind = random.below(4);
  for (int64_t i = 0; i < outputs; ++i) {
    float scale = 1.0F;
    if (kind == 1) scale = power_of_two(random, -20, 3);
    if (kind == 2) scale = power_of_two(random, -140, -100);
    for (int64_t k = 0; k < depth; ++k) {
      float& w = weight[static_cast<std::size_t>(i * depth + k)];
      // near ties: rows that differ by an ulp here and there
      if (kind == 3 && i > 0) w = weight[static_cast<std::size_t>(k)];
      if (kind == 3 && random.below(40) == 0) w = std::nextafter(w, 9.0F);
      w *= scale;
    }
    if (kind == 3) bias[static_cast<std::size_t>(i)] = bias[0];
    if (random.below(200) == 0) bias[static_cast<std::size_t>(i)] = -1e9F;
  }
  Layer layer(weight, bias, sizes);
  layer.set(inputs(random, depth));
  const int64_t count = random.coin() ? 1 : 1 + random.below(std::min<int64_t>(outputs, 20));
  const Floats expected = layer.all("portable");
  for (const std::string& isa : isas) {
    const std::string what = isa + ", round " + std::to_string(round);
    const int64_t found = layer.survivors(isa, count);
    check(count <= ScreenedLinear::kMostWanted || found < 0, what + ": too many were wanted");
    if (count <= ScreenedLinear::kMostWanted) check_bounds(layer, expected, what);
    ++(found < 0 ? refused : screened);
    if (found >= 0) check_best(layer, expected, count, found, what);
  }
}

// Inputs that lie along what int8 has lost of a row, and rows along what it has lost of inputs: the
// estimate is as wrong as it can be, and a bound that is smaller by a tenth would be broken.
double worst_error(Random& random, const std::string& isa) {
  const int64_t depth = 64 + random.below(600);
  Floats weight = random.numbers(depth, 1.0F), x = random.numbers(depth, 1.0F);
  const bool of_weights = random.coin();
  Floats& given = of_weights ? weight : x;
  Floats& aligned = of_weights ? x : weight;
  // of the aligned ones, which are all alike but for their signs, int8 loses next to nothing
  float most = 0.0F;
  for (const float value : given) most = std::max(most, std::fabs(value));
  for (std::size_t k = 0; k < given.size(); ++k) {
    const float byte = std::nearbyint(given[k] * (127.0F / most));
    const float left = given[k] - byte * (most / 127.0F);
    aligned[k] = left < 0.0F ? -1.0F : 1.0F;
    if (std::fabs(byte) > 126.0F) continue;  // the largest one gives the scale
    given[k] = (byte + (left < 0.0F ? -0.49F : 0.49F)) * (most / 127.0F);
  }
  Layer layer(weight, Floats{0.25F}, {depth});
  layer.set(x);
  const float expected = layer.all(isa)[0];
  layer.survivors(isa, 1);
  const double lower = layer.lower()[0], upper = layer.upper()[0];
  check(expected <= upper && expected >= lower, isa + ": a worst case is outside its bounds");
  return std::fabs(expected - (lower + upper) / 2.0) / ((upper - lower) / 2.0);
}

// Numbers that nothing is promised of.
void refusals(Random& random, const std::string& isa) {
  const Floats weight = random.numbers(40 * 70);
  Layer layer(weight, random.numbers(40), {70});
  Floats x = random.numbers(70);
  for (const float bad : {cases::kNaN, cases::kInfinity, -cases::kInfinity, 3e38F}) {
    x[33] = bad;
    layer.set(x);
    check(layer.survivors(isa, 1) < 0, isa + ": screened " + std::to_string(bad));
    check(layer.survivors(isa, 0) < 0, isa + ": bounded " + std::to_string(bad));
  }
  Floats bias = random.numbers(40);
  bias[39] = -cases::kInfinity;
  Layer infinite(weight, bias, {70});
  x[33] = 0.0F;
  infinite.set(x);
  check(infinite.survivors(isa, 1) < 0, isa + ": screened an infinite bias");
  layer.set(x);
  check(layer.survivors(isa, 1) >= 0, isa + ": did not screen what it can");
}

}  // namespace

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::stoi(arguments[1]) : 400;
  Random random(7);
  const std::vector<std::string> isas = available_isas();
  for (int round = 0; round < rounds; ++round) random_layer(random, isas, round);
  double worst = 0.0;
  for (const std::string& isa : isas) {
    for (int n = 0; n < 50; ++n) worst = std::max(worst, worst_error(random, isa));
    refusals(random, isa);
  }
  check(worst > 0.9, "the worst cases use " + std::to_string(worst) + " of the bounds");
  check(screened > refused / 4, "hardly anything was screened");
  std::printf("%lld screened, %lld refused, %.3f of the bounds used, %d failures\n",
              static_cast<long long>(screened), static_cast<long long>(refused), worst, failures);
  return failures == 0 ? 0 : 1;
}
