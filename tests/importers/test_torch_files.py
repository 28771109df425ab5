"""The reader of torch.save's files: what PyTorch wrote comes back bit for bit, what is damaged or
hostile is refused by name. PyTorch writes the files; the reader never sees it."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2s_engine.errors import ModelFormatError
from s2s_engine.importers.readers.torch_files import (
    Placeholder,
    read_torch,
    tensors_of,
    vocabularies_of,
)

torch_parity = pytest.mark.parity("torch")
SHARED = os.environ.get("S2S_SHARED_DATA")
formats = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(value: Any, zipped: bool = True) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def same(ours: np.ndarray[Any, Any], theirs: Any) -> bool:
    import torch

    if theirs.dtype == torch.bfloat16:
        theirs = theirs.float()
    other = theirs.detach().numpy()
    return ours.dtype == other.dtype and ours.shape == other.shape and bool((ours == other).all())


# --- what PyTorch writes ---


@torch_parity
@formats
def test_every_dtype_reads_exactly(zipped: bool) -> None:
    import torch

    dtypes = (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
        torch.uint16, torch.uint32, torch.uint64,
    )  # fmt: skip
    values = {str(dtype): (torch.randn(3, 5) * 10).abs().to(dtype) for dtype in dtypes}
    values["empty"] = torch.zeros(0, 7)
    values["scalar"] = torch.tensor(3.5)
    again = read_torch(saved(values, zipped))
    assert again.keys() == values.keys()
    for key, value in values.items():
        assert same(again[key], value), key


@torch_parity
@formats
def test_views_and_ties(zipped: bool) -> None:
    import torch

    whole = torch.arange(60.0).reshape(3, 4, 5)
    values = {
        "whole": whole, "again": whole, "slice": whole[1:, 2], "transposed": whole.permute(2, 0, 1),
        "step": whole[:, ::2, 1:4], "same": whole.view(3, 4, 5), "one": whole[2:3, 1:2, 4:],
    }  # fmt: skip
    again = read_torch(saved(values, zipped))
    for key, value in values.items():
        assert same(again[key], value), key
    assert again["whole"] is again["again"] is again["same"]
    assert np.shares_memory(again["whole"], again["transposed"])
    assert not again["whole"].flags.writeable


@torch_parity
@formats
def test_expanded_tensors_are_refused(zipped: bool) -> None:
    import torch

    with pytest.raises(ModelFormatError, match="overlaps itself: clone it"):
        read_torch(saved({"a": torch.zeros(3, 1).expand(3, 4)}, zipped))


def network() -> Any:
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(7, 4)
            self.rnn = torch.nn.LSTM(4, 4, 2, bidirectional=True)
            self.out = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(4, 7))
            self.out[1].weight = self.embedding.weight
            self.register_buffer("mask", torch.ones(3, dtype=torch.bool))
            self.register_buffer("cache", torch.ones(3), persistent=False)

    Tied.__qualname__ = "Tied"
    globals()["Tied"] = Tied
    return Tied()


@torch_parity
@formats
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_state_dicts_optimisers_and_whole_modules(zipped: bool) -> None:
    import torch

    model = network()
    optimiser = torch.optim.Adam(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimiser.step()
    value = {"model": model.state_dict(), "optim": optimiser.state_dict(), "whole": model, "n": 3}
    again = read_torch(saved(value, zipped))
    want = model.state_dict()
    for found in (tensors_of(again["model"]), tensors_of(again["whole"])):
        assert found.keys() == want.keys()
        assert all(same(found[key], want[key]) for key in want)
        assert found["embedding.weight"] is found["out.1.weight"]
    assert same(
        again["optim"]["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"]
    )
    assert again["optim"]["param_groups"][0]["lr"] == 0.001
    assert again["whole"].name == "Tied" and again["n"] == 3


@torch_parity
@formats
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_other_objects_of_pytorch_are_data_or_placeholders(zipped: bool) -> None:
    import torch

    value = {
        "size": torch.Size([2, 3]), "device": torch.device("cpu"), "dtype": torch.float16,
        "parameter": torch.nn.Parameter(torch.ones(2)), "numpy": np.arange(3),
        "scalar": np.float32(2),
        "sparse": torch.eye(3).to_sparse(), "generator": torch.get_rng_state(),
        "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    }  # fmt: skip
    again = read_torch(saved(value, zipped))
    assert again["size"] == (2, 3) and again["device"] == "cpu" and again["scalar"] == 2
    assert str(again["dtype"]) == "torch.float16"
    assert same(again["parameter"], torch.ones(2)) and (again["numpy"] == np.arange(3)).all()
    assert isinstance(again["sparse"], Placeholder)
    for kind in ("sparse", "quantised"):
        with pytest.raises(ModelFormatError, match=f"tensor '{kind}' is made by"):
            tensors_of({kind: again[kind]})


@torch_parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_archives_give_their_tensors() -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    found = tensors_of(read_torch(file.getvalue()))
    assert all(same(found[key], value) for key, value in model.state_dict().items())


@torch_parity
@formats
def test_every_truncation_is_refused(zipped: bool) -> None:
    import torch

    data = saved({"a": torch.arange(3.0)}, zipped)
    for size in range(len(data)):
        with pytest.raises(ModelFormatError):
            read_torch(data[:size])


@torch_parity
def test_legacy_file_of_wrong_sizes_is_refused() -> None:
    import torch

    data = saved({"a": torch.arange(3.0)}, zipped=False)
    at = len(data) - 20
    assert data[at : at + 8] == struct.pack("<q", 3)
    for count in (0, 2, 4, 1 << 40, -1):
        with pytest.raises(ModelFormatError, match=r"elements, .* needs 3"):
            read_torch(data[:at] + struct.pack("<q", count) + data[at + 8 :])
    with pytest.raises(ModelFormatError, match="1 bytes stand behind the last storage"):
        read_torch(data + b"x")
    with pytest.raises(ModelFormatError, match="little-endian"):
        read_torch(re.sub(rb"(?<=little_endianq.)\x88", b"\x89", data, flags=re.S))


@torch_parity
@formats
def test_reading_imports_no_pytorch(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    state = network().state_dict()
    path.write_bytes(saved(state, zipped))
    code = (
        "import sys; from s2s_engine.importers.readers.torch_files import read_torch;"
        f"assert len(read_torch(sys.argv[1])) == {len(state)};"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


# --- objects ---


def test_tensors_of_names_and_bounds() -> None:
    a, b = np.zeros(1), np.ones(1)
    with pytest.raises(ModelFormatError, match="is 7, must be a dictionary of arrays"):
        tensors_of(7)
    assert list(tensors_of({"x": {"y": a}, "z": [b, {"w": a}], 3: b, "n": 1})) == [
        "x.y", "z.0", "z.1.w", "3"
    ]  # fmt: skip
    with pytest.raises(ModelFormatError, match=r"two arrays are named 'x\.y'"):
        tensors_of({"x": {"y": a}, "x.y": b})
    loop: dict[str, Any] = {}
    loop["x"] = loop
    with pytest.raises(ModelFormatError):
        tensors_of(loop)
    wide: Any = [a]
    for _ in range(40):
        wide = [wide, wide]
    with pytest.raises(ModelFormatError):
        tensors_of(wide)


def test_vocabularies_of_every_generation() -> None:
    words = ["<unk>", "a"]
    vocab = Placeholder("torchtext.vocab", "Vocab", (), {"itos": words, "stoi": {}})
    field = Placeholder("torchtext.data.field", "Field", (), {"vocab": vocab, "fields": None})
    multi = Placeholder(
        "onmt.inputters", "TextMultiField", (), {"fields": [("src", field), ("f", field)]}
    )
    numbers = Placeholder("torchtext.data.field", "Field", (), {"use_vocab": False})
    assert vocabularies_of({"vocab": [("src", vocab), ("tgt", vocab)]}) == {
        "src": words,
        "tgt": words,
    }
    assert vocabularies_of({"vocab": {"src": [("src", field)], "indices": numbers}}) == {
        "src": words
    }
    assert vocabularies_of({"vocab": {"src": multi}}) == {"src": words, "f": words}
    assert vocabularies_of({"vocab": {"src": words, "data_task": "seq2seq"}}) == {"src": words}
    with pytest.raises(ModelFormatError, match="two vocabularies"):
        vocabularies_of([("src", vocab), ("src", ["b"])])


@pytest.mark.skipif(not SHARED, reason="S2S_SHARED_DATA does not name the folder of checkpoints")
def test_opennmt_checkpoint_of_pytorch_0_2() -> None:
    folder = Path(str(SHARED)) / "opennmt_g2p"
    value = read_torch(folder / "test_model2.pt")
    found = {
        **tensors_of(value["model"]),
        **{f"generator.{key}": array for key, array in tensors_of(value["generator"]).items()},
    }
    with np.load(folder / "weights.npz") as want:
        names = {key.replace("make_embedding.", ""): key for key in found}
        assert names.keys() == set(want.files)
        assert all(np.array_equal(found[names[key]], want[key]) for key in want.files)
    assert value["opt"].state["rnn_size"] == 100
    vocabularies = vocabularies_of(value)
    assert {key: len(words) for key, words in vocabularies.items()} == {"src": 69, "tgt": 31}
    assert vocabularies["tgt"][:4] == ["<unk>", "<blank>", "<s>", "</s>"]
