"""TensorFlow's V2 checkpoints (`.index` and `.data-0000i-of-0000N`) and the variables of a
SavedModel, read without TensorFlow. Knows tables, entries and slices; no variable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFormatError
from ...format import file_bytes
from .arrays import widened
from .crc32c import crc32c, masked
from .numpy_pickles import checked_array, checked_count
from .pickle_values import RefusedError
from .protobuf import Field, fields, varint
from .tensorflow_objects import KEY, Objects, read_objects

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
TRAILER = 5  # of a block: compression, masked CRC-32C
MAX_KEY = 4096
MAX_SHARDS = 99_999
MAX_SLICES = 4096
DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 8: "<c8", 9: "<i8", 10: "|b1",
    14: "bfloat16", 17: "<u2", 18: "<c16", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
STRING = 7
OTHERS = {11: "qint8", 12: "quint8", 13: "qint32", 20: "resource", 21: "variant"}

Array: TypeAlias = NDArray[Any]
# Per dimension the first index and the length; None for the whole dimension.
Slice: TypeAlias = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class _Entry:
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class TensorFlowFile:
    """arrays: the variables by the names they are stored under, in their order; texts are left out.
    objects: whose attributes they are; None where variables are saved by name (tf.compat.v1)."""

    arrays: dict[str, Array]
    objects: Objects | None


def read_tensorflow(prefix: str | os.PathLike[str]) -> TensorFlowFile:
    """A checkpoint; ModelFormatError where a byte is wrong.

    prefix: as TensorFlow takes it, or the `.index` file itself; of a SavedModel
    `folder/variables/variables`. Partitioned variables are put together.
    """
    name = os.fspath(prefix).removesuffix(".index")
    path = Path(name + ".index")
    if not path.exists() and Path(name).is_file():
        raise ModelFormatError(
            f"{name}: has no .index file beside it: a V1 checkpoint is not read; save it again "
            "with tf.compat.v1.train.Saver(write_version=2)"
        )
    data = file_bytes(path)
    try:
        table = _table(memoryview(data))
        shards = _shard_count(table)
    except RefusedError as error:
        raise ModelFormatError(f"{path}: {error}") from None
    bundle = _Bundle(name, table, shards)
    return TensorFlowFile(bundle.arrays(), bundle.objects())


class _Bundle:
    """A checkpoint whose index is read; shards are read as they are needed."""

    def __init__(self, prefix: str, table: dict[bytes, memoryview], count: int) -> None:
        self.prefix = prefix
        self.table = table
        self.count = count
        self.shards: dict[int, bytes] = {}
        self.used = 0

    def arrays(self) -> dict[str, Array]:
        result = {}
        for key in self.table:
            if key[:1] in (b"", b"\0"):  # the header; a slice, which its variable names
                continue
            name = ""
            try:
                name = _name(key)
                array = self._variable(key)
            except RefusedError as error:
                where = f"{self.prefix}.index: variable {name or str(key[:200])!r}"
                raise ModelFormatError(f"{where}: {error}") from None
            if array is not None:
                result[name] = array
        return result

    def objects(self) -> Objects | None:
        entry = self.table.get(KEY.encode())
        if entry is None:
            return None
        try:
            return read_objects(self._text(_entry(entry)))
        except RefusedError as error:
            raise ModelFormatError(f"{self.prefix}.index: the object graph: {error}") from None

    def _variable(self, key: bytes) -> Array | None:
        entry = _entry(self.table[key])
        if entry.dtype == STRING:
            return None
        if not entry.slices:
            return self._stored(entry)
        whole = checked_count(entry.shape)
        pieces = []
        covered = 0
        for piece in entry.slices:
            found = self.table.get(_slice_key(key, piece))
            if found is None:
                raise RefusedError(f"slice {_shown(piece)} is not in the index")
            part = _entry(found)
            index, shape = _region(piece, entry.shape)
            if part.slices or part.dtype != entry.dtype or part.shape != shape:
                raise RefusedError(f"slice {_shown(piece)} does not fit its variable")
            covered += checked_count(shape)
            pieces.append((index, part))
        # Checked before the variable is made: what its slices hold is in the file.
        if covered != whole:
            raise RefusedError(f"its slices have {covered} numbers of {whole}")
        parts = [(index, self._stored(part)) for index, part in pieces]
        result: Array = np.zeros(entry.shape, parts[0][1].dtype)
        written = np.zeros(entry.shape, bool)
        for index, array in parts:
            if written[index].any():
                raise RefusedError("its slices overlap")
            written[index] = True
            result[index] = array
        result.flags.writeable = False
        return result

    def _text(self, entry: _Entry) -> memoryview:
        """One string: its length, the sum of that, its bytes."""
        if entry.dtype != STRING or entry.shape or entry.slices:
            raise RefusedError("is not one string")
        raw = self._bytes(entry)
        length, at = varint(raw, 0)
        if length != len(raw) - at - 4:
            raise RefusedError(f"has {length} bytes, {len(raw) - at - 4} are there")
        _check(memoryview(length.to_bytes(4, "little")), _sum(raw, at), "its length")
        said = length.to_bytes(4, "little") + bytes(raw[at:])
        _check(memoryview(said), entry.crc, f"bytes {entry.offset} to {entry.offset + entry.size}")
        return raw[at + 4 :]

    def _stored(self, entry: _Entry) -> Array:
        if entry.dtype not in DTYPES:
            raise RefusedError(
                f"is of type {OTHERS.get(entry.dtype, entry.dtype)}, which is not read"
            )
        code = DTYPES[entry.dtype]
        raw = self._bytes(entry)
        dtype = np.dtype("<u2" if code == "bfloat16" else code)
        if checked_count(entry.shape) * dtype.itemsize != entry.size:
            raise RefusedError(f"of shape {entry.shape} and type {code} has {entry.size} bytes")
        _check(raw, entry.crc, f"bytes {entry.offset} to {entry.offset + entry.size}")
        array = checked_array(bytes(raw), dtype, entry.shape, False)
        return widened(array) if code == "bfloat16" else array

    def _bytes(self, entry: _Entry) -> memoryview:
        data = memoryview(self._shard(entry.shard))
        if entry.offset < 0 or not 0 <= entry.size <= len(data) - entry.offset:
            raise RefusedError(
                f"has {entry.size} bytes at {entry.offset} of {len(data)} in shard {entry.shard}: "
                "truncated"
            )
        self.used += entry.size
        if self.used > sum(map(len, self.shards.values())):
            raise RefusedError("shares its bytes with another variable")
        return data[entry.offset : entry.offset + entry.size]

    def _shard(self, index: int) -> bytes:
        if not 0 <= index < self.count:
            raise RefusedError(f"is in shard {index} of {self.count}")
        if index not in self.shards:
            path = f"{self.prefix}.data-{index:05d}-of-{self.count:05d}"
            if not Path(path).exists():
                raise RefusedError(f"is in {path}, which does not exist")
            self.shards[index] = file_bytes(path)
        return self.shards[index]


# --- entries ---


def _shard_count(table: dict[bytes, memoryview]) -> int:
    if b"" not in table:
        raise RefusedError("the index has no header entry: not a checkpoint")
    count = order = 0
    for field in fields(table[b""]):
        if field.number == 1:
            count = field.integer()
        elif field.number == 2:
            order = field.integer()
    if order:
        raise RefusedError("the numbers are big-endian: not read")
    if not 1 <= count <= MAX_SHARDS:
        raise RefusedError(f"the index says {count} shards, must be 1 to {MAX_SHARDS}")
    return count


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise RefusedError("the name is not UTF-8") from None


def _entry(data: memoryview) -> _Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}  # type, shard, offset, size
    shape: tuple[int, ...] = ()
    slices: list[Slice] = []
    crc = 0
    for field in fields(data):
        if field.number in numbers:
            numbers[field.number] = field.integer()
        elif field.number == 2:
            shape = _shape(field)
        elif field.number == 6:
            crc = field.fixed32()
        elif field.number == 7:
            slices.append(_slice(field))
    if len(slices) > MAX_SLICES:
        raise RefusedError(f"is of {len(slices)} slices, at most {MAX_SLICES}")
    checked_count(shape)
    return _Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], crc, tuple(slices))


def _shape(field: Field) -> tuple[int, ...]:
    sizes = []
    for part in fields(field.message()):
        if part.number == 3 and part.unsigned():
            raise RefusedError("has no known shape")
        if part.number == 2:
            sizes.append(sum(f.integer() for f in fields(part.message()) if f.number == 1))
    return tuple(sizes)


def _slice(field: Field) -> Slice:
    extents: list[tuple[int, int] | None] = []
    for part in fields(field.message()):
        if part.number == 1:
            found = {f.number: f.integer() for f in fields(part.message()) if f.number in (1, 2)}
            extents.append((found.get(1, 0), found[2]) if 2 in found else None)
    return tuple(extents)


def _region(piece: Slice, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """The place of a slice in its variable, and its shape."""
    if len(piece) != len(shape):
        raise RefusedError(f"slice {_shown(piece)} has not the variable's dimensions")
    index = []
    for extent, size in zip(piece, shape, strict=True):
        start, length = extent or (0, size)
        if start < 0 or not 0 < length <= size - start:
            raise RefusedError(f"slice {_shown(piece)} reaches out of {shape}")
        index.append(slice(start, start + length))
    return tuple(index), tuple(part.stop - part.start for part in index)


def _shown(piece: Slice) -> str:
    return ":".join("-" if part is None else f"{part[0]},{part[1]}" for part in piece)[:200]


def _slice_key(name: bytes, piece: Slice) -> bytes:
    """TensorFlow's EncodeTensorNameSlice: an order-preserving code of name, rank and extents."""
    # UTF-8 holds no byte 0xff, which would be escaped too.
    key = [b"\0", name.replace(b"\0", b"\0\xff"), b"\0\1"]
    rank = len(piece)
    key.append(bytes([1, rank]) if rank else b"\0")
    for extent in piece:
        start, length = extent or (0, -1)
        key += [_ordered(start), _ordered(length)]
    return b"".join(key)


