"""Greedy and beam decoding of batches whose sources all have the same length.
The beam's rule is exact and deterministic, so another engine can be compared with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from data import SOURCE_END, TARGET_END, TARGET_START, Vocabulary, batches_by_length
from model import G2P, State
from torch import Tensor

MAX_TOKENS = 40

Decoder = Callable[[G2P, list[list[int]]], list[tuple[int, ...]]]


@dataclass(frozen=True)
class Hypothesis:
    """A decoded pronunciation without its end mark, and its summed log-probability."""

    score: float
    tokens: tuple[int, ...]


def _encode(model: G2P, sources: list[list[int]]) -> State:
    if any(len(s) != len(sources[0]) or s[-1] != SOURCE_END for s in sources):
        raise ValueError("sources must have one length and finish with the end mark")
    return model.encode(torch.tensor(sources))


def _rows(pair: tuple[Tensor, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    return pair[0].index_select(1, rows), pair[1].index_select(1, rows)


@torch.inference_mode()
def greedy(model: G2P, sources: list[list[int]]) -> list[tuple[int, ...]]:
    """Takes the best token at each step (ties: the lowest id) up to the end mark."""
    state = _encode(model, sources)
    previous = torch.full((len(sources),), TARGET_START)
    ended = torch.zeros(len(sources), dtype=torch.bool)
    columns: list[Tensor] = []
    while len(columns) < MAX_TOKENS and not bool(ended.all()):
        scores, state = model.log_probabilities(state, previous)
        previous = scores.argmax(dim=-1)
        columns.append(previous)
        ended |= previous == TARGET_END
    rows: list[list[int]] = torch.stack(columns, dim=1).tolist()
    return [tuple(r[: r.index(TARGET_END)] if TARGET_END in r else r) for r in rows]


@torch.inference_mode()
def beam(model: G2P, sources: list[list[int]], width: int, best: int = 1) -> list[list[Hypothesis]]:
    """Gives up to `best` finished hypotheses per source, best first.

    Scores are float32 log-probabilities summed in float64, the end mark's included, with no
    length penalty. Each step ranks the top 2 * width candidates of a sentence (ties: lower
    token id, then lower parent); those that end leave as finished and the best `width` others
    live on, until none of them beats the `best`-th finished one."""
    state = _encode(model, sources)
    finished: list[list[Hypothesis]] = [[] for _ in sources]
    active = list(range(len(sources)))
    state = State(
        state.memory,
        state.keys,
        _rows(state.first, torch.arange(len(active)).repeat_interleave(width)),
        _rows(state.second, torch.arange(len(active)).repeat_interleave(width)),
    )
    previous = torch.full((len(active) * width,), TARGET_START)
    live = torch.full((len(active), width), -torch.inf, dtype=torch.float64)
    live[:, 0] = 0.0
    history = torch.zeros((len(active), width, 0), dtype=torch.long)
    for length in range(1, MAX_TOKENS + 1):
        scores, state = model.log_probabilities(state, previous)
        total = live.unsqueeze(2) + scores.view(len(active), width, -1).double()
        # Token-major order, so that a stable sort breaks ties by token id, then by parent.
        ranked, place = total.transpose(1, 2).flatten(1).sort(dim=1, descending=True, stable=True)
        ranked, place = ranked[:, : 2 * width], place[:, : 2 * width]
        token, parent = place // width, place % width
        ends = (token == TARGET_END) & ranked.isfinite()
        for row, column in ends.nonzero().tolist():
            tokens = tuple(history[row, parent[row, column]].tolist())
            finished[active[row]].append(Hypothesis(float(ranked[row, column]), tokens))
        # At most `width` candidates end, so at least `width` others remain; keep their order.
        rest = (token == TARGET_END).long().sort(dim=1, stable=True)[1][:, :width]
        live, token, parent = ranked.gather(1, rest), token.gather(1, rest), parent.gather(1, rest)
        rows = torch.arange(len(active)).unsqueeze(1)
        history = torch.cat((history[rows, parent], token.unsqueeze(2)), dim=2)
        for i in active:
            finished[i] = sorted(finished[i], key=lambda h: -h.score)[:best]
        top = live[:, 0].tolist()
        keep = [
            row
            for row, i in enumerate(active)
            if len(finished[i]) < best or top[row] > finished[i][best - 1].score
        ]
        if not keep or length == MAX_TOKENS:
            break
        kept = torch.tensor(keep)
        origin = (rows * width + parent)[kept].flatten()
        state = State(
            state.memory[kept], state.keys[kept], _rows(state.first, origin),
            _rows(state.second, origin),
        )  # fmt: skip
        live, history, previous = live[kept], history[kept], token[kept].flatten()
        active = [active[row] for row in keep]
    return finished


def decode_words(
    model: G2P, vocabulary: Vocabulary, words: list[str], decoder: Decoder, batch: int
) -> list[tuple[str, ...]]:
    """Decodes words in batches of one length and gives the phonemes in the words' order."""
    found: list[tuple[str, ...]] = [()] * len(words)
    for numbers in batches_by_length([len(w) for w in words], batch, None):
        results = decoder(model, [vocabulary.encode_word(words[i]) for i in numbers])
        for i, ids in zip(numbers, results, strict=True):
            found[i] = vocabulary.decode_phonemes(ids)
    return found
