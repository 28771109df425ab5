"""Operators on values of a sentence: products, elementwise functions, softmax, pooling, embeddings
and recurrences. Knows each operator's definition; never the graph around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import axes as moves
from .axes import Call
from .expressions import (
    Array,
    Axis,
    Expr,
    S,
    Tensor,
    activation,
    constant,
    joint,
    linear,
    mapped,
    negated,
    pooled,
    shape_text,
    tensor,
)
from .folding import axes_of
from .recurrent import layer

__all__ = ["HANDLERS", "Call"]

FUNCTIONS = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Relu": "relu", "Softplus": "softplus"}
# Operators that only move a value whose axis of positions has a fixed length in the file.
MOVES = {"Unsqueeze", "Squeeze", "Transpose", "Identity", "Shape", "MatMul", "Dropout"}


# --- lookups ---


def _gather(call: Call) -> list[Tensor | Array]:
    if isinstance(call.given[0], Tensor):
        return moves.gather(call)
    table, ids = call.array(0), call.tensor(1)
    if ids.expr.kind not in ("id", "ids") or table.ndim != 2 or call.node.attributes.get("axis"):
        raise ValueError("only rows of a table (V, D) are taken by ids of the source or target")
    kind = "vector" if ids.expr.kind == "id" else "sequence"
    size = table.shape[1]
    expr = Expr("embedding", (ids.expr,), {}, {"weight": table}, kind, size)
    return [tensor(expr, (*ids.axes, size))]


# --- elementwise ---


def _aligned(a: Sequence[Axis], b: Sequence[Axis]) -> list[tuple[Axis, Axis]]:
    rank = max(len(a), len(b))
    return list(
        zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b), strict=True)
    )


def _operand(value: Tensor | Array, other: Tensor) -> tuple[Expr, tuple[Axis, ...]]:
    """An operand's expression and axes; numbers are spread over the features of the other."""
    if isinstance(value, Tensor):
        return value.expr, value.axes
    if value.dtype.kind not in "fiu":
        raise ValueError(f"numbers of {value.dtype} meet a value")
    if value.size == 1:
        return constant(value), (1,) * value.ndim
    rank = max(value.ndim, len(other.axes))
    features = (1,) * (rank - len(other.axes)) + other.features
    shape = np.broadcast_shapes(features, value.shape)
    times = (1,) * (rank - len(other.axes)) + other.axes
    padded = (1,) * (rank - value.ndim) + value.shape
    for axis, size in zip(times, padded, strict=True):
        if axis == S and size != 1:
            raise ValueError("numbers by position meet a value")
    if shape != features and other.expr.size > 1:
        raise ValueError(f"numbers {value.shape} spread a value {shape_text(other.axes)}")
    return constant(np.broadcast_to(value, shape)), shape


def _binary(call: Call, op: Callable[[Expr, Expr], Expr]) -> list[Tensor]:
    a, b = call.given[:2]
    model = a if isinstance(a, Tensor) else b
    if a is None or b is None or not isinstance(model, Tensor):
        raise ValueError("an input is missing")
    (x, x_axes), (y, y_axes) = _operand(a, model), _operand(b, model)
    if x.kind in ("id", "ids") or y.kind in ("id", "ids"):
        raise ValueError("ids are computed with: only embeddings of ids are read")
    axes: list[Axis] = []
    for one, other in _aligned(x_axes, y_axes):
        if one != other and 1 not in (one, other):
            raise ValueError(f"axes {shape_text(x_axes)} and {shape_text(y_axes)} do not fit")
        axes.append(other if one == 1 else one)
    larger = [[n for n in _features(e) if n > 1] for e in (x_axes, y_axes)]
    if all(larger):
        spread = [a for a, b in _aligned(_features(x_axes), _features(y_axes)) if a != b]
        if spread:
            raise ValueError(f"axes {shape_text(x_axes)} and {shape_text(y_axes)} spread features")
    return [tensor(op(x, y), axes)]


