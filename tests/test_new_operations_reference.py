"""The reference against a few lines of NumPy for scans, joins, windows, heads, copies, peepholes,
prompts and states that are sequences. Knows equations; never the core."""

from __future__ import annotations

import itertools
import math
from typing import Any

import models
import numpy as np
import pytest
from models import END, START, TARGET, Weights
from test_reference import CLOSE, Array, D, H, S, cell_weights, normal, run, sigma

from s2s_engine.builder import ModelBuilder
from s2s_engine.errors import InputError, ModelFormatError, NumericalError
from s2s_engine.model import Model
from s2s_engine.options import DecodeOptions
from s2s_engine.reference_operations import EXECUTE, Arguments
from s2s_engine.reference_search import checked_log_probs, log_softmax

SOURCE = models.SOURCE


def encoded(m: ModelBuilder, inputs: Any, **outputs: Any) -> dict[str, Array]:
    m.encoder.output(**outputs)
    return m.build().reference().encode(inputs=inputs)


def features(**sizes: int) -> tuple[ModelBuilder, dict[str, Any], dict[str, Any]]:
    """A builder whose encoder has features as inputs, their handles, and float32 values: a name
    in capitals is a sequence."""
    m = ModelBuilder()
    handles, values = {}, {}
    for name, size in sizes.items():
        along = name.isupper()
        handles[name] = m.encoder.input(name, **{"sequence" if along else "vector": size})
        values[name] = (normal(S, size) if along else normal(size)).astype(np.float32)
    return m, handles, values


# --- operations ---


def test_one_hot_has_a_one_at_its_id_and_minus_one_has_none() -> None:
    assert np.array_equal(run("one_hot", {"x": np.array(2)}, size=4), [0, 0, 1, 0])
    assert np.array_equal(run("one_hot", {"x": np.array(-1)}, size=4), np.zeros(4))
    ids = np.array([3, -1, 0])
    assert np.array_equal(run("one_hot", {"x": ids}, size=4),
                          [[0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]])  # fmt: skip


def test_join_puts_positions_behind_each_other() -> None:
    a, b, v = normal(S, D), normal(2, D), normal(D)
    joined = run("join", {"x": [v, a, b, v]})
    assert np.array_equal(joined, [v, *a, *b, v])


def test_maxout_takes_the_largest_of_consecutive_features() -> None:
    x = normal(S, 12)
    out = run("maxout", {"x": x}, pieces=3)
    for t, j in itertools.product(range(S), range(4)):
        assert out[t, j] == max(x[t, 3 * j], x[t, 3 * j + 1], x[t, 3 * j + 2])
    assert np.array_equal(run("maxout", {"x": x[0]}, pieces=1), x[0])
    assert np.array_equal(run("maxout", {"x": x[0]}, pieces=12), [x[0].max()])


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_layer_norm_has_the_biased_variance_and_eps_inside_the_root(eps: float) -> None:
    x, weight, bias = normal(S, D), normal(D), normal(D)
    out = run("layer_norm", {"x": x}, {"weight": weight, "bias": bias}, eps=eps)
    for t in range(S):
        mean = sum(x[t]) / D
        variance = sum((v - mean) ** 2 for v in x[t]) / D
        normalised = (x[t] - mean) / math.sqrt(variance + float(np.float32(eps)))
        np.testing.assert_allclose(out[t], weight * normalised + bias, **CLOSE)
    plain = run("layer_norm", {"x": x}, eps=eps)
    np.testing.assert_allclose(plain, (out - bias) / weight, rtol=0, atol=1e-12)


def test_layer_norm_of_equal_features_without_eps_is_not_a_number() -> None:
    assert np.isnan(run("layer_norm", {"x": np.ones(D)}, eps=0.0)).all()
    assert np.array_equal(run("layer_norm", {"x": np.ones(D)}, eps=1e-5), np.zeros(D))


def test_reverse_turns_sequences_and_ids_round() -> None:
    x = normal(S, D)
    assert np.array_equal(run("reverse", {"x": x}), [x[S - 1 - t] for t in range(S)])
    assert np.array_equal(run("reverse", {"x": np.array([4, 5, 6])}), [6, 5, 4])


