"""Model files: a `Model` to the bytes of a safetensors file and back, every byte checked before it
is believed. Knows headers, digests and tensors' bytes; never what a graph computes."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import ModelFormatError
from .model import Model
from .strict_json import dumps, loads

MAX_HEADER = 64 << 20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 24
MAX_MESSAGE = 2000
MAPPED = 1 << 20  # bytes of a file from which memory of its own pays
METADATA = "s2s_engine"
ITEM_SIZE = {"F32": 4, "BF16": 2}
STORAGES = {"float32": "F32", "bfloat16": "BF16"}
TENSOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,255}")
DIGEST = re.compile(r"[0-9a-f]{64}")
NO_DIGEST = b"0" * 64

Bytes: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: where its bytes stand behind the header, and what they are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself; its tensors' numbers and digest are not read.

    document: `Model.to_document()` as stored. outline: the checked model with zeros for weights.
    """

    document: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    outline: Model
    digest: str
    file_size: int


@dataclass(frozen=True)
class _Layout:
    """A header that passed every check that needs no tensor data."""

    document: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    digest: str
    digest_at: int
    data_at: int


# --- writing ---


def write(model: Model, path: str | os.PathLike[str], storage: str = "float32") -> None:
    """Writes a model file, whole or not at all; the folder must exist."""
    data = to_bytes(model, storage)
    target = Path(path)
    temporary = target.with_name(f".s2s-{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def to_bytes(model: Model, storage: str = "float32") -> bytes:
    """The bytes of a model file: the same model gives the same bytes.

    storage: "float32", or "bfloat16", which rounds the weights to the nearest even and computes
    the self-test anew for the rounded ones.
    """
    if storage not in STORAGES:
        raise ModelFormatError(f"storage is {storage!r}, must be one of {', '.join(STORAGES)}")
    dtype = STORAGES[storage]
    _check_tensors(model.tensors)
    if storage == "bfloat16":
        model = _rounded(model)
    names = sorted(model.tensors)
    entries, stop = {}, 0
    for name in names:
        array = model.tensors[name]
        start, stop = stop, stop + array.size * ITEM_SIZE[dtype]
        entries[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, stop]}
    parts = [_stored(model.tensors[name], dtype) for name in names]
    return _sealed(model.to_document(), entries, parts)


