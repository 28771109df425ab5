// Threads that share the parts of one piece of work after another. Knows parts and their number;
// never what a part computes.
//
// A team takes its workers from the process at the first work that is worth them and gives them
// back at rest(). In between they wait for work by spinning for a short while; at rest they sleep.
// Every member, the caller among them, has a share of the parts; who is through with its own takes
// from the others, so that a worker that the system does not run delays nobody but by the part that
// it has begun. No more threads work in teams at once than there are CPUs for them.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace s2s {

struct Worker;

class Team {
 public:
  // What is worth a member, in bytes of weights that one row streams through a product (some 100 in
  // a nanosecond): sharing takes a fraction of a microsecond.
  static constexpr int64_t kMemberBytes = int64_t{1} << 16;
  // Waking a worker takes the caller some three microseconds, and it comes seven later; there are
  // runs in which every decode that wakes one takes 60 longer, why is not known. So nobody is woken
  // before a second member would have saved, or is known to save, so many members' bytes: what was
  // done alone without it may have been all, what is to come will be.
  static constexpr int64_t kPatience = 80;
  static constexpr int64_t kPromise = 40;

  explicit Team(int threads, int64_t member_bytes = kMemberBytes) { resize(threads, member_bytes); }
  ~Team() { rest(); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // At most `threads` members, the caller among them. While the team rests.
  void resize(int threads, int64_t member_bytes);
  int threads() const noexcept { return threads_; }

  // The members that work of so many bytes is worth, which the caller is about to do.
  int members_for(int64_t bytes) noexcept;
  // The caller is about to do work of so many bytes so many times.
  void promise(int64_t bytes, int64_t times) noexcept { promised_ += saved(bytes) * times; }

  // body(part, member) for part 0 ... parts-1, once each, on up to `members` threads; returns when
  // all are done. The body must not throw.
  template <typename Body>
  void run(int64_t parts, int members, const Body& body) noexcept {
    if (members > 1 && parts > 1 && gather()) {
      const auto call = [](const void* self, int64_t part, int member) noexcept {
        (*static_cast<const Body*>(self))(part, member);
      };
      return share(parts, members, call, &body);
    }
    for (int64_t part = 0; part < parts; ++part) body(part, 0);
  }

  // Workers go back to the process and to sleep, until the next run(). By the thread that ran.
  void rest() noexcept;

 private:
  friend struct Worker;
  using Function = void (*)(const void* body, int64_t part, int member) noexcept;

  // What a second member takes off the caller, less what sharing takes, in bytes.
  int64_t saved(int64_t bytes) const noexcept {
    return bytes < 2 * member_bytes_ ? 0 : bytes / 2 - member_bytes_ / 3;
  }
  bool gather() noexcept;
  void share(int64_t parts, int members, Function function, const void* body) noexcept;
  int32_t work(int member) noexcept;
  void done(int32_t parts) noexcept;
  int64_t end_of(int member) const noexcept { return parts_ * (member + 1) / members_; }
  std::atomic<uint64_t>& ticket(int member) noexcept;

  int threads_ = 1;
  int64_t member_bytes_ = kMemberBytes;
  // Since the last rest: what a second member would have saved, and will save at least.
  int64_t missed_ = 0, promised_ = 0;
  bool gathered_ = false;
  int caller_ = 0;  // 1: this team counts its caller as busy
  std::vector<Worker*> workers_;

  // The work at hand: constant while a part of it is not done.
  Function function_ = nullptr;
  const void* body_ = nullptr;
  int64_t parts_ = 0;
  int members_ = 0;

  // A ticket: the number of the work in its high half, what is left of a share in its low one.
  alignas(64) std::atomic<uint64_t> own_ = 0;
  alignas(64) std::atomic<int32_t> left_ = 0;  // parts that are not done
};

}  // namespace s2s
