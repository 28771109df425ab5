#include "core/team.h"

#include <algorithm>
#include <cfenv>
#include <chrono>
#include <limits>
#include <mutex>
#include <new>

#include "core/cpus.h"
#include "core/parallel.h"

namespace s2s {
namespace {

constexpr int kSpins = 2000;  // turns of a loop that waits, before it lets others run
constexpr int kYields = 100;  // and before it sleeps

// Whether this thread is among Pool::busy, so that a team within a team does not count it again.
thread_local bool counted = false;

constexpr uint32_t left_of(uint64_t ticket) { return static_cast<uint32_t>(ticket); }

// One turn of waiting for a worker: it may be between two lines of code, or not running.
void wait(int turn) noexcept {
  if (turn < kSpins)
    relax();
  else if (turn < kSpins + kYields)
    std::this_thread::yield();
  else
    std::this_thread::sleep_for(std::chrono::microseconds(20));
}

}  // namespace

// What a part reads first, all at once.
void Share::fetch() const noexcept {
  const auto* at = static_cast<const char*>(body.load(std::memory_order_relaxed));
  const int64_t size = body_size.load(std::memory_order_relaxed);
  for (int64_t n = 0; n < size; n += 64) __builtin_prefetch(at + n);
}

int64_t Share::take() noexcept {
  uint64_t seen = ticket.load(std::memory_order_acquire);
  while (left_of(seen) > 0)
    if (ticket.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel))
      return end - left_of(seen);
  return -1;
}

// While its member and all others have told what they have done.
void Share::open(int64_t begin, int64_t stop, Function what, const void* of,
                 int64_t size) noexcept {
  end = stop;
  function = what;
  body.store(of, std::memory_order_relaxed);
  body_size.store(size, std::memory_order_relaxed);
  done.store(0, std::memory_order_relaxed);
  const uint64_t number = (ticket.load(std::memory_order_relaxed) >> 32) + 1;
  ticket.store(number << 32 | static_cast<uint64_t>(stop - begin), std::memory_order_release);
}

// A thread of the process: of one team, or of none and asleep. It is never freed, and looks at its
// team only while it has not told of a part: the team cannot be done with the work, then.
struct alignas(64) Worker {
  Share share;
  alignas(64) std::atomic<uint32_t> asleep = 0;
  alignas(64) std::atomic<bool> engaged = false;
  Team* team = nullptr;
  int member = 0;
  Worker* next = nullptr;  // in the list of those without a team

  void live() noexcept {
    std::fesetenv(FE_DFL_ENV);
    counted = true;
    for (int turn = 0;;) {
      if (left_of(share.ticket.load(std::memory_order_acquire)) > 0) {
        help();
        turn = 0;
      } else if (const uint32_t asked = share.asked.load(std::memory_order_relaxed);
                 asked != share.answered.load(std::memory_order_relaxed)) {
        share.answered.store(asked, std::memory_order_relaxed);
      } else if (!engaged.load(std::memory_order_acquire) || turn >= kSpins + kYields) {
        sleep();
        turn = 0;
      } else if (turn++ < kSpins) {
        relax();
      } else {
        std::this_thread::yield();
      }
    }
  }

  void help() noexcept;

  // Whoever is the later to change `asleep` knows what the other one did before: this sees the
  // ticket, or wake() sees that it sleeps.
  void sleep() noexcept {
    asleep.exchange(1, std::memory_order_acq_rel);
    if (left_of(share.ticket.load(std::memory_order_acquire)) == 0) asleep.wait(1);
    asleep.store(0, std::memory_order_relaxed);
  }
  void wake() noexcept {
    if (asleep.exchange(0, std::memory_order_acq_rel) == 1) asleep.notify_one();
  }
};

namespace {

// The workers without a team, and how many threads are in teams.
struct Pool {
  std::mutex mutex;
  Worker* idle = nullptr;
  int busy = 0;
};

// Never destroyed: workers may outlive static objects.
Pool& pool() {
  static Pool& only = *[] {
    watch_forks([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); },
                [] {  // the threads did not come along
                  pool().idle = nullptr;
                  pool().busy = 0;
                  pool().mutex.unlock();
                });
    return new Pool;
  }();
  return only;
}

// Up to `count` new workers, behind each other; none where there is no memory or thread left.
Worker* start_workers(int count) noexcept {
  auto* workers = new (std::nothrow) Worker[static_cast<std::size_t>(count)];
  if (workers == nullptr) return nullptr;
  const int started = start_threads(count, [workers](int n) { workers[n].live(); });
  if (started == 0) {
    delete[] workers;
    return nullptr;
  }
  for (int n = 0; n + 1 < started; ++n) workers[n].next = &workers[n + 1];
  return workers;
}

}  // namespace

void Team::resize(int threads, int64_t member_bytes) {
  rest();
  threads_ = threads;
  member_bytes_ = member_bytes;
  workers_.reserve(static_cast<std::size_t>(threads - 1));
}

int Team::members_for(int64_t bytes) noexcept {
  const int64_t members = worth(bytes);
  if (members == 1) return 1;
  const int64_t promise = far_ > 1 ? kFarPromise : kPromise;
  if (missed_ >= kPatience * member_bytes_ || promised_ >= promise * member_bytes_)
    return static_cast<int>(members);
  missed_ += saved(bytes);
  return 1;
}

