"""Expressions written into a builder: what is not read is left out, biases and functions go into
the products before them, attentions are one operation. Knows builders; never ONNX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...builder import GraphBuilder
from ...errors import ModelFormatError
from .attention import scores
from .expressions import Array, Expr, value_of
from .recurrent import write

MAX_JOINED = 64
_ONES: dict[int, Array] = {}


def reachable(outputs: Sequence[Expr]) -> list[Expr]:
    """What the outputs read, in order."""
    found: dict[int, Expr] = {}
    left = list(outputs)
    while left:
        one = left.pop()
        if one.number not in found:
            found[one.number] = one
            left.extend(one.inputs)
    return [found[number] for number in sorted(found)]


def simplified(outputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """The same values in fewer operations."""
    order = reachable(list(outputs.values()))
    uses = Counter(one.number for expr in order for one in expr.inputs)
    uses.update(one.number for one in outputs.values())
    new: dict[int, Expr] = {}
    alone: set[int] = set()
    for expr in order:
        made = _simpler(_with(expr, [new[one.number] for one in expr.inputs]), alone)
        new[expr.number] = made
        if uses[expr.number] == 1:
            alone.add(made.number)
    return {name: new[one.number] for name, one in outputs.items()}


def _with(expr: Expr, inputs: list[Expr]) -> Expr:
    if all(a is b for a, b in zip(inputs, expr.inputs, strict=True)):
        return expr
    return Expr(expr.op, tuple(inputs), expr.attributes, expr.weights, expr.kind, expr.size)


def _simpler(expr: Expr, alone: set[int]) -> Expr:
    """alone: expressions that nothing else reads."""
    if expr.op == "add" and len(expr.inputs) == 2:
        for one, other in (expr.inputs, expr.inputs[::-1]):
            bias = value_of(other)
            fits = bias is not None and bias.size in (1, one.size)
            free = one.op == "linear" and not one.weights.keys() & {"bias"}
            if fits and free and one["activation"] == "identity" and one.number in alone:
                assert bias is not None
                spread = np.array(np.broadcast_to(bias, (one.size,)))
                return _linear(one, one.inputs, weights={**one.weights, "bias": spread})
    if expr.op == "activation":
        (one,) = expr.inputs
        if one.op == "linear" and one["activation"] == "identity" and one.number in alone:
            return _linear(one, one.inputs, attributes={"activation": expr["function"]})
    if expr.op == "linear":
        return _product(expr)
    if expr.op == "recurrence" and expr.inputs[0].op == "concat":
        joined = expr.inputs[0].inputs
        if len(joined) <= MAX_JOINED:
            attributes = {**expr.attributes, "joined": len(joined)}
            inputs = (*joined, *expr.inputs[1:])
            return Expr(expr.op, inputs, attributes, expr.weights, expr.kind, expr.size)
    if expr.op == "position_softmax":
        told = scores(expr.inputs[0])
        attributes = {"roles": tuple(told.inputs), "options": told.options}
        inputs = tuple(told.inputs.values())
        return Expr(expr.op, inputs, attributes, told.weights, "sequence")
    if expr.op == "pool" and expr["how"] == "sum" and expr.inputs[0].op == "multiply":
        weights, values = _weights_first(expr.inputs[0].inputs)
        if weights.kind == values.kind == "sequence" and weights.size == 1:
            return Expr("weighted_sum", (weights, values), size=values.size)
    return expr


def _weights_first(inputs: Sequence[Expr]) -> tuple[Expr, Expr]:
    if len(inputs) != 2:
        return inputs[0], inputs[0]
    first, second = sorted(inputs, key=lambda one: one.size)
    return first, second


def _linear(
    expr: Expr,
    inputs: Sequence[Expr],
    attributes: Mapping[str, Any] | None = None,
    weights: Mapping[str, Array] | None = None,
) -> Expr:
    return replace(
        expr,
        inputs=tuple(inputs),
        attributes=expr.attributes if attributes is None else attributes,
        weights=expr.weights if weights is None else weights,
        number=Expr("linear").number,
    )


def _product(expr: Expr) -> Expr:
    """Of joined features: of the parts; a sum of products of features: a dot product."""
    inputs = [part for one in expr.inputs for part in (one.inputs if one.op == "concat" else [one])]
    if len(inputs) != len(expr.inputs) and len(inputs) <= MAX_JOINED:
        return _linear(expr, inputs)
    (one, *more) = expr.inputs
    plain = not more and "bias" not in expr.weights and expr["activation"] == "identity"
    if plain and expr.size == 1 and one.op == "multiply" and len(one.inputs) == 2:
        same = one.inputs[0].size == one.inputs[1].size and one.inputs[0] is not one.inputs[1]
        constants = any(value_of(part) is not None for part in one.inputs)
        if same and not constants and np.all(expr.weights["weight"] == 1):
            return Expr("dot", one.inputs, kind=one.kind)
    return expr


class Emission:
    """Writes expressions into one graph. inputs: what an `input` of a name stands for."""

    def __init__(self, g: GraphBuilder, inputs: Mapping[str, Any]) -> None:
        self._g, self._inputs = g, inputs
        self._values: dict[int, Any] = {}
        self._states: dict[int, dict[str, Any]] = {}

    def write(self, outputs: Mapping[str, Expr]) -> dict[str, Any]:
        """The outputs' values in the builder."""
        order = reachable(list(outputs.values()))
        summed = {e.inputs[0].number for e in order if e.op == "weighted_sum"}
        for expr in order:
            if expr.op == "position_softmax" and expr.number in summed:
                continue
            self._write(expr)
        return {name: self._value(expr) for name, expr in outputs.items()}

    def _value(self, expr: Expr) -> Any:
        if expr.number not in self._values:
            self._write(expr)
        return self._values[expr.number]

    def _write(self, expr: Expr) -> None:
        if expr.number in self._values or expr.number in self._states:
            return
        if expr.op == "recurrence":
            joined = expr.attributes.get("joined", 1)
            inputs = [self._value(one) for one in expr.inputs]
            x = inputs[0] if joined == 1 else inputs[:joined]
            self._states[expr.number] = write(self._g, expr, [x, *inputs[joined:]])
        elif expr.op == "part":
            self._values[expr.number] = self._states[expr.inputs[0].number][expr["role"]]
        elif expr.op == "input":
            self._values[expr.number] = self._inputs[expr["name"]]
        elif expr.op == "weighted_sum":
            self._sum(expr)
        elif expr.op == "position_softmax":
            self._values[expr.number] = self._attention(expr, None)[1]
        elif expr.op not in WRITERS:
            raise ModelFormatError(
                f"{expr.op} is read as the last operation before the logits alone: say logits= "
                "where it is"
            )
        else:
            one = WRITERS[expr.op](self._g, expr, [self._value(i) for i in expr.inputs])
            self._values[expr.number] = one

    def _sum(self, expr: Expr) -> None:
        weights, values = expr.inputs
        if weights.op == "position_softmax":
            context, alignment = self._attention(weights, values)
            self._values.setdefault(weights.number, alignment)
        else:
            context, _ = self._g.attention(
                scores=self._value(weights), values=self._value(values), normaliser="none"
            )
        self._values[expr.number] = context

    def _attention(self, softmax: Expr, values: Expr | None) -> tuple[Any, Any]:
        given = [self._value(one) for one in softmax.inputs]
        inputs = dict(zip(softmax["roles"], given, strict=True))
        of = given[-1] if values is None else self._value(values)
        arguments: dict[str, Any] = {**inputs, **softmax.weights, **softmax["options"]}
        return self._g.attention(values=of, **arguments)


