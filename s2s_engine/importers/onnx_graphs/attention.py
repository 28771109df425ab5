"""Scores, softmax over positions and weighted sums, told as one attention. Knows how the scores of
an attention are written with elementwise operations; never ONNX or builders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .expressions import Array, Expr, linear, mapped, value_of

MAX_TERMS = 64


@dataclass(frozen=True)
class Scores:
    """The arguments of `attention` that tell the energies."""

    inputs: Mapping[str, Expr]
    weights: Mapping[str, Array] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def scores(energies: Expr) -> Scores:
    """energy_activation(scale score + energy_bias), as deep as it is recognised."""
    options: dict[str, Any] = {}
    weights: dict[str, Array] = {}
    rest = energies
    if rest.op == "activation":
        options["energy_activation"] = rest["function"]
        rest = rest.inputs[0]
    elif rest.op == "linear" and rest["activation"] != "identity":
        options["energy_activation"] = rest["activation"]
    bias, rest = _number(rest, "add")
    scale, rest = _number(rest, "multiply")
    if scale is not None:
        options["scale"] = scale
    found = _dot(rest) or _additive(rest)
    if found is None:
        return Scores({"scores": energies})
    inner = found.weights.get("energy_bias")
    total = (0.0 if bias is None else bias) + (0.0 if inner is None else float(inner[0])) * (
        1.0 if scale is None else scale
    )
    if bias is not None or inner is not None:
        weights["energy_bias"] = np.array([total], np.float32)
    kept = {n: a for n, a in found.weights.items() if n != "energy_bias"}
    return Scores(found.inputs, {**kept, **weights}, {**found.options, **options})


def _number(expr: Expr, op: str) -> tuple[float | None, Expr]:
    """A single number that is added or multiplied, and what with."""
    if expr.op == op and len(expr.inputs) == 2:
        for one, other in (expr.inputs, expr.inputs[::-1]):
            number = value_of(one)
            if number is not None and number.size == 1 and value_of(other) is None:
                return float(number[0]), other
    return None, expr


def _dot(expr: Expr) -> Scores | None:
    if expr.op != "dot":
        return None
    query, keys = sorted(expr.inputs, key=lambda one: one.kind == "sequence")
    if query.kind != "vector" or keys.kind != "sequence":
        return None
    return Scores({"query": query, "keys": keys})


def _additive(expr: Expr) -> Scores | None:
    """v . activation(query + keys), the sum written out, or as one product of both."""
    if expr.op != "linear" or expr.size != 1 or len(expr.inputs) != 1:
        return None
    summed = expr.inputs[0]
    if summed.op == "activation":
        function, terms = summed["function"], _terms(summed.inputs[0])
    elif summed.op == "linear" and summed["activation"] != "identity":
        function, terms = summed["activation"], _products(summed)
    else:
        return None
    vectors = [one for one in terms if one.kind == "vector"]
    sequences = [one for one in terms if one.kind == "sequence"]
    if not vectors or not sequences:
        return None
    query, keys = _sum(vectors), _sum(sequences)
    if query.size != summed.size or keys.size != summed.size:
        return None
    weights = {"v": expr.weights["weight"].reshape(-1)}
    if "bias" in expr.weights:
        weights["energy_bias"] = expr.weights["bias"].reshape(-1)
    return Scores({"query": query, "keys": keys}, weights, {"activation": function})


def _terms(expr: Expr) -> list[Expr]:
    """What is added, sums of sums included; none where that is more than is joined."""
    left, found = [expr], list[Expr]()
    while left:
        one = left.pop()
        if one.op == "add":
            left.extend(one.inputs)
        elif one.op == "linear" and one["activation"] == "identity":
            found.extend(_products(one))
        else:
            found.append(one)
        if len(left) + len(found) > MAX_TERMS:
            return []
    return found


def _products(expr: Expr) -> list[Expr]:
    """W [x1; x2; ...] + b as one product of the vectors and one of the sequences."""
    kinds = {one.kind for one in expr.inputs}
    bias = expr.weights.get("bias")
    if len(kinds) == 1 and expr["activation"] == "identity":
        return [expr]
    ends = np.cumsum([one.size for one in expr.inputs])
    columns = np.split(expr.weights["weight"], ends[:-1], axis=1)
    found = []
    for kind in ("vector", "sequence"):
        chosen = [n for n, one in enumerate(expr.inputs) if one.kind == kind]
        if chosen:
            weight = np.ascontiguousarray(np.concatenate([columns[n] for n in chosen], axis=1))
            found.append(linear([expr.inputs[n] for n in chosen], weight, bias))
            bias = None
    return found


def _sum(terms: Sequence[Expr]) -> Expr:
    return terms[0] if len(terms) == 1 else mapped("add", terms)
