"""Which weights a model of PyTorch modules reads, so that none is left unread. Knows names of
torch.nn; never a toolkit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .checkpoint import Checkpoint

ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
SHOWN = 6


def layers(w: Mapping[str, Any], prefix: str) -> int:
    """The layers of a torch.nn.LSTM or GRU (`<prefix>.weight_ih_l0`, ...) or of a list of cells
    (`<prefix>.0.weight_ih`, ...)."""
    count = 0
    while f"{prefix}.weight_ih_l{count}" in w or f"{prefix}.{count}.weight_ih" in w:
        count += 1
    return count


def recurrent(w: Mapping[str, Any], prefix: str) -> set[str]:
    """The names of all weights of these layers."""
    count = layers(w, prefix)
    if f"{prefix}.weight_ih_l0" not in w:
        return {f"{prefix}.{k}.{role}" for k in range(count) for role in ROLES}
    ends = ["", "_reverse"] if f"{prefix}.weight_ih_l0_reverse" in w else [""]
    return {f"{prefix}.{role}_l{k}{end}" for k in range(count) for role in ROLES for end in ends}


def check(
    checkpoint: Checkpoint, w: Mapping[str, Any], names: Iterable[str], gates: Sequence[int]
) -> None:
    """Refuses weights that are missing, those that the model would not read, and shapes that no
    module has: a cell's must have one of these numbers of gates (4 an LSTM, 3 a GRU)."""
    read = set(names)
    for kind, found in (
        ("has no weight", sorted(read - w.keys())),
        ("holds a weight that such a model has no place for:", sorted(w.keys() - read)),
    ):
        if found:
            shown = ", ".join(name[:80] for name in found[:SHOWN])
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise checkpoint.refuse(f"{kind} {shown}{more}")
    for name in sorted(read):
        shape = np.shape(w[name])
        leaf = name.rpartition(".")[2]
        dimensions = 1 if leaf.startswith("bias") else 2
        if len(shape) != dimensions or not all(shape):
            raise checkpoint.refuse(
                f"{name} has the shape {shape}, must have {dimensions} dimensions, none of them 0"
            )
        if leaf.startswith("weight_hh") and shape[0] not in [count * shape[1] for count in gates]:
            raise checkpoint.refuse(
                f"{name} has the shape {shape}, must have {' or '.join(map(str, gates))} times as "
                "many rows as columns"
            )