def _dot(g: GraphBuilder, expr: Expr, inputs: list[Any]) -> Any:
    size = expr.inputs[0].size
    ones = _ONES.setdefault(size, np.ones((1, size), np.float32))
    return g.linear(g.multiply(*inputs), ones)


def _embedding(g: GraphBuilder, expr: Expr, inputs: list[Any]) -> Any:
    return g.embedding(inputs[0], expr.weights["weight"])


WRITERS: dict[str, Callable[[GraphBuilder, Expr, list[Any]], Any]] = {
    "embedding": _embedding,
    "constant": lambda g, e, i: g.constant(e.weights["value"]),
    "linear": lambda g, e, i: g.linear(
        i, e.weights["weight"], e.weights.get("bias"), activation=e["activation"]
    ),
    "concat": lambda g, e, i: g.concat(i),
    "slice": lambda g, e, i: g.slice(i[0], e["start"], e["stop"]),
    "add": lambda g, e, i: g.add(*i),
    "multiply": lambda g, e, i: g.multiply(*i),
    "activation": lambda g, e, i: g.activation(i[0], e["function"]),
    "softmax": lambda g, e, i: g.softmax(i[0]),
    "layer_norm": lambda g, e, i: g.layer_norm(
        i[0], e.weights["weight"], e.weights.get("bias"), eps=e["eps"]
    ),
    "pool": lambda g, e, i: g.pool(i[0], e["how"]),
    "reverse": lambda g, e, i: g.reverse(i[0]),
    "to_positions": lambda g, e, i: g.to_positions(i[0]),
    "dot": _dot,
}
