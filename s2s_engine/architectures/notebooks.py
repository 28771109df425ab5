"""The networks of bentrevett's notebooks "pytorch-seq2seq", 1 to 4, old and new, by the names of
their state dicts. Knows wirings; never files, vocabularies or execution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..builder import ModelBuilder
from ..model import Model
from .state_dict import (
    Weights,
    by_layer,
    cells,
    first,
    hand_over,
    joined,
    linear,
    run_cells,
    size,
    stack,
    step,
)

__all__ = ["bentrevett"]

IDS = {"source": {"prepend": [2], "append": [3], "unknown": 0}, "start": 2, "end": [3]}


def bentrevett(w: Weights, *, rules: Mapping[str, Any] | None = None) -> Model:
    """Notebooks 1 (Sutskever et al. 2014), 2 (Cho et al. 2014), 3 and 4 (Bahdanau et al. 2015).

    encoder.embedding.weight (V, E), encoder.rnn.*; decoder.embedding.weight, decoder.rnn.*;
    decoder.fc_out.{weight, bias}. 1: LSTMs of some layers, states handed over. 2: a GRU on
    [embedding; z], fc_out on [embedding; h; z], z the encoder's last state. 3 and 4: a
    bidirectional GRU, encoder.fc (H, 2C); decoder.attention.{attn_fc, v_fc}, once called attn and
    v, on [h before the step; memory]; the GRU reads [embedding; context], fc_out [h; context;
    embedding].
    """
    source, target = w["encoder.embedding.weight"], w["decoder.embedding.weight"]
    m = ModelBuilder(source=size(source), target=size(target))
    e, d = m.encoder, m.decoder
    memory, states = stack(e, e.embedding(e.tokens, source), w, "encoder.rnn")
    decoder, y = cells(w, "decoder.rnn"), d.embedding(d.token, target)
    if "encoder.fc.weight" in w:
        h0 = linear(e, by_layer(e, states)[-1][0], w, "encoder.fc", activation="tanh")
        score = np.asarray(
            first(w, *(f"decoder.attention.{n}.weight" for n in ("attn_fc", "attn")))
        )
        bias = first(w, "decoder.attention.attn_fc.bias", "decoder.attention.attn.bias")
        width = h0.type.size  # W [h; memory] = W_h h + W_m memory
        e.output(h=h0, memory=memory, keys=e.linear(memory, score[:, width:], bias))
        h = d.state("h", initial="h")
        query = d.linear(h, score[:, :width])
        names = ("v_fc.weight", "v.weight", "v")
        v = np.ravel(first(w, *(f"decoder.attention.{name}" for name in names)))
        context, alignment = d.attention(query=query, keys="keys", values="memory", v=v)
        (h,) = step(d, [y, context], [h], decoder[0])
        d.next(h=h)
        d.output(logits=linear(d, [h, context, y], w, "decoder.fc_out"), alignment=alignment)
    elif size(w["decoder.fc_out.weight"], 1) == size(decoder[-1]["weight_hh"], 1):
        hand_over(e, by_layer(e, states))
        d.output(logits=linear(d, run_cells(d, [y], decoder), w, "decoder.fc_out"))
    else:
        e.output(h=joined(e, by_layer(e, states)[-1][:1]))
        h = d.state("h", initial="h")
        (h,) = step(d, [y, "h"], [h], decoder[0])
        d.next(h=h)
        d.output(logits=linear(d, [y, h, "h"], w, "decoder.fc_out"))
    return m.build(**{**IDS, **(rules or {})})
