// Threads that share the parts of one piece of work after another. Knows parts and their number;
// never what a part computes.
//
// A team takes its workers from the process at the first work that is worth them and gives them
// back at rest(). In between they wait for work by spinning for a short while; at rest they sleep.
// Every member, the caller among them, has a share of the parts; who is through with its own takes
// from the others, so that a worker that the system does not run delays nobody but by the part that
// it has begun. No more threads work in teams at once than there are CPUs for them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace s2s {

struct Worker;

// A member's share of the work at hand. All that a worker waits for and then needs to know of it
// lies in this line: a line takes some 25 ns from one CPU to another, and 200 where they have no
// cache in common.
struct alignas(64) Share {
  using Function = void (*)(const void* body, int64_t part, int member) noexcept;

  int64_t take() noexcept;  // a part of it, or -1: none is left
  void open(int64_t begin, int64_t stop, Function what, const void* of, int64_t size) noexcept;
  void fetch() const noexcept;
  void run(int64_t part, int member) const noexcept {
    function(body.load(std::memory_order_relaxed), part, member);
  }

  // The number of the work in its high half, what is left of the share in its low one.
  std::atomic<uint64_t> ticket = 0;
  // Constant while a part is not done: the number behind the last part, and what a part is.
  int64_t end = 0;
  Function function = nullptr;
  std::atomic<const void*> body = nullptr;
  std::atomic<int64_t> body_size = 0;
  // Parts of any share that its member has done: told when it finds no other.
  std::atomic<int64_t> done = 0;
  // A question without a part, and its answer.
  std::atomic<uint32_t> asked = 0, answered = 0;
};

class Team {
 public:
  // What is worth a member, in bytes of weights that one row streams through a product (some 100 in
  // a nanosecond): sharing takes a fraction of a microsecond.
  static constexpr int64_t kMemberBytes = int64_t{1} << 16;
  // Waking a worker takes the caller some three microseconds, and it comes seven later. So nobody
  // is woken before a second member would have saved, or is known to save, so many members' bytes:
  // what was done alone without it may have been all, what is to come will be.
  static constexpr int64_t kPatience = 24;
  // A far worker has less of the weights in its caches, too: more must be sure.
  static constexpr int64_t kPromise = 8, kFarPromise = 24;
  // Nanoseconds in which a line goes to a worker and comes back where both share a cache. Where it
  // takes longer, sharing does, and a member must be worth as many times the bytes; a worker that
  // did not come or answer, as where its CPU is taken, is nowhere. The system may move threads at
  // any time: what is found holds for two rests, if found again for four, and so on up to kRests.
  static constexpr int64_t kNear = 45, kNowhere = kNear << 24;
  static constexpr int kRests = 256;

  explicit Team(int threads, int64_t member_bytes = kMemberBytes) { resize(threads, member_bytes); }
  ~Team() { rest(); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // At most `threads` members, the caller among them. While the team rests.
  void resize(int threads, int64_t member_bytes);
  int threads() const noexcept { return threads_; }

  // The members that work of so many bytes would be worth.
  int64_t worth(int64_t bytes) const noexcept {
    return std::clamp<int64_t>(bytes / (member_bytes_ * far_), 1, threads_);
  }
  // The members that work of so many bytes is worth, which the caller is about to do.
  int members_for(int64_t bytes) noexcept;
  // The caller is about to do work of so many bytes so many times; -1: once less than it said.
  void promise(int64_t bytes, int64_t times) noexcept { promised_ += saved(bytes) * times; }

  // body(part, member) for part 0 ... parts-1, once each, on up to `members` threads; returns when
  // all are done. The body must not throw.
  template <typename Body>
  void run(int64_t parts, int members, const Body& body) noexcept {
    if (members > 1 && parts > 1 && gather()) {
      const auto call = [](const void* self, int64_t part, int member) noexcept {
        (*static_cast<const Body*>(self))(part, member);
      };
      return share(parts, members, call, &body, sizeof body);
    }
    for (int64_t part = 0; part < parts; ++part) body(part, 0);
  }

  // A line goes to the farthest worker and comes back in so many nanoseconds.
  void found_distance(int64_t nanoseconds) noexcept;

  // Workers go back to the process and to sleep, until the next run(). By the thread that ran.
  void rest() noexcept;

 private:
  friend struct Worker;

  // What a second member takes off the caller, less what sharing takes, in bytes.
  int64_t saved(int64_t bytes) const noexcept {
    const int64_t worth = member_bytes_ * far_;
    return bytes < 2 * worth ? 0 : bytes / 2 - worth / 3;
  }
  bool gather() noexcept;
  void measure_distance() noexcept;
  void share(int64_t parts, int members, Share::Function function, const void* body,
             int64_t size) noexcept;
  int64_t work(int member) noexcept;
  Share& share_of(int member) noexcept;

  int threads_ = 1;
  int64_t member_bytes_ = kMemberBytes;
  // Since the last rest: what a second member would have saved, and will save at least.
  int64_t missed_ = 0, promised_ = 0;
  int64_t far_ = 1;                       // times kNear, when it was last found
  int rests_ = 0, holds_ = 1;             // since then, and for how many
  bool came_ = false, measured_ = false;  // a worker; how far they are, since the last rest
  bool gathered_ = false;
  int caller_ = 0;  // 1: this team counts its caller as busy
  std::vector<Worker*> workers_;

  int members_ = 0;  // of the work at hand
  Share own_;
};

}  // namespace s2s
