"""Weights of the reference in int8 and bfloat16: rounded as the engine rounds them, and for int8
the inputs of their products, too. Knows arrays; never graphs, models or the core."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Float64 = NDArray[np.float64]
_LEAST = np.float32(2.0**-100)


def quantised(x: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Integers of -127 to 127, and a scale for each row: x is about integers times scale.

    The scale is the largest magnitude of the row over 127, all in float32 (docs/architecture.md).
    """
    rows = np.asarray(x, np.float32)
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=np.float32(0))
    counts = largest >= _LEAST
    inverse = np.where(counts, np.float32(127) / np.where(counts, largest, np.float32(1)), 0)
    return np.rint(rows * inverse.astype(np.float32)), largest / np.float32(127)


def nearest_bfloat16(x: NDArray[Any]) -> NDArray[np.float32]:
    """Rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


class _Int8(np.ndarray):
    """A matrix whose product quantises what it is multiplied with, from column `front` on."""

    front: int

    def __array_finalize__(self, other: object) -> None:
        self.front = getattr(other, "front", 0)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        plain = [np.asarray(value) for value in inputs]
        if ufunc is np.matmul:
            plain = [
                plain[n] if isinstance(value, _Int8) else _rounded(plain[n], self.front)
                for n, value in enumerate(inputs)
            ]
        return getattr(ufunc, method)(*plain, **keywords)


def _rounded(x: NDArray[Any], front: int) -> Float64:
    integers, scale = quantised(x[..., front:])
    rounded = integers.astype(np.float64) * scale.astype(np.float64)
    return np.concatenate([x[..., :front].astype(np.float64), rounded], axis=-1)


def typed(weight: NDArray[np.float32], type_: str, front: int) -> Float64:
    """A weight in float64 as the engine multiplies it; its first `front` columns stay float32."""
    if type_ not in ("float32", "bfloat16", "int8"):
        raise InputError(f"the compute type {type_!r} must be float32, bfloat16 or int8")
    wide = np.array(weight, np.float64)
    if type_ == "bfloat16":
        wide[:, front:] = nearest_bfloat16(weight[:, front:])
    if type_ != "int8":
        return wide
    made = _rounded(weight, front).view(_Int8)
    made.front = front
    return made
