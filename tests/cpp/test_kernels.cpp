// Every kernel of every instruction set that runs here: the bits of `portable`, and what plain C++
// computes.
#include <cstdio>
#include <string>

#include "core/isa.h"
#include "more_kernel_cases.h"

namespace {

uint32_t bits(float x) { return std::isnan(x) ? 0x7FC00000U : std::bit_cast<uint32_t>(x); }

int failures = 0;

void fail(const std::string& what, std::size_t number, const char* isa, const std::string& how) {
  if (++failures <= 20)
    std::printf("%s, case %zu, %s: %s\n", what.c_str(), number, isa, how.c_str());
}

void compare(const cases::Case& one, std::size_t number, const char* isa, const cases::Floats& got,
             const cases::Floats& portable) {
  if (got.size() != portable.size()) return fail(one.name, number, isa, "wrote behind a row");
  for (std::size_t i = 0; i < got.size(); ++i)
    if (bits(got[i]) != bits(portable[i]))
      return fail(one.name, number, isa,
                  "element " + std::to_string(i) + " is " + std::to_string(got[i]) +
                      ", on portable " + std::to_string(portable[i]));
}

void check(const cases::Case& one, std::size_t number, const cases::Floats& got) {
  if (!one.expected) return;
  const std::vector<double> expected = one.expected();
  if (got.size() != expected.size()) return fail(one.name, number, "portable", "wrote too far");
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double distance = std::fabs(got[i] - expected[i]);
    const bool both_nan = std::isnan(got[i]) && std::isnan(expected[i]);
    if (!both_nan && !(distance <= one.bound * std::max(1.0, std::fabs(expected[i]))))
      return fail(one.name, number, "portable",
                  "element " + std::to_string(i) + " is " + std::to_string(got[i]) +
                      ", plain C++ gives " + std::to_string(expected[i]));
  }
}

}  // namespace

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::stoi(arguments[1]) : 300;
  const std::vector<cases::Case> all = cases::all(rounds, 1);
  const std::vector<std::string> isas = s2s::available_isas();
  for (std::size_t n = 0; n < all.size(); ++n) {
    const cases::Floats portable = all[n].run(s2s::kPortable);
    if (portable.empty()) fail(all[n].name, n, "portable", "gave nothing");
    check(all[n], n, portable);
    for (const std::string& isa : isas)
      compare(all[n], n, isa.c_str(), all[n].run(s2s::kernels_for(isa)), portable);
  }
  std::printf("%zu cases on %zu instruction sets, %d failures\n", all.size(), isas.size(),
              failures);
  return failures == 0 ? 0 : 1;
}
