"""The groups, datasets and attributes of an HDF5 file, walked by h5py from memory, each checked
before its numbers are read. Knows links, types, layouts and filters; never a layer, and no path."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .hdf5_heaps import TextLengths, check_heaps
from .pickle_values import RefusedError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_OBJECTS = 65_536
MAX_DEPTH = 64
MAX_NAME = 2000
# All datasets of a file together may have so many bytes per byte of the file (deflated zeros reach
# a thousand); those stored as they are, one. A small file may always have this much.
MAX_RATIO = 64
SLACK = 1 << 20
DEFLATE, SHUFFLE = 1, 2
BITS = np.dtype([("bfloat16", "<u2")])

Array: TypeAlias = NDArray[Any]

# What h5py raises for broken files.
BROKEN = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, OverflowError,
    NotImplementedError, SystemError, AttributeError,
)  # fmt: skip


class Objects:
    """Walks a file by hard links only, and checks each object before its numbers are read."""

    def __init__(self, h5py: Any, data: bytes) -> None:
        self.h5py = h5py
        self.data = data
        self.size = len(data)
        self.lengths = TextLengths(data)
        self.member = ""
        self.attributes: dict[str, dict[str, Any]] = {}
        self.datasets: dict[str, Any] = {}
        self.seen: set[int] = set()
        self.stored = self.logical = self.texts = 0

    def open(self) -> Any:
        """The file as a context; RefusedError for structures that the library believes blindly."""
        if self.data[:8] != SIGNATURE:
            raise RefusedError(f"begins with {self.data[:8]!r}: not an HDF5 file")
        check_heaps(self.data)
        # An image of the file: the library itself opens nothing.
        return self.h5py.File(self.h5py.h5f.open_file_image(self.data))

    def walk(self, root: Any) -> None:
        """Notes all groups, datasets and attributes; RefusedError for what is not plain."""
        h5py = self.h5py
        todo = [("", h5py.h5g.open(root.id, b"/"))]
        while todo:
            path, group = todo.pop()
            self._note(path, group)
            found = []
            for name in _names(group):
                self.member = f"{path}/{name}" if path else name
                if len(self.member) > MAX_NAME or self.member.count("/") >= MAX_DEPTH:
                    raise RefusedError("the name is too long, or nested too deeply")
                kind = group.links.get_info(name.encode("utf-8", "surrogateescape")).type
                if kind != h5py.h5l.TYPE_HARD:
                    word = {h5py.h5l.TYPE_SOFT: "soft", h5py.h5l.TYPE_EXTERNAL: "external"}
                    raise RefusedError(f"is {word.get(kind, 'an unknown')} link: links are refused")
                item = h5py.h5o.open(group, name.encode("utf-8", "surrogateescape"))
                if isinstance(item, h5py.h5g.GroupID):
                    found.append((self.member, item))
                elif isinstance(item, h5py.h5d.DatasetID):
                    self._note(self.member, item)
                    self._check(item)
                    self.datasets[self.member] = item
                else:
                    raise RefusedError("is neither a group nor a dataset")
            todo += reversed(found)
        self.member = ""

    def _note(self, path: str, item: Any) -> None:
        self.member = path
        address = self.h5py.h5o.get_info(item).addr
        if address in self.seen:
            raise RefusedError("is linked twice")
        self.seen.add(address)
        if len(self.seen) > MAX_OBJECTS:
            raise RefusedError(f"the file has more than {MAX_OBJECTS} objects")
        self.attributes[path] = self._attributes(item)

    def _attributes(self, item: Any) -> dict[str, Any]:
        h5py = self.h5py
        result: dict[str, Any] = {}
        for index in range(h5py.h5a.get_num_attrs(item)):
            attribute = h5py.h5a.open(item, index=index)
            name = attribute.name.decode("utf-8", "surrogateescape")
            self._plain(attribute.get_type(), f"attribute {name[:200]!r}", text=True)
            if len(result) >= MAX_OBJECTS or len(name) > MAX_NAME:
                raise RefusedError(f"attribute {name[:200]!r}: too many, or too long a name")
            result[name] = self._attribute(attribute, name)
        return result

    def _attribute(self, attribute: Any, name: str) -> Any:
        kind = attribute.get_type()
        space = attribute.get_space()
        if space.get_simple_extent_type() == self.h5py.h5s.NULL:
            return None
        count = math.prod(attribute.shape)
        variable = kind.get_class() == self.h5py.h5t.STRING and kind.is_variable_str()
        if count * kind.get_size() > self.size:
            raise RefusedError(f"attribute {name[:200]!r}: {count} values in this file")
        if variable:
            self.lengths.check(attribute.name, count)
        texts = kind.get_class() == self.h5py.h5t.STRING
        dtype = np.dtype(object) if variable else attribute.dtype
        values = np.empty(attribute.shape, self.h5py.string_dtype() if variable else dtype)
        attribute.read(values)
        if texts:
            flat = [_text(value) for value in values.reshape(-1)]
            # Many attributes may be the same bytes of the file.
            self.texts += sum(map(len, flat))
            if self.texts > 4 * self.size:
                raise RefusedError(f"attributes have {self.texts} bytes of a file of {self.size}")
            return flat if attribute.shape else flat[0]
        self.texts += values.nbytes
        if dtype.kind not in "bifu" or dtype.itemsize > 8 or self.texts > 4 * self.size:
            raise RefusedError(f"attribute {name[:200]!r}: {count} values of {dtype}: not read")
        return values.tolist()

    def _plain(self, kind: Any, what: str, *, text: bool) -> None:
        h5t = self.h5py.h5t
        word = {
            h5t.REFERENCE: "references", h5t.VLEN: "values of variable length",
            h5t.COMPOUND: "a compound type", h5t.ARRAY: "arrays in elements", h5t.TIME: "times",
            h5t.BITFIELD: "bit fields",
        }.get(kind.get_class())  # fmt: skip
        if kind.get_class() == h5t.STRING and not text:
            word = "texts"
        if word is None and kind.get_class() == h5t.OPAQUE and (text or kind.get_size() != 2):
            word = "opaque bytes"
        if word:
            raise RefusedError(f"{what} holds {word}, which are not read".lstrip())

    def _check(self, item: Any) -> None:
        """Everything that can be known of a dataset without reading it. The order matters: other
        files are refused before the library is asked for the shape, which may open them."""
        h5d = self.h5py.h5d
        made = item.get_create_plist()
        layout = made.get_layout()
        if layout == h5d.VIRTUAL:
            raise RefusedError("is a virtual dataset: its numbers stand elsewhere")
        if made.get_external_count():
            raise RefusedError("has external storage: its numbers stand in other files")
        for index in range(made.get_nfilters()):
            code = made.get_filter(index)[0]
            if code not in (DEFLATE, SHUFFLE):
                raise RefusedError(f"has filter {code}: only deflate and shuffle are read")
        self._plain(item.get_type(), "", text=False)
        if item.get_space().get_simple_extent_type() == self.h5py.h5s.NULL:
            raise RefusedError("holds nothing: not an array")
        size = math.prod(item.shape) * item.get_type().get_size()
        self.logical += size
        if layout != h5d.CHUNKED:
            self.stored += size
            if self.stored > self.size or item.get_storage_size() != size:
                raise RefusedError(
                    f"of shape {item.shape} needs {size} bytes, stored are "
                    f"{item.get_storage_size()} in a file of {self.size}"
                )
        elif math.prod(made.get_chunk()) * item.get_type().get_size() > max(size, SLACK):
            raise RefusedError(f"of shape {item.shape} has chunks of {made.get_chunk()}")
        if self.logical > MAX_RATIO * self.size + SLACK:
            raise RefusedError(
                f"of shape {item.shape} makes {self.logical} bytes in a file of {self.size}: at "
                f"most {MAX_RATIO} times the file"
            )

    def array(self, path: str) -> Array:
        """The numbers of a dataset, little-endian; those of bfloat16 are of type `BITS`."""
        self.member = path
        item = self.datasets[path]
        bfloat = self.attributes[path].get("dtype") == "bfloat16"
        opaque = item.get_type().get_class() == self.h5py.h5t.OPAQUE
        if item.get_create_plist().get_layout() == self.h5py.h5d.CHUNKED:
            array = self._chunks(item)
        else:
            array = np.empty(item.shape, item.dtype)
            item.read(self.h5py.h5s.ALL, self.h5py.h5s.ALL, array)
        if array.dtype.kind == "V" or array.dtype.name == "bfloat16":
            if not bfloat and opaque:
                raise RefusedError("holds opaque bytes, which are not read")
            return array.view(BITS)
        if array.dtype.kind not in "bifu" or array.dtype.itemsize > 8:
            raise RefusedError(f"is of type {array.dtype}, which is not read")
        return array.astype(array.dtype.newbyteorder("<"), copy=False)

    def _chunks(self, item: Any) -> Array:
        """Chunks are unpacked here: the library would unpack one of any size."""
        made = item.get_create_plist()
        chunk, shape, dtype = made.get_chunk(), item.shape, item.dtype
        filters = [made.get_filter(index)[0] for index in range(made.get_nfilters())]
        want = math.prod(chunk) * dtype.itemsize
        grid = [range(0, size, step) for size, step in zip(shape, chunk, strict=True)]
        if item.get_type().get_size() != dtype.itemsize:
            raise RefusedError("has elements with gaps")
        if math.prod(map(len, grid)) != item.get_num_chunks():
            raise RefusedError("has chunks that were never written")
        array = np.empty(shape, dtype)
        for corner in product(*grid):
            stored = item.get_chunk_info_by_coord(corner).size
            if stored > self.size:
                raise RefusedError(f"chunk {corner} has {stored} bytes in a file of {self.size}")
            mask, raw = item.read_direct_chunk(corner)
            for index, code in reversed(list(enumerate(filters))):
                if not mask >> index & 1:
                    raw = _inflated(raw, want) if code == DEFLATE else _unshuffled(raw, dtype)
            if len(raw) != want:
                raise RefusedError(f"chunk {corner} has {len(raw)} bytes, must have {want}")
            part = np.frombuffer(raw, dtype).reshape(chunk)
            place = tuple(slice(a, a + b) for a, b in zip(corner, chunk, strict=True))
            kept = tuple(slice(0, n) for n in array[place].shape)
            array[place] = part[kept]
        return array


def _inflated(raw: bytes, want: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, want + 1)
    except zlib.error as error:
        raise RefusedError(f"a chunk cannot be unpacked: {error}") from None


def _unshuffled(raw: bytes, dtype: np.dtype[Any]) -> bytes:
    if len(raw) % dtype.itemsize:
        raise RefusedError(f"a chunk of {len(raw)} bytes is not of elements of {dtype}")
    return np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1).T.tobytes()


def _names(group: Any) -> Iterator[str]:
    names = []
    if group.get_num_objs() > MAX_OBJECTS:
        raise RefusedError(f"has {group.get_num_objs()} members, at most {MAX_OBJECTS}")
    for name in group:
        text = name.decode("utf-8", "surrogateescape")
        if not text or "/" in text or text in (".", ".."):
            raise RefusedError(f"holds the name {text[:200]!r}")
        names.append(text)
    yield from names


def _text(value: Any) -> str:
    raw = value if isinstance(value, (bytes, str)) else bytes(value)
    return raw if isinstance(raw, str) else raw.decode("utf-8", "surrogateescape")
