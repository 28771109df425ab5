"""The workloads: models written with `ModelBuilder`, their sources, and their weights read back
from a model's tensors for the peers. Knows nothing of clocks or of any peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2s_engine import Engine, Model, ModelBuilder, demo_model
from s2s_engine.format import from_bytes_with_digest
from s2s_engine.graph import Graph, Node

Array = NDArray[np.float32]

WORDS = (
    "absolute", "birthday", "children", "database", "economic", "facility", "generate", "hospital",
    "identify", "junction", "keyboard", "language", "mountain", "negative", "opposite", "physical",
    "question", "recovery", "schedule", "thousand", "universe", "valuable", "whatever", "yourself",
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Tables of folded embeddings above this many floats are not made (csrc/ops/product.cpp).
FOLD_LIMIT = 1 << 20


@dataclass(frozen=True)
class Cell:
    """A GRU (gates r, z, n) or an LSTM (gates i, f, g, o) as the engine's tensors hold it."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array

    @property
    def size(self) -> int:
        return int(self.weight_hh.shape[1])


@dataclass(frozen=True)
class Affine:
    weight: Array
    bias: Array


@dataclass(frozen=True)
class GruWeights:
    """A GRU encoder whose last state starts a GRU decoder, without attention."""

    source_embedding: Array
    target_embedding: Array
    encoder: Cell
    decoder: Cell
    output: Affine
    start: int


@dataclass(frozen=True)
class G2PWeights:
    """The network of examples/g2p/model.py. `layers` holds (forward, backward) pairs."""

    source_embedding: Array
    target_embedding: Array
    layers: tuple[tuple[Cell, Cell], ...]
    keys: Affine
    bridge_h: Affine
    bridge_c: Affine
    decoder1: Cell
    decoder2: Cell
    readout: Affine
    output: Affine
    start: int


@dataclass(frozen=True)
class Workload:
    """A model with what it decodes. `inputs` is what a caller passes to the engine, `sources` the
    prepared ids, `expected` the ids of every step (the end token's included)."""

    name: str
    what: str
    model: Model
    weights: GruWeights | G2PWeights
    inputs: tuple[list[str] | list[int], ...]
    sources: tuple[list[int], ...]
    expected: tuple[list[int], ...] = ()


# --- the models ---


class _Random:
    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, *shape: int, scale: float) -> Array:
        return (self._random.standard_normal(shape) * scale).astype(np.float32)

    def cell(self, gates: int, inputs: int, hidden: int) -> dict[str, Array]:
        """Larger than an initialisation would be: outputs must differ from step to step."""
        return {
            "weight_ih": self(gates * hidden, inputs, scale=1.5 * inputs**-0.5),
            "weight_hh": self(gates * hidden, hidden, scale=1.5 * hidden**-0.5),
            "bias_ih": self(gates * hidden, scale=0.1),
            "bias_hh": self(gates * hidden, scale=0.1),
        }

    def affine(self, outputs: int, inputs: int) -> tuple[Array, Array]:
        return self(outputs, inputs, scale=2 * inputs**-0.5), self(outputs, scale=0.1)


def gru_model(source: int, target: int, *, size: int = 256, steps: int = 8, seed: int = 1) -> Model:
    """A GRU encoder-decoder without attention and without an end token: exactly `steps` steps."""
    w = _Random(seed)
    m = ModelBuilder(source=source, target=target)
    e, d = m.encoder, m.decoder
    _, h = e.gru(e.embedding(e.tokens, w(source, size, scale=1.0)), w.cell(3, size, size))
    e.output(h=h)
    h_prev = d.state("h", initial="h")
    token = d.embedding(d.token, w(target, size, scale=1.0))
    h = d.gru_cell(token, h_prev, w.cell(3, size, size))
    d.next(h=h)
    d.output(logits=d.linear(h, *w.affine(target, size)))
    return m.build(start=1, generation={"max_length": steps})


def g2p_en_model(checkpoint: Path) -> Model:
    """The published g2p_en checkpoint (29 -> 74), from its .npz file."""
    with np.load(checkpoint) as stored:
        w = {name: stored[name] for name in stored.files}

    def cell(name: str) -> dict[str, Array]:
        roles = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
        return {role: w[f"{name}_{part}"] for role, part in roles.items()}

    m = ModelBuilder(source=29, target=74)
    e, d = m.encoder, m.decoder
    _, h = e.gru(e.embedding(e.tokens, w["enc_emb"]), cell("enc"))
    e.output(h=h)
    h_prev = d.state("h", initial="h")
    h = d.gru_cell(d.embedding(d.token, w["dec_emb"]), h_prev, cell("dec"))
    d.next(h=h)
    d.output(logits=d.linear(h, w["fc_w"], w["fc_b"]))
    return m.build(
        source={"append": [2], "unknown": 1},
        start=2,
        end=[3],
        vocabularies={"tokens": ["<pad>", "<unk>", "</s>", *LETTERS]},
        generation={"max_length": 20},
    )


