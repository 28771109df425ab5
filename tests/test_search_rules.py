"""The rules of a search and its penalties: the core against the reference, the reference against
other programs written down anew, exhaustive search. Knows tables of log-probabilities, and models
of tests/models.py where instruction sets are compared."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeAlias

import models
import numpy as np
import pytest
from conftest import ISAS
from tables import STEPS, bits, loaded, table_model

from s2s_engine import DecodeOptions, Engine, InputError
from s2s_engine.reference_search import checked_log_probs, search
from s2s_engine.search_rules import (
    COUNTING,
    ENDED,
    LIMIT,
    PENALTIES,
    PRESETS,
    STANDING,
    STOP,
    SearchRule,
)

Ids: TypeAlias = tuple[int, ...]
Scored: TypeAlias = list[tuple[Ids, float]]
RULES = [SearchRule(*words) for words in itertools.product(ENDED, STOP, LIMIT)]
WORDS = ["-".join((rule.ended, rule.stop, rule.limit)) for rule in RULES]
JOEYNMT_1 = {
    "0.9": SearchRule("expand", "first", "again"),
    "1.3": SearchRule("expand", "first", "done"),
    "1.4": SearchRule("expand", "places", "closed"),
}
ALPHAS = [("power", 0.0), ("power", 1.0), ("power", 0.6), ("power", -0.7), ("gnmt", 0.9),
          ("gnmt", -1.5), ("none", 2.0)]  # fmt: skip


def as_mapping(rule: SearchRule) -> dict[str, str]:
    return {"ended": rule.ended, "stop": rule.stop, "limit": rule.limit}


# --- the core against the reference ---


def draws(rule: SearchRule, count: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Tables and options at random, the same in every run."""
    rng = random.Random(repr(rule))
    for _ in range(count):
        vocabulary = rng.choice((2, 3, 5, 9))
        ends = rng.choice(((), (0,), (vocabulary - 1,), (0, vocabulary - 1)))
        table = {"vocabulary": vocabulary, "end": ends, "levels": rng.choice((2, 3, 40, 1 << 12))}
        beam = rng.choice((1, 2, 3, 5, 12))
        kind, alpha = rng.choice(ALPHAS)
        length = rng.randint(1, STEPS)
        options = {
            "beam_size": beam,
            "num_hypotheses": rng.randint(1, beam),
            "max_length": length,
            "min_length": rng.choice((0, 0, rng.randint(0, length))),
            "length_penalty": alpha,
            "length_penalty_kind": kind,
            "length_penalty_offset": rng.choice((0, 0, 1, 7)),
            "search": rule,
        }
        if rule.stop in COUNTING:
            options["patience"] = rng.choice((1.0, 1.5, 2.0))
        yield {"seed": rng.randrange(20), **table}, options


@pytest.mark.parametrize("rule", RULES, ids=WORDS)
def test_core_finds_the_bits_of_the_reference(rule: SearchRule) -> None:
    for table, options in draws(rule, 60):
        engine, reference = loaded(**table)
        for prompt in ([0], [1, 0, 1]):
            found, expected = (e.decode(prompt, **options) for e in (engine, reference))
            assert bits(found) == bits(expected), (table, options)


@pytest.mark.parametrize("rule", RULES, ids=WORDS)
def test_batch_gives_the_bits_of_one_at_a_time(rule: SearchRule) -> None:
    prompts = [[1], [0, 1, 1], [1, 1], [0], [1, 0]] * 3
    for table, options in draws(rule, 12):
        engine, _ = loaded(**table)
        together = engine.decode_batch(prompts, batch_size=7, **options)
        assert list(map(bits, together)) == [bits(engine.decode(p, **options)) for p in prompts]


@pytest.mark.parametrize("rule", RULES, ids=WORDS)
def test_beam_of_one_is_greedy_under_every_rule(rule: SearchRule) -> None:
    for seed in range(10):
        engine, _ = loaded(seed, end=(4,), levels=40)
        ids: list[int] = []
        while len(ids) < STEPS and 4 not in ids:
            ids.append(int(engine.forced_logits([3], ids)[-1].argmax()))
        if rule.limit == "end":
            ids[STEPS - 1 :] = [4] * (len(ids) == STEPS)
        found = engine.decode([3], search=rule).hypotheses[0]
        assert found.ids == [i for i in ids if i != 4]
        assert found.finish_reason == ("eos" if 4 in ids else "length")


