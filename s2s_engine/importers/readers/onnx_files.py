"""ONNX files as data: initializers, nodes with their attributes, inputs and outputs, subgraphs and
functions. Knows the format's messages; no operator is known, and no other file is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFormatError
from .archives import Source, load
from .arrays import widened
from .numpy_pickles import checked_array, checked_count
from .pickle_values import RefusedError
from .protobuf import Field, fields, fixed, integers

# Nodes, attributes, tensors and values of a file: each is two bytes at least, and an object here.
MAX_OBJECTS = 1 << 18
MAX_DEPTH = 32
# Numbers of TensorProto.DataType, and the field that holds what raw_data does not.
FLOATS, INT32, INT64, DOUBLES, UINT64 = 4, 5, 7, 10, 11
TYPES: dict[int, tuple[str, str, int]] = {
    1: ("float32", "<f4", FLOATS), 2: ("uint8", "|u1", INT32), 3: ("int8", "|i1", INT32),
    4: ("uint16", "<u2", INT32), 5: ("int16", "<i2", INT32), 6: ("int32", "<i4", INT32),
    7: ("int64", "<i8", INT64), 9: ("bool", "|b1", INT32), 10: ("float16", "<f2", INT32),
    11: ("float64", "<f8", DOUBLES), 12: ("uint32", "<u4", UINT64), 13: ("uint64", "<u8", UINT64),
    14: ("complex64", "<c8", FLOATS), 15: ("complex128", "<c16", DOUBLES),
    16: ("bfloat16", "<u2", INT32), 21: ("uint4", "|u1", INT32), 22: ("int4", "|i1", INT32),
}  # fmt: skip
REFUSED = {
    8: "string", 17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz",
    23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip

Array: TypeAlias = NDArray[Any]
Found: TypeAlias = dict[int, list[Field]]


@dataclass(frozen=True)
class Reference:
    """An attribute of a node in a function: the value is the caller's attribute of this name."""

    name: str


@dataclass(frozen=True)
class Value:
    """An input, an output or a described value. dtype and shape are None where the file is silent;
    a dimension is a size, a name, or None."""

    name: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Node:
    """One node. An attribute is an int, a float, a text (bytes if not UTF-8), an array, a `Graph`,
    a tuple of one of these, or a `Reference`."""

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """A graph, or the body of a Loop, If or Scan; nodes in the file's order."""

    name: str
    nodes: tuple[Node, ...]
    initializers: dict[str, Array]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Function:
    """A function of the model: an operator made of nodes."""

    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class OnnxFile:
    """A model. opset: the version of each domain, "" the standard one."""

    graph: Graph
    opset: dict[str, int]
    ir_version: int
    producer: str
    metadata: dict[str, str]
    functions: tuple[Function, ...]

    @property
    def initializers(self) -> dict[str, Array]:
        return self.graph.initializers

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.graph.nodes

    @property
    def inputs(self) -> tuple[Value, ...]:
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        return self.graph.outputs


def read_onnx(source: Source) -> OnnxFile:
    """The model of a file or of its bytes; ModelFormatError where a byte is wrong, where tensors
    stand in other files, and for types without a counterpart in NumPy."""
    data, where = load(source)
    try:
        return _Reader().model(memoryview(data))
    except RefusedError as error:
        raise ModelFormatError(f"{where}: {error}") from None


def read_onnx_tensor(source: Source) -> tuple[str, Array]:
    """Name and numbers of a file with one tensor, such as the test data of the format have."""
    data, where = load(source)
    try:
        return _Reader().tensor(memoryview(data), "tensor")
    except RefusedError as error:
        raise ModelFormatError(f"{where}: {error}") from None


