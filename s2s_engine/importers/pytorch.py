"""Layers of torch.nn, from a state dict as arrays, as the builder takes them. Knows torch.nn's
names and shapes (docs of torch.nn.LSTM, GRU, RNN, Linear, Embedding); never files.

torch.nn keeps gates as this engine does (LSTM i f g o, GRU r z n, the reset after the product), so
nothing is reordered; what these functions add is that every array is found, fits and is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFormatError

State = Mapping[str, NDArray[Any]]


def lstm(
    state: State, prefix: str, *, layer: int | None = 0, reverse: bool = False
) -> dict[str, NDArray[Any]]:
    """One direction of one layer of torch.nn.LSTM: for `encoder.lstm` or `decoder.lstm_cell`.

    prefix: the module's name in the state dict, such as "encoder.rnn"; "" where the state dict is
    the module's own. layer: from 0; None for torch.nn.LSTMCell. reverse: the backward direction.
    Gives weight_ih (4H, I), weight_hh (4H, H or P), bias_ih and bias_hh (4H) where there are, and
    projection (P, H). Raises ModelFormatError naming what is missing or does not fit.
    """
    return _cell(state, prefix, 4, layer, reverse)


def gru(
    state: State, prefix: str, *, layer: int | None = 0, reverse: bool = False
) -> dict[str, NDArray[Any]]:
    """As `lstm`, of torch.nn.GRU or GRUCell: weight_ih (3H, I), weight_hh (3H, H), biases (3H).
    The builder's `reset="after"`, its default, is PyTorch's."""
    return _cell(state, prefix, 3, layer, reverse)


def rnn(
    state: State, prefix: str, *, layer: int | None = 0, reverse: bool = False
) -> dict[str, NDArray[Any]]:
    """As `lstm`, of torch.nn.RNN or RNNCell: weight_ih (H, I), weight_hh (H, H), biases (H). The
    nonlinearity is not in a state dict: the builder's `activation` is tanh unless told."""
    return _cell(state, prefix, 1, layer, reverse)


def linear(state: State, prefix: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """weight (O, I) and bias (O) or None of torch.nn.Linear, for `d.linear(x, *linear(...))`."""
    weight = _array(state, f"{_dotted(prefix)}weight", 2)
    name = f"{_dotted(prefix)}bias"
    bias = _array(state, name, 1) if name in state else None
    if bias is not None and len(bias) != len(weight):
        raise ModelFormatError(f"{name} has {len(bias)} numbers, the weight {len(weight)} rows")
    return weight, bias


def embedding(state: State, prefix: str) -> NDArray[Any]:
    """weight (V, E) of torch.nn.Embedding."""
    return _array(state, f"{_dotted(prefix)}weight", 2)


def _cell(
    state: State, prefix: str, gates: int, layer: int | None, reverse: bool
) -> dict[str, NDArray[Any]]:
    if layer is None and reverse:
        raise ModelFormatError(f"{prefix}: a cell (layer=None) has no reverse direction")
    suffix = "" if layer is None else f"_l{layer}{'_reverse' if reverse else ''}"
    start = _dotted(prefix)
    names = {role: f"{start}{role}{suffix}" for role in ("weight_ih", "weight_hh")}
    found = {role: _array(state, name, 2) for role, name in names.items()}
    rows = {role: len(array) for role, array in found.items()}
    if rows["weight_ih"] != rows["weight_hh"] or rows["weight_ih"] % gates:
        raise ModelFormatError(
            f"{names['weight_ih']} has {rows['weight_ih']} rows and {names['weight_hh']} "
            f"{rows['weight_hh']}: both must have {gates} H, for the {gates} gates of this cell"
        )
    for role in ("bias_ih", "bias_hh"):
        name = f"{start}{role}{suffix}"
        if name in state:
            found[role] = np.reshape(state[name], -1)  # PyTorch 0.2 wrote (1, 4H)
            if found[role].shape != (rows["weight_ih"],):
                raise ModelFormatError(
                    f"{name} has shape {list(state[name].shape)}, must be [{rows['weight_ih']}]"
                )
    projection = f"{start}weight_hr{suffix}"
    if projection in state:
        found["projection"] = _array(state, projection, 2)
    elif found["weight_hh"].shape[1] * gates != rows["weight_hh"]:
        raise ModelFormatError(
            f"{names['weight_hh']} has shape {list(found['weight_hh'].shape)}, must be "
            f"[{gates} H, H]: is this another kind of cell?"
        )
    return found


def _dotted(prefix: str) -> str:
    return f"{prefix}." if prefix and not prefix.endswith(".") else prefix


def _array(state: State, name: str, dimensions: int) -> NDArray[Any]:
    if name not in state:
        near = [key for key in state if key.startswith(name.rpartition(".")[0])] or list(state)
        raise ModelFormatError(
            f"there is no array {name!r}; near it are {', '.join(near[:8]) or 'none'}"
        )
    array = state[name]
    if array.ndim != dimensions:
        raise ModelFormatError(
            f"{name} has shape {list(array.shape)}, must have {dimensions} dimensions"
        )
    return array
