"""Options of the search beyond its rules: the core against the reference on random combinations,
exhaustive search, single facts. Knows tables of log-probabilities, and models of tests/models.py
where instruction sets are compared."""

from __future__ import annotations

import gc
import itertools
import math
import random
import weakref
from collections.abc import Iterator
from typing import Any

import models
import numpy as np
import pytest
from conftest import ISAS
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import STEPS, bits, loaded

from s2s_engine import Engine, InputError, ModelBuilder, NumericalError
from s2s_engine.portable import logarithm
from s2s_engine.reference_search import log_softmax
from s2s_engine.search_rules import (
    ENDED,
    LIMIT,
    PRESETS,
    STOP,
    SearchRule,
    coverage_of,
    score_of,
)


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


@pytest.mark.parametrize("seed", range(8))
def test_core_finds_the_bits_of_the_reference(seed: int) -> None:
    kinds = set()
    for table, x, options in draws(random.Random(seed), 200):
        engine, reference = loaded(**table)
        found = outcome(engine, x, options)
        assert found == outcome(reference, x, options), (table, x, options)
        kinds.add(type(found))
    assert kinds == {list, str}  # results, and dead ends


@settings(max_examples=300, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_any_options_mean_the_same_in_every_call(rng: random.Random) -> None:
    """Core and reference; decode, batch, iteration and stream; the score of what was found."""
    ((table, x, options),) = draws(rng, 1)
    if rng.random() < 0.5:
        del options["early_stop"]
        options["search"] = SearchRule(
            rng.choice(list(ENDED)), rng.choice(list(STOP)), rng.choice(list(LIMIT))
        )
        if options["search"].stop == "count":
            options["patience"] = 4.0
    engine, reference = loaded(**table)
    found = outcome(engine, x, options)
    assert found == outcome(reference, x, options)
    together = engine.decode_batch([x, x, x], batch_size=2, return_exceptions=True, **options)
    lazy = list(engine.decode_iter([x] * 3, batch_size=2, return_exceptions=True, **options))
    if isinstance(found, str):  # a dead end, or what is wrong with the options
        assert all(found in str(one) for one in (*together, *lazy))
        return
    for one in (*together, *lazy):
        assert not isinstance(one, Exception) and bits(one) == found
    stream = engine.stream(x, **options)
    ids = [step.id for step in stream]
    assert stream.result is not None and bits(stream.result) == found
    assert ids == found[0][0]


@pytest.mark.parametrize("seed", range(4))
def test_batch_gives_the_bits_of_one_at_a_time(seed: int) -> None:
    for table, x, options in draws(random.Random(seed), 60):
        engine, _ = loaded(**table)
        others = [[9], [9, 8], x] if table.get("alignment") else [[1], [1, 1], x]
        alone = [outcome(engine, other, options) for other in others]
        if all(isinstance(found, list) for found in alone):
            together = engine.decode_batch(others * 3, batch_size=4, threads=2, **options)
            assert [bits(result) for result in together] == alone * 3


SETS: dict[str, dict[str, Any]] = {
    "samples": {"sampling_topk": 0, "num_hypotheses": 4, "seed": 11},
    "few samples": {"sampling_topk": 5, "sampling_topp": 0.8, "sampling_temperature": 1.5,
                    "seed": 3},
    "groups": {"beam_size": 6, "num_hypotheses": 6, "beam_groups": 3, "diversity_penalty": 0.5},
    "no repeats": {"beam_size": 4, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "forced": {"beam_size": 3, "prefix": [4, 5], "suppress_tokens": [3, 6], "end_tokens": [7]},
    "some": {"beam_size": 3, "allowed_tokens": [[3, 4, 5], [3, 6], [8, 8, 8, 8]],
             "end_tokens": [2]},
}  # fmt: skip


@pytest.mark.parametrize("options", SETS.values(), ids=SETS)
@pytest.mark.parametrize("name", models.DECODERS)
def test_every_instruction_set_thread_and_batch_gives_the_same_bits(
    name: str, options: dict[str, Any]
) -> None:
    model = models.DECODERS[name]()
    engines = [Engine.load(model, isa=isa) for isa in ISAS]
    options = {"max_length": 9, **options}
    sources = [[3], [4, 5, 6], [10, 9, 8, 7, 6, 5], [1, 1, 1, 1]]
    expected = [bits(engines[0].decode(x, **options)) for x in sources]
    for engine in engines:
        assert [bits(engine.decode(x, **options)) for x in sources] == expected
        together = engine.decode_batch(sources[::-1], batch_size=3, threads=2, **options)
        assert [bits(result) for result in together] == expected[::-1]
    close = [model.reference().decode(x, **options) for x in sources]
    for run, result in zip(expected, close, strict=True):
        # Scores of the float64 reference that lie this near could stand in another order.
        scores = [h.score for h in result.hypotheses]
        assert np.allclose([float.fromhex(h[1]) for h in run], scores, rtol=0, atol=1e-5)


# --- exhaustive search ---


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_best_of_all_that_is_allowed(seed: int) -> None:
    """All outputs of at most four ids, told apart by predicates, ranked by penalised scores."""
    rng = random.Random(seed)
    source = [rng.randrange(64) for _ in range(3)]
    engine, reference = loaded(seed, vocabulary=4, end=(2,), alignment=True)
    scoring = {"length_penalty": 0.6, "coverage_penalty": 0.3}
    arcs = {"a": {0: "b", 1: "a"}, "b": {3: "a", 1: "c"}, "c": {0: "c", 3: "b"}}
    language = {"transitions": arcs, "start": "a", "final": ["b", "c"]}
    outputs = [(0, 1), (0, 1, 3), (3,), (1, 1, 1), (3, 0, 0, 1)]
    cases: list[tuple[dict[str, Any], Any, Any]] = [
        ({"suppress_tokens": [1]}, lambda ids: 1 not in ids, None),
        ({"suppress_tokens": [2]}, lambda ids: True, lambda ids: False),
        ({"no_repeat_ngram_size": 1}, lambda ids: len(set(ids)) == len(ids), None),
        ({"no_repeat_ngram_size": 2}, no_pair_twice, None),
        ({"prefix": [3, 0]}, lambda ids: ids[:2] == (3, 0), None),
        ({"allowed_tokens": [0, 3]}, lambda ids: 1 not in ids, None),
        ({"allowed_tokens": [list(ids) for ids in outputs]},
         lambda ids: any(o[: len(ids)] == ids for o in outputs), lambda ids: ids in outputs),
        ({"allowed_tokens": language}, lambda ids: walked(arcs, ids) is not None,
         lambda ids: walked(arcs, ids) in ("b", "c")),
        ({"allowed_tokens": lambda ids: [(sum(ids) + 1) % 4, (sum(ids) + 3) % 4]},
         lambda ids: all(ids[n] in follows(ids[:n]) for n in range(len(ids))),
         lambda ids: 2 in follows(ids)),
    ]  # fmt: skip
    for options, may_be, may_end in cases:
        everything = []
        for length in range(5):
            for ids in itertools.product((0, 1, 3), repeat=length):
                ended = engine.score(source, list(ids), **scoring)
                if not may_be(ids):
                    continue
                if length < 4 and (may_end is None or may_end(ids)):
                    everything.append((ended.score, ids, "eos"))
                elif length == 4:
                    cut = engine.score(source, list(ids), **scoring, end_tokens=[])
                    everything.append((cut.score, ids, "length"))
        if "prefix" in options:  # its end is not free
            everything = [item for item in everything if len(item[1]) >= 2]
        everything.sort(key=lambda item: -item[0])
        assert everything
        for executor, count in itertools.product((engine, reference), (1, 4)):
            found = executor.decode(source, beam_size=125, num_hypotheses=count, max_length=4,
                                    **options, **scoring)  # fmt: skip
            scores = [(h.score, tuple(h.ids), h.finish_reason) for h in found.hypotheses]
            assert sorted(scores) == sorted(everything[:count]), options


def no_pair_twice(ids: tuple[int, ...]) -> bool:
    pairs = list(itertools.pairwise(ids))
    return len(set(pairs)) == len(pairs)


def walked(arcs: dict[str, dict[int, str]], ids: tuple[int, ...]) -> str | None:
    state: str | None = "a"
    for id_ in ids:
        state = None if state is None else arcs[state].get(id_)
    return state


def follows(ids: tuple[int, ...]) -> list[int]:
    return [(sum(ids) + 1) % 4, (sum(ids) + 3) % 4]


# --- scores ---


@pytest.mark.parametrize("name", ["lstm_luong", "gru_additive", "lstm_given"])
def test_score_gives_the_bits_of_decode_under_both_penalties(name: str) -> None:
    engine = Engine.load(models.DECODERS[name]())
    scoring = {"length_penalty": 0.7, "coverage_penalty": 0.4, "end_tokens": [2, 5]}
    found = engine.decode([3, 4, 5, 6], beam_size=5, num_hypotheses=5, return_attention=True,
                          prefix=[4], no_repeat_ngram_size=3, **scoring)  # fmt: skip
    ended = 0
    for h in found.hypotheses:
        assert h.attention is not None
        total = sum(logarithm(min(max(float(c), 2.0**-126), 1.0))[0]
                    for c in h.attention.astype(np.float64).sum(axis=0))  # fmt: skip
        alone = score_of(h.log_prob, len(h.token_log_probs), "power", 0.7)
        assert h.score == pytest.approx(alone + 0.4 * total, rel=1e-12)
        for end in ([2, 5], [5, 2], []):
            scored = engine.score([3, 4, 5, 6], h.ids, **{**scoring, "end_tokens": end})
            if scored.token_log_probs.tobytes() == h.token_log_probs.tobytes():
                assert (scored.score.hex(), scored.log_prob.hex()) == (
                    h.score.hex(), h.log_prob.hex())  # fmt: skip
                ended += 1
                break
        else:
            raise AssertionError("no score gives these log-probabilities")
    assert ended == 5


def test_coverage_by_hand() -> None:
    weights = [np.array([[0.5], [0.25], [0.0]]), np.array([[0.75], [0.25], [0.0]])]
    # 1.25 is cut to 1, 0.5 counts, nothing is as little as a float can be.
    assert coverage_of(weights) == pytest.approx(math.log(0.5) + math.log(2.0**-126), rel=1e-15)
    two_heads = [np.array([[0.5, 1.0]])]
    assert coverage_of(two_heads) == pytest.approx(math.log(0.75), rel=1e-15)
    assert coverage_of([]) == 0


def test_coverage_prefers_what_looks_at_everything() -> None:
    changed = 0
    for seed in range(30):
        engine, _ = loaded(seed, alignment=True, levels=40)
        options = {"beam_size": 6, "num_hypotheses": 6, "max_length": 6}
        plain = engine.decode([1, 2, 3], **options)
        covered = engine.decode([1, 2, 3], coverage_penalty=1.0, **options)
        assert all(h.score <= h.log_prob for h in covered.hypotheses)
        assert all(h.attention is None for h in covered.hypotheses)
        changed += plain.ids != covered.ids
    assert changed > 5


def test_logits_are_those_of_teacher_forcing_in_every_search() -> None:
    model = models.lstm_luong()
    for executor in (Engine.load(model), model.reference()):
        for options in ({}, {"beam_size": 4, "num_hypotheses": 4}, SETS["samples"]):
            found = executor.decode([3, 4, 5], max_length=5, return_logits=True, **options)
            for h in found.hypotheses:
                assert h.logits is not None and h.logits.dtype == np.float32
                assert h.logits.shape == (len(h.token_log_probs), models.TARGET)
                forced = executor.forced_logits([3, 4, 5], h.ids)[: len(h.logits)]
                assert np.array_equal(h.logits, forced.astype(np.float32))
                scored = [*h.ids, models.END][: len(h.logits)]
                wanted = log_softmax(h.logits.astype(np.float64), "")[range(len(scored)), scored]
                assert np.allclose(wanted, h.token_log_probs, rtol=0, atol=2e-6)
        assert executor.decode([3, 4, 5]).hypotheses[0].logits is None


# --- what is forced and forbidden ---


def greedy(engine: Engine, x: list[int], length: int, change: Any) -> list[int]:
    """Ids by arg max of logits that `change` has changed, ends among them."""
    ids: list[int] = []
    while len(ids) < length and models.END not in ids:
        ids.append(int(np.argmax(change(engine.forced_logits(x, ids)[-1].copy(), ids))))
    return [i for i in ids if i != models.END]


@pytest.mark.parametrize("penalty", [0.5, 1.2, 3.0])
def test_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones(
    penalty: float,
) -> None:
    def change(logits: Any, ids: list[int]) -> Any:
        for i in set(ids):
            p = np.float32(penalty)
            logits[i] = logits[i] / p if logits[i] > 0 else logits[i] * p
        return logits

    several = set()
    for seed in range(8):
        engine = Engine.load(models.lstm_luong(seed))
        found = engine.decode([3, 4, 5], repetition_penalty=penalty).hypotheses[0]
        assert found.ids == greedy(engine, [3, 4, 5], 12, change)
        several.add(tuple(found.ids))
        # Log-probabilities are those of the changed logits, which sum up to 1.
        if found.ids:
            last = change(engine.forced_logits([3, 4, 5], found.ids[:1])[-1], found.ids[:1])
            token = found.ids[1] if len(found.ids) > 1 else models.END
            expected = log_softmax(last.astype(np.float64), "")[token]
            assert found.token_log_probs[1] == pytest.approx(expected, abs=2e-6)
    assert len(several) > 3


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_stands_twice(size: int) -> None:
    blocked = 0
    for seed in range(12):
        engine = Engine.load(models.lstm_luong(seed))
        options = {"beam_size": 3, "num_hypotheses": 3, "prefix": [4, 4] if size > 2 else [4]}
        plain = engine.decode([3, 4, 5], **options)
        found = engine.decode([3, 4, 5], no_repeat_ngram_size=size, **options)
        for h in found.hypotheses:
            grams = [tuple(h.ids[n : n + size]) for n in range(len(h.ids) - size + 1)]
            assert len(set(grams)) == len(grams)
        blocked += plain.ids != found.ids
    assert blocked > 0


def test_prefix_is_part_of_the_result_and_scored() -> None:
    model = models.lstm_luong()
    for executor in (Engine.load(model), model.reference()):
        for options in ({}, {"beam_size": 4, "num_hypotheses": 4}):
            found = executor.decode(["s3", "s4"], prefix=["t4", "t5"], **options)
            assert found.ids == executor.decode(["s3", "s4"], prefix=[4, 5], **options).ids
            for h in found.hypotheses:
                assert h.tokens[:2] == ["t4", "t5"]
                scored = executor.score(["s3", "s4"], h.ids[:2]).token_log_probs[:2]
                assert scored.tobytes() == h.token_log_probs[:2].tobytes()


def test_prefix_of_what_is_found_anyway_changes_nothing() -> None:
    for seed in range(10):
        engine = Engine.load(models.lstm_luong(seed))
        plain = engine.decode([3, 4, 5])
        for n in range(len(plain.ids)):
            assert bits(engine.decode([3, 4, 5], prefix=plain.ids[:n])) == bits(plain)


def test_a_prefix_is_free_of_other_constraints() -> None:
    engine = Engine.load(models.lstm_luong())
    found = engine.decode([3, 4], prefix=[5, 5, 5], suppress_tokens=[5], no_repeat_ngram_size=1)
    assert found.ids[:3] == [5, 5, 5] and 5 not in found.ids[3:]


def test_end_tokens_replace_those_of_the_model() -> None:
    engine = Engine.load(models.lstm_luong())
    ids = engine.decode([3, 4, 5], end_tokens=[], max_length=12).ids
    assert len(ids) == 12
    for end in set(ids):
        found = engine.decode([3, 4, 5], end_tokens=[end]).hypotheses[0]
        assert found.ids == ids[: ids.index(end)] and found.finish_reason == "eos"
        assert len(found.token_log_probs) == len(found.ids) + 1
    assert engine.decode([3, 4, 5], end_tokens=["t2"]).ids == engine.decode([3, 4, 5]).ids


def test_one_function_allows_what_an_automaton_does() -> None:
    arcs = {0: {3: 1, 4: 0}, 1: {5: 0, 6: 1}}
    automaton = {"transitions": arcs, "start": 0, "final": [1]}
    calls = []

    def function(ids: list[int]) -> Iterator[int]:
        calls.append(tuple(ids))
        state = 0
        for id_ in ids:
            state = arcs[state][id_]
        yield from arcs[state]
        if state == 1:
            yield models.END

    engine = Engine.load(models.lstm_luong())
    options = {"beam_size": 3, "num_hypotheses": 3}
    found = engine.decode([3, 4, 5], allowed_tokens=function, **options)
    assert bits(found) == bits(engine.decode([3, 4, 5], allowed_tokens=automaton, **options))
    assert calls[0] == () and len(calls) > 5


def test_an_error_of_a_callers_function_reaches_the_caller() -> None:
    class Own(Exception):
        pass

    def fails(ids: list[int]) -> list[int]:
        if len(ids) > 1:
            raise Own("as asked")
        return [3, 4]

    engine = Engine.load(models.lstm_luong())
    for call in (
        lambda: engine.decode([3, 4], allowed_tokens=fails),
        lambda: engine.decode_batch([[3, 4]] * 9, allowed_tokens=fails, batch_size=2, threads=2),
    ):
        with pytest.raises(Own, match="as asked"):
            call()
    assert engine.decode([3, 4]).ids == Engine.load(models.lstm_luong()).decode([3, 4]).ids


def test_a_callers_function_is_let_go() -> None:
    class Function:
        def __call__(self, ids: list[int]) -> list[int]:
            return [3, 2]

    engine = Engine.load(models.lstm_luong())
    function = Function()
    gone = weakref.ref(function)
    engine.decode([3, 4], allowed_tokens=function)
    engine.decode([3, 4], beam_size=2)
    del function
    gc.collect()
    assert gone() is None


def test_a_dead_end_drops_a_hypothesis_and_without_any_left_is_an_error() -> None:
    model = models.lstm_luong()
    dead = {"transitions": {0: {3: 1, 4: 2}, 2: {5: 2}}, "start": 0, "final": [2]}
    for executor in (Engine.load(model), model.reference()):
        found = executor.decode([3, 4], allowed_tokens=dead, beam_size=2, num_hypotheses=2)
        assert all(h.ids[0] == 4 for h in found.hypotheses)
        with pytest.raises(InputError, match="dead end"):
            executor.decode([3, 4], allowed_tokens=dead, prefix=[3])
        with pytest.raises(InputError, match="dead end"):
            executor.decode([3, 4], suppress_tokens=list(range(models.TARGET)))
        # A minimum gives way where only an end can follow, as it does without constraints.
        short = executor.decode([3, 4], allowed_tokens=[[5], [5, 6]], min_length=9)
        assert short.ids == [5, 6]


def test_unknown_tokens_become_what_the_source_holds() -> None:
    model = models.lstm_luong()
    for executor in (Engine.load(model), model.reference()):
        plain = executor.decode(["s3", "s4", "s9"], return_attention=True)
        assert plain.attention is not None
        for unknown in set(plain.tokens):
            found = executor.decode(["s3", "s4", "s9"], replace_unknowns=unknown)
            source = [plain.source[int(row.argmax())] for row in plain.attention]
            assert found.ids == plain.ids and found.attention is None
            assert found.tokens == [
                word if token == unknown else token
                for token, word in zip(plain.tokens, source, strict=False)
            ]


def test_an_unknown_word_of_the_source_is_written_as_the_caller_wrote_it() -> None:
    w = models.Weights(0)
    m = ModelBuilder(source=5, target=4)
    e, d = m.encoder, m.decoder
    e.output(memory=e.embedding(e.tokens, w(5, 3)))
    query = d.embedding(d.token, w(4, 3))
    context, weights = d.attention(query=query, keys="memory", values="memory", score="dot")
    d.output(logits=d.linear(context, w(4, 3)), alignment=weights)
    words = {"tokens": ["<unk>", "a", "b", "</s>", "<s>"], "target": ["<s>", "</s>", "x", "<unk>"]}
    rule = {"unknown": 0, "append": [3], "prepend": [4], "reverse": True}
    model = m.build(source=rule, start=0, end=[1], vocabularies=words)
    source = ["a", "Zebra", "b", "Quagga"]
    seen = set()
    for executor in (Engine.load(model), model.reference()):
        options = {"allowed_tokens": ["<unk>", "x"], "max_length": 6, "min_length": 6}
        plain = executor.decode(source, return_attention=True, **options)
        for option in (True, "<unk>", 3):
            found = executor.decode(source, replace_unknowns=option, **options)
            assert plain.attention is not None
            prepared = ["</s>", *source, "<s>"]
            assert found.source == plain.source
            order = prepared if plain.source[0] == "</s>" else prepared[::-1]
            for id_, token, row in zip(found.ids, found.tokens, plain.attention, strict=False):
                assert token == (order[int(row.argmax())] if id_ == 3 else "x")
            seen |= set(found.tokens)
        ids = executor.decode([1, 0, 2], replace_unknowns=True, **options).tokens
        assert set(ids) <= {"x", *words["tokens"]}
    assert seen & {"Zebra", "Quagga", "a", "b", "<s>", "</s>"}


def test_a_model_file_keeps_options(tmp_path: Any) -> None:
    kept = {"suppress_tokens": ["t3"], "repetition_penalty": 1.5, "prefix": ["t5"],
            "allowed_tokens": {"transitions": {"a": {"t5": "b"}, "b": {"t6": "b"}}, "start": "a",
                               "final": ["b"]}}  # fmt: skip
    models.lstm_luong(**kept).save(tmp_path / "model.safetensors")
    plain = Engine.load(models.lstm_luong())
    with Engine.load(tmp_path / "model.safetensors") as engine:
        assert bits(engine.decode([3, 4])) == bits(plain.decode([3, 4], **kept))
        free = {"suppress_tokens": None, "repetition_penalty": 1.0, "prefix": None,
                "allowed_tokens": None}  # fmt: skip
        assert bits(engine.decode([3, 4], **free)) == bits(plain.decode([3, 4]))


def sums_of(first: list[float], second: list[float]) -> Any:
    """A model whose log-probabilities are these sums, which leave float32 where both are -3e38; the
    reference's float64 holds them."""
    m = ModelBuilder(target=len(first))
    d = m.decoder
    ids = d.embedding(d.token, np.array([first] * len(first), np.float32))
    steps = d.embedding(d.step(8), np.array([second] * 8, np.float32))
    d.output(log_probabilities=d.add(ids, steps))
    return m.build(start=1, end=[0], generation={"max_length": 4})


@pytest.mark.parametrize("beam", [1, 3])
def test_log_probabilities_that_are_all_minus_infinity(beam: int) -> None:
    far = -3e38
    nothing = sums_of([far] * 4, [far] * 4)
    with pytest.raises(NumericalError, match="step 0"):
        Engine.load(nothing).decode([], beam_size=beam, num_hypotheses=beam)
    one = sums_of([far, far, -1.0, far], [far, far, -1.0, far])
    found = Engine.load(one).decode([], beam_size=beam, num_hypotheses=beam)
    assert [h.ids for h in found.hypotheses] == [[2, 2, 2, 2]]
    assert (found.hypotheses[0].log_prob, found.hypotheses[0].finish_reason) == (-8.0, "length")
