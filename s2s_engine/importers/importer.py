"""What an importer is: whose checkpoints it recognises, the options it takes because no file holds
the fact, and how it builds a model. Knows options and their errors; never a toolkit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from ..errors import InputError, ModelFormatError
from ..model import Model
from .checkpoint import Checkpoint

MAX_VOCABULARY = 64 << 20
Trace: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Option:
    """A fact that may have to be told.

    kind: bool, int, float, str, list (of ids), or the strings that are allowed. changes: what the
    model computes differently, for messages and the documentation.
    """

    name: str
    kind: type | tuple[str, ...]
    changes: str

    def accepts(self, value: object) -> bool:
        """Whether it is a value of this option."""
        if isinstance(self.kind, tuple):
            return value in self.kind
        if self.kind is float:
            return type(value) is not bool and isinstance(value, (int, float)) and abs(value) < 3e38
        if self.kind is list:
            return isinstance(value, (list, tuple)) and all(type(one) is int for one in value)
        return type(value) is self.kind

    def read(self, text: str) -> Any:
        """The value that a command line's text says; the text itself where it says none."""
        if self.kind is bool:
            return {"true": True, "false": False}.get(text.lower(), text)
        try:
            if self.kind is list:
                return [int(part) for part in text.split(",") if part]
            return self.kind(text) if self.kind in (int, float) else text
        except ValueError:
            return text

    @property
    def values(self) -> str:
        """What may be given, as a phrase."""
        if isinstance(self.kind, tuple):
            return f"one of {', '.join(map(repr, self.kind))}"
        phrases = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
        return phrases.get(self.kind, "a list of ids")


# A list of strings, or a file: one token per line, or JSON (a list, or ids by token).
VOCABULARIES = ("source_vocabulary", "target_vocabulary")


class Options:
    """The options of one import, checked against what its importer declares."""

    def __init__(
        self, importer: Importer, given: Mapping[str, Any], where: str, *, as_text: bool = False
    ) -> None:
        self._importer, self._where = importer, where
        self._declared = {option.name: option for option in importer.options}
        self.given = {name: value for name, value in given.items() if value is not None}
        if as_text:
            for name in self._declared.keys() & self.given.keys():
                self.given[name] = self._declared[name].read(self.given[name])
        for name, value in self.given.items():
            if name in VOCABULARIES:
                continue
            option = self._declared.get(name)
            if option is None:
                known = ", ".join([*self._declared, *VOCABULARIES])
                raise InputError(
                    f"importer {importer.name} has no option {name!r}; its options are {known}"
                )
            if not option.accepts(value):
                raise InputError(
                    f"importer {importer.name}: option {name} is {value!r}, must be {option.values}"
                )

    def get(self, name: str, default: Any = None) -> Any:
        """An option that has a default: a toolkit's own, or what the file says."""
        assert name in self._declared
        return self.given.get(name, default)

    def require(self, name: str) -> Any:
        """An option that nothing in the file tells."""
        option = self._declared[name]
        if name not in self.given:
            raise InputError(
                f"{self._where}: importer {self._importer.name} needs the option {name} "
                f"({option.values}): the checkpoint does not say, and it changes {option.changes}"
            )
        return self.given[name]

    def vocabulary(
        self, side: str, size: int, stored: Sequence[str] | Path | None = None
    ) -> list[str] | None:
        """The strings of "source" or "target" by id: as the option says, else as stored in the
        checkpoint or a file beside it; None without either. There must be `size` of them."""
        value = self.given.get(f"{side}_vocabulary", stored)
        if value is None:
            return None
        where = f"{self._where}: the {side} vocabulary"
        if isinstance(value, (str, os.PathLike)):
            where, value = f"{where} ({os.fspath(value)})", read_vocabulary(Path(value))
        words = list(value)
        if not all(isinstance(word, str) for word in words):
            raise InputError(f"{where} must be strings")
        if len(words) != size:
            raise InputError(f"{where} has {len(words)} strings, must have {size}, one for each id")
        return words

    def vocabularies(
        self,
        source: int | None,
        target: int | None,
        stored: Mapping[str, Sequence[str] | Path | None] | None = None,
    ) -> dict[str, list[str]]:
        """Those that are known, by a model's names for them ("tokens", "target"), as `vocabulary`
        finds them: of these sizes, None where there is no such side; stored: by side."""
        found = {}
        for name, side, size in (("tokens", "source", source), ("target", "target", target)):
            if size is not None:
                found[name] = self.vocabulary(side, size, (stored or {}).get(side))
        return known(found)


def known(words: Mapping[str, list[str] | None]) -> dict[str, list[str]]:
    """Without the vocabularies that nothing told."""
    return {name: listed for name, listed in words.items() if listed is not None}


class Peer(Protocol):
    """The program a checkpoint comes from, or its modules, run beside the model.

    framework: name and version. trace: what it computes for prepared encoder inputs by name and
    target ids behind the start id, under names of the model: `encoder.<output>` (S, D) or (D),
    `decoder.<output or state>` (steps, ...) with steps = len(target) + 1, a state's after the step,
    `decoder.alignment` (steps, S) or (steps, heads, S);
    `decoder.logits` (or `encoder.logits` of a model without a decoder) is always among them, or,
    of a program that shows no more, `decoder.token_log_probs` (steps) of the target and the end.
    """

    framework: str

    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace: ...


@dataclass(frozen=True)
class Importer:
    """One toolkit's, or one framework's, checkpoints.

    title, reads, refuses: for the table of the documentation. recognises: whether a checkpoint is
    of this kind, by its format and names alone. build: the model, beam rule and ids as the toolkit
    has them. peer: None where no program can be run beside it.
    """

    name: str
    title: str
    reads: str
    refuses: str
    recognises: Callable[[Checkpoint], bool]
    build: Callable[[Checkpoint, Options], Model]
    options: tuple[Option, ...] = ()
    peer: Callable[[Checkpoint, Options], Peer] | None = None


def read_vocabulary(path: Path) -> list[str]:
    """The strings of a vocabulary file by id: one per line (what stands behind a tab or the last
    space before a number is left out: `word count`), or JSON: a list, or ids by string."""
    size = path.stat().st_size
    if size > MAX_VOCABULARY:
        raise ModelFormatError(f"{path} has {size} bytes, a vocabulary at most {MAX_VOCABULARY}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{path}: no UTF-8 text: {error}") from None
    if path.suffix != ".json":
        return text.removesuffix("\n").split("\n")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: no JSON: {str(error)[:200]}") from None
    if isinstance(value, dict):
        value = by_id(value, str(path))
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ModelFormatError(f"{path} must hold a list of strings, or ids by string")
    return value


def by_id(ids: Mapping[str, Any], where: str) -> list[str]:
    """The strings in the order of their ids, which must be 0, 1, 2, ..."""
    if sorted(map(str, ids.values())) != sorted(map(str, range(len(ids)))):
        raise ModelFormatError(f"{where}: the ids must be 0 to {len(ids) - 1}, each once")
    return [word for word, _ in sorted(ids.items(), key=lambda pair: int(pair[1]))]