@pytest.mark.parametrize("length", [1, 3, 5, 6, 9])
def test_to_positions_cuts_or_fills_with_zeros(length: int) -> None:
    x = normal(5)
    out = EXECUTE["to_positions"](Arguments({"x": [x]}, {}, {}, length=length))[""]
    assert out.shape == (length, 1)
    assert [float(v) for v in out[:, 0]] == [x[j] if j < 5 else 0.0 for j in range(length)]


def test_scatter_sums_onto_ids_and_drops_minus_one() -> None:
    weights = np.array([[0.1], [0.2], [0.3], [0.4]])
    out = run("scatter", {"weights": weights, "ids": np.array([2, -1, 0, 2])}, size=4)
    assert np.array_equal(out, [0.3, 0.0, 0.1 + 0.4, 0.0])


def test_first_step_chooses_by_the_step() -> None:
    inputs: Any = {"first": [normal(D)], "otherwise": [normal(D)]}
    for step in range(3):
        chosen = EXECUTE["first_step"](Arguments(inputs, {}, {}, step=step))[""]
        assert np.array_equal(chosen, inputs["first" if step == 0 else "otherwise"][0])


# --- cells ---


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
def test_rnn_cell_is_its_equation(activation: str) -> None:
    w, x, h = cell_weights(1), normal(D), normal(H)
    total = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    function = {"tanh": np.tanh, "relu": lambda v: np.maximum(v, 0), "identity": lambda v: v}
    out = run("rnn_cell", {"x": [x[:1], x[1:]], "h": h}, w, activation=activation)
    np.testing.assert_allclose(out, function[activation](total), **CLOSE)


def test_rnn_cell_without_x_h_and_biases() -> None:
    w, h = cell_weights(1), normal(H)
    bare = {"weight_hh": w["weight_hh"]}
    np.testing.assert_allclose(
        run("rnn_cell", {"h": h}, bare), np.tanh(w["weight_hh"] @ h), **CLOSE
    )
    assert np.array_equal(run("rnn_cell", {}, bare), np.zeros(H))


P = 3


def lstm_weights(*parts: str) -> dict[str, Array]:
    w = cell_weights(4)
    if "peephole" in parts:
        w["peephole"] = normal(3 * H)
    if "projection" in parts:
        w["weight_hh"], w["projection"] = normal(4 * H, P), normal(P, H)
    return w


def lstm_by_hand(w: dict[str, Array], x: Array, h: Array, c: Array, clip: float = 0.0) -> Any:
    gates = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    i, f, g, o = (gates[k * H : (k + 1) * H] for k in range(4))
    p = w.get("peephole", np.zeros(3 * H))
    new = sigma(f + p[H : 2 * H] * c) * c + sigma(i + p[:H] * c) * np.tanh(g)
    if clip:
        new = np.minimum(np.maximum(new, -clip), clip)
    out = sigma(o + p[2 * H :] * new) * np.tanh(new)
    return w["projection"] @ out if "projection" in w else out, new


PARTS = [(), ("peephole",), ("projection",), ("peephole", "projection")]


