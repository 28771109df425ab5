"""Every kind of option in batches, iterations and streams: the bits of `decode`. Knows the package;
never how a search works."""

from __future__ import annotations

import pickle
from typing import Any

import models
import pytest

from s2s_engine import Engine
from s2s_engine.results import Result

SOURCES = [[3, 4, 5], [6], [7, 8, 9, 10, 3, 4], [10, 3]]
OPTIONS: dict[str, dict[str, Any]] = {
    "samples": {"sampling_topk": 5, "num_hypotheses": 3, "seed": 1},
    "groups": {"beam_size": 4, "beam_groups": 2, "diversity_penalty": 0.5, "num_hypotheses": 3},
    "coverage": {"beam_size": 3, "coverage_penalty": 0.3},
    "a prefix": {"beam_size": 3, "prefix": [4, 5]},
    "a function": {"beam_size": 2, "allowed_tokens": lambda ids: [2, 4, 5, 6]},
    "exact": {"exact": True, "max_length": 4},
    "logits": {"beam_size": 2, "return_logits": True},
}


def bits(result: Result) -> list[Any]:
    return [
        (
            h.ids,
            h.score,
            h.token_log_probs.tobytes(),
            None if h.logits is None else h.logits.tobytes(),
        )
        for h in result.hypotheses
    ]


@pytest.mark.parametrize("name", OPTIONS)
def test_batches_iterations_and_streams_give_the_bits_of_decode(name: str) -> None:
    engine = Engine.load(models.lstm_luong(), threads=2)
    options = {"max_length": 8, **OPTIONS[name]}
    expected = [bits(engine.decode(x, **options)) for x in SOURCES]
    for size in (2, 4):
        found = engine.decode_batch(SOURCES, batch_size=size, **options)
        assert [bits(result) for result in found] == expected
    assert [bits(r) for r in engine.decode_iter(SOURCES, batch_size=2, **options)] == expected
    for x, one in zip(SOURCES, expected, strict=True):
        stream = engine.stream(x, **options)
        assert [token.id for token in stream] == one[0][0]
        assert stream.result is not None
        assert bits(stream.result) == one


def test_draws_without_a_seed_differ_from_call_to_call() -> None:
    engine = Engine.load(models.lstm_luong())
    drawn = {tuple(engine.decode([3, 4], sampling_topk=0, max_length=8).ids) for _ in range(20)}
    assert len(drawn) > 1


def test_a_pickled_engine_keeps_its_compute_types() -> None:
    engine = Engine.load(models.lstm_luong(), compute_type="int8")
    assert pickle.loads(pickle.dumps(engine)).info.compute_types == engine.info.compute_types
