"""Every operation in the C++ core, alone in a small graph: on each instruction set the same bits,
and within a bound of the float64 reference. Knows operations; never whole architectures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from conftest import ISAS
from models import Weights
from numpy.typing import NDArray

from s2s_engine import Engine, Model, ModelBuilder
from s2s_engine.operations import ACTIVATIONS, OPERATIONS

Array = NDArray[np.float32]
# Around the edges of a register of 4, 8 and 16 floats and of a panel of 32.
SIZES = (1, 2, 31, 32, 33, 65, 97)
POOLS = ("last", "first", "mean", "max", "sum")
LENGTH, SOURCE, TARGET = 5, 11, 9
TOKENS = [3, 0, 10, 7, 3]
# Each of `depth` roundings is at most 2^-24 of a partial result; results here stay below 8.
ROUNDING = 2.0**-21


def values(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def drawn(inputs: int) -> Weights:
    """Weights whose products with `inputs` features of order 1 are of order 1."""
    return Weights(inputs, scale=inputs**-0.5)


def check_encoder(model: Model, inputs: dict[str, Any], *, depth: int) -> dict[str, Array]:
    """Runs the encoder everywhere: equal bits, and close to the reference."""
    expected = model.reference().encode(inputs=inputs)
    runs = [Engine.load(model, isa=isa).encode(inputs=inputs) for isa in ISAS]
    for name, value in expected.items():
        first = runs[0][name]
        assert first.shape == value.shape and first.dtype == np.float32
        for isa, run in zip(ISAS[1:], runs[1:], strict=True):
            assert run[name].tobytes() == first.tobytes(), f"{name}: {isa} differs from {ISAS[0]}"
        assert np.abs(first - value).max() <= ROUNDING * depth, name
    return runs[0]


def check_decoder(model: Model, x: Any, *, depth: int) -> None:
    """Forced logits everywhere as above; a row's numbers do not depend on the rows beside it."""
    target = [4, 0, 8, 8, 1]
    expected = model.reference().forced_logits(x, target)
    bits = set()
    for isa in ISAS:
        engine = Engine.load(model, isa=isa)
        logits = engine.forced_logits(x, target)
        assert np.abs(logits - expected).max() <= ROUNDING * depth, isa
        result = engine.decode(x, beam_size=6, num_hypotheses=6, max_length=4)
        assert len({tuple(h.ids) for h in result.hypotheses}) == 6
        for h in result.hypotheses:
            alone = engine.score(x, h.ids)
            assert alone.token_log_probs.tobytes() == h.token_log_probs.tobytes(), isa
        numbers = [(h.ids, h.token_log_probs.tobytes()) for h in result.hypotheses]
        bits.add((logits.tobytes(), repr(numbers)))
    assert len(bits) == 1


# --- encoder graphs ---

Write: TypeAlias = Callable[[Any, int], Any]


def features_model(write: Write, size: int) -> Model:
    """Inputs x and y (sequences), v (a vector), s (a sequence[1]) and u (a vector[1])."""
    m = ModelBuilder()
    e: Any = m.encoder
    for name, kind in (("x", "sequence"), ("y", "sequence"), ("v", "vector")):
        setattr(e, name, e.input(name, **{kind: size}))
    e.s, e.u = e.input("s", sequence=1), e.input("u", vector=1)
    written = write(e, size)
    if not isinstance(written, dict):
        written = {"out": written}
    e.output(**written)
    return m.build()


def features(size: int, length: int = LENGTH) -> dict[str, Array]:
    return {
        "x": values(length, size),
        "y": values(length, size + 1)[:, :size],
        "v": values(size),
        "s": values(length, 1),
        "u": values(1),
    }


def cell(gates: int, inputs: int, hidden: int, without: tuple[str, ...] = ()) -> dict[str, Array]:
    weights = drawn(inputs + hidden).cell(gates, inputs, hidden)
    return {role: array for role, array in weights.items() if role not in without}


def scanned(direction: str) -> Write:
    """A recurrence of one's own: an outer vector, two states, one of them the other's old value."""

    def write(e: Any, n: int) -> Any:
        w = drawn(4 * n)
        weight, bias = w(n, 4 * n), w(n)

        def body(step: Any, x: Any) -> Any:
            h, old = step.state("h", initial=e.v), step.state("old", size=n)
            h_next = step.linear([x, h, e.v, old], weight, bias, activation="tanh")
            step.next(h=h_next, old=h)
            return step.multiply(h_next, x)

        sequence, states = e.scan(e.x, body, direction=direction)
        return {"sequence": sequence, "h": states["h"], "old": states["old"]}

    return write


def pooled(how: str) -> Write:
    return lambda e, n: e.pool(e.x, how)


def activated(name: str) -> Write:
    return lambda e, n: {"of_x": e.activation(e.x, name), "of_v": e.activation(e.v, name)}