@pytest.mark.parametrize("rule", RULES, ids=WORDS)
def test_score_gives_the_bits_of_decode_under_every_penalty(rule: SearchRule) -> None:
    for table, options in draws(rule, 20):
        penalty = {name: options[name] for name in options if name.startswith("length_penalty")}
        for executor in loaded(**table):
            for h in executor.decode([1], **options).hypotheses:
                end = table["end"]
                if end and (h.finish_reason != "eos" or len(end) > 1):
                    continue
                scored = executor.score([1], h.ids, **penalty)
                assert scored.log_prob.hex() == h.log_prob.hex()
                # A hypothesis that went on behind its end has the score of all of it.
                if rule.ended != "expand" or rule.limit not in STANDING:
                    assert scored.score.hex() == h.score.hex()


@pytest.mark.parametrize("rule", RULES, ids=WORDS)
def test_what_every_rule_promises(rule: SearchRule) -> None:
    for table, options in draws(rule, 40):
        result = loaded(**table)[0].decode([1], **options)
        scores = [h.score for h in result.hypotheses]
        assert 1 <= len(scores) <= options["num_hypotheses"]
        assert scores == sorted(scores, reverse=True)
        for h in result.hypotheses:
            assert len(h.token_log_probs) == len(h.ids) + (h.finish_reason == "eos")
            assert len(h.token_log_probs) <= options["max_length"]
            only_ends = len(table["end"]) == table["vocabulary"]
            if h.finish_reason == "eos" and rule.limit != "end" and not only_ends:
                assert len(h.token_log_probs) >= options["min_length"]
            if rule.limit == "end" and table["end"]:
                assert h.finish_reason == "eos"


@pytest.mark.parametrize("rule", [*PRESETS.values(), *JOEYNMT_1.values()])
@pytest.mark.parametrize("name", models.DECODERS)
def test_every_instruction_set_and_batch_gives_the_same_bits(name: str, rule: SearchRule) -> None:
    model = models.DECODERS[name]()
    engines = [Engine.load(model, isa=isa) for isa in ISAS]
    options = {"beam_size": 4, "num_hypotheses": 4, "search": rule, "length_penalty": 0.7,
               "min_length": 3, "max_length": 9}  # fmt: skip
    sources = [[3], [4, 5, 6], [10, 9, 8, 7, 6, 5], [1, 1, 1, 1]]
    for x in sources:
        runs = [bits(engine.decode(x, **options)) for engine in engines]
        assert all(run == runs[0] for run in runs)
        # Scores of the float64 reference that lie this near could stand in another order.
        expected = model.reference().decode(x, **options)
        assert np.allclose([float.fromhex(h[1]) for h in runs[0]],
                           [h.score for h in expected.hypotheses], rtol=0, atol=1e-5)  # fmt: skip
    together = engines[-1].decode_batch(sources, batch_size=3, threads=2, **options)
    assert list(map(bits, together)) == [bits(engines[0].decode(x, **options)) for x in sources]


# --- exhaustive search ---