bool Team::gather() noexcept {
  if (gathered_) return !workers_.empty();
  gathered_ = true;
  Pool& all = pool();
  const std::lock_guard lock(all.mutex);
  caller_ = counted ? 0 : 1;
  const int wanted = std::min(threads_ - 1, usable_cpus() - all.busy - caller_);
  while (static_cast<int>(workers_.size()) < wanted) {
    if (all.idle == nullptr) all.idle = start_workers(wanted - static_cast<int>(workers_.size()));
    if (all.idle == nullptr) break;
    Worker& worker = *all.idle;
    all.idle = worker.next;
    worker.team = this;
    worker.engaged.store(true, std::memory_order_release);
    workers_.push_back(&worker);
    worker.member = static_cast<int>(workers_.size());
  }
  if (workers_.empty()) return false;
  all.busy += caller_ + static_cast<int>(workers_.size());
  counted = true;
  return true;
}

void Team::rest() noexcept {
  if (!workers_.empty() && !came_) found_distance(kNowhere);
  if (far_ > 1 && rests_++ == holds_) far_ = 1;
  gathered_ = came_ = measured_ = false;
  missed_ = promised_ = 0;
  if (workers_.empty()) return;
  Pool& all = pool();
  const std::lock_guard lock(all.mutex);
  all.busy -= caller_ + static_cast<int>(workers_.size());
  if (caller_ == 1) counted = false;
  for (Worker* worker : workers_) {
    worker->engaged.store(false, std::memory_order_release);
    worker->next = all.idle;
    all.idle = worker;
  }
  workers_.clear();
}

Share& Team::share_of(int member) noexcept {
  return member == 0 ? own_ : workers_[static_cast<std::size_t>(member - 1)]->share;
}

void Team::share(int64_t parts, int members, Share::Function function, const void* body,
                 int64_t size) noexcept {
  const int number = static_cast<int>(
      std::min<int64_t>({parts, members, static_cast<int64_t>(workers_.size()) + 1}));
  if (members_ != number) members_ = number;  // or its line stays where workers read it
  for (int member = number - 1; member > 0; --member)
    share_of(member).open(parts * member / number, parts * (member + 1) / number, function, body,
                          size);
  own_.open(1, parts / number, function, body, size);
  for (int member = 1; member < number; ++member)
    workers_[static_cast<std::size_t>(member - 1)]->wake();
  function(body, 0, 0);  // the caller's first part is nobody else's: it need not be taken
  const int64_t mine = 1 + work(0);
  for (int turn = 0;; ++turn) {
    int64_t done = mine;
    for (int member = 1; member < number; ++member)
      done += share_of(member).done.load(std::memory_order_acquire);
    if (done == parts) break;
    wait(turn);
  }
  if (mine == parts) return;
  came_ = true;
  if (!measured_) measure_distance();
}

// While the workers wait, soon after they came; of those that sleep again, another time.
void Team::measure_distance() noexcept {
  using Clock = std::chrono::steady_clock;
  int64_t farthest = 0;
  for (int member = 1; member < members_; ++member) {
    Share& share = share_of(member);
    if (share.done.load(std::memory_order_relaxed) == 0) continue;  // it may be on its way
    const std::atomic<uint32_t>& asleep = workers_[static_cast<std::size_t>(member - 1)]->asleep;
    int64_t nearest = std::numeric_limits<int64_t>::max();
    for (int time = 0; time < 4; ++time) {
      const auto begin = Clock::now();
      const uint32_t question = share.asked.load(std::memory_order_relaxed) + 1;
      share.asked.store(question, std::memory_order_relaxed);
      for (int turn = 0; share.answered.load(std::memory_order_relaxed) != question; ++turn) {
        if (asleep.load(std::memory_order_relaxed) != 0) return;
        if (turn == kSpins) return found_distance(kNowhere);  // perhaps on the caller's CPU
        relax();
      }
      nearest = std::min<int64_t>(nearest, (Clock::now() - begin) / std::chrono::nanoseconds(1));
    }
    farthest = std::max(farthest, nearest);
  }
  found_distance(farthest);
}

void Team::found_distance(int64_t nanoseconds) noexcept {
  measured_ = true;
  far_ = nanoseconds < 3 * kNear ? 1 : nanoseconds / kNear;
  holds_ = far_ == 1 ? 1 : std::min(2 * holds_, kRests);
  rests_ = 0;
}

// Parts of the member's own share, then of the others'.
int64_t Team::work(int member) noexcept {
  int64_t count = 0;
  for (int n = 0; n < members_; ++n) {
    Share& from = share_of((member + n) % members_);
    for (int64_t part = from.take(); part >= 0; part = from.take(), ++count) from.run(part, member);
  }
  return count;
}

void Worker::help() noexcept {
  share.fetch();
  const int64_t part = share.take();
  if (part < 0) return;
  share.run(part, member);
  const int64_t count = 1 + team->work(member);
  share.done.store(count, std::memory_order_release);
}

}  // namespace s2s
