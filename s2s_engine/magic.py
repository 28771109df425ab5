"""What the first bytes of a file tell about its format. Knows signatures only; nothing is read."""

from __future__ import annotations

import os
from pathlib import Path

# Enough for every signature, and for the key that a model file of this engine begins with.
FIRST = 4096
SIGNATURES = (
    ("zip", b"PK\x03\x04"),
    ("hdf5", b"\x89HDF\r\n\x1a\n"),
    ("npy", b"\x93NUMPY"),
    ("tar", b"\x1f\x8b"),
    ("torch", bytes.fromhex("80028a0a6cfc9c46f9206aa85019")),  # a pickle of its magic number
)


def format_of(data: bytes, suffix: str = "") -> str:
    """ "model" (of this engine), "safetensors", "zip", "hdf5", "npy", "tar", "torch" (legacy),
    "pickle", "marian", "onnx", or "" where nothing is recognised; data: at least the first bytes.
    """
    for name, signature in SIGNATURES:
        if data.startswith(signature):
            return name
    if data[257:262] == b"ustar":
        return "tar"
    if data[8:9] == b"{":
        return "model" if b'"s2s_engine"' in data[:FIRST] else "safetensors"
    if len(data) >= 16 and int.from_bytes(data[:8], "little") in (1, 2):
        return "marian"
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        return "pickle"
    # ir_version: the first field of every ONNX file.
    return "onnx" if suffix == ".onnx" or data[:1] == b"\x08" else ""


def is_foreign(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a checkpoint of another program: a folder, a TensorFlow checkpoint's
    prefix, or a file of another format."""
    path = Path(path)
    if path.is_dir() or (not path.exists() and path.with_name(path.name + ".index").is_file()):
        return True
    if path.suffix == ".index":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return format_of(file.read(FIRST), path.suffix) not in ("model", "")