def _features(axes: Sequence[Axis]) -> list[int]:
    return [axis if isinstance(axis, int) else 1 for axis in axes]


def _add(call: Call) -> list[Tensor]:
    return _binary(call, lambda x, y: mapped("add", [x, y]))


def _subtract(call: Call) -> list[Tensor]:
    return _binary(call, lambda x, y: mapped("add", [x, negated(y)]))


def _multiply(call: Call) -> list[Tensor]:
    return _binary(call, lambda x, y: mapped("multiply", [x, y]))


def _divide(call: Call) -> list[Tensor]:
    divisor = call.array(1)
    if not np.all(divisor):
        raise ValueError("divides by zero")
    call.given[1] = np.asarray(1.0 / divisor.astype(np.float64))
    return _multiply(call)


def _negate(call: Call) -> list[Tensor]:
    x = call.tensor(0)
    return [tensor(negated(x.expr), x.axes)]


def _function(call: Call) -> list[Tensor]:
    x = call.numbers(0)
    name = FUNCTIONS.get(call.node.op_type)
    if name is None:
        alpha, beta = (float(call.node.attributes.get(n, d)) for n, d in _HARD)
        known = {(0.2, 0.5): "hard_sigmoid", (round(1 / 6, 6), 0.5): "hard_sigmoid_6"}
        name = known.get((round(alpha, 6), round(beta, 6)))
        if name is None:
            raise ValueError(f"alpha {alpha:g} and beta {beta:g} are not there in this engine")
    return [tensor(activation(x.expr, name), x.axes)]


_HARD = (("alpha", 0.2), ("beta", 0.5))


def _same(call: Call) -> list[Tensor]:
    return [call.tensor(0)]


def _cast(call: Call) -> list[Tensor]:
    x, kind = call.tensor(0), call.node.attributes.get("to")
    if kind not in ((6, 7) if x.expr.kind in ("id", "ids") else (1, 11)):
        raise ValueError(f"casts a value to type {kind}")
    return [x]


def _dropout(call: Call) -> list[Tensor]:
    if len(call.given) > 2 and call.given[2] is not None and np.any(call.array(2)):
        raise ValueError("is in training mode: export behind model.eval()")
    return [call.tensor(0)]


# --- products ---


def _matmul(call: Call) -> list[Tensor]:
    a, b = call.given[:2]
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return [_meeting(a, b)]
    if isinstance(a, Tensor):
        call.unpadded()
        return [_times(a, _matrix(call.array(1)), None)]
    call.unpadded()
    x, matrix = call.tensor(1), _matrix(call.array(0))
    # W X: the rows of X are its features, and a column stands for a position or for nothing.
    if len(x.axes) < 2 or x.axes[-2] == S or x.axes[-1] not in (1, S):
        raise ValueError(f"numbers are multiplied by columns {shape_text(x.axes)}")
    expr = linear([x.expr], matrix)
    return [tensor(expr, (*_leading(x, -2), matrix.shape[0], x.axes[-1]))]


def _matrix(array: Array) -> Array:
    if array.ndim > 2 and all(size == 1 for size in array.shape[:-2]):
        array = array.reshape(array.shape[-2:])
    if array.ndim != 2:
        raise ValueError(f"numbers of shape {array.shape} are no matrix")
    return array


def _leading(x: Tensor, end: int) -> tuple[Axis, ...]:
    """The axes before the features, which are all on one axis."""
    rest = x.axes[:end]
    if any(axis not in (1, S) for axis in rest):
        raise ValueError(f"the features of {shape_text(x.axes)} are on several axes")
    return rest


def _times(x: Tensor, matrix: Array, bias: Array | None) -> Tensor:
    """x W (+ b), over the last axis."""
    if not x.axes or x.axes[-1] == S:
        raise ValueError("multiplies over the positions of the source, whose number is open")
    expr = linear([x.expr], np.ascontiguousarray(matrix.T), bias)
    return tensor(expr, (*_leading(x, -1), matrix.shape[1]))


