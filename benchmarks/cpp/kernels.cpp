// The kernels beside the machine's limit, measured in turns in one run; prints one JSON object.
// Every time is the fastest of some rounds: whatever else runs on a machine only adds. The median
// is printed beside it, to tell how much that was. Knows the kernel table and the limits; nothing
// of models. Built with -DS2S_BENCHMARKS=ON.
//
// The limit of a kernel is the longer of reading its bytes, as fast as `read_all` reads as many,
// and of its operations, as fast as `multiply_add` (of bytes, `dot_bytes`) makes them. An exp or
// tanh counts as 16 fma.
#include "kernels/kernels.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/isa.h"
#include "core/memory.h"
#include "limits.h"
#include "ops/product.h"

namespace {

using namespace s2s;
using Clock = std::chrono::steady_clock;
using Work = std::function<void()>;

constexpr double kActivation = 32;  // operations
constexpr double kTurn = 1e6;       // nanoseconds that a turn takes at least
constexpr int kRounds = 15;
volatile float kept;

// Nanoseconds of one call, of about `kTurn` nanoseconds of calls, one of them before.
double time_of(const Work& work) {
  work();
  for (int64_t calls = 1;; calls *= 4) {
    const auto begin = Clock::now();
    for (int64_t i = 0; i < calls; ++i) work();
    const double took = std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
    if (took > kTurn) return took / static_cast<double>(calls);
  }
}

Memory filled(int64_t floats) {
  Memory memory(static_cast<std::size_t>(floats) * sizeof(float));
  uint32_t state = 1;
  for (int64_t i = 0; i < floats; ++i) {
    state = state * 1664525U + 1013904223U;
    memory.floats()[i] = static_cast<float>(state >> 8) * 0x1p-24F - 0.5F;
  }
  return memory;
}

const float* buffer(int64_t bytes) {
  static Memory memory;
  static int64_t size = 0;
  if (bytes > size) {
    memory = filled(bytes / 4);
    size = bytes;
  }
  return memory.floats();
}

// GB/s of one thread, the fastest way of reading.
double read_rate(const float* data, int64_t bytes) {
  double best = 0;
  for (int way = 0; way < bench::kWays; ++way) {
    const double ns = time_of([=] { kept = bench::read_all(way, data, bytes); });
    best = std::max(best, static_cast<double>(bytes) / ns);
  }
  return best;
}

double rate_of(int64_t (*work)(int64_t, float*) noexcept) {  // GFLOP/s of one thread
  float keep = 1.0F;
  int64_t operations = 0;
  const double ns = time_of([&] { operations = work(2000, &keep); });
  kept = keep;
  return static_cast<double>(operations) / ns;
}

// --- the limits of all threads together ---

// The sum of what `threads` threads reach at the same time, the best of some rounds.
double together(int threads, int rounds, const std::function<double(int)>& rate) {
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> rates(static_cast<std::size_t>(threads));
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t)
      team.emplace_back([&, t] { rates[static_cast<std::size_t>(t)] = rate(t); });
    for (std::thread& one : team) one.join();
    double sum = 0;
    for (const double one : rates) sum += one;
    best = std::max(best, sum);
  }
  return best;
}

void print_limits(int threads, const char* end) {
  std::printf("  {\"threads\": %d, \"read\": [", threads);
  const char* comma = "";
  for (int64_t bytes = int64_t{1} << 15; bytes <= int64_t{1} << 27; bytes <<= 1) {
    const int64_t part = bytes / threads / 1024 * 1024;
    const float* data = buffer(bytes);
    const double rate =
        together(threads, 7, [=](int t) { return read_rate(data + t * part / 4, part); });
    std::printf("%s[%lld, %.1f]", comma, static_cast<long long>(bytes), rate);
    comma = ", ";
  }
  constexpr int rounds = 60;  // short ones
  const double fma = together(threads, rounds, [](int) { return rate_of(bench::multiply_add); });
  float keep = 1.0F;
  const bool bytes = bench::dot_bytes(1, &keep) > 0;
  const double dot =
      bytes ? together(threads, rounds, [](int) { return rate_of(bench::dot_bytes); }) : 0.0;
  std::printf("], \"gflops\": %.1f, \"int8_gops\": %.1f}%s\n", fma, dot, end);
}

// --- kernels ---

struct Case {
  std::string group;
  std::string name;
  double bytes;
  double operations;
  Work work;
  bool int8 = false;
};

