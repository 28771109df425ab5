// Sessions, batches and cancellations on many threads at once, over one model: for the thread
// sanitizer (cmake --preset tsan), and for equal bits. Knows the engine floor; never Python.
#include <atomic>
#include <cstdio>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "core/interruption.h"
#include "engine/batch.h"
#include "engine/decoder_state.h"
#include "engine/session.h"

using namespace s2s;

namespace {

std::atomic<int> failures = 0;

void check(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

constexpr int64_t kSource = 11, kTarget = 9, kHidden = 6;

// Weights that a linear congruence gives, between -1 and 1.
class Weights {
 public:
  Tensor operator()(const std::string& name, std::vector<int64_t> shape, ModelSpec& spec) {
    int64_t size = 1;
    for (const int64_t n : shape) size *= n;
    auto& data = kept_.emplace_back(static_cast<std::size_t>(size));
    for (float& value : data) {
      state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
      value = static_cast<float>(static_cast<int64_t>(state_ >> 40) - (1 << 23)) / (1 << 23);
    }
    const Tensor tensor = {std::move(shape), data.data()};
    spec.tensors[name] = tensor;
    return tensor;
  }

 private:
  std::vector<std::vector<float>> kept_;
  uint64_t state_ = 7;
};

NodeSpec node(const std::string& name, const std::string& op,
              std::map<std::string, std::vector<std::string>> inputs,
              std::map<std::string, std::string> weights,
              std::map<std::string, Attribute> attributes) {
  NodeSpec made;
  made.name = name;
  made.op = op;
  made.inputs = std::move(inputs);
  made.weights = std::move(weights);
  made.attributes = std::move(attributes);
  return made;
}

std::map<std::string, Attribute> gru(bool layer) {
  std::map<std::string, Attribute> attributes = {{"activation", std::string("tanh")},
                                                 {"gate_activation", std::string("sigmoid")},
                                                 {"reset", std::string("after")}};
  if (layer) attributes["direction"] = std::string("forward");
  return attributes;
}

// A GRU reads, another writes, with dot attention over what was read.
std::shared_ptr<const Model> make_model() {
  ModelSpec spec;
  Weights weights;
  weights("source", {kSource, 5}, spec);
  weights("target", {kTarget, 4}, spec);
  weights("e_ih", {3 * kHidden, 5}, spec);
  weights("e_hh", {3 * kHidden, kHidden}, spec);
  weights("d_ih", {3 * kHidden, 4}, spec);
  weights("d_hh", {3 * kHidden, kHidden}, spec);
  weights("out", {kTarget, 2 * kHidden}, spec);
  GraphSpec encoder, decoder;
  encoder.inputs = {{"tokens", {Kind::ids, kSource}}};
  encoder.nodes = {
      node("embedding", "embedding", {{"x", {"tokens"}}}, {{"weight", "source"}}, {{"scale", 1.0}}),
      node("reader", "gru", {{"x", {"embedding"}}}, {{"weight_ih", "e_ih"}, {"weight_hh", "e_hh"}},
           gru(true))};
  encoder.outputs = {{"memory", "reader.sequence"}, {"h", "reader.h"}};
  decoder.inputs = {{"token", {Kind::id, kTarget}}};
  decoder.states = {{"h", {{Kind::vector, kHidden}, "encoder.h", "writer"}}};
  decoder.nodes = {
      node("embedding", "embedding", {{"x", {"token"}}}, {{"weight", "target"}}, {{"scale", 1.0}}),
      node("writer", "gru_cell", {{"x", {"embedding"}}, {"h", {"state.h"}}},
           {{"weight_ih", "d_ih"}, {"weight_hh", "d_hh"}}, gru(false)),
      node("attention", "attention",
           {{"query", {"writer"}}, {"keys", {"encoder.memory"}}, {"values", {"encoder.memory"}}},
           {},
           {{"score", std::string("dot")},
            {"scale", 1.0},
            {"heads", int64_t{1}},
            {"activation", std::string("tanh")},
            {"energy_activation", std::string("identity")},
            {"normaliser", std::string("softmax")},
            {"window", int64_t{0}},
            {"gaussian", false}}),
      node("logits", "linear", {{"x", {"writer", "attention.context"}}}, {{"weight", "out"}},
           {{"activation", std::string("identity")}})};
  decoder.outputs = {{"logits", "logits"}};
  spec.encoder = encoder;
  spec.decoder = decoder;
  return std::make_shared<Model>(spec, TargetRule{1, {2}});
}

// Cancelled by another thread, as a token is.
class Flag final : public Interruption {
 public:
  bool asked() noexcept override { return flag_.load(std::memory_order_acquire); }
  void set() noexcept { flag_.store(true, std::memory_order_release); }

 private:
  std::atomic<bool> flag_ = false;
};

std::vector<std::vector<int32_t>> sources() {
  std::vector<std::vector<int32_t>> all;
  for (int32_t n = 0; n < 24; ++n) {
    std::vector<int32_t> ids(static_cast<std::size_t>(1 + n % 7));
    std::iota(ids.begin(), ids.end(), n % 4);
    all.push_back(ids);
  }
  return all;
}

bool same(const Hypothesis& a, const Hypothesis& b) {
  return a.ids == b.ids && a.token_log_probs == b.token_log_probs && a.log_prob == b.log_prob &&
         a.score == b.score && a.reason == b.reason;
}

using All = std::vector<std::vector<Hypothesis>>;

void single(const std::shared_ptr<const Model>& model, const std::vector<std::vector<int32_t>>& xs,
            const DecodeRequest& request, const All& expected) {
  Session session(model, "");
  for (std::size_t n = 0; n < xs.size(); ++n) {
    const SourceInput input = {xs[n].data(), nullptr, static_cast<int64_t>(xs[n].size())};
    const Source source = {&input, 1};
    const int32_t limit = 12;
    const auto found = session.decode({&source, 1}, request, {&limit, 1}).sentence(0);
    bool equal = found.size() == expected[n].size();
    for (std::size_t h = 0; equal && h < found.size(); ++h) equal = same(found[h], expected[n][h]);
    check(equal, "a session gives the serial bits");
  }
}

void batched(const std::shared_ptr<const Model>& model, const std::vector<std::vector<int32_t>>& xs,
             const DecodeRequest& request, const All& expected) {
  Session session(model, "");
  Batch batch(session, request);
  std::vector<SourceInput> inputs;
  for (const auto& ids : xs)
    inputs.push_back({ids.data(), nullptr, static_cast<int64_t>(ids.size())});
  std::size_t next = 0, left = 0;
  while (left < xs.size()) {
    for (; next < xs.size() && batch.live() < 5; ++next) {
      const Batch::Sentence sentence = {static_cast<int64_t>(next), {&inputs[next], 1}, 12, {}};
      batch.join({&sentence, 1});
    }
    batch.run(1 << 20);
    for (const Batch::Left& one : batch.take()) {
      const auto& wanted = expected[static_cast<std::size_t>(one.key)];
      bool equal = !one.failure && one.hypotheses.size() == wanted.size();
      for (std::size_t h = 0; equal && h < wanted.size(); ++h)
        equal = same(one.hypotheses[h], wanted[h]);
      check(equal, "a batch gives the serial bits");
      ++left;
    }
  }
}

// One thread decodes until another has cancelled it; then the session decodes as before.
void cancelled(const std::shared_ptr<const Model>& model,
               const std::vector<std::vector<int32_t>>& xs, const DecodeRequest& request,
               const All& expected) {
  Session session(model, "");
  const SourceInput input = {xs[3].data(), nullptr, static_cast<int64_t>(xs[3].size())};
  const Source source = {&input, 1};
  const int32_t limit = 12;
  for (int round = 0; round < 20; ++round) {
    Flag flag;
    std::atomic<bool> inside = false;
    std::thread other([&] {
      while (!inside) std::this_thread::yield();
      flag.set();
    });
    bool stopped = false;
    while (!stopped) {
      inside = true;
      const auto found = session.decode({&source, 1}, request, {&limit, 1}, {}, &flag).sentence(0);
      for (const Hypothesis& h : found) stopped = stopped || h.reason == FinishReason::interrupted;
    }
    other.join();
    const auto found = session.decode({&source, 1}, request, {&limit, 1}).sentence(0);
    check(same(found[0], expected[3][0]), "a cancelled session decodes as before");
  }
}

// Two threads enter one session: one of them is told that it is busy, and nothing else happens.
void contended(const std::shared_ptr<const Model>& model,
               const std::vector<std::vector<int32_t>>& xs, const DecodeRequest& request) {
  Session session(model, "");
  const auto work = [&] {
    const SourceInput input = {xs[5].data(), nullptr, static_cast<int64_t>(xs[5].size())};
    const Source source = {&input, 1};
    const int32_t limit = 12;
    for (int round = 0; round < 50; ++round) {
      try {
        session.decode({&source, 1}, request, {&limit, 1});
      } catch (const Error& error) {
        check(error.kind() == ErrorKind::busy, "a session in use is busy");
      }
    }
  };
  std::thread other(work);
  work();
  other.join();
}

void states(const std::shared_ptr<const Model>& model,
            const std::vector<std::vector<int32_t>>& xs) {
  Session session(model, "");
  const SourceInput input = {xs[6].data(), nullptr, static_cast<int64_t>(xs[6].size())};
  const Source source = {&input, 1};
  DecoderState state(session, source);
  state.feed(1, 0);
  const std::vector<float> kept = state.states();
  const std::vector<float> first = state.feed(3, 1);
  state.feed(4, 2);
  state.restore(kept);
  check(state.feed(3, 1) == first, "a state that is put back gives the same bits");
}

}  // namespace

int main() {
  std::shared_ptr<const Model> model = make_model();
  const auto xs = sources();
  DecodeRequest request;
  request.beam_size = request.num_hypotheses = 3;
  All expected;
  {
    Session session(model, "");
    for (const auto& ids : xs) {
      const SourceInput input = {ids.data(), nullptr, static_cast<int64_t>(ids.size())};
      const Source source = {&input, 1};
      const int32_t limit = 12;
      const auto found = session.decode({&source, 1}, request, {&limit, 1}).sentence(0);
      expected.emplace_back(found.begin(), found.end());
    }
  }
  std::vector<std::thread> threads;
  for (int n = 0; n < 8; ++n)
    threads.emplace_back([model, n, &xs, &request, &expected] {
      for (int round = 0; round < 4; ++round) switch ((n + round) % 5) {
          case 0: single(model, xs, request, expected); break;
          case 1: batched(model, xs, request, expected); break;
          case 2: cancelled(model, xs, request, expected); break;
          case 3: contended(model, xs, request); break;
          default: states(model, xs); break;
        }
    });
  model.reset();  // an engine that is closed while others decode: the last session keeps the model
  for (std::thread& thread : threads) thread.join();
  std::printf("%d failures\n", failures.load());
  return failures == 0 ? 0 : 1;
}
