"""Exact search: the core's doubled beam against depth-first search and against everything there is.
Knows tables of log-probabilities and models of tests/models.py."""

from __future__ import annotations

import itertools
import random
from typing import Any

import models
import pytest
from conftest import ISAS
from tables import bits, loaded, table_model

from s2s_engine import Engine, InputError


@pytest.mark.parametrize("seed", range(6))
def test_exact_search_finds_the_best_of_all(seed: int) -> None:
    """All outputs of at most four ids over four tokens."""
    engine, reference = loaded(seed, vocabulary=4, end=(2,))
    everything = []
    for length in range(5):
        for ids in itertools.product((0, 1, 3), repeat=length):
            if length < 4:
                everything.append((engine.score([1], list(ids)).log_prob, ids, "eos"))
            else:
                cut = engine.score([1], list(ids), end_tokens=[]).log_prob
                everything.append((cut, ids, "length"))
    everything.sort(key=lambda item: -item[0])
    for executor, count in itertools.product((engine, reference), (1, 3, 121)):
        found = executor.decode([1], exact=True, beam_size=count, num_hypotheses=count,
                                max_length=4)  # fmt: skip
        got = [(h.score, tuple(h.ids), h.finish_reason) for h in found.hypotheses]
        assert sorted(got) == sorted(everything[:count])


def test_core_and_reference_find_the_same() -> None:
    rng = random.Random(0)
    better = 0
    for _ in range(150):
        vocabulary = rng.choice((3, 6, 12))
        engine, reference = loaded(rng.randrange(30), vocabulary=vocabulary, levels=800)
        options: dict[str, Any] = {"max_length": rng.randint(1, 6), "num_hypotheses": 1}
        options["beam_size"] = rng.choice((1, 2, 3))
        options["num_hypotheses"] = rng.randint(1, options["beam_size"])
        some = {
            "min_length": rng.randint(0, options["max_length"]),
            "suppress_tokens": [1],
            "no_repeat_ngram_size": 2,
            "allowed_tokens": [[1, 2], [2], [2, 2, 2, 1]],
            "repetition_penalty": 2.0,
        }
        options |= {name: some[name] for name in rng.sample(list(some), rng.randint(0, 2))}

        def outcome(executor: Any, more: dict[str, Any]) -> list[float] | str:
            try:
                return [h.score for h in executor.decode([1], **more).hypotheses]
            except InputError as error:
                return str(error)

        found = outcome(engine, {**options, "exact": True})
        assert found == outcome(reference, {**options, "exact": True}), options
        plain = outcome(engine, options)
        if isinstance(found, list) and isinstance(plain, list):
            assert found[0] >= plain[0]
            better += found[0] > plain[0]
    assert better > 10


@pytest.mark.parametrize("name", ["gru_plain", "lstm_luong", "gru_additive"])
def test_exact_results_have_the_same_bits_everywhere(name: str) -> None:
    model = models.DECODERS[name]()
    options = {"exact": True, "beam_size": 2, "num_hypotheses": 2, "max_length": 5}
    sources = [[3], [4, 5, 6], [10, 9, 8, 7]]
    runs = []
    for isa in ISAS:
        engine = Engine.load(model, isa=isa)
        runs.append([bits(engine.decode(x, **options)) for x in sources])
        runs.append([bits(r) for r in engine.decode_batch(sources, threads=2, **options)])
    assert all(run == runs[0] for run in runs)
    for x, run in zip(sources, runs[0], strict=True):
        expected = [h.ids for h in model.reference().decode(x, **options).hypotheses]
        assert [h[0] for h in run] == expected


def test_nodes_are_limited() -> None:
    for executor in (Engine.load(table_model(1, vocabulary=9, end=())), loaded(1)[1]):
        with pytest.raises(InputError, match="no proof within 3 nodes; raise max_nodes"):
            executor.decode([1], exact=True, max_nodes=3)
