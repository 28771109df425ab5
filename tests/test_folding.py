"""What a plan folds: the same values as the graph within rounding, the same bits everywhere, by
shapes and compute types alone. Knows wirings whose contexts and queries are products' inputs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import models
import numpy as np
import pytest
from conftest import ISAS
from variants.random_graphs import random_model

from s2s_engine import Engine, Model, ModelBuilder, _core, folding
from s2s_engine.format import from_bytes, to_bytes
from s2s_engine.graph import Node
from s2s_engine.operations import OPERATIONS
from s2s_engine.reference import Reference

TARGET = [3, 4, 5, 6, 3]


def wide(hidden: int = 9, window: int = 0, **attention: Any) -> Model:
    """Everything at once: a query that is a product, cells of each kind that read the context
    alone, first, in the middle and twice, and a state that keeps it."""
    w = models.Weights(3, 0.4)
    m = ModelBuilder(source=models.SOURCE, target=models.TARGET)
    e, d = m.encoder, m.decoder
    memory, last = e.bidirectional(
        e.gru, e.embedding(e.tokens, w(models.SOURCE, 5)), w.gru(5, hidden), w.gru(5, hidden)
    )
    size = 2 * hidden
    h = e.linear(last, w(hidden, size))
    e.output(memory=memory, other=e.linear(memory, w(13, size)), keys=memory, h=h)
    h1, h2, c2 = (d.state(name, initial="h") for name in ("h1", "h2", "c2"))
    h3, kept = d.state("h3", initial="h"), d.state("kept", size=size)
    token = d.embedding(d.token, w(models.TARGET, 4))
    if window:  # behind the end of a short source nothing is seen
        attention |= {"centre": d.step(20), "window": window}
    a = d.rnn_cell([token, kept], h1, w.cell(1, 4 + size, hidden))
    context, weights = d.attention(
        query=d.linear(a, w(size, hidden)), keys="keys", values="memory", **attention
    )
    rest, _ = d.attention(query=d.linear(a, w(13, hidden), w(13)), keys="other", values="other")
    b, c = d.lstm_cell([a, context, token], h2, c2, w.lstm(hidden + size + 4, hidden))
    g = d.gru_cell([context], h3, w.gru(size, hidden))
    many = w(21, 2 * size + 2 * hidden + 13)
    t = d.linear([context, b, rest, g, context], many, w(21), activation="tanh")
    alone = d.linear([rest], w(7, 13), w(7), activation="relu")
    d.next(h1=a, h2=b, c2=c, h3=g, kept=context)
    logits = d.linear([t, alone], w(models.TARGET, 28))
    d.output(logits=logits, alignment=weights)
    return m.build(start=1, end=[2], generation={"max_length": 7})


MODELS = {
    "wide": wide(),
    "wide, whole panels": wide(hidden=32),
    "window": wide(window=1, scale=0.3),
    "gaussian": wide(window=2, gaussian=True, normaliser="none"),
    "lstm": models.lstm_luong(hidden=33),
    "gru": models.gru_additive(hidden=17),
    "gru, reset after": models.gru_additive(hidden=17, reset="after"),
    "given": models.lstm_given(),
}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models are folded, too."""
    monkeypatch.setattr(_core, "Model", partial(_core.Model, fold_bytes=1))
    monkeypatch.setattr(folding, "FOLD_BYTES", 1)


def told(model: Model, types: dict[str, str]) -> dict[str, list[str]]:
    """What the Python side says is folded, in the core's words."""
    shapes = {name: array.shape for name, array in model.tensors.items()}
    found = {}
    for role, graph in model.graphs.items():
        folds = folding.folds(model.graphs, role, model.types()[role], shapes, types)
        for node in graph.nodes:
            if folds.of(node.name):
                found[f"{role}.{node.name}"] = list(folds.of(node.name))
    return found


def sources() -> list[list[int]]:
    random = np.random.default_rng(7)
    return [list(map(int, random.integers(0, models.SOURCE, n % 6 + 1))) for n in range(7)]


def test_which_references_are_folded(folded: None) -> None:
    with Engine.load(MODELS["wide"]) as engine:
        found = engine.info.folded
    assert {name: refs for name, refs in found.items() if name.startswith("decoder")} == {
        "decoder.rnn_cell": ["embedding"],
        "decoder.attention": ["linear"],
        "decoder.lstm_cell": ["attention.context"],
        "decoder.gru_cell": ["attention.context"],
        "decoder.linear_3": ["attention.context", "attention_2.context", "attention.context"],
        "decoder.linear_4": ["attention_2.context"],
    }


