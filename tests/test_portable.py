"""exp, ln and powers that machines agree on: against high precision, and the core's against the
package's. Knows numbers; never what they score."""

from __future__ import annotations

import math
import random
from decimal import Decimal, localcontext

from tables import loaded

from s2s_engine.portable import exponential, logarithm, power


def units(found: float, exact: Decimal) -> float:
    """The error in units in the last place."""
    return float(abs(Decimal(found) - exact) / Decimal(math.ulp(found)))


def arguments() -> list[tuple[float, float]]:
    """Bases and exponents of length penalties."""
    rng = random.Random(0)
    lengths = [*range(1, 40), *(rng.randint(40, 1_000_000) for _ in range(60)), 1_000_000]
    alphas = [-10.0, -1.0, -0.5, 0.5, 0.6, 1.0, 1.5, 2.0, 10.0]
    alphas += [rng.uniform(-10, 10) for _ in range(12)]
    bases = [float(n) for n in lengths] + [(5.0 + n) / 6.0 for n in lengths]
    return [(base, alpha) for base in bases for alpha in alphas]


def test_powers_and_what_they_are_made_of_are_within_one_unit() -> None:
    with localcontext() as context:
        context.prec = 50
        for base, alpha in arguments():
            log = Decimal(base).ln()
            exact = (Decimal(alpha) * log).exp()
            assert units(power(base, alpha), exact) < 1, (base, alpha)
            assert units(exponential(alpha), Decimal(alpha).exp()) < 1
            high, low = logarithm(base)
            if base != 1:
                assert abs((Decimal(high) + Decimal(low)) / log - 1) < Decimal(2) ** -56
                assert units(high, log) < 0.501


def test_what_is_exact() -> None:
    assert logarithm(1.0) == (0.0, 0.0)
    assert exponential(0.0) == 1.0
    assert exponential(-709.0) == 0.0 and exponential(710.0) == math.inf
    assert exponential(-math.inf) == 0.0
    for n in range(1, 3000):
        assert power(float(n), 1.0) == n and power(float(n), 2.0) == n * n
        assert power(float(n), 0.0) == 1.0


def test_the_core_scores_with_the_same_powers() -> None:
    """Log-probabilities are alike, so that equal bits of scores are equal bits of powers."""
    engine, _ = loaded(0, vocabulary=3)
    rng = random.Random(1)
    for _ in range(3000):
        ids = [rng.choice((1, 2)) for _ in range(rng.randint(0, 14))]
        alpha, kind = rng.uniform(-10, 10), rng.choice(("power", "gnmt"))
        found = engine.score([1], ids, length_penalty=alpha, length_penalty_kind=kind)
        length = len(ids) + 1.0
        divisor = power(length if kind == "power" else (5.0 + length) / 6.0, alpha)
        assert found.score.hex() == (found.log_prob / divisor).hex()
