"""The bentrevett importer on state dicts of the notebooks' form, made of PyTorch's modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from verified import check

from s2s_engine import Engine, InputError, ModelFormatError

V, T, E, C, H = 11, 9, 5, 3, 6


def state(notebook: int, *, old: bool = False, layers: int = 2) -> dict[str, Any]:
    """A random state dict under the notebook's names; `old`: those of its first years."""
    import torch
    from torch import nn

    torch.manual_seed(notebook)
    encoder, decoder, model = nn.Module(), nn.Module(), nn.Module()
    encoder.embedding, decoder.embedding = nn.Embedding(V, E), nn.Embedding(T, E)
    if notebook == 1:
        encoder.rnn, decoder.rnn = nn.LSTM(E, H, layers), nn.LSTM(E, H, layers)
        decoder.fc_out = nn.Linear(H, T)
    elif notebook == 2:
        encoder.rnn, decoder.rnn = nn.GRU(E, H), nn.GRU(E + H, H)
        decoder.fc_out = nn.Linear(E + 2 * H, T)
    else:
        encoder.rnn, encoder.fc = nn.GRU(E, C, bidirectional=True), nn.Linear(2 * C, H)
        decoder.attention = nn.Module()
        score, v = nn.Linear(H + 2 * C, H), nn.Linear(H, 1, bias=False)
        decoder.attention.add_module("attn" if old else "attn_fc", score)
        decoder.attention.add_module("v" if old else "v_fc", v)
        decoder.rnn, decoder.fc_out = nn.GRU(2 * C + E, H), nn.Linear(H + 2 * C + E, T)
    model.encoder, model.decoder = encoder, decoder
    return model.state_dict()


def saved(content: Any, folder: Path) -> Path:
    import torch

    torch.save(content, folder / "tut-model.pt")
    return folder / "tut-model.pt"


@pytest.mark.parity("torch")
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("reverse", [True, False])
def test_notebook_1(layers: int, reverse: bool, tmp_path: Path) -> None:
    path = saved(state(1, layers=layers), tmp_path)
    model = check(
        path,
        "bentrevett",
        {"reverse_source": reverse},
        without=("concatenation",),
    ).model
    want = [2, 6, 5, 4, 3] if reverse else [2, 4, 5, 6, 3]
    assert model.source.prepare([4, 5, 6]) == want
    assert (model.start, model.end, model.generation["max_length"]) == (2, (3,), 50)


@pytest.mark.parity("torch")
def test_notebook_2(tmp_path: Path) -> None:
    check(saved(state(2), tmp_path), "bentrevett")


@pytest.mark.parity("torch")
@pytest.mark.parametrize("old", [True, False])
def test_notebooks_3_and_4(old: bool, tmp_path: Path) -> None:
    path = saved(state(3, old=old), tmp_path)
    # [h; memory] is one matrix there and two here.
    model = check(path, "bentrevett").model
    assert model.generation["max_length"] == (50 if old else 25)


@pytest.mark.parity("torch")
def test_a_parameter_v_and_a_prefix_are_read(tmp_path: Path) -> None:
    content = state(4, old=True)
    content["decoder.attention.v"] = content.pop("decoder.attention.v.weight")[0]
    wrapped = {"epoch": 3, "state": content}
    check(saved(wrapped, tmp_path), "bentrevett")


@pytest.mark.parity("torch")
def test_what_is_not_told_is_asked_for(tmp_path: Path) -> None:
    path = saved(state(1), tmp_path)
    with pytest.raises(
        InputError,
        match=r"needs the option reverse_source \(True or False\): the checkpoint does not say, "
        "and it changes the order in which the source is read",
    ):
        Engine.load(path)
    content = state(3)
    content["decoder.extra.weight"] = content["encoder.fc.weight"]
    with pytest.raises(ModelFormatError, match=r"array 'decoder\.extra\.weight' is of none of"):
        Engine.load(saved(content, tmp_path))
    words = [f"w{n}" for n in range(V)]
    with Engine.load(saved(state(2), tmp_path), source_vocabulary=words) as engine:
        assert engine.decode(["w4", "unseen"]).ids == engine.decode([4, 0]).ids
