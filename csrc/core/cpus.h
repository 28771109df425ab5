// How many CPUs the threads of this process may take: what affinity, control groups and
// OMP_THREAD_LIMIT leave. Knows files and numbers; never what the threads do.
#pragma once

#include <string>

namespace s2s {

// What a machine leaves to a process; 0 where nothing is said.
struct Limits {
  int allowed = 1;       // CPUs of the thread's affinity
  double quota = 0.0;    // CPUs' worth of time, of the control group
  int thread_limit = 0;  // OMP_THREAD_LIMIT
};

// The least of the limits, at least 1; a part of a CPU is none.
int usable(const Limits& limits) noexcept;

// The least quota of a control group and those above it, 0 where there is none. `groups` is
// /proc/self/cgroup or a file like it, `mount` where control groups are mounted (version 2, or 1).
double group_quota(const std::string& groups, const std::string& mount);

// usable() here and now. Quota and OMP_THREAD_LIMIT are read by the first call.
int usable_cpus() noexcept;
// From now on usable_cpus() is `count`; 0: what it is. For tests of more threads than CPUs.
void assume_cpus(int count) noexcept;

}  // namespace s2s
