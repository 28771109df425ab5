"""Greedy and beam search in plain Python, as a specification: every rule of docs/search.md. Knows
log-probabilities, tokens and scores; never graphs or weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import NumericalError
from .search_rules import SearchRule, score_of

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
    log_prob: float
    score: float
    alignments: tuple[Float64, ...]
    state: Any
    reason: Literal["eos", "length"] = "length"


@dataclass(frozen=True)
class _Choice:
    """A path that may get a place: `parent` is the row that it continues, or below 0 that of an
    ended one that stays."""

    path: Path
    parent: int

    @property
    def order(self) -> tuple[float, int, int]:
        if self.parent < 0:  # before new ones
            return -self.path.log_prob, -1, self.parent
        return -self.path.log_prob, self.path.ids[-1], self.parent

    @property
    def ended(self) -> bool:
        return self.path.reason == "eos"


@dataclass(frozen=True)
class _Row:
    """What one step makes of a live path."""

    path: Path
    state: Any
    alignment: Float64 | None
    log_probs: NDArray[np.float32]


@dataclass(frozen=True)
class _Task:
    """What does not change during a search."""

    step: Step
    log_probs: LogProbs
    end: tuple[int, ...]
    beam_size: int
    wanted: int
    max_length: int
    min_length: int
    rule: SearchRule
    finished_limit: int
    kind: str
    alpha: float

    def score(self, log_prob: float, length: int) -> float:
        return score_of(log_prob, length, self.kind, self.alpha)


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
    min_length: int = 0,
    rule: SearchRule | None = None,
    finished_limit: int | None = None,
    length_penalty: float = 0.0,
    length_penalty_kind: str = "power",
) -> list[Path]:
    """The best paths, best first; `start` is -1 where nothing is fed at step 0, `log_probs` makes
    log-probabilities of what a step gives, `finished_limit` is for rules that count."""
    task = _Task(
        step, log_probs, tuple(end), beam_size, num_hypotheses, max_length, min_length,
        rule or SearchRule(), finished_limit or beam_size, length_penalty_kind, length_penalty,
    )  # fmt: skip
    rule = task.rule
    live, kept, finished = [Path((), (), 0.0, 0.0, (), state)], list[Path](), list[Path]()
    topped = False
    for length in range(1, max_length + 1):
        rows = [_row(task, path, start, length - 1) for path in live]
        choices = _choices(task, rows, kept, finished, length)
        topped = topped or (bool(choices) and choices[0].ended)
        live, kept = [], []
        for place, choice in enumerate(choices):
            if not choice.ended:
                if len(live) < beam_size:
                    live.append(choice.path)
            elif place < beam_size or rule.ended != "leading":
                if choice.parent >= 0:
                    finished.append(choice.path)
                if rule.ended == "stay":
                    kept.append(choice.path)
                if rule.stop == "count" and len(finished) >= task.finished_limit:
                    return _best(finished, num_hypotheses)
        if not live or (length < max_length and _stopped(task, finished, live[0], length, topped)):
            return _best(finished, num_hypotheses)
    if rule.limit == "fill":
        live = live[: max(0, num_hypotheses - len(finished))]
    return _best([*finished, *live], num_hypotheses)


def _row(task: _Task, path: Path, start: int, number: int) -> _Row:
    token = path.ids[-1] if path.ids else start
    state, logits, alignment = task.step(path.state, token, number)
    return _Row(path, state, alignment, task.log_probs(logits, f"step {number}"))


def _choices(
    task: _Task, rows: Sequence[_Row], kept: Sequence[Path], finished: Sequence[Path], length: int
) -> list[_Choice]:
    """What a step looks at, best first: ties to an ended one that stays, then to the lower token,
    then to the lower parent."""
    size = len(rows[0].log_probs)
    tokens = [t for t in range(size) if length >= task.min_length or t not in task.end]
    if length == task.max_length and task.rule.limit == "end" and task.end:
        tokens = list(task.end[:1])
    found = [
        _Choice(_extended(task, row, token), parent)
        for parent, row in enumerate(rows)
        for token in tokens
        if row.path.log_prob + float(row.log_probs[token]) > -np.inf
    ]
    found += [_Choice(path, place - task.beam_size) for place, path in enumerate(kept)]
    if not found and not finished:
        # Nothing is possible: the best of the first row, so that there is a result.
        usual = tokens if tokens == list(task.end[:1]) else range(size)
        best = max(usual, key=lambda token: (rows[0].log_probs[token], -token))
        found = [_Choice(_extended(task, rows[0], best), 0)]
    width = _width(task, len(finished))
    return sorted(found, key=lambda choice: choice.order)[:width]


def _width(task: _Task, finished: int) -> int:
    if task.rule.ended == "shrink":
        return task.beam_size - finished
    # Greedy takes the best token; a beam whose ended ones make room looks past every end that could
    # stand before a live one.
    if task.beam_size > 1 and task.rule.ended in ("leave", "leading"):
        return (1 + len(task.end)) * task.beam_size
    return task.beam_size


def _extended(task: _Task, row: _Row, token: int) -> Path:
    alignment = () if row.alignment is None else (row.alignment,)
    log_prob = row.path.log_prob + float(row.log_probs[token])
    return Path(
        ids=(*row.path.ids, token),
        log_probs=(*row.path.log_probs, np.float32(row.log_probs[token])),
        log_prob=log_prob,
        score=task.score(log_prob, len(row.path.ids) + 1),
        alignments=(*row.path.alignments, *alignment),
        state=row.state,
        reason="eos" if token in task.end else "length",
    )


def _best(paths: Sequence[Path], count: int) -> list[Path]:
    """The best paths; of equal ones the earlier."""
    return sorted(paths, key=lambda path: -path.score)[:count]


def _stopped(task: _Task, finished: Sequence[Path], live: Path, length: int, topped: bool) -> bool:
    """Whether the search is done below max_length, `live` the best live path."""
    if len(finished) < task.wanted:
        return False
    if task.rule.stop == "top":
        return topped
    if task.rule.stop != "best":
        return False
    # A log-probability is at most 0 and only falls: a live path can at best keep it and end at the
    # length with the largest divisor.
    shortest = max(length + 1, min(task.min_length, task.max_length))
    reachable = task.score(live.log_prob, shortest if task.alpha < 0 else task.max_length)
    return _best(finished, task.wanted)[-1].score >= reachable
