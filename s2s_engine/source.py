"""The source rule: what is prepended, appended, cut, padded and reversed before an encoder reads.
Knows ids and one model's rule; never graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .errors import ModelFormatError
from .graph import closed, integer
from .operations import MAX_DIMENSION


@dataclass(frozen=True)
class Padding:
    """Pads to the first length of `to` that is not shorter; longer sources stay as they are."""

    to: tuple[int, ...]
    side: Literal["left", "right"]
    id: int


@dataclass(frozen=True)
class SourceRule:
    """Applied in the order of the fields, to strings and ids alike."""

    prepend: tuple[int, ...] = ()
    append: tuple[int, ...] = ()
    truncate: int | None = None
    pad: Padding | None = None
    reverse: bool = False
    unknown: int | None = None

    def prepare(self, ids: Sequence[int]) -> list[int]:
        """The ids that the encoder reads, from the ids of a source."""
        prepared = [*self.prepend, *ids, *self.append]
        if self.truncate is not None:
            prepared = prepared[: self.truncate]
        if self.pad is not None:
            fitting = [length for length in self.pad.to if length >= len(prepared)]
            padding = [self.pad.id] * ((min(fitting) if fitting else 0) - len(prepared))
            prepared = padding + prepared if self.pad.side == "left" else prepared + padding
        return prepared[::-1] if self.reverse else prepared

    def to_json(self) -> dict[str, Any]:
        pad = self.pad
        return {
            "prepend": list(self.prepend),
            "append": list(self.append),
            "truncate": self.truncate,
            "pad": pad and {"to": list(pad.to), "side": pad.side, "id": pad.id},
            "reverse": self.reverse,
            "unknown": self.unknown,
        }

    @staticmethod
    def from_json(document: object, size: int, where: str = "source") -> SourceRule:
        """Reads a rule whose ids are below `size`."""
        keys = {"prepend", "append", "truncate", "pad", "reverse", "unknown"}
        fields = closed(document, keys, where)
        truncate, unknown, reverse = fields["truncate"], fields["unknown"], fields["reverse"]
        if not isinstance(reverse, bool):
            raise ModelFormatError(f"{where}: reverse must be true or false, is {reverse!r}")
        return SourceRule(
            prepend=ids(fields["prepend"], size, f"{where}: prepend"),
            append=ids(fields["append"], size, f"{where}: append"),
            truncate=None
            if truncate is None
            else integer(truncate, 1, MAX_DIMENSION, f"{where}: truncate"),
            pad=_padding(fields["pad"], size, f"{where}: pad"),
            reverse=reverse,
            unknown=None if unknown is None else integer(unknown, 0, size - 1, f"{where}: unknown"),
        )

    @staticmethod
    def partial(document: Mapping[str, Any], size: int) -> SourceRule:
        """Reads a rule of which some keys may be left out (the builder's form)."""
        return SourceRule.from_json({**SourceRule().to_json(), **document}, size)


def ids(value: object, size: int, where: str) -> tuple[int, ...]:
    """A JSON list of ids below `size`."""
    if not isinstance(value, (list, tuple)):
        raise ModelFormatError(f"{where} must be a list, is {type(value).__name__}")
    return tuple(integer(item, 0, size - 1, f"{where}, item {n}") for n, item in enumerate(value))


def _padding(value: object, size: int, where: str) -> Padding | None:
    if value is None:
        return None
    fields = closed(value, {"to", "side", "id"}, where)
    if not isinstance(fields["to"], list) or not fields["to"]:
        raise ModelFormatError(f"{where}: to must be a list of lengths")
    if fields["side"] not in ("left", "right"):
        raise ModelFormatError(f"{where}: side must be left or right, is {fields['side']!r}")
    return Padding(
        to=tuple(integer(n, 1, MAX_DIMENSION, f"{where}: to") for n in fields["to"]),
        side="left" if fields["side"] == "left" else "right",
        id=integer(fields["id"], 0, size - 1, f"{where}: id"),
    )
