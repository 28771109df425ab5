"""Operators that move values: slices, joins, transposes and shapes. Knows where positions and
features go; never arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..readers.onnx_files import Node
from .expressions import (
    Array,
    Axis,
    Expr,
    S,
    Size,
    Tensor,
    concat,
    constant,
    pooled,
    select,
    shape_text,
    tensor,
)
from .folding import axes_of, integers, slices

LAST = 1 << 30
UNROLLED = (
    "takes single positions of the source: a recurrence that was unrolled for the length of an "
    "example, which torch.onnx.export(dynamo=True) does with nn.RNN; export with dynamo=False "
    "and dynamic_axes, so that RNN nodes are written"
)


@dataclass
class Call:
    """A node with its inputs. source: the length of the graph's sources; example: a number that
    stands for it in the file, 0 if none does."""

    node: Node
    given: list[Tensor | Array | None]
    opset: int
    source: object
    example: int = 0

    def tensor(self, number: int) -> Tensor:
        value = self.given[number]
        if not isinstance(value, Tensor):
            raise ValueError(f"input {number} must be a value, and not numbers of the file")
        return value

    def numbers(self, number: int) -> Tensor:
        """A value that is features, no ids."""
        value = self.tensor(number)
        if value.expr.kind in ("id", "ids"):
            raise ValueError("ids are computed with: only embeddings of ids are read")
        return value

    def array(self, number: int) -> Array:
        value = self.given[number]
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            raise ValueError(f"input {number} is computed, and must be numbers of the file")
        return value

    def lengths(self, number: int) -> list[Any]:
        """Integers, open lengths among them."""
        value = self.given[number]
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuO":
            raise ValueError(f"input {number} must be a shape")
        return [one if isinstance(one, Size) else int(one) for one in value.ravel()]

    def unpadded(self) -> None:
        for value in self.given:
            if isinstance(value, Tensor) and value.padded:
                raise ValueError(
                    f"computes with a memory whose length is fixed to {value.padded} in the file: "
                    "export the decoder with the source's length as a dynamic axis"
                )


def _moved(x: Tensor, indices: Array, axes: Sequence[Axis]) -> Tensor:
    """The features at the indices, in their order."""
    if x.expr.kind in ("id", "ids"):
        return tensor(x.expr, axes, x.padded)
    return tensor(select(x.expr, indices.ravel()), axes, x.padded)


def gather(call: Call) -> list[Tensor | Array]:
    x, indices = call.tensor(0), call.given[1]
    if not isinstance(indices, np.ndarray):
        raise ValueError("the places are computed from values")
    axis = x.axis(call.node.attributes.get("axis", 0))
    places = integers(indices)
    if x.axes[axis] == S:
        if len(places) != 1 or places[0] not in (0, -1) or x.expr.kind == "ids":
            raise ValueError(UNROLLED)
        expr = pooled(x.expr, "last" if places[0] else "first")
        x = tensor(expr, (*x.axes[:axis], 1, *x.axes[axis + 1 :]))
        places = [0]
    taken = np.take(x.indices(), places, axis) if x.expr.kind != "ids" else np.zeros(1)
    axes = (*x.axes[:axis], *indices.shape, *x.axes[axis + 1 :])
    return [_moved(x, taken, axes)]


def _slice(call: Call) -> list[Tensor]:
    x = call.tensor(0)
    for axis, start, end, step in slices(call.node, call.given, len(x.axes)):
        if x.axes[axis] == S:
            end = S if call.example and end == call.example else end
            x = _positions(x, axis, start, end, step)
            continue
        if isinstance(start, Size) or isinstance(end, Size):
            raise ValueError("features are cut at the source's length")
        length = x.features[axis]
        stop = None if step < 0 and end < -length else end
        index: list[Any] = [slice(None)] * len(x.axes)
        index[axis] = slice(start, stop, step)
        if x.expr.kind in ("id", "ids"):
            if len(range(length)[index[axis]]) != 1:
                raise ValueError("takes no id")
            continue
        taken = x.indices()[tuple(index)]
        axes: list[Axis] = list(x.axes)
        axes[axis] = taken.shape[axis]
        x = _moved(x, taken, axes)
    return [x]


def _positions(x: Tensor, axis: int, start: Any, end: Any, step: int) -> Tensor:
    """All positions, all in reverse, the first or the last."""
    to_the_end = end == S or (isinstance(end, int) and end >= LAST)
    if start == 0 and to_the_end and step == 1:
        return x
    backwards = start in (-1, LAST) or (isinstance(start, int) and start >= LAST)
    if step == -1 and backwards and isinstance(end, int) and end < -LAST:
        if x.expr.kind == "vector":
            return x
        reverse = Expr("reverse", (x.expr,), kind=x.expr.kind, size=x.expr.size)
        return tensor(reverse, x.axes)
    axes = (*x.axes[:axis], 1, *x.axes[axis + 1 :])
    if x.expr.kind != "ids" and step == 1 and (start, end) == (0, 1):
        return tensor(pooled(x.expr, "first"), axes)
    if x.expr.kind != "ids" and step == 1 and start in (-1, S - 1) and to_the_end:
        return tensor(pooled(x.expr, "last"), axes)
    raise ValueError(UNROLLED)


def _split(call: Call) -> list[Tensor]:
    x = call.numbers(0)
    axis = x.axis(call.node.attributes.get("axis", 0))
    length, count = x.axes[axis], len(call.node.outputs)
    if not isinstance(length, int):
        raise ValueError(UNROLLED)
    if len(call.given) > 1 and call.given[1] is not None:
        sizes = integers(call.array(1))
    else:
        even = -(-length // call.node.attributes.get("num_outputs", count))
        full = [even] * (length // even)
        sizes = list(
            call.node.attributes.get("split", full + [length % even] * (length % even > 0))
        )
    if sum(sizes) != length or len(sizes) < count or min(sizes) < 1:
        raise ValueError(f"parts of {sizes} do not make {length}")
    pieces = np.split(x.indices(), np.cumsum(sizes)[:-1], axis)
    return [
        _moved(x, piece, (*x.axes[:axis], size, *x.axes[axis + 1 :]))
        for piece, size in zip(pieces, sizes, strict=True)
    ]


def _concat(call: Call) -> list[Tensor]:
    given = call.given
    first = next(one for one in given if isinstance(one, Tensor))
    axis = first.axis(call.node.attributes["axis"])
    parts = [_as_tensor(one, first, axis) for one in given]
    others = {one.axes[:axis] + one.axes[axis + 1 :] for one in parts}
    spread = {tuple(a for a in one if a != S) for one in others}
    if len(others) > 1 or len(spread) > 1:
        raise ValueError(f"joins {', '.join(shape_text(one.axes) for one in parts)}")
    if first.axes[axis] == S or any(one.axes[axis] == S for one in parts):
        if any(not isinstance(one.axes[axis], Size) and one.axes[axis] != 1 for one in parts):
            raise ValueError("joins positions with several at once")
        raise ValueError("joins positions behind each other, which has no translation here")
    offsets = np.cumsum([0, *(one.expr.size for one in parts)])
    indices = np.concatenate(
        [one.indices() + offset for one, offset in zip(parts, offsets, strict=False)], axis
    )
    axes = (*first.axes[:axis], indices.shape[axis], *first.axes[axis + 1 :])
    joined = concat([one.expr for one in parts])
    return [tensor(select(joined, indices.ravel()), axes)]


def _as_tensor(value: Tensor | Array | None, like: Tensor, axis: int) -> Tensor:
    if isinstance(value, Tensor):
        if value.expr.kind in ("id", "ids"):
            raise ValueError("joins ids")
        return value
    if value is None or value.dtype.kind != "f" or value.ndim != len(like.axes):
        raise ValueError("joins numbers of another kind or rank")
    if any(a == S and n != 1 for a, n in zip(like.axes, value.shape, strict=True)):
        raise ValueError("joins numbers by position")
    shape: list[Axis] = [
        S if a == S and number != axis else size
        for number, (a, size) in enumerate(zip(like.axes, value.shape, strict=True))
    ]
    return Tensor(constant(value), tuple(shape))


def _transpose(call: Call) -> list[Tensor]:
    x = call.tensor(0)
    order = call.node.attributes.get("perm", tuple(range(len(x.axes)))[::-1])
    if sorted(order) != list(range(len(x.axes))):
        raise ValueError(f"perm is {order}")
    axes = [x.axes[number] for number in order]
    return [_moved(x, _indices(x).transpose(order), axes)]


def _indices(x: Tensor) -> Array:
    return np.zeros(x.features, np.int64) if x.expr.kind in ("id", "ids") else x.indices()


def _reshape(call: Call) -> list[Tensor]:
    x, target = call.tensor(0), call.lengths(1)
    if not call.node.attributes.get("allowzero", 0):
        target = [x.axes[n] if size == 0 else size for n, size in enumerate(target)]
    if target.count(-1) == 1:
        target[target.index(-1)] = _rest(x, [size for size in target if size != -1])
    if x.time is not None and S not in target:
        target = _with_length(x, target, call.example)
    if target.count(S) != x.axes.count(S):
        raise ValueError(
            f"{shape_text(x.axes)} becomes {shape_text(target)}: a length of the exporter's "
            "example is fixed in the file; export with the source's length as a dynamic axis, "
            "or say example_length="
        )
    whole = _count(x.axes)
    if x.time is not None and _count(x.axes[: x.time]) != _count(target[: target.index(S)]):
        raise ValueError(f"{shape_text(x.axes)} becomes {shape_text(target)}: mixes positions")
    if _count(target) != whole or any(not isinstance(t, Size) and t < 1 for t in target):
        raise ValueError(f"{shape_text(x.axes)} cannot become {shape_text(target)}")
    return [tensor(x.expr, target)]


def _with_length(x: Tensor, target: list[Any], example: int) -> list[Any]:
    """S in the place of the example's length."""
    assert x.time is not None
    before = _count(x.axes[: x.time])
    places = [
        place
        for place, size in enumerate(target)
        if size == example and _count(target[:place]) == before
    ]
    if len(places) == 1:
        target[places[0]] = S
    return target


