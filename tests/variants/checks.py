"""What every variant's test does: the C++ core on every instruction set against the float64
reference, and the reference against an oracle. Knows results; never wirings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from s2s_engine import Engine, Model, _core
from s2s_engine.results import Result

Array: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
Weights: TypeAlias = dict[str, Array]
Shapes: TypeAlias = dict[str, tuple[int, ...]]
# The keywords of decode() that give one source: x, features or inputs.
Case: TypeAlias = Mapping[str, Any]
# (case, ids fed from the start id on) to logits (steps, V) and, where there is attention, weights
# (steps, S) or (heads, steps, S).
Oracle: TypeAlias = Callable[[Case, list[int]], tuple[Any, Any]]

ISAS = tuple(_core.available_isas())
SOURCE, TARGET, START, END, E, H = 11, 9, 1, 2, 5, 7
# The core rounds to 2^-24 some hundred times on numbers of order 1.
CLOSE = 1e-5
# The oracles compute in float64; float attributes are float32 in both executors.
EXACT = 1e-6


def row(*ids: str, case: str = "", values: Sequence[Any]) -> Any:
    """A parameter set that executes rows of variants.md."""
    marks = [pytest.mark.variant(one) for one in ids]
    return pytest.param(*values, id=" ".join([*ids, case]).strip(), marks=marks)


def random_weights(seed: int, shapes: Mapping[str, tuple[int, ...]], scale: float = 0.6) -> Weights:
    random = np.random.default_rng(seed)
    return {
        name: np.asarray(random.standard_normal(shape) * scale, np.float32)
        for name, shape in shapes.items()
    }


def cell_shapes(
    name: str, gates: int, inputs: int, hidden: int, *, biases: Sequence[str] = ("ih", "hh")
) -> Shapes:
    """GRU: 3 gates, LSTM: 4, RNN: 1."""
    return {
        f"{name}.weight_ih": (gates * hidden, inputs),
        f"{name}.weight_hh": (gates * hidden, hidden),
        **{f"{name}.bias_{which}": (gates * hidden,) for which in biases},
    }


def double(w: Weights) -> dict[str, Float64]:
    return {name: np.asarray(array, np.float64) for name, array in w.items()}


def sources(*lengths: int, seed: int = 0) -> list[Case]:
    random = np.random.default_rng(seed)
    return [{"x": random.integers(0, SOURCE, n).tolist()} for n in lengths or (1, 4, 9)]


def difference(a: Any, b: Any) -> float:
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a - b).max(initial=0.0))


def check_decoder(
    model: Model,
    cases: Sequence[Case],
    oracle: Oracle | None = None,
    *,
    beam_size: int = 5,
    heads: int = 1,
    **options: Any,
) -> None:
    """The core equals the reference: logits of forced targets, greedy and beam paths, attention;
    all instruction sets, and a ragged batch, give the same bits; both equal the oracle where there
    is one."""
    options = {"max_length": 8} | options
    reference = model.reference()
    maps = "alignment" in model.graphs["decoder"].outputs
    size = model.graphs["decoder"].inputs["token"].size
    start = -1 if model.start is None else model.start
    engines = [Engine.load(model, isa=isa) for isa in ISAS]
    forced: list[int] = np.random.default_rng(5).integers(0, size, 6).tolist()
    differing, alone = [], list[Result]()
    width: dict[str, Any] = {"beam_size": beam_size, "num_hypotheses": beam_size}
    for case in cases:
        greedy = reference.decode(**case, return_attention=maps, **options)
        beams = reference.decode(**case, **width, **options)
        for target in (greedy.ids, forced):
            given = {name: value for name, value in case.items() if name != "x"}
            steps = reference.trace(case.get("x"), target, **given).steps
            outputs = model.graphs["decoder"].outputs
            logits = outputs.get("logits") or outputs["log_probabilities"]
            expected = np.stack([values[logits] for values in steps])
            if oracle is not None:
                other, _ = oracle(case, [start, *target])
                assert difference(expected, other) <= EXACT
            found = [engine.forced_logits(case.get("x"), target, **given) for engine in engines]
            apart = difference(found[0], expected)
            assert apart <= CLOSE, f"{apart} on logits up to {np.abs(expected).max()}"
            assert all(np.array_equal(found[0], one) for one in found[1:])
        differing.append(expected)  # of the target that is the same for all sources
        if oracle is not None:
            check_oracle_path(case, greedy, oracle, start, model.end)
        if maps:
            length = len(case["x"]) if "x" in case else None
            check_map(greedy, length, heads)
        one = [engine.decode(**case, return_attention=maps, **options) for engine in engines]
        several = [engine.decode(**case, **width, **options) for engine in engines]
        assert_same_hypotheses(one[0], greedy)
        assert_same_hypotheses(several[0], beams)
        for results in (one, several):
            assert all(bits(result) == bits(results[0]) for result in results[1:])
        alone.append(several[0])
    if all("x" in case for case in cases):
        together = engines[-1].decode_batch([case["x"] for case in cases], **width, **options)
        assert [bits(result) for result in together] == [bits(result) for result in alone]
    if "encoder" in model.graphs:
        apart = max(difference(one, differing[0]) for one in differing)
        assert apart > 100 * CLOSE, "the logits do not depend on the source"


def assert_same_hypotheses(found: Result, expected: Result) -> None:
    """The paths are identical; what belongs to them is close."""
    assert [h.ids for h in found.hypotheses] == [h.ids for h in expected.hypotheses]
    for one, other in zip(found.hypotheses, expected.hypotheses, strict=True):
        assert difference(one.token_log_probs, other.token_log_probs) <= 2 * CLOSE
        if other.attention is not None:
            assert difference(one.attention, other.attention) <= CLOSE


def bits(result: Result) -> list[tuple[Any, ...]]:
    return [
        (h.ids, h.log_prob, h.token_log_probs.tobytes(),
         None if h.attention is None else h.attention.tobytes())
        for h in result.hypotheses
    ]  # fmt: skip


def check_oracle_path(
    case: Case, greedy: Any, oracle: Oracle, start: int, end: Sequence[int]
) -> None:
    """The oracle's own greedy loop takes the same path with the same attention."""
    fed, ids = [start], list[int]()
    rows = len(greedy.hypotheses[0].token_log_probs)
    for _ in range(rows):
        logits, _ = oracle(case, fed)
        ids.append(int(np.argmax(np.asarray(logits)[-1])))
        fed.append(ids[-1])
    assert [i for i in ids if i not in end] == greedy.ids
    if greedy.attention is not None:
        _, weights = oracle(case, fed[:-1])
        assert difference(greedy.attention, weights) <= EXACT