@pytest.mark.parametrize(("kind", "alpha"), ALPHAS)
@pytest.mark.parametrize("min_length", [0, 3])
def test_a_beam_wide_enough_is_exhaustive_under_every_penalty(
    kind: str, alpha: float, min_length: int
) -> None:
    """All hypotheses of at most four ids over four tokens, ranked by their scores."""
    for seed in range(12):
        engine, reference = loaded(seed, vocabulary=4, end=(2,))
        options = {"length_penalty": alpha, "length_penalty_kind": kind}
        everything: list[tuple[float, Ids, str]] = []
        for length in range(5):
            for ids in itertools.product((0, 1, 3), repeat=length):
                log_probs = [float(v) for v in engine.score([1], list(ids)).token_log_probs]
                if length < 4 and length + 1 >= min_length:
                    everything.append((penalised(log_probs, kind, alpha), ids, "eos"))
                elif length == 4:
                    everything.append((penalised(log_probs[:-1], kind, alpha), ids, "length"))
        everything.sort(key=lambda item: -item[0])
        for executor, count in itertools.product((engine, reference), (1, 3, 17)):
            found = executor.decode([1], beam_size=125, num_hypotheses=count, max_length=4,
                                    min_length=min_length, **options)  # fmt: skip
            scores = [(h.score, tuple(h.ids), h.finish_reason) for h in found.hypotheses]
            assert sorted(scores) == sorted(everything[:count])


@pytest.mark.parametrize(("kind", "alpha"), ALPHAS)
@pytest.mark.parametrize("min_length", [0, 3])
def test_stopping_once_decided_changes_no_result(kind: str, alpha: float, min_length: int) -> None:
    for seed, (beam, count) in itertools.product(range(60), ((2, 1), (3, 2), (5, 5))):
        options = {"beam_size": beam, "num_hypotheses": count, "length_penalty": alpha,
                   "length_penalty_kind": kind, "min_length": min_length}  # fmt: skip
        for executor in loaded(seed, vocabulary=6, end=(0,), levels=600):
            stopped = executor.decode([1], search=SearchRule("leave", "best"), **options)
            to_the_end = executor.decode([1], search=SearchRule("leave", "empty"), **options)
            assert bits(stopped) == bits(to_the_end)


def penalised(log_probs: list[float], kind: str, alpha: float) -> float:
    length = len(log_probs)
    base = {"none": 1.0, "power": float(length), "gnmt": (5 + length) / 6}[kind]
    return math.fsum(log_probs) / base**alpha


def test_penalties_by_hand() -> None:
    engine, _ = loaded(1)
    for ids in ([], [1], [2, 3, 1]):
        total, n = engine.score([1], ids).log_prob, len(ids) + 1
        assert engine.score([1], ids, length_penalty=1).score == total / n
        gnmt = engine.score([1], ids, length_penalty=2, length_penalty_kind="gnmt")
        assert gnmt.score == pytest.approx(total * 36 / (5 + n) ** 2, rel=1e-15)
        assert engine.score([1], ids, length_penalty=2, length_penalty_kind="none").score == total
    assert set(PENALTIES) == {kind for kind, _ in ALPHAS}


def test_a_model_says_its_penalty_and_a_call_another() -> None:
    engine, reference = loaded(1, length_penalty=1.0)
    for executor in (engine, reference):
        best = executor.decode([1]).hypotheses[0]
        assert best.score == best.log_prob / len(best.token_log_probs)
        assert executor.score([1], [2, 3]).score == executor.score([1], [2, 3]).log_prob / 3
        plain = executor.score([1], [2, 3], length_penalty=0.0)
        assert plain.score == plain.log_prob
        assert executor.decode([1], length_penalty=0.0).score == best.log_prob


# --- what other programs do, in words of our own ---

Table: TypeAlias = Callable[[Ids], list[float]]
END, WIDTH = 3, 14


def table(seed: int) -> Table:
    """Log-probabilities by all ids so far, without ties."""

    @cache
    def log_probs(ids: Ids) -> list[float]:
        rng = random.Random(f"{seed} {ids}")
        return [float(np.float32(-0.01 - 3 * rng.random())) for _ in range(WIDTH)]

    return log_probs


def ranked(
    table: Table, beam: Scored, banned: int | None = None, alone: int | None = None
) -> Scored:
    """Every continuation of a beam, best first; without one id, or with one id alone."""
    found = [
        ((*ids, token), total + value)
        for ids, total in beam
        for token, value in enumerate(table(ids))
        if token != banned and alone in (None, token)
    ]
    return sorted(found, key=lambda item: -item[1])


