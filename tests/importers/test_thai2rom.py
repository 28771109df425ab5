"""The thai2rom importer on a checkpoint of the program's form, written by PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from verified import check

from s2s_engine import Engine, ModelFormatError

LETTERS = ["<PAD>", "<start>", "<end>", "<UNK>", *"กขคงจ"]
ROMAN = ["<PAD>", "<start>", "<end>", *"aeiknou"]


def checkpoint(hidden: int = 6, size: int = 5, seed: int = 0) -> dict[str, Any]:
    """What PyThaiNLP saves, from torch.nn's own modules under its names."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    attention = nn.Module()
    attention.attn = nn.Linear(hidden, hidden)
    encoder, decoder, network = nn.Module(), nn.Module(), nn.Module()
    encoder.character_embedding = nn.Embedding(len(LETTERS), size)
    encoder.rnn = nn.LSTM(size, hidden // 2, bidirectional=True, batch_first=True)
    decoder.character_embedding = nn.Embedding(len(ROMAN), size)
    decoder.rnn = nn.LSTM(size + hidden, hidden, batch_first=True)
    decoder.attn, decoder.linear = attention, nn.Linear(hidden, len(ROMAN))
    network.encoder, network.decoder = encoder, decoder
    return {
        "encoder_params": [len(LETTERS), size, hidden, 0.5],
        "decoder_params": [len(ROMAN), size, hidden, 0.5],
        "char_to_ix": {letter: n for n, letter in enumerate(LETTERS)},
        "ix_to_char": dict(enumerate(LETTERS)),
        "target_char_to_ix": {letter: n for n, letter in enumerate(ROMAN)},
        "ix_to_target_char": dict(enumerate(ROMAN)),
        "model_state_dict": network.state_dict(),
    }


def saved(content: Any, folder: Path) -> Path:
    import torch

    torch.save(content, folder / "thai2rom-pytorch-attn.tar")
    return folder / "thai2rom-pytorch-attn.tar"


@pytest.mark.parity("torch")
def test_it_is_pytorchs_network(tmp_path: Path) -> None:
    imported = check(saved(checkpoint(), tmp_path), "thai2rom")
    model = imported.model
    assert model.vocabularies == {"tokens": tuple(LETTERS), "target": tuple(ROMAN)}
    assert (model.start, model.end, model.generation["max_length"]) == (1, (2,), 100)
    assert model.source.append == (2,) and model.source.unknown == 3


@pytest.mark.parity("torch")
def test_greedy_romanisation_is_the_programs(tmp_path: Path) -> None:
    import torch

    for seed in range(5):
        content = checkpoint(seed=seed)
        path = saved(content, tmp_path)
        peer = check(path, "thai2rom").peer()
        with Engine.load(path) as engine:
            for word in ("กขค", "งจ?ก"):
                source = [LETTERS.index(c) if c in LETTERS else 3 for c in word] + [2]
                ids: list[int] = []
                while len(ids) < 12 and (not ids or ids[-1] != 2):
                    logits = peer.trace({"tokens": source}, ids)["decoder.logits"][-1]
                    ids.append(int(torch.tensor(logits).argmax()))
                want = [ROMAN[i] for i in ids if i != 2]
                assert engine.decode(word, max_length=12).tokens == want


@pytest.mark.parity("torch")
def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    content = checkpoint()
    content["char_to_ix"] = {**content["char_to_ix"], "ก": 77}
    with pytest.raises(ModelFormatError, match="char_to_ix: the ids must be 0 to 8, each once"):
        Engine.load(saved(content, tmp_path))
    content = checkpoint()
    del content["model_state_dict"]["decoder.linear.weight"]
    with pytest.raises(ModelFormatError, match=r"importer thai2rom knows it: decoder\.linear\.we"):
        Engine.load(saved(content, tmp_path))
    content = checkpoint()
    content["target_char_to_ix"] = ["a"]
    with pytest.raises(ModelFormatError, match="target_char_to_ix must map characters to ids"):
        Engine.load(saved(content, tmp_path))