def g2p_model(
    *,
    target: int = 72,
    embedding: int = 96,
    encoder: int = 176,
    decoder: int = 256,
    steps: int = 8,
    seed: int = 2,
) -> Model:
    """The sizes and equations of the shipped model with random weights and no end token."""
    w = _Random(seed)
    letters = ["<pad>", "</s>", "'", "-", ".", *LETTERS]
    source, both = len(letters), 2 * encoder
    m = ModelBuilder(source=source, target=target)
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w(source, embedding, scale=1.0))
    for inputs in (embedding, both):
        cells = w.cell(4, inputs, encoder), w.cell(4, inputs, encoder)
        x, last, _ = e.bidirectional(e.lstm, x, *cells)
    h = e.linear(last, *w.affine(decoder, both), activation="tanh")
    c = e.linear(last, *w.affine(decoder, both), activation="tanh")
    keys = e.linear(x, w(decoder, both, scale=both**-0.5))
    e.output(memory=x, keys=keys, h=h, c=c)
    h1_prev, c1_prev = d.state("h1", initial="h"), d.state("c1", initial="c")
    h2_prev, c2_prev = d.state("h2", size=decoder), d.state("c2", size=decoder)
    token = d.embedding(d.token, w(target, embedding, scale=1.0))
    h1, c1 = d.lstm_cell(token, h1_prev, c1_prev, w.cell(4, embedding, decoder))
    context, alignment = d.attention(query=h1, keys="keys", values="memory", score="dot")
    cell2 = w.cell(4, decoder + both, decoder)
    h2, c2 = d.lstm_cell([h1, context], h2_prev, c2_prev, cell2)
    t = d.linear([h2, context], *w.affine(decoder, decoder + both), activation="tanh")
    d.next(h1=h1, c1=c1, h2=h2, c2=c2)
    d.output(logits=d.linear(t, *w.affine(target, decoder)), alignment=alignment)
    return m.build(
        source={"append": [1]},
        start=1,
        vocabularies={"tokens": letters},
        generation={"max_length": steps},
    )