def _ordered(value: int) -> bytes:
    """A signed integer as leading ones that count its bytes, a zero, and its bits."""
    size = 1
    while (~value if value < 0 else value) >> (7 * size - 1):
        size += 1
    bits = value & ((1 << 8 * size) - 1)
    return (bits ^ (((1 << size) - 1) << 7 * size)).to_bytes(size, "big")


# --- the table: LevelDB's sorted strings ---


def _table(data: memoryview) -> dict[bytes, memoryview]:
    size = len(data)
    if size < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise RefusedError(
            f"the last 8 bytes of {size} are not a table's magic number: not a checkpoint's "
            "index, or truncated"
        )
    body = data[: size - FOOTER]
    footer = data[size - FOOTER :]
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    table: dict[bytes, memoryview] = {}
    last: bytes | None = None
    spent = 0
    end = 0
    for _, value in _block(body, index):
        handle, _ = _handle(value, 0)
        # Blocks in order and apart, as they are written: none is read twice.
        if handle[0] < end:
            raise RefusedError(f"the block at byte {handle[0]} overlaps the one before")
        end = handle[0] + handle[1] + TRAILER
        for key, entry in _block(body, handle):
            if last is not None and key <= last:
                raise RefusedError(f"key {key[:200]!r} is not behind {last[:200]!r}")
            spent += len(key)
            if spent > 64 * size:
                raise RefusedError(f"the keys have {spent} bytes in a file of {size}")
            table[key], last = entry, key
    return table


