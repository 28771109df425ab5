// exp and what is made of it: fma, multiply, add, divide and exponent arithmetic only, so that
// every instruction set gives the same bits. NaN gives NaN everywhere. The bounds are measured
// against double precision, over every float (exp, log1p) or every fifth (the others) of the range.

inline constexpr float kInfinity = __builtin_inff();
inline constexpr float kLog2E = 1.44269504F;
inline constexpr float kLn2High = 0x1.62e43p-1F;   // ln 2 rounded to float
inline constexpr float kLn2Low = -1.9046542e-09F;  // ln 2 - kLn2High

// Minimax on |r| <= ln(2) / 2: exp(r) = 1 + r + r^2 (kE2 + kE3 r + ... + kE6 r^4).
inline constexpr float kE2 = 0.5F;
inline constexpr float kE3 = 0.16666543F;
inline constexpr float kE4 = 0.04166628F;
inline constexpr float kE5 = 0.008366584F;
inline constexpr float kE6 = 0.0013946451F;

// What the functions are made of: for pairs, exp's and tanh's, which folds in powers of two.
struct Numbers {
  Constant round = 12582912.0F;  // 1.5 * 2^23: adding it rounds to integer
  Constant one = 1.0F, two = 2.0F, half = 0.5F, minus_half = -0.5F;
  Constant log3 = 0.6666641F, log5 = 0.40021706F, log7 = 0.27999014F, log9 = 0.2802514F;
  Constant log2e[2] = {kLog2E, 2.0F * kLog2E};
  Constant ln2_high[2] = {-kLn2High, -0.5F * kLn2High};
  Constant ln2_low[2] = {-kLn2Low, -0.5F * kLn2Low};
  Constant e2[2] = {kE2, 2.0F * kE2};
  Constant e3[2] = {kE3, 4.0F * kE3};
  Constant e4[2] = {kE4, 8.0F * kE4};
  Constant e5[2] = {kE5, 16.0F * kE5};
  Constant e6[2] = {kE6, 32.0F * kE6};
};
inline Numbers numbers;

// What the ranges of exp and tanh end with.
struct Bounds {
  Bound tanh_end = 10.0F;         // 1 from about 9.1 on
  Bound exp_low = -87.3365402F;   // the last float with exp(x) >= 2^-126
  Bound exp_end = 0x1.62e43p+6F;  // the first float whose exp overflows
  Bound infinity = kInfinity;
};
inline Bounds bounds;

// n = round(x / ln 2), r = x - n ln 2, exp(x) = 2^n exp(r). At most 0.93 ulp; results below
// 2^-126 (x < -87.33654) are flushed to 0, above the range is +inf.
[[gnu::always_inline]] inline V exp(V x) noexcept {
  const V shifted = fma(x, set(numbers.log2e[0]), set(numbers.round));
  const V n = sub(shifted, set(numbers.round));
  const V r = fma(n, set(numbers.ln2_low[0]), fma(n, set(numbers.ln2_high[0]), x));
  V p = fma(set(numbers.e6[0]), r, set(numbers.e5[0]));
  p = fma(p, r, set(numbers.e4[0]));
  p = fma(p, r, set(numbers.e3[0]));
  p = fma(p, r, set(numbers.e2[0]));
  p = fma(p, r, set(1.0F));
  p = fma(p, r, set(1.0F));
  p = add_exponent(p, shifted);
  // x + inf: +inf above the range, NaN for NaN, which is neither less nor greater.
  p = select(less(x, set(bounds.exp_end)), p, add(x, set(bounds.infinity)));
  return select(less(x, set(bounds.exp_low)), zero(), p);
}

