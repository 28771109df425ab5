"""exp, ln and powers of floats that give the bits of the core on every machine: csrc/core/power.h
step by step, in IEEE double arithmetic alone. Knows numbers; never what they score."""

from __future__ import annotations

import math

_LN2_UPPER = float.fromhex("0x1.62e42feep-1")  # multiples up to 2^20 are exact
_LN2_LOWER = 1.90821492927058770002e-10
_LOG2_E = 1.44269504088896340735992468100
_SQRT_2 = 1.41421356237309504880168872421
_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to integer
_SPLIT = 134217729.0  # 2^27 + 1
_INVERSE = [1.0 / math.factorial(k) for k in range(2, 14)]


def _exact_sum(a: float, b: float) -> tuple[float, float]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _exact_product(a: float, b: float) -> tuple[float, float]:
    """Dekker 1971: halves of 26 bits, whose products are exact."""
    a_high = a * _SPLIT - (a * _SPLIT - a)
    b_high = b * _SPLIT - (b * _SPLIT - b)
    a_low, b_low = a - a_high, b - b_high
    product = a * b
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def logarithm(x: float) -> tuple[float, float]:
    """ln x as an unevaluated sum (high, low), for finite normal x > 0."""
    m, exponent = math.frexp(x)
    m, exponent = 2.0 * m, exponent - 1
    if m >= _SQRT_2:
        m, exponent = 0.5 * m, exponent + 1
    d_high, d_low = _exact_sum(m, 1.0)
    f = m - 1.0
    s = f / d_high
    high, low = _exact_product(s, d_high)
    s_low = (((f - high) - low) - s * d_low) / d_high
    q = s * s
    series = 0.0
    for n in range(23, 2, -2):
        series = series * q + 1.0 / n
    total, rest = _exact_sum(exponent * _LN2_UPPER, 2.0 * s)
    return _exact_sum(total, rest + (2.0 * s_low + 2.0 * s * (q * series)) + exponent * _LN2_LOWER)


def exponential(high: float, low: float = 0.0) -> float:
    """exp(high + low) within 1 ulp; 0 below exp(-708), infinity above exp(709)."""
    if high < -708.0:
        return 0.0
    if high > 709.0:
        return math.inf
    n = (high * _LOG2_E + _ROUND) - _ROUND
    r, r_low = _exact_sum(high - n * _LN2_UPPER, low - n * _LN2_LOWER)
    p = 0.0
    for inverse in reversed(_INVERSE):
        p = p * r + inverse
    return math.ldexp(1.0 + (r + (r * r * p + r_low)), int(n))


def power(x: float, y: float) -> float:
    """x ** y within 1 ulp, for normal x > 0 and |y ln x| < 700; x ** 1 is x."""
    log, log_low = logarithm(x)
    product, product_low = _exact_product(y, log)
    return exponential(*_exact_sum(product, product_low + y * log_low))