def _gemm(call: Call) -> list[Tensor]:
    options = call.node.attributes
    x, matrix = call.numbers(0), call.array(1)
    if options.get("transA", 0):
        raise ValueError("transA of a value is not read")
    matrix = matrix.T if options.get("transB", 0) else matrix
    if options.get("alpha", 1.0) != 1.0:
        matrix = matrix * np.float32(options["alpha"])
    bias = None
    if len(call.given) > 2 and call.given[2] is not None:
        numbers = call.array(2) * np.float32(options.get("beta", 1.0))
        bias = np.array(np.broadcast_to(numbers.reshape(numbers.shape[-1:]), matrix.shape[1:]))
    return [_times(x, _matrix(matrix), bias)]


def _meeting(a: Tensor, b: Tensor) -> Tensor:
    """A product of two values: scores of positions, or a weighted sum of positions."""
    if min(len(a.axes), len(b.axes)) < 2:
        a_axes = a.axes if len(a.axes) > 1 else (1, *a.axes)
        b_axes = b.axes if len(b.axes) > 1 else (*b.axes, 1)
        a, b = Tensor(a.expr, a_axes, a.padded), Tensor(b.expr, b_axes, b.padded)
    row, inner = a.axes[-2:]
    other, column = b.axes[-2:]
    outer: list[Axis] = [
        one for pair in _aligned(a.axes[:-2], b.axes[:-2]) for one in [max(pair, key=_is_more)]
    ]
    if any(axis != 1 for axis in outer):
        raise ValueError("products of several blocks (heads) at once are not read")
    if other == S and inner in (S, b.padded):
        return _weighted(a.expr, b, row, column, outer)
    if inner == S and row not in (1, S) and column == 1 and other == S:
        return _weighted(b.expr, a, column, row, outer)
    if a.padded or b.padded:
        raise ValueError("the memory has a fixed length in the file and meets scores of another")
    if inner == S and other == S:
        if b.expr.size == 1 and column == 1:  # [D, S] [S, 1]
            return tensor(_sum(b.expr, a.expr), (*outer, row, column))
        raise ValueError("positions meet positions")
    if inner == other and isinstance(inner, int) and (row in (1, S) and column in (1, S)):
        if row == S and column == S:
            raise ValueError("every position asks every position")
        size = a.expr.size
        if size != b.expr.size or inner != size:
            raise ValueError(f"{size} features meet {b.expr.size}")
        kind = joint([a.expr, b.expr])
        expr = Expr("dot", (a.expr, b.expr), kind=kind)
        return tensor(expr, (*outer, row, column))
    raise ValueError(f"two values {shape_text(a.axes)} and {shape_text(b.axes)} are multiplied")


def _is_more(axis: Axis) -> bool:
    return axis != 1


def _weighted(weights: Expr, values: Tensor, row: Axis, column: Axis, outer: list[Axis]) -> Tensor:
    if row != 1:
        raise ValueError("several weighted sums at once are not read")
    if weights.kind == "vector":
        if not values.padded or weights.size != values.padded:
            raise ValueError(f"{weights.size} weights meet the positions of the source")
        weights = Expr("to_positions", (weights,), kind="sequence")
    if weights.size != 1:
        raise ValueError(f"{weights.size} weights for each position")
    return tensor(_sum(weights, values.expr), (*outer, 1, column))


def _sum(weights: Expr, values: Expr) -> Expr:
    return Expr("weighted_sum", (weights, values), size=values.size)


# --- over an axis ---


