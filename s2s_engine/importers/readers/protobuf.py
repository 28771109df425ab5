"""Protocol buffers as they stand in a file: fields by number, every length checked against
the bytes that are there. Knows wire types; never what a message means."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pickle_values import RefusedError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTH = {FIXED64: 8, FIXED32: 4}
MAX_NUMBER = (1 << 29) - 1
MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its number, its wire type, where it stands, and its bytes or its integer."""

    number: int
    wire: int
    at: int
    value: int
    data: memoryview

    def unsigned(self) -> int:
        self._must_be(VARINT)
        return self.value

    def integer(self) -> int:
        """A varint as the signed 64-bit integer that int32, int64 and enumerations are."""
        return signed(self.unsigned())

    def fixed32(self) -> int:
        self._must_be(FIXED32)
        return int.from_bytes(self.data, "little")

    def float32(self) -> float:
        self._must_be(FIXED32)
        value: float = struct.unpack("<f", self.data)[0]
        return value

    def raw(self) -> bytes:
        return bytes(self.message())

    def text(self) -> str:
        try:
            return self.raw().decode()
        except UnicodeDecodeError:
            raise RefusedError(f"field {self.number} at byte {self.at} is not UTF-8") from None

    def message(self) -> memoryview:
        self._must_be(BYTES)
        return self.data

    def _must_be(self, wire: int) -> None:
        if self.wire != wire:
            raise RefusedError(
                f"field {self.number} at byte {self.at} has wire type {self.wire}, must be {wire}"
            )


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message in their order; offsets in errors count from the message."""
    at, size = 0, len(message)
    nothing = message[:0]
    while at < size:
        start = at
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if not 0 < number <= MAX_NUMBER:
            raise RefusedError(f"field number {number} at byte {start}, must be 1 to {MAX_NUMBER}")
        value, data = 0, nothing
        if wire == VARINT:
            value, at = varint(message, at)
        elif wire in (BYTES, FIXED32, FIXED64):
            length = WIDTH.get(wire, 0)
            if wire == BYTES:
                length, at = varint(message, at)
            if length > size - at:
                raise RefusedError(
                    f"field {number} at byte {start} has {length} bytes, {size - at} are left: "
                    "truncated"
                )
            data, at = message[at : at + length], at + length
        else:
            raise RefusedError(f"field {number} at byte {start} has wire type {wire}")
        yield Field(number, wire, start, value, data)


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned 64-bit integer at a place, and the place behind it."""
    value = 0
    for index in range(min(10, len(data) - at)):
        byte = data[at + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value & MASK, at + index + 1
    raise RefusedError(f"the integer at byte {at} does not end")


def integers(found: Iterable[Field]) -> NDArray[np.int64]:
    """A repeated integer field, packed or not; uint64 comes out as the same 64 bits."""
    parts = [_unpacked(field.data) if field.wire == BYTES else _one(field) for field in found]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def fixed(found: Iterable[Field], dtype: str) -> bytes:
    """The bytes of a repeated float or double field, packed or not."""
    size = np.dtype(dtype).itemsize
    parts = []
    for field in found:
        if (field.wire != BYTES and WIDTH.get(field.wire) != size) or len(field.data) % size:
            raise RefusedError(f"field {field.number} at byte {field.at} holds no {dtype}")
        parts.append(field.data)
    return b"".join(parts)


def _one(field: Field) -> NDArray[np.int64]:
    return np.array([field.integer()], np.int64)


def _unpacked(data: memoryview) -> NDArray[np.int64]:
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 128)
    if not len(raw):
        return np.zeros(0, np.int64)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise RefusedError("the last of the packed integers does not end")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise RefusedError("a packed integer has more than 10 bytes")
    result = np.zeros(len(ends), np.uint64)
    for index in range(int(lengths.max())):
        here = lengths > index
        bits = raw[starts[here] + index].astype(np.uint64) & np.uint64(127)
        result[here] |= bits << np.uint64(7 * index)
    return result.view(np.int64)
