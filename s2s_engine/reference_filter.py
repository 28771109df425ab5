"""What options do to the logits of a row, in plain Python as a specification: repetition, n-grams,
what is forbidden and allowed, draws. Knows one row and the ids before it; never beams or models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constraints import Constraints
from .errors import InputError
from .portable import exponential

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Sampling:
    """Probabilities are those of logits / temperature, over the `topk` likeliest ids (0: all), and
    of these over the fewest whose sum reaches `topp`."""

    temperature: float
    topk: int
    topp: float
    seed: int


def adjusted(logits: NDArray[Any], constraints: Constraints, ids: Sequence[int]) -> NDArray[Any]:
    """Logits of ids that were generated before, divided above 0 and multiplied below (Keskar et
    al. 2019, "CTRL", section 4.1, with the division by a negative logit turned round)."""
    if constraints.repetition_penalty == 1:
        return logits
    changed = logits.copy()
    seen = sorted(set(ids))
    penalty = constraints.repetition_penalty
    changed[seen] = np.where(changed[seen] > 0, changed[seen] / penalty, changed[seen] * penalty)
    return changed


def possible(size: int, constraints: Constraints, ids: Sequence[int]) -> NDArray[np.bool_]:
    """(V): what may follow these ids."""
    open_ = np.ones(size, bool)
    open_[list(constraints.suppressed)] = False
    n = constraints.no_repeat_ngram_size
    for i in range(len(ids) - n + 1 if n else 0):
        if list(ids[i : i + n - 1]) == list(ids[len(ids) - n + 1 :]):
            open_[ids[i + n - 1]] = False
    if constraints.automaton is not None:
        open_ &= _only(size, constraints.automaton.allowed(ids, constraints.end))
    if constraints.continuations is not None:
        open_ &= _only(size, constraints.continuations(list(ids)))
    return open_


def _only(size: int, ids: Iterable[int]) -> NDArray[np.bool_]:
    only = np.zeros(size, bool)
    for id_ in ids:
        if not 0 <= id_ < size:
            raise InputError(
                f"allowed_tokens gave the id {id_}, outside the target vocabulary of {size} ids"
            )
        only[id_] = True
    return only


def uniform(seed: int, sample: int, step: int) -> float:
    """A number in [0, 1): a counter hashed by the finaliser of splitmix64 (Steele et al. 2014)."""
    x = _mixed(_mixed(_mixed(seed) + sample & _MASK) + step & _MASK)
    return (x >> 11) * 2.0**-53


def _mixed(x: int) -> int:
    x = x + 0x9E3779B97F4A7C15 & _MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)


def drawn(logits: NDArray[Any], sampling: Sampling, number: float) -> int | None:
    """The id on which a number in [0, 1) falls; ids lie in their order, each as wide as its
    probability. None where every logit is -inf."""
    values = {i: float(x) for i, x in enumerate(logits) if x > -np.inf}
    if not values:
        return None
    best = max(values.values())
    weights = {i: exponential((x - best) / sampling.temperature) for i, x in values.items()}
    likeliest = sorted(values, key=lambda i: (-values[i], i))[: sampling.topk or None]
    total = _total(weights, likeliest)
    if sampling.topp < 1:
        reached, fewest = 0.0, list[int]()
        for i in likeliest:
            if reached < sampling.topp * total:
                fewest.append(i)
                reached += weights[i]
        likeliest = fewest
        total = _total(weights, likeliest)
    reached = 0.0
    for i in sorted(likeliest):
        reached += weights[i]
        if reached > number * total:
            return i
    return max(likeliest)


def _total(weights: dict[int, float], ids: Sequence[int]) -> float:
    """Added in the order of the ids."""
    total = 0.0
    for i in sorted(ids):
        total += weights[i]
    return total
