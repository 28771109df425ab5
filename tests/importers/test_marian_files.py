"""Marian's .npz and .bin files: what is read, and what every broken one is answered."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from s2s_engine import ModelFormatError
from s2s_engine.importers.readers.marian_files import read_marian

YAML = """\
dec-cell: gru
dim-vocabs:
  - 85000
  - 32000
embedding-vectors:
  []
enc-depth: 1
label-smoothing: 0.1
skip: false
special: "[CLS] a"
ulr-query-vectors: ""
valid: [a, 'b c']
version: v1.11.00 f00d 2022
"""
CONFIG = {
    "dec-cell": "gru", "dim-vocabs": [85000, 32000], "embedding-vectors": [], "enc-depth": 1,
    "label-smoothing": 0.1, "skip": False, "special": "[CLS] a", "ulr-query-vectors": "",
    "valid": ["a", "b c"], "version": "v1.11.00 f00d 2022",
}  # fmt: skip
WEIGHTS: dict[str, NDArray[Any]] = {
    "encoder_Wemb": np.arange(6, dtype=np.float32).reshape(2, 3),
    "decoder_ff_state_b": np.array([[0.5, -1.5]], np.float32),
    "half": np.array([1, 2, 3], np.float16),
}
TYPES = {"float32": 0x404, "float16": 0x402, "int8": 0x101}


def items(**changed: Any) -> dict[str, Any]:
    text = np.frombuffer(YAML.encode() + b"\0" * 20, np.int8)
    return {**WEIGHTS, "special:model.yml": text, **changed}


def binary(arrays: dict[str, Any], *, padded: bool = True, version: int = 1) -> bytes:
    """As Marian's saveItems writes it."""
    heads, names, shapes, bodies = [], b"", b"", []
    for name, array in arrays.items():
        body = array.tobytes()
        body += bytes(-len(body) % 256) if padded else b""
        raw = name.encode() + b"\0"
        heads.append(struct.pack("<4Q", len(raw), TYPES[str(array.dtype)], array.ndim, len(body)))
        names += raw
        shapes += struct.pack(f"<{array.ndim}i", *array.shape)
        bodies.append(body)
    data = struct.pack("<2Q", version, len(arrays)) + b"".join(heads) + names + shapes
    gap = ((len(data) + 8) // 256 + 1) * 256 - len(data) - 8
    return data + struct.pack("<Q", gap) + bytes(gap) + b"".join(bodies)


def npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


BIN, SMALL, NPZ = binary(items()), binary(items(), padded=False), npz(items())


@pytest.mark.parametrize("data", [BIN, SMALL, NPZ], ids=["bin", "unpadded", "npz"])
def test_arrays_and_configuration_are_read(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(data)
    for source in (data, path):
        model = read_marian(source)
        assert model.config == CONFIG and model.yaml == YAML
        assert set(model.arrays) == set(WEIGHTS)
        for name, array in WEIGHTS.items():
            assert model.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(model.arrays[name], array)


def test_a_file_of_nematus_has_no_configuration() -> None:
    model = read_marian(npz(WEIGHTS))
    assert model.yaml is None and model.config is None


def patched(at: int, value: int) -> bytes:
    return BIN[:at] + value.to_bytes(8, "little") + BIN[at + 8 :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 bytes, too few"),
        (patched(0, 2), "encrypted"),
        (patched(0, 3), "version is 3"),
        (patched(8, 1 << 60), "items in a file of"),
        (patched(16, 1 << 63), "a name has 9223372036854775808 bytes"),
        (patched(16, 3), "must end with its NUL"),
        (patched(24, 0x1_0001), "'encoder_Wemb' at byte .*packed or quantised"),
        (patched(24, 0x1404), "packed or quantised"),
        (patched(32, 1 << 40), "has 1099511627776 dimensions"),
        (patched(40, 1 << 62), "the data of 'encoder_Wemb' has"),
        (patched(40, 0), "needs 24 bytes, has 0"),
        (BIN + b"\0", "1 bytes stand behind the last item"),
        (npz({**WEIGHTS, "x": np.array([None])}), "'x' is of type object"),
        (npz(items(x=np.array(["a"]))), "'x' is of type <U1"),
        (npz({"special:model.yml": np.zeros(3)}), "must be the bytes of a text"),
        (npz({"special:model.yml": np.full(3, -1, np.int8)}), "is not UTF-8"),
    ],
)
def test_a_broken_file_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        read_marian(data)


def test_the_message_begins_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(b"no model at all, none")
    with pytest.raises(ModelFormatError, match=f"^{path}: byte 0: version"):
        read_marian(path)
    with pytest.raises(ModelFormatError, match="not a regular file"):
        read_marian(tmp_path)


@pytest.mark.parametrize("data", [SMALL, NPZ], ids=["bin", "npz"])
def test_every_truncation_is_refused(data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(ModelFormatError):
            read_marian(data[:size])


@pytest.mark.parametrize("data", [BIN, SMALL, NPZ], ids=["bin", "unpadded", "npz"])
def test_mutations_are_read_or_refused(data: bytes) -> None:
    random_ = random.Random(1)
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(random_.randint(1, 4)):
            changed[random_.randrange(len(data))] = random_.choice([0, 1, 127, 128, 255])
        try:
            model = read_marian(bytes(changed))
        except ModelFormatError:
            continue
        assert sum(array.nbytes for array in model.arrays.values()) <= len(data)
