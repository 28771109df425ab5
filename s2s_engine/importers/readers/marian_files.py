"""Marian's model files (.npz, .bin) and those of Amun and Nematus: arrays by name, and the
configuration. Knows both containers; never what a weight does."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFormatError
from .archives import Source, load
from .arrays import read_npz
from .numpy_pickles import checked_array, checked_count
from .pickle_values import RefusedError
from .yaml import read_yaml

CONFIG = "special:model.yml"
VERSION, ENCRYPTED = 1, 2
ITEM = 32  # bytes of an item's header
ALIGNMENT = 256
MAX_ITEMS = 65_536
MAX_NAME = 1024
MAX_DIMENSIONS = 8
# Type class plus size in bytes.
DTYPES = {
    0x101: "|i1", 0x102: "<i2", 0x104: "<i4", 0x108: "<i8", 0x201: "|u1", 0x202: "<u2",
    0x204: "<u4", 0x208: "<u8", 0x402: "<f2", 0x404: "<f4", 0x408: "<f8",
}  # fmt: skip

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class MarianFile:
    """A model. arrays: all but the configuration, as stored. yaml: the configuration's text, and
    config what it says; None where the file has none, as those of Amun and Nematus."""

    arrays: dict[str, Array]
    yaml: str | None
    config: dict[str, Any] | None


def read_marian(source: Source) -> MarianFile:
    """The arrays and the configuration of an .npz or .bin file, told apart by their first bytes.

    ModelFormatError for pickled objects, weights packed for one kind of CPU, encrypted files, YAML
    beyond a mapping of scalars and lists, and every length that the file does not have.
    """
    data, where = load(source)
    try:
        arrays = _plain(read_npz(data)) if data[:2] == b"PK" else _binary(memoryview(data))
        text = _config_text(arrays.pop(CONFIG, None))
        return MarianFile(arrays, text, None if text is None else read_yaml(text, CONFIG))
    except RefusedError as error:
        raise ModelFormatError(f"{where}: {error}") from None
    except ModelFormatError as error:
        raise ModelFormatError(f"{where}: {str(error).removeprefix('bytes: ')}") from None


def _plain(arrays: dict[str, Array]) -> dict[str, Array]:
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise RefusedError(f"member {name[:200]!r} is of type {array.dtype}, must be numbers")
    return arrays


# --- .bin ---


def _binary(data: memoryview) -> dict[str, Array]:
    size = len(data)
    if size < 16:
        raise RefusedError(f"the file has {size} bytes, too few for a Marian .bin")
    version, count = struct.unpack_from("<2Q", data)
    if version == ENCRYPTED:
        raise RefusedError("the file is encrypted: not read")
    if version != VERSION:
        raise RefusedError(
            f"byte 0: version is {version}, must be {VERSION}: neither .npz nor .bin"
        )
    if count > min(MAX_ITEMS, (size - 16) // ITEM):
        raise RefusedError(f"byte 8: {count} items in a file of {size} bytes, at most {MAX_ITEMS}")
    headers = [struct.unpack_from("<4Q", data, 16 + ITEM * index) for index in range(count)]
    at = 16 + ITEM * count
    names = []
    for length, *_ in headers:
        at, raw = _taken(data, at, length, "a name")
        names.append(_name(raw, at))
    shapes = []
    for name, (_, _, dimensions, _) in zip(names, headers, strict=True):
        if dimensions > MAX_DIMENSIONS:
            raise RefusedError(f"{name!r} has {dimensions} dimensions, at most {MAX_DIMENSIONS}")
        at, raw = _taken(data, at, 4 * dimensions, f"the shape of {name!r}")
        shapes.append(struct.unpack(f"<{dimensions}i", raw))
    at, raw = _taken(data, at, 8, "the offset")
    at, _ = _taken(data, at, int.from_bytes(raw, "little"), "the gap before the data")
    arrays: dict[str, Array] = {}
    for name, shape, (_, kind, _, length) in zip(names, shapes, headers, strict=True):
        start = at
        at, raw = _taken(data, at, length, f"the data of {name!r}")
        if name in arrays:
            raise RefusedError(f"{name!r} stands twice")
        try:
            arrays[name] = _numbers(raw, kind, shape)
        except RefusedError as error:
            raise RefusedError(f"{name!r} at byte {start}: {error}") from None
    if at != size:
        raise RefusedError(f"{size - at} bytes stand behind the last item")
    return arrays


def _taken(data: memoryview, at: int, length: int, what: str) -> tuple[int, memoryview]:
    if length > len(data) - at:
        raise RefusedError(
            f"byte {at}: {what} has {length} bytes, {len(data) - at} are left: truncated"
        )
    return at + length, data[at : at + length]


def _name(raw: memoryview, end: int) -> str:
    name = bytes(raw)
    if not 2 <= len(name) <= MAX_NAME or name.find(0) != len(name) - 1:
        raise RefusedError(f"the name before byte {end} is {name[:60]!r}, must end with its NUL")
    try:
        return name[:-1].decode()
    except UnicodeDecodeError:
        raise RefusedError(f"the name before byte {end} is not UTF-8: {name[:60]!r}") from None


def _numbers(raw: memoryview, kind: int, shape: tuple[int, ...]) -> Array:
    if kind not in DTYPES:
        raise RefusedError(
            f"is of type {kind:#x}, which is packed or quantised: write the model with float32 "
            "(marian-conv without --gemm-type)"
        )
    dtype = np.dtype(DTYPES[kind])
    want = checked_count(shape) * dtype.itemsize
    # Items may be padded to the next 256 bytes.
    if not want <= len(raw) < want + ALIGNMENT:
        raise RefusedError(f"of shape {shape} needs {want} bytes, has {len(raw)}")
    return checked_array(bytes(raw[:want]), dtype, shape, False)


# --- the configuration ---


def _config_text(array: Array | None) -> str | None:
    if array is None:
        return None
    if array.dtype.itemsize != 1:
        raise RefusedError(f"{CONFIG} is of type {array.dtype}, must be the bytes of a text")
    try:
        return array.tobytes().rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise RefusedError(f"{CONFIG} is not UTF-8: {error}") from None
