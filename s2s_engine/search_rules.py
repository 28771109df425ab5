"""The rules of a search by name, and the sets of them that programs follow (docs/search.md). Knows
words and how lengths are scored; never tokens, beams or the other options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .portable import logarithm, power

ENDED = ("leave", "leading", "place", "shrink", "stay", "expand")
STOP = ("best", "count", "top", "both", "head", "first", "places", "empty")
COUNTING = ("count", "both")
LIMIT = ("compete", "fill", "end", "done", "again", "closed")
STANDING = ("done", "again", "closed")  # what has a place may be a result without an end
CHOICES = {"ended": ENDED, "stop": STOP, "limit": LIMIT}
PENALTIES = ("power", "gnmt", "none")


@dataclass(frozen=True)
class SearchRule:
    """ended: what becomes of a hypothesis that ends. stop: when a sentence is done. limit: which
    hypotheses are results besides those that end."""

    ended: str = "leave"
    stop: str = "best"
    limit: str = "compete"

    def __post_init__(self) -> None:
        for name, words in CHOICES.items():
            if getattr(self, name) not in words:
                raise InputError(
                    f"search: {name} is {getattr(self, name)!r}, must be one of {', '.join(words)}"
                )

    def limit_counts(self, ends: int) -> bool:
        """Whether `limit` may make a result of a hypothesis that holds so many ends."""
        if self.limit == "again":
            return True
        return ends < 2 if self.limit in STANDING else ends == 0

    @staticmethod
    def of(value: object) -> SearchRule:
        """A rule from itself or a mapping; `limit` may be left out."""
        if isinstance(value, SearchRule):
            return value
        if not isinstance(value, Mapping):
            raise InputError(
                f"search is {value!r}, must be a mapping with 'ended' and 'stop', or give "
                "early_stop a name"
            )
        for name in value:
            if name not in CHOICES:
                raise InputError(f"search has no {name!r}; it has ended, stop and limit")
        for name in ("ended", "stop"):
            if name not in value:
                raise InputError(f"search is without {name!r}, must have ended and stop")
        return SearchRule(**value)


# What `early_stop` may name.
PRESETS = {
    "exact": SearchRule("leave", "best"),
    "patience": SearchRule("leave", "count"),
    "opennmt": SearchRule("place", "top", "fill"),
    "fairseq": SearchRule("leading", "count", "end"),
    "marian": SearchRule("shrink", "empty"),
    "joeynmt": SearchRule("expand", "places"),
}


def score_of(log_prob: float, length: int, kind: str, alpha: float, offset: int = 0) -> float:
    """A log-probability over its length penalty; `length` counts ids and the end token.

    With n = length + offset, power: n ** alpha. gnmt: ((5 + n) / 6) ** alpha (Wu et al. 2016,
    eq. 14).
    """
    if kind == "none" or alpha == 0 or length == 0:
        return log_prob
    n = length + offset
    base = float(n) if kind == "power" else (5.0 + n) / 6.0
    return log_prob / power(base, float(alpha))


def coverage_of(alignments: Sequence[NDArray[Any]]) -> float:
    """Wu et al. 2016, eq. 14, without beta: the sum over source positions i of
    log(min(sum_j a_ij, 1)). A step j gives (S, heads) weights, of which a_ij is the mean; a sum
    below 2^-126 counts as that."""
    covered = [0.0] * (alignments[0].shape[0] if alignments else 0)
    for weights in alignments:
        for i, heads in enumerate(weights.astype(np.float32).tolist()):
            weight = 0.0
            for head in heads:
                weight += head
            covered[i] += weight / len(heads)
    total = 0.0
    for value in covered:
        total += logarithm(min(max(value, 2.0**-126), 1.0))[0]
    return total