def check_map(greedy: Any, length: int | None, heads: int) -> None:
    """(target, source), or (heads, target, source)."""
    rows = len(greedy.hypotheses[0].token_log_probs)
    assert greedy.attention.ndim == (2 if heads == 1 else 3)
    assert heads == 1 or greedy.attention.shape[0] == heads
    assert greedy.attention.shape[-2] == rows
    assert length is None or greedy.attention.shape[-1] == length


def check_encoder(
    model: Model,
    cases: Sequence[Case],
    oracle: Callable[[Case], Mapping[str, Any]] | None = None,
) -> None:
    """Every output of an encoder: the core equals the reference on every instruction set, and both
    equal the oracle's outputs, where there is one; with logits, the labels are the same."""
    reference = model.reference()
    engines = [Engine.load(model, isa=isa) for isa in ISAS]
    for case in cases:
        expected = reference.encode(**case)
        if oracle is not None:
            for name, value in oracle(case).items():
                assert difference(expected[name], value) <= EXACT, name
        found = [engine.encode(**case) for engine in engines]
        for name, value in expected.items():
            assert difference(found[0][name], value) <= CLOSE, name
            assert all(np.array_equal(found[0][name], one[name]) for one in found[1:])
        if "logits" in expected:
            labels = reference.decode(**case).ids
            assert all(engine.decode(**case).ids == labels for engine in engines)