def _handle(data: memoryview, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(body: memoryview, handle: tuple[int, int]) -> list[tuple[bytes, memoryview]]:
    offset, size = handle
    if offset + size + TRAILER > len(body):
        raise RefusedError(
            f"a block of {size} bytes at byte {offset} ends behind byte {len(body)}: truncated"
        )
    block = body[offset : offset + size]
    trailer = body[offset + size : offset + size + TRAILER]
    if trailer[0]:
        raise RefusedError(f"the block at byte {offset} is compressed ({trailer[0]}): not read")
    crc = int.from_bytes(trailer[1:], "little")
    _check(body[offset : offset + size + 1], crc, f"the block at byte {offset}")
    restarts = int.from_bytes(block[-4:], "little") if size >= 4 else 0
    if size < 4 or 4 * restarts + 4 > size:
        raise RefusedError(f"the block at byte {offset} has {restarts} restarts in {size} bytes")
    entries = block[: size - 4 - 4 * restarts]
    result, at, key, spent = [], 0, b"", 0
    while at < len(entries):
        shared, at = varint(entries, at)
        rest, at = varint(entries, at)
        length, at = varint(entries, at)
        if shared > len(key) or shared + rest > MAX_KEY or rest + length > len(entries) - at:
            raise RefusedError(f"the block at byte {offset}: an entry before byte {at} is wrong")
        key = key[:shared] + bytes(entries[at : at + rest])
        spent += len(key)
        if spent > 64 * len(body):
            raise RefusedError(f"the keys have {spent} bytes in a file of {len(body)}")
        result.append((key, entries[at + rest : at + rest + length]))
        at += rest + length
    return result


def _sum(data: memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _check(data: memoryview, crc: int, what: str) -> None:
    found = masked(crc32c(data))
    if found != crc:
        raise RefusedError(f"{what}: the CRC-32C is {found:#010x}, stored is {crc:#010x}: damaged")
