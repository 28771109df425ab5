"""Gates and orientations: what every framework's layers have in common once they are arrays. Knows
the canonical form; never a framework's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The canonical order of the gates; the letters that others use for the same gates.
GATES = {"lstm": "ifgo", "gru": "rzn"}
OTHERS = {"c": "g", "j": "g", "u": "z", "h": "n"}


def reordered(array: NDArray[Any], order: Sequence[str], gates: str) -> NDArray[Any]:
    """The rows of `array` (G H, ...), blocks of H per gate in `order`, in the order `gates`.

    order: one letter per gate: i f g o of an LSTM (c and j are g), r z n of a GRU (u is z, h is n).
    Raises ValueError where it does not hold each gate once.
    """
    letters = [one if one in gates else OTHERS.get(one, one) for one in order]
    if not gates or sorted(letters) != sorted(gates):
        wanted = " ".join(gates) or "no gates"
        raise ValueError(f"gates are {' '.join(order)!r}, must be an order of {wanted}")
    if array.shape[0] % len(gates):
        raise ValueError(f"{array.shape[0]} rows are not {len(gates)} gates of one size")
    blocks = dict(zip(letters, np.split(array, len(gates)), strict=True))
    return np.concatenate([blocks[gate] for gate in gates])
