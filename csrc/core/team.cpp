#include "core/team.h"

#include <algorithm>
#include <cfenv>
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

// Takes one part of a share. `left` tells how many there were; 0: none.
bool take(std::atomic<uint64_t>& ticket, uint32_t& left) noexcept {
  uint64_t seen = ticket.load(std::memory_order_acquire);
  while (left_of(seen) > 0)
    if (ticket.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel)) {
      left = left_of(seen);
      return true;
    }
  return false;
}

}  // namespace

// A thread of the process: of one team, or of none and asleep. It is never freed.
struct alignas(64) Worker {
  // A change of the ticket is all that a worker waits for. It looks at its team only while it holds
  // a part: the team cannot be done with the work, then.
  std::atomic<uint64_t> ticket = 0;
  std::atomic<uint32_t> asleep = 0;
  std::atomic<bool> engaged = false;
  Team* team = nullptr;
  int member = 0;
  Worker* next = nullptr;  // in the list of those without a team

  void live() noexcept {
    std::fesetenv(FE_DFL_ENV);
    counted = true;
    for (int turn = 0;;) {
      if (left_of(ticket.load(std::memory_order_acquire)) > 0) {
        help();
        turn = 0;
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

  void sleep() noexcept {
    asleep.store(1);
    // Either this sees the ticket, or wake() sees `asleep`: both are sequentially consistent.
    if (left_of(ticket.load()) == 0) asleep.wait(1);
    asleep.store(0);
  }
  void wake() noexcept {
    if (asleep.load() == 0) return;
    asleep.store(0);
    asleep.notify_one();
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
  const int64_t members = std::min<int64_t>(threads_, bytes / member_bytes_);
  if (members < 2) return 1;
  if (missed_ >= kPatience * member_bytes_ || promised_ >= kPromise * member_bytes_)
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
  gathered_ = false;
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

std::atomic<uint64_t>& Team::ticket(int member) noexcept {
  return member == 0 ? own_ : workers_[static_cast<std::size_t>(member - 1)]->ticket;
}

void Team::share(int64_t parts, int members, Function function, const void* body) noexcept {
  function_ = function;
  body_ = body;
  parts_ = parts;
  members_ = static_cast<int>(
      std::min<int64_t>({parts, members, static_cast<int64_t>(workers_.size()) + 1}));
  left_.store(static_cast<int32_t>(parts), std::memory_order_relaxed);
  for (int member = members_ - 1; member >= 0; --member) {
    const int64_t size = end_of(member) - end_of(member - 1);
    std::atomic<uint64_t>& at = ticket(member);
    const uint64_t number = (at.load(std::memory_order_relaxed) >> 32) + 1;
    at.store(number << 32 | static_cast<uint64_t>(size));
    if (member > 0) workers_[static_cast<std::size_t>(member - 1)]->wake();
  }
  done(work(0));
  for (int turn = 0;; ++turn) {
    const int32_t left = left_.load(std::memory_order_acquire);
    if (left == 0) return;
    if (turn < kSpins)
      relax();
    else if (turn < kSpins + kYields)
      std::this_thread::yield();
    else
      left_.wait(left, std::memory_order_acquire);
  }
}

// Parts of the member's own share, then of the others'.
int32_t Team::work(int member) noexcept {
  int32_t count = 0;
  for (int n = 0; n < members_; ++n) {
    const int owner = (member + n) % members_;
    for (uint32_t left = 0; take(ticket(owner), left); ++count)
      function_(body_, end_of(owner) - left, member);
  }
  return count;
}

// The last look of a worker at its team: with no part left, the team may be gone.
void Team::done(int32_t parts) noexcept {
  if (left_.fetch_sub(parts, std::memory_order_acq_rel) == parts) left_.notify_one();
}

void Worker::help() noexcept {
  uint32_t left = 0;
  if (!take(ticket, left)) return;
  Team& mine = *team;
  mine.function_(mine.body_, mine.end_of(member) - left, member);
  mine.done(1 + mine.work(member));
}

}  // namespace s2s
