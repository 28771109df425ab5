"""Keras layers as the builder's weights: each function takes one layer's arrays by Keras's own
names. Knows layouts, gate orders and versions; never files, configurations or graphs.

Facts: weights of Keras are (inputs, outputs); the gates of an LSTM are i, f, c, o, those of a GRU
z, r, h; ours stand in rows, i, f, g, o and r, z, n (docs/operations.md). What an array's shape does
not tell is a keyword without a default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFormatError
from .layers import GATES, reordered

Array: TypeAlias = NDArray[Any]
# The arrays of one layer: kernel, recurrent_kernel, bias, embeddings, gamma, beta, ...
Group: TypeAlias = Mapping[str, Array]

ACTIVATIONS = {
    "linear": "identity", "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu",
    "softplus": "softplus",
}  # fmt: skip


def activation(name: str, *, keras_version: str | None) -> str:
    """The engine's name of an activation.

    hard_sigmoid is clip(0.2 x + 0.5, 0, 1) up to Keras 2 and clip(x / 6 + 0.5, 0, 1) in Keras 3.
    """
    if name == "hard_sigmoid":
        if keras_version is None:
            raise ModelFormatError(
                "activation 'hard_sigmoid' has another definition in Keras 3 than before, and the "
                "file has no keras_version: save the model with model.save of Keras 2 or 3"
            )
        return "hard_sigmoid_6" if int(keras_version.split(".")[0]) >= 3 else "hard_sigmoid"
    if name not in ACTIVATIONS:
        known = ", ".join([*ACTIVATIONS, "hard_sigmoid"])
        raise ModelFormatError(
            f"activation {name!r} is not supported; {known} are: train with one of them"
        )
    return ACTIVATIONS[name]


def lstm(group: Group) -> dict[str, Array]:
    """LSTM: kernel (I, 4H), recurrent_kernel (H, 4H), bias (4H) or none."""
    kernel, recurrent = _recurrent(group, 4)
    hidden = len(recurrent)
    cell = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
    return cell | ({"bias_ih": _shaped(group, "bias", (4 * hidden,))} if "bias" in group else {})


def gru(group: Group, *, reset_after: bool | None) -> tuple[dict[str, Array], str]:
    """GRU: kernel (I, 3H), recurrent_kernel (H, 3H), bias (2, 3H), (3H) or none; the second value
    is where the reset stands, "after" or "before" the recurrent product.

    A bias tells it: (2, 3H), on the input and on the state, with reset_after, else (3H). Without a
    bias `reset_after` must be given; with one it is checked.
    """
    kernel, recurrent = _recurrent(group, 3)
    hidden = len(recurrent)
    bias = group.get("bias")
    if bias is not None:
        told = bias.ndim == 2
        if reset_after is not None and reset_after is not told:
            raise ModelFormatError(
                f"reset_after is {reset_after}, but the bias has the shape {bias.shape}"
            )
        reset_after = told
    if reset_after is None:
        raise ModelFormatError("a GRU without biases does not tell reset_after: give it")
    cell = {"weight_ih": _rzn(kernel.T), "weight_hh": _rzn(recurrent.T)}
    if bias is not None and reset_after:
        both = _shaped(group, "bias", (2, 3 * hidden))
        cell |= {"bias_ih": _rzn(both[0]), "bias_hh": _rzn(both[1])}
    elif bias is not None:
        cell["bias_ih"] = _rzn(_shaped(group, "bias", (3 * hidden,)))
    return cell, "after" if reset_after else "before"


def simple_rnn(group: Group) -> dict[str, Array]:
    """SimpleRNN: kernel (I, H), recurrent_kernel (H, H), bias (H) or none."""
    kernel, recurrent = _recurrent(group, 1)
    cell = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
    return cell | (
        {"bias_ih": _shaped(group, "bias", (len(recurrent),))} if "bias" in group else {}
    )


def cudnn_lstm(group: Group) -> dict[str, Array]:
    """CuDNNLSTM of Keras 2: the gates of `lstm`, bias (8H): the input's, then the state's.

    Each gate's kernel is stored as (H, I) numbers in the shape (I, H), each recurrent one
    transposed.
    """
    kernel, recurrent = _uncudnn(group, 4)
    hidden = len(recurrent)
    biases = _shaped(group, "bias", (8 * hidden,))
    return {
        "weight_ih": kernel.T,
        "weight_hh": recurrent.T,
        "bias_ih": biases[: 4 * hidden] + biases[4 * hidden :],
    }


def cudnn_gru(group: Group) -> dict[str, Array]:
    """CuDNNGRU of Keras 2, whose reset always stands after the product: bias (6H); the kernels as
    in `cudnn_lstm`, the gates as in `gru`."""
    kernel, recurrent = _uncudnn(group, 3)
    hidden = len(recurrent)
    both = _shaped(group, "bias", (6 * hidden,)).reshape(2, 3 * hidden)
    whole = {"kernel": kernel, "recurrent_kernel": recurrent, "bias": both}
    return gru(whole, reset_after=True)[0]


def dense(group: Group) -> tuple[Array, Array | None]:
    """Dense: kernel (I, O), bias (O) or none, as weight (O, I) and bias."""
    kernel = _shaped(group, "kernel", (None, None))
    bias = _shaped(group, "bias", (kernel.shape[1],)) if "bias" in group else None
    return kernel.T, bias


def embedding(group: Group) -> Array:
    """Embedding: embeddings (V, D). Row 0 is a row like others, whatever mask_zero says."""
    return _shaped(group, "embeddings", (None, None))


def layer_norm(group: Group) -> tuple[Array | None, Array | None]:
    """LayerNormalization over features: gamma (D) and beta (D), either may be missing."""
    return group.get("gamma"), group.get("beta")


def batch_norm(group: Group, *, epsilon: float) -> tuple[Array, Array]:
    """BatchNormalization as it is at inference: the factor and the summand of each feature, from
    moving_mean, moving_variance (D) and, where there are any, gamma and beta."""
    mean = _shaped(group, "moving_mean", (None,)).astype(np.float64)
    variance = _shaped(group, "moving_variance", mean.shape).astype(np.float64)
    factor = np.asarray(group.get("gamma", 1.0) / np.sqrt(variance + epsilon))
    return factor, np.asarray(group.get("beta", 0.0) - mean * factor)


def _recurrent(group: Group, gates: int) -> tuple[Array, Array]:
    recurrent = _shaped(group, "recurrent_kernel", (None, None))
    wide = gates * len(recurrent)
    recurrent = _shaped(group, "recurrent_kernel", (len(recurrent), wide))
    return _shaped(group, "kernel", (None, wide)), recurrent


def _uncudnn(group: Group, gates: int) -> tuple[Array, Array]:
    kernel, recurrent = _recurrent(group, gates)
    inputs, hidden = kernel.shape[0], len(recurrent)
    return (
        np.hstack([gate.reshape(hidden, inputs).T for gate in np.hsplit(kernel, gates)]),
        np.hstack([gate.T for gate in np.hsplit(recurrent, gates)]),
    )


def _rzn(rows: Array) -> Array:
    return reordered(rows, "zrh", GATES["gru"])


def _shaped(group: Group, name: str, shape: tuple[int | None, ...]) -> Array:
    if name not in group:
        raise ModelFormatError(f"has no {name}; its arrays are {', '.join(group) or 'none'}")
    array = group[name]
    fits = array.ndim == len(shape) and all(
        want is None or want == size for want, size in zip(shape, array.shape, strict=True)
    )
    if not fits:
        want = ", ".join("any" if size is None else str(size) for size in shape)
        raise ModelFormatError(f"{name} has the shape {array.shape}, must have ({want})")
    return array
