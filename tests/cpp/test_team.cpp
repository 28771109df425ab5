// Tests of the team and of a session that shares its products, for the thread sanitizer, too: built
// without OpenMP (cmake --preset threads), whose barriers it does not know.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "check.h"
#include "core/cpus.h"
#include "core/team.h"
#include "engine/session.h"

namespace {

using namespace s2s;

constexpr int64_t kLarge = int64_t{1} << 40;  // bytes that are worth every member

void test_every_part_is_done_once() {
  Team team(4, 1);
  std::vector<int> done;
  for (int64_t parts = 0; parts < 300; ++parts) {
    done.assign(static_cast<std::size_t>(parts), 0);
    const auto body = [&](int64_t part, int member) noexcept {
      CHECK(member >= 0 && member < 4);
      ++done[static_cast<std::size_t>(part)];
    };
    team.run(parts, 1 + static_cast<int>(parts % 4), body);
    CHECK(std::accumulate(done.begin(), done.end(), int64_t{0}) == parts);
    for (const int times : done) CHECK(times == 1);
    if (parts % 16 == 0) team.rest();
  }
}

// Every part waits until all have begun: only as many threads as parts can do this.
void test_all_members_work_at_once() {
  for (int threads = 2; threads <= 6; ++threads) {
    Team team(threads, 1);
    for (int round = 0; round < 20; ++round) {
      std::atomic<int> begun = 0;
      std::array<std::atomic<int>, 6> parts_of = {};
      team.run(threads, threads, [&](int64_t, int member) noexcept {
        ++parts_of[static_cast<std::size_t>(member)];
        ++begun;
        while (begun < threads) std::this_thread::yield();
      });
      for (int member = 0; member < threads; ++member)
        CHECK(parts_of[static_cast<std::size_t>(member)] == 1);
    }
  }
}

// Workers that get stuck in the first part that they begin: the caller does all others, those of
// their shares, too, and waits for no more than that one part of each.
void test_a_stuck_worker_holds_up_one_part() {
  constexpr int64_t kParts = 40;
  for (const int threads : {2, 3, 5}) {
    Team team(threads, 1);
    for (int round = 0; round < 50; ++round) {
      std::atomic<int64_t> begun = 0, done = 0;
      std::vector<std::atomic<int64_t>> parts_of(static_cast<std::size_t>(threads));
      team.run(kParts, threads, [&](int64_t, int member) noexcept {
        ++parts_of[static_cast<std::size_t>(member)];
        if (member > 0) {
          ++begun;
          while (done + begun < kParts) std::this_thread::yield();
          return;
        }
        // as long as a worker may be stuck, the caller goes on by itself
        if (done == 0)
          for (int turn = 0; turn < 100000 && begun < threads - 1; ++turn)
            std::this_thread::yield();
        ++done;
      });
      CHECK(done + begun == kParts);
      for (int member = 1; member < threads; ++member)
        CHECK(parts_of[static_cast<std::size_t>(member)] <= 1);
    }
  }
}

void test_work_is_shared_by_size_and_after_work_alone() {
  Team team(8, 1000);
  CHECK(team.members_for(1999) == 1);
  CHECK(team.members_for(kLarge) == 1);  // the first one
  CHECK(team.members_for(1999) == 1);
  CHECK(team.members_for(2000) == 2);
  CHECK(team.members_for(7999) == 7);
  CHECK(team.members_for(kLarge) == 8);
  team.rest();
  const int64_t saved = 2000 / 2 - 1000 / 3;  // by a second member, each time
  for (int64_t missed = 0; missed < Team::kPatience * 1000; missed += saved)
    CHECK(team.members_for(2000) == 1);
  CHECK(team.members_for(2000) == 2);
  team.rest();
  team.promise(1999, 1 << 20);  // never worth two members
  CHECK(team.members_for(2000) == 1);
  team.promise(2000, Team::kPromise * 1000 / saved);
  CHECK(team.members_for(2000) == 1);
  team.promise(2000, 1);
  CHECK(team.members_for(2000) == 2);
  Team alone(1, 1);
  for (int n = 0; n < 3; ++n) CHECK(alone.members_for(kLarge) == 1);
}

void test_far_workers_take_what_is_worth_the_way() {
  Team team(2, 1000);
  team.promise(kLarge, 1);
  CHECK(team.members_for(2000) == 2);
  team.found_distance(3 * Team::kNear - 1);
  CHECK(team.members_for(2000) == 2);
  team.found_distance(8 * Team::kNear);
  CHECK(team.members_for(15999) == 1);
  CHECK(team.members_for(16000) == 2);
  team.rest();
  team.found_distance(0);
  for (int round = 0, holds = 2; round < 12; ++round, holds = std::min(2 * holds, Team::kRests)) {
    team.found_distance(8 * Team::kNear);
    for (int rests = 0; rests <= holds + 1; ++rests) {
      const bool far = rests <= holds;
      team.promise(15999, 1 << 20);  // worth nothing to a far worker
      CHECK(team.members_for(1 << 20) == (far ? 1 : 2));
      team.promise(kLarge, 1);
      CHECK(team.members_for(2000) == (far ? 1 : 2));
      team.rest();
    }
  }
}

// Workers that did not come are not waited for the next times.
void test_workers_that_do_not_come_are_nowhere() {
  Team team(2, 1);
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> came = false;
    team.run(2, 2, [&](int64_t, int member) noexcept {
      if (member > 0) came = true;
    });
    team.rest();
    team.promise(kLarge, 1);
    if (!came) CHECK(team.members_for(1 << 20) == 1);
    team.found_distance(0);
    team.rest();
  }
}

