"""The patterns that papers and tutorials are made of: how a source becomes a vector, where a
decoder reads it, what it feeds and what it gives. Knows wirings; never whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..builder import DecoderBuilder, EncoderBuilder, ModelBuilder, Value, X, Xs
from .weights import Weights, dense, part

Summary = Literal["last", "first", "mean", "max", "sum"]
Reading = Literal["token", "context"]
Emission = Literal["state", "previous", "token", "context"]


def summary(e: EncoderBuilder, memory: Value, w: Weights, *, how: Summary = "last") -> Value:
    """c = q(h_1 ... h_S): a pool over positions, and a dense layer with tanh where there are
    summary.weight (C, H) and summary.bias."""
    c = e.pool(memory, how)
    return dense(e, c, w, "summary", activation="tanh") if "summary.weight" in w else c


def tagger(m: ModelBuilder, w: Weights) -> None:
    """N to N: logits for each state of a bidirectional LSTM.

    embedding (source, E); forward and backward: weights of LSTMs (4H, E), (4H, H); output.weight
    (labels, 2H).
    """
    e = m.encoder
    x = e.embedding(e.tokens, w["embedding"])
    memory, _, _ = e.bidirectional(e.lstm, x, part(w, "forward"), part(w, "backward"))
    e.output(logits=dense(e, memory, w, "output"))


def classifier(m: ModelBuilder, w: Weights, *, how: Summary = "last") -> None:
    """N to 1: one label for the sentence from a summary of an LSTM's states.

    embedding (source, E); cell: weights of an LSTM (4H, E), (4H, H); summary.weight (C, H)
    optional; output.weight (labels, H or C).
    """
    e = m.encoder
    memory, _, _ = e.lstm(e.embedding(e.tokens, w["embedding"]), part(w, "cell"))
    e.output(logits=dense(e, summary(e, memory, w, how=how), w, "output"))


def vector_to_sequence(
    m: ModelBuilder,
    w: Weights,
    *,
    size: int,
    reads: Literal["initial", "first", "every"] = "initial",
) -> None:
    """1 to N: a text for the vector `features`, of `size`.

    reads: the vector starts the state; or it is the first input in place of a token (build with
    start=None); or it is part of every step's input, from a zero state.

    decoder.embedding (target, E); project.weight (H or E, size), project.bias: a dense layer for
    the vector, where there is one; decoder.cell: weights of a GRU (3H, E or E + size), (3H, H);
    output.weight (target, H).
    """
    e, d = m.encoder, m.decoder
    vector = e.input("features", vector=size)
    if "project.weight" in w:
        vector = dense(e, vector, w, "project")
    e.output(vector=vector)

    hidden = _hidden(w, "decoder.cell")
    h = d.state("h", initial="vector") if reads == "initial" else d.state("h", size=hidden)
    y = d.embedding(d.token, w["decoder.embedding"])
    x: Xs = [y, "vector"] if reads == "every" else y
    if reads == "first":
        x = d.first_step("vector", y)
    h = d.gru_cell(x, h, part(w, "decoder.cell"))
    d.next(h=h)
    d.output(logits=dense(d, h, w, "output"))


def encoder_decoder(
    m: ModelBuilder,
    w: Weights,
    *,
    layers: int = 1,
    context: Literal["start", "every", "all states"] = "start",
) -> None:
    """N to M without attention: a stack of LSTMs reads, another one writes.

    context: the final states of each layer start the decoder's (H_0 = h_m); or the last layer's h
    is read at every step, [y; h], from zero states; or all final states are,
    [y; h_1; c_1; h_2; c_2; ...], from zero states.

    encoder.embedding (source, E), decoder.embedding (target, E); encoder.k and decoder.k: weights
    of LSTMs (4H, E or H), (4H, H), where decoder.0 reads E, E + H or E + 2 layers H; output.weight
    (target, H).
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w["encoder.embedding"])
    final: dict[str, Value] = {}
    for k in range(layers):
        x, final[f"h{k}"], final[f"c{k}"] = e.lstm(x, part(w, f"encoder.{k}"))
    e.output(**final)

    reads = {"start": [], "every": [f"h{layers - 1}"], "all states": list(final)}
    read: list[str] = reads[context]
    x = d.embedding(d.token, w["decoder.embedding"])
    after: dict[str, X] = {}
    for k in range(layers):
        h, c = _states(d, k, None if context == "start" else _hidden(w, f"decoder.{k}"))
        x, after[f"c{k}"] = d.lstm_cell([x, *read], h, c, part(w, f"decoder.{k}"))
        after[f"h{k}"], read = x, []
    d.next(after)
    d.output(logits=dense(d, x, w, "output"))


def attentive_decoder(
    m: ModelBuilder,
    w: Weights,
    *,
    reads: Sequence[Reading] = ("token", "context"),
    emits: Sequence[Emission] = ("state",),
    deep: Literal["none", "tanh", "maxout"] = "none",
) -> None:
    """A GRU reads; a GRU with additive attention, asked by the state before the step, writes.

    reads: what its cell takes besides the state, in this order: s_t = f(s_{t-1}, y_{t-1}, c_t), or
    f(s_{t-1}, c_t) without the token. emits: what the output layer takes, in this order; previous
    is s_{t-1}. deep: a layer in between, W_s tanh(W_o [...]) or with the maxout of pairs.

    encoder.embedding (source, E), decoder.embedding (target, E) where anything reads the token;
    encoder.cell: weights of a GRU (3H, E), (3H, H); attention.query, attention.key (A, H),
    attention.v (A); decoder.cell: weights of a GRU (3H, reads), (3H, H); deep.weight (M, emits),
    twice as many rows for maxout; output.weight (target, emits or M).
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w["encoder.embedding"])
    memory, h = e.gru(x, part(w, "encoder.cell"))
    e.output(memory=memory, keys=e.linear(memory, w["attention.key"]), h=h)

    s = d.state("s", initial="h")
    c, a = d.attention(
        query=d.linear(s, w["attention.query"]), keys="keys", values="memory", v=w["attention.v"]
    )
    values: dict[str, X] = {"context": c, "previous": s}
    if "token" in (*reads, *emits):
        values["token"] = d.embedding(d.token, w["decoder.embedding"])
    values["state"] = d.gru_cell([values[name] for name in reads], s, part(w, "decoder.cell"))
    d.next(s=values["state"])
    t: Xs = [values[name] for name in emits]
    if deep == "tanh":
        t = dense(d, t, w, "deep", activation="tanh")
    elif deep == "maxout":
        t = d.maxout(dense(d, t, w, "deep"), 2)
    d.output(logits=dense(d, t, w, "output"), alignment=a)


def _states(d: DecoderBuilder, k: int, size: int | None) -> tuple[Value, Value]:
    """h and c of layer k: the encoder's, or zeros of `size`."""
    if size is None:
        return d.state(f"h{k}", initial=f"h{k}"), d.state(f"c{k}", initial=f"c{k}")
    return d.state(f"h{k}", size=size), d.state(f"c{k}", size=size)


def _hidden(w: Weights, cell: str) -> int:
    return int(np.shape(w[f"{cell}.weight_hh"])[1])
