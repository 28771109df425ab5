"""`DecodeOptions`: one frozen object for everything a call can ask of the search. Knows names,
ranges and defaults; never models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from .errors import InputError

MaxLength: TypeAlias = "int | tuple[int, int] | str"
MAX_BEAM = 1024
MAX_STEPS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How to decode; every field is a keyword of `decode` as well.

    beam_size: live hypotheses; 1 is greedy. num_hypotheses: how many to return, at most beam_size.
    max_length: generated ids including the end token: a number, (a, b) for a * source length + b,
    or "source". return_attention: keep the attention weights.
    The other names are fixed for later versions; setting one raises NotImplementedError.
    Raises InputError for a value out of range.
    """

    beam_size: int = 1
    num_hypotheses: int = 1
    max_length: MaxLength = 256
    return_attention: bool = False
    early_stop: str = "exact"
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
    cancel: Any = None

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

    @staticmethod
    def of(
        defaults: Mapping[str, Any], options: DecodeOptions | None, given: Mapping[str, Any]
    ) -> DecodeOptions:
        """The options of one call: keywords over an options object over a model's defaults."""
        for name in given:
            if name not in DEFAULTS:
                raise InputError(f"there is no option {name!r}; options are {', '.join(DEFAULTS)}")
        if options is None:
            return DecodeOptions(**{**defaults, **given})
        if not isinstance(options, DecodeOptions):
            raise InputError(f"options is {type(options).__name__}, must be DecodeOptions")
        return DecodeOptions(**{**vars(options), **given}) if given else options

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
BUILT = ("beam_size", "num_hypotheses", "max_length", "return_attention")
LATER = tuple(name for name in DEFAULTS if name not in BUILT)
