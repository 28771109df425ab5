#include "core/cpus.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <fstream>

#include "core/parallel.h"

namespace s2s {
namespace {

std::atomic<int> assumed = 0;

// CPUs of one group: "quota period" in one file, or each in its own; "max" or -1 is no quota.
double quota_in(const std::string& both, const std::string& quota, const std::string& period) {
  std::ifstream files[] = {std::ifstream(both), std::ifstream(quota), std::ifstream(period)};
  double time = 0.0, of = 0.0;
  if (!(files[0] >> time >> of) && !(files[1] >> time && files[2] >> of)) return 0.0;
  return time > 0.0 && of > 0.0 ? time / of : 0.0;
}

// `path` and every folder above it, down to the mount itself.
double least_quota(const std::string& mount, std::string path) {
  double least = 0.0;
  for (;;) {
    const std::string folder = mount + path + "/";
    const double quota =
        quota_in(folder + "cpu.max", folder + "cpu.cfs_quota_us", folder + "cpu.cfs_period_us");
    if (quota > 0.0 && (least == 0.0 || quota < least)) least = quota;
    if (path.empty()) return least;
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

Limits fixed_limits() noexcept {
  Limits limits;
  try {
    limits.quota = group_quota("/proc/self/cgroup", "/sys/fs/cgroup");
  } catch (const std::exception&) {  // what cannot be read is no limit
  }
  const char* limit = std::getenv("OMP_THREAD_LIMIT");
  if (limit != nullptr) limits.thread_limit = std::max(std::atoi(limit), 0);
  return limits;
}

}  // namespace

int usable(const Limits& limits) noexcept {
  int count = limits.allowed;
  if (limits.quota > 0.0 && limits.quota < count) count = static_cast<int>(limits.quota);
  if (limits.thread_limit > 0) count = std::min(count, limits.thread_limit);
  return std::max(count, 1);
}

// Lines are "number:controllers:path"; version 2 has number 0 and no controllers.
double group_quota(const std::string& groups, const std::string& mount) {
  std::ifstream file(groups);
  double least = 0.0;
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    const bool version_1 = ("," + controllers + ",").find(",cpu,") != std::string::npos;
    if (!version_1 && !controllers.empty()) continue;
    const double quota = least_quota(version_1 ? mount + "/" + controllers : mount, path);
    if (quota > 0.0 && (least == 0.0 || quota < least)) least = quota;
  }
  return least;
}

int usable_cpus() noexcept {
  if (const int count = assumed.load(std::memory_order_relaxed); count > 0) return count;
  static const Limits fixed = fixed_limits();
  Limits limits = fixed;
  limits.allowed = allowed_cpus();
  return usable(limits);
}

void assume_cpus(int count) noexcept { assumed = count; }

}  // namespace s2s
