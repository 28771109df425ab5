"""Compute types: which weights products can keep in what, and what a caller's choice means for each
of them. Knows graphs and names; never kernels, and times only as numbers handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .model import Model

COMPUTE_TYPES = ("float32", "bfloat16", "int8", "auto")
# The weights that operations multiply their inputs with.
MATRICES = {"linear": ("weight",)} | dict.fromkeys(
    ("rnn", "gru", "lstm", "rnn_cell", "gru_cell", "lstm_cell"), ("weight_ih", "weight_hh")
)
MAX_INT8_DEPTH = 1 << 17  # columns whose sums of int8 products fit in 32 bits
FASTER = 1.1  # a narrower type is chosen by `auto` if it is faster by more than this

# What `auto` multiplies a weight with: a row, as a greedy decode does, and those of a beam.
ROWS = (1, 8)
# Seconds of one product with a weight, by compute type, for each of ROWS.
Measure = Callable[[NDArray[np.float32]], Sequence[Mapping[str, float]]]


def matrices(model: Model) -> set[str]:
    """The names of the weights that some product multiplies."""
    return {
        node.weights[role]
        for graph in model.graphs.values()
        for node in graph.all_nodes()
        for role in MATRICES.get(node.op, ())
        if role in node.weights
    }


def resolve(model: Model, choice: str | Mapping[str, str], measure: Measure) -> dict[str, str]:
    """The type of every weight that is not to be float32.

    choice: one type for every weight that it is possible for, or types by name, where names left
    out are float32. Raises InputError naming a weight that does not exist or cannot have its type.
    """
    multiplied = matrices(model)
    if isinstance(choice, Mapping):
        wanted = dict(choice)
        for name, type_ in wanted.items():
            _check(type_, f"compute_type[{name!r}]")
            reason = _obstacle(model, multiplied, name, type_)
            if reason:
                raise InputError(f"compute_type[{name!r}] is {type_!r}, but {reason}")
    else:
        _check(choice, "compute_type")
        wanted = {
            name: choice
            for name in sorted(multiplied)
            if not _obstacle(model, multiplied, name, choice)
        }
    for name, type_ in wanted.items():
        if type_ == "auto":
            wanted[name] = fastest(*measure(model.tensors[name]))
    return {name: type_ for name, type_ in wanted.items() if type_ != "float32"}


def fastest(one_row: Mapping[str, float], *more_rows: Mapping[str, float]) -> str:
    """The type of the fastest product of one row; a narrower one is taken if it is clearly faster
    there, and not clearly slower with more rows than what is taken so far."""
    best = "float32"
    for type_ in ("bfloat16", "int8"):
        if one_row[type_] * FASTER < one_row[best] and all(
            seconds[type_] < FASTER * seconds[best] for seconds in more_rows
        ):
            best = type_
    return best


def _check(type_: object, where: str) -> None:
    if not isinstance(type_, str) or type_ not in COMPUTE_TYPES:
        raise InputError(f"{where} is {type_!r}, must be one of {COMPUTE_TYPES}")


def _obstacle(model: Model, multiplied: set[str], name: object, type_: str) -> str:
    """Why a weight cannot be computed in a type; empty where it can."""
    if name not in model.tensors:
        return "the model has no such weight (engine.info.compute_types lists all of them)"
    if type_ == "float32":
        return ""
    if name not in multiplied:
        return (
            "only matrices of linear and recurrent operations can be; this weight is computed "
            "in float32"
        )
    depth = model.tensors[str(name)].shape[1]
    if type_ == "int8" and depth > MAX_INT8_DEPTH:
        return f"it has {depth} columns, and sums of more than {MAX_INT8_DEPTH} may overflow"
    return ""