ELEMENTWISE: dict[str, Write] = {
    "concat": lambda e, n: e.concat([e.x, e.v, e.s, e.u, e.y]),
    "concat of vectors": lambda e, n: e.concat([e.v, e.u, e.v]),
    "slice to the end": lambda e, n: e.slice(e.x, n // 2, n),
    "slice of one feature": lambda e, n: e.slice(e.v, n - 1, n),
    "slice that a product reads": lambda e, n: e.linear(
        [e.slice(e.x, n // 2, n), e.slice(e.v, 0, n // 2 + 1)],
        drawn(n + 1)(7, n - n // 2 + n // 2 + 1),
    ),
    "add": lambda e, n: e.add(e.x, e.y, e.x),
    "add a vector": lambda e, n: e.add(e.v, e.x),
    "add scalars": lambda e, n: e.add(e.u, e.x, e.s),
    "add vectors": lambda e, n: e.add(e.v, e.u),
    "add scalars only": lambda e, n: e.add(e.u, e.s, e.u),
    "multiply": lambda e, n: e.multiply(e.x, e.y),
    "multiply a scalar": lambda e, n: e.multiply(e.s, e.v, e.u),
    "interpolate": lambda e, n: e.interpolate(e.x, e.y, e.v),
    "interpolate by scalars": lambda e, n: e.interpolate(e.s, e.v, e.u),
    "interpolate vectors": lambda e, n: e.interpolate(e.u, e.v, e.v),
    "softmax of a sequence": lambda e, n: e.softmax(e.x),
    "softmax of a vector": lambda e, n: e.softmax(e.v),
    "constants": lambda e, n: e.add(e.constant(values(n)), e.constant(size=n), e.x),
    "constant as an output": lambda e, n: {"c": e.constant(values(n)), "z": e.constant(size=n)},
    "constants alone": lambda e, n: e.multiply(e.constant(values(n)), e.constant(values(1))),
    "an input as an output": lambda e, n: {"x": e.x, "v": e.v, "again": e.x},
    **{f"pool {how}": pooled(how) for how in POOLS},
    "join": lambda e, n: e.join([e.v, e.x, e.y, e.v]),
    "reverse": lambda e, n: {"once": e.reverse(e.x), "twice": e.reverse(e.reverse(e.x))},
    "maxout of two": lambda e, n: e.maxout(e.concat([e.x, e.v]), 2),
    "maxout of all": lambda e, n: {"x": e.maxout(e.x, n), "v": e.maxout(e.v, n)},
    "maxout of one": lambda e, n: e.maxout(e.x, 1),
    "layer_norm": lambda e, n: {
        "plain": e.layer_norm(e.x),
        "both": e.layer_norm(e.v, values(n), values(n + 1)[:n].copy(), eps=0.1),
        "weight": e.layer_norm(e.x, values(n), eps=1.0),
        "bias": e.layer_norm(e.x, None, values(n)),
    },
    "to_positions": lambda e, n: e.to_positions(e.v),
    "scan forward": scanned("forward"),
    "scan backward": scanned("backward"),
    **{f"activation {name}": activated(name) for name in ACTIVATIONS},
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", ELEMENTWISE)
def test_elementwise_operation(case: str, size: int) -> None:
    # At most a softmax: an exponential of a few roundings, a sum of `size` and a division.
    check_encoder(features_model(ELEMENTWISE[case], size), features(size), depth=8 + LENGTH)


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 65])
def test_pool_and_softmax_over_lengths(length: int) -> None:
    model = features_model(
        lambda e, n: {how: e.pool(e.x, how) for how in ("last", "first", "mean", "max", "sum")}, 3
    )
    out = check_encoder(model, features(3, length), depth=8 + length)
    x = features(3, length)["x"]
    assert np.array_equal(out["last"], x[-1]) and np.array_equal(out["first"], x[0])
    assert np.array_equal(out["max"], x.max(axis=0))


@pytest.mark.parametrize("outputs", SIZES)
@pytest.mark.parametrize("inputs", SIZES)
def test_linear(inputs: int, outputs: int) -> None:
    w = drawn(3 * inputs)

    def write(e: Any, n: int) -> Any:
        return {
            "one": e.linear(e.x, w(outputs, n)),
            "bias": e.linear(e.x, w(outputs, n), w(outputs)),
            "joined": e.linear([e.v, e.x, e.s, e.y], w(outputs, 3 * n + 1), w(outputs)),
            "vector": e.linear([e.v, e.u], w(outputs, n + 1), w(outputs), activation="tanh"),
        }

    check_encoder(features_model(write, inputs), features(inputs), depth=3 * inputs + 2)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1, 33, 97])
def test_linear_applies_its_activation(name: str, size: int) -> None:
    w = drawn(size)
    weight, bias = w(size, size), w(size)

    def write(e: Any, n: int) -> Any:
        return {
            "fused": e.linear(e.x, weight, bias, activation=name),
            "apart": e.activation(e.linear(e.x, weight, bias), name),
        }

    out = check_encoder(features_model(write, size), features(size), depth=size + 8)
    assert out["fused"].tobytes() == out["apart"].tobytes()


def test_a_product_of_many_segments_and_deep_sums() -> None:
    w = drawn(60 * 17)
    model = features_model(lambda e, n: e.linear([e.x, e.v, e.y] * 20, w(33, 60 * n)), 17)
    check_encoder(model, features(17), depth=60 * 17)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 8, 9, 13, 16, 17, 31, 64])
