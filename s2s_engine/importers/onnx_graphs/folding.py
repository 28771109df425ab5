"""Operators on numbers that the file holds and on lengths: the arithmetic of shapes, computed while
a graph is read. Knows NumPy's counterparts of operators; never values of a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..readers.onnx_files import Node
from .expressions import Array, Size

MAX_NUMBERS = 1 << 24
DTYPES: dict[int, Any] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip


def plain(array: Array) -> Array:
    """Integers again where no open length is left; scalars are arrays."""
    array = np.asarray(array)
    if array.dtype == object and not any(isinstance(one, Size) for one in array.ravel()):
        return np.asarray(array.tolist(), np.int64).reshape(array.shape)
    return array


def bounded(count: int) -> None:
    if not 0 <= count <= MAX_NUMBERS:
        raise ValueError(f"would make {count} numbers, more than {MAX_NUMBERS}")


def integers(array: Array | None) -> list[int]:
    """A list of integers, which an axis or a permutation is."""
    if array is None or array.dtype.kind not in "iu":
        raise ValueError("an input must hold integers that the file fixes")
    return [int(one) for one in array.ravel()]


def axes_of(node: Node, given: Sequence[Any], opset_input: int = 1) -> list[int] | None:
    """Axes as an attribute, as older versions have them, or as an input; None where left out."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"])
    if len(given) <= opset_input or given[opset_input] is None:
        return None
    if not isinstance(given[opset_input], np.ndarray):
        raise ValueError("the axes are computed from values")
    return integers(given[opset_input])


def number_of(node: Node) -> Array:
    """The value of a Constant."""
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in node.attributes:
            kind = {"value_f": np.float32, "value_i": np.int64}.get(name[:7])
            return np.asarray(node.attributes[name], kind)
    raise ValueError("holds no number")


def slices(node: Node, given: Sequence[Any], rank: int) -> list[tuple[int, Any, Any, int]]:
    """(axis, start, end, step) of a Slice, from attributes or inputs."""
    if "starts" in node.attributes:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes, steps = node.attributes.get("axes"), None
    else:
        if not all(one is None or isinstance(one, np.ndarray) for one in given[1:]):
            raise ValueError("its bounds are computed from values")
        found = [None if one is None else one.ravel().tolist() for one in given[1:]]
        starts, ends, axes, steps = [*found, None, None][:4]
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for axis in axes:
        if not -rank <= axis < rank:
            raise ValueError(f"there is no axis {axis} among {rank}")
    return [
        (axis % rank, start, end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    ]


def folded(node: Node, given: Sequence[Array | None], opset: int) -> Array | None:
    """The result on numbers; None where this operator is not folded."""
    known = FOLDS.get(node.op_type)
    if known is None or not given or any(one is None for one in given[:1]):
        return None
    return plain(known(node, given, opset))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Node, Sequence[Any], int], Any]:
    def run(node: Node, given: Sequence[Any], opset: int) -> Any:
        a, b = given
        bounded(int(np.prod(np.broadcast_shapes(a.shape, b.shape))))
        with np.errstate(all="ignore"):
            return function(a, b)

    return run


def _divided(a: Array, b: Array) -> Any:
    if not np.all(b):
        raise ValueError("divides by zero")
    if a.dtype.kind in "iu":
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return a // b if a.dtype == object else a / b


def _unary(function: Callable[[Any], Any]) -> Callable[[Node, Sequence[Any], int], Any]:
    def run(node: Node, given: Sequence[Any], opset: int) -> Any:
        with np.errstate(all="ignore"):
            return function(given[0])

    return run


def _compared(node: Node, given: Sequence[Any], opset: int) -> Any:
    """Of an open length and a number: a length is at least 1, so that some are told apart."""
    bounded(int(np.prod(np.broadcast_shapes(given[0].shape, given[1].shape))))
    a, b = np.broadcast_arrays(*given)
    if object not in (a.dtype, b.dtype):
        return a == b
    out = np.empty(a.shape, np.bool_)
    for at in np.ndindex(a.shape):
        x, y = a[at], b[at]
        if isinstance(x, Size) or isinstance(y, Size):
            difference = x - y
            if isinstance(difference, Size):
                slope, offset = difference.slope, difference.offset
                if slope * (slope + offset) <= 0 and offset % slope == 0:
                    raise ValueError(f"compares {x} with {y}, which depends on the source")
                out[at] = False
                continue
            out[at] = difference == 0
        else:
            out[at] = x == y
    return out


def _where(node: Node, given: Sequence[Any], opset: int) -> Any:
    condition, a, b = given
    bounded(int(np.prod(np.broadcast_shapes(condition.shape, a.shape, b.shape))))
    return np.where(condition, a, b)


