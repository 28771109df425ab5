"""Random graphs in the C++ core against the float64 reference on every instruction set, batches
against sentences alone, and what these graphs reach. Knows bounds; never how a graph is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from checks import ISAS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_graphs import random_inputs, random_model

from s2s_engine import Engine, Model, ModelBuilder, NumericalError
from s2s_engine.graph import Graph, Node
from s2s_engine.operations import OPERATIONS, Choice, Flag
from s2s_engine.reference import Reference, Trace

SEEDS = range(300)
LENGTHS = (1, 2, 5, 11)
TARGET = [0, 3, 5, 2]
# A value of a graph is the end of at most some thousand roundings of 2^-24 of numbers as large.
ROUNDING = 2.0**-24 * 256
# How many times as far as a move of every weight by one unit in the last place may carry a value
# the core's roundings may: a unit for each of the operations that a weight's value goes through.
SENSITIVITY = 64
TOO_LARGE = 1e4


def moved(model: Model) -> Model:
    """The model with every weight at the next float32, up or down."""
    random = np.random.default_rng(0)
    tensors = {
        name: np.nextafter(
            w, np.where(random.random(w.shape) < 0.5, -np.inf, np.inf), dtype=w.dtype
        )
        for name, w in model.tensors.items()
    }
    return replace(model, tensors=tensors)


def bound(values: NDArray[Any], other: NDArray[Any], scale: float) -> float:
    """How far the core may be away: rounding, and what the graph makes of rounding."""
    return ROUNDING * max(1.0, scale) + SENSITIVITY * float(np.abs(values - other).max(initial=0.0))


def largest(trace: Trace) -> float:
    """The largest magnitude of a value on the way; infinite where one is no number."""
    parts = [trace.encoder, *trace.steps]
    values = [np.abs(v).max() for part in parts for v in part.values() if v.size]
    return float(max(values)) if np.isfinite(values).all() else math.inf


def outputs(model: Model, trace: Trace) -> dict[str, NDArray[Any]]:
    """What the core gives of the same run: encoder outputs, logits and alignments."""
    graphs = model.graphs
    found = {n: trace.encoder[r] for n, r in graphs["encoder"].outputs.items()}
    for name, reference in graphs["decoder"].outputs.items():
        found[name] = np.stack([values[reference] for values in trace.steps])
    return found


def core(engine: Engine, inputs: Any) -> dict[str, NDArray[Any]]:
    return {
        **engine.encode(inputs=inputs),
        "logits": engine.forced_logits(None, TARGET, inputs=inputs),
    }


def as_the_core(value: NDArray[Any], name: str) -> NDArray[Any]:
    """The core gives maps as (heads, query, source), or without the heads where there is one."""
    if not name.startswith("map"):
        return value
    return value[:, :, 0] if value.shape[2] == 1 else np.moveaxis(value, 2, 0)


def check(seed: int) -> int:
    """How many sentences of a random model had numbers small enough to be compared."""
    model = random_model(seed)
    engines = [Engine.load(model, isa=isa) for isa in ISAS]
    reference, other = Reference(model), Reference(moved(model))
    compared = 0
    for length in LENGTHS:
        inputs = random_inputs(seed + length, length)
        with np.errstate(all="ignore"):
            trace = reference.trace(None, TARGET, inputs=inputs)
            also = outputs(model, other.trace(None, TARGET, inputs=inputs))
        scale, expected = largest(trace), outputs(model, trace)
        runs = [core(engine, inputs) for engine in engines]
        for run in runs[1:]:
            for name, value in run.items():
                # What stands in the bits of a NaN is nobody's promise.
                same = np.nan_to_num(value, nan=0.5), np.nan_to_num(runs[0][name], nan=0.5)
                assert same[0].tobytes() == same[1].tobytes(), f"seed {seed}: {name} differs"
        if scale > TOO_LARGE:
            continue
        compared += 1
        for name, value in runs[0].items():
            want = as_the_core(expected[name], name)
            near = as_the_core(also[name], name)
            error = float(np.abs(value - want).max(initial=0.0))
            assert error <= bound(want, near, scale), f"seed {seed}, length {length}, {name}"
        check_alignment(model, engines[0], inputs, expected, also, scale)
    check_batch(model, engines, seed)
    return compared


def check_alignment(
    model: Model, engine: Engine, inputs: Any, expected: Any, also: Any, scale: float
) -> None:
    """The attention of the first step, which no earlier token can change."""
    if "alignment" not in expected:
        return
    found = engine.decode(inputs=inputs, max_length=1, return_attention=True).attention
    assert found is not None
    rows = found if found.ndim == 2 else np.moveaxis(found, 0, 2)
    want, near = expected["alignment"][0], also["alignment"][0]
    want, near = (x[:, 0] if found.ndim == 2 else x for x in (want, near))
    assert np.abs(rows[0] - want).max(initial=0.0) <= bound(want, near, scale)


def check_batch(model: Model, engines: list[Engine], seed: int) -> None:
    """Several sentences of different lengths together: the bits of each alone, on every
    instruction set, with all beams."""
    sentences = [random_inputs(seed + n, n) for n in (*LENGTHS, 3)]
    options: dict[str, Any] = {"beam_size": 3, "num_hypotheses": 3, "max_length": 4}
    bits = set()
    for engine in engines:
        try:
            together = engine.decode_batch(sentences, batch_size=4, **options)
        except NumericalError:
            bits.add("numerical error")
            continue
        alone = [engine.decode(inputs=one, **options) for one in sentences]
        numbers = [
            [(h.ids, h.token_log_probs.tobytes()) for r in results for h in r.hypotheses]
            for results in (together, alone)
        ]
        assert numbers[0] == numbers[1], f"seed {seed}"
        for one, result in zip(sentences, alone, strict=True):
            for h in result.hypotheses:
                scored = engine.score(None, h.ids, inputs=one).token_log_probs
                assert scored[: len(h.token_log_probs)].tobytes() == h.token_log_probs.tobytes()
        bits.add(repr(numbers))
    assert len(bits) == 1


@pytest.mark.parametrize("first", SEEDS[::60])
def test_random_graphs_equal_the_reference(first: int) -> None:
    compared = sum(check(seed) for seed in range(first, first + 60))
    assert compared > 60 * len(LENGTHS) // 2, "most graphs have numbers too large to compare"


@pytest.mark.parametrize("compute_type", ["bfloat16", "int8"])
def test_random_graphs_in_narrow_types_keep_their_bits(compute_type: str) -> None:
    changed = 0
    for seed in SEEDS[::6]:
        model = random_model(seed)
        engines = [Engine.load(model, isa=isa, compute_type=compute_type) for isa in ISAS]
        changed += compute_type in engines[0].info.compute_types.values()
        check_batch(model, engines, seed)
    assert changed > len(SEEDS[::6]) // 2


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(min_value=len(SEEDS), max_value=2**32))
def test_any_random_graph_equals_the_reference(seed: int) -> None:
    check(seed)


# --- what random graphs found ---


def test_a_scan_of_rows_reads_the_ids_of_its_sentences() -> None:
    """Rows and positions of rows have other numbers than sentences and theirs: a beam shows it."""
    random = np.random.default_rng(1)

    def weight(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    m = ModelBuilder(source=7, target=6)
    e, d = m.encoder, m.decoder
    e.output(ids=e.tokens)
    state = d.state("state", size=4)

    def body(step: Any, x: Any) -> Any:
        letters = step.add(step.one_hot("ids", 8), step.embedding("ids", weight(7, 8), scale=0.5))
        return step.linear([x, step.pool(letters, "mean")], weight(4, 12), activation="tanh")

    query = d.linear([state, d.embedding(d.token, weight(6, 3))], weight(4, 7), activation="tanh")
    sequence, _ = d.scan([d.embedding("ids", np.zeros((7, 1), np.float32)), query],
                         lambda step, x: body(step, step.slice(x, 1, 5)))  # fmt: skip
    after = d.pool(sequence, "last")
    d.next(state=after)
    d.output(logits=d.linear(after, weight(6, 4)))
    model = m.build(start=0, end=[1])
    sentences = [[3, 1], [6], [2, 2, 5, 0, 4]]
    for isa in ISAS:
        engine = Engine.load(model, isa=isa)
        options: dict[str, Any] = {"beam_size": 4, "num_hypotheses": 4, "max_length": 5}
        for x, found in zip(sentences, engine.decode_batch(sentences, **options), strict=True):
            expected = Reference(model).decode(x, **options)
            assert [h.ids for h in found.hypotheses] == [h.ids for h in expected.hypotheses]
            for h, want in zip(found.hypotheses, expected.hypotheses, strict=True):
                assert np.abs(h.token_log_probs - want.token_log_probs).max() <= 1e-5


# --- what the fixed graphs reach ---


def nodes(graph: Graph, place: str) -> Iterator[tuple[str, Node]]:
    for node in graph.nodes:
        yield place, node
        if node.body is not None:
            yield from nodes(node.body, "body")


@pytest.fixture(scope="module")
def written() -> list[tuple[str, Node]]:
    models = [random_model(seed) for seed in SEEDS]
    return [
        found
        for model in models
        for place, graph in model.graphs.items()
        for found in nodes(graph, place)
    ]


@pytest.mark.parametrize("op", list(OPERATIONS))
def test_every_operation_role_and_attribute_value_is_reached(
    written: list[tuple[str, Node]], op: str
) -> None:
    operation = OPERATIONS[op]
    found = [node for _, node in written if node.op == op]
    assert {place for place, node in written if node.op == op} == set(operation.places)
    for name, rule in operation.attributes.items():
        values = {node.attributes[name] for node in found}
        if isinstance(rule, Choice):
            assert values == set(rule.words), name
        elif isinstance(rule, Flag):
            assert values == {False, True}, name
        else:
            assert len(values) >= 2, name
    for role in operation.inputs:
        given_ = {role.name in node.inputs for node in found}
        assert given_ == ({False, True} if role.optional else {True}), role.name
    for role in operation.weights:
        given_ = {role.name in node.weights for node in found}
        layer = op in ("rnn", "gru", "lstm") and role.name == "weight_ih"
        assert given_ == ({False, True} if role.optional and not layer else {True}), role.name


def test_states_lengths_and_captured_values_are_reached(written: list[tuple[str, Node]]) -> None:
    models = [random_model(seed) for seed in SEEDS]
    states = [s for model in models for s in model.graphs["decoder"].states.values()]
    assert {(s.type.kind, s.initial is None) for s in states} == {
        (kind, zero) for kind in ("vector", "sequence") for zero in (False, True)
    }
    assert any(s.next.startswith("encoder.") for s in states)
    assert any(s.next.startswith("state.") for s in states)
    types = [t for model in models for graph in model.types().values() for t in graph.values()]
    lengths = {t.length for t in types if t.kind == "sequence"}
    assert {(1, 0), (2, 0), (1, 1)} < lengths
    assert any(t.kind == "alignment" for t in types)
    bodies = [node.body for _, node in written if node.body is not None]
    captured = {r.split(".")[1] for body in bodies for n in body.nodes for r in n.references()
                if r.startswith("outer.")}  # fmt: skip
    assert {"encoder", "state", "token", "tokens"} <= captured
    assert {s.initial is None for body in bodies for s in body.states.values()} == {False, True}
