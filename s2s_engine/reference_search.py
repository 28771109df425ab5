"""Greedy and beam search in plain Python, as a specification: every rule of docs/search.md. Knows
log-probabilities, tokens and scores; never graphs or weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .constraints import Constraints
from .errors import InputError, NumericalError
from .reference_filter import Sampling, adjusted, drawn, possible, uniform
from .search_rules import STANDING, SearchRule, coverage_of, score_of

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
    ends: int = 0  # among the ids
    after: Path | None = None  # the ended one that it continues, up to the first end

    @property
    def result(self) -> Path:
        """What a caller gets: nothing behind the first end but the score."""
        return self if self.after is None else replace(self.after, score=self.score)


@dataclass(frozen=True)
class _Choice:
    """A path that may get a place: `parent` is the row that it continues, or below 0 that of an
    ended one that stays. Choices are ranked by log-probability, less what diversity takes."""

    path: Path
    parent: int
    rank: float

    @property
    def order(self) -> tuple[float, int, int]:
        if self.parent < 0:  # before new ones
            return -self.rank, -1, self.parent
        return -self.rank, self.path.ids[-1], self.parent

    @property
    def ended(self) -> bool:
        return self.path.reason == "eos"


@dataclass(frozen=True)
class _Row:
    """What one step makes of a live path; log-probabilities of what cannot follow are -inf."""

    path: Path
    state: Any
    alignment: Float64 | None
    log_probs: NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """What does not change during a search. beam_size and wanted are those of a lane."""

    step: Step
    log_probs: LogProbs
    start: int
    constraints: Constraints
    sampling: Sampling | None
    beam_size: int
    wanted: int
    max_length: int
    min_length: int
    rule: SearchRule
    finished_limit: int
    kind: str
    alpha: float
    offset: int
    coverage: float
    diversity: float

    @property
    def end(self) -> tuple[int, ...]:
        return self.constraints.end

    @property
    def filters(self) -> bool:
        return self.sampling is not None or self.constraints.filters

    def score(self, log_prob: float, length: int, alignments: Sequence[Float64]) -> float:
        score = self.penalised(log_prob, length)
        return score + self.coverage * coverage_of(alignments) if self.coverage else score

    def penalised(self, log_prob: float, length: int) -> float:
        return score_of(log_prob, length, self.kind, self.alpha, self.offset)

    def forced(self, length: int) -> int | None:
        """The only id that may stand at the end of `length` ids."""
        if length <= len(self.constraints.prefix):
            return self.constraints.prefix[length - 1]
        if length == self.max_length and self.rule.limit == "end" and self.end:
            return self.end[0]
        return None


@dataclass
class _Lane:
    """A search of its own beside others: a group of a beam, or a sample."""

    number: int
    live: list[Path]
    kept: list[Path] = field(default_factory=list)
    finished: list[Path] = field(default_factory=list)  # all results so far
    ended: int = 0  # of these, those that were live until they ended
    held: set[int] = field(default_factory=set)  # places that have held an ended one, or none
    topped: bool = False
    done: bool = False


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
    length_penalty_offset: int = 0,
    coverage_penalty: float = 0.0,
    beam_groups: int = 1,
    diversity_penalty: float = 0.0,
    constraints: Constraints | None = None,
    sampling: Sampling | None = None,
    max_nodes: int = 0,
) -> list[Path]:
    """The best paths, best first; `start` is -1 where nothing is fed at step 0, `log_probs` makes
    log-probabilities of what a step gives, `finished_limit` is for rules that count. `end` is that
    of the constraints, where there are any. With coverage_penalty, a step gives alignments; with
    max_nodes the search is exact."""
    lanes = beam_groups if sampling is None else num_hypotheses
    size = 1 if sampling is not None else beam_size // lanes
    task = Task(
        step, log_probs, start, constraints or Constraints(tuple(end)), sampling, size,
        -(-num_hypotheses // lanes), max_length, min_length, rule or SearchRule(),
        finished_limit or size, length_penalty_kind, length_penalty, length_penalty_offset,
        coverage_penalty, diversity_penalty,
    )  # fmt: skip
    if max_nodes:
        from .reference_exact import exact_search

        return _some(exact_search(task, state, max_nodes))
    searches = [_Lane(n, [Path((), (), 0.0, 0.0, (), state)]) for n in range(lanes)]
    for length in range(1, max_length + 1):
        taken: list[int] = []
        for lane in searches:
            if not lane.done:
                _advance(task, lane, length, taken)
    found = [path for lane in searches for path in best_of(lane.finished, task.wanted)]
    return best_of(_some(found), num_hypotheses)


def _some(found: list[Path]) -> list[Path]:
    if not found:
        raise InputError(
            "nothing is left to generate: every hypothesis ran into a dead end of "
            "suppress_tokens, no_repeat_ngram_size or allowed_tokens; loosen one of them"
        )
    return found


def _advance(task: Task, lane: _Lane, length: int, taken: list[int]) -> None:
    """One step of a lane; `taken` are the ids of the places of earlier lanes, to which it adds."""
    rule = task.rule
    rows = [_row(task, lane.number, path, length) for path in lane.live]
    choices = _choices(task, rows, lane, length, taken)
    topped = bool(choices) and choices[0].ended
    lane.topped = topped or (lane.topped and rule.stop not in ("head", "first"))
    lane.held |= {place for place, choice in enumerate(choices) if choice.ended}
    lane.held |= set(range(len(choices), task.beam_size))
    lane.live, lane.kept = [], []
    counted: list[bool] = []  # which of them are results as they stand
    for place, choice in enumerate(choices):
        path, ends = choice.path, choice.ended and choice.path.after is None
        if ends and (place < task.beam_size or rule.ended != "leading"):
            if choice.parent >= 0:
                lane.finished.append(path)
                lane.ended += 1
            if rule.ended == "stay":
                lane.kept.append(path)
            if rule.stop == "count" and lane.ended >= task.finished_limit:
                lane.done = True
                break
        if (rule.ended == "expand" or not ends) and len(lane.live) < task.beam_size:
            closed = place < task.beam_size and place in lane.held
            lane.live.append(path)
            counted.append(ends or _counts(rule, path, closed))
            lane.finished += [path.result] * (counted[-1] and not ends)
    taken += [path.ids[-1] for path in lane.live if not path.ends]
    if lane.done:
        return
    able = [path for path in lane.live if rule.limit_counts(path.ends)]
    last = length == task.max_length
    lane.done = not able or (not last and _stopped(task, lane, length, able))
    if last or (lane.done and rule.limit in STANDING):
        left = [
            path.result
            for path, already in zip(lane.live, counted, strict=True)
            if not already and rule.limit_counts(path.ends)
        ]
        free = max(0, task.wanted - len(lane.finished))
        lane.finished += left[: free if rule.limit == "fill" else None]


def _counts(rule: SearchRule, path: Path, closed: bool) -> bool:
    """Whether a path is a result of this step without ending for the first time, and though the
    search may go on."""
    again = rule.limit == "again" and path.reason == "eos"
    return again or (rule.limit == "closed" and closed and rule.limit_counts(path.ends))


def _row(task: Task, sample: int, path: Path, length: int) -> _Row:
    token = path.ids[-1] if path.ids else task.start
    state, logits, alignment = task.step(path.state, token, length - 1)
    logits = adjusted(logits, task.constraints, path.ids)
    log_probs = task.log_probs(logits, f"step {length - 1}")
    if length > len(task.constraints.prefix):
        open_ = possible(len(logits), task.constraints, path.ids)
        if task.sampling is not None and task.forced(length) is None:
            number = uniform(task.sampling.seed, sample, length - 1)
            masked = np.where(open_, np.asarray(logits, np.float32), -np.inf)
            one = drawn(masked, task.sampling, number)
            open_ = np.arange(len(logits)) == (-1 if one is None else one)
        log_probs = np.where(open_, log_probs, np.float32(-np.inf))
    return _Row(path, state, alignment, log_probs)


def _choices(
    task: Task, rows: Sequence[_Row], lane: _Lane, length: int, taken: Sequence[int]
) -> list[_Choice]:
    """What a step looks at, best first: ties to an ended one that stays, then to the lower token,
    then to the lower parent."""
    size = len(rows[0].log_probs)
    tokens = [t for t in range(size) if length >= task.min_length or t not in task.end]
    forced = task.forced(length)
    if forced is not None:
        tokens = [forced]
    found = [
        _choice(task, row, parent, token, 0 if forced is not None else taken.count(token))
        for parent, row in enumerate(rows)
        for token in tokens
        if row.path.log_prob + float(row.log_probs[token]) > -np.inf
    ]
    found += [
        _Choice(path, place - task.beam_size, path.log_prob) for place, path in enumerate(lane.kept)
    ]
    if not found and not lane.finished:
        found = _fallback(task, rows, range(size) if forced is None else tokens)
    width = _width(task, lane.ended)
    return sorted(found, key=lambda choice: choice.order)[:width]


def _fallback(task: Task, rows: Sequence[_Row], tokens: Sequence[int]) -> list[_Choice]:
    """Nothing is possible: the best of the first row, so that there is a result. Under constraints
    a row that has some continuation, below the minimum an end, and nothing in a dead end."""
    for parent, row in enumerate(rows):
        best = max(tokens, key=lambda token: (row.log_probs[token], -token))
        if not task.filters or row.log_probs[best] > -np.inf:
            return [_choice(task, row, parent, best, 0)]
    return []


def choices_of(task: Task, path: Path, length: int) -> list[Path]:
    """All continuations of one path that are possible, best first."""
    rows = [_row(task, 0, path, length)]
    wide = replace(task, beam_size=1 << 30)
    # As if something had ended: nothing impossible is taken for want of anything else.
    choices = _choices(wide, rows, _Lane(0, [], finished=[path]), length, [])
    return [choice.path for choice in choices]


def _width(task: Task, ended: int) -> int:
    if task.rule.ended == "shrink":
        return task.beam_size - ended
    # Greedy takes the best token; a beam whose ended ones make room looks past every end that could
    # stand before a live one.
    if task.beam_size > 1 and task.rule.ended in ("leave", "leading"):
        return (1 + len(task.end)) * task.beam_size
    return task.beam_size


def _choice(task: Task, row: _Row, parent: int, token: int, times: int) -> _Choice:
    """`times` is how many places of earlier lanes took the token (Vijayakumar et al. 2016, eq. 4
    with the Hamming diversity of section 4.1)."""
    log_prob = row.path.log_prob + float(row.log_probs[token])
    alignment = () if row.alignment is None else (row.alignment,)
    alignments = (*row.path.alignments, *alignment)
    ended = token in task.end
    path = Path(
        ids=(*row.path.ids, token),
        log_probs=(*row.path.log_probs, np.float32(row.log_probs[token])),
        log_prob=log_prob,
        score=task.score(log_prob, len(row.path.ids) + 1, alignments),
        alignments=alignments,
        state=row.state,
        reason="eos" if ended else "length",
        ends=row.path.ends + ended,
        after=row.path if row.path.ends == 1 and row.path.reason == "eos" else row.path.after,
    )
    return _Choice(path, parent, log_prob - task.diversity * times)


def best_of(paths: Sequence[Path], count: int) -> list[Path]:
    """The best paths; of equal ones the earlier."""
    return sorted(paths, key=lambda path: -path.score)[:count]


def _stopped(task: Task, lane: _Lane, length: int, able: Sequence[Path]) -> bool:
    """Whether a lane is done below max_length; `able` can still become results."""
    if task.rule.stop == "places":
        return lane.held >= set(range(task.beam_size))
    if task.rule.stop == "first":
        return lane.topped
    if len(lane.finished) < task.wanted:
        return False
    if task.rule.stop in ("top", "head", "both"):
        enough = task.rule.stop != "both" or lane.ended >= task.finished_limit
        return lane.topped and enough
    if task.rule.stop != "best":
        return False
    # A log-probability is at most 0 and only falls: a live path can at best keep it and end at the
    # length with the largest divisor. Coverage is at most 0.
    shortest = max(length + 1, min(task.min_length, task.max_length))
    longest = shortest if task.alpha < 0 else task.max_length
    reachable = task.penalised(max(path.log_prob for path in able), longest)
    return best_of(lane.finished, task.wanted)[-1].score >= reachable
