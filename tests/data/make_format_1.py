"""Wrote tests/data/format-1.safetensors, once; the file is never written again, because it shows
that later versions load what this one wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2s_engine import ModelBuilder
from s2s_engine.self_test import attach

RANDOM = np.random.default_rng(1)
H, E, S, T = 8, 6, 7, 9


def weights(*shape: int) -> NDArray[np.float32]:
    return RANDOM.normal(scale=0.5, size=shape).astype(np.float32)


def lstm(inputs: int) -> dict[str, NDArray[np.float32]]:
    return {
        "weight_ih": weights(4 * H, inputs),
        "weight_hh": weights(4 * H, H),
        "bias_ih": weights(4 * H),
    }


m = ModelBuilder(source=S, target=T)
e, d = m.encoder, m.decoder
memory, h, c = e.bidirectional(e.lstm, e.embedding(e.tokens, weights(S, E)), lstm(E), lstm(E))
keys = e.linear(memory, weights(H, 2 * H))
e.output(memory=memory, keys=keys, h=e.linear(h, weights(H, 2 * H)), c=e.slice(c, 0, H))
h, c, feed = d.state("h", initial="h"), d.state("c", initial="c"), d.state("feed", size=H)
h, c = d.lstm_cell([d.embedding(d.token, weights(T, E)), feed], h, c, lstm(E + H))
context, alignment = d.attention(query=h, keys="keys", values="memory")
attentional = d.linear([context, h], weights(H, 3 * H), activation="tanh")
d.next(h=h, c=c, feed=attentional)
bias = weights(T)
bias[2] -= 2.0  # not the end at once
d.output(logits=d.linear(attentional, weights(T, H), bias), alignment=alignment)
model = m.build(
    source={"append": [1], "unknown": 2},
    start=1,
    end=[2],
    vocabularies={"tokens": ["<pad>", "</s>", "<unk>", *"abcd"], "target": list("012345678")},
    generation={"max_length": [2, 5]},
    provenance={"script": "tests/data/make_format_1.py"},
)
attach(model).save(Path(__file__).with_name("format-1.safetensors"))