class _Reader:
    """Counts the objects of one file."""

    def __init__(self) -> None:
        self.objects = 0

    def _split(self, message: memoryview, what: str) -> Found:
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise RefusedError(f"more than {MAX_OBJECTS} nodes, attributes, tensors and values")
        found: Found = {}
        try:
            for field in fields(message):
                found.setdefault(field.number, []).append(field)
        except RefusedError as error:
            raise RefusedError(f"{what}: {error}") from None
        return found

    def model(self, message: memoryview) -> OnnxFile:
        found = self._split(message, "model")
        if 7 not in found or 1 not in found:
            raise RefusedError("holds no ir_version, or no graph: not an ONNX model")
        version = found[1][-1].integer()
        if not 1 <= version < 1000:
            raise RefusedError(f"ir_version is {version}: not an ONNX model")
        graph = self.graph(_last(found, 7), "graph", 0)
        opset = {}
        for item in found.get(8, []):
            entry = self._split(item.message(), "opset_import")
            opset[_text(entry, 1)] = _integer(entry, 2)
        return OnnxFile(
            graph,
            opset,
            version,
            f"{_text(found, 2)} {_text(found, 3)}".strip(),
            self._pairs(found, 14),
            tuple(self.function(item.message()) for item in found.get(25, [])),
        )

    def _pairs(self, found: Found, number: int) -> dict[str, str]:
        entries = (self._split(item.message(), "entry") for item in found.get(number, []))
        return {_text(entry, 1): _text(entry, 2) for entry in entries}

    def graph(self, message: memoryview, what: str, depth: int) -> Graph:
        if depth > MAX_DEPTH:
            raise RefusedError(f"{what}: graphs are nested deeper than {MAX_DEPTH}")
        found = self._split(message, what)
        if 15 in found:
            raise RefusedError(f"{what}: sparse initializers are not read")
        tensors: dict[str, Array] = {}
        for item in found.get(5, []):
            name, array = self.tensor(item.message(), f"{what}: initializer")
            if name in tensors or not name:
                raise RefusedError(f"{what}: initializer {name[:200]!r} has no name, or another's")
            tensors[name] = array
        return Graph(
            _text(found, 2),
            self._nodes(found, 1, what, depth),
            tensors,
            self._values(found, 11, what),
            self._values(found, 12, what),
            self._values(found, 13, what),
        )

    def function(self, message: memoryview) -> Function:
        found = self._split(message, "function")
        name = _text(found, 1)
        what = f"function {name[:200]!r}"
        attributes = _texts(found, 6)
        for item in found.get(11, []):
            attributes += (_text(self._split(item.message(), what), 1),)
        nodes = self._nodes(found, 7, what, 0)
        return Function(
            _text(found, 10), name, _texts(found, 4), _texts(found, 5), attributes, nodes
        )

    def _nodes(self, found: Found, number: int, what: str, depth: int) -> tuple[Node, ...]:
        items = enumerate(found.get(number, []))
        return tuple(self.node(f.message(), f"{what}: node {i}", depth) for i, f in items)

    def node(self, message: memoryview, what: str, depth: int) -> Node:
        found = self._split(message, what)
        op_type = _text(found, 4)
        what = f"{what} ({op_type[:100]})"
        attributes: dict[str, Any] = {}
        for item in found.get(5, []):
            name, value = self.attribute(item.message(), what, depth)
            if name in attributes:
                raise RefusedError(f"{what}: attribute {name[:200]!r} stands twice")
            attributes[name] = value
        domain, name = _text(found, 7), _text(found, 3)
        return Node(op_type, domain, name, _texts(found, 1), _texts(found, 2), attributes)

    def attribute(self, message: memoryview, what: str, depth: int) -> tuple[str, Any]:
        found = self._split(message, f"{what}: attribute")
        name = _text(found, 1)
        what = f"{what}: attribute {name[:200]!r}"
        if 21 in found and _text(found, 21):
            return name, Reference(_text(found, 21))
        # AttributeType -> the field, and what reads one of it.
        kinds: dict[int, tuple[int, Callable[[Field], Any]]] = {
            1: (2, Field.float32),
            2: (3, Field.integer),
            3: (4, _string),
            4: (5, lambda field: self.tensor(field.message(), what)[1]),
            5: (6, lambda field: self.graph(field.message(), what, depth + 1)),
        }
        kind = _integer(found, 20) if 20 in found else 0
        if not kind:  # written before the type was: one field tells
            lists = {7: 6, 8: 7, 9: 8, 10: 9, 11: 10}
            kinds_there = [k for k, (number, _) in kinds.items() if number in found]
            kinds_there += [k for number, k in lists.items() if number in found]
            kind = kinds_there[0] if len(kinds_there) == 1 else 0
        if kind in kinds:
            number, read = kinds[kind]
            if number in found:
                return name, read(found[number][-1])
            if kind <= 3:  # zero is not written by every program
                return name, (0.0, 0, "")[kind - 1]
        elif kind == 6:
            return name, tuple(np.frombuffer(fixed(found.get(7, []), "<f4"), "<f4").tolist())
        elif kind == 7:
            return name, tuple(integers(found.get(8, [])).tolist())
        elif kind in (8, 9, 10):
            read = kinds[kind - 5][1]
            return name, tuple(read(field) for field in found.get(kind + 1, []))
        raise RefusedError(f"{what}: a value of type {kind} is missing, or not read")

    def _values(self, found: Found, number: int, what: str) -> tuple[Value, ...]:
        return tuple(self.value(field.message(), what) for field in found.get(number, []))

    def value(self, message: memoryview, what: str) -> Value:
        found = self._split(message, f"{what}: value")
        name = _text(found, 1)
        what = f"{what}: value {name[:200]!r}"
        kind = self._split(_last(found, 2), what)
        if 1 not in kind:
            return Value(name, None, None)  # a sequence, a map, or nothing
        tensor = self._split(_last(kind, 1), what)
        code = _integer(tensor, 1)
        dtype = TYPES[code][0] if code in TYPES else REFUSED.get(code)
        if 2 not in tensor:
            return Value(name, dtype, None)
        dimensions = self._split(_last(tensor, 2), what).get(1, [])
        return Value(name, dtype, tuple(self._dimension(d.message(), what) for d in dimensions))

    def _dimension(self, message: memoryview, what: str) -> int | str | None:
        found = self._split(message, what)
        if 1 in found:
            return _integer(found, 1)
        return _text(found, 2) or None

    def tensor(self, message: memoryview, what: str) -> tuple[str, Array]:
        found = self._split(message, what)
        name = _text(found, 8)
        what = f"{what} {name[:200]!r}"
        try:
            return name, _numbers(found)
        except RefusedError as error:
            raise RefusedError(f"{what}: {error}") from None