def ours(table: Table, rule: SearchRule, **options: Any) -> Scored:
    def step(state: Any, token: int, number: int) -> Any:
        ids = () if state is None else (*state, token)
        return ids, np.array(table(ids)), None

    paths = search(
        step, None, start=0, end=[END], rule=rule, log_probs=checked_log_probs, **options
    )
    return [(path.ids, path.score) for path in paths]


def best_of(found: Scored, count: int) -> Scored:
    return sorted(found, key=lambda item: -item[1])[:count]


def opennmt(
    table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
) -> Scored:
    """`places` are the K best of a step, ended ones among them; those have no children. min_length
    leaves the end out, scores divide by our length."""
    places: Scored = [((), 0.0)]
    finished: Scored = []
    end_was_first = False
    for step in range(max_length):
        parents = [place for place in places if place[0][-1:] != (END,)]
        banned = END if step < min_length else None
        places = ranked(table, parents, banned)[:beam]
        finished += [(ids, x / (step + 1) ** alpha) for ids, x in places if ids[-1] == END]
        end_was_first = end_was_first or places[0][0][-1] == END
        if end_was_first and len(finished) >= n_best:
            return best_of(finished, n_best)
    for ids, total in places:
        if len(finished) < n_best and ids[-1] != END:
            finished.append((ids, total / max_length**alpha))
    return best_of(finished, n_best)


def fairseq(
    table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
) -> Scored:
    """max_length and min_length leave the end out: step max_length can only end."""
    live: Scored = [((), 0.0)]
    finalised: Scored = []
    for step in range(max_length + 1):
        banned, alone = (END if step < min_length else None), (END if step == max_length else None)
        candidates = ranked(table, live, banned, alone)[: 2 * beam]
        for ids, total in candidates[:beam]:
            if ids[-1] == END and len(finalised) < beam:
                finalised.append((ids, total / (step + 1) ** alpha))
        if len(finalised) == beam:
            break
        live = [item for item in candidates if item[0][-1] != END][:beam]
    return best_of(finalised, n_best)


def marian(
    table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
) -> Scored:
    """The beam has as many places as hypotheses that did not end."""
    assert min_length == 0
    live: Scored = [((), 0.0)]
    size, step = beam, 0
    complete: Scored = []
    while live:
        step += 1
        live = ranked(table, live)[:size]
        last = step >= max_length
        complete += [(i, x / step**alpha) for i, x in live if last or i[-1] == END]
        live = [] if last else [item for item in live if item[0][-1] != END]
        size = len(live)
    return best_of(complete, n_best)


def patience(
    table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
) -> Scored:
    """First come, first served: the ones that end among 2 K candidates, until K have."""
    live: Scored = [((), 0.0)]
    served: Scored = []
    for step in range(max_length):
        looked_at = 1 if beam == 1 else 2 * beam
        candidates = ranked(table, live, END if step < min_length else None)[:looked_at]
        live = [item for item in candidates if item[0][-1] != END][:beam]
        served += [(ids, x / (step + 1) ** alpha) for ids, x in candidates if ids[-1] == END]
        if len(served) >= beam or not live:
            return best_of(served[:beam], n_best)
    return best_of(served + [(ids, x / max_length**alpha) for ids, x in live], n_best)


def staying(
    table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
) -> Scored:
    """The only continuation of an ended hypothesis is itself."""
    places: Scored = [((), 0.0)]
    results: dict[Ids, float] = {}
    for step in range(max_length):
        ended = [place for place in places if place[0][-1:] == (END,)]
        others = [place for place in places if place not in ended]
        new = ranked(table, others, END if step < min_length else None)
        places = best_of(ended + new, beam)
        for ids, total in places:
            if ids[-1] == END:
                results.setdefault(ids, total / len(ids) ** alpha)
        if places[0][0][-1] == END and len(results) >= n_best and step + 1 < max_length:
            return best_of(list(results.items()), n_best)
        if all(ids[-1] == END for ids, _ in places):
            break
    cut = [(ids, x / max_length**alpha) for ids, x in places if ids[-1] != END]
    return best_of(list(results.items()) + cut, n_best)


