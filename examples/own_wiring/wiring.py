"""The network of network.py written for the engine, from its checkpoint, and held against PyTorch:
`python wiring.py reverser.pt reverser.safetensors`."""

from __future__ import annotations

import sys

import numpy as np

from s2s_engine import Engine, Model, ModelBuilder, self_test
from s2s_engine.importers import arrays_of, pytorch

LETTERS = ["<pad>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]


def wired(path: str) -> Model:
    """The model of a checkpoint: the file's arrays, and the lines of `forward` as a graph."""
    w = arrays_of(path)
    table = pytorch.embedding(w, "table")
    m = ModelBuilder(source=len(table), target=len(table))
    e, d = m.encoder, m.decoder

    forward, backward = (pytorch.gru(w, "encoder", reverse=reverse) for reverse in (False, True))
    memory, last = e.bidirectional(e.gru, e.embedding(e.tokens, table), forward, backward)
    h0 = e.linear(last, *pytorch.linear(w, "bridge"), activation="tanh")
    e.output(memory=memory, keys=e.linear(memory, *pytorch.linear(w, "keys")), h=h0)

    h, c = d.state("h", initial="h"), d.state("c", size=h0.type.size)
    query = d.linear(h, *pytorch.linear(w, "query"))
    v = np.ravel(pytorch.linear(w, "energy")[0])
    context, weights = d.attention(query=query, keys="keys", values="memory", v=v)
    token = d.embedding(d.token, table)
    h, c = d.lstm_cell([token, context], h, c, pytorch.lstm(w, "decoder", layer=None))
    d.next(h=h, c=c)
    d.output(logits=d.linear([h, context], *pytorch.linear(w, "out")), alignment=weights)

    vocabularies = {"tokens": LETTERS, "target": LETTERS}
    return m.build(start=1, end=[2], vocabularies=vocabularies, characters=True)


def difference_from_pytorch(model: Model, path: str) -> float:
    """The largest difference of a logit over some words under teacher forcing."""
    import torch
    from network import Reverser

    network = Reverser()
    network.load_state_dict(torch.load(path, weights_only=True))
    largest = 0.0
    with Engine.load(model) as engine, torch.no_grad():
        for word in ("a", "engine", "wiring", "recurrent"):
            ids = [LETTERS.index(letter) for letter in word]
            ours = engine.forced_logits(ids, ids[::-1])
            theirs = network(torch.tensor([ids]), torch.tensor([[1, *ids[::-1]]]))[0]
            largest = max(largest, float(np.abs(ours - theirs.numpy()).max()))
    return largest


if __name__ == "__main__":
    made = wired(sys.argv[1])
    print(f"largest difference from PyTorch: {difference_from_pytorch(made, sys.argv[1]):.1e}")
    self_test.attach(made).save(sys.argv[2])
