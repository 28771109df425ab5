"""Word and phoneme error rates of decoded pronunciations, with and without stress.
A word is right when it equals any listed pronunciation; phonemes count to the nearest one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Rates:
    """Error rates in percent over a number of words."""

    words: int
    word_error: float
    phoneme_error: float

    def as_dict(self) -> dict[str, float]:
        """Gives the rates for JSON."""
        return asdict(self)


def edit_distance(left: Sequence[str], right: Sequence[str]) -> int:
    """Counts the insertions, deletions and substitutions between two sequences."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def without_stress(phonemes: Sequence[str]) -> tuple[str, ...]:
    """Removes the stress digit of every vowel."""
    return tuple(p.rstrip("012") for p in phonemes)


def rate(
    decoded: Sequence[Sequence[str]], listed: Sequence[Sequence[Sequence[str]]], stress: bool
) -> Rates:
    """Compares each decoded pronunciation with the listed ones of its word."""
    wrong = edits = length = 0
    for said, references in zip(decoded, listed, strict=True):
        one = tuple(said) if stress else without_stress(said)
        options = [tuple(r) if stress else without_stress(r) for r in references]
        distance, nearest = min((edit_distance(one, r), i) for i, r in enumerate(options))
        wrong += distance > 0
        edits += distance
        length += len(options[nearest])
    return Rates(len(decoded), 100 * wrong / len(decoded), 100 * edits / length)
