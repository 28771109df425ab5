"""Layers of torch.nn as the builder takes them: a module of one's own, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from s2s_engine import ModelBuilder, ModelFormatError
from s2s_engine.importers import pytorch

V, E, H, S = 9, 4, 6, [3, 1, 4, 1, 5]


@pytest.mark.parity("torch")
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_bidirectional_module_of_two_layers(name: str, bias: bool) -> None:
    import torch

    torch.manual_seed(0)
    kind = getattr(torch.nn, name.upper())
    rnn = kind(E, H, num_layers=2, bidirectional=True, bias=bias, batch_first=True)
    net = torch.nn.ModuleDict(
        {"table": torch.nn.Embedding(V, E), "rnn": rnn, "out": torch.nn.Linear(2 * H, 3, bias=bias)}
    )
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    m = ModelBuilder(source=V)
    e = m.encoder
    x, of = e.embedding(e.tokens, pytorch.embedding(state, "table")), getattr(pytorch, name)
    for layer in (0, 1):
        both = (of(state, "rnn", layer=layer, reverse=reverse) for reverse in (False, True))
        x = e.bidirectional(getattr(e, name), x, *both)[0]
    e.output(logits=e.linear(x, *pytorch.linear(state, "out")))
    ours = m.build(arrays=None).reference().encode(S)["logits"]
    with torch.no_grad():
        theirs = net["out"](net["rnn"](net["table"](torch.tensor([S])))[0])[0]
    assert np.abs(ours - theirs.numpy()).max() < 1e-6


@pytest.mark.parity("torch")
def test_cells_and_projections() -> None:
    import torch

    torch.manual_seed(0)
    state = {k: v.numpy() for k, v in torch.nn.LSTM(E, H, proj_size=3).state_dict().items()}
    assert pytorch.lstm(state, "")["projection"].shape == (3, H)
    cell = {k: v.numpy() for k, v in torch.nn.GRUCell(E, H).state_dict().items()}
    assert pytorch.gru(cell, "", layer=None)["weight_ih"].shape == (3 * H, E)


def state() -> dict[str, Any]:
    shapes = {"weight_ih_l0": (3 * H, E), "weight_hh_l0": (3 * H, H), "bias_ih_l0": (3 * H,)}
    return {f"encoder.rnn.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda w: pytorch.gru(w, "encoder.rnn", layer=1),
            "no array 'encoder.rnn.weight_ih_l1'; near it are encoder.rnn.weight_ih_l0, encoder.rnn"
            ".weight_hh_l0, encoder.rnn.bias_ih_l0",
        ),
        (lambda w: pytorch.lstm(w, "encoder.rnn"), "18 rows and encoder.rnn.weight_hh_l0 18: both"),
        (lambda w: pytorch.rnn(w, "encoder.rnn"), r"has shape \[18, 6\], must be \[1 H, H\]"),
        (lambda w: pytorch.linear(w, "out"), "there is no array 'out.weight'"),
        (lambda w: pytorch.gru(w, "x", layer=None, reverse=True), "has no reverse direction"),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        call(state())
