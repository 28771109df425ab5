"""`DecodeOptions`: one frozen object for everything a call can ask of the search. Knows names,
ranges and defaults; never models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import floor
from typing import Any, TypeAlias

from ._core import CancelToken
from .errors import InputError
from .search_rules import PENALTIES, PRESETS, SearchRule

MaxLength: TypeAlias = "int | tuple[int, int] | str"
MAX_BEAM = 1024
MAX_STEPS = 1_000_000
MAX_PENALTY = 10.0
MAX_PATIENCE = 1000.0
MAX_SECONDS = 1e9


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How to decode; every field is a keyword of `decode` as well.

    beam_size: live hypotheses; 1 is greedy. num_hypotheses: how many to return, at most beam_size.
    max_length: generated ids including the end token: a number, (a, b) for a * source length + b,
    or "source". return_attention: keep the attention weights. early_stop: the rule of the search by
    a name of docs/search.md, or `search` with its parts; a call that gives either puts aside all
    that the model says of the rule. patience: for rules that stop at beam_size * patience ended
    hypotheses. length_penalty, length_penalty_kind: what scores are divided by. min_length: no end
    token before so many ids, itself included. timeout: seconds from the call on, after which it
    raises DecodeTimeout; cancel: a CancelToken, for DecodeCancelled. Both take effect within one
    step, with what there is so far as the error's `result`.
    The other names are fixed for later versions; setting one raises NotImplementedError.
    Raises InputError for a value out of range.
    """

    beam_size: int = 1
    num_hypotheses: int = 1
    max_length: MaxLength = 256
    return_attention: bool = False
    early_stop: str = "exact"
    search: SearchRule | Mapping[str, str] | None = None
    patience: float = 1.0
    length_penalty: float = 0.0
    length_penalty_kind: str = "power"
    coverage_penalty: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_length: int = 0
    prefix: Any = None
    suppress_tokens: Any = None
    end_tokens: Any = None
    allowed_tokens: Any = None
    beam_groups: int = 1
    diversity_penalty: float = 0.0
    exact: bool = False
    max_nodes: int | None = None
    sampling_temperature: float = 1.0
    sampling_topk: int = 1
    sampling_topp: float = 1.0
    seed: int | None = None
    replace_unknowns: bool = False
    return_logits: bool = False
    timeout: float | None = None
    cancel: CancelToken | None = None

    def __post_init__(self) -> None:
        for name in LATER:
            if getattr(self, name) != DEFAULTS[name]:
                raise NotImplementedError(f"the option {name} is not built yet")
        _whole("beam_size", self.beam_size, 1, MAX_BEAM)
        _whole("num_hypotheses", self.num_hypotheses, 1, MAX_BEAM)
        if self.num_hypotheses > self.beam_size:
            raise InputError(
                f"num_hypotheses is {self.num_hypotheses}, must be at most beam_size, "
                f"which is {self.beam_size}"
            )
        if not isinstance(self.return_attention, bool):
            raise InputError(f"return_attention is {self.return_attention!r}, must be a bool")
        object.__setattr__(self, "max_length", _max_length(self.max_length))
        if self.search is not None:
            object.__setattr__(self, "search", SearchRule.of(self.search))
        self._check_rule()
        _number("length_penalty", self.length_penalty, -MAX_PENALTY, MAX_PENALTY)
        _one_of("length_penalty_kind", self.length_penalty_kind, PENALTIES)
        check_interruption(self.timeout, self.cancel)
        _whole("min_length", self.min_length, 0, MAX_STEPS)
        if isinstance(self.max_length, int) and self.min_length > self.max_length:
            raise InputError(
                f"min_length is {self.min_length}, must be at most max_length, "
                f"which is {self.max_length}"
            )

    def _check_rule(self) -> None:
        _one_of("early_stop", self.early_stop, tuple(PRESETS))
        if self.search is not None and self.early_stop != DEFAULTS["early_stop"]:
            raise InputError(
                f"early_stop is {self.early_stop!r} and search is given too; give one of them"
            )
        _number("patience", self.patience, 0.0, MAX_PATIENCE)
        if self.rule.stop != "count":
            if self.patience != DEFAULTS["patience"]:
                raise InputError(
                    f"patience is {self.patience!r}, but this rule does not stop at a count of "
                    "hypotheses; give early_stop='patience' besides"
                )
        elif self.num_hypotheses > self.finished_limit:
            raise InputError(
                f"num_hypotheses is {self.num_hypotheses}, must be at most beam_size * patience, "
                f"which is {self.finished_limit} here"
            )

    def with_penalty(self, alpha: float | None, kind: str | None) -> DecodeOptions:
        """The same with another length penalty, where one is given."""
        given = {"length_penalty": alpha, "length_penalty_kind": kind}
        given = {name: value for name, value in given.items() if value is not None}
        return DecodeOptions.of({}, self, given)

    @property
    def rule(self) -> SearchRule:
        """The rule of the search: `search`, or what early_stop names."""
        return PRESETS[self.early_stop] if self.search is None else SearchRule.of(self.search)

    @property
    def finished_limit(self) -> int:
        """The ended hypotheses at which a rule that counts them stops: beam_size * patience,
        rounded, at least 1."""
        return max(1, floor(self.beam_size * self.patience + 0.5))

    @staticmethod
    def of(
        defaults: Mapping[str, Any], options: DecodeOptions | None, given: Mapping[str, Any]
    ) -> DecodeOptions:
        """The options of one call: keywords over an options object over a model's defaults."""
        for name in given:
            if name not in DEFAULTS:
                raise InputError(f"there is no option {name!r}; options are {', '.join(DEFAULTS)}")
        if options is None:
            return DecodeOptions(**_over(defaults, given))
        if not isinstance(options, DecodeOptions):
            raise InputError(f"options is {type(options).__name__}, must be DecodeOptions")
        return DecodeOptions(**_over(vars(options), given)) if given else options

    def rules(self) -> dict[str, Any]:
        """What tells how hypotheses end and are scored, as the core names it."""
        return {
            **vars(self.rule),
            "finished_limit": self.finished_limit,
            "min_length": self.min_length,
            "length_penalty": self.length_penalty,
            "length_penalty_kind": self.length_penalty_kind,
        }

    def limit(self, source_length: int | None) -> int:
        """The most ids that a source of this prepared length may generate."""
        if isinstance(self.max_length, int):
            return self.max_length
        if source_length is None:
            raise InputError(
                f"max_length is {self.max_length!r}, but this model reads no sequence: "
                "give a number"
            )
        if isinstance(self.max_length, str):
            return source_length
        a, b = self.max_length
        return max(1, min(a * source_length + b, MAX_STEPS))


