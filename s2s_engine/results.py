"""What a decode returns: hypotheses with tokens, ids, scores and attention. Knows values only;
nothing of how they came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ._core import Found


class Texts(Protocol):
    """Who turns ids into strings."""

    def target_tokens(self, ids: Sequence[int]) -> list[str]: ...

    def source_tokens(self, ids: Sequence[int]) -> list[str]: ...


@dataclass(frozen=True)
class Hypothesis:
    """One output. `ids` and `tokens` leave out start and end.

    score: what hypotheses are ranked by. log_prob: the sum of `token_log_probs` (natural
    logarithms, float32 each, summed in float64), the end token's included. attention:
    (target, source) float32 weights where they were asked for, a row per scored token. logits:
    (target, vocabulary) float32 where they were asked for, what the model gives before any option
    changes it. finish_reason: "eos" or "length"; in a partial result "timeout" or "cancelled" as
    well.
    """

    ids: list[int]
    tokens: list[str]
    score: float
    log_prob: float
    token_log_probs: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    finish_reason: Literal["eos", "length", "timeout", "cancelled"]
    logits: NDArray[np.float32] | None = None


class Result:
    """The hypotheses of one source, best first; `ids`, `tokens` and `score` are the best one's.

    source: the tokens that the encoder read, prepared, as columns of `attention` name them.
    Of a decode's result, lists and tokens are made when they are first read.
    """

    __slots__ = ("_best", "_found", "_hypotheses", "_ids", "_inputs", "_source")

    _best: list[int] | None  # the best one's ids, where they were read before the hypotheses
    _found: Found
    _ids: list[int] | None
    _inputs: Texts

    def __init__(self, hypotheses: list[Hypothesis], source: list[str] | None = None) -> None:
        self._hypotheses: list[Hypothesis] | None = hypotheses
        self._source: list[str] | None = [] if source is None else source

    @classmethod
    def found(cls, found: Found, inputs: Texts, ids: list[int] | None) -> Result:
        """A result of the core. ids: the source's, where the core has not read them itself."""
        result = cls.__new__(cls)
        result._hypotheses = result._source = result._best = None
        result._found, result._inputs, result._ids = found, inputs, ids
        return result

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """All of them, best first."""
        if self._hypotheses is None:
            tokens, found = self._inputs.target_tokens, self._found.hypotheses
            if self._best is not None:
                found[0] = (self._best, *found[0][1:])
            self._hypotheses = [
                Hypothesis(ids, tokens(ids), score, log_prob, log_probs, attention, reason)
                for ids, log_probs, log_prob, score, reason, attention in found
            ]
        return self._hypotheses

    @property
    def source(self) -> list[str]:
        """The tokens that the encoder read, prepared."""
        if self._source is None:
            ids = self._found.source if self._ids is None else self._ids
            self._source = self._inputs.source_tokens(ids) if ids else []
        return self._source

    @property
    def ids(self) -> list[int]:
        """The best hypothesis' ids."""
        if self._hypotheses is not None:
            return self._hypotheses[0].ids
        if self._best is None:
            self._best = self._found.ids
        return self._best

    @property
    def tokens(self) -> list[str]:
        """The best hypothesis' tokens, its ids as strings without a vocabulary."""
        return self.hypotheses[0].tokens

    @property
    def score(self) -> float:
        """The best hypothesis' score."""
        return self.hypotheses[0].score

    @property
    def attention(self) -> NDArray[np.float32] | None:
        """The best hypothesis' attention, (target, source), where it was asked for."""
        return self.hypotheses[0].attention

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        return (self.hypotheses, self.source) == (other.hypotheses, other.source)

    __hash__ = None  # type: ignore[assignment]  # it holds lists

    def __repr__(self) -> str:
        return f"Result(hypotheses={self.hypotheses!r}, source={self.source!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Result, (self.hypotheses, self.source)


@dataclass(frozen=True)
class Score:
    """A target scored under teacher forcing, the end token included where the model has one."""

    log_prob: float
    token_log_probs: NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Check:
    """What a self-test found: the largest difference of a log-probability and what it may be."""

    largest_difference: float
    tolerance: float
    tokens: int

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.largest_difference <= self.tolerance


def tokens_of(ids: Sequence[int], vocabulary: Sequence[str] | None) -> list[str]:
    """The strings of ids; the ids as strings where there is no vocabulary."""
    return [str(i) for i in ids] if vocabulary is None else [vocabulary[i] for i in ids]
