"""Recurrent language models of toolkits, from their own state-dict names: decoders that continue a
prompt. Knows their equations; never files or vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..builder import ModelBuilder
from ..model import Model
from .state_dict import Weights, cells, linear, size, width

__all__ = ["fairseq_lm"]


def fairseq_lm(
    w: Weights, *, residuals: bool = False, rules: Mapping[str, Any] | None = None
) -> Model:
    """fairseq's lstm_lm: LSTM cells from zero states. residuals: the state before the step is added
    to what the next layer reads (not to what leaves the last one).

    decoder.embed_tokens.weight (V, E); decoder.layers.{k}.*; decoder.additional_fc.*;
    decoder.fc_out.*, or else decoder.embed_tokens.weight again.
    """
    table = w["decoder.embed_tokens.weight"]
    m = ModelBuilder(target=size(table))
    d = m.decoder
    x = out = d.embedding(d.token, table)
    for k, one in enumerate(cells(w, "decoder.layers")):
        h, c = (d.state(f"{role}{k}", size=width(one)) for role in "hc")
        out, c_next = d.lstm_cell(x, h, c, one)
        d.next({f"h{k}": out, f"c{k}": c_next})
        x = d.add(out, h) if residuals else out
    if "decoder.additional_fc.weight" in w:
        out = linear(d, out, w, "decoder.additional_fc")
    tied = "decoder.fc_out.weight" not in w
    d.output(logits=d.linear(out, table) if tied else linear(d, out, w, "decoder.fc_out"))
    return m.build(**{"start": 2, "end": [2], **(rules or {})})
