"""How architectures find their arrays in one flat mapping: by dotted names. Knows names; never
shapes or equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from numpy.typing import ArrayLike

from ..builder import GraphBuilder, Value, Xs

Weights: TypeAlias = Mapping[str, ArrayLike]


def part(w: Weights, name: str) -> dict[str, ArrayLike]:
    """The arrays below `name`, for instance the weights of a cell by role."""
    prefix = f"{name}."
    found = {key[len(prefix) :]: array for key, array in w.items() if key.startswith(prefix)}
    if not found:
        raise KeyError(f"no array is called {prefix}*")
    return found


def dense(
    graph: GraphBuilder, x: Xs, w: Weights, name: str, *, activation: str = "identity"
) -> Value:
    """activation(W [x1; x2; ...] + b) with `name`.weight and, where there is one, `name`.bias."""
    weight, bias = w[f"{name}.weight"], w.get(f"{name}.bias")
    return graph.linear(x, weight, bias, activation=activation)