// The distance is asked of a worker that has just been there. On one CPU nobody answers while
// another one asks, so that the worker is sent to another; a second time for whoever was held up.
void test_a_distance_is_measured() {
#if defined(__linux__)
  cpu_set_t all;
  if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2) return;
  Team team(2, 1);
  const auto together = [&] {
    std::atomic<int> begun = 0, caller = -1;
    team.run(2, 2, [&](int64_t, int member) noexcept {
      ++begun;
      if (member == 0) caller = sched_getcpu();
      while (begun < 2 || caller < 0) std::this_thread::yield();
      cpu_set_t others = all;
      CPU_CLR(static_cast<std::size_t>(caller), &others);
      if (member == 1) CHECK(sched_setaffinity(0, sizeof others, &others) == 0);
    });
  };
  for (int round = 0; round < 20; ++round) {
    team.found_distance(1 << 30);
    team.promise(kLarge, 1);
    CHECK(team.members_for(1 << 20) == 1);
    for (int again = 1; again < Team::kRests && team.members_for(1 << 20) == 1; ++again) {
      team.rest();
      team.promise(kLarge, 1);
      together();
    }
    CHECK(team.members_for(1 << 20) == 2);
    team.rest();
  }
  team.run(2, 2, [&](int64_t, int) noexcept { sched_setaffinity(0, sizeof all, &all); });
#endif
}

void test_teams_together_take_no_more_threads_than_there_are_cpus() {
  assume_cpus(3);
  std::atomic<int> members = 0;
  const auto most = [&](int64_t, int member) noexcept {
    int seen = members;
    while (member > seen && !members.compare_exchange_weak(seen, member)) {
    }
  };
  {
    Team first(3, 1), second(3, 1);
    first.run(100, 3, most);
    CHECK(members <= 2);
    std::vector<int> done(100);  // all CPUs are taken: the caller alone
    const std::thread::id here = std::this_thread::get_id();
    second.run(100, 3, [&](int64_t, int member) noexcept {
      CHECK(member == 0 && std::this_thread::get_id() == here);
    });
  }
  assume_cpus(1);
  Team third(3, 1);
  third.run(100, 3, [&](int64_t, int member) noexcept { CHECK(member == 0); });
  assume_cpus(8);
}

// Two members of a team with a team of two each are four threads on four CPUs, not more.
void test_a_team_in_a_team_counts_nobody_twice() {
  assume_cpus(4);
  for (int round = 0; round < 20; ++round) {
    Team outer(2, 1);
    std::atomic<int> begun = 0;
    outer.run(2, 2, [&](int64_t, int) noexcept {
      Team inner(2, 1);
      inner.run(2, 2, [&](int64_t, int) noexcept {
        ++begun;
        while (begun < 4) std::this_thread::yield();
      });
    });
    CHECK(begun == 4);
  }
  assume_cpus(8);
}