def _count(axes: Sequence[Any]) -> int:
    total = 1
    for axis in axes:
        total *= axis if isinstance(axis, int) else 1
    return total


def _rest(x: Tensor, known: Sequence[Any]) -> Any:
    """What -1 stands for."""
    left, remainder = divmod(_count(x.axes), _count(known) or 1)
    if x.axes.count(S) > known.count(S):
        if left != 1 or remainder:
            raise ValueError("-1 stands for a product of positions and features")
        return S
    return left


def _squeeze(call: Call) -> list[Tensor]:
    x, axes = call.tensor(0), axes_of(call.node, call.given)
    if axes is None:
        if x.time is not None:
            raise ValueError("drops every axis of size 1, which that of the source may be")
        numbers = {n for n, axis in enumerate(x.axes) if axis == 1}
    else:
        numbers = {x.axis(axis) for axis in axes}
    if any(x.axes[n] != 1 for n in numbers):
        raise ValueError(f"drops an axis of {shape_text(x.axes)} that is not 1")
    left = [axis for n, axis in enumerate(x.axes) if n not in numbers]
    return [tensor(x.expr, left, x.padded)]


def _unsqueeze(call: Call) -> list[Tensor]:
    x, axes = call.tensor(0), axes_of(call.node, call.given)
    if axes is None:
        raise ValueError("has no axes")
    rank = len(x.axes) + len(axes)
    if any(not -rank <= axis < rank for axis in axes):
        raise ValueError(f"axes {axes} of {rank}")
    new, rest = {axis % rank for axis in axes}, iter(x.axes)
    if len(new) != len(axes):
        raise ValueError(f"axes {axes} stand twice")
    return [tensor(x.expr, [1 if n in new else next(rest) for n in range(rank)], x.padded)]