def _cast(node: Node, given: Sequence[Any], opset: int) -> Any:
    if given[0].dtype == object:
        if node.attributes["to"] not in (6, 7):
            raise ValueError("casts a length to other than integers")
        return given[0]
    return given[0].astype(DTYPES[node.attributes["to"]])


def _gather(node: Node, given: Sequence[Any], opset: int) -> Any:
    data, indices = given[:2]
    axis = node.attributes.get("axis", 0)
    bounded(data.size // max(1, data.shape[axis]) * indices.size)
    return np.take(data, integers(indices), axis).reshape(
        data.shape[: axis % data.ndim] + indices.shape + data.shape[axis % data.ndim + 1 :]
    )


def _concat(node: Node, given: Sequence[Any], opset: int) -> Any:
    if any(one is None for one in given):
        raise ValueError("an input is missing")
    bounded(sum(one.size for one in given))
    return np.concatenate(given, node.attributes["axis"])


def _slice(node: Node, given: Sequence[Any], opset: int) -> Any:
    data = given[0]
    index: list[Any] = [slice(None)] * data.ndim
    for axis, start, end, step in slices(node, given, data.ndim):
        length = data.shape[axis]
        if step < 0 and end < -length:
            end = None
        index[axis] = slice(start, end, step)
    return data[tuple(index)]


def _reshape(node: Node, given: Sequence[Any], opset: int) -> Any:
    shape = integers(given[1])
    if not node.attributes.get("allowzero", 0):
        shape = [given[0].shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return given[0].reshape(shape)


def _squeeze(node: Node, given: Sequence[Any], opset: int) -> Any:
    axes = axes_of(node, given)
    return np.squeeze(given[0], None if axes is None else tuple(axes))


def _unsqueeze(node: Node, given: Sequence[Any], opset: int) -> Any:
    axes = axes_of(node, given)
    assert axes is not None
    return np.expand_dims(given[0], tuple(axes))


def _filled(node: Node, given: Sequence[Any], opset: int) -> Any:
    shape = integers(given[0])
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)
    bounded(int(np.prod(shape, dtype=object)))
    return np.full(shape, value[0])


def _expand(node: Node, given: Sequence[Any], opset: int) -> Any:
    shape = np.broadcast_shapes(given[0].shape, tuple(integers(given[1])))
    bounded(int(np.prod(shape, dtype=object)))
    return np.broadcast_to(given[0], shape)


def _tile(node: Node, given: Sequence[Any], opset: int) -> Any:
    repeats = integers(given[1])
    bounded(given[0].size * int(np.prod(repeats, dtype=object)))
    return np.tile(given[0], repeats)


def _range(node: Node, given: Sequence[Any], opset: int) -> Any:
    start, stop, step = (one.item() for one in given)
    bounded(int((stop - start) // step))
    return np.arange(start, stop, step, dtype=given[0].dtype)


def _product(node: Node, given: Sequence[Any], opset: int) -> Any:
    axes = axes_of(node, given)
    total = np.prod(given[0], axis=None if axes is None else tuple(axes), keepdims=False)
    if node.attributes.get("keepdims", 1):
        total = np.expand_dims(total, tuple(range(given[0].ndim) if axes is None else axes))
    return total


def _transposed(node: Node, given: Sequence[Any], opset: int) -> Any:
    return given[0].transpose(node.attributes.get("perm"))


def _shape(node: Node, given: Sequence[Any], opset: int) -> Any:
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return np.array(given[0].shape[start:end], np.int64)


FOLDS: dict[str, Callable[[Node, Sequence[Any], int], Any]] = {
    "Add": _binary(np.add), "Sub": _binary(np.subtract), "Mul": _binary(np.multiply),
    "Div": _binary(_divided), "Equal": _compared, "Where": _where, "Cast": _cast,
    "Gather": _gather, "Concat": _concat, "Slice": _slice, "Reshape": _reshape,
    "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "ConstantOfShape": _filled, "Expand": _expand,
    "Tile": _tile, "Range": _range, "ReduceProd": _product, "Transpose": _transposed,
    "Shape": _shape, "Not": _unary(np.logical_not), "Neg": _unary(np.negative),
    "Identity": _unary(lambda x: x), "Sqrt": _unary(np.sqrt), "Tanh": _unary(np.tanh),
    "Abs": _unary(np.abs), "Floor": _unary(np.floor), "Ceil": _unary(np.ceil),
    "Reciprocal": _unary(lambda x: 1 / x),
}  # fmt: skip
