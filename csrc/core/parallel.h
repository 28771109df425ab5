// The one place of OpenMP and of what operating systems and CPUs do differently about threads:
// starting them, pausing one, counting the CPUs that it may use, forks. Knows nothing of work.
#pragma once

#include <algorithm>
#include <exception>
#include <thread>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

namespace s2s {

// What a loop that waits does in each turn, so that it takes little from the CPU's other thread.
inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// The CPUs that the calling thread may run on.
inline int allowed_cpus() noexcept {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
#endif
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

// `before` and `after` run around every fork from now on, `in_child` in the child in place of
// `after`.
inline void watch_forks(void (*before)(), void (*after)(), void (*in_child)()) noexcept {
#if !defined(_WIN32)
  pthread_atfork(before, after, in_child);
#else
  static_cast<void>(before), static_cast<void>(after), static_cast<void>(in_child);
#endif
}

// Starts threads that run body(0) ... body(count - 1), are never waited for and take no signals.
// Returns how many: fewer where the system has no more of them. They are the team of one OpenMP
// region that a thread of its own enters and never leaves: a team that left its region would spin
// for milliseconds before it sleeps, and a fork would leave the caller's OpenMP without threads.
template <typename Body>
int start_threads(int count, Body body) noexcept {
#if !defined(_WIN32)
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
  int started = 0;
  try {
#if defined(_OPENMP)
    std::thread([count, body] {
      omp_set_dynamic(0);
#pragma omp parallel num_threads(count)
      body(omp_get_thread_num());
    }).detach();
    started = count;
#else
    for (; started < count; ++started) std::thread(body, started).detach();
#endif
  } catch (const std::exception&) {  // no thread, or no memory for one
  }
#if !defined(_WIN32)
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  return started;
}

}  // namespace s2s