def opennmt3(
    table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
) -> Scored:
    """As `opennmt`, but a sentence is done only in a step whose best place ends, all that live at
    the limit count as ended, and the start token is part of a length."""
    places: Scored = [((), 0.0)]
    finished: Scored = []
    for step in range(1, max_length + 1):
        parents = [place for place in places if place[0][-1:] != (END,)]
        places = ranked(table, parents, END if step <= min_length else None)[:beam]
        ended = [step == max_length or ids[-1] == END for ids, _ in places]
        finished += [
            (ids, x / (step + 1) ** alpha)
            for (ids, x), over in zip(places, ended, strict=True)
            if over
        ]
        if ended[0] and len(finished) >= n_best:
            break
    return best_of(finished, n_best)


def opennmt23(
    table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
) -> Scored:
    """As `opennmt3`, but a sentence is done once its best place has ended in any step and as many
    have ended as the beam is wide."""
    places: Scored = [((), 0.0)]
    finished: Scored = []
    was_first = False
    for step in range(1, max_length + 1):
        parents = [place for place in places if place[0][-1:] != (END,)]
        places = ranked(table, parents, END if step <= min_length else None)[:beam]
        last = step == max_length
        was_first = was_first or places[0][0][-1] == END
        finished += [(i, x / (step + 1) ** alpha) for i, x in places if last or i[-1] == END]
        if was_first and len(finished) >= beam:
            break
    return best_of(finished, n_best)


def joeynmt(
    table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
) -> Scored:
    """Ended hypotheses grow like all others; one counts when its first end is its last id. A place
    is closed for good once an end, first or not, has stood in it."""
    places: Scored = [((), 0.0)]
    finished: Scored = []
    closed: set[int] = set()
    for step in range(1, max_length + 1):
        places = ranked(table, places, END if step <= min_length else None)[:beam]
        closed |= {n for n in range(beam) if n >= len(places) or places[n][0][-1] == END}
        last = step == max_length
        for ids, total in places:
            ends = ids.count(END)
            if (ends == 0 and last) or (ends == 1 and ids[-1] == END):
                finished.append((ids, total / ((5 + step) / 6) ** alpha))
        if len(closed) == beam:
            break
    return best_of(finished, n_best)


def joeynmt1(release: str) -> Callable[..., Scored]:
    """Its releases before 2.0. All places are results once a sentence is done. 0.9 counts every
    end anew, later releases what has one at most; 1.4 wants every place closed, and counts what
    stands in a closed one in every step."""

    def found(
        table: Table, *, beam: int, n_best: int, max_length: int, min_length: int, alpha: float
    ) -> Scored:
        places: Scored = [((), 0.0)]
        counted: Scored = []
        shut = [False] * beam
        for step in range(1, max_length + 1):
            places = ranked(table, places, END if step <= min_length else None)[:beam]
            ended = [ids[-1] == END for ids, _ in places]
            ended += [release == "1.4"] * (beam - len(places))
            shut = [one or (old and release == "1.4") for one, old in zip(ended, shut, strict=True)]
            done = step == max_length or (all(shut) if release == "1.4" else shut[0])
            for (ids, total), one in zip(places, shut, strict=False):
                if (done or one) and (release == "0.9" or ids.count(END) < 2):
                    cut = ids[: ids.index(END) + 1] if END in ids else ids
                    counted.append((cut, total / ((5 + step) / 6) ** alpha))
            if done:
                break
        return best_of(counted, n_best)

    return found


