"""What a caller passes, read strictly: strings, ids and feature arrays become the encoder's inputs,
and ids become strings again. Knows one model's vocabularies and source rule; never its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._core import IdReader
from .errors import InputError, InputTooLongError
from .graph import BUILT_IN, Graph
from .model import Model
from .operations import ValueType
from .results import tokens_of

MAX_INPUT_LENGTH = 10_000
# One encoder input as read: an id, one id per position, or features (D) or (S, D) in float32.
Input: TypeAlias = "int | list[int] | NDArray[np.float32]"
_STRINGS: set[type] = {str}
_INTEGERS: set[type] = {int}


class Vocabulary:
    """The ids of one input or of the target. Of a string held twice, the later id wins.

    `noun` is what messages call a caller's list ("input"), `owner` whose ids they are ("source").
    """

    def __init__(
        self,
        noun: str,
        owner: str,
        size: int,
        words: Sequence[str] | None,
        *,
        unknown: int | None = None,
        characters: bool = False,
    ) -> None:
        self.noun, self.owner, self.size = noun, owner, size
        self.words = words
        self._unknown, self._characters = unknown, characters
        self.index = {word: number for number, word in enumerate(words or ())}

    def ids(self, x: object) -> list[int]:
        """The ids of a list of strings, a list of ids or a 1-D integer array; InputError names
        the token that is none of them."""
        if isinstance(x, str):
            if not self._characters:
                raise InputError(
                    f"the {self.noun} is the string {_short(x)}: pass a list of tokens "
                    "(list(text) where tokens are characters)"
                )
            x = list(x)
        if isinstance(x, (list, tuple)):
            return self._list(x)
        if isinstance(x, np.ndarray):
            return self._array(x)
        raise InputError(
            f"the {self.noun} is {_short(x)} ({type(x).__name__}): pass a list of strings, a list "
            "of ids or a 1-D integer array"
        )

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The strings of ids; the ids as strings where there is no vocabulary."""
        return tokens_of(ids, self.words)

    def _list(self, items: list[Any] | tuple[Any, ...]) -> list[int]:
        types = set(map(type, items))
        if types == _STRINGS:
            found = list(map(self.index.get, items))
            if None not in found:
                return found  # type: ignore[return-value]  # no None among them
        elif types == _INTEGERS and min(items) >= 0 and max(items) < self.size:
            return list(items)
        return [self._one(number, item, items[0]) for number, item in enumerate(items)]

    def _one(self, number: int, item: object, first: object) -> int:
        where = f"token {number} of the {self.noun} is {_short(item)}"
        is_string = isinstance(item, str)
        if not is_string and (
            isinstance(item, (bool, np.bool_)) or not isinstance(item, (int, np.integer))
        ):
            raise InputError(f"{where} ({type(item).__name__}), must be a string or an integer id")
        if is_string != isinstance(first, str):
            raise InputError(
                f"{where}, but token 0 is {_short(first)}: pass all strings or all ids"
            )
        return self._string(where, str(item)) if is_string else self._id(number, int(str(item)))

    def _string(self, where: str, word: str) -> int:
        if self.words is None:
            raise InputError(f"{where}, but the model has no {self.owner} vocabulary: pass ids")
        found = self.index.get(word, self._unknown)
        if found is None:
            raise InputError(f"{where}, not one of the {self.size} strings of the {self.owner} "
                             "vocabulary, which has no unknown token")  # fmt: skip
        return found

    def _id(self, number: int, value: int) -> int:
        if not 0 <= value < self.size:
            raise InputError(
                f"token {number} of the {self.noun} is {value}, outside the {self.owner} "
                f"vocabulary of {self.size} ids (0..{self.size - 1})"
            )
        return value

    def _array(self, array: NDArray[Any]) -> list[int]:
        if array.ndim != 1:
            raise InputError(
                f"the {self.noun} is an array of shape {array.shape}, must be 1-D: pass one "
                "sequence at a time (decode_batch takes a list of them)"
            )
        if array.dtype.kind not in "iu":
            raise InputError(
                f"the {self.noun} is an array of {array.dtype}, must be of an integer type"
            )
        if array.size and not (array.min() >= 0 and array.max() < self.size):
            number = int(np.flatnonzero((array < 0) | (array >= self.size))[0])
            self._id(number, int(array[number]))
        ids: list[int] = array.tolist()
        return ids