int64_t readable(const Case& one) {
  return std::max<int64_t>(static_cast<int64_t>(one.bytes) / 1024 * 1024, 1024);
}

// All cases in every round: a busy spell of the machine then hits a round of each, not all rounds
// of one. What the machine can do is the best of all rounds, too.
void print_cases(const std::vector<Case>& cases) {
  std::vector<std::vector<double>> times(cases.size());
  std::map<int64_t, double> rates;
  double fma = 0, dot = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t n = 0; n < cases.size(); ++n) {
      const int64_t bytes = readable(cases[n]);
      rates[bytes] = std::max(rates[bytes], read_rate(buffer(bytes), bytes));
      fma = std::max(fma, rate_of(bench::multiply_add));
      dot = std::max(dot, rate_of(bench::dot_bytes));
      times[n].push_back(time_of(cases[n].work));
    }
  }
  for (std::size_t n = 0; n < cases.size(); ++n) {
    const Case& one = cases[n];
    std::sort(times[n].begin(), times[n].end());
    const double ns = times[n].front(), rate = rates[readable(one)];
    const double peak = one.int8 ? dot : fma;  // 0: unknown
    const double limit = std::max(one.bytes / rate, peak > 0 ? one.operations / peak : 0.0);
    std::printf("  {\"group\": \"%s\", \"name\": \"%s\", \"bytes\": %.0f, \"operations\": %.0f,",
                one.group.c_str(), one.name.c_str(), one.bytes, one.operations);
    std::printf(" \"ns\": %.1f, \"median_ns\": %.1f, \"read_gb_per_s\": %.1f,", ns,
                times[n][kRounds / 2], rate);
    std::printf(" \"peak_gflops\": %.1f, \"limit_ns\": %.1f, \"share\": %.3f}%s\n", peak, limit,
                limit / ns, n + 1 < cases.size() ? "," : "");
  }
}

// Memory that lives as long as the program: the cases' operands.
float* operand(int64_t floats) {
  static std::vector<Memory> all;
  all.push_back(filled(floats + kLanes));
  return all.back().floats();
}

// out [rows, outputs] = W x, weights of `size` bytes: float32, bfloat16 or int8, which takes the
// time to quantise the inputs, too.
Linear product(int64_t rows, int64_t depth, int64_t outputs, int64_t size) {
  auto* segment = new Segment{{operand(rows * depth), depth, nullptr}, depth};
  Linear linear;
  const float* weight = operand((outputs + 3 * kLanes) * depth * size / 4);
  if (size == 4) linear.weight = weight;
  if (size == 2) linear.words = reinterpret_cast<const uint16_t*>(weight);
  if (size == 1)
    linear.bytes = {.weight = reinterpret_cast<const int8_t*>(weight),
                    .scale = operand(outputs),
                    .offset = reinterpret_cast<const int32_t*>(operand(outputs)),
                    .scratch = operand(rows * quantised_stride(depth))};
  linear.segments = segment;
  linear.segment_count = 1;
  linear.depth = depth;
  linear.out = {operand(rows * outputs), outputs, nullptr};
  linear.rows = rows;
  linear.panels = outputs / kLanes;
  const auto bytes = static_cast<std::size_t>(outputs * depth * size);  // all that a step reads
  linear.ahead = bytes <= Context::kFar && (bytes <= Context::kLarge || bytes >= Context::kStays);
  return linear;
}

std::string sized(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, bytes < 1e6 ? "%.0f KB" : "%.1f MB",
                bytes < 1e6 ? bytes / 1e3 : bytes / 1e6);
  return text;
}

void add_products(std::vector<Case>& cases, const Kernels& kernels) {
  const struct {
    int64_t depth, outputs;
  } shapes[] = {{128, 64}, {256, 512}, {256, 3072}, {1024, 2048}, {512, 32000}};
  for (const int64_t size : {4, 2, 1}) {
    for (const int64_t rows : {1, 5, 24, 64}) {
      if (size == 2 && rows > 5) continue;
      for (const auto& shape : shapes) {
        const double weights = static_cast<double>(shape.depth * shape.outputs);
        const double bytes = weights * static_cast<double>(size);
        const Linear linear = product(rows, shape.depth, shape.outputs, size);
        const std::string name = std::to_string(shape.outputs) + " x " +
                                 std::to_string(shape.depth) + ", " + sized(bytes);
        const std::string group = "product of " + std::to_string(rows) +
                                  (rows == 1 ? " row" : " rows") +
                                  (size == 2   ? ", bfloat16"
                                   : size == 1 ? ", int8"
                                               : "");
        cases.push_back({group, name, bytes, 2.0 * weights * static_cast<double>(rows),
                         [&kernels, linear] { kernels.linear(linear); }, size == 1});
        if (rows > 1 || !linear.ahead || bytes < double{1 << 20}) continue;
        Linear other = linear;  // as it would be from memory: what hints bring
        other.ahead = false;
        cases.push_back({group + ", no lines fetched ahead", name, bytes, 2.0 * weights,
                         [&kernels, other] { kernels.linear(other); }, size == 1});
      }
    }
  }
}

