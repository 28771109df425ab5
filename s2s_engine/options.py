"""`DecodeOptions`: one frozen object for everything a call can ask of the search. Knows names,
ranges and defaults; never models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import floor
from typing import Any

import numpy as np

from ._core import CancelToken
from .errors import InputError
from .length_limits import MAX_STEPS, MaxLength, ids_allowed, max_length, whole
from .search_rules import COUNTING, PENALTIES, PRESETS, SearchRule

MAX_BEAM = 1024
MAX_PENALTY = 10.0
MAX_OFFSET = 1000
MAX_PATIENCE = 1000.0
MAX_DIVERSITY = 1000.0
MAX_NODES = 1_000_000
MAX_TEMPERATURE = 1000.0
MAX_SECONDS = 1e9


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How to decode; every field is a keyword of `decode` as well.

    beam_size: live hypotheses; 1 is greedy. num_hypotheses: how many to return, at most beam_size.
    max_length: generated ids including the end token: a number, (a, b) for a * source length + b,
    "source", or a mapping with numerator, denominator, addend and most (docs/search.md).
    return_attention: keep the attention weights. early_stop: the rule of the search by a name of
    docs/search.md, or `search` with its parts; a call that gives either puts aside all that the
    model says of the rule. patience: for rules that stop at beam_size * patience ended hypotheses.
    length_penalty, length_penalty_kind, length_penalty_offset: what scores are divided by.
    coverage_penalty: beta of Wu et al. 2016, eq. 14. min_length: no end token before so many ids,
    itself included.

    Tokens below are strings or ids. prefix: what every output begins with, part of the result and
    scored; for a batch also a list of lists, one for each source. suppress_tokens: never generated.
    end_tokens: in place of the model's. allowed_tokens: a list of tokens, a list of whole outputs
    (each a list), an automaton {"transitions": {state: {token: state}}, "start": state, "final":
    [states]}, or a function of the ids so far that gives the ids that may follow (slow).
    repetition_penalty: logits of ids generated before are divided by it above 0, multiplied below.
    no_repeat_ngram_size: no n-gram of generated ids twice.

    beam_groups, diversity_penalty: diverse beam search (Vijayakumar et al. 2016); num_hypotheses of
    all groups together. sampling_topk: draw from so many likeliest ids, 0 from all, 1 takes the
    best; num_hypotheses independent samples. sampling_topp: of these from the fewest whose
    probabilities sum up to it. sampling_temperature: logits are divided by it. seed: of a draw, by
    default another at every call.

    exact: the num_hypotheses largest log-probabilities of all outputs, proven (docs/search.md);
    InputError where that takes more than max_nodes steps of a hypothesis, by default 1,000,000.

    replace_unknowns: tokens of the result that are unknown become the source's where the attention
    is largest; True, or the unknown token of the target. return_logits: the logits of every step.

    timeout: seconds from the call on, after which it raises DecodeTimeout; cancel: a CancelToken,
    for DecodeCancelled. Both take effect within one step, with what there is so far as the error's
    `result`.
    Raises InputError for a value out of range.
    """

    beam_size: int = 1
    num_hypotheses: int = 1
    max_length: MaxLength | Mapping[str, int] = 256
    return_attention: bool = False
    early_stop: str = "exact"
    search: SearchRule | Mapping[str, str] | None = None
    patience: float = 1.0
    length_penalty: float = 0.0
    length_penalty_kind: str = "power"
    length_penalty_offset: int = 0
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
    replace_unknowns: bool | str | int = False
    return_logits: bool = False
    timeout: float | None = None
    cancel: CancelToken | None = None

    def __post_init__(self) -> None:
        whole("beam_size", self.beam_size, 1, MAX_BEAM)
        whole("num_hypotheses", self.num_hypotheses, 1, MAX_BEAM)
        self._check_sampling()
        if self.num_hypotheses > self.beam_size and not self.samples:
            raise InputError(
                f"num_hypotheses is {self.num_hypotheses}, must be at most beam_size, "
                f"which is {self.beam_size}"
            )
        for name in ("return_attention", "return_logits"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r}, must be a bool")
        self._check_groups()
        self._check_exact()
        self._check_constraints()
        object.__setattr__(self, "max_length", max_length(self.max_length))
        if self.search is not None:
            object.__setattr__(self, "search", SearchRule.of(self.search))
        self._check_rule()
        _number("length_penalty", self.length_penalty, -MAX_PENALTY, MAX_PENALTY)
        _one_of("length_penalty_kind", self.length_penalty_kind, PENALTIES)
        whole("length_penalty_offset", self.length_penalty_offset, 0, MAX_OFFSET)
        check_interruption(self.timeout, self.cancel)
        whole("min_length", self.min_length, 0, MAX_STEPS)
        if isinstance(self.max_length, int) and self.min_length > self.max_length:
            raise InputError(
                f"min_length is {self.min_length}, must be at most max_length, "
                f"which is {self.max_length}"
            )
        own = 0 if is_each(self.prefix) else len(self.prefix or ())
        if isinstance(self.max_length, int) and own >= self.max_length:
            raise InputError(
                f"prefix has {own} tokens, must have fewer than max_length, "
                f"which is {self.max_length}"
            )

    def _check_sampling(self) -> None:
        whole("sampling_topk", self.sampling_topk, 0, MAX_STEPS)
        _number("sampling_topp", self.sampling_topp, 0.0, 1.0)
        _number("sampling_temperature", self.sampling_temperature, 1e-3, MAX_TEMPERATURE)
        if self.sampling_topp == 0:
            raise InputError("sampling_topp is 0, must be above 0")
        if self.seed is not None:
            whole("seed", self.seed, 0, (1 << 64) - 1)
        if self.samples:
            if self.beam_size > 1:
                raise InputError(
                    f"beam_size is {self.beam_size}, but sampling takes no beam: num_hypotheses "
                    "independent samples need beam_size 1"
                )
            return
        for name in ("sampling_temperature", "sampling_topp"):
            if getattr(self, name) != DEFAULTS[name]:
                raise InputError(
                    f"{name} is {getattr(self, name)}, but sampling_topk is 1, which takes the "
                    "best id; give sampling_topk=0 to draw from all"
                )

    def _check_groups(self) -> None:
        whole("beam_groups", self.beam_groups, 1, MAX_BEAM)
        _number("diversity_penalty", self.diversity_penalty, 0.0, MAX_DIVERSITY)
        if self.beam_size % self.beam_groups:
            raise InputError(
                f"beam_groups is {self.beam_groups}, must divide beam_size, "
                f"which is {self.beam_size}"
            )
        if self.diversity_penalty and self.beam_groups == 1:
            raise InputError(
                f"diversity_penalty is {self.diversity_penalty}, but there is one group of the "
                "beam; give beam_groups besides"
            )

    def _check_exact(self) -> None:
        if not isinstance(self.exact, bool):
            raise InputError(f"exact is {self.exact!r}, must be a bool")
        if self.max_nodes is not None:
            whole("max_nodes", self.max_nodes, 1, 1 << 40)
        if not self.exact:
            if self.max_nodes is not None:
                raise InputError(
                    f"max_nodes is {self.max_nodes}, but exact is False: only an exact search "
                    "counts nodes"
                )
            return
        for name in (*RULE, "length_penalty", "coverage_penalty", "beam_groups", "sampling_topk"):
            if getattr(self, name) != DEFAULTS[name]:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}, but exact is True: an exact search finds "
                    f"the largest log-probabilities, with {name}={DEFAULTS[name]!r}"
                )

    def _check_constraints(self) -> None:
        for name in ("prefix", "suppress_tokens", "end_tokens"):
            object.__setattr__(self, name, _tokens(name, getattr(self, name)))
        object.__setattr__(self, "allowed_tokens", _allowed(self.allowed_tokens))
        _number("coverage_penalty", self.coverage_penalty, 0.0, MAX_PENALTY)
        _number("repetition_penalty", self.repetition_penalty, 0.0, MAX_PENALTY)
        if self.repetition_penalty == 0:
            raise InputError("repetition_penalty is 0, must be above 0")
        whole("no_repeat_ngram_size", self.no_repeat_ngram_size, 0, MAX_STEPS)
        if not isinstance(self.replace_unknowns, (bool, str, int)):
            raise InputError(
                f"replace_unknowns is {self.replace_unknowns!r}, must be a bool or a token"
            )

    def _check_rule(self) -> None:
        _one_of("early_stop", self.early_stop, tuple(PRESETS))
        if self.search is not None and self.early_stop != DEFAULTS["early_stop"]:
            raise InputError(
                f"early_stop is {self.early_stop!r} and search is given too; give one of them"
            )
        _number("patience", self.patience, 0.0, MAX_PATIENCE)
        if self.rule.stop not in COUNTING:
            if self.patience != DEFAULTS["patience"]:
                raise InputError(
                    f"patience is {self.patience!r}, but this rule does not stop at a count of "
                    "hypotheses; give early_stop='patience' besides"
                )
        elif self._wanted > self.finished_limit:
            raise InputError(
                f"num_hypotheses is {self.num_hypotheses}, must be at most beam_size * patience, "
                f"which is {self.finished_limit} here"
            )

    def for_score(self, **given: Any) -> DecodeOptions:
        """What of these options changes the score of a given output; `given` that is not None over
        it."""
        kept = {name: getattr(self, name) for name in SCORING}
        kept |= {name: value for name, value in given.items() if value is not None}
        return DecodeOptions(**kept)

    @property
    def samples(self) -> bool:
        """Whether ids are drawn."""
        return self.sampling_topk != 1

    @property
    def _wanted(self) -> int:
        """The hypotheses that each group gives, or each sample."""
        return 1 if self.samples else -(-self.num_hypotheses // self.beam_groups)

    @property
    def keeps_attention(self) -> bool:
        """Whether hypotheses need their attention weights."""
        return self.return_attention or self.replace_unknowns is not False

    @property
    def reads_alignment(self) -> str | None:
        """The option that needs a model with alignment, if there is one."""
        for name in ("return_attention", "coverage_penalty", "replace_unknowns"):
            if getattr(self, name) is not False and getattr(self, name) != DEFAULTS[name]:
                return name
        return None

    @property
    def rule(self) -> SearchRule:
        """The rule of the search: `search`, or what early_stop names."""
        return PRESETS[self.early_stop] if self.search is None else SearchRule.of(self.search)

    @property
    def penalty(self) -> tuple[str, float, int]:
        """Kind, alpha and offset, as `score_of` takes them."""
        return self.length_penalty_kind, self.length_penalty, self.length_penalty_offset

    @property
    def finished_limit(self) -> int:
        """The ended hypotheses at which a rule that counts them stops: beam_size * patience,
        rounded, at least 1; of each group."""
        return max(1, floor(self.beam_size // self.beam_groups * self.patience + 0.5))

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
            "length_penalty_offset": self.length_penalty_offset,
            "coverage_penalty": float(self.coverage_penalty),
            "beam_groups": self.beam_groups,
            "diversity_penalty": float(self.diversity_penalty),
            "max_nodes": (self.max_nodes or MAX_NODES) if self.exact else 0,
        }

    def sampling(self, seed: int) -> tuple[float, int, float, int] | None:
        """Temperature, top k, top p and seed, the given one where the options have none."""
        if not self.samples:
            return None
        seed = seed if self.seed is None else self.seed
        temperature, topp = float(self.sampling_temperature), float(self.sampling_topp)
        return temperature, self.sampling_topk, topp, seed

    def limit(self, source_length: int | None) -> int:
        """The most ids that a source of this prepared length may generate."""
        return ids_allowed(max_length(self.max_length), source_length)


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


def _tokens(name: str, value: object) -> tuple[Any, ...] | None:
    """A list of tokens as a tuple; a model reads the tokens themselves."""
    if value is None:
        return None
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        return tuple(value.tolist())
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{name} is {value!r}, must be a list of tokens or ids")
    return tuple(value)


def is_each(prefix: object) -> bool:
    """Whether it is a list of prefixes, one for each source; None stands for none."""
    return isinstance(prefix, (list, tuple)) and any(
        item is None or isinstance(item, (list, tuple, np.ndarray)) for item in prefix
    )


def _allowed(value: object) -> Any:
    """A function, an automaton's mapping, a tuple of tokens, or a tuple of such tuples."""
    if value is None or callable(value):
        return value
    if isinstance(value, Mapping):
        if set(value) != AUTOMATON:
            raise InputError(
                f"allowed_tokens has {', '.join(map(str, value)) or 'nothing'}, must have "
                "transitions, start and final"
            )
        arcs = value["transitions"]
        if not isinstance(arcs, Mapping) or not all(isinstance(a, Mapping) for a in arcs.values()):
            raise InputError(
                "allowed_tokens: transitions must be a mapping from states to {token: state}"
            )
        if not isinstance(value["final"], (list, tuple, set, frozenset)):
            raise InputError(
                f"allowed_tokens: final is {value['final']!r}, must be a list of states"
            )
        return dict(value)
    items = _tokens("allowed_tokens", value)
    nested = [isinstance(item, (list, tuple, np.ndarray)) for item in items or ()]
    if any(nested) and not all(nested):
        raise InputError("allowed_tokens holds tokens and lists: give all tokens or all outputs")
    if not nested:
        raise InputError("allowed_tokens is empty, must allow something; None allows everything")
    if all(nested):
        return tuple(_tokens(f"output {n} of allowed_tokens", i) for n, i in enumerate(items or ()))
    return items


AUTOMATON = {"transitions", "start", "final"}
DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(DecodeOptions)}
RULE = ("early_stop", "search", "patience")
SCORING = (
    "length_penalty", "length_penalty_kind", "length_penalty_offset", "coverage_penalty",
    "end_tokens",
)  # fmt: skip