class Inputs:
    """Reads the arguments of every call on one model."""

    def __init__(self, model: Model, max_input_length: int = MAX_INPUT_LENGTH) -> None:
        self.max_input_length = max_input_length
        self._rule = model.source
        encoder = model.graphs.get("encoder", Graph())
        self._types: dict[str, ValueType] = {
            name: type_ for name, type_ in encoder.inputs.items() if name not in BUILT_IN["encoder"]
        }
        self._vocabularies = {
            name: _source_vocabulary(model, name, type_)
            for name, type_ in self._types.items()
            if type_.kind in ("id", "ids")
        }
        along = [name for name, type_ in self._types.items() if type_.kind in ("ids", "sequence")]
        # decode(x) is the first input with positions.
        self.main = along[0] if along else None
        self._target = _target_vocabulary(model)
        self._start = model.start
        # Without an encoder, decode(x) continues x, which is made of target ids.
        self._prompt = None if "encoder" in model.graphs else _target_vocabulary(model, "prompt")
        self._position = encoder.inputs.get("position")

    def source(self, x: object, name: str | None = None, *, prepared: bool = False) -> list[int]:
        """Caller's x to the ids that the encoder reads: the rule of the model is applied unless
        `prepared`. `name` is an input of kind ids, by default the main one."""
        name = self.main if name is None else name
        if name is None or name not in self._vocabularies:
            raise InputError(f"{_name_of(name)} does not take ids; the model's inputs are {self}")
        vocabulary = self._vocabularies[name]
        if isinstance(x, (list, tuple, str, np.ndarray)):
            self._check_length(vocabulary.noun, np.size(x) if isinstance(x, np.ndarray) else len(x))
        ids = vocabulary.ids(x)
        if not ids:
            raise InputError(f"the {vocabulary.noun} is empty, must hold at least one token")
        if not prepared:
            ids = self._rule.prepare(ids)
            if name != "tokens":  # the model's check covers the rule's ids for tokens only
                ids = vocabulary.ids(ids)
        if self._position is not None and len(ids) > self._position.size:
            raise InputTooLongError(
                f"the {vocabulary.noun} has {len(ids)} tokens once prepared, more than the "
                f"{self._position.size} positions of this model"
            )
        return ids

    def id_reader(self, *, prepared: bool = False) -> IdReader | None:
        """The core's reader of lists of ids or strings, for a model that takes nothing else and
        whose rule only adds ids; None for others."""
        if self.main is None or list(self._types) != [self.main] or self._prompt is not None:
            return None
        vocabulary, rule = self._vocabularies.get(self.main), self._rule
        if vocabulary is None or rule.truncate is not None or rule.pad is not None or rule.reverse:
            return None
        prepend, append = ((), ()) if prepared else (rule.prepend, rule.append)
        if max(prepend + append, default=0) >= vocabulary.size:
            return None
        longest = self.max_input_length
        if self._position is not None:
            longest = min(longest, self._position.size - len(prepend) - len(append))
        words = vocabulary.index
        return IdReader(vocabulary.size, list(prepend), list(append), longest, words)

    def prompt(
        self,
        x: object = None,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
    ) -> list[int]:
        """Caller's x of a model without an encoder: the target ids that are fed behind the start,
        none for None. No source rule applies."""
        if inputs or features is not None or isinstance(x, Mapping):
            raise InputError(
                "this model has no encoder: pass a prompt as the first argument, alone"
            )
        if self._prompt is None:
            raise InputError("this model has an encoder: it takes a source and no prompt")
        if isinstance(x, (list, tuple, str, np.ndarray)):
            self._check_length("prompt", np.size(x) if isinstance(x, np.ndarray) else len(x))
        ids = [] if x is None else self._prompt.ids(x)
        if not ids and self._start is None:
            raise InputError(
                "the prompt is empty, must hold at least one token: this model has no start id"
            )
        return ids

    def target(self, y: object) -> list[int]:
        """Caller's target of `score` to ids, without start and end; it may be empty."""
        if self._target is None:
            raise InputError("this model has no logits: there is no target to score")
        return self._target.ids(y)

    def target_ids(self, noun: str, tokens: object) -> list[int]:
        """Target tokens that a caller gives under another name, as ids."""
        if self._target is None:
            raise InputError(f"{noun}: this model has no decoder")
        named = copy(self._target)
        named.noun = noun
        return named.ids(tokens)

    def unknown_target(self) -> int | None:
        """The target id of the string that is the source's unknown token; None without one."""
        unknown, words = self._rule.unknown, self._vocabularies.get("tokens")
        if unknown is None or words is None or words.words is None or self._target is None:
            return None
        return self._target.index.get(words.words[unknown])

    def source_words(self, given: object, ids: Sequence[int], prepared: bool) -> list[str]:
        """The caller's own strings by prepared position, where they are strings: of an unknown word
        there is no other trace. Elsewhere, and where the rule added an id, the vocabulary's."""
        if isinstance(given, Mapping):
            given = given.get(self.main)
        if not isinstance(given, (str, list, tuple)) or not all(isinstance(w, str) for w in given):
            return self.source_tokens(ids)
        if prepared:
            return list(given)
        # Ids beyond the vocabulary stand for positions while the rule moves them.
        first = self._vocabularies[str(self.main)].size
        places = self._rule.prepare([first + n for n in range(len(given))])
        return [
            given[place - first] if place >= first else self.source_tokens([place])[0]
            for place in places
        ]

    def source_tokens(self, ids: Sequence[int], name: str | None = None) -> list[str]:
        """The strings of prepared ids."""
        vocabulary = self._vocabularies.get(name or self.main or "")
        return [str(i) for i in ids] if vocabulary is None else vocabulary.tokens(ids)

    def target_tokens(self, ids: Sequence[int]) -> list[str]:
        """The strings of target ids."""
        return [str(i) for i in ids] if self._target is None else self._target.tokens(ids)

    def encoder(
        self,
        x: object = None,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
    ) -> dict[str, Input]:
        """All inputs of one call by name, checked: every declared one is there, lengths agree."""
        given = self._given(x, inputs, features)
        missing = [name for name in self._types if name not in given]
        if missing:
            raise InputError(f"the input {missing[0]!r} is missing; the model's inputs are {self}")
        read = {name: self._read(name, given[name], prepared) for name in self._types}
        if len(self._types) == 1:
            return read
        lengths = {n: np.shape(read[n])[0] for n, t in self._types.items() if _along_source(t)}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise InputError(
                f"inputs must have the same number of positions once prepared: {listed}"
            )
        return read

    def length(self, read: Mapping[str, Input]) -> int | None:
        """The source length of what `encoder` read; None without a sequence."""
        return None if self.main is None else int(np.shape(read[self.main])[0])

    def __str__(self) -> str:
        return ", ".join(f"{name} ({type_})" for name, type_ in self._types.items()) or "none"

    def _given(
        self, x: object, inputs: Mapping[str, object] | None, features: object
    ) -> dict[str, object]:
        if isinstance(x, Mapping) and inputs is None:
            x, inputs = None, x
        given = dict(inputs or {})
        for name in given:
            if name not in self._types:
                raise InputError(f"there is no input {name!r}; the model's inputs are {self}")
        arrays = [n for n, type_ in self._types.items() if type_.kind in ("vector", "sequence")]
        if features is not None and len(arrays) != 1:
            raise InputError(
                f"features= is for models with exactly one input of features; this one's inputs "
                f"are {self}: pass inputs={{name: value}}"
            )
        if x is not None and self.main is None:
            raise InputError(f"this model reads no sequence; its inputs are {self}")
        named = {self.main: x} if x is not None and self.main is not None else {}
        named |= {arrays[0]: features} if features is not None else {}
        for name, value in named.items():
            if name in given:
                raise InputError(f"the input {name!r} is given twice")
            given[str(name)] = value
        return given

    def _read(self, name: str, value: object, prepared: bool) -> Input:
        type_ = self._types[name]
        if type_.kind == "ids":
            return self.source(value, name, prepared=prepared)
        if type_.kind == "id":
            return self._vocabularies[name].ids([value])[0]
        return self._features(name, value, type_)

    def _features(self, name: str, value: object, type_: ValueType) -> NDArray[np.float32]:
        rule = f"(positions, {type_.size})" if type_.kind == "sequence" else f"({type_.size},)"
        try:
            array = np.asarray(value)
        except ValueError:
            raise InputError(f"the input {name!r} is no array; must be floats {rule}") from None
        ndim = 2 if type_.kind == "sequence" else 1
        if array.dtype.kind != "f" or array.ndim != ndim or array.shape[-1] != type_.size:
            raise InputError(
                f"the input {name!r} is an array of {array.dtype} of shape {array.shape}, must be "
                f"floats of shape {rule}"
            )
        if array.shape[0] == 0:
            raise InputError(f"the input {name!r} is empty, must hold at least one position")
        if type_.kind == "sequence":
            self._check_length(f"input {name!r}", array.shape[0])
        with np.errstate(over="ignore"):
            single = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(single).all():
            where = [int(i) for i in np.argwhere(~np.isfinite(single))[0]]
            raise InputError(
                f"the input {name!r} holds {array[tuple(where)]} at {where}, must be finite in "
                "float32"
            )
        return single

    def _check_length(self, noun: str, length: int) -> None:
        if length > self.max_input_length:
            raise InputTooLongError(
                f"the {noun} has {length} tokens, more than max_input_length, which is "
                f"{self.max_input_length}: split it, or load with a larger max_input_length"
            )


