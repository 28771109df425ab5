"""What `max_length` may be: a number of ids, or a function of the source's length in whole numbers.
Knows ranges and arithmetic; never sources or models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .errors import InputError

MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class LengthLimit:
    """numerator * source length / denominator + addend, rounded down, and not above `most`."""

    numerator: int
    denominator: int
    addend: int = 0
    most: int = MAX_STEPS

    def __post_init__(self) -> None:
        whole("max_length's numerator", self.numerator, 0, MAX_STEPS)
        whole("max_length's denominator", self.denominator, 1, MAX_STEPS)
        whole("max_length's addend", self.addend, 0, MAX_STEPS)
        whole("max_length's most", self.most, 1, MAX_STEPS)
        if self.numerator + self.addend == 0:
            raise InputError("max_length's numerator and addend are 0, must allow at least one id")

    def of(self, source_length: int) -> int:
        """The most ids of a source of this length, at least 1."""
        ids = self.numerator * source_length // self.denominator + self.addend
        return max(1, min(ids, self.most))


MaxLength: TypeAlias = "int | tuple[int, int] | str | LengthLimit"
FIELDS = ("numerator", "denominator", "addend", "most")


def max_length(value: object) -> MaxLength:
    """A checked max_length; InputError names what is wrong with any other."""
    if value == "source" or isinstance(value, LengthLimit):
        return value
    if isinstance(value, Mapping):
        for name in value:
            if name not in FIELDS:
                raise InputError(f"max_length has no {name!r}; it has {', '.join(FIELDS)}")
        for name in FIELDS[:2]:
            if name not in value:
                raise InputError(
                    f"max_length is without {name!r}, must have numerator and denominator"
                )
        return LengthLimit(**value)
    if isinstance(value, (tuple, list)) and len(value) == 2:
        a, b = value
        whole("max_length's factor", a, 0, MAX_STEPS)
        whole("max_length's addend", b, 0, MAX_STEPS)
        if a + b == 0:
            raise InputError("max_length is (0, 0), must allow at least one id")
        return int(a), int(b)
    if isinstance(value, (str, tuple, list)):
        raise InputError(
            f"max_length is {value!r}, must be a number, a pair (a, b), a mapping with numerator "
            "and denominator, or 'source'"
        )
    whole("max_length", value, 1, MAX_STEPS)
    return int(str(value))


def ids_allowed(limit: MaxLength, source_length: int | None) -> int:
    """The most ids that a source of this prepared length may generate."""
    if isinstance(limit, int):
        return limit
    if source_length is None:
        raise InputError(
            f"max_length is {limit!r}, but this model reads no sequence: give a number"
        )
    return as_limit(limit).of(source_length)


def as_limit(limit: MaxLength) -> LengthLimit:
    """The same, written out: a number is an addend, "source" once the length."""
    if isinstance(limit, LengthLimit):
        return limit
    if isinstance(limit, int):
        return LengthLimit(0, 1, limit)
    a, b = (1, 0) if isinstance(limit, str) else limit
    return LengthLimit(a, 1, b)


def whole(name: str, value: object, low: int, high: int) -> None:
    """InputError for anything but an integer of this range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} is {value!r}, must be an integer")
    if not low <= value <= high:
        raise InputError(f"{name} is {value}, must be {low} to {high}")
