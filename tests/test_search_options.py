"""Options of the search beyond its rules: the core against the reference on random combinations,
exhaustive search, single facts. Knows tables of log-probabilities, and models of tests/models.py
where instruction sets are compared."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tables import STEPS, bits

from s2s_engine import InputError
from s2s_engine.search_rules import PRESETS


def draws(
    rng: random.Random, count: int
) -> Iterator[tuple[dict[str, Any], list[int], dict[str, Any]]]:
    """Tables, prompts and options at random."""
    for _ in range(count):
        vocabulary = rng.choice((3, 5, 9))
        ends = rng.choice(((), (0,), (vocabulary - 1,), (0, vocabulary - 1)))
        table = {"vocabulary": vocabulary, "end": ends, "levels": rng.choice((3, 40, 1 << 12))}
        length = rng.randint(2, STEPS)
        options: dict[str, Any] = {"max_length": length, "early_stop": rng.choice(list(PRESETS))}
        if rng.random() < 0.4:
            options |= {
                "sampling_topk": rng.choice((0, 2, 4)),
                "sampling_topp": rng.choice((1.0, 0.5, 0.9)),
                "sampling_temperature": rng.choice((1.0, 0.5, 7.0)),
                "seed": rng.randrange(1 << 64),
                "num_hypotheses": rng.randint(1, 6),
            }
        else:
            groups = rng.choice((1, 1, 2, 3))
            options |= {"beam_size": groups * rng.choice((1, 2, 4)), "beam_groups": groups}
            options["num_hypotheses"] = rng.randint(1, options["beam_size"])
            if groups > 1:
                options["diversity_penalty"] = rng.choice((0.0, 0.5, 3.0))
        others = [i for i in range(vocabulary) if i not in ends]
        own_ends = tuple(rng.sample(range(vocabulary), rng.randint(0, 2)))
        some = {
            "prefix": [rng.choice(others) for _ in range(rng.randint(0, length - 1))],
            "suppress_tokens": rng.sample(range(vocabulary), rng.randint(0, vocabulary - 1)),
            "end_tokens": own_ends,
            "repetition_penalty": rng.choice((0.5, 1.5, 4.0)),
            "no_repeat_ngram_size": rng.randint(1, 3),
            "allowed_tokens": allowed(rng, others, ends),
            "min_length": rng.randint(0, length),
            "length_penalty": rng.choice((0.6, 1.0, -0.7)),
        }
        for name in rng.sample(list(some), rng.randint(0, 3)):
            options[name] = some[name]
        if "end_tokens" in options:
            for name in ("prefix", "allowed_tokens"):
                options.pop(name, None)
        x = rng.choice(([0], [1, 0, 1]))
        if rng.random() < 0.3:
            table["alignment"] = True
            options["coverage_penalty"] = rng.choice((0.0, 0.25, 2.0))
            options["return_attention"] = rng.random() < 0.5
            x = [rng.randrange(64) for _ in range(rng.randint(1, 5))]
        yield {"seed": rng.randrange(20), **table}, x, options


def allowed(rng: random.Random, others: list[int], ends: tuple[int, ...]) -> Any:
    """One of the four forms; those that tell where an output ends only with an end token."""

    def some() -> list[int]:
        return rng.sample(others, rng.randint(1, len(others)))

    form = rng.choice(("list", "trie", "automaton", "function") if ends else ("list", "function"))
    if form == "list":
        return some()
    if form == "trie":
        return [[rng.choice(others) for _ in range(rng.randint(1, 4))] for _ in range(8)]
    if form == "automaton":
        states = "abc"
        arcs = {s: {i: rng.choice(states) for i in some()} for s in states}
        return {"transitions": arcs, "start": "a", "final": rng.sample(states, 2)}
    modulus = rng.randint(2, 3)
    return lambda ids: [i for i in (*others, *ends) if (i + sum(ids)) % modulus or i in ends]


def outcome(executor: Any, x: list[int], options: dict[str, Any]) -> Any:
    try:
        return bits(executor.decode(x, **options))
    except InputError as error:
        return str(error)
