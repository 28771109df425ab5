"""Greedy and beam search in plain Python, as a specification: rule "leave" + "best" of the docs.
Knows log-probabilities, tokens and scores; never graphs or weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import NumericalError

Float64: TypeAlias = NDArray[np.float64]
# (state, token, step) -> (next state, logits (V), alignment (S, N) or None)
Step: TypeAlias = Callable[[Any, int, int], tuple[Any, Float64, "Float64 | None"]]
# (what a step gives, where it stands) -> log-probabilities (V)
LogProbs: TypeAlias = Callable[[Float64, str], NDArray[np.float32]]


@dataclass(frozen=True)
class Path:
    """A hypothesis: its scored ids (the end included), and the state that the next step reads."""

    ids: tuple[int, ...]
    log_probs: tuple[np.float32, ...]
    score: float
    alignments: tuple[Float64, ...]
    state: Any
    reason: Literal["eos", "length"] = "length"


@dataclass(frozen=True)
class _Candidate:
    score: float
    token: int
    parent: int
    log_prob: np.float32

    @property
    def order(self) -> tuple[float, int, int]:
        return -self.score, self.token, self.parent


@dataclass(frozen=True)
class _Row:
    """What one step makes of a live path."""

    path: Path
    state: Any
    alignment: Float64 | None
    log_probs: NDArray[np.float32]


def log_softmax(logits: Float64, where: str) -> NDArray[np.float32]:
    """Natural log-probabilities over the last axis, float32 each."""
    if not np.isfinite(logits).all():
        raise NumericalError(f"{where}: the logits hold a NaN or an infinity")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        normal = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return np.asarray(normal, np.float32)


def checked_log_probs(values: Float64, where: str) -> NDArray[np.float32]:
    """Log-probabilities that a model gives itself, as they are; -inf is an impossible id."""
    if np.isnan(values).any() or (values == np.inf).any():
        raise NumericalError(f"{where}: the log-probabilities hold a NaN or +infinity")
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def search(
    step: Step,
    state: Any,
    *,
    start: int,
    end: Sequence[int],
    beam_size: int,
    num_hypotheses: int,
    max_length: int,
    log_probs: LogProbs = log_softmax,
) -> list[Path]:
    """The best paths, best first; `start` is -1 where nothing is fed at step 0, `log_probs` makes
    log-probabilities of what a step gives."""
    live = [Path((), (), 0.0, (), state)]
    finished: list[Path] = []
    for number in range(max_length):
        rows = [_row(path, step, start, number, log_probs) for path in live]
        live = []
        for candidate in _candidates(rows, beam_size, len(end), have_finished=bool(finished)):
            path = _extended(rows[candidate.parent], candidate, end)
            if path.reason == "eos":
                finished = _best([*finished, path], num_hypotheses)
            elif len(live) < beam_size:
                live.append(path)
        if not live or _decided(finished, live, num_hypotheses):
            return finished
    return _best([*finished, *live], num_hypotheses)


def _row(path: Path, step: Step, start: int, number: int, log_probs: LogProbs) -> _Row:
    token = path.ids[-1] if path.ids else start
    state, logits, alignment = step(path.state, token, number)
    return _Row(path, state, alignment, log_probs(logits, f"step {number}"))


def _candidates(
    rows: Sequence[_Row], beam_size: int, ends: int, *, have_finished: bool
) -> list[_Candidate]:
    """The candidates that are looked at, best first: ties to the lower token, then parent."""
    # Greedy takes the best token; a beam looks past every end that could stand before a live one.
    count = 1 if beam_size == 1 else (1 + ends) * beam_size
    found: list[_Candidate] = []
    for parent, row in enumerate(rows):
        scores = row.path.score + row.log_probs.astype(np.float64)
        best = np.argsort(-scores, kind="stable")[:count]  # stable: the lower token first
        found += [
            _Candidate(float(scores[t]), int(t), parent, np.float32(row.log_probs[t])) for t in best
        ]
    possible = [candidate for candidate in found if candidate.score > -np.inf]
    if not possible and not have_finished:
        possible = found
    return sorted(possible, key=lambda candidate: candidate.order)[:count]


def _extended(row: _Row, candidate: _Candidate, end: Sequence[int]) -> Path:
    alignment = () if row.alignment is None else (row.alignment,)
    return Path(
        ids=(*row.path.ids, candidate.token),
        log_probs=(*row.path.log_probs, candidate.log_prob),
        score=candidate.score,
        alignments=(*row.path.alignments, *alignment),
        state=row.state,
        reason="eos" if candidate.token in end else "length",
    )


def _best(paths: Sequence[Path], count: int) -> list[Path]:
    """The best paths; of equal ones the earlier."""
    return sorted(paths, key=lambda path: -path.score)[:count]


def _decided(finished: Sequence[Path], live: Sequence[Path], count: int) -> bool:
    # A log-probability is at most 0: a live path never gets better than it is.
    return len(finished) >= count and finished[count - 1].score >= live[0].score
