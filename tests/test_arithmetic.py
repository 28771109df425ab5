"""The arithmetic under every result: one rounding per fma, activations within units in the last
place, infinities and NaN. Knows numbers; never what a model means by them."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from fractions import Fraction
from typing import Any

import models
import numpy as np
import pytest
from conftest import ISAS
from models import Weights
from numpy.typing import NDArray

from s2s_engine import Engine, ModelBuilder, NumericalError
from s2s_engine.operations import ACTIVATIONS
from s2s_engine.reference import ACTIVATION

Array = NDArray[np.float32]


def rounded(exact: Fraction) -> float:
    """The float32 nearest to an exact number, ties to even, denormals included."""
    if exact == 0:
        return 0.0
    exponent = abs(exact.numerator).bit_length() - exact.denominator.bit_length()
    if abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    ulp = Fraction(2) ** (max(exponent, -126) - 23)
    value = round(exact / ulp) * ulp
    return (
        float(value) if abs(value) < Fraction(2) ** 128 else float("inf") * (1 if exact > 0 else -1)
    )


def hard_cases() -> tuple[Array, Array, Array]:
    """x (positions), weights and biases (outputs) whose fma double rounding would get wrong."""
    random = np.random.default_rng(0)
    ulp = 2.0**-23
    x = [1 - ulp, 1 + ulp, -(1 - ulp / 2), 1.0, 3 * ulp, -1.5]
    weights, biases = [], []
    # x w is a hair beside half a unit of the bias: 1 -+ 2^-46 and the like against 2^24 + 2j.
    for scale in (0, 60, -60, -120, -126, -140, -149 + 24):
        for j in range(24):
            sign = (-1) ** (j % 2)
            weights.append(sign * (1 + (j - 12) * ulp) * 2.0 ** max(scale, -126))
            biases.append((2.0**24 + 2 * j) * 2.0**scale)
            weights.append(weights[-1])
            biases.append(-(1 + j * ulp) * 2.0 ** max(scale - 24, -149))
    # Exact cancellation but for the last bits, and results among the denormals.
    for _ in range(600):
        w = np.float32(
            random.choice([-1, 1]) * random.uniform(1, 2) * 2.0 ** random.integers(-149, 40)
        )
        weights.append(float(w))
        biases.append(float(np.float32(-float(w) * (1 + random.integers(-3, 4) * ulp))))
    for _ in range(600):
        weights.append(float(random.uniform(-1, 1) * 2.0 ** random.integers(-149, 127)))
        biases.append(float(random.uniform(-1, 1) * 2.0 ** random.integers(-149, 127)))
    arrays = (np.array(values, np.float64).astype(np.float32) for values in (x, weights, biases))
    x32, w32, b32 = arrays
    return x32, w32, b32


def fma(a: Array, b: Array, c: Array) -> Array:
    """a b + c rounded once: the product is exact in double, and the sum is rounded to odd there."""
    product = a.astype(np.float64) * b
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    even = total.view(np.int64) % 2 == 0
    towards = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, towards, total).astype(np.float32)


def test_fma_rounds_once() -> None:
    """1 b + x w, summed from zero: the first term is exact, and the second one by rational
    arithmetic, rounded to float32 once, is what every table gives."""
    x, weights, biases = hard_cases()
    x = np.concatenate([x, x * np.float32(2.0**-100), x * np.float32(2.0**-149)])
    m = ModelBuilder()
    pairs = np.stack([biases, weights], axis=1)
    m.encoder.output(y=m.encoder.linear(m.encoder.input("x", sequence=2), pairs))
    model = m.build()
    exact = np.array(
        [
            [
                rounded(Fraction(float(w)) * Fraction(float(t)) + Fraction(float(b)))
                for w, b in zip(weights, biases, strict=True)
            ]
            for t in x
        ]
    )
    twice = (x[:, None].astype(np.float64) * weights + biases).astype(np.float32)
    assert (twice != exact).sum() > 20, "the cases are too easy: double arithmetic solves them"
    denormal = (exact != 0) & (np.abs(exact) < 2.0**-126)
    assert denormal.sum() > 100
    for isa in ISAS:
        features = np.stack([np.ones_like(x), x], axis=1)
        found = Engine.load(model, isa=isa).encode(features=features)["y"]
        assert np.array_equal(found.astype(np.float64), exact), isa


@pytest.mark.parametrize("sizes", [(1,), (64,), (65,), (200, 7), (3, 130)])
def test_products_are_sums_of_blocks(sizes: tuple[int, ...]) -> None:
    """Blocks of 64 terms within each joined value, each one chain of fma from zero, are added to
    the bias one after another: bit by bit, for one row and for tiles of every height."""
    random = np.random.default_rng(len(sizes) + sum(sizes))
    outputs, rows = 40, 23
    x = [random.standard_normal((rows, size)).astype(np.float32) for size in sizes]
    weights = [random.standard_normal((outputs, size)).astype(np.float32) for size in sizes]
    bias = random.standard_normal(outputs).astype(np.float32)
    total = np.broadcast_to(bias, (rows, outputs))
    for part, weight in zip(x, weights, strict=True):
        for begin in range(0, part.shape[1], 64):
            block = np.zeros((rows, outputs), np.float32)
            for k in range(begin, min(begin + 64, part.shape[1])):
                block = fma(part[:, k, None], weight[None, :, k], block)
            total = total + block
    m = ModelBuilder()
    e = m.encoder
    whole = e.input("x", sequence=sum(sizes))
    ends = np.cumsum(sizes)
    parts = [
        e.slice(whole, int(end - size), int(end)) for size, end in zip(sizes, ends, strict=True)
    ]
    e.output(y=e.linear(parts, np.concatenate(weights, axis=1), bias))
    model = m.build()
    features = np.concatenate(x, axis=1)
    for isa in ISAS:
        engine = Engine.load(model, isa=isa)
        for count in range(1, rows + 1):
            found = engine.encode(features=features[:count])["y"]
            assert found.tobytes() == total[:count].tobytes(), (isa, count)


# --- activations ---

# Units in the last place that csrc/kernels/math.inl promises; the clipped ones add one fma and
# the rounding of 1/6.
ULPS = {"identity": 0.0, "relu": 0.0, "tanh": 2.5, "sigmoid": 2.5, "softplus": 2.8,
        "hard_sigmoid": 1.0, "hard_sigmoid_6": 1.0}  # fmt: skip
# Below, exp(x) is flushed: results there are within the smallest normal number.
FLUSHED = -87.3


def sweep() -> Array:
    """Floats of every magnitude, dense where the functions bend."""
    bits = np.arange(0, 0x7F800000, 0x7F800000 // 12_000, dtype=np.uint32).view(np.float32)
    line = np.linspace(-20, 20, 25_000, dtype=np.float32)
    edges = np.linspace(86, 90, 4_000, dtype=np.float32)
    every = np.concatenate([bits, -bits, line, edges, -edges])
    return np.ascontiguousarray(every[: len(every) // 32 * 32].reshape(-1, 32))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_within_its_ulps(name: str) -> None:
    x = sweep()
    m = ModelBuilder()
    m.encoder.output(y=m.encoder.activation(m.encoder.input("x", sequence=32), name))
    model = m.build()
    runs = [Engine.load(model, isa=isa).encode(features=x)["y"] for isa in ISAS]
    assert all(run.tobytes() == runs[0].tobytes() for run in runs)
    exact = ACTIVATION[name](x.astype(np.float64))
    # hard_sigmoid_6 multiplies by the float32 1/6 before the 0.5 is added: off by 2^-25 or less.
    unit = np.spacing(np.maximum(np.abs(exact), 2.0**-126).astype(np.float32)).astype(np.float64)
    unit = np.maximum(unit, 2.0**-25) if name.startswith("hard") else unit
    error = np.abs(runs[0] - exact) / unit
    error = np.where((x < FLUSHED) & (np.abs(exact) <= 2.0**-125), 0.0, error)
    assert error.max() <= ULPS[name] + 0.01, x.ravel()[error.argmax()]
    low = (x < FLUSHED) & (np.abs(exact) <= 2.0**-125)
    assert np.abs(runs[0].astype(np.float64) - exact)[low].max(initial=0.0) <= 2.0**-125


LIMITS = {
    "identity": (-np.inf, np.inf), "tanh": (-1, 1), "sigmoid": (0, 1), "hard_sigmoid": (0, 1),
    "hard_sigmoid_6": (0, 1), "relu": (0, np.inf), "softplus": (0, np.inf),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_infinities_and_nan(name: str, isa: str) -> None:
    """Inputs are finite, but a product can overflow."""
    m = ModelBuilder()
    e = m.encoder
    huge = e.linear(e.input("x", vector=1), np.array([[-3e38], [3e38]], np.float32))
    nan = e.add(e.slice(huge, 0, 1), e.slice(huge, 1, 2))
    e.output(limits=e.activation(huge, name), nan=e.activation(nan, name),
             fused=e.linear(huge, np.eye(2, dtype=np.float32), activation=name))  # fmt: skip
    out = Engine.load(m.build(), isa=isa).encode(features=np.array([10.0]))
    assert tuple(out["limits"]) == LIMITS[name]
    assert np.isnan(out["nan"]).all()
    assert np.isnan(out["fused"]).all()  # 0 * inf


@pytest.mark.parametrize(("first", "step"), [(3e38, 0), (1.0, 2), (1e30, 1)])
def test_logits_that_overflow_are_an_error_that_names_the_step(
    isa: str, first: float, step: int
) -> None:
    """A state that grows by 1e25 a step, doubled for the logits: 1, 1e25, then beyond 3.4e38."""
    w = Weights(0)
    m = ModelBuilder(source=4, target=5)
    e, d = m.encoder, m.decoder
    e.output(h=e.linear(e.pool(e.embedding(e.tokens, w(4, 3)), "sum"), np.zeros((1, 3)), [first]))
    grown = d.state("grown", initial="h")
    d.next(grown=d.linear(grown, np.array([[1e25]])))
    d.output(logits=d.linear(grown, np.full((5, 1), 2.0)))
    engine = Engine.load(m.build(start=0), isa=isa)
    for beam in (1, 3):
        with pytest.raises(NumericalError, match=f"the logits of step {step} of sentence 0 hold"):
            engine.decode([1, 2], max_length=6, beam_size=beam)


# --- the caller's floating-point environment ---


def libm() -> Any:
    return ctypes.CDLL("libm.so.6")


DOWNWARD, UPWARD, TOWARD_ZERO = 0x400, 0x800, 0xC00


def everything(model: Any, isa: str, threads: int = 1) -> list[bytes]:
    engine = Engine.load(model, isa=isa, threads=threads)
    result = engine.decode([3, 4, 5], beam_size=3, num_hypotheses=3)
    batch = engine.decode_batch([[3, 4], [5], [6, 7, 8]], batch_size=1)
    found = [h.token_log_probs.tobytes() for h in result.hypotheses]
    found += [h.token_log_probs.tobytes() for r in batch for h in r.hypotheses]
    return [
        *found,
        engine.encode([3, 4])["h"].tobytes(),
        engine.score([3], [4]).token_log_probs.tobytes(),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads glibc's rounding modes")
@pytest.mark.parametrize("mode", [DOWNWARD, UPWARD, TOWARD_ZERO])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_rounding_mode_is_not_obeyed_and_is_kept(
    isa: str, mode: int, threads: int
) -> None:
    model = models.lstm_luong()
    expected = everything(model, isa, threads)
    math = libm()
    try:
        assert math.fesetround(mode) == 0
        found = everything(model, isa, threads)
        kept = math.fegetround()
    finally:
        math.fesetround(0)
    assert kept == mode
    assert found == expected


FLUSH = """
import ctypes, sys
import numpy as np
from s2s_engine import Engine, ModelBuilder
m = ModelBuilder()
x = m.encoder.input("x", sequence=1)
m.encoder.output(y=m.encoder.linear(x, np.array([[2.0**-70]], np.float32)))
engine = Engine.load(m.build(), isa=sys.argv[1])
given = np.array([[2.0**-70]], np.float32)
before = engine.encode(features=given)["y"]
assert 0 < before[0, 0] < 2.0**-126
libm = ctypes.CDLL("libm.so.6")
class Environment(ctypes.Structure):
    _fields_ = [("x87", ctypes.c_uint32 * 7), ("mxcsr", ctypes.c_uint32)]
e = Environment()
libm.fegetenv(ctypes.byref(e))
e.mxcsr |= 0x8040  # flush to zero, denormals are zero
libm.fesetenv(ctypes.byref(e))
after = engine.encode(features=given)["y"].tobytes()
kept = Environment()
libm.fegetenv(ctypes.byref(kept))
assert kept.mxcsr & 0x8040 == 0x8040, hex(kept.mxcsr)
assert after == before.tobytes()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads glibc's environment on x86-64")
def test_the_callers_flush_to_zero_is_not_obeyed_and_is_kept(isa: str) -> None:
    # In a process of its own: NumPy warns of flush-to-zero.
    subprocess.run([sys.executable, "-c", FLUSH, isa], check=True, timeout=60)