def _softmax(call: Call) -> list[Tensor]:
    x = call.numbers(0)
    axis = x.axis(call.node.attributes.get("axis", -1 if call.opset >= 13 else 1))
    over = [n for n in range(axis, len(x.axes)) if x.axes[n] != 1]
    if call.opset < 13 and len(over) == 1:  # over all axes from this one on
        axis = over[0]
    elif call.opset < 13 and over:
        raise ValueError(f"goes over several axes of {shape_text(x.axes)}")
    log = call.node.op_type == "LogSoftmax"
    if x.axes[axis] == S:
        if log or x.expr.size != 1:
            raise ValueError("goes over positions with other than one score for each")
        return [tensor(Expr("position_softmax", (x.expr,), kind="sequence"), x.axes)]
    if x.axes[axis] != x.expr.size or x.expr.size == 1:
        raise ValueError(f"goes over a part of the features of {shape_text(x.axes)}")
    op = "log_softmax" if log else "softmax"
    return [tensor(Expr(op, (x.expr,), kind=x.expr.kind, size=x.expr.size), x.axes)]


def _reduce(call: Call) -> list[Tensor]:
    x, op = call.numbers(0), call.node.op_type
    axes = axes_of(call.node, call.given)
    numbers = {x.axis(a) for a in axes} if axes else set(range(len(x.axes)))
    if axes is not None and not axes and call.node.attributes.get("noop_with_empty_axes", 0):
        return [x]
    keep = call.node.attributes.get("keepdims", 1)
    expr, time = x.expr, x.time
    features = [n for n, axis in enumerate(x.axes) if axis not in (1, S)]
    if set(features) & numbers:
        if not set(features) <= numbers or op == "ReduceMax":
            raise ValueError("goes over a part of the features, or takes their maximum")
        factor = 1.0 if op == "ReduceSum" else 1.0 / expr.size
        expr = linear([expr], np.full((1, expr.size), factor, np.float32))
    if time in numbers:
        how = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max"}[op]
        if how == "sum" and expr.kind != "sequence":
            raise ValueError("sums a vector that is repeated over positions")
        expr = pooled(expr, how)
    left: list[Axis] = [
        1 if n in numbers else axis for n, axis in enumerate(x.axes) if keep or n not in numbers
    ]
    return [tensor(expr, left)]


def _normalised(call: Call) -> list[Tensor]:
    x, scale = call.numbers(0), call.array(1)
    shift = call.array(2) if len(call.given) > 2 and call.given[2] is not None else None
    axis = x.axis(call.node.attributes.get("axis", -1))
    if x.axes[axis] != x.expr.size or axis != len(x.axes) - 1 or len(call.node.outputs) > 1:
        raise ValueError("goes over other than the features, or gives more than the result")
    weights = {"weight": scale} | ({} if shift is None else {"bias": shift})
    eps = {"eps": float(call.node.attributes.get("epsilon", 1e-5))}
    return [tensor(Expr("layer_norm", (x.expr,), eps, weights, x.expr.kind, x.expr.size), x.axes)]


def _recurrent(call: Call) -> list[Tensor]:
    found: list[Tensor] = layer(call.node, call.given, call.source)
    return found


_MEANINGS: dict[str, Callable[[Call], Sequence[Tensor | Array]]] = {
    "Gather": _gather, "Add": _add, "Sub": _subtract, "Mul": _multiply, "Div": _divide,
    "Neg": _negate, "Tanh": _function, "Sigmoid": _function, "Relu": _function,
    "Softplus": _function, "HardSigmoid": _function, "Identity": _same, "Cast": _cast,
    "Dropout": _dropout, "MatMul": _matmul, "Gemm": _gemm, "Softmax": _softmax,
    "LogSoftmax": _softmax, "ReduceSum": _reduce, "ReduceMean": _reduce, "ReduceMax": _reduce,
    "LayerNormalization": _normalised, "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent,
    **moves.MEANINGS,
}  # fmt: skip


def _guarded(
    meaning: Callable[[Call], Sequence[Any]],
) -> Callable[[Call], Sequence[Any]]:
    def run(call: Call) -> Sequence[Any]:
        if call.node.op_type not in MOVES:
            call.unpadded()
        return meaning(call)

    return run


HANDLERS = {name: _guarded(meaning) for name, meaning in _MEANINGS.items()}
