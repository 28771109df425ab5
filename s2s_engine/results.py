"""What a decode returns: hypotheses with tokens, ids, scores and attention. Knows values only;
nothing of how they came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hypothesis:
    """One output. `ids` and `tokens` leave out start and end.

    score: what hypotheses are ranked by. log_prob: the sum of `token_log_probs` (natural
    logarithms, float32 each, summed in float64), the end token's included. attention:
    (target, source) float32 weights where they were asked for, a row per scored token. logits:
    (target, vocabulary) float32 where they were asked for, what the model gives before any option
    changes it. finish_reason: "eos" or "length".
    """

    ids: list[int]
    tokens: list[str]
    score: float
    log_prob: float
    token_log_probs: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    finish_reason: Literal["eos", "length"]
    logits: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Result:
    """The hypotheses of one source, best first; `ids`, `tokens` and `score` are the best one's.

    source: the tokens that the encoder read, prepared, as columns of `attention` name them.
    """

    hypotheses: list[Hypothesis]
    source: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return self.hypotheses[0].ids

    @property
    def tokens(self) -> list[str]:
        return self.hypotheses[0].tokens

    @property
    def score(self) -> float:
        return self.hypotheses[0].score

    @property
    def attention(self) -> NDArray[np.float32] | None:
        return self.hypotheses[0].attention


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
        return self.largest_difference <= self.tolerance


def tokens_of(ids: Sequence[int], vocabulary: Sequence[str] | None) -> list[str]:
    """The strings of ids; the ids as strings where there is no vocabulary."""
    return [str(i) for i in ids] if vocabulary is None else [vocabulary[i] for i in ids]
