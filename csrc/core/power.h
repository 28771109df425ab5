// exp and powers by IEEE double arithmetic alone, without fma: the same bits with every C library,
// and in s2s_engine/portable.py, which is this file in Python.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace s2s {

// An unevaluated sum, |low| at most half a unit of high.
struct DoublePair {
  double high;
  double low;
};

inline DoublePair exact_sum(double a, double b) noexcept {
  const double sum = a + b;
  const double part = sum - a;
  return {sum, (a - (sum - part)) + (b - part)};
}

// Dekker 1971: halves of 26 bits, whose products are exact.
inline DoublePair exact_product(double a, double b) noexcept {
  constexpr double kSplit = 134217729.0;  // 2^27 + 1
  const double a_high = a * kSplit - (a * kSplit - a), a_low = a - a_high;
  const double b_high = b * kSplit - (b * kSplit - b), b_low = b - b_high;
  const double product = a * b;
  return {product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low};
}

inline constexpr double kLn2Upper = 0x1.62e42feep-1;  // multiples up to 2^20 are exact
inline constexpr double kLn2Lower = 1.90821492927058770002e-10;

// ln x for finite normal x > 0, within 2^-57 of itself: x = 2^e m, ln m = 2 artanh(s) as in
// core/logarithm.h, with s = (m-1)/(m+1) and the sum in pairs.
inline DoublePair logarithm(double x) noexcept {
  constexpr double kSqrt2 = 1.41421356237309504880168872421;
  const auto bits = std::bit_cast<uint64_t>(x);
  auto exponent = static_cast<double>(static_cast<int64_t>(bits >> 52) - 1023);
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);
  if (m >= kSqrt2) {
    m *= 0.5;
    exponent += 1.0;
  }
  const double f = m - 1.0;  // exact, 1/2 <= m <= 2
  const DoublePair d = exact_sum(m, 1.0);
  const double s = f / d.high;
  const DoublePair product = exact_product(s, d.high);
  const double s_low = (((f - product.high) - product.low) - s * d.low) / d.high;
  const double q = s * s;
  double series = 0.0;
  for (int n = 23; n >= 3; n -= 2) series = series * q + 1.0 / n;
  const DoublePair sum = exact_sum(exponent * kLn2Upper, 2.0 * s);
  return exact_sum(sum.high,
                   sum.low + (2.0 * s_low + 2.0 * s * (q * series)) + exponent * kLn2Lower);
}

// exp(high + low) within 1 ulp; 0 below exp(-708), infinity above exp(709).
inline double exponential(double high, double low = 0.0) noexcept {
  constexpr double kLog2E = 1.44269504088896340735992468100;
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to integer
  if (high < -708.0) return 0.0;
  if (high > 709.0) return HUGE_VAL;
  const double n = (high * kLog2E + kRound) - kRound;
  const DoublePair r = exact_sum(high - n * kLn2Upper, low - n * kLn2Lower);
  // 1 / k! for k = 2 ... 13: |r| <= 0.35, the first term left out is below 2^-57.
  constexpr double kInverse[] = {1.0 / 2,        1.0 / 6,         1.0 / 24,
                                 1.0 / 120,      1.0 / 720,       1.0 / 5040,
                                 1.0 / 40320,    1.0 / 362880,    1.0 / 3628800,
                                 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
  double p = 0.0;
  for (int k = 11; k >= 0; --k) p = p * r.high + kInverse[k];
  const double t = r.high + (r.high * r.high * p + r.low);
  return (1.0 + t) *
         std::bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52);
}

// x^y within 1 ulp for normal x > 0 and |y ln x| < 700; x^1 is x.
inline double power(double x, double y) noexcept {
  const DoublePair log = logarithm(x);
  const DoublePair product = exact_product(y, log.high);
  const DoublePair sum = exact_sum(product.high, product.low + y * log.low);
  return exponential(sum.high, sum.low);
}

}  // namespace s2s
