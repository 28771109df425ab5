"""The workloads: models written with `ModelBuilder`, random weights of a fixed seed, their sources
and options. Knows sizes and equations; nothing of clocks, engines or peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import Model, ModelBuilder, demo_model
from ..builder import EncoderBuilder, Value
from ..errors import InputError
from ..format import read
from ..loading import opened

Array = NDArray[np.float32]

# Eight letters each, and without an apostrophe: every model of spelling knows them.
WORDS = (
    "absolute", "birthday", "children", "database", "economic", "facility", "generate", "hospital",
    "identify", "junction", "keyboard", "language", "mountain", "negative", "opposite", "physical",
    "question", "recovery", "schedule", "thousand", "universe", "valuable", "whatever", "yourself",
)  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """A model, what it decodes and how. A turn decodes `batch` sources at once.

    `inputs` is what a caller passes to the engine, `sources` the prepared ids that peers take.
    """

    name: str
    what: str
    model: Model
    inputs: tuple[list[str] | list[int], ...]
    sources: tuple[list[int], ...]
    beam: int = 1
    batch: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def search(self) -> str:
        search = "greedy" if self.beam == 1 else f"beam {self.beam}"
        return search if self.batch == 1 else f"batch {self.batch}, {search}"

    @property
    def key(self) -> str:
        return f"{self.name}, {self.search}"

    @property
    def turns(self) -> int:
        """Decodes until every source was decoded once."""
        return len(self.sources) // self.batch


class Random:
    """Weights of a fixed seed, larger than an initialisation would be: outputs must differ from
    step to step, and the best of them clearly."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Array:
        return self._random.standard_normal(shape, np.float32) * np.float32(scale)

    def cell(self, gates: int, inputs: int, hidden: int) -> dict[str, Array]:
        return {
            "weight_ih": self(gates * hidden, inputs, scale=1.5 * inputs**-0.5),
            "weight_hh": self(gates * hidden, hidden, scale=1.2 * hidden**-0.5),
            "bias_ih": self(gates * hidden, scale=0.1),
            "bias_hh": self(gates * hidden, scale=0.1),
        }

    def matrix(self, outputs: int, inputs: int, gain: float = 1.0) -> Array:
        return self(outputs, inputs, scale=gain * inputs**-0.5)

    def affine(self, outputs: int, inputs: int, gain: float = 2.0) -> tuple[Array, Array]:
        return self.matrix(outputs, inputs, gain), self(outputs, scale=0.1)


def gru_model(source: int, target: int, *, hidden: int = 256, steps: int = 8) -> Model:
    """A GRU encoder-decoder without attention (Cho et al. 2014, as g2p_en is)."""
    w = Random(1)
    m = ModelBuilder(source=source, target=target)
    e, d = m.encoder, m.decoder
    _, h = e.gru(e.embedding(e.tokens, w(source, hidden)), w.cell(3, hidden, hidden))
    e.output(h=h)
    h_prev = d.state("h", initial="h")
    h = d.gru_cell(d.embedding(d.token, w(target, hidden)), h_prev, w.cell(3, hidden, hidden))
    d.next(h=h)
    d.output(logits=d.linear(h, *w.affine(target, hidden)))
    return m.build(start=1, generation={"max_length": steps})


def luong_model(
    *, hidden: int, embedding: int, layers: int, vocabulary: int, steps: int, seed: int = 2
) -> Model:
    """Bidirectional LSTMs, an LSTM decoder with input feeding, 'general' attention whose matrix
    makes the keys, and a readout of the decoder's size (Luong et al. 2015, eqs. 5-8)."""
    w = Random(seed)
    m = ModelBuilder(source=vocabulary, target=vocabulary)
    e, d = m.encoder, m.decoder
    x, size, last = e.embedding(e.tokens, w(vocabulary, embedding)), embedding, []
    for _ in range(layers):
        x, h, c = _bidirectional_lstm(e, w, x, size, hidden // 2)
        last.append((h, c))
        size = hidden
    e.output(memory=x, keys=e.linear(x, w.matrix(hidden, hidden, 2.0)))
    for number, (h, c) in enumerate(last):
        e.output(**{f"h{number}": h, f"c{number}": c})
    feed = d.state("feed", size=hidden)
    joined: Value | list[Value] = [d.embedding(d.token, w(vocabulary, embedding)), feed]
    size = embedding + hidden
    for number in range(layers):
        h_prev = d.state(f"h{number}", initial=f"h{number}")
        c_prev = d.state(f"c{number}", initial=f"c{number}")
        h, c = d.lstm_cell(joined, h_prev, c_prev, w.cell(4, size, hidden))
        d.next({f"h{number}": h, f"c{number}": c})
        joined, size = h, hidden
    context, _ = d.attention(query=h, keys="keys", values="memory", score="dot")
    readout = d.linear([context, h], w.matrix(hidden, 2 * hidden, 1.5), activation="tanh")
    d.next(feed=readout)
    d.output(logits=d.linear(readout, *w.affine(vocabulary, hidden, 8.0)))
    return m.build(start=1, generation={"max_length": steps})


def _bidirectional_lstm(
    e: EncoderBuilder, w: Random, x: Value, inputs: int, hidden: int
) -> tuple[Value, ...]:
    return e.bidirectional(e.lstm, x, w.cell(4, inputs, hidden), w.cell(4, inputs, hidden))


def bahdanau_model(
    *, hidden: int, embedding: int, readout: int, vocabulary: int, steps: int
) -> Model:
    """RNNsearch: a bidirectional GRU, additive attention asked by the old state, a GRU on
    [embedding; context], a readout of all three (Bahdanau et al. 2015, appendix A)."""
    w = Random(3)
    m = ModelBuilder(source=vocabulary, target=vocabulary)
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w(vocabulary, embedding))
    cells = w.cell(3, embedding, hidden), w.cell(3, embedding, hidden)
    memory, last = e.bidirectional(e.gru, x, *cells)
    h = e.linear(last, *w.affine(hidden, 2 * hidden), activation="tanh")
    e.output(memory=memory, keys=e.linear(memory, w.matrix(hidden, 2 * hidden)), h=h)
    h_prev = d.state("h", initial="h")
    token = d.embedding(d.token, w(vocabulary, embedding))
    query = d.linear(h_prev, w.matrix(hidden, hidden))
    v = w(hidden, scale=4.0 * hidden**-0.5)
    context, _ = d.attention(query=query, keys="keys", values="memory", v=v, score="additive")
    h = d.gru_cell([token, context], h_prev, w.cell(3, embedding + 2 * hidden, hidden))
    joined = w.matrix(readout, embedding + 3 * hidden, 1.5)
    t = d.linear([token, h, context], joined, activation="tanh")
    d.next(h=h)
    d.output(logits=d.linear(t, *w.affine(vocabulary, readout, 4.0)))
    return m.build(start=1, generation={"max_length": steps})