def _flatten(call: Call) -> list[Tensor]:
    x, axis = call.tensor(0), call.node.attributes.get("axis", 1)
    head, tail = x.axes[:axis], x.axes[axis:]
    sides: list[Axis] = []
    for side in (head, tail):
        if S in side and _count(side) != 1:
            raise ValueError("mixes positions and features")
        sides.append(S if S in side else _count(side))
    return [tensor(x.expr, sides)]


def _expand(call: Call) -> list[Tensor]:
    """An axis of size 1 becomes the source's length: a vector for every position."""
    x, target = call.numbers(0), call.lengths(1)
    rank = max(len(x.axes), len(target))
    old = (1,) * (rank - len(x.axes)) + x.axes
    target = [1] * (rank - len(target)) + target
    axes: list[Axis] = []
    for axis, size in zip(old, target, strict=True):
        size = S if axis == S and size == call.example else size
        if size not in (1, axis) and not (axis == 1 and size == S):
            raise ValueError(f"{shape_text(old)} is spread to {shape_text(target)}")
        axes.append(axis if size == 1 else size)
    return [tensor(x.expr, axes)]


def _tile(call: Call) -> list[Tensor]:
    x, repeats = call.numbers(0), call.lengths(1)
    if len(repeats) != len(x.axes):
        raise ValueError("repeats are not one for each axis")
    axes: list[Axis] = []
    for axis, times in zip(x.axes, repeats, strict=True):
        if times != 1 and not (axis == 1 and times == S):
            raise ValueError(f"{shape_text(x.axes)} is repeated {shape_text(repeats)} times")
        axes.append(S if times == S else axis)
    return [tensor(x.expr, axes)]


def _shape(call: Call) -> list[Array]:
    start, end = call.node.attributes.get("start", 0), call.node.attributes.get("end")
    shape = call.tensor(0).shape[start:end]
    open_ = any(isinstance(axis, Size) for axis in shape)
    found = np.empty(len(shape), object)
    found[:] = shape
    return [found if open_ else np.array(shape, np.int64)]


MEANINGS: dict[str, Callable[[Call], Sequence[Any]]] = {
    "Slice": _slice, "Split": _split, "Concat": _concat, "Transpose": _transpose,
    "Reshape": _reshape, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Flatten": _flatten,
    "Expand": _expand, "Tile": _tile, "Shape": _shape,
}  # fmt: skip
