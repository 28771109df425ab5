"""The parts of OpenNMT-py's RNN models: embeddings with features, the bridge, attention, the
context gate. Knows their names and equations; never how they are composed."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..builder import DecoderBuilder, EncoderBuilder, ModelBuilder, Value
from .state_dict import Weights, joined, linear, size, transposed

Merge = Literal["concat", "sum", "mlp"]
Gate = Literal["source", "target", "both"]
FEATURE = "src_feat_{}"


def tables(w: Weights, side: str) -> str:
    """Where a side's embeddings stand; before 0.1 there was no `make_embedding`."""
    new, old = f"{side}.embeddings.make_embedding", f"{side}.embeddings"
    return old if f"{old}.emb_luts.0.weight" in w else new


def embedded(e: EncoderBuilder, w: Weights, merge: Merge) -> Value:
    """The words' embeddings with those of the inputs src_feat_0, ...: behind each other, added, or
    relu(W [..] + b) of them (Sennrich and Haddow 2016)."""
    prefix = tables(w, "encoder")
    values = [e.embedding(e.tokens, w[f"{prefix}.emb_luts.0.weight"])]
    while f"{prefix}.emb_luts.{len(values)}.weight" in w:
        table = w[f"{prefix}.emb_luts.{len(values)}.weight"]
        feature = e.input(FEATURE.format(len(values) - 1), ids=size(table))
        values.append(e.embedding(feature, table))
    if len(values) == 1 or merge == "concat":
        return joined(e, values)
    if merge == "sum":
        return e.add(*values)
    return e.linear(
        values, w[f"{prefix}.mlp.0.weight"], w[f"{prefix}.mlp.0.bias"], activation="relu"
    )


def bridge(e: EncoderBuilder, flat: Value, w: Weights, prefix: str) -> Value:
    """relu(W row + b) of the rows that the states of all layers, one behind the other, make."""
    rows = cut(e, flat, flat.type.size // size(w[f"{prefix}.weight"]))
    return joined(e, [linear(e, row, w, prefix, activation="relu") for row in rows])


def cut(e: EncoderBuilder, x: Value, parts: int) -> list[Value]:
    """Parts of equal size."""
    each = x.type.size // parts
    return [x] if parts == 1 else [e.slice(x, k * each, (k + 1) * each) for k in range(parts)]


def attention(m: ModelBuilder, memory: Value, h: Value, w: Weights) -> Value:
    """Luong et al. 2015: tanh(W [c; h]); mlp (Bahdanau et al. 2015) has a bias and no tanh."""
    e, d, mlp = m.encoder, m.decoder, "decoder.attn.linear_context.weight" in w
    if mlp:
        e.output(keys=linear(e, memory, w, "decoder.attn.linear_context"))
        query = linear(d, h, w, "decoder.attn.linear_query")
        v = np.ravel(w["decoder.attn.v.weight"])
        context, alignment = d.attention(query=query, keys="keys", values="memory", v=v)
    else:
        general = w.get("decoder.attn.linear_in.weight")
        e.output(keys=memory if general is None else e.linear(memory, transposed(general)))
        context, alignment = d.attention(query=h, keys="keys", values="memory")
    d.output(alignment=alignment)
    activation = "identity" if mlp else "tanh"
    return linear(d, [context, h], w, "decoder.attn.linear_out", activation=activation)


def context_gate(
    d: DecoderBuilder, kind: Gate, x: list[Value], h: Value, out: Value, w: Weights
) -> Value:
    """Tu et al. 2017, of the cell's input x, its h, and what attention made of it."""
    prefix = "decoder.context_gate.context_gate"
    z = linear(d, [*x, h, out], w, f"{prefix}.gate", activation="sigmoid")
    source = linear(d, out, w, f"{prefix}.source_proj")
    target = linear(d, [*x, h], w, f"{prefix}.target_proj")
    if kind == "both":
        mixed = d.interpolate(z, source, target)
    elif kind == "source":
        mixed = d.add(target, d.multiply(z, source))
    else:
        mixed = d.add(d.multiply(z, target), source)
    return d.activation(mixed, "tanh")