@pytest.mark.parametrize("clip", [0.0, 0.25, 3.0])
@pytest.mark.parametrize("parts", PARTS)
def test_lstm_cell_with_peepholes_projection_and_clip(parts: tuple[str, ...], clip: float) -> None:
    w, x, c = lstm_weights(*parts), normal(D), normal(H)
    h = normal(P if "projection" in parts else H)
    out = run("lstm_cell", {"x": [x], "h": h, "c": c}, w, clip=clip)
    h_next, c_next = lstm_by_hand(w, x, h, c, clip)
    np.testing.assert_allclose(out["h"], h_next, **CLOSE)
    np.testing.assert_allclose(out["c"], c_next, **CLOSE)
    assert clip == 0 or np.abs(out["c"]).max() <= clip


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("parts", PARTS)
def test_lstm_layer_unrolls_its_cell_from_zeros(parts: tuple[str, ...], direction: str) -> None:
    w, x = lstm_weights(*parts), normal(S, D)
    out = run("lstm", {"x": [x]}, w, direction=direction, clip=0.5)
    h, c = np.zeros(w["weight_hh"].shape[1]), np.zeros(H)
    for t in range(S) if direction == "forward" else range(S - 1, -1, -1):
        h, c = lstm_by_hand(w, x[t], h, c, 0.5)
        np.testing.assert_allclose(out["sequence"][t], h, **CLOSE)
    np.testing.assert_allclose(out["h"], h, **CLOSE)
    np.testing.assert_allclose(out["c"], c, **CLOSE)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_rnn_layer_unrolls_its_cell(direction: str) -> None:
    w, x, h = cell_weights(1), normal(S, D), normal(H)
    out = run("rnn", {"x": [x], "h": h}, w, direction=direction)
    for t in range(S) if direction == "forward" else range(S - 1, -1, -1):
        h = np.tanh(w["weight_ih"] @ x[t] + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"])
        np.testing.assert_allclose(out["sequence"][t], h, **CLOSE)
    np.testing.assert_allclose(out["h"], h, **CLOSE)


# --- attention ---


def attended(
    query: Any, keys: Array, values: Array, heads: int, *, v: Any = None, scale: float = 1.0,
    bias: float = 0.0, softmax: bool = True, centre: Any = None, window: int = 0,
    gaussian: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """Context and weights of one query, number by number; without a query, keys are scores."""
    count, width, block = len(values), keys.shape[1] // heads, values.shape[1] // heads
    weights, context = np.zeros((count, heads)), np.zeros(values.shape[1])
    for n in range(heads):
        part = slice(n * width, (n + 1) * width)
        live = [j for j in range(count) if centre is None or abs(j - centre) <= window]
        e = {}
        for j in live:
            if query is None:
                score = keys[j, n]
            elif v is None:
                score = query[part] @ keys[j, part]
            else:
                score = v[part] @ np.tanh(query[part] + keys[j, part])
            e[j] = np.maximum(scale * score + bias, 0.0)
        total = sum(math.exp(e[j]) for j in live)
        for j in live:
            a = math.exp(e[j]) / total if softmax else e[j]
            if gaussian:
                a *= math.exp(-((j - centre) ** 2) / (2 * (window / 2) ** 2))
            weights[j, n] = a
            context[n * block : (n + 1) * block] += a * values[j, n * block : (n + 1) * block]
    return context, weights


WINDOWS: list[dict[str, Any]] = [
    {},
    {"centre": 3.25, "window": 2},
    {"centre": 0.0, "window": 1, "gaussian": True},
    {"centre": 6.9, "window": 3, "gaussian": True},
    {"centre": 40.0, "window": 2, "gaussian": True},
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("score", ["dot", "additive", "given"])
def test_attention_is_its_equations(
    score: str, heads: int, softmax: bool, window: dict[str, Any]
) -> None:
    query, keys, values, v = normal(8), normal(S, 8), normal(S, 12), normal(8)
    inputs: dict[str, Any] = {"query": query, "keys": keys, "values": values}
    if score == "given":
        keys = normal(S, heads)
        inputs = {"scores": keys, "values": values}
    weights = {"energy_bias": np.array([0.25])} | ({"v": v} if score == "additive" else {})
    attributes = dict(window)
    if window:
        inputs["centre"] = np.array([attributes.pop("centre")])
    out = run("attention", inputs, weights, score=score, heads=heads, scale=0.5, **attributes,
              energy_activation="relu", normaliser="softmax" if softmax else "none")  # fmt: skip
    context, expected = attended(
        None if score == "given" else query, keys, values, heads, scale=0.5, bias=0.25,
        v=v if score == "additive" else None, softmax=softmax, **window,
    )  # fmt: skip
    np.testing.assert_allclose(out["weights"], expected, **CLOSE)
    np.testing.assert_allclose(out["context"], context, **CLOSE)
    if window.get("centre") == 40.0:  # an empty window
        assert not out["weights"].any()
        assert not out["context"].any()


def test_centre_may_be_an_id() -> None:
    keys, values = normal(S, D), normal(S, D)
    out = run("attention", {"query": keys[0], "keys": keys, "values": values,
                            "centre": np.array(2)}, window=1)  # fmt: skip
    assert np.flatnonzero(out["weights"]).tolist() == [1, 2, 3]
    np.testing.assert_allclose(out["weights"].sum(), 1.0, **CLOSE)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("kind", ["none", "ids", "sequence"])
def test_query_that_is_a_sequence_asks_at_every_position(kind: str, heads: int) -> None:
    query, keys, values = normal(4, 8), normal(S, 8), normal(S, 6)
    inputs: dict[str, Any] = {"query": query, "keys": keys, "values": values}
    centres: list[Any] = [None] * 4
    if kind != "none":
        centres = [0, 3, 6, 2]
        inputs["centre"] = np.array(centres if kind == "ids" else [[float(c)] for c in centres])
    window = 0 if kind == "none" else 2
    out = run("attention", inputs, score="dot", heads=heads, window=window,
              energy_activation="relu")  # fmt: skip
    assert out["weights"].shape == (4, S, heads)
    for t in range(4):
        context, weights = attended(query[t], keys, values, heads, centre=centres[t], window=window)
        np.testing.assert_allclose(out["weights"][t], weights, **CLOSE)
        np.testing.assert_allclose(out["context"][t], context, **CLOSE)


def test_self_attention_of_an_encoder_shows_its_alignment() -> None:
    """Vaswani et al. 2017, eq. 1, over a source with one more position in front."""
    m, x, given = features(X=8, v=8)
    e = m.encoder
    memory = e.join([x["v"], x["X"]])
    context, alignment = e.attention(
        query=x["X"], keys=memory, values=memory, heads=2, scale=8**-0.5, score="dot"
    )
    out = encoded(m, given, context=context, alignment=alignment)
    assert out["alignment"].shape == (2, S, S + 1)
    keys = np.stack([given["v"], *given["X"]]).astype(np.float64)
    scale = float(np.float32(8**-0.5))
    for t, n in itertools.product(range(S), range(2)):
        part = slice(4 * n, 4 * n + 4)
        a = np.exp(scale * keys[:, part] @ given["X"][t, part])
        np.testing.assert_allclose(out["alignment"][n, t], a / a.sum(), **CLOSE)
        np.testing.assert_allclose(out["context"][t, part], a / a.sum() @ keys[:, part], **CLOSE)


# --- scan ---


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_scan_of_a_cell_is_its_layer(direction: str) -> None:
    w = Weights(30)
    m, x, given = features(X=5, v=6)
    e = m.encoder
    cell = w.lstm(5 + 6, 6)

    def body(step: Any, x_t: Any) -> Any:
        h, c = step.state("h", initial=x["v"]), step.state("c", size=6)
        h, c = step.lstm_cell([x_t], h, c, cell)
        step.next(h=h, c=c)
        return h

    sequence, states = e.scan([x["X"], x["v"]], body, direction=direction)
    layer, h, c = e.lstm([x["X"], x["v"]], cell, x["v"], direction=direction)
    out = encoded(m, given, a=sequence, b=layer, h1=states["h"], h2=h, c1=states["c"], c2=c)
    for one, other in (("a", "b"), ("h1", "h2"), ("c1", "c2")):
        assert np.array_equal(out[one], out[other])


def test_scan_of_a_layer_normalised_rnn_with_captured_values() -> None:
    """Ba et al. 2016, section 3.1, with an attention over the source at every position."""
    w = Weights(31)
    W, U, V, g = w(6, 5), w(6, 6), w(6, 5), w(6)
    m, x, given = features(X=5, u=6)
    e = m.encoder

    def body(step: Any, x_t: Any) -> Any:
        h = step.state("h", initial=x["u"])
        step.state("last", size=5)
        context, _ = step.attention(query=x_t, keys=x["X"], values=x["X"], score="dot")
        total = step.add(step.linear(x_t, W), step.linear(h, U), step.linear(context, V))
        new = step.activation(step.layer_norm(total, g, eps=1e-3), "tanh")
        step.next(h=new, last=x_t)
        return step.add(new, x["u"])

    sequence, states = e.scan(x["X"], body)
    out = encoded(m, given, sequence=sequence, **states)
    xs, u = given["X"].astype(np.float64), given["u"].astype(np.float64)
    h, weight = u, [array.astype(np.float64) for array in (W, U, V, g)]
    for t in range(S):
        a = np.exp(xs @ xs[t])
        total = weight[0] @ xs[t] + weight[1] @ h + weight[2] @ (a / a.sum() @ xs)
        normalised = (total - total.mean()) / np.sqrt(total.var() + float(np.float32(1e-3)))
        h = np.tanh(weight[3] * normalised)
        np.testing.assert_allclose(out["sequence"][t], h + u, **CLOSE)
    np.testing.assert_allclose(out["h"], h, **CLOSE)
    assert np.array_equal(out["last"], xs[-1])


def scanning_decoder() -> Model:
    """A scan in a decoder: coverage-like sums over the memory from the row's state."""
    w = Weights(32)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    memory, h = e.gru(e.embedding(e.tokens, w(SOURCE, 5)), w.gru(5, 6))
    e.output(memory=memory, h=h, tokens=e.tokens)
    before = d.state("h", initial="h")
    cell, mix = w.gru(12, 6), w(6, 6)

    def body(step: Any, x_t: Any) -> Any:
        total = step.state("total", initial=before)
        hidden = step.state("hidden", initial="h")
        new = step.gru_cell([x_t, before], hidden, cell)
        step.next(total=step.add(total, new, step.linear("h", mix)), hidden=new)
        return step.multiply(new, total)

    sequence, states = d.scan("memory", body, direction="backward")
    y = d.embedding(d.token, w(TARGET, 6))
    h = d.gru_cell([y, d.pool(sequence, "mean")], before, w.gru(12, 6))
    copied = d.scatter(d.linear(sequence, w(1, 6)), "tokens", SOURCE)
    d.next(h=h)
    d.output(logits=d.linear([h, states["total"], copied], w(TARGET, 12 + SOURCE)))
    return m.build(start=START, end=[END], generation={"max_length": 6})


def test_scan_and_scatter_in_a_decoder_read_rows_and_encoder_outputs() -> None:
    model = scanning_decoder()
    reference, source = model.reference(), [4, 4, 7]
    w = {name: array.astype(np.float64) for name, array in model.tensors.items()}
    out = reference.encode(source)
    assert set(out) == {"memory", "h"}  # ids are for the decoder alone

    def gru(name: str, x: Array, h: Array) -> Any:
        roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return run("gru_cell", {"x": [x], "h": h}, {r: w[f"{name}.{r}"] for r in roles})

    state, expected = out["h"], []
    for token in (START, 5):
        total, hidden, rows = state, out["h"], {}
        for t in (2, 1, 0):
            hidden = gru("decoder.scan.gru_cell", np.concatenate([out["memory"][t], state]), hidden)
            rows[t] = hidden * total
            total = total + hidden + w["decoder.scan.linear.weight"] @ out["h"]
        mean = (rows[0] + rows[1] + rows[2]) / 3
        y = w["decoder.embedding.weight"][token]
        state = gru("decoder.gru_cell", np.concatenate([y, mean]), state)
        copied = np.zeros(SOURCE)
        for t, i in enumerate(source):
            copied[i] += w["decoder.linear.weight"][0] @ rows[t]
        expected.append(w["decoder.linear_2.weight"] @ np.concatenate([state, total, copied]))
    np.testing.assert_allclose(reference.forced_logits(source, [5]), expected, **CLOSE)
    result = reference.decode(source, beam_size=4, num_hypotheses=4)
    for hypothesis in result.hypotheses:
        score = reference.score(source, hypothesis.ids).token_log_probs
        count = len(hypothesis.token_log_probs)
        assert np.array_equal(score[:count], hypothesis.token_log_probs)


def test_graph_with_a_scan_survives_a_file() -> None:
    model = scanning_decoder()
    again = Model.from_document(model.to_document(), model.tensors)
    assert again.graphs == model.graphs
    assert again.to_document() == model.to_document()
    document: Any = model.to_document()["graphs"]["decoder"]
    (node,) = [node for node in document["nodes"] if node["op"] == "scan"]
    assert node["inputs"] == {"x": ["encoder.memory"]}
    assert node["attributes"] == {"direction": "backward"}
    assert node["body"]["inputs"] == {"x": {"kind": "vector", "size": 6}}
    assert node["body"]["states"]["total"] == {
        "kind": "vector", "size": 6, "initial": "outer.state.h", "next": "add"
    }  # fmt: skip
    assert node["body"]["states"]["hidden"]["initial"] == "outer.encoder.h"
    assert node["body"]["nodes"][0]["inputs"] == {"x": ["x", "outer.state.h"], "h": "state.hidden"}
    assert node["body"]["outputs"] == {"sequence": "multiply"}


def test_body_may_hand_on_what_it_reads() -> None:
    m, x, given = features(X=5, v=3)
    e = m.encoder
    outer, _ = e.scan(x["X"], lambda step, x_t: x["v"], name="outer_value")
    same, _ = e.scan(x["X"], lambda step, x_t: x_t)

    def delayed(step: Any, x_t: Any) -> Any:
        before = step.state("before", size=5)
        step.next(before=x_t)
        return before

    shifted, states = e.scan(x["X"], delayed)
    out = encoded(m, given, outer=outer, same=same, shifted=shifted, last=states["before"])
    assert np.array_equal(out["outer"], np.tile(given["v"], (S, 1)))
    assert np.array_equal(out["same"], given["X"])
    assert np.array_equal(out["shifted"], [np.zeros(5), *given["X"][:-1]])
    assert np.array_equal(out["last"], given["X"][-1])


# --- lengths ---


def test_joined_memory_is_read_by_layers_and_attention() -> None:
    """A tag in front of the letters, as stanza's lemmatiser has it: S + 1 positions."""
    w = Weights(33)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    letters, tag = e.embedding(e.tokens, w(SOURCE, 5)), e.constant(w(5))
    memory, h = e.gru(e.join([tag, letters]), w.gru(5, 6))
    assert memory.type.length == (1, 1)
    assert str(memory) == "gru.sequence (sequence[6] of S+1 positions)"
    twice = e.join([memory, memory, h])
    assert twice.type.length == (2, 3)
    e.output(memory=memory, h=h, twice=twice)
    state = d.state("h", initial="h")
    new = d.gru_cell(d.embedding(d.token, w(TARGET, 5)), state, w.gru(5, 6))
    context, alignment = d.attention(query=new, keys="memory", values="memory")
    d.next(h=new)
    d.output(logits=d.linear(context, w(TARGET, 6)), alignment=alignment)
    reference = m.build(start=START, end=[END], generation={"max_length": 3}).reference()
    out = reference.encode([4, 5, 6])
    assert out["memory"].shape == (4, 6)
    assert out["twice"].shape == (9, 6)
    assert np.array_equal(out["twice"][8], out["h"])
    result = reference.decode([4, 5, 6], return_attention=True)
    assert result.attention is not None
    assert result.attention.shape[1] == 4


# --- states, outputs and prompts ---


def coverage_model() -> Model:
    """A state of kind sequence: what was attended to so far is part of the energy."""
    w = Weights(34)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    memory, h = e.gru(e.embedding(e.tokens, w(SOURCE, 5)), w.gru(5, 6))
    e.output(memory=memory, h=h)
    before, coverage = d.state("h", initial="h"), d.state("coverage", size=1, kind="sequence")
    notes = d.state("notes", initial="memory")
    scores = d.linear([notes, coverage, before], w(1, 13), activation="tanh")
    context, weights = d.attention(scores=scores, values="memory")
    y = d.embedding(d.token, w(TARGET, 5))
    later = d.linear(y, w(6, 5), name="later")
    new = d.gru_cell([d.first_step(context, later), y], before, w.gru(11, 6))
    d.next(h=new, coverage=d.add(coverage, weights), notes=d.multiply(notes, new))
    d.output(logits=d.linear(new, w(TARGET, 6)), alignment=weights)
    return m.build(start=START, end=[END], generation={"max_length": 6})


def test_state_that_is_a_sequence_and_first_step_equal_the_equations() -> None:
    model = coverage_model()
    reference, source = model.reference(), [4, 5, 6]
    w = {name: array.astype(np.float64) for name, array in model.tensors.items()}
    out = reference.encode(source)
    memory, state = out["memory"], out["h"]
    coverage, notes, expected = np.zeros((3, 1)), memory, []
    for number, token in enumerate([START, 7, 3]):
        joined = np.hstack([notes, coverage, np.tile(state, (3, 1))])
        a = np.exp(np.tanh(joined @ w["decoder.linear.weight"].T))
        a /= a.sum()
        y = w["decoder.embedding.weight"][token]
        first = a[:, 0] @ memory if number == 0 else w["decoder.later.weight"] @ y
        roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        state = run("gru_cell", {"x": [first, y], "h": state},
                    {r: w[f"decoder.gru_cell.{r}"] for r in roles})  # fmt: skip
        coverage, notes = coverage + a, notes * state
        expected.append(w["decoder.linear_2.weight"] @ state)
    np.testing.assert_allclose(reference.forced_logits(source, [7, 3]), expected, **CLOSE)
    result = reference.decode(source, beam_size=3, num_hypotheses=3)
    for hypothesis in result.hypotheses:
        score = reference.score(source, hypothesis.ids).token_log_probs
        assert np.array_equal(score[: len(hypothesis.token_log_probs)], hypothesis.token_log_probs)


def normalised_model(table: Any) -> Model:
    """A decoder whose log-probabilities are a row of a table."""
    m = ModelBuilder(source=SOURCE, target=3)
    m.encoder.output(h=m.encoder.pool(m.encoder.one_hot(m.encoder.tokens, SOURCE), "last"))
    table = np.asarray(table, np.float32)
    m.decoder.output(log_probabilities=m.decoder.embedding(m.decoder.token, table))
    return m.build(start=0, end=[2], generation={"max_length": 3})


def test_attention_of_several_heads_has_the_heads_first() -> None:
    w = Weights(36)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    memory = e.embedding(e.tokens, w(SOURCE, 6))
    e.output(memory=memory, one=e.attention(query=memory, keys=memory, values=memory)[1])
    query = d.embedding(d.token, w(TARGET, 6))
    context, weights = d.attention(query=query, keys="memory", values="memory", heads=3)
    d.output(logits=d.linear(context, w(TARGET, 6)), alignment=weights)
    reference = m.build(start=START, end=[END], generation={"max_length": 4}).reference()
    result = reference.decode([4, 5], return_attention=True)
    assert result.attention is not None
    assert result.attention.shape == (3, len(result.hypotheses[0].token_log_probs), 2)
    np.testing.assert_allclose(result.attention.sum(axis=2), 1.0, rtol=0, atol=1e-6)
    assert reference.encode([4, 5])["one"].shape == (2, 2)


def test_log_probabilities_of_a_model_are_used_as_they_are() -> None:
    table = np.float32([[-1.0, -2.5, -0.5], [-0.25, -3.0, -1.5], [0.0, 0.0, 0.0]])
    reference = normalised_model(table).reference()
    score = reference.score([1], [1, 0])
    assert score.token_log_probs.tolist() == [-2.5, -0.25, -0.5]
    assert score.log_prob == -3.25
    result = reference.decode([1], beam_size=2, num_hypotheses=2)
    assert [h.score for h in result.hypotheses] == [-0.5, -1.5]
    assert np.array_equal(reference.forced_logits([1], [1]), table[[0, 1]])


def test_log_probability_may_be_minus_infinity_and_nothing_else_that_is_not_finite() -> None:
    values = np.array([-np.inf, 0.0])
    assert np.array_equal(checked_log_probs(values, "x"), values.astype(np.float32))
    for bad in (np.nan, np.inf):
        with pytest.raises(NumericalError, match="step 3: the log-probabilities hold a NaN or"):
            checked_log_probs(np.array([bad, 0.0]), "step 3")


def language_model(start: int | None = START, steps: int = 0) -> Model:
    """No encoder: an LSTM that continues a prompt."""
    w = Weights(35)
    m = ModelBuilder(target=TARGET)
    d = m.decoder
    h, c = d.state("h", size=6), d.state("c", size=6)
    x = d.embedding(d.token, w(TARGET, 5))
    if steps:
        x = d.add(x, d.embedding(d.step(steps), w(steps, 5)))
    h, c = d.lstm_cell(d.first_step(d.constant(w(5)), x), h, c, w.lstm(5, 6))
    d.next(h=h, c=c)
    d.output(logits=d.linear(h, w(TARGET, 6)))
    return m.build(start=start, end=[END], vocabularies={"target": models.words("t", TARGET)},
                   generation={"max_length": 8})  # fmt: skip


def test_model_without_an_encoder_continues_its_prompt() -> None:
    """Decoding behind a prompt is scoring with the prompt in front."""
    model = language_model()
    assert set(model.graphs) == {"decoder"}
    reference = model.reference()
    result = reference.decode([5, 3], beam_size=3, num_hypotheses=3)
    assert reference.decode(["t5", "t3"]).tokens == reference.decode([5, 3]).tokens
    for hypothesis in result.hypotheses:
        behind = reference.score([5, 3], hypothesis.ids)
        whole = reference.score([], [5, 3, *hypothesis.ids])
        assert np.array_equal(whole.token_log_probs[2:], behind.token_log_probs)
        count = len(hypothesis.token_log_probs)
        assert np.array_equal(behind.token_log_probs[:count], hypothesis.token_log_probs)
    assert reference.decode().ids == reference.decode([]).ids
    assert reference.forced_logits([5, 3], [4]).shape == (2, TARGET)
    assert len(reference.trace([5, 3], [4]).steps) == 2
    assert reference.trace([5, 3], [4]).encoder == {}


def test_prompt_without_a_start_is_fed_alone() -> None:
    fed = language_model(start=None).reference()
    started = language_model(start=START).reference()
    assert fed.decode([START, 5]).score == started.decode([5]).score
    log_probs = log_softmax(fed.forced_logits([START], [5]), "here")
    assert np.array_equal(started.forced_logits([], [5]), fed.forced_logits([START], [5]))
    assert started.score(None, [5]).token_log_probs[0] == log_probs[0, 5]
    for empty in ([], None):
        with pytest.raises(InputError, match=r"the prompt is empty.*no start id"):
            fed.decode(empty)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([9], "token 0 of the prompt is 9, outside the target vocabulary of 9 ids"),
        (["t3", "word"], "token 1 of the prompt is 'word', not one of the 9 strings of the target"),
        ("t3", "the prompt is the string 't3': pass a list of tokens"),
        ({"tokens": [1]}, "this model has no encoder: pass a prompt"),
        (np.zeros(3), "the prompt is an array of float64"),
    ],
)
def test_wrong_prompt_is_an_input_error(x: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        language_model().reference().decode(x)


def test_model_without_an_encoder_has_no_features_and_nothing_to_encode() -> None:
    reference = language_model().reference()
    with pytest.raises(InputError, match="no encoder"):
        reference.decode(features=np.zeros(3, np.float32))
    with pytest.raises(InputError, match="no encoder"):
        reference.encode([1])
    with pytest.raises(InputError, match="max_length is 'source'"):
        reference.decode([1], max_length="source")


def test_prompt_counts_towards_the_steps_of_a_model() -> None:
    reference = language_model(steps=10).reference()
    assert len(reference.decode([5, 4], max_length=8).hypotheses[0].token_log_probs) <= 8
    with pytest.raises(InputError, match="max_length allows 8 ids here behind 3 of the prompt"):
        reference.decode([5, 4, 3], max_length=8)
    limit = reference.model.limit(DecodeOptions(max_length=7), None, steps_before=3)
    assert limit == 7


def test_source_rule_of_a_model_without_an_encoder_is_refused() -> None:
    document = language_model().to_document()
    tensors = language_model().tensors
    document["source"]["truncate"] = 3
    with pytest.raises(ModelFormatError, match="without an encoder prepares no source"):
        Model.from_document(document, tensors)


def test_self_test_of_a_model_without_an_encoder_holds_a_prompt() -> None:
    document = language_model().to_document()
    test = {"source": [8, 3], "target": [], "log_probs": [-1.0], "tolerance": 0.1}
    for source, message in (([8], ""), ([], ""), ([9], "source, item 0 must be 0 to 8, is 9")):
        document["self_test"] = test | {"source": source}
        if message:
            with pytest.raises(ModelFormatError, match=message):
                Model.from_document(document, language_model().tensors)
        else:
            Model.from_document(document, language_model().tensors)
