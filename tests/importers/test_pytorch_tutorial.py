"""The pytorch_tutorial importer on modules of the tutorial's form, saved in several ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verified import check

from s2s_engine import Engine, ModelFormatError

V, T, H, SLOTS = 11, 9, 5, 10


def modules(decoder: str, seed: int = 0) -> tuple[Any, Any]:
    """The tutorial's encoder and decoder as containers of torch.nn's modules."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    encoder, made = nn.Module(), nn.Module()
    encoder.embedding, encoder.gru = nn.Embedding(V, H), nn.GRU(H, H, batch_first=True)
    made.embedding, made.out = nn.Embedding(T, H), nn.Linear(H, T)
    made.gru = nn.GRU(2 * H if decoder == "new" else H, H, batch_first=True)
    if decoder == "old":
        made.attn, made.attn_combine = nn.Linear(2 * H, SLOTS), nn.Linear(2 * H, H)
    elif decoder == "new":
        made.attention = nn.Module()
        made.attention.Wa, made.attention.Ua = nn.Linear(H, H), nn.Linear(H, H)
        made.attention.Va = nn.Linear(H, 1)
    return encoder, made


def pair(folder: Path, decoder: str, seed: int = 0) -> list[Path]:
    import torch

    paths = [folder / "encoder.pt", folder / "decoder.pt"]
    for path, module in zip(paths, modules(decoder, seed), strict=True):
        torch.save(module.state_dict(), path)
    return paths


@pytest.mark.parity("torch")
@pytest.mark.parametrize("decoder", ["old", "new", "plain"])
def test_a_pair_of_files(decoder: str, tmp_path: Path) -> None:
    without = ("concatenation",) if decoder == "plain" else ()
    # Sources up to the slots: with the old attention longer ones get nothing there.
    model = check(pair(tmp_path, decoder), "pytorch_tutorial", without=without).model
    assert (model.start, model.end, model.source.append) == (0, (1,), (1,))
    assert model.generation["max_length"] == 10


@pytest.mark.parity("torch")
@pytest.mark.parametrize("decoder", ["old", "new", "plain"])
def test_greedy_is_a_loop_over_the_modules(decoder: str, tmp_path: Path) -> None:
    for seed in range(4):
        source = pair(tmp_path, decoder, seed)
        peer = check(source, "pytorch_tutorial", without=("concatenation",) * (decoder == "plain"))
        ids: list[int] = []
        while len(ids) < 10 and (not ids or ids[-1] != 1):
            logits = peer.peer().trace({"tokens": [4, 2, 7, 1]}, ids)["decoder.logits"]
            ids.append(int(np.argmax(logits[-1])))
        with Engine.load(source) as engine:
            assert engine.decode([4, 2, 7]).ids == [i for i in ids if i != 1]


@pytest.mark.parity("torch")
@pytest.mark.parametrize(
    "names", [("encoder", "decoder"), ("en", "de"), ("encoder_state_dict", "decoder_state_dict")]
)
@pytest.mark.parametrize("whole", [True, False])
def test_one_file_with_both(names: tuple[str, str], whole: bool, tmp_path: Path) -> None:
    import torch

    parts = modules("new")
    held = {n: m if whole else m.state_dict() for n, m in zip(names, parts, strict=True)}
    optimizer = torch.optim.Adam(parts[0].parameters())
    held["en_opt"] = optimizer.state_dict()
    torch.save(held, tmp_path / "both.pt")
    torch.save(parts[0].state_dict(), tmp_path / "encoder.pt")
    with Engine.load(tmp_path / "both.pt") as one, Engine.load(pair(tmp_path, "new")) as two:
        assert np.array_equal(one.forced_logits([3, 4], [5, 6]), two.forced_logits([3, 4], [5, 6]))
        assert one.info.provenance["importer"] == "pytorch_tutorial"


@pytest.mark.parity("torch")
def test_what_is_not_the_tutorials_is_named(tmp_path: Path) -> None:
    import torch

    encoder, decoder = modules("new")
    decoder.extra = torch.nn.Linear(2, 2)
    torch.save(
        {"encoder": encoder.state_dict(), "decoder": decoder.state_dict()}, tmp_path / "x.pt"
    )
    with pytest.raises(ModelFormatError, match=r"array 'decoder\.extra\.\w+' is not of the tutor"):
        Engine.load(tmp_path / "x.pt")
    with pytest.raises(ModelFormatError, match="is no encoder and decoder of the tutorial"):
        Engine.load({"a": np.zeros(2)}, importer="pytorch_tutorial")
    words = [f"w{n}" for n in range(V)]
    source = pair(tmp_path, "plain")
    with Engine.load(source, source_vocabulary=words, max_length=3) as engine:
        assert engine.decode(["w4"]).ids == engine.decode([4]).ids
        assert engine.info.generation["max_length"] == 3
