"""Which weights a model of PyTorch modules reads, so that none is left unread. Knows names of
torch.nn; never a toolkit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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


def check(checkpoint: Checkpoint, w: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuses weights that are missing, and those that the model would not read."""
    read = set(names)
    for kind, found in (
        ("has no weight", sorted(read - w.keys())),
        ("holds a weight that such a model has no place for:", sorted(w.keys() - read)),
    ):
        if found:
            shown = ", ".join(name[:80] for name in found[:SHOWN])
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise checkpoint.refuse(f"{kind} {shown}{more}")