PROGRAMS = {
    "opennmt": (opennmt, PRESETS["opennmt"]),
    "opennmt23": (opennmt23, SearchRule("place", "both", "compete")),
    "opennmt3": (opennmt3, SearchRule("place", "head", "compete")),
    "joeynmt": (joeynmt, PRESETS["joeynmt"]),
    **{f"joeynmt {name}": (joeynmt1(name), rule) for name, rule in JOEYNMT_1.items()},
    "fairseq": (fairseq, PRESETS["fairseq"]),
    "marian": (marian, PRESETS["marian"]),
    "patience": (patience, PRESETS["patience"]),
    "staying": (staying, SearchRule("stay", "top", "compete")),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_rule_finds_what_the_program_finds(name: str) -> None:
    rng = random.Random(name)
    several = 0
    for seed in range(400):
        beam = rng.choice((1, 2, 3, 5))
        n_best, longest = rng.randint(1, beam), rng.randint(2, 7)
        shortest = 0 if name == "marian" else rng.randint(0, 2)
        alpha = rng.choice((0.0, 0.6, 1.0, 1.4))
        program, rule = PROGRAMS[name]
        expected = program(
            table(seed), beam=beam, n_best=n_best, max_length=longest, min_length=shortest,
            alpha=alpha,
        )  # fmt: skip
        found = ours(
            table(seed), rule, beam_size=beam, num_hypotheses=n_best, length_penalty=alpha,
            # The end counts for us: in fairseq one more id, under a minimum one more too.
            max_length=longest + (name == "fairseq"), min_length=shortest + 1 if shortest else 0,
            length_penalty_kind="gnmt" if name.startswith("joeynmt") else "power",
            length_penalty_offset=int(name in ("opennmt23", "opennmt3")),
        )  # fmt: skip
        assert [ids for ids, _ in found] == [ids for ids, _ in expected]
        assert [x for _, x in found] == pytest.approx([x for _, x in expected], rel=1e-14)
        several += len(found) > 1
    assert several > 100


def test_the_rules_of_programs_differ() -> None:
    """A table for every pair of names on which they do not agree."""
    options = {"beam_size": 3, "num_hypotheses": 3, "max_length": 7, "length_penalty": 1.0}
    found = {name: [ours(table(s), rule, **options) for s in range(50)]
             for name, rule in PRESETS.items()}  # fmt: skip
    for one, other in itertools.combinations(PRESETS, 2):
        assert found[one] != found[other]


# --- single facts ---


def chosen(probabilities: dict[Ids, list[float]], rule: SearchRule, **options: Any) -> list[Ids]:
    """The ids that a rule finds, best first; id 0 ends."""

    def step(state: Any, token: int, number: int) -> Any:
        ids = () if state is None else (*state, token)
        return ids, np.log(np.array(probabilities.get(ids, [0.1, 0.3, 0.3, 0.3]))), None

    defaults = {"start": 0, "end": [0], "beam_size": 2, "num_hypotheses": 1, "max_length": 3}
    found = search(step, None, rule=rule, log_probs=checked_log_probs, **{**defaults, **options})
    return [path.ids for path in found]


SOME = {
    (): [0.3, 0.45, 0.25, 1e-9],
    (1,): [1e-9, 0.5, 0.49, 0.01],
    (2,): [0.01, 0.97, 0.01, 0.01],
}


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        # Id 0 is second of the first step. Its place is free at once, so (2,) lives on,
        ("leave", [(0,), (2, 1), (1, 1)]),
        # or is free in the next step, which has two for (1, ...),
        ("place", [(0,), (1, 1), (1, 2)]),
        # or is gone,
        ("shrink", [(0,), (1, 1)]),
        # or is held.
        ("stay", [(0,), (1, 1)]),
    ],
)
def test_the_place_of_an_ended_hypothesis(ended: str, expected: list[Ids]) -> None:
    rule = SearchRule(ended, "empty")
    assert chosen(SOME, rule, num_hypotheses=3, max_length=2) == expected


def test_an_ended_one_that_stays_can_be_pushed_out_and_is_a_result_all_the_same() -> None:
    some = {(): [0.06, 0.9, 0.04, 1e-9], (1,): [1e-9, 0.5, 0.499, 0.001]}
    # Both places of the last step are for live ones again.
    found = chosen(some, SearchRule("stay", "empty"), num_hypotheses=3)
    assert found == [(1, 1, 1), (1, 1, 2), (0,)]
    assert chosen(some, SearchRule("shrink", "empty"), num_hypotheses=3) == [(1, 1, 1), (0,)]


