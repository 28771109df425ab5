#include "core/isa.h"

#include <cstdlib>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "core/errors.h"

namespace s2s {
namespace {

struct Level {
  const Kernels* kernels;
  bool runs;
};

// __builtin_cpu_supports includes the operating system's support for the registers.
std::vector<Level> levels() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  return {{&kPortable, true}, {&kAvx2, avx2}, {&kAvx512, avx512}, {&kAvx512Vnni, vnni}};
#elif defined(__aarch64__)
#if defined(__linux__)
  const bool dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  const bool dot = false;  // not asked for on other systems
#endif
  return {{&kPortable, true}, {&kNeon, true}, {&kNeonDot, dot}};
#else
  return {{&kPortable, true}};
#endif
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Level& level : levels())
    if (level.runs) names.emplace_back(level.kernels->isa);
  return names;
}

const Kernels& kernels_for(const std::string& name) {
  const char* variable = std::getenv("S2S_ISA");
  const std::string wanted = !name.empty() ? name : variable != nullptr ? variable : "";
  const Kernels* best = nullptr;
  std::string known;
  for (const Level& level : levels()) {
    if (!level.runs) continue;
    if (wanted == level.kernels->isa) return *level.kernels;
    best = level.kernels;
    known += (known.empty() ? "" : ", ") + std::string(level.kernels->isa);
  }
  if (wanted.empty()) return *best;
  throw Error(ErrorKind::unsupported_isa,
              "instruction set '" + wanted + "' (" + (name.empty() ? "S2S_ISA" : "isa") +
                  ") is not available on this machine; available: " + known);
}

}  // namespace s2s
