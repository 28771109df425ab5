"""What HDF5's library believes without looking: heaps of texts, and the lengths of texts in
attributes. Knows these two structures of the file; the library reads the rest."""

from __future__ import annotations

import math
import re
import struct

from .pickle_values import RefusedError

MAX_NAMES = 1024
HEADER = 16  # of a heap, and of each object in it
VARIABLE = 9  # class of a type
TEXT = 16  # length, heap's address, index


def check_heaps(data: bytes) -> None:
    """Refuses newer layouts, and heaps that the library would walk without an end: objects
    without a size."""
    # The library's code for the newer layout ends the process on some broken files.
    if data[8:9] > b"\1":
        raise RefusedError(
            f"the file's superblock is of version {data[8]}, Keras writes 0: write the file "
            "without libver='latest'"
        )
    if data[13:15] != b"\x08\x08":
        raise RefusedError("addresses and lengths must have 8 bytes: not a file of Keras")
    for match in re.finditer(rb"GCOL\x01", data):
        at = match.start()
        stop = at + int.from_bytes(data[at + 8 : at + 16], "little")
        if stop > len(data):
            raise RefusedError(f"the heap at byte {at} ends at byte {stop} of {len(data)}")
        here = at + HEADER
        while here + HEADER <= stop:
            index = int.from_bytes(data[here : here + 2], "little")
            size = int.from_bytes(data[here + 8 : here + 16], "little")
            step = HEADER + -(-size // 8) * 8 if index else size
            if not HEADER <= step <= stop - here:
                raise RefusedError(f"the heap at byte {at}: an object at byte {here} is broken")
            here += step


class TextLengths:
    """Checks the texts of variable length in attributes: the library takes memory for the stated
    length, up to 4 GiB, before it looks at the heap."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._checked: set[tuple[bytes, int]] = set()

    def check(self, name: bytes, count: int) -> None:
        """Looks at every attribute message of this name, as the library reads one of them."""
        if (name, count) in self._checked:
            return
        self._checked.add((name, count))
        if not name or len(self._checked) > MAX_NAMES:
            raise RefusedError(f"more than {MAX_NAMES} attributes with texts, or one without name")
        data, seen = self._data, False
        for match in re.finditer(re.escape(name + b"\0"), data):
            for message in (match.start() - 8, match.start() - 9):
                start = _texts_at(data, message, match.start(), len(name) + 1, count)
                if start is None:
                    continue
                seen = True
                places = range(start, start + TEXT * count, TEXT)
                total = sum(int.from_bytes(data[at : at + 4], "little") for at in places)
                if total > len(data):
                    raise RefusedError(
                        f"attribute {name[:200]!r} at byte {start}: texts of {total} bytes in a "
                        f"file of {len(data)}"
                    )
        if not seen:
            raise RefusedError(f"attribute {name[:200]!r}: its text is not found in the file")


def _texts_at(data: bytes, message: int, name_at: int, name_size: int, count: int) -> int | None:
    """Where the values of an attribute message begin, if there is one with so many texts; versions
    1 and 2 have 8 bytes before the name, version 3 has 9, and only version 1 pads."""
    if message < 0:
        return None
    version = data[message]
    if version not in ((1, 2) if name_at - message == 8 else (3,)):
        return None
    name, kind, space = (
        int.from_bytes(data[message + i : message + i + 2], "little") for i in (2, 4, 6)
    )
    if name != name_size:
        return None
    if version > 1 and data[message + 1] & 3:
        raise RefusedError(f"the attribute at byte {message} shares its type: not read")
    if version == 1:
        name, kind, space = (-(-size // 8) * 8 for size in (name, kind, space))
    kind_at, space_at, end = name_at + name, name_at + name + kind, name_at + name + kind + space
    if end + TEXT * count > len(data) or data[kind_at] & 15 != VARIABLE:
        return None  # another attribute of this name
    rank, sizes_at = data[space_at + 1], space_at + (8 if data[space_at] == 1 else 4)
    sizes = data[sizes_at : sizes_at + 8 * rank]
    if math.prod(struct.unpack(f"<{len(sizes) // 8}Q", sizes[: len(sizes) // 8 * 8])) != count:
        return None
    return end