def check_interruption(timeout: object, cancel: object) -> None:
    """InputError for what is no timeout and no token."""
    if timeout is not None:
        _number("timeout", timeout, 0.0, MAX_SECONDS)
    if cancel is not None and not isinstance(cancel, CancelToken):
        raise InputError(f"cancel is {type(cancel).__name__}, must be a CancelToken or None")


def _over(under: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Given options over others. The rule of a search is one thing: a given one replaces all of the
    other."""
    if "early_stop" in given and given.get("search") is not None:
        raise InputError(
            f"early_stop is {given['early_stop']!r} and search is given too; give one of them"
        )
    replaced = RULE if "early_stop" in given or "search" in given else ()
    return {**{name: value for name, value in under.items() if name not in replaced}, **given}


def _number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{name} is {value!r}, must be a number")
    if not low <= value <= high:
        raise InputError(f"{name} is {value}, must be {low:g} to {high:g}")


def _one_of(name: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        raise InputError(f"{name} is {value!r}, must be one of {', '.join(words)}")


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} is {value!r}, must be an integer")
    if not low <= value <= high:
        raise InputError(f"{name} is {value}, must be {low} to {high}")


def _max_length(value: object) -> MaxLength:
    if value == "source":
        return "source"
    if isinstance(value, (tuple, list)) and len(value) == 2:
        a, b = value
        _whole("max_length's factor", a, 0, MAX_STEPS)
        _whole("max_length's addend", b, 0, MAX_STEPS)
        if a + b == 0:
            raise InputError("max_length is (0, 0), must allow at least one id")
        return int(a), int(b)
    if isinstance(value, (str, tuple, list)):
        raise InputError(f"max_length is {value!r}, must be a number, a pair (a, b) or 'source'")
    _whole("max_length", value, 1, MAX_STEPS)
    return int(str(value))


DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(DecodeOptions)}
RULE = ("early_stop", "search", "patience")
BUILT = (
    "beam_size", "num_hypotheses", "max_length", "return_attention", *RULE, "length_penalty",
    "length_penalty_kind", "min_length", "timeout", "cancel",
)  # fmt: skip
LATER = tuple(name for name in DEFAULTS if name not in BUILT)
