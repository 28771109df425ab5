"""Weights under the names of PyTorch's modules, made cells, layers and states of a builder. Knows
torch.nn's layout; never a toolkit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..builder import Cell, DecoderBuilder, EncoderBuilder, GraphBuilder, Value, Xs
from ..errors import ModelFormatError

Weights: TypeAlias = Mapping[str, ArrayLike]
Layer: TypeAlias = tuple[Value, ...]

ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def first(w: Weights, *names: str) -> ArrayLike:
    """The first of the names that is there: toolkits rename between versions."""
    for name in names:
        if name in w:
            return w[name]
    raise KeyError(f"none of {', '.join(names)} among the weights")


def size(array: ArrayLike, axis: int = 0) -> int:
    """Of one axis of a weight, which has more than `axis` of them, none empty."""
    shape = np.shape(array)
    if axis >= len(shape) or not all(shape):
        raise ModelFormatError(
            f"a weight has the shape {shape}, must have at least {axis + 1} axes, none of them 0"
        )
    return int(shape[axis])


def cell(w: Weights, prefix: str, suffix: str = "") -> Cell:
    """The weights of a torch.nn cell, or of one direction of a layer: r z n and i f g o.

    A bias may be (1, 4H), as PyTorch 0.2 wrote it.
    """
    names = {role: f"{prefix}.{role}{suffix}" for role in ROLES}
    found = {role: w[name] for role, name in names.items() if name in w}
    return {
        role: np.reshape(array, -1) if role.startswith("bias") and np.ndim(array) > 1 else array
        for role, array in found.items()
    }


def cells(w: Weights, prefix: str) -> list[Cell]:
    """The layers of `<prefix>.weight_ih_l0, ...` (torch.nn.LSTM) or `<prefix>.0.weight_ih, ...`."""
    found: list[Cell] = []
    while f"{prefix}.weight_ih_l{len(found)}" in w:
        found.append(cell(w, prefix, f"_l{len(found)}"))
    while f"{prefix}.weight_ih_l0" not in w and f"{prefix}.{len(found)}.weight_ih" in w:
        found.append(cell(w, f"{prefix}.{len(found)}"))
    return found


def width(one: Cell) -> int:
    """H of a cell."""
    return size(one["weight_hh"], 1)


def gates(one: Cell) -> int:
    """4 for an LSTM, 3 for a GRU, 1 for an RNN: the shape tells, an option's name may lie."""
    count = size(one["weight_hh"]) // width(one)
    if count not in (1, 3, 4):
        raise ModelFormatError(
            f"weight_hh of a cell has the shape {np.shape(one['weight_hh'])}, must be (4H, H), "
            "(3H, H) or (H, H): an LSTM, a GRU or an RNN"
        )
    return count


def roles(one: Cell) -> tuple[str, ...]:
    """The states of a cell."""
    return ("h", "c") if gates(one) == 4 else ("h",)


def layer(
    e: EncoderBuilder, x: Xs, one: Cell, *, direction: str = "forward", activation: str = "tanh"
) -> Layer:
    """One recurrent layer: (sequence, h[, c])."""
    run: Any = {4: e.lstm, 3: e.gru, 1: e.rnn}[gates(one)]
    result: Layer = run(x, one, direction=direction, activation=activation)
    return result


def stack(
    e: EncoderBuilder, x: Value, w: Weights, prefix: str, *, activation: str = "tanh"
) -> tuple[Value, list[list[Layer]]]:
    """torch.nn.LSTM, GRU or RNN: the top sequence, and (h[, c]) by layer and direction.

    Every layer reads [forward; backward] of the one below.
    """
    states: list[list[Layer]] = []
    for number in range(len(cells(w, prefix))):
        one = cell(w, prefix, f"_l{number}")
        sequence, *last = layer(e, x, one, activation=activation)
        found = [tuple(last)]
        if f"{prefix}.weight_ih_l{number}_reverse" in w:
            other = cell(w, prefix, f"_l{number}_reverse")
            back, *last = layer(e, x, other, direction="backward", activation=activation)
            found.append(tuple(last))
            sequence = e.concat([sequence, back])
        x = sequence
        states.append(found)
    return x, states


def joined(g: GraphBuilder, values: Sequence[Value]) -> Value:
    """The concatenation, of one value itself."""
    return values[0] if len(values) == 1 else g.concat(values)


def by_layer(e: EncoderBuilder, states: Sequence[Sequence[Layer]]) -> list[Layer]:
    """[forward; backward] of every layer's states."""
    return [
        tuple(joined(e, of_role) for of_role in zip(*directions, strict=True))
        for directions in states
    ]


def linear(
    g: GraphBuilder, x: Xs, w: Weights, prefix: str, *, activation: str = "identity"
) -> Value:
    """torch.nn.Linear: `<prefix>.weight` (O, I) and, where it is there, `<prefix>.bias` (O)."""
    return g.linear(x, w[f"{prefix}.weight"], w.get(f"{prefix}.bias"), activation=activation)


def transposed(matrix: ArrayLike) -> ArrayLike:
    """A linear on the keys in place of its transpose on the query: q·(W k) = (W'q)·k."""
    return np.ascontiguousarray(np.transpose(matrix))


def hand_over(e: EncoderBuilder, states: Sequence[Layer]) -> None:
    """Makes h0, c0, h1, ... outputs, from which `run_cells` starts."""
    for number, of_layer in enumerate(states):
        e.output(**{f"{role}{number}": s for role, s in zip("hc", of_layer, strict=False)})


def run_cells(d: DecoderBuilder, x: Xs, layers: Sequence[Cell], *, zeros: bool = False) -> Value:
    """The cells on top of one another, their states carried on; h of the top one.

    Layer k starts from the encoder outputs h<k>, c<k>, or from zeros.
    """
    top: Xs = x
    for number, one in enumerate(layers):
        previous = [
            d.state(f"{role}{number}", size=width(one))
            if zeros
            else d.state(f"{role}{number}", initial=f"{role}{number}")
            for role in roles(one)
        ]
        states = step(d, top, previous, one)
        d.next({f"{role}{number}": s for role, s in zip(roles(one), states, strict=True)})
        top = states[0]
    assert isinstance(top, Value)
    return top


def step(g: GraphBuilder, x: Xs | None, previous: Sequence[Value | None], one: Cell) -> Layer:
    """One step of a cell: (h[, c])."""
    if gates(one) == 4:
        return g.lstm_cell(x, previous[0], previous[1], one)
    run: Any = g.gru_cell if gates(one) == 3 else g.rnn_cell
    return (run(x, previous[0], one),)
