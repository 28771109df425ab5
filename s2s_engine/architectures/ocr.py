"""Attention heads of text recognisers: features of an image in, characters out. Knows the heads'
equations and their toolkits' parameter names; never images or the networks that make features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..builder import ModelBuilder
from ..model import Model
from .state_dict import Weights, cell, gates, linear, size, stack, step, transposed, width

__all__ = ["paddleocr", "sar"]


def paddleocr(w: Weights, *, rules: Mapping[str, Any] | None = None) -> Model:
    """PaddleOCR's attention head (AttentionHead, AttentionLSTM); the input is `features`.

    Paddle's Linear is [in, out]: attention_cell.i2h.weight (C, H), h2h.{weight (H, H), bias},
    score.weight (H, 1); attention_cell.rnn.* (a GRU or LSTM cell on [context; one_hot(y)], C + V);
    generator.{weight (H, V), bias}. The first token is the id 0, the end is the id 1.
    """
    features, vocabulary = size(w["attention_cell.i2h.weight"]), size(w["generator.bias"])
    m = ModelBuilder(target=vocabulary)
    e, d = m.encoder, m.decoder
    memory = e.input("features", sequence=features)
    e.output(memory=memory, keys=e.linear(memory, transposed(w["attention_cell.i2h.weight"])))
    one = cell(w, "attention_cell.rnn")
    previous = [d.state(role, size=width(one)) for role in ("h", "c")[: 1 + (gates(one) == 4)]]
    h2h = transposed(w["attention_cell.h2h.weight"])
    query = d.linear(previous[0], h2h, w["attention_cell.h2h.bias"])
    v = np.ravel(w["attention_cell.score.weight"])
    context, alignment = d.attention(query=query, keys="keys", values="memory", v=v)
    state = step(d, [context, d.one_hot(d.token, vocabulary)], previous, one)
    d.next(dict(zip("hc", state, strict=False)))
    logits = d.linear(state[0], transposed(w["generator.weight"]), w["generator.bias"])
    d.output(logits=logits, alignment=alignment)
    return m.build(**{"start": 0, "end": [1], "generation": {"max_length": 25}, **(rules or {})})


def sar(w: Weights, *, warm_up: str = "none", rules: Mapping[str, Any] | None = None) -> Model:
    """docTR's SAR (Li et al. 2019, section 3.2): one LSTM cell used for two layers.

    decoder.embed.{weight (E, V), bias} on the one-hot token, the first being the zero vector;
    decoder.lstm_cell.*; decoder.attention_module.{feat_conv.{weight (A, C, k, k), bias},
    state_conv.weight (A, H, 1, 1), attention_projector.weight (1, A, 1, 1)};
    decoder.output_dense.{weight (V, H + C), bias} on [h; glimpse].
    Input `features` (C), one position per pixel. A feat_conv wider than one pixel looks at
    neighbours that a sequence does not have: its result is the second input, `projected` (A).
    warm_up: "none" starts from zeros; "holistic": both layers have read the input `holistic`, a
    vector (H), before; "columns": encoder.rnn.* and encoder.linear.* make it of the input `columns`
    (C), which has as many positions as `features`.
    """
    module = "decoder.attention_module"
    convolution, embed = w[f"{module}.feat_conv.weight"], w["decoder.embed.weight"]
    attention, channels = np.shape(convolution)[:2]
    m = ModelBuilder(target=size(embed, 1))
    e, d, one = m.encoder, m.decoder, cell(w, "decoder.lstm_cell")
    memory = e.input("features", sequence=channels)
    if np.shape(convolution)[2:] == (1, 1):
        matrix = np.reshape(convolution, (attention, channels))
        keys = e.linear(memory, matrix, w.get(f"{module}.feat_conv.bias"))
    else:
        keys = e.input("projected", sequence=attention)
    e.output(memory=memory, keys=keys)
    if warm_up == "none":
        h1, c1, h2, c2 = (d.state(name, size=width(one)) for name in ("h1", "c1", "h2", "c2"))
    else:
        if warm_up == "holistic":
            holistic = e.input("holistic", vector=size(one["weight_ih"], 1))
        else:
            columns, _ = stack(e, e.input("columns", sequence=channels), w, "encoder.rnn")
            holistic = linear(e, e.pool(columns, "last"), w, "encoder.linear")
        below = e.lstm_cell(holistic, None, None, one)
        above = e.lstm_cell(below[0], None, None, one)
        e.output(h1=below[0], c1=below[1], h2=above[0], c2=above[1])
        h1, c1, h2, c2 = (d.state(name, initial=name) for name in ("h1", "c1", "h2", "c2"))
    symbol = linear(d, d.one_hot(d.token, size(embed, 1)), w, "decoder.embed")
    h1, c1 = d.lstm_cell(symbol, h1, c1, one)
    h2, c2 = d.lstm_cell(h1, h2, c2, one)
    d.next(h1=h1, c1=c1, h2=h2, c2=c2)
    query = d.linear(h2, np.reshape(w[f"{module}.state_conv.weight"], (attention, -1)))
    v = np.ravel(w[f"{module}.attention_projector.weight"])
    glimpse, alignment = d.attention(query=query, keys="keys", values="memory", v=v)
    d.output(logits=linear(d, [h2, glimpse], w, "decoder.output_dense"), alignment=alignment)
    ids = {"start": None, "end": [size(embed, 1) - 1], "generation": {"max_length": 32}}
    return m.build(**{**ids, **(rules or {})})