def test_linear_rows_do_not_depend_on_how_many_there_are(rows: int) -> None:
    w = drawn(40)
    model = features_model(lambda e, n: e.linear(e.x, w(100, n), w(100)), 40)
    engine = Engine.load(model)
    given = features(40, 64)
    whole = engine.encode(inputs=given)["out"]
    part = {n: a[:rows] if n in ("x", "y", "s") else a for n, a in given.items()}
    assert engine.encode(inputs=part)["out"].tobytes() == whole[:rows].tobytes()
    check_encoder(model, part, depth=41)


def test_every_operation_has_a_case() -> None:
    text = Path(__file__).read_text()
    for name in OPERATIONS:
        assert re.search(rf"\b[ed]\.{name}\(", text), name


# --- recurrent layers and cells ---

BIASES = {"both": (), "ih": ("bias_hh",), "hh": ("bias_ih",), "none": ("bias_ih", "bias_hh")}


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("without", BIASES.values(), ids=list(BIASES))
@pytest.mark.parametrize("kind", ["lstm", "gru after", "gru before"])
def test_layer(kind: str, without: tuple[str, ...], direction: str) -> None:
    for size in SIZES:
        hidden = SIZES[(SIZES.index(size) + 3) % len(SIZES)]

        def write(e: Any, n: int, hidden: int = hidden) -> Any:
            start = e.linear(e.v, drawn(n)(hidden, n))
            weights = cell(4 if kind == "lstm" else 3, 2 * n + 1, hidden, without)
            x = [e.x, e.u, e.v]
            if kind == "lstm":
                memory, h, c = e.lstm(x, weights, direction=direction)
                other, h2, c2 = e.lstm(x, weights, start, start, direction=direction)
                third, _, c3 = e.lstm(x, weights, None, start, direction=direction)
                return {"a": memory, "h": h, "c": c, "b": other, "h2": h2, "c2": c2, "d": third,
                        "c3": c3}  # fmt: skip
            reset = kind.split()[1]
            memory, h = e.gru(x, weights, direction=direction, reset=reset)
            other, h2 = e.gru(x, weights, start, direction=direction, reset=reset)
            return {"a": memory, "h": h, "b": other, "h2": h2}

        given = features(size)
        # The error of a step is fed to the next one; gates keep it from growing.
        depth = (3 * size + hidden + 12) * LENGTH
        out = check_encoder(features_model(write, size), given, depth=depth)
        last = 0 if direction == "backward" else LENGTH - 1
        assert np.array_equal(out["a"][last], out["h"])