def nmt_model(
    *, vocabulary: int = 32_000, size: int = 512, steps: int = 25, seed: int = 3
) -> Model:
    """Luong et al. 2015 at a usual size: two bi-LSTM layers, two LSTM layers with input feeding,
    general attention after them (eqs. 5-7), and no end token: exactly `steps` steps."""
    w = _Random(seed)
    m = ModelBuilder(source=vocabulary, target=vocabulary)
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w(vocabulary, size, scale=1.0))
    states = []
    for layer in range(2):
        cells = w.cell(4, size, size // 2), w.cell(4, size, size // 2)
        x, h, c = e.bidirectional(e.lstm, x, *cells)
        states.append({f"h{layer}": h, f"c{layer}": c})
    e.output(memory=x, keys=e.linear(x, w(size, size, scale=size**-0.5)), **states[0], **states[1])
    feed = d.state("feed", size=size)
    y = [d.embedding(d.token, w(vocabulary, size, scale=1.0)), feed]
    for layer in range(2):
        h_prev = d.state(f"h{layer}", initial=f"h{layer}")
        c_prev = d.state(f"c{layer}", initial=f"c{layer}")
        h, c = d.lstm_cell(y, h_prev, c_prev, w.cell(4, size * len(y), size))
        d.next(**{f"h{layer}": h, f"c{layer}": c})
        y = [h]
    context, alignment = d.attention(query=y[0], keys="keys", values="memory", score="dot")
    t = d.linear([context, *y], w(size, 2 * size, scale=size**-0.5), activation="tanh")
    d.next(feed=t)
    d.output(logits=d.linear(t, *w.affine(vocabulary, size)), alignment=alignment)
    return m.build(start=1, generation={"max_length": steps})


def shipped_model() -> tuple[Model, str]:
    """The model file of the package; where there is none yet, random weights of its sizes."""
    path = demo_model()
    if not path.exists():
        return g2p_model(), "random weights with the sizes of the shipped model"
    return from_bytes_with_digest(path.read_bytes())[0], f"the shipped model, {path.name}"


# --- the workloads ---


def workloads(g2p_en: Path | None = None) -> list[Workload]:
    """W1, its g2p_en variant and the shipped model. `expected` is empty: see `expecting`."""
    what = "GRU 256, 30 -> 74, 8 in, 8 steps, random weights"
    made = [_workload("w1", what, gru_model(30, 74), _random_ids(30))]
    if g2p_en is None:
        model, what = gru_model(29, 74), "GRU 256, 29 -> 74, 8 in, 8 steps, random weights"
        made.append(_workload("g2p_en", what, model, _random_ids(29)))
    else:
        what = "GRU 256, 29 -> 74, the published weights, words of 8 letters"
        made.append(_workload("g2p_en", what, g2p_en_model(g2p_en), _letters()))
    model, origin = shipped_model()
    made.append(_workload("g2p", f"bi-LSTM, attention; {origin}; 8 letters", model, _letters()))
    return made


def expecting(workload: Workload, engine: Engine) -> Workload:
    """The same workload with the engine's own answers, which every contender must give."""
    expected = []
    for x in workload.inputs:
        (best,) = engine.decode(x).hypotheses
        ids = list(best.ids)
        if best.finish_reason == "eos":
            if len(workload.model.end) != 1:
                raise ValueError("which of several end tokens came is not in the result")
            ids.append(workload.model.end[0])
        if len(ids) != len(best.token_log_probs):
            raise ValueError("the engine scored another number of steps than it returned")
        expected.append(ids)
    return replace(workload, expected=tuple(expected))


def _workload(
    name: str, what: str, model: Model, inputs: Sequence[list[str] | list[int]]
) -> Workload:
    index = {word: n for n, word in enumerate(model.vocabularies.get("tokens", ()))}
    sources = [
        model.source.prepare([index[x] if isinstance(x, str) else x for x in source])
        for source in inputs
    ]
    return Workload(name, what, model, weights_of(model), tuple(inputs), tuple(sources))


def _random_ids(vocabulary: int, count: int = len(WORDS), length: int = 8) -> list[list[int]]:
    random = np.random.default_rng(3)
    return [random.integers(0, vocabulary, length).tolist() for _ in range(count)]


def _letters() -> list[list[str]]:
    return [list(word) for word in WORDS]


# --- weights of a model, for the peers ---


def weights_of(model: Model) -> GruWeights | G2PWeights:
    """The weights that a peer needs, found by following the graphs of either architecture."""
    ops = sorted({node.op for node in model.graphs["decoder"].nodes})
    if "gru_cell" in ops:
        return gru_weights(model)
    return g2p_weights(model)


def gru_weights(model: Model) -> GruWeights:
    encoder, decoder = _Reader(model, "encoder"), _Reader(model, "decoder")
    output = decoder.maker(decoder.graph.outputs["logits"], "linear")
    cell = decoder.maker(_first(output, "x"), "gru_cell")
    layer = encoder.only("gru")
    return GruWeights(
        source_embedding=encoder.embedding(_first(layer, "x")),
        target_embedding=decoder.embedding(_first(cell, "x")),
        encoder=encoder.cell(layer),
        decoder=decoder.cell(cell),
        output=decoder.affine(output),
        start=_start(model),
    )


def g2p_weights(model: Model) -> G2PWeights:
    encoder, decoder = _Reader(model, "encoder"), _Reader(model, "decoder")
    attention = decoder.only("attention")
    first = decoder.maker(_first(attention, "query"), "lstm_cell")
    second = next(n for n in decoder.all("lstm_cell") if n is not first)
    output = decoder.maker(decoder.graph.outputs["logits"], "linear")
    layers: dict[int, dict[str, Node]] = {}
    for node in encoder.all("lstm"):
        size = model.tensors[node.weights["weight_ih"]].shape[1]
        layers.setdefault(size, {})[str(node.attributes["direction"])] = node
    sizes = sorted(layers, key=lambda size: "embedding" not in encoder.inputs_of(layers[size]))

    def initial(role: str) -> Node:
        """The linear node of the encoder in which a state of the first cell begins."""
        state = decoder.graph.states[_first(first, role).removeprefix("state.")]
        reference = str(state.initial).removeprefix("encoder.")
        return encoder.maker(encoder.graph.outputs[reference], "linear")

    keys = _first(attention, "keys").removeprefix("encoder.")
    forward = layers[sizes[0]]["forward"]
    return G2PWeights(
        source_embedding=encoder.embedding(_first(forward, "x")),
        target_embedding=decoder.embedding(_first(first, "x")),
        layers=tuple(
            (encoder.cell(layers[s]["forward"]), encoder.cell(layers[s]["backward"])) for s in sizes
        ),
        keys=encoder.affine(encoder.maker(encoder.graph.outputs[keys], "linear")),
        bridge_h=encoder.affine(initial("h")),
        bridge_c=encoder.affine(initial("c")),
        decoder1=decoder.cell(first),
        decoder2=decoder.cell(second),
        readout=decoder.affine(decoder.maker(_first(output, "x"), "linear")),
        output=decoder.affine(output),
        start=_start(model),
    )


class _Reader:
    """Follows references of one graph back to the nodes and the tensors behind them."""

    def __init__(self, model: Model, role: str) -> None:
        self._model, self.graph = model, model.graphs[role]
        self._nodes: Mapping[str, Node] = {node.name: node for node in self.graph.nodes}

    def all(self, op: str) -> list[Node]:
        return [node for node in self.graph.nodes if node.op == op]

    def only(self, op: str) -> Node:
        (node,) = self.all(op)
        return node

    def maker(self, reference: str, op: str) -> Node:
        node = self._nodes[reference.split(".")[0]]
        if node.op != op:
            raise ValueError(f"{reference} is made by {node.op}, this benchmark expects {op}")
        return node

    def inputs_of(self, nodes: Mapping[str, Node]) -> set[str]:
        """The operations that feed a layer's nodes."""
        return {
            self._nodes[reference.split(".")[0]].op
            for node in nodes.values()
            for reference in _references(node, "x")
        }

    def embedding(self, reference: str) -> Array:
        node = self.maker(reference, "embedding")
        return self._tensor(node, "weight") * np.float32(node.attributes["scale"])

    def cell(self, node: Node) -> Cell:
        roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return Cell(*(self._tensor(node, role) for role in roles))

    def affine(self, node: Node) -> Affine:
        weight = self._tensor(node, "weight")
        bias = self._tensor(node, "bias") if "bias" in node.weights else None
        return Affine(weight, np.zeros(len(weight), np.float32) if bias is None else bias)

    def _tensor(self, node: Node, role: str) -> Array:
        return self._model.tensors[node.weights[role]]


def _references(node: Node, role: str) -> list[str]:
    value = node.inputs[role]
    return [value] if isinstance(value, str) else list(value)


def _first(node: Node, role: str) -> str:
    return _references(node, role)[0]


def _start(model: Model) -> int:
    if model.start is None:
        raise ValueError("the peers begin with a start token")
    return model.start


# --- what a decode reads ---


def weight_bytes(model: Model, positions: int, steps: int) -> int:
    """Bytes of weights, as the engine keeps them, that one greedy decode streams through the
    products: recurrent weights once per position (none where the first state is zero) or step,
    input weights of a layer once per sentence, everything of the decoder once per step. Embeddings
    that the engine folds into tables, biases and attention over the source are not counted."""
    return sum(
        _node_bytes(model, graph, node, role, positions, steps)
        for role, graph in model.graphs.items()
        for node in graph.nodes
    )


def _kept_bytes(array: NDArray[np.float32]) -> int:
    """Two bytes a weight where bfloat16 holds all of them exactly, else four."""
    narrow = not (array.view(np.uint32) & np.uint32(0xFFFF)).any()
    return array.nbytes // 2 if narrow else array.nbytes


def _node_bytes(
    model: Model, graph: Graph, node: Node, role: str, positions: int, steps: int
) -> int:
    size = {name: _kept_bytes(model.tensors[tensor]) for name, tensor in node.weights.items()}
    if node.op == "embedding" or not size:
        return 0
    times = steps if role == "decoder" else 1
    product = size.get("weight", 0) + size.get("weight_ih", 0) - _folded(model, graph, node)
    recurrent = size.get("weight_hh", 0)
    again = times if role == "decoder" else positions if "h" in node.inputs else positions - 1
    return times * product + again * recurrent


def _folded(model: Model, graph: Graph, node: Node) -> int:
    """Bytes of the columns that an embedding at the front multiplies, where they are folded."""
    matrix = node.weights.get("weight_ih") or node.weights.get("weight")
    front = _first(node, "x").split(".")[0] if "x" in node.inputs else ""
    maker = next((n for n in graph.nodes if n.name == front and n.op == "embedding"), None)
    if maker is None or matrix is None:
        return 0
    vocabulary, columns = model.tensors[maker.weights["weight"]].shape
    weight = model.tensors[matrix]
    rows = weight.shape[0]
    folded = _kept_bytes(weight) // weight.size * rows * columns
    return folded if vocabulary * rows <= FOLD_LIMIT else 0
