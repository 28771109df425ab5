"""Values of a graph while it is translated: expressions over this engine's operations, and ONNX
tensors as views of them. Knows axes and features; no ONNX operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFormatError

Array: TypeAlias = NDArray[Any]
MAX_RUNS, MAX_FEATURES = 64, 1 << 20
_numbers = count()


@dataclass(frozen=True, order=True)
class Size:
    """slope S + offset: a length that the file leaves open, S that of the source."""

    slope: int
    offset: int

    def __add__(self, other: object) -> Size | int:
        if isinstance(other, Size):
            return size_of(self.slope + other.slope, self.offset + other.offset)
        return size_of(self.slope, self.offset + _integer(other))

    __radd__ = __add__

    def __mul__(self, other: object) -> Size | int:
        factor = _integer(other)
        return size_of(self.slope * factor, self.offset * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Size | int:
        return self * -1

    def __sub__(self, other: object) -> Size | int:
        if isinstance(other, Size):
            return size_of(self.slope - other.slope, self.offset - other.offset)
        return size_of(self.slope, self.offset - _integer(other))

    def __rsub__(self, other: object) -> Size | int:
        return size_of(-self.slope, _integer(other) - self.offset)

    def __floordiv__(self, other: object) -> Size | int:
        divisor = _integer(other)
        if self.slope % divisor or self.offset % divisor:
            raise ValueError(f"{self} cannot be divided by {divisor}")
        return size_of(self.slope // divisor, self.offset // divisor)

    def __str__(self) -> str:
        return f"{self.slope} S + {self.offset}" if self != S else "S"


def size_of(slope: int, offset: int) -> Size | int:
    return Size(slope, offset) if slope else offset


def _integer(value: object) -> int:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise ValueError(f"{value!r} is no integer that a length could be combined with")


S = Size(1, 0)
Axis: TypeAlias = "int | Size"


@dataclass(frozen=True, eq=False)
class Expr:
    """One use of an operation. kind: id, ids, vector, sequence, or states (of a recurrence, whose
    parts are taken by `part`). number: expressions come behind those that they read."""

    op: str
    inputs: tuple[Expr, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    kind: str = "vector"
    size: int = 1
    number: int = field(default_factory=lambda: next(_numbers))

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]


@dataclass(frozen=True, eq=False)
class Tensor:
    """What an ONNX tensor of one sentence is: axes of size 1, at most one axis of positions (S),
    and axes that together, in their order, are the features of an expression.

    padded: the fixed length of the positions' axis in the file; there are zeros behind S.
    """

    expr: Expr
    axes: tuple[Axis, ...]
    padded: int = 0

    @property
    def shape(self) -> tuple[Axis, ...]:
        return tuple(self.padded if self.padded and a == S else a for a in self.axes)

    @property
    def time(self) -> int | None:
        """The axis of positions."""
        return self.axes.index(S) if S in self.axes else None

    @property
    def features(self) -> tuple[int, ...]:
        """The shape with 1 for the positions."""
        return tuple(1 if isinstance(axis, Size) else axis for axis in self.axes)

    @property
    def larger(self) -> list[Axis]:
        """The axes that are not 1."""
        return [axis for axis in self.axes if axis != 1]

    def indices(self) -> NDArray[np.int64]:
        """The feature at each place, 1 position."""
        return np.arange(self.expr.size, dtype=np.int64).reshape(self.features)

    def axis(self, number: int) -> int:
        """An axis, counted from the end where it is negative."""
        if not -len(self.axes) <= number < len(self.axes):
            raise ValueError(f"there is no axis {number} among {len(self.axes)}")
        return number % len(self.axes)


def tensor(expr: Expr, axes: Sequence[Axis], padded: int = 0) -> Tensor:
    """Checked: the features of the axes are the expression's."""
    found = Tensor(expr, tuple(axes), padded)
    if list(axes).count(S) > 1 or any(isinstance(a, Size) and a != S for a in axes):
        raise ValueError("has more than one axis of positions")
    if expr.kind in ("vector", "sequence") and int(np.prod(found.features)) != expr.size:
        raise ValueError(f"has {expr.size} features, not the shape {shape_text(axes)}")
    if expr.kind in ("sequence", "ids") and S not in axes:
        raise ValueError("is a sequence without an axis of positions")
    return found


