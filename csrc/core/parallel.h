// The one place of OpenMP: work items over a team of threads, and what a fork does to the team.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(_OPENMP)
#include <omp.h>
#if !defined(_WIN32)
#include <pthread.h>
#endif
#endif

namespace s2s {

#if defined(_OPENMP)
// True in the child of a fork whose parent had a team: its threads did not come along, and
// entering OpenMP again would wait for them for ever.
inline std::atomic<bool> team_is_dead = false;
inline std::atomic<bool> team_was_used = false;

inline void watch_forks() {
#if !defined(_WIN32)
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { team_is_dead = team_was_used.load(); });
  static_cast<void>(registered);
#endif
}
#endif

// body(item, thread) for item 0 ... count-1 on up to `threads` threads, items handed out in turn.
// The body must not throw. One thread never enters OpenMP.
template <typename Body>
void parallel_for(int64_t count, int threads, const Body& body) noexcept {
#if defined(_OPENMP)
  if (threads > 1 && count > 1 && !team_is_dead) {
    watch_forks();
    team_was_used = true;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t item = 0; item < count; ++item) body(item, omp_get_thread_num());
    return;
  }
#endif
  static_cast<void>(threads);
  for (int64_t item = 0; item < count; ++item) body(item, 0);
}

}  // namespace s2s