def _source_vocabulary(model: Model, name: str, type_: ValueType) -> Vocabulary:
    main = name == "tokens"
    return Vocabulary(
        "input" if main else f"input {name!r}",
        "source" if main else f"{name!r}",
        type_.size,
        model.vocabularies.get(name),
        unknown=model.source.unknown if main else None,
        characters=model.characters,
    )


def _target_vocabulary(model: Model, noun: str = "target") -> Vocabulary | None:
    words = model.vocabularies.get("target")
    if "decoder" in model.graphs:
        size = model.graphs["decoder"].inputs["token"].size
        return Vocabulary(noun, "target", size, words, characters=model.characters)
    outputs = model.graphs["encoder"].outputs
    if "logits" not in outputs:
        return None
    size = model.types()["encoder"][outputs["logits"]].size
    return Vocabulary("target", "target", size, words, characters=model.characters)


def _along_source(type_: ValueType) -> bool:
    return type_.kind in ("ids", "sequence")


def _name_of(name: str | None) -> str:
    return "this model" if name is None else f"the input {name!r}"


def _short(value: object) -> str:
    """The value for a message, cut where it is long."""
    if isinstance(value, np.generic):
        value = value.item()
    shown = repr(value[:60]) if isinstance(value, (str, list, tuple)) else repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "..."


def core_input(value: Input) -> Any:
    """An input as the core takes it: a list of ids, or rows of features."""
    if isinstance(value, int):
        return [value]
    return value if isinstance(value, list) or value.ndim == 2 else value[None, :]
