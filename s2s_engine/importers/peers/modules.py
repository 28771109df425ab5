"""torch.nn's modules filled with arrays, in float64: what the peers on PyTorch are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


def tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float64))


def numbers(values: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors as NumPy arrays."""
    return {name: value.numpy() for name, value in values.items()}


def part(w: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays below a prefix, which ends in a dot, without it."""
    return {name[len(prefix) :]: array for name, array in w.items() if name.startswith(prefix)}


def filled(module: torch.nn.Module, arrays: Arrays) -> torch.nn.Module:
    """The module in float64 with exactly these parameters by its own names."""
    module = module.double().eval()
    module.load_state_dict({name: tensor(array) for name, array in arrays.items()}, strict=True)
    return module


def embedding(table: NDArray[Any]) -> torch.nn.Module:
    return filled(torch.nn.Embedding(*table.shape), {"weight": table})


def linear(weight: NDArray[Any], bias: NDArray[Any] | None = None) -> torch.nn.Module:
    """torch.nn.Linear: weight (O, I), bias (O)."""
    outputs, inputs = weight.shape
    arrays = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return filled(torch.nn.Linear(inputs, outputs, bias=bias is not None), arrays)


def recurrent(kind: Any, layers: Sequence[Sequence[NDArray[Any]]]) -> torch.nn.Module:
    """torch.nn.GRU, LSTM or RNN, batch first, forward: per layer weight_ih, weight_hh[, biases]."""
    roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    arrays = {
        f"{role}_l{number}": array
        for number, layer in enumerate(layers)
        for role, array in zip(roles, layer, strict=False)
    }
    return stacked(kind, arrays)


def stacked(kind: Any, arrays: Arrays) -> torch.nn.Module:
    """torch.nn.GRU, LSTM or RNN, batch first, from its state dict: sizes, layers, directions and
    biases as the arrays have them."""
    hidden = arrays["weight_hh_l0"].shape[1]
    layers = sum(name.startswith("weight_ih_l") and "_rev" not in name for name in arrays)
    module = kind(
        arrays["weight_ih_l0"].shape[1],
        hidden,
        num_layers=layers,
        bias="bias_ih_l0" in arrays,
        bidirectional="weight_ih_l0_reverse" in arrays,
        batch_first=True,
    )
    return filled(
        module, {name: np.reshape(a, -1) if "bias" in name else a for name, a in arrays.items()}
    )