def shape_text(axes: Sequence[object]) -> str:
    return f"[{', '.join(map(str, axes))}]"


# --- building, with what is always the same folded away ---


def joint(inputs: Sequence[Expr]) -> str:
    """The kind of what several features give."""
    return "sequence" if any(one.kind == "sequence" for one in inputs) else "vector"


def constant(value: Array) -> Expr:
    flat = np.ascontiguousarray(value, np.float32).reshape(-1)
    if not flat.size:
        raise ValueError("an empty constant")
    return Expr("constant", weights={"value": flat}, size=flat.size)


def value_of(expr: Expr) -> Array | None:
    """The numbers of a constant."""
    return expr.weights["value"] if expr.op == "constant" else None


def mapped(op: str, inputs: Sequence[Expr]) -> Expr:
    """add or multiply: sizes equal or 1."""
    sizes = {one.size for one in inputs} - {1}
    if len(sizes) > 1:
        raise ValueError(f"features of {sorted(sizes)} meet")
    return Expr(op, tuple(inputs), kind=joint(inputs), size=max([1, *sizes]))


def negated(expr: Expr) -> Expr:
    number = value_of(expr)
    if number is not None:
        return constant(-number)
    return mapped("multiply", [expr, constant(np.array([-1.0]))])


def linear(inputs: Sequence[Expr], weight: Array, bias: Array | None = None) -> Expr:
    """weight (O, I) over the inputs' features behind each other."""
    if weight.ndim != 2 or weight.shape[1] != sum(one.size for one in inputs):
        raise ValueError(f"a matrix {weight.shape} meets {[one.size for one in inputs]} features")
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
    kind, size = joint(inputs), weight.shape[0]
    return Expr("linear", tuple(inputs), {"activation": "identity"}, weights, kind, size)


def activation(expr: Expr, function: str) -> Expr:
    return Expr("activation", (expr,), {"function": function}, kind=expr.kind, size=expr.size)


def concat(inputs: Sequence[Expr]) -> Expr:
    if len(inputs) == 1:
        return inputs[0]
    size = sum(one.size for one in inputs)
    if size > MAX_FEATURES:
        raise ValueError(f"joins {size} features, more than {MAX_FEATURES}")
    return Expr("concat", tuple(inputs), kind=joint(inputs), size=size)


def sliced(expr: Expr, start: int, stop: int) -> Expr:
    while expr.op == "concat":  # of one part alone: nothing is joined only to be cut
        ends = np.cumsum([one.size for one in expr.inputs])
        number = int(np.searchsorted(ends, start, side="right"))
        begin = int(ends[number]) - expr.inputs[number].size
        if stop > ends[number]:
            break
        expr, start, stop = expr.inputs[number], start - begin, stop - begin
    number_of = value_of(expr)
    if (start, stop) == (0, expr.size):
        return expr
    if number_of is not None:
        return constant(number_of[start:stop])
    attributes = {"start": start, "stop": stop}
    return Expr("slice", (expr,), attributes, kind=expr.kind, size=stop - start)


def select(expr: Expr, indices: NDArray[np.int64]) -> Expr:
    """The features at the indices: slices behind each other."""
    if not indices.size:
        raise ValueError("takes no features")
    number = value_of(expr)
    if number is not None:
        return constant(number[indices])
    ends = np.flatnonzero(np.diff(indices) != 1)
    runs = zip([0, *(ends + 1)], [*(ends + 1), indices.size], strict=True)
    pieces = [(int(indices[a]), int(indices[b - 1]) + 1) for a, b in runs]
    if len(pieces) > MAX_RUNS:
        raise ValueError(f"puts features into another order, in {len(pieces)} pieces")
    return concat([sliced(expr, start, stop) for start, stop in pieces])


def pooled(expr: Expr, how: str) -> Expr:
    if expr.kind == "vector" and how in ("first", "last", "mean", "max"):
        return expr
    return Expr("pool", (expr,), {"how": how}, size=expr.size)


def part(states: Expr, role: str, kind: str, size: int) -> Expr:
    return Expr("part", (states,), {"role": role}, kind=kind, size=size)


def refused(where: str, reason: str) -> ModelFormatError:
    return ModelFormatError(f"{where}: {reason}")