def _sealed(document: dict[str, Any], entries: dict[str, Any], parts: list[bytes]) -> bytes:
    # The digest stands last in the document: the last run of zeros under this key is its place.
    text = dumps({**document, "sha256": NO_DIGEST.decode()})
    header = dumps({"__metadata__": {METADATA: text}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise ModelFormatError(f"the header has {len(header)} bytes, at most {MAX_HEADER}")
    key = b'\\"sha256\\":\\"'
    at = 8 + header.rindex(key + NO_DIGEST) + len(key)
    data = bytearray(b"".join([len(header).to_bytes(8, "little"), header, *parts]))
    data[at : at + 64] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def _check_tensors(tensors: Mapping[str, NDArray[np.float32]]) -> None:
    if len(tensors) > MAX_TENSORS:
        raise ModelFormatError(f"the model has {len(tensors)} tensors, at most {MAX_TENSORS}")
    for name, array in tensors.items():
        if array.dtype != np.float32:
            raise ModelFormatError(f"tensor {name!r} is of {array.dtype}, must be float32")
        _check_name(name)
        _check_shape(name, list(array.shape))
        _check_finite(name, array)


def _rounded(model: Model) -> Model:
    """The model whose weights are the nearest bfloat16 numbers, with its self-test."""
    tensors = {name: np.empty(w.shape, np.float32) for name, w in model.tensors.items()}
    for name, w in model.tensors.items():
        _widen(_narrowed(w), tensors[name])
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise ModelFormatError(
                f"tensor {name!r} holds a number too large for bfloat16: store float32"
            )
    rounded = replace(model, tensors=tensors)
    test = model.self_test
    if test is None:
        return rounded
    from .self_test import attach  # the reference is needed here only

    return attach(rounded, test.source, test.target, tolerance=test.tolerance)


def _narrowed(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(array, "<f4").view("<u4")
    # Half of the last kept bit less one, and one more where that bit is odd: ties to even. Never
    # overflows: finite numbers end at 0xff7fffff.
    nearest: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return nearest


def _widen(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    words = out.view(np.uint32)
    words[...] = bits
    words <<= 16


def _stored(array: NDArray[np.float32], dtype: str) -> bytes:
    narrow = _narrowed(array) if dtype == "BF16" else np.ascontiguousarray(array, "<f4")
    return narrow.tobytes()


# --- reading ---


def read(path: str | os.PathLike[str]) -> Model:
    """The model of a file. ModelFormatError where a byte is wrong, FileNotFoundError where there
    is no file, NotImplementedError for what the format has and this version does not run."""
    return read_with_digest(path)[0]


def read_with_digest(path: str | os.PathLike[str]) -> tuple[Model, str]:
    """The model, and the SHA-256 that its file carries; errors as in `read`."""
    try:
        return _checked(_memory_of(path), own=True)
    except ModelFormatError as error:
        raise ModelFormatError(f"{os.fspath(path)}: {error}") from None


def from_bytes(data: Bytes) -> Model:
    """The model that the bytes of a file hold; errors as in `read`."""
    return from_bytes_with_digest(data)[0]


def from_bytes_with_digest(data: Bytes) -> tuple[Model, str]:
    """The model, and the SHA-256 that its file carries."""
    return _checked(memoryview(data).cast("B"), own=isinstance(data, bytes))


def _checked(view: memoryview, own: bool) -> tuple[Model, str]:
    """own: nobody will change these bytes, so that arrays may be views on them."""
    try:
        layout = _layout(_header(view), len(view))
        _check_digest(view, layout)
        tensors = _arrays(view, layout.data_at, layout.tensors, own)
        return Model.from_document(layout.document, tensors), layout.digest
    except (RecursionError, ModelFormatError) as error:
        raise _readable(error) from None


def _memory_of(path: str | os.PathLike[str]) -> memoryview:
    """The bytes of a regular file: a copy, since another program could cut a mapped file short. On
    Linux its pages are taken all at once, which is faster than one by one."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if sys.platform != "linux" or size < MAPPED:
            return memoryview(file.read())
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        memory = memoryview(mmap.mmap(-1, size, flags))
        return memory[: file.readinto(memory)]


def file_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file; ModelFormatError for a directory, a device or a pipe."""
    with _opened(path) as file:
        return file.read()


def digest_of(data: Bytes) -> str:
    """The SHA-256 that the bytes of a model file say of themselves; `from_bytes` checks it."""
    view = memoryview(data).cast("B")
    return _layout(_header(view), len(view)).digest


def read_header(path: str | os.PathLike[str]) -> Header:
    """Document and tensor sizes of a file, for inspection: no tensor is read, and so neither the
    digest nor the numbers are checked."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        rest = file.read(length) if length <= min(size, MAX_HEADER) else b""
    try:
        layout = _layout(_header(memoryview(start + rest), size), size)
        # No memory: one zero seen as a whole array.
        zeros = {t.name: np.broadcast_to(np.float32(0), t.shape) for t in layout.tensors}
        outline = Model.from_document(layout.document, zeros)
        return Header(layout.document, layout.tensors, outline, layout.digest, size)
    except (RecursionError, ModelFormatError) as error:
        raise ModelFormatError(f"{os.fspath(path)}: {_readable(error)}") from None


def _opened(path: str | os.PathLike[str]) -> BufferedReader:
    # A device or a pipe could be read for ever, and opening a pipe would wait.
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ModelFormatError(f"{os.fspath(path)} is not a regular file: pass a model file")
    return Path(path).open("rb")


def _readable(error: Exception) -> ModelFormatError:
    if isinstance(error, RecursionError):
        return ModelFormatError("the header's JSON is nested too deeply")
    text = str(error)
    return ModelFormatError(text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "...")


def _header(view: memoryview, size: int | None = None) -> bytes:
    """The bytes of the header, of a file of `size` bytes of which `view` is the beginning."""
    size = len(view) if size is None else size
    if size < 8:
        raise ModelFormatError(f"the file has {size} bytes, too few for a safetensors file")
    length = int.from_bytes(view[:8], "little")
    if length > MAX_HEADER:
        raise ModelFormatError(
            f"the header's length is given as {length}, at most {MAX_HEADER}: not a model file"
        )
    if 8 + length > size:
        raise ModelFormatError(
            f"the header's length is given as {length}, but the file has {size} bytes: truncated"
        )
    return bytes(view[8 : 8 + length])


def _layout(header: bytes, size: int) -> _Layout:
    # The library wants this byte too; JSON itself would allow space before it.
    if header[:1] != b"{":
        raise ModelFormatError("the header is no JSON object: not a safetensors file")
    fields = loads(header, "header")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get(METADATA), str):
        raise ModelFormatError(
            f"__metadata__ holds no {METADATA!r}: a safetensors file, but not a model of this "
            "engine; convert it with an importer (s2s-engine convert)"
        )
    if len(metadata) != 1:
        raise ModelFormatError(
            f"__metadata__ holds {sorted(metadata)}, must hold {METADATA!r} only"
        )
    data_at = 8 + len(header)
    tensors = _tensors(fields, size - data_at)
    document = loads(metadata[METADATA].encode("utf-8", "surrogatepass"), METADATA)
    digest = document.pop("sha256", None)
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ModelFormatError("sha256 is missing, or not 64 digits 0-9a-f")
    if header.count(digest.encode()) != 1:
        raise ModelFormatError("sha256 must be written in the header once, in plain digits")
    return _Layout(document, tensors, digest, 8 + header.index(digest.encode()), data_at)


def _tensors(fields: dict[str, Any], size: int) -> tuple[TensorInfo, ...]:
    """The tensors of a header that must cover `size` bytes, in order and without gaps."""
    if len(fields) > MAX_TENSORS:
        raise ModelFormatError(f"the file has {len(fields)} tensors, at most {MAX_TENSORS}")
    tensors, stop = [], 0
    for name, entry in fields.items():
        tensors.append(_info(name, entry, stop))
        stop = tensors[-1].stop
        if stop > size:
            raise ModelFormatError(
                f"tensor {name!r} ends at byte {stop} of {size}: the file is truncated"
            )
    if stop != size:
        raise ModelFormatError(f"{size - stop} bytes stand behind the last tensor")
    return tuple(tensors)


def _info(name: str, entry: object, start: int) -> TensorInfo:
    _check_name(name)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ModelFormatError(f"tensor {name!r} must have exactly dtype, shape, data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZE:
        raise ModelFormatError(f"tensor {name!r}: dtype is {dtype!r}, must be F32 or BF16")
    count = _check_shape(name, shape)
    want = [start, start + count * ITEM_SIZE[dtype]]
    if not _integers(offsets) or offsets != want:
        raise ModelFormatError(f"tensor {name!r}: data_offsets is {offsets!r}, must be {want}")
    return TensorInfo(name, dtype, tuple(shape), *want)


def _check_name(name: str) -> None:
    if not TENSOR_NAME.fullmatch(name) or name == "__metadata__":
        raise ModelFormatError(f"tensor name {name!r} must match {TENSOR_NAME.pattern}")


def _check_shape(name: str, shape: object) -> int:
    """The number of elements, in exact integers."""
    if not isinstance(shape, list) or not _integers(shape):
        raise ModelFormatError(f"tensor {name!r}: shape is {shape!r}, must be a list of integers")
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise ModelFormatError(
            f"tensor {name!r} has {len(shape)} dimensions, must have 1 to {MAX_DIMENSIONS}"
        )
    count = 1
    for dimension in shape:
        if not 1 <= dimension <= MAX_DIMENSION:
            raise ModelFormatError(
                f"tensor {name!r} has shape {shape}; dimensions are 1 to {MAX_DIMENSION}"
            )
        count *= dimension
    return count


def _integers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _check_digest(view: memoryview, layout: _Layout) -> None:
    at = layout.digest_at
    digest = hashlib.sha256(view[:at])
    digest.update(NO_DIGEST)
    digest.update(view[at + 64 :])
    if digest.hexdigest() != layout.digest:
        raise ModelFormatError(
            f"the file's SHA-256 is {digest.hexdigest()}, but it says {layout.digest}: damaged; "
            "copy or convert it again"
        )


def _arrays(
    view: memoryview, data_at: int, tensors: tuple[TensorInfo, ...], own: bool
) -> dict[str, NDArray[np.float32]]:
    """Views on the file's own bytes where these are float32 in place and never change, else on
    one copy of all of them."""
    raw = np.frombuffer(view, np.uint8, offset=data_at)
    as_given = own and sys.byteorder == "little" and raw.ctypes.data % 4 == 0
    if as_given and all(t.dtype == "F32" for t in tensors):
        whole = raw.view(np.float32)
    else:
        whole = np.empty(sum(math.prod(t.shape) for t in tensors), np.float32)
        at = 0
        for t in tensors:
            part = whole[at : at + math.prod(t.shape)]
            at += part.size
            if t.dtype == "BF16":
                _widen(raw[t.start : t.stop].view("<u2"), part)
            else:
                part[:] = raw[t.start : t.stop].view("<f4")
    whole.flags.writeable = False
    arrays, at = {}, 0
    for t in tensors:
        flat = whole[at : at + math.prod(t.shape)]
        at += flat.size
        _check_finite(t.name, flat)
        arrays[t.name] = flat.reshape(t.shape)
    return arrays


def _check_finite(name: str, array: NDArray[np.float32]) -> None:
    if not (math.isfinite(array.min()) and math.isfinite(array.max())):  # NaN is either
        at = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise ModelFormatError(f"tensor {name!r} holds {array[tuple(at)]} at {at}: must be finite")