def test_an_end_behind_the_best_k_is_dropped_where_only_leading_ones_count() -> None:
    some = {(): [0.2, 0.45, 0.3, 0.05]}
    one = {"num_hypotheses": 3, "max_length": 1}
    assert chosen(some, SearchRule("leave", "best"), **one) == [(1,), (2,), (0,)]
    assert chosen(some, SearchRule("leading", "best"), **one) == [(1,), (2,)]


def test_what_becomes_of_live_ones_at_the_limit() -> None:
    one = {"num_hypotheses": 2, "max_length": 2}
    assert chosen(SOME, SearchRule("leave", "empty", "compete"), **one) == [(0,), (2, 1)]
    assert chosen(SOME, SearchRule("leave", "empty", "end"), **one) == [(0,), (2, 0)]
    some = {(): [0.1, 0.5, 0.3, 0.1], (1,): [0.1, 0.6, 0.2, 0.1]}
    one = {"num_hypotheses": 1, "max_length": 2}
    assert chosen(some, SearchRule("leave", "empty", "compete"), **one) == [(1, 1)]
    assert chosen(some, SearchRule("leave", "empty", "fill"), **one) == [(0,)]


def test_a_search_stops_when_the_best_place_has_held_an_ended_one() -> None:
    # The end is first of the first step. Where two are wanted the search goes on, and is done when
    # the second has ended in whatever place.
    some = {(): [0.5, 0.3, 0.15, 0.05], (1,): [0.2, 0.6, 0.1, 0.1], (1, 1): [0.9, 0.05, 0.04, 0.01]}
    rule = SearchRule("place", "top", "fill")
    assert chosen(some, rule) == [(0,)]
    assert chosen(some, rule, num_hypotheses=2) == [(0,), (1, 0)]
    assert chosen(some, SearchRule("place", "best"), num_hypotheses=2) == [(0,), (1, 1, 0)]


def test_patience_counts_ended_hypotheses() -> None:
    # One ends at every step; the later ones are better, because the early ends are unlikely.
    some = {(1,) * n: [0.02 * 3**n, 1 - 0.02 * 3**n - 0.02, 0.01, 0.01] for n in range(4)}
    rule = SearchRule("leave", "count")
    for limit in (1, 2, 3):
        found = chosen(some, rule, num_hypotheses=1, finished_limit=limit, max_length=6)
        assert len(found[0]) == limit


def test_early_stop_names_rules_and_search_gives_their_parts() -> None:
    engine, _ = loaded(2, levels=40)
    for name, rule in PRESETS.items():
        options = {"beam_size": 4, "num_hypotheses": 4}
        named = engine.decode([1], early_stop=name, **options)
        assert bits(named) == bits(engine.decode([1], search=as_mapping(rule), **options))
        assert DecodeOptions(early_stop=name).rule == rule


def test_a_call_replaces_the_rule_of_the_model_as_a_whole() -> None:
    given = {"early_stop": "patience", "patience": 2.0, "beam_size": 3}
    assert DecodeOptions.of(given, None, {"early_stop": "exact"}).patience == 1.0
    assert DecodeOptions.of(given, None, {"beam_size": 4}).finished_limit == 8
    parts = {"search": {"ended": "stay", "stop": "top"}}
    assert DecodeOptions.of(parts, None, {}).rule == SearchRule("stay", "top", "compete")
    assert DecodeOptions.of(parts, None, {"early_stop": "marian"}).rule == PRESETS["marian"]
    assert DecodeOptions.of(parts, DecodeOptions(early_stop="fairseq"), parts).rule.ended == "stay"
    for name in PRESETS:
        with pytest.raises(InputError, match="give one of them"):
            DecodeOptions.of({}, None, {"early_stop": name, **parts})


def test_a_model_file_keeps_the_rule(tmp_path: Any) -> None:
    rule = {"ended": "place", "stop": "top", "limit": "fill"}
    model = table_model(3, search=rule, beam_size=3)
    model.save(tmp_path / "model.safetensors")
    with Engine.load(tmp_path / "model.safetensors") as engine:
        assert engine.info.generation["search"] == rule
        assert bits(engine.decode([1])) == bits(engine.decode([1], early_stop="opennmt"))