@each_model
def test_folded_models_agree_with_the_reference(isa: str, model: Model, folded: None) -> None:
    reference = Reference(model)
    with Engine.load(model, isa=isa) as engine:
        for x in sources():
            given = engine.forced_logits(x, TARGET)
            assert np.abs(given - reference.forced_logits(x, TARGET)).max() < 2e-5
            assert engine.decode(x).hypotheses[0].ids == reference.decode(x).hypotheses[0].ids


def bits(results: list[Any]) -> list[Any]:
    return [(h.ids, h.log_prob, h.token_log_probs.tobytes()) for r in results for h in r.hypotheses]


@each_model
@pytest.mark.parametrize("compute_type", ["float32", "bfloat16", "int8"])
def test_bits_do_not_depend_on_isa_batch_order_or_threads(
    model: Model, compute_type: str, folded: None
) -> None:
    xs, expected = sources(), None
    for isa in ISAS:
        with Engine.load(model, isa=isa, compute_type=compute_type, threads=2) as engine:
            for beam in (1, 4):
                options = {"beam_size": beam, "num_hypotheses": beam}
                alone = [bits([engine.decode(x, **options)]) for x in xs]
                for batch in (3, 64):
                    together = engine.decode_batch(xs, batch_size=batch, **options)
                    assert [bits([one]) for one in together] == alone
                late = list(engine.decode_iter(iter(xs[::-1]), batch_size=2, **options))
                assert [bits([one]) for one in late[::-1]] == alone
            expected = alone if expected is None else expected
            assert alone == expected, isa


def test_the_alignment_has_the_bits_of_a_plan_that_folds_no_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, maps = models.gru_additive(hidden=17), []
    for least in (1, 1 << 40):
        monkeypatch.setattr(_core, "Model", partial(_MODEL, fold_bytes=least))
        with Engine.load(model) as engine:
            assert ("attention.context" in engine.info.folded["decoder.gru_cell"]) == (least == 1)
            best = engine.decode([3, 4, 5], return_attention=True).hypotheses[0]
            assert best.attention is not None
            maps.append(best.attention[:1].tobytes())  # of the first step, before any context
    assert maps[0] == maps[1]


_MODEL = _core.Model