void add_cells(std::vector<Case>& cases, const Kernels& kernels) {
  for (const int64_t size : {256, 512, 1024}) {
    for (const int64_t rows : {1, 5}) {
      const double weights = static_cast<double>(4 * size * 2 * size);
      const Linear gates = product(rows, 2 * size, 4 * size, 4);
      LstmGates cell;
      cell.gates = {gates.out.data, gates.out.stride, nullptr};
      cell.c = {operand(rows * size), size, nullptr};
      cell.c_next = {operand(rows * size), size, nullptr};
      cell.h_next = {operand(rows * size), size, nullptr};
      cell.rows = rows;
      cell.size = size;
      const double work =
          static_cast<double>(rows) * (2.0 * weights + 5 * kActivation * static_cast<double>(size));
      cases.push_back({"recurrent step, LSTM",
                       std::to_string(size) + ", rows " + std::to_string(rows), 4 * weights, work,
                       [&kernels, gates, cell] {
                         kernels.linear(gates);
                         kernels.lstm_gates(cell);
                       }});
    }
  }
}

void add_attention(std::vector<Case>& cases, const Kernels& kernels) {
  const struct {
    const char* name;
    int64_t count, key, value;
    bool additive;
  } shapes[] = {{"dot, 25 positions of 512", 25, 512, 512, false},
                {"additive, 30 positions of 1024 and 2048", 30, 1024, 2048, true}};
  for (const auto& shape : shapes) {
    Attention attention;
    attention.query = operand(shape.key);
    attention.keys = {operand(shape.count * shape.key), shape.key, nullptr};
    attention.v = shape.additive ? operand(shape.key) : nullptr;
    attention.values = {operand(shape.count * shape.value), shape.value, nullptr};
    attention.count = shape.count;
    attention.key_size = shape.key;
    attention.value_size = shape.value;
    attention.weights = operand(padded(shape.count));
    attention.context = operand(shape.value);
    const double floats = static_cast<double>(shape.count * (shape.key + shape.value));
    const double tanhs = shape.additive ? static_cast<double>(shape.count * shape.key) : 0.0;
    cases.push_back({"attention", shape.name, 4 * floats, 2 * floats + kActivation * tanhs,
                     [&kernels, attention] { kernels.attention(attention); }});
  }
}

void add_ranking(std::vector<Case>& cases, const Kernels& kernels) {
  for (const int64_t size : {72, 32000}) {
    for (const int64_t count : {1, 10}) {
      const float* logits = operand(padded(size));
      const auto best = std::make_shared<std::vector<Candidate>>(10);
      const auto floats = static_cast<double>(size);
      cases.push_back({"log-softmax and top-k",
                       "the best " + std::to_string(count) + " of " + std::to_string(size),
                       4 * floats, kActivation * floats, [&kernels, logits, size, count, best] {
                         kept = kernels.normaliser(logits, size).sum;
                         kernels.top_k(logits, size, count, best->data());
                       }});
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int most = argc > 1 ? std::atoi(argv[1]) : 1;
  if (most < 1 || most > 1024) {
    std::fprintf(stderr, "usage: kernels [THREADS, 1 to 1024]\n");
    return 2;
  }
  const Kernels& kernels = kernels_for("");
  std::printf("{\"isa\": \"%s\", \"limits\": [\n", kernels.isa);
  for (int threads = 1; threads <= most; ++threads)
    print_limits(threads, threads < most ? "," : "");
  std::vector<Case> cases;
  add_products(cases, kernels);
  add_cells(cases, kernels);
  add_attention(cases, kernels);
  add_ranking(cases, kernels);
  std::printf("], \"kernels\": [\n");
  print_cases(cases);
  std::printf("]}\n");
  return 0;
}