@pytest.mark.parametrize("gate_activation", ACTIVATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_pair_of_activations_of_a_cell(activation: str, gate_activation: str) -> None:
    pair = {"activation": activation, "gate_activation": gate_activation}

    def write(e: Any, n: int) -> Any:
        h, c = e.lstm_cell(e.v, e.v, e.v, cell(4, n, n), **pair)
        return {
            "h": h,
            "c": c,
            "after": e.gru_cell(e.v, e.v, cell(3, n, n), reset="after", **pair),
            "before": e.gru_cell(e.v, e.v, cell(3, n, n), reset="before", **pair),
        }

    # Products of unbounded gates: the results reach some tens.
    check_encoder(features_model(write, 33), features(33), depth=8 * (2 * 33 + 12))


@pytest.mark.parametrize("size", SIZES)
def test_cells_with_parts_missing(size: int) -> None:
    def write(e: Any, n: int) -> Any:
        lstm, gru = cell(4, n, n), cell(3, n, n)
        bare = {"weight_hh": lstm["weight_hh"], "bias_hh": lstm["bias_hh"]}
        bare_gru = {"weight_hh": gru["weight_hh"]}
        out = {
            "zero": e.lstm_cell(e.v, None, None, lstm)[0],
            "h only": e.lstm_cell(e.v, e.v, None, lstm)[1],
            "c only": e.lstm_cell(e.v, None, e.v, lstm)[0],
            "no x": e.lstm_cell(None, e.v, e.v, bare)[0],
            "nothing": e.lstm_cell(None, None, None, bare)[0],
        }
        for reset in ("after", "before"):
            out[f"gru zero {reset}"] = e.gru_cell(e.v, None, gru, reset=reset)
            out[f"gru no x {reset}"] = e.gru_cell(None, e.v, bare_gru, reset=reset)
            out[f"gru nothing {reset}"] = e.gru_cell(None, None, bare_gru, reset=reset)
        return {name.replace(" ", "_"): value for name, value in out.items()}

    check_encoder(features_model(write, size), features(size), depth=2 * size + 12)


def test_a_layer_computes_what_its_cell_computes_step_by_step() -> None:
    n = 33
    weights = cell(4, n, n)

    def layer(e: Any, n: int) -> Any:
        return e.lstm(e.x, weights)[0]

    def step(e: Any, n: int) -> Any:
        h, c = e.lstm_cell(e.v, e.h0, e.c0, weights)
        return {"h": h, "c": c}

    m = ModelBuilder()
    e: Any = m.encoder
    e.v, e.h0, e.c0 = (e.input(name, vector=n) for name in ("v", "h0", "c0"))
    e.output(**step(e, n))
    one = Engine.load(m.build())
    given = features(n)
    whole = Engine.load(features_model(layer, n)).encode(inputs=given)["out"]
    h = c = np.zeros(n, np.float32)
    for t in range(LENGTH):
        out = one.encode(inputs={"v": given["x"][t], "h0": h, "c0": c})
        h, c = out["h"], out["c"]
        assert h.tobytes() == whole[t].tobytes()


# --- attention ---


@pytest.mark.parametrize("length", [1, 2, 31, 33, 65])
@pytest.mark.parametrize("normaliser", ["softmax", "none"])
@pytest.mark.parametrize("score", ["dot", "additive", "given"])
def test_attention(score: str, normaliser: str, length: int) -> None:
    for size in (1, 2, 31, 32, 33, 97):

        def write(e: Any, n: int) -> Any:
            scale = {"scale": 0.3 * n**-0.5, "normaliser": normaliser}
            if score == "given":
                context, weights = e.attention(scores=e.s, values=e.x, **scale)
            else:
                v = {"v": drawn(n)(n)} if score == "additive" else {}
                context, weights = e.attention(query=e.v, keys=e.y, values=e.x, **v, **scale)
            return {"context": context, "weights": weights}

        depth = size + length + 16
        out = check_encoder(features_model(write, size), features(size, length), depth=depth)
        if normaliser == "softmax":
            assert abs(float(out["weights"].sum(dtype=np.float64)) - 1.0) <= 2.0**-24 * (length + 4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_additive_attention_with_every_activation(activation: str) -> None:
    def write(e: Any, n: int) -> Any:
        v = drawn(n)(n)
        kind = {"query": e.v, "keys": e.y, "values": e.x, "v": v, "activation": activation}
        return dict(zip(("context", "weights"), e.attention(**kind), strict=True))

    check_encoder(features_model(write, 33), features(33, 7), depth=33 + 7 + 16)


# --- decoder graphs: one row per hypothesis ---

StepWrite: TypeAlias = Callable[[Any, Weights, int], Any]


def decoder_model(write: StepWrite, size: int, *, start: int | None = 1) -> Model:
    """A GRU decoder whose logits read what `write` makes; `d.h`, `d.y` and `d.one` are handed on.

    The encoder gives memory (sequence), keys, top (vector), one (vector[1]), const (a constant).
    """
    w = drawn(size + 8)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e: Any = m.encoder
    d: Any = m.decoder
    x = e.embedding(e.tokens, w(SOURCE, 8), scale=1.5)
    memory, h = e.gru(x, w.gru(8, size))
    e.output(memory=memory, keys=e.linear(memory, w(size, size)), top=e.pool(memory, "max"), h=h,
             words=e.reverse(e.tokens),
             one=e.linear(h, w(1, size)), const=e.constant(values(size)))  # fmt: skip
    d.h = d.state("h", initial="h")
    d.y = d.embedding(d.token, w(TARGET, 8))
    h = d.gru_cell(d.y, d.h, w.gru(8, size))
    d.now, d.one = h, d.linear(h, w(1, size))
    written = write(d, w, size)
    d.next(h=h)
    # Every test reads the state as well, so that each row's history counts.
    d.output(logits=d.linear([written, h], w(TARGET, written.type.size + size)))
    return m.build(start=start)


def _scorer(d: Any, w: Weights, n: int) -> Any:
    """Bahdanau's energy composed by hand, Luong's concat form."""
    energy = d.linear(["memory", d.now], w(n, 2 * n), activation="tanh")
    return d.attention(scores=d.linear(energy, w(1, n)), values="memory")[0]


def _layers(d: Any, w: Weights, n: int) -> Any:
    """A bidirectional layer over a sequence that differs for every row."""
    x = d.add("memory", d.now)
    forward, h, c = d.lstm(x, w.lstm(n, n), d.now, d.now)
    backward, g = d.gru([x, "keys", d.now], w.gru(3 * n, n), direction="backward", reset="before")
    return d.concat([h, c, g, d.pool(d.multiply(forward, backward), "sum")])


def pooled_rows(how: str) -> StepWrite:
    return lambda d, w, n: d.pool(d.multiply("memory", d.now), how)


def _extended_lstm(d: Any, w: Weights, n: int) -> Any:
    """Sak et al. 2014: peepholes, a projection to two features, a clipped cell state."""
    cell = {
        "weight_ih": w(4 * n, 8),
        "weight_hh": w(4 * n, 2),
        "bias_ih": w(4 * n),
        "peephole": w(3 * n),
        "projection": w(2, n),
    }
    h, c = d.lstm_cell(d.y, d.concat([d.one, d.one]), d.h, cell, clip=0.4)
    return d.concat([h, c])


def _scan(d: Any, w: Weights, n: int) -> Any:
    weight = w(n, 3 * n)

    def body(step: Any, x: Any) -> Any:
        h = step.state("h", initial=d.h)
        h_next = step.linear([x, h, d.now], weight, activation="tanh")
        step.next(h=h_next)
        return step.add(h_next, "top")

    sequence, states = d.scan([d.add("memory", d.now)], body)
    return d.concat([states["h"], d.pool(sequence, "mean")])


DECODER: dict[str, StepWrite] = {
    "embedding that is not folded": lambda d, w, n: d.activation(d.y, "tanh"),
    "embedding folded": lambda d, w, n: d.linear([d.y, d.now], w(7, 8 + n), w(7)),
    "embedding second in the list": lambda d, w, n: d.linear([d.now, d.y], w(7, 8 + n)),
    "embedding twice in the list": lambda d, w, n: d.linear([d.y, d.y], w(7, 16), w(7)),
    "embedding with a scale": lambda d, w, n: d.linear(
        d.embedding(d.token, w(TARGET, 5), scale=-0.7), w(33, 5), activation="relu"
    ),
    "embedding of more rows than ids": lambda d, w, n: d.linear(
        d.embedding(d.token, w(TARGET + 5, 5)), w(33, 5)
    ),
    "embedding folded into a cell": lambda d, w, n: d.gru_cell([d.y, "top"], d.h, w.gru(8 + n, n)),
    "embedding in an lstm cell": lambda d, w, n: d.lstm_cell(d.y, d.h, d.h, w.lstm(8, n))[0],
    "encoder vectors": lambda d, w, n: d.linear(["top", d.now, "one"], w(7, 2 * n + 1), w(7)),
    "encoder vectors alone": lambda d, w, n: d.linear(["top", "one"], w(7, n + 1)),
    "encoder constant": lambda d, w, n: d.add("const", d.now),
    "decoder constant": lambda d, w, n: d.multiply(
        d.constant(values(n)), d.now, d.constant(size=1)
    ),
    "concat": lambda d, w, n: d.concat([d.now, "top", d.one, d.y]),
    "slice": lambda d, w, n: d.slice(d.now, n // 2, n),
    "slice of an encoder value": lambda d, w, n: d.slice("top", n - 1, n),
    "slice of a sequence": lambda d, w, n: d.pool(
        d.slice(d.add("memory", d.now), n // 2, n), "max"
    ),
    "add": lambda d, w, n: d.add(d.now, "top", d.one, "one"),
    "multiply": lambda d, w, n: d.multiply("one", d.now, "top"),
    "interpolate": lambda d, w, n: d.interpolate(d.activation(d.one, "sigmoid"), d.now, "top"),
    "interpolate by an encoder scalar": lambda d, w, n: d.interpolate("one", "top", d.now),
    "activation": lambda d, w, n: d.activation(d.now, "softplus"),
    "softmax": lambda d, w, n: d.softmax(d.now),
    "softmax of a row's sequence": lambda d, w, n: d.pool(d.softmax(d.add("keys", d.now)), "first"),
    "pool of encoder values": lambda d, w, n: d.add(d.pool("memory", "mean"), d.now),
    **{f"pool {how} of a row's sequence": pooled_rows(how) for how in POOLS},
    "sequence interpolated": lambda d, w, n: d.pool(d.interpolate(d.now, "memory", "keys"), "sum"),
    "concat over positions": lambda d, w, n: d.pool(d.concat(["memory", d.now, "top"]), "mean"),
    "linear over positions": lambda d, w, n: d.pool(
        d.linear(["keys", d.now, d.y, d.add("memory", d.one)], w(9, 3 * n + 8), w(9)), "max"
    ),
    "dot attention": lambda d, w, n: d.attention(query=d.now, keys="keys", values="memory")[0],
    "dot attention scaled": lambda d, w, n: d.attention(
        query=d.now, keys="memory", values="keys", scale=-0.3, normaliser="none"
    )[0],
    "additive attention": lambda d, w, n: d.attention(
        query=d.now, keys="keys", values="memory", v=w(n), activation="relu"
    )[0],
    "attention of an encoder query": lambda d, w, n: d.attention(
        query="top", keys="keys", values="memory"
    )[0],
    "attention over a row's sequence": lambda d, w, n: d.attention(
        query=d.now, keys=d.add("keys", d.now), values=d.multiply("memory", d.h), v=w(n)
    )[0],
    "attention weights as a value": lambda d, w, n: d.pool(
        d.multiply(d.attention(query=d.now, keys="keys", values="memory")[1], "memory"), "sum"
    ),
    "additive scorer by hand": _scorer,
    "layers over a row's sequence": _layers,
    "cell without states": lambda d, w, n: d.gru_cell([d.now, "top"], None, w.gru(2 * n, n)),
    "cell from an encoder state": lambda d, w, n: d.gru_cell(
        d.y, "top", w.gru(8, n), reset="before"
    ),
    "transition cell": lambda d, w, n: d.gru_cell(
        None, d.now, {"weight_hh": w(3 * n, n), "bias_hh": w(3 * n)}
    ),
    "lstm transition": lambda d, w, n: d.concat(
        list(d.lstm_cell(None, d.now, "top", {"weight_hh": w(4 * n, n)}))
    ),
    "source_length": lambda d, w, n: d.multiply(d.source_length(), d.constant(values(3) / 16)),
    "step": lambda d, w, n: d.embedding(d.step(8), w(8, 5)),
    "step folded": lambda d, w, n: d.linear([d.embedding(d.step(8), w(8, 5)), d.y], w(6, 13)),
    "tied to the embedding": lambda d, w, n: _tied(d, w),
    "one_hot": lambda d, w, n: d.linear([d.one_hot(d.token, TARGET), d.now], w(7, TARGET + n)),
    "one_hot second in the list": lambda d, w, n: d.linear(
        [d.now, d.one_hot(d.token, TARGET + 3)], w(7, TARGET + 3 + n), w(7)
    ),
    "one_hot that is a value": lambda d, w, n: d.one_hot(d.token, TARGET),
    "first_step": lambda d, w, n: d.first_step(d.now, d.h),
    "first_step of encoder values": lambda d, w, n: d.first_step("top", d.constant(size=n)),
    "maxout": lambda d, w, n: d.maxout(d.linear(d.now, w(3 * n, n)), 3),
    "layer_norm": lambda d, w, n: d.layer_norm(d.concat([d.now, "top"]), w(2 * n), eps=0.5),
    "reverse of a row's sequence": lambda d, w, n: d.pool(
        d.multiply(d.reverse(d.add("memory", d.now)), "keys"), "sum"
    ),
    "join in rows": lambda d, w, n: d.attention(
        query=d.now, keys=d.join([d.now, "keys"]), values=d.join(["top", d.add("memory", d.now)])
    )[0],
    "to_positions": lambda d, w, n: d.attention(
        scores=d.to_positions(d.softmax(d.linear(d.now, w(7, n)))),
        values="memory",
        normaliser="none",
    )[0],
    "to_positions that is too short": lambda d, w, n: d.attention(
        scores=d.to_positions(d.linear(d.now, w(3, n))), values="memory"
    )[0],
    "scatter": lambda d, w, n: d.scatter(
        d.attention(query=d.now, keys="keys", values="memory")[1], "words", SOURCE
    ),
    "rnn cell": lambda d, w, n: d.rnn_cell(
        [d.y, "top"], d.h, w.cell(1, 8 + n, n), activation="relu"
    ),
    "rnn cell without a state": lambda d, w, n: d.rnn_cell(d.y, None, w.cell(1, 8, n)),
    "rnn over a row's sequence": lambda d, w, n: d.rnn(
        d.add("memory", d.now), w.cell(1, n, n), d.h, direction="backward"
    )[1],
    "lstm cell with peephole, projection and clip": _extended_lstm,
    "scan over a row's sequence": _scan,
    "two heads": lambda d, w, n: d.attention(
        query=d.concat([d.now, d.h]),
        keys=d.concat(["keys", "memory"]),
        values=d.concat(["memory", "keys"]),
        heads=2,
        scale=0.5,
    )[0],
    "two additive heads": lambda d, w, n: d.attention(
        query=d.concat([d.now, d.h]),
        keys=d.concat(["keys", "memory"]),
        values=d.concat(["memory", "keys"]),
        heads=2,
        v=w(2 * n),
        energy_bias=w(1),
    )[0],
    "energy bias and activation": lambda d, w, n: d.attention(
        query=d.now, keys="keys", values="memory", energy_bias=w(1), energy_activation="sigmoid"
    )[0],
    "window around the step": lambda d, w, n: d.attention(
        query=d.now, keys="keys", values="memory", centre=d.step(8), window=1
    )[0],
    "gaussian window": lambda d, w, n: d.attention(
        query=d.now,
        keys="keys",
        values="memory",
        window=2,
        gaussian=True,
        centre=d.multiply(d.source_length(), d.activation(d.one, "sigmoid")),
    )[0],
    "query of a sequence": lambda d, w, n: d.pool(
        d.attention(query=d.add("memory", d.now), keys="keys", values="memory")[0], "sum"
    ),
}


def _tied(d: Any, w: Weights) -> Any:
    """One tensor as an embedding and as the weight of a product."""
    table = w(TARGET, TARGET)
    return d.linear(d.embedding(d.token, table), table)


@pytest.mark.parametrize("size", [1, 6, 33])
@pytest.mark.parametrize("case", DECODER)
def test_operation_of_a_decoder(case: str, size: int) -> None:
    model = decoder_model(DECODER[case], size)
    check_decoder(model, TOKENS, depth=16 * size + 100)


@pytest.mark.parametrize("case", ["embedding folded", "embedding that is not folded", "step",
                                  "embedding second in the list"])  # fmt: skip
def test_no_start_token_feeds_zeros(case: str) -> None:
    check_decoder(decoder_model(DECODER[case], 6, start=None), TOKENS, depth=200)


@pytest.mark.parametrize("vocabulary", [32768, 32769])
def test_folding_an_embedding_or_not_gives_the_same_bits(vocabulary: int) -> None:
    # 2^20 floats are the largest table that is folded: 32768 rows of one panel.
    w = drawn(8)
    table, weight, bias = w(vocabulary, 8), w(5, 8), w(5)
    m = ModelBuilder(source=vocabulary)
    e = m.encoder
    x = e.embedding(e.tokens, table, scale=0.5)
    e.output(folded=e.linear(x, weight, bias), plain=e.linear(e.add(x, e.constant(size=8)), weight,
             bias), x=x)  # fmt: skip
    out = check_encoder(m.build(), {"tokens": [0, 1, vocabulary - 1, 77]}, depth=16)
    assert out["folded"].tobytes() == out["plain"].tobytes()
    assert np.array_equal(out["x"][2], table[vocabulary - 1] * np.float32(0.5))


@pytest.mark.parametrize("length", [1, 2, 40])
def test_position_and_source_length_in_an_encoder(length: int) -> None:
    w = drawn(8)
    m = ModelBuilder(source=SOURCE)
    e = m.encoder
    position = e.embedding(e.position(40), w(40, 8))
    x = e.add(e.embedding(e.tokens, w(SOURCE, 8)), position)
    e.output(x=x, length=e.source_length(), folded=e.linear(position, w(3, 8)))
    out = check_encoder(m.build(), {"tokens": [n % SOURCE for n in range(length)]}, depth=16)
    assert out["length"].tolist() == [float(length)]


# --- states ---


def state_model(write: Callable[[Any, Weights], None]) -> Model:
    w = Weights(3)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e: Any = m.encoder
    d: Any = m.decoder
    memory, h = e.gru(e.embedding(e.tokens, w(SOURCE, 4)), w.gru(4, 6))
    e.output(memory=memory, h=h, mean=e.pool(memory, "mean"), const=e.constant(values(6)))
    d.y = d.embedding(d.token, w(TARGET, 6))
    write(d, w)
    return m.build(start=1)


def swapped(d: Any, w: Weights) -> None:
    a, b = d.state("a", initial="h"), d.state("b", size=6)
    d.next(a=b, b=a)
    d.output(logits=d.linear([a, b, d.y], w(TARGET, 18)))


def rotated(d: Any, w: Weights) -> None:
    a, b, c = d.state("a", initial="h"), d.state("b", initial="mean"), d.state("c", initial="const")
    d.next(a=d.gru_cell(d.y, c, w.gru(6, 6)), b=a, c=b)
    d.output(logits=d.linear([a, b, c], w(TARGET, 18)))


def kept(d: Any, w: Weights) -> None:
    a, b = d.state("a", initial="mean"), d.state("b", size=6)
    d.next(a=a, b=d.gru_cell(d.y, b, w.gru(6, 6)))
    d.output(logits=d.linear([a, b], w(TARGET, 12)))


def from_encoder(d: Any, w: Weights) -> None:
    a, b = d.state("a", size=6), d.state("b", initial="h")
    d.next(a="mean", b="const")
    d.output(logits=d.linear([a, b, d.y], w(TARGET, 18)))


def shared(d: Any, w: Weights) -> None:
    a, b = d.state("a", initial="h"), d.state("b", size=6)
    h = d.gru_cell([d.y, b], a, w.gru(12, 6))
    d.next(a=h, b=h)
    d.output(logits=d.linear([h, b], w(TARGET, 12)))


def constant(d: Any, w: Weights) -> None:
    a, b = d.state("a", size=6), d.state("b", size=6)
    d.next(a=d.constant(values(6)), b=d.add(a, d.y, b))
    d.output(logits=d.linear([a, b], w(TARGET, 12)))


def embedded(d: Any, w: Weights) -> None:
    """The previous token but one: an embedding as a state's next value, folded elsewhere."""
    a = d.state("a", size=6)
    d.next(a=d.y)
    d.output(logits=d.linear([d.y, a], w(TARGET, 12)))


def logits_as_state(d: Any, w: Weights) -> None:
    a = d.state("a", size=TARGET)
    logits = d.linear([d.y, a], w(TARGET, 6 + TARGET))
    d.next(a=logits)
    d.output(logits=logits)


def state_as_logits(d: Any, w: Weights) -> None:
    a = d.state("a", size=TARGET)
    d.next(a=d.linear([d.y, a], w(TARGET, 6 + TARGET)))
    d.output(logits=a)


@pytest.mark.parametrize("write", [swapped, rotated, kept, from_encoder, shared, constant, embedded,
                                   logits_as_state, state_as_logits])  # fmt: skip
def test_states_take_their_next_values(write: Callable[[Any, Weights], None]) -> None:
    check_decoder(state_model(write), TOKENS, depth=400)


@pytest.mark.parametrize("source", ["h", "const"])
def test_logits_that_depend_on_the_encoder_alone(source: str) -> None:
    w = Weights(3)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    _, h = e.gru(e.embedding(e.tokens, w(SOURCE, 4)), w.gru(4, TARGET))
    e.output(h=h, const=e.constant(w(TARGET)))
    d.output(logits=d.linear(source, w(TARGET, TARGET)) if source == "h" else d.add(source, source))
    check_decoder(m.build(start=1), TOKENS, depth=200)


def test_logits_that_are_an_encoder_output() -> None:
    w = Weights(3)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    _, h = e.gru(e.embedding(e.tokens, w(SOURCE, 4)), w.gru(4, TARGET))
    e.output(h=h)
    d.output(logits="h")
    check_decoder(m.build(start=1), TOKENS, depth=200)


@pytest.mark.parametrize("source", ["memory", "weights"])
def test_alignment_of_the_encoder_level(source: str) -> None:
    """An alignment that no row computes is given to every row."""
    w = Weights(3)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    memory, h = e.gru(e.embedding(e.tokens, w(SOURCE, 4)), w.gru(4, 6))
    _, weights = e.attention(query=h, keys=memory, values=memory)
    e.output(weights=weights, h=h, memory=memory, one=e.linear(memory, w(1, 6)))
    d.output(
        logits=d.linear(["h", d.embedding(d.token, w(TARGET, 6))], w(TARGET, 12)),
        alignment="one" if source == "memory" else "weights",
    )
    model = m.build(start=1, generation={"max_length": 3})
    found = Engine.load(model).decode(TOKENS, beam_size=3, return_attention=True)
    expected = model.reference().decode(TOKENS, beam_size=3, return_attention=True)
    assert found.attention is not None and expected.attention is not None
    assert np.abs(found.attention - expected.attention).max() <= ROUNDING * 50
    assert found.attention.shape == (3, len(TOKENS))


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    """Compositions that nobody thought of: random operations on random earlier values."""
    random = np.random.default_rng(seed)
    n = int(random.choice([1, 3, 31, 32, 33]))

    def write(d: Any, w: Weights, n: int) -> Any:
        vectors: list[Any] = [d.now, d.h, "top", "const", d.constant(values(n)), "h"]
        sequences: list[Any] = ["memory", "keys"]

        def pick(from_: list[Any]) -> Any:
            return from_[int(random.integers(len(from_)))]

        for _ in range(8):
            choice = int(random.integers(9))
            a, b, s, t = pick(vectors), pick(vectors), pick(sequences), pick(sequences)
            if choice == 0:
                vectors.append(d.linear([a, b, d.y], w(n, 2 * n + 8), activation="tanh"))
            elif choice == 1:
                sequences.append(d.linear([s, a], w(n, 2 * n), w(n), activation="tanh"))
            elif choice == 2:
                vectors.append(d.attention(query=a, keys=s, values=t, scale=0.5)[0])
            elif choice == 3:
                vectors.append(d.gru_cell([a, d.y], b, w.gru(n + 8, n)))
            elif choice == 4:
                sequences.append(d.activation(d.add(s, a, t), "tanh"))
            elif choice == 5:
                vectors.append(d.pool(s, str(random.choice(["mean", "max", "first", "last"]))))
            elif choice == 6:
                sequences.append(d.lstm([s, a], w.lstm(2 * n, n), b)[0])
            elif choice == 7:
                vectors.append(d.slice(d.concat([a, d.y, b]), 8, 8 + n))
            else:
                vectors.append(d.interpolate(d.activation(a, "sigmoid"), b, pick(vectors)))
        last = vectors[-1]
        return d.concat([last, d.pool(sequences[-1], "mean"), d.now])

    check_decoder(decoder_model(write, n), TOKENS, depth=1000 + 60 * n)