// With a = |x|, n = round(2a / ln 2) and r = a - n ln(2) / 2:
// z = (exp(2a) - 1) / 2 = 2^n (exp(2r) - 1) / 2 + (2^n - 1) / 2, tanh = z / (z + 1).
// At most 2.5 ulp everywhere, also near 0; exactly 1 from about 9.1 on (z + 1 rounds to z).
[[gnu::always_inline]] inline V tanh(V x) noexcept {
  const V a = min(set(bounds.tanh_end), abs(x));  // NaN stays
  const V shifted = fma(a, set(numbers.log2e[1]), set(numbers.round));
  const V n = sub(shifted, set(numbers.round));
  const V r = fma(n, set(numbers.ln2_low[1]), fma(n, set(numbers.ln2_high[1]), a));
  V q = fma(set(numbers.e6[1]), r, set(numbers.e5[1]));
  q = fma(q, r, set(numbers.e4[1]));
  q = fma(q, r, set(numbers.e3[1]));
  q = fma(q, r, set(numbers.e2[1]));
  const V half = fma(mul(r, r), q, r);  // (exp(2r) - 1) / 2
  const V power = add_exponent(set(numbers.one), shifted);
  const V z = fma(power, half, fma(power, set(numbers.half), set(numbers.minus_half)));
  return with_sign(div(z, add(z, set(1.0F))), x);
}

// 1 / (1 + exp(-x)): for large negative x the exponential dominates and nothing cancels; 0 where
// exp(-x) overflows. At most 2.5 ulp down to -87.3.
[[gnu::always_inline]] inline V sigmoid(V x) noexcept {
  return div(set(1.0F), add(set(1.0F), exp(negate(x))));
}

// log(1 + y) for 0 <= y <= 1 through s = y / (2 + y): 2 atanh(s) = 2s + s^3 (minimax in s^2).
// At most 2 ulp.
[[gnu::always_inline]] inline V log1p(V y) noexcept {
  const V s = div(y, add(y, set(numbers.two)));
  const V square = mul(s, s);
  V p = fma(set(numbers.log9), square, set(numbers.log7));
  p = fma(p, square, set(numbers.log5));
  p = fma(p, square, set(numbers.log3));
  return fma(mul(s, square), p, add(s, s));
}

// max(x, 0) + log(1 + exp(-|x|)), at most 2.8 ulp down to -87.3.
[[gnu::always_inline]] inline V softplus(V x) noexcept {
  return add(max(set(0.0F), x), log1p(exp(negate(abs(x)))));  // max gives x where x is NaN
}

// min and max return their second operand where it is NaN.
[[gnu::always_inline]] inline V clip_to_unit(V x) noexcept {
  return min(set(1.0F), max(set(0.0F), x));
}

// One activation, known at compile time.
template <Activation kind>
struct Fixed {
  [[gnu::always_inline]] V operator()(V x) const noexcept {
    if constexpr (kind == Activation::tanh) return tanh(x);
    if constexpr (kind == Activation::sigmoid) return sigmoid(x);
    if constexpr (kind == Activation::hard_sigmoid) {
      return clip_to_unit(fma(x, set(0.2F), set(0.5F)));
    }
    if constexpr (kind == Activation::hard_sigmoid_6) {  // within 2^-24 of the division by 6
      return clip_to_unit(fma(x, set(1.0F / 6.0F), set(0.5F)));
    }
    if constexpr (kind == Activation::relu) return max(set(0.0F), x);
    if constexpr (kind == Activation::softplus) return softplus(x);
    return x;
  }
};

// Calls body(Fixed<kind>{}): the choice is made once, outside of the body's loops.
template <class Body>
[[gnu::always_inline]] inline void with_activation(Activation kind, Body body) noexcept {
  switch (kind) {
    case Activation::identity: return body(Fixed<Activation::identity>{});
    case Activation::tanh: return body(Fixed<Activation::tanh>{});
    case Activation::sigmoid: return body(Fixed<Activation::sigmoid>{});
    case Activation::hard_sigmoid: return body(Fixed<Activation::hard_sigmoid>{});
    case Activation::hard_sigmoid_6: return body(Fixed<Activation::hard_sigmoid_6>{});
    case Activation::relu: return body(Fixed<Activation::relu>{});
    case Activation::softplus: return body(Fixed<Activation::softplus>{});
  }
}

// Any activation, chosen at each register: for pairs too rare to have their own loop.
struct Chosen {
  Activation kind;
  [[gnu::noinline]] V operator()(V x) const noexcept {
    with_activation(kind, [&x](auto activation) noexcept { x = activation(x); });
    return x;
  }
};