# --- what is decoded ---


def workloads(names: Sequence[str], *, g2p_en: Path | None = None) -> list[Workload]:
    """The named workloads with every search that they are measured with; `g2p_en`: its file."""
    return [workload for name in names for workload in _WORKLOADS[name](g2p_en)]


def of_model(name: str, what: str, model: Model) -> list[Workload]:
    """A model of one's own, greedy and beam 5, on words of eight letters where it is a model of
    letters, else on random ids."""
    encoder = model.graphs.get("encoder")
    if encoder is None or "decoder" not in model.graphs or "tokens" not in encoder.inputs:
        raise InputError(f"{what}: bench takes models with an encoder of ids and a decoder")
    letters = model.vocabularies.get("tokens")
    if letters is not None and set("".join(WORDS)) <= set(letters):
        return _searches(name, what, model, [list(word) for word in WORDS])
    size = encoder.inputs["tokens"].size
    options = {"max_length": 20}
    return _searches(name, what, model, random_ids(size, 24, 20), options=options)


def random_ids(vocabulary: int, count: int, length: int) -> list[list[int]]:
    random = np.random.default_rng(5)
    return [[int(n) for n in random.integers(0, vocabulary, length)] for _ in range(count)]


def workload(
    name: str, what: str, model: Model, inputs: Sequence[list[str] | list[int]], **more: Any
) -> Workload:
    index = {word: n for n, word in enumerate(model.vocabularies.get("tokens", ()))}
    sources = [
        model.source.prepare([index[x] if isinstance(x, str) else x for x in source])
        for source in inputs
    ]
    return Workload(name, what, model, tuple(inputs), tuple(sources), **more)


def _searches(
    name: str,
    what: str,
    model: Model,
    inputs: Sequence[list[str] | list[int]],
    options: dict[str, Any] | None = None,
    beams: Sequence[int] = (1, 5),
) -> list[Workload]:
    return [workload(name, what, model, inputs, beam=beam, options=options or {}) for beam in beams]


def _w1(_: Path | None) -> list[Workload]:
    what = "GRU 256 without attention, 30 to 74 symbols, 8 in, 8 out: a word to its sounds"
    return _searches("w1", what, gru_model(30, 74), random_ids(30, 24, 8), beams=(1,))


def _w2(_: Path | None) -> list[Workload]:
    what = "biLSTM 2x128 to LSTM 256, attention, 100 symbols, 20 in, 20 out: a lemmatiser"
    model = luong_model(hidden=256, embedding=128, layers=1, vocabulary=100, steps=20)
    return _searches("w2", what, model, random_ids(100, 12, 20))


def _w3(_: Path | None) -> list[Workload]:
    what = "2 layers of biLSTM 2x256 and LSTM 512, attention, 32,000 words, 25 in, 25 out"
    model = luong_model(hidden=512, embedding=512, layers=2, vocabulary=32000, steps=25)
    sources = random_ids(32000, 32, 25)
    batch = workload("w3", what, model, sources, beam=5, batch=32)
    return [*_searches("w3", what, model, sources[:3]), batch]


def _w4(_: Path | None) -> list[Workload]:
    what = "RNNsearch: biGRU 2x1024, GRU 1024, additive attention, 32,000 words, 30 in, 30 out"
    model = bahdanau_model(hidden=1024, embedding=512, readout=512, vocabulary=32000, steps=30)
    return _searches("w4", what, model, random_ids(32000, 3, 30))


def _shipped(_: Path | None) -> list[Workload]:
    what = "the shipped model: 2 biLSTMs 2x176, 2 LSTMs 256, attention; words of 8 letters"
    return of_model("shipped", what, read(demo_model()))


def _g2p_en(checkpoint: Path | None) -> list[Workload]:
    if checkpoint is None:
        raise ValueError("g2p_en needs the path of its weights")
    model = opened(checkpoint, None, {})[0]
    return of_model("g2p_en", "g2p_en's published weights, GRU 256; words of 8 letters", model)


_WORKLOADS = {
    "w1": _w1, "w2": _w2, "w3": _w3, "w4": _w4, "shipped": _shipped, "g2p_en": _g2p_en
}  # fmt: skip
