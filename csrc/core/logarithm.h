// The natural logarithm by IEEE double arithmetic alone: the same bits with every C library.
#pragma once

#include <bit>
#include <cstdint>

namespace s2s {

// ln x for finite normal x > 0: x = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh(s),
// s = (m-1)/(m+1), |s| < 0.172; the first term left out is below s^25 * 2/25 < 1e-20.
inline double natural_log(double x) noexcept {
  constexpr double kLn2 = 0.693147180559945309417232121458;
  constexpr double kSqrt2 = 1.41421356237309504880168872421;
  const auto bits = std::bit_cast<uint64_t>(x);
  auto exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);
  if (m >= kSqrt2) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double q = s * s;
  double series = 0.0;
  for (int n = 23; n >= 1; n -= 2) series = series * q + 1.0 / n;
  return static_cast<double>(exponent) * kLn2 + 2.0 * s * series;
}

}  // namespace s2s
