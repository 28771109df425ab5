"""Keras layers on PyTorch in float64 with given arrays in canonical layout, as oracles. Knows
Keras's layouts; nothing of the engine."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest


def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")


def _weights(w: Any, name: str, order: list[int]) -> list[Any]:
    """kernel (I, G H), recurrent_kernel (H, G H) with the gates in Keras's order, biases."""
    roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    arrays = [np.asarray(w[f"{name}.{r}"], np.float64) for r in roles if f"{name}.{r}" in w]
    blocks = [np.split(array, len(order)) for array in arrays]
    return [np.concatenate([one[k] for k in order]).T for one in blocks]


def lstm(w: Any, name: str, **options: Any) -> Any:
    """Gates i, f, c, o; one bias, the sum of what is given."""
    kernel, recurrent, *biases = _weights(w, name, [0, 1, 2, 3])
    layer = keras().layers.LSTM(len(recurrent), use_bias=bool(biases), dtype="float64", **options)
    layer.build((None, None, len(kernel)))
    layer.set_weights([kernel, recurrent, *([sum(biases)] if biases else [])])
    return layer


def gru(w: Any, name: str, *, reset_after: bool = True, **options: Any) -> Any:
    """Gates z, r, h; two biases with reset_after, else one."""
    kernel, recurrent, *biases = _weights(w, name, [1, 0, 2])
    layer = keras().layers.GRU(
        len(recurrent),
        reset_after=reset_after,
        use_bias=bool(biases),
        dtype="float64",
        **options,
    )
    layer.build((None, None, len(kernel)))
    bias = [np.stack(biases) if reset_after else sum(biases)] if biases else []
    layer.set_weights([kernel, recurrent, *bias])
    return layer


def dense(w: Any, name: str) -> Any:
    weight = np.asarray(w[f"{name}.weight"], np.float64)
    layer = keras().layers.Dense(len(weight), use_bias=f"{name}.bias" in w, dtype="float64")
    layer.build((None, weight.shape[1]))
    layer.set_weights([weight.T, *([w[f"{name}.bias"]] if f"{name}.bias" in w else [])])
    return layer


def run(layer: Any, *inputs: Any) -> list[Any]:
    """The outputs for a batch of one, without the batch axis."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own calls of NumPy
        found = layer(*(np.asarray(x, np.float64)[None] for x in inputs))
    outputs = found if isinstance(found, (list, tuple)) else [found]
    return [one.detach().numpy()[0] for one in outputs]