@pytest.mark.parametrize(
    ("size", "type_", "is_folded"),
    [
        (62, "float32", False),
        (64, "float32", True),
        (62, "bfloat16", False),
        (64, "bfloat16", True),
        (254, "int8", False),
        (256, "int8", True),
    ],
)
def test_the_rule_is_of_shapes_and_compute_types(size: int, type_: str, is_folded: bool) -> None:
    model = models.gru_additive(hidden=size // 2)
    other = models.gru_additive(seed=9, hidden=size // 2)
    for one in (model, other):
        with Engine.load(one, compute_type=type_) as engine:
            folded = engine.info.folded
            assert folded == told(one, engine.info.compute_types)
        assert ("attention.context" in folded["decoder.gru_cell"]) == is_folded


def test_sources_of_features_are_not_folded(folded: None) -> None:
    """Frames and columns of images are many for few outputs."""
    found = []
    for kind in ("ids", "sequence"):
        w = models.Weights(1)
        m = ModelBuilder(target=models.TARGET)
        e, d = m.encoder, m.decoder
        x = e.input("x", sequence=5) if kind == "sequence" else e.input("x", ids=5)
        memory = x if kind == "sequence" else e.embedding(x, w(5, 5))
        e.output(memory=memory, h=e.pool(memory, "mean"))
        token = d.embedding(d.token, w(models.TARGET, 5))
        h = d.gru_cell(token, d.state("h", initial="h"), w.gru(5, 5))
        context, _ = d.attention(query=h, keys="memory", values="memory")
        d.next(h=h)
        d.output(logits=d.linear([h, context], w(models.TARGET, 10)))
        with Engine.load(m.build(start=1, end=[2], generation={"max_length": 4})) as engine:
            assert engine.info.folded == told(engine._model, {})
            found.append("decoder.linear" in engine.info.folded)
    assert found == [True, False]


@pytest.mark.parametrize("least", [1, 256])
def test_python_tells_what_the_core_folds(monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    monkeypatch.setattr(folding, "FOLD_BYTES", least)
    monkeypatch.setattr(_core, "Model", partial(_MODEL, fold_bytes=least))
    contexts = 0
    for model in [*MODELS.values(), *(random_model(seed) for seed in range(120))]:
        for type_ in ("float32", "int8"):
            with Engine.load(model, compute_type=type_) as engine:
                found = {n: r for n, r in engine.info.folded.items() if n.count(".") == 1}
                assert found == told(model, engine.info.compute_types)
            contexts += sum(name.endswith(".context") for r in found.values() for name in r)
    assert (contexts > 20) == (least == 1)


def test_a_pickled_or_stored_engine_folds_the_same(folded: None) -> None:
    model = MODELS["wide"]
    with Engine.load(model) as engine, Engine.load(from_bytes(to_bytes(model))) as again:
        assert engine.info.folded == again.info.folded
        assert bits([engine.decode([3, 4])]) == bits([again.decode([3, 4])])


# --- int8: a graph in which what the plan does is written down ---


def unfolded(model: Model, found: dict[str, list[str]]) -> tuple[Model, dict[str, int]]:
    """The folded model as a graph of the set, and how many first columns of its matrices are
    float32: what is added to a product comes in through a matrix of ones."""
    tensors, columns, nodes = dict(model.tensors), {}, []
    types, graph = model.types()["decoder"], model.graphs["decoder"]
    made = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        names = found.get(f"decoder.{node.name}", [])
        if node.op == "attention" and names:
            maker = made[names[0]]
            whole = model.tensors[maker.weights["weight"]]
            tensors[f"{node.name}.across"] = np.ascontiguousarray(whole.T)
            keys = linear(f"{node.name}_keys", [str(node.inputs["keys"])], f"{node.name}.across")
            inputs = {**node.inputs, "keys": keys.name, "query": folding.references(maker, "x")[0]}
            nodes += [keys, replace(node, inputs=inputs)]
            continue
        contexts = [name for name in names if name.endswith(".context")]
        if not contexts:
            nodes.append(node)
            continue
        role, _ = folding.JOINING[node.op]
        whole = model.tensors[node.weights[role]]
        first, kept, starts, x = 0, [], [], []
        table = [name for name in names if name not in contexts]
        for number, name in enumerate(folding.references(node, "x")):
            size = types[name].size
            part = whole[:, first : first + size]
            first += size
            if name not in contexts:
                x.append(name)
                kept.append(part)
                continue
            attention = made[name.removesuffix(".context")]
            tensor = f"{node.name}.part{number}"
            tensors[tensor] = np.ascontiguousarray(part)
            values = linear(
                f"{node.name}_values{number}", [str(attention.inputs["values"])], tensor
            )
            again = given(f"{node.name}_context{number}", f"{attention.name}.weights", values.name)
            nodes += [values, again]
            starts.append(f"{again.name}.context")
        ones = np.eye(len(whole), dtype=np.float32)
        tables = kept[: len(table)]
        tensors[f"{node.name}.rest"] = np.concatenate(
            [*tables, *(ones for _ in starts), *kept[len(table) :]], axis=1
        )
        columns[f"{node.name}.rest"] = sum(t.shape[1] for t in tables) + len(starts) * len(ones)
        nodes.append(
            replace(
                node,
                inputs={**node.inputs, "x": [*x[: len(table)], *starts, *x[len(table) :]]},
                weights={**node.weights, role: f"{node.name}.rest"},
            )
        )
    graphs = {**model.graphs, "decoder": replace(graph, nodes=nodes)}
    used = {t for g in graphs.values() for n in g.all_nodes() for t in n.weights.values()}
    return replace(model, graphs=graphs, tensors={n: tensors[n] for n in used}), columns


def linear(name: str, x: list[str], weight: str) -> Node:
    return Node(name, "linear", {"x": x}, {"weight": weight}, {"activation": "identity"})


def given(name: str, weights: str, values: str) -> Node:
    defaults = {key: rule.default for key, rule in OPERATIONS["attention"].attributes.items()}
    attributes = {**defaults, "score": "given", "normaliser": "none"}
    return Node(name, "attention", {"scores": weights, "values": values}, {}, attributes)


@each_model
@pytest.mark.parametrize("compute_type", ["bfloat16", "int8"])
def test_compute_types_round_what_is_folded(model: Model, compute_type: str, folded: None) -> None:
    with Engine.load(model, compute_type=compute_type) as engine:
        types, columns = engine.info.compute_types, engine._core.float_columns
        explicit, more = unfolded(model, engine.info.folded)
        inner = {name: types.get(name, compute_type) for name in explicit.tensors}
        near, far = [], []
        typed, plain = Reference(explicit, inner, {**columns, **more}), Reference(model)
        for x in sources():
            given = engine.forced_logits(x, TARGET)
            near.append(np.abs(given - typed.forced_logits(x, TARGET)).max())
            far.append(np.abs(given - plain.forced_logits(x, TARGET)).max())
    assert np.median(near) < (2e-4 if compute_type == "int8" else 5e-6)
    assert max(near) < max(far) / (2 if compute_type == "int8" else 100)
