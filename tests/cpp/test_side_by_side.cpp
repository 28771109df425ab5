// Tests of what runs side by side: which steps, in which order, on which threads.
#include "graph/side_by_side.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "core/cpus.h"
#include "core/isa.h"

namespace {

using namespace s2s;

constexpr int kTurns = 20000;  // of waiting for another thread, each of them a pause

// What layers write down of their run.
struct Book {
  std::atomic<int> begun = 0, together = 0, stopped = 0, teams = 0;
  std::atomic<bool> asked_elsewhere = false;
};

// Waits until `wanted` of them have begun, or, at last, no longer.
class Waiting final : public Layer {
 public:
  Waiting(Book& book, int wanted, int64_t bytes) : book_(book), wanted_(wanted), bytes_(bytes) {}
  int64_t positions(const Frame&) const noexcept override { return 4; }
  int64_t position_bytes(const Frame&) const noexcept override { return bytes_; }
  void run(const Context& context) const noexcept override {
    ++book_.begun;
    if (context.team != nullptr) ++book_.teams;
    for (int turn = 0; turn < kTurns && book_.begun < wanted_; ++turn)
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    if (book_.begun >= wanted_) ++book_.together;
    for (int32_t t = 0; t < kTurns; t += 8) {
      if (context.interrupted(t)) {
        ++book_.stopped;
        return;
      }
      if (context.interruption != nullptr && wanted_ > 1)
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

 private:
  Book& book_;
  int wanted_;
  int64_t bytes_;
};

class Other final : public Op {
 public:
  void run(const Context&) const noexcept override {}
};

// Says that a call must end, to one thread alone.
class Stop final : public Interruption {
 public:
  explicit Stop(Book& book) : book_(book) {}
  bool asked() noexcept override {
    if (std::this_thread::get_id() != here_) book_.asked_elsewhere = true;
    return true;
  }

 private:
  Book& book_;
  std::thread::id here_ = std::this_thread::get_id();
};

Step step(std::unique_ptr<Op> op, std::vector<SlotId> reads, std::vector<SlotId> writes,
          const std::string& node, Level level = Level::sentence) {
  return {std::move(op), level, std::move(reads), std::move(writes), node};
}

std::string names(const std::vector<Step>& steps) {
  std::string all;
  for (const Step& one : steps) all += (all.empty() ? "" : ", ") + one.node;
  return all;
}

void test_what_waits_for_nothing_between_runs_together() {
  Book book;
  const auto layer = [&] { return std::make_unique<Waiting>(book, 1, 1); };
  const auto other = [] { return std::make_unique<Other>(); };
  std::vector<Step> steps;  // two layers of two directions, each with its own order
  steps.push_back(step(other(), {0}, {1}, "embed"));
  steps.push_back(step(layer(), {1}, {2}, "f1"));
  steps.push_back(step(layer(), {1, 2}, {3}, "f2"));
  steps.push_back(step(layer(), {1}, {4}, "b1"));
  steps.push_back(step(other(), {2, 3}, {5}, "joined"));
  steps.push_back(step(layer(), {4}, {6}, "b2"));
  steps.push_back(step(layer(), {5}, {7}, "after"));
  steps.push_back(step(layer(), {1}, {8}, "c1"));
  steps = side_by_side(std::move(steps));
  CHECK(names(steps) == "embed, f1 + b1 + c1, f2 + b2, joined, after");
  CHECK(steps[1].reads == (std::vector<SlotId>{1, 1, 1}));
  CHECK(steps[1].writes == (std::vector<SlotId>{2, 4, 8}));
  for (const Step& one : steps) CHECK(one.op != nullptr && one.level == Level::sentence);

  std::vector<Step> chain;
  chain.push_back(step(layer(), {0}, {1}, "a"));
  chain.push_back(step(other(), {1}, {2}, "between"));
  chain.push_back(step(layer(), {2}, {3}, "b"));
  chain.push_back(step(layer(), {0}, {4}, "of the rows", Level::row));
  CHECK(names(side_by_side(std::move(chain))) == "a, between, b, of the rows");
  CHECK(side_by_side({}).empty());
}

// Layers of so many bytes, which wait for `wanted` of them; what they wrote down.
void run(Book& book, int layers, int wanted, int64_t bytes, Team* team,
         Interruption* interruption = nullptr) {
  std::vector<Step> steps;
  for (int n = 0; n < layers; ++n)
    steps.push_back(step(std::make_unique<Waiting>(book, wanted, bytes), {0}, {n + 1}, "layer"));
  steps = side_by_side(std::move(steps));
  CHECK(steps.size() == 1);
  const Frame frame;
  const Kernels& kernels = kernels_for(available_isas().back());
  steps.front().op->run({kernels, frame, frame, nullptr, team, interruption});
  CHECK(book.begun == layers);
}

void test_members_take_a_layer_each() {
  for (int round = 0; round < 5; ++round) {
    Book book;
    Team team(2, 100);
    run(book, 2, 2, 1000, &team);
    CHECK(book.together == 2 && book.teams == 0);
  }
}

// Nobody is asked for what is worth no second member, or by a team of one; and where more members
// than layers are worth their while, these share what a position multiplies.
void test_the_caller_takes_them_in_order() {
  Team two(2, 100), three(3, 100), alone(1, 1);
  Book small, large, one, none;
  run(small, 2, 1, 40, &two);
  CHECK(small.teams == 2);
  run(large, 2, 1, 1000, &three);
  CHECK(large.teams == 2);
  run(one, 2, 1, 1000, &alone);
  CHECK(one.teams == 2);
  run(none, 2, 1, 1000, nullptr);
  CHECK(none.teams == 0);
}

// The call's own interruption is asked by the caller; the others hear of it.
void test_an_interruption_reaches_all_members() {
  Book book;
  Team team(2, 100);
  Stop stop(book);
  run(book, 2, 2, 1000, &team, &stop);
  CHECK(book.together == 2 && book.stopped == 2 && !book.asked_elsewhere);
  Book alone;
  Stop again(alone);
  run(alone, 3, 1, 1000, nullptr, &again);
  CHECK(alone.stopped == 3 && !alone.asked_elsewhere);
}

}  // namespace

int main() {
  assume_cpus(8);
  test_what_waits_for_nothing_between_runs_together();
  test_members_take_a_layer_each();
  test_the_caller_takes_them_in_order();
  test_an_interruption_reaches_all_members();
  return counted();
}