void test_many_teams_and_teams_in_teams() {
  const auto work = [] {
    for (int round = 0; round < 200; ++round) {
      Team team(1 + round % 4, 1);
      std::atomic<int64_t> sum = 0;
      team.run(20, 4, [&](int64_t part, int) noexcept {
        Team inner(2, 1);
        std::atomic<int64_t> within = 0;
        inner.run(4, 2, [&](int64_t n, int) noexcept { within += n; });
        sum += part + within;
      });
      CHECK(sum == 190 + 20 * 6);
    }
  };
  std::vector<std::thread> threads;
  for (int n = 0; n < 4; ++n) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

// --- a session ---

constexpr int64_t kSource = 7, kTarget = 150, kSize = 70;

class Weights {
 public:
  Tensor operator()(std::vector<int64_t> shape, ComputeType type) {
    const int64_t size =
        std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    auto& data = kept_.emplace_back(static_cast<std::size_t>(size));
    for (float& x : data) {
      state_ = state_ * 6364136223846793005U + 1442695040888963407U;
      x = (static_cast<float>(state_ >> 40) / 8388608.0F - 1.0F) * 0.5F;
    }
    return {std::move(shape), data.data(), type};
  }

 private:
  uint64_t state_ = 1;
  std::vector<std::vector<float>> kept_;
};

// A GRU encoder whose last state starts a GRU decoder.
std::shared_ptr<const Model> make_model(ComputeType type) {
  Weights weights;
  ModelSpec spec;
  auto& t = spec.tensors;
  const auto cell = [&](const std::string& name, int64_t inputs) {
    t[name + ".ih"] = weights({3 * kSize, inputs}, type);
    t[name + ".hh"] = weights({3 * kSize, kSize}, type);
  };
  const auto attributes = [](bool layer) {
    std::map<std::string, Attribute> all = {{"activation", std::string("tanh")},
                                            {"gate_activation", std::string("sigmoid")},
                                            {"reset", std::string("before")}};
    if (layer) all["direction"] = std::string("forward");
    return all;
  };
  t["source"] = weights({kSource, kSize}, ComputeType::float32);
  t["target"] = weights({kTarget, kSize}, ComputeType::float32);
  t["output"] = weights({kTarget, kSize}, type);
  cell("encoder", kSize);
  cell("decoder", kSize);
  const std::map<std::string, Attribute> scale = {{"scale", 1.0}};
  spec.encoder = GraphSpec{
      .inputs = {{"tokens", {Kind::ids, kSource}}},
      .states = {},
      .nodes = {{"x", "embedding", {{"x", {"tokens"}}}, {{"weight", "source"}}, scale, nullptr},
                {"layer",
                 "gru",
                 {{"x", {"x"}}},
                 {{"weight_ih", "encoder.ih"}, {"weight_hh", "encoder.hh"}},
                 attributes(true),
                 nullptr}},
      .outputs = {{"h", "layer.h"}}};
  spec.decoder = GraphSpec{
      .inputs = {{"token", {Kind::id, kTarget}}},
      .states = {{"h", {{Kind::vector, kSize}, "encoder.h", "cell"}}},
      .nodes = {{"x", "embedding", {{"x", {"token"}}}, {{"weight", "target"}}, scale, nullptr},
                {"cell",
                 "gru_cell",
                 {{"x", {"x"}}, {"h", {"state.h"}}},
                 {{"weight_ih", "decoder.ih"}, {"weight_hh", "decoder.hh"}},
                 attributes(false),
                 nullptr},
                {"logits",
                 "linear",
                 {{"x", {"cell"}}},
                 {{"weight", "output"}},
                 {{"activation", std::string("identity")}},
                 nullptr}},
      .outputs = {{"logits", "logits"}}};
  return std::make_shared<const Model>(spec, TargetRule{1, {2}});
}

bool same(const Hypothesis& a, const Hypothesis& b) {
  return a.ids == b.ids && a.log_prob == b.log_prob && a.token_log_probs == b.token_log_probs;
}

void test_a_session_gives_the_same_bits_on_any_number_of_threads() {
  constexpr std::size_t kSources = 6;
  std::vector<std::vector<int32_t>> ids;
  std::vector<SourceInput> inputs;
  for (std::size_t n = 0; n < kSources; ++n) ids.emplace_back(n + 1, static_cast<int32_t>(n));
  for (const auto& one : ids)
    inputs.push_back({one.data(), nullptr, static_cast<int64_t>(one.size())});
  std::vector<Source> sources;
  for (const SourceInput& input : inputs) sources.emplace_back(&input, 1);
  const std::vector<int32_t> limits(kSources, 6);
  for (const ComputeType type : {ComputeType::float32, ComputeType::bfloat16, ComputeType::int8}) {
    const auto model = make_model(type);
    for (const int32_t beam : {1, 3}) {
      const DecodeRequest request = {beam, beam, false, {}};
      std::vector<std::vector<Hypothesis>> expected;  // of each source, alone on one thread
      for (const int threads : {1, 2, 5}) {
        Session session(model, "", threads, 1);
        for (const std::size_t size : {std::size_t{1}, std::size_t{2}, kSources}) {
          for (std::size_t first = 0; first < kSources; first += size) {
            const SearchResults& found =
                session.decode({&sources[first], size}, request, {&limits[first], size});
            for (std::size_t s = 0; s < size; ++s) {
              const std::span<const Hypothesis> one = found.sentence(static_cast<int32_t>(s));
              if (threads == 1 && size == 1) expected.emplace_back(one.begin(), one.end());
              const std::vector<Hypothesis>& wanted = expected[first + s];
              CHECK(one.size() == static_cast<std::size_t>(beam) && one.size() == wanted.size());
              CHECK(std::equal(one.begin(), one.end(), wanted.begin(), wanted.end(), same));
            }
          }
        }
      }
    }
  }
}

}  // namespace

int main() {
  assume_cpus(8);
  test_every_part_is_done_once();
  test_all_members_work_at_once();
  test_a_stuck_worker_holds_up_one_part();
  test_work_is_shared_by_size_and_after_work_alone();
  test_far_workers_take_what_is_worth_the_way();
  test_workers_that_do_not_come_are_nowhere();
  test_a_distance_is_measured();
  test_teams_together_take_no_more_threads_than_there_are_cpus();
  test_a_team_in_a_team_counts_nobody_twice();
  test_many_teams_and_teams_in_teams();
  test_a_session_gives_the_same_bits_on_any_number_of_threads();
  return counted();
}
