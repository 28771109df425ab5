"""Small random models of many wirings with fixed seeds, as the tests' material, written with
`ModelBuilder`. Knows wirings; never what a test asks of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s_engine.builder import ModelBuilder
from s2s_engine.model import Model

Array = NDArray[np.float32]
SOURCE, TARGET = 11, 9
START, END = 1, 2


class Weights:
    """Random float32 weights; `scale` is large enough that the states and the logits differ."""

    def __init__(self, seed: int, scale: float = 0.6) -> None:
        self._random, self._scale = np.random.default_rng(seed), scale

    def __call__(self, *shape: int) -> Array:
        return (self._random.standard_normal(shape) * self._scale).astype(np.float32)

    def cell(self, gates: int, inputs: int, hidden: int) -> dict[str, Array]:
        """The four weights of a cell, both biases among them."""
        return {
            "weight_ih": self(gates * hidden, inputs),
            "weight_hh": self(gates * hidden, hidden),
            "bias_ih": self(gates * hidden),
            "bias_hh": self(gates * hidden),
        }

    def gru(self, inputs: int, hidden: int) -> dict[str, Array]:
        return self.cell(3, inputs, hidden)

    def lstm(self, inputs: int, hidden: int) -> dict[str, Array]:
        return self.cell(4, inputs, hidden)


def words(prefix: str, count: int) -> list[str]:
    """Distinct strings for a vocabulary: prefix0, prefix1, ..."""
    return [f"{prefix}{number}" for number in range(count)]


def _built(m: ModelBuilder, source: int, target: int, options: Mapping[str, Any]) -> Model:
    return m.build(
        source={"append": [END]},
        start=START,
        end=[END],
        vocabularies={"tokens": words("s", source), "target": words("t", target)},
        generation={"max_length": 12, **options},
        provenance={"source": "tests/models.py"},
    )


def gru_plain(
    seed: int = 0,
    *,
    hidden: int = 6,
    source: int = SOURCE,
    target: int = TARGET,
    reset: str = "after",
    **generation: Any,
) -> Model:
    """Cho et al. 2014 without attention: the last state starts the decoder."""
    w = Weights(seed)
    m = ModelBuilder(source=source, target=target)
    e, d = m.encoder, m.decoder
    _, h = e.gru(e.embedding(e.tokens, w(source, 5)), w.gru(5, hidden), reset=reset)
    e.output(h=h)
    h_prev = d.state("h", initial="h")
    h = d.gru_cell(d.embedding(d.token, w(target, 4)), h_prev, w.gru(4, hidden), reset=reset)
    d.next(h=h)
    d.output(logits=d.linear(h, w(target, hidden), w(target)))
    return _built(m, source, target, generation)


def lstm_luong(
    seed: int = 1,
    *,
    hidden: int = 6,
    source: int = SOURCE,
    target: int = TARGET,
    **generation: Any,
) -> Model:
    """Luong et al. 2015: a bidirectional LSTM, general attention, input feeding."""
    w = Weights(seed)
    m = ModelBuilder(source=source, target=target)
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w(source, 5))
    memory, h, c = e.bidirectional(e.lstm, x, w.lstm(5, hidden), w.lstm(5, hidden))
    h, c = e.linear(h, w(hidden, 2 * hidden)), e.linear(c, w(hidden, 2 * hidden))
    e.output(memory=memory, keys=e.linear(memory, w(hidden, 2 * hidden)), h=h, c=c)
    h_prev, c_prev = d.state("h", initial="h"), d.state("c", initial="c")
    feed = d.state("feed", size=hidden)
    token = d.embedding(d.token, w(target, 4))
    h, c = d.lstm_cell([token, feed], h_prev, c_prev, w.lstm(4 + hidden, hidden))
    context, alignment = d.attention(query=h, keys="keys", values="memory")
    t = d.linear([context, h], w(hidden, 3 * hidden), activation="tanh")
    d.next(h=h, c=c, feed=t)
    d.output(logits=d.linear(t, w(target, hidden)), alignment=alignment)
    return _built(m, source, target, generation)


def gru_additive(
    seed: int = 2,
    *,
    hidden: int = 6,
    source: int = SOURCE,
    target: int = TARGET,
    reset: str = "before",
    **generation: Any,
) -> Model:
    """Bahdanau et al. 2015: a bidirectional GRU, the previous state as the query."""
    w = Weights(seed)
    m = ModelBuilder(source=source, target=target)
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w(source, 5), scale=1.5)
    memory, _ = e.bidirectional(e.gru, x, w.gru(5, hidden), w.gru(5, hidden), reset=reset)
    first = e.slice(e.pool(memory, "first"), hidden, 2 * hidden)
    e.output(
        memory=memory,
        keys=e.linear(memory, w(7, 2 * hidden), w(7)),
        h=e.linear(first, w(hidden, hidden), w(hidden), activation="tanh"),
    )
    h_prev = d.state("h", initial="h")
    query = d.linear(h_prev, w(7, hidden))
    context, alignment = d.attention(query=query, keys="keys", values="memory", v=w(7))
    token = d.embedding(d.token, w(target, 4))
    h = d.gru_cell([token, context], h_prev, w.gru(4 + 2 * hidden, hidden), reset=reset)
    d.next(h=h)
    d.output(logits=d.linear([token, h, context], w(target, 4 + 3 * hidden)), alignment=alignment)
    return _built(m, source, target, generation)


def lstm_given(
    seed: int = 3,
    *,
    hidden: int = 6,
    source: int = SOURCE,
    target: int = TARGET,
    **generation: Any,
) -> Model:
    """Scores composed of operations: attention 'given', softmax and unnormalised, two layers."""
    w = Weights(seed)
    m = ModelBuilder(source=source, target=target)
    e, d = m.encoder, m.decoder
    memory, h, c = e.lstm(e.embedding(e.tokens, w(source, 5)), w.lstm(5, hidden))
    e.output(memory=memory, h=h, c=c, mean=e.pool(memory, "mean"), top=e.pool(memory, "max"))
    h1, c1 = d.state("h1", initial="h"), d.state("c1", initial="c")
    h2 = d.state("h2", initial="mean")
    token = d.embedding(d.token, w(target, hidden))
    h_1, c_1 = d.lstm_cell(token, h1, c1, w.lstm(hidden, hidden))
    h_2 = d.gru_cell([h_1, "top"], h2, w.gru(2 * hidden, hidden))
    scores = d.linear(d.multiply("memory", h_2), w(1, hidden), w(1), activation="tanh")
    context, alignment = d.attention(scores=scores, values="memory", scale=0.3)
    rest, _ = d.attention(scores=scores, values="memory", normaliser="none")
    gate = d.linear([h_2, context], w(hidden, 2 * hidden), activation="sigmoid")
    mixed = d.interpolate(gate, d.add(context, rest), d.activation(h_2, "softplus"))
    d.next(h1=h_1, c1=c_1, h2=h_2)
    d.output(logits=d.linear(mixed, w(target, hidden)), alignment=alignment)
    return _built(m, source, target, generation)


def gru_positions(
    seed: int = 4, *, hidden: int = 6, bound: int = 40, steps: int = 20, **generation: Any
) -> Model:
    """Every built-in input: position and source_length in the encoder, step in the decoder."""
    w = Weights(seed)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    x = e.add(e.embedding(e.tokens, w(SOURCE, 5)), e.embedding(e.position(bound), w(bound, 5)))
    length = e.linear(e.source_length(), w(hidden, 1), activation="sigmoid")
    memory, _ = e.gru(x, w.gru(5, hidden), length, direction="backward")
    e.output(memory=memory, start=e.constant(w(hidden)))
    h_prev = d.state("h", initial="start")
    inputs = d.add(d.embedding(d.token, w(TARGET, 4)), d.embedding(d.step(steps), w(steps, 4)))
    mix = d.linear([inputs, d.source_length()], w(4, 5), activation="hard_sigmoid")
    h = d.gru_cell(mix, h_prev, w.gru(4, hidden))
    context, alignment = d.attention(
        query=h, keys="memory", values="memory", score="dot", scale=0.7
    )
    d.next(h=h)
    logits = d.linear(d.concat([h, context]), w(TARGET, 2 * hidden))
    d.output(logits=logits, alignment=alignment)
    return _built(m, SOURCE, TARGET, generation)


def no_recurrence(seed: int = 5, *, hidden: int = 6, **generation: Any) -> Model:
    """A decoder whose cell starts from zeros every step, a transition cell, start null, no end."""
    w = Weights(seed)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    memory, _ = e.gru(e.embedding(e.tokens, w(SOURCE, 5)), w.gru(5, hidden))
    e.output(memory=memory, mean=e.pool(memory, "mean"))
    query = d.state("query", initial="mean")
    context, alignment = d.attention(query=query, keys="memory", values="memory", score="dot")
    h = d.gru_cell([context, d.embedding(d.token, w(TARGET, 4))], None, w.gru(hidden + 4, hidden))
    transition = {"weight_hh": w(3 * hidden, hidden), "bias_hh": w(3 * hidden)}
    h = d.gru_cell(None, h, transition)
    d.next(query=h)
    d.output(logits=d.linear(h, w(TARGET, hidden)), alignment=alignment)
    return m.build(generation={"max_length": "source", **generation})


def tagger(seed: int = 6, *, hidden: int = 6, source: int = SOURCE, labels: int = 5) -> Model:
    """N to N: a label for every position."""
    w = Weights(seed)
    m = ModelBuilder(source=source)
    e = m.encoder
    x = e.embedding(e.tokens, w(source, 5))
    memory, _, _ = e.bidirectional(e.lstm, x, w.lstm(5, hidden), w.lstm(5, hidden))
    e.output(logits=e.linear(memory, w(labels, 2 * hidden), w(labels)), memory=memory)
    return m.build(vocabularies={"tokens": words("s", source), "target": words("label", labels)})


def classifier(seed: int = 7, *, hidden: int = 6, source: int = SOURCE, labels: int = 5) -> Model:
    """N to 1: one label for the sentence."""
    w = Weights(seed)
    m = ModelBuilder(source=source)
    e = m.encoder
    _, h = e.gru(e.embedding(e.tokens, w(source, 5)), w.gru(5, hidden))
    e.output(logits=e.linear(h, w(labels, hidden), activation="relu"))
    return m.build()


def captioner(seed: int = 8, *, hidden: int = 6, features: int = 7, **generation: Any) -> Model:
    """1 to N: a vector of features is the only input."""
    w = Weights(seed)
    m = ModelBuilder(target=TARGET)
    e, d = m.encoder, m.decoder
    image = e.input("image", vector=features)
    e.output(h=e.linear(image, w(hidden, features), activation="tanh"), image=image)
    h_prev = d.state("h", initial="h")
    token = d.embedding(d.token, w(TARGET, 4))
    h = d.gru_cell([token, "image"], h_prev, w.gru(4 + features, hidden))
    d.next(h=h)
    d.output(logits=d.linear(h, w(TARGET, hidden)))
    return m.build(start=START, end=[END], generation={"max_length": 12, **generation})


# Every model of this module that reads tokens and has a decoder, by name.
DECODERS: dict[str, Callable[..., Model]] = {
    "gru_plain": gru_plain,
    "lstm_luong": lstm_luong,
    "gru_additive": gru_additive,
    "lstm_given": lstm_given,
    "gru_positions": gru_positions,
    "no_recurrence": no_recurrence,
}
LABELLERS: dict[str, Callable[..., Model]] = {"tagger": tagger, "classifier": classifier}
