"""The networks of PyTorch's tutorial "Translation with a Sequence to Sequence Network and
Attention", old and new. Knows their wiring, by the names of their modules; never checkpoints."""

from __future__ import annotations

import numpy as np

from ..builder import ModelBuilder, Value
from .weights import Weights, dense, part


def _encoder(m: ModelBuilder, w: Weights) -> Value:
    """EncoderRNN: its outputs; they and its last state are the decoder's `memory` and `h`."""
    e = m.encoder
    x = e.embedding(e.tokens, w["encoder.embedding.weight"])
    memory, h = e.gru(x, part(w, "encoder.gru"))
    e.output(memory=memory, h=h)
    return memory


def decoder_rnn(m: ModelBuilder, w: Weights) -> None:
    """DecoderRNN: no attention; the cell reads relu of the embedding.

    encoder.embedding.weight (source, H), decoder.embedding.weight (target, H); encoder.gru and
    decoder.gru: weights of GRUs (3H, H), (3H, H); decoder.out {weight (target, H), bias}.
    """
    _encoder(m, w)
    d = m.decoder
    y = d.activation(d.embedding(d.token, w["decoder.embedding.weight"]), "relu")
    h = d.gru_cell(y, d.state("h", initial="h"), part(w, "decoder.gru"))
    d.next(h=h)
    d.output(logits=dense(d, h, w, "decoder.out"))


def attention_decoder_old(m: ModelBuilder, w: Weights) -> None:
    """AttnDecoderRNN until 2023: weights over L slots from [y; h] alone, no mask: what falls on
    slots beyond the source is lost.

    As `decoder_rnn`, and decoder.attn {weight (L, 2H), bias}, decoder.attn_combine {weight (H, 2H),
    bias}. L is the tutorial's MAX_LENGTH: it read no longer sources; here the rest gets no weight.
    """
    _encoder(m, w)
    d = m.decoder
    h = d.state("h", initial="h")
    y = d.embedding(d.token, w["decoder.embedding.weight"])
    slots = d.to_positions(d.softmax(dense(d, [y, h], w, "decoder.attn")))
    context, weights = d.attention(scores=slots, values="memory", normaliser="none")
    x = dense(d, [y, context], w, "decoder.attn_combine", activation="relu")
    h = d.gru_cell(x, h, part(w, "decoder.gru"))
    d.next(h=h)
    d.output(logits=dense(d, h, w, "decoder.out"), alignment=weights)


def attention_decoder(m: ModelBuilder, w: Weights) -> None:
    """AttnDecoderRNN since 2023: additive attention asked by the state before the step.

    As `decoder_rnn` with decoder.gru.weight_ih (3H, 2H), and decoder.attention.{Wa, Ua}
    {weight (H, H), bias}, decoder.attention.Va {weight (1, H), bias (1)}.
    """
    e, d = m.encoder, m.decoder
    attention = part(w, "decoder.attention")
    e.output(keys=dense(e, _encoder(m, w), attention, "Ua"))
    h = d.state("h", initial="h")
    context, weights = d.attention(
        query=dense(d, h, attention, "Wa"),
        keys="keys",
        values="memory",
        v=np.ravel(attention["Va.weight"]),
        energy_bias=attention["Va.bias"],
    )
    y = d.embedding(d.token, w["decoder.embedding.weight"])
    h = d.gru_cell([y, context], h, part(w, "decoder.gru"))
    d.next(h=h)
    d.output(logits=dense(d, h, w, "decoder.out"), alignment=weights)