def _numbers(found: Found) -> Array:
    if 13 in found or _integer(found, 14):
        raise RefusedError(
            "stands in another file: save the model as one file, without external data"
        )
    if 3 in found:
        raise RefusedError("is one segment of a tensor: segments are not read")
    code = _integer(found, 2)
    if code not in TYPES:
        raise RefusedError(f"is of type {REFUSED.get(code, code)}, which is not read")
    name, dtype, number = TYPES[code]
    shape = tuple(integers(found.get(1, [])).tolist())
    count = checked_count(shape)
    other = [n for n in (FLOATS, INT32, 6, INT64, DOUBLES, UINT64) if n in found and n != number]
    if other or (9 in found and number in found):
        raise RefusedError(f"of {name} has its numbers in fields {sorted({*other, number})}")
    small = name in ("int4", "uint4")
    if 9 in found:
        raw = found[9][-1].raw()
    elif number in (FLOATS, DOUBLES):
        raw = fixed(found.get(number, []), "<f4" if number == FLOATS else "<f8")
    else:
        raw = _narrowed(integers(found.get(number, [])), "|u1" if small else dtype)
    if small:
        return _nibbles(raw, count, name == "int4").reshape(shape)
    array = checked_array(raw, np.dtype(dtype), shape, False)
    return widened(array) if name == "bfloat16" else array


def _narrowed(numbers: NDArray[np.int64], dtype: str) -> bytes:
    kind = np.dtype(dtype)
    if kind == np.uint64:
        return numbers.tobytes()
    if kind.kind == "f":
        kind = np.dtype("<u2")
    low, high = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    if len(numbers) and not low <= numbers.min() <= numbers.max() <= high:
        raise RefusedError(f"holds a number outside of {low} to {high}")
    return numbers.astype(kind).tobytes()


def _nibbles(raw: bytes, count: int, negative: bool) -> Array:
    if len(raw) != (count + 1) // 2:
        raise RefusedError(
            f"{count} numbers of 4 bits need {(count + 1) // 2} bytes, not {len(raw)}"
        )
    pairs = np.frombuffer(raw, np.uint8)
    flat = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[:count]
    return (flat.astype(np.int8) ^ 8) - np.int8(8) if negative else flat


def _last(found: Found, number: int) -> memoryview:
    # Programs would merge the two.
    if len(found.get(number, [])) > 1:
        raise RefusedError(f"field {number} at byte {found[number][1].at} stands twice")
    return found[number][0].message() if number in found else memoryview(b"")


def _text(found: Found, number: int) -> str:
    return found[number][-1].text() if number in found else ""


def _texts(found: Found, number: int) -> tuple[str, ...]:
    return tuple(field.text() for field in found.get(number, []))


def _integer(found: Found, number: int) -> int:
    return found[number][-1].integer() if number in found else 0


def _string(field: Field) -> str | bytes:
    raw = field.raw()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
