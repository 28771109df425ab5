"""Greedy decodes that screen a large output layer in int8 give the bits of those that do not: every
option, instruction set and thread count, and models made so that screening has nothing to go by.
Knows decodes; the bounds themselves are tested in tests/cpp/test_screened.cpp."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import models
import numpy as np
import pytest
from conftest import ISAS
from models import Weights
from numpy.typing import NDArray
from test_engine import bits

from s2s_engine import CancelToken, DecodeCancelled, Engine, Model, ModelBuilder, NumericalError
from s2s_engine import _core as core
from s2s_engine.bench.workloads import luong_model
from s2s_engine.results import Result

Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def all_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output layers of every size are screened."""
    made = core.Model
    monkeypatch.setattr(core, "Model", lambda *given, **_: made(*given, screen_from=0))


def screened(engine: Engine) -> list[int]:
    """Steps that were screened, that failed to be, and panels of 32 that were computed."""
    counts = np.array([session.screened for session in engine._idle])
    return [int(count) for count in counts.sum(axis=0)]


def both(engine: Engine, call: Callable[[], Any]) -> tuple[Any, Any]:
    """What a call gives with screening and without."""
    found = []
    for screens in (True, False):
        for session in engine._idle:
            session.screens = screens
        found.append(call())
    return found[0], found[1]


def same(engine: Engine, x: object, **options: Any) -> Result:
    """A decode whose bits do not depend on screening."""
    with_it, without = both(engine, lambda: engine.decode(x, **options))
    assert bits(with_it) == bits(without)
    return with_it  # type: ignore[no-any-return]


def token_model(weight: Array, bias: Array) -> Model:
    """Without recurrence: a step's logits are W [e; e2] + b of the token before, whose embedding is
    in two parts, so that each step's inputs are rows of a table."""
    size, depth = weight.shape
    table = Weights(3)(size, depth)
    m = ModelBuilder(source=5, target=size)
    e, d = m.encoder, m.decoder
    e.output(h=e.pool(e.embedding(e.tokens, np.ones((5, 1))), "sum"))
    d.next(h=d.state("h", initial="h", size=1))
    first, second = table[:, : depth // 3], table[:, depth // 3 :]
    parts = [d.concat([d.embedding(d.token, part)]) for part in (first, second)]
    d.output(logits=d.linear(parts, weight, bias))
    return m.build(start=1)


# --- every option ---

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "many steps": {"max_length": 75, "end_tokens": []},
    "min_length": {"min_length": 9},
    "several ends": {"end_tokens": [2, 3, 4], "min_length": 5},
    "length_penalty": {"length_penalty": 0.7, "length_penalty_kind": "gnmt"},
    "fairseq": {"early_stop": "fairseq", "max_length": 5, "end_tokens": [8]},
    "opennmt": {"early_stop": "opennmt"},
    "marian": {"early_stop": "marian"},
    "stay": {"search": {"ended": "stay", "stop": "top"}},
    "logits": {"return_logits": True},
    "prefix": {"prefix": [5, 4]},
    # these read whole rows, and are not screened
    "suppressed": {"suppress_tokens": [3, 4]},
    "beam": {"beam_size": 3, "num_hypotheses": 3},
    "samples": {"sampling_topk": 0, "seed": 3},
}
NOT_SCREENED = {"suppressed", "beam", "samples"}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("target", [9, 300])
def test_every_option_gives_the_same_bits(name: str, target: int, isa: str) -> None:
    engine = Engine.load(models.lstm_luong(target=target, hidden=37), isa=isa)
    for x in ([4, 5, 6], [3], [7, 7, 8, 9, 10]):
        same(engine, x, **OPTIONS[name])
    assert (screened(engine)[0] > 0) == (name not in NOT_SCREENED)


def test_no_more_ids_are_wanted_than_the_screening_ranks(isa: str) -> None:
    engine = Engine.load(models.lstm_luong(target=3000, hidden=37), isa=isa)
    for ends, some in ((3, True), (16, False)):
        before = screened(engine)[0]
        same(engine, [4, 5, 6], end_tokens=list(range(2, 2 + ends)), min_length=9)
        assert (screened(engine)[0] > before) == some, ends


@pytest.mark.parametrize("name", models.DECODERS)
def test_every_decoder_gives_the_same_bits(name: str) -> None:
    engine = Engine.load(models.DECODERS[name]())
    for x in ([4, 5, 6], [3], [7, 7, 8, 9, 10]):
        same(engine, x)
        if name != "gru_plain":
            same(engine, x, return_attention=True, coverage_penalty=0.4)
    assert (screened(engine)[0] > 0) == (engine.info.screened != {}) == (name != "gru_additive")


@pytest.mark.parametrize("threads", [1, 3])
def test_instruction_sets_and_threads_agree(threads: int) -> None:
    model = luong_model(hidden=64, embedding=32, layers=1, vocabulary=6000, steps=40)
    core.assume_cpus(threads + 1)
    found = []
    for isa in ISAS:
        engine = Engine.load(model, isa=isa)
        session = core.Session(engine._core, isa, threads, 1)
        engine._idle[:] = [session]
        engine._threads = threads
        found.append(bits(same(engine, [4, 5, 6])))
        assert screened(engine)[0] == 40
    core.assume_cpus(0)
    assert all(one == found[0] for one in found)


def test_scores_streams_and_batches_of_one_are_screened() -> None:
    engine = Engine.load(models.lstm_luong(target=200, hidden=40))
    x, target = [4, 5, 6], [3, 150, 4, 5]

    def score() -> tuple[float, bytes]:
        found = engine.score(x, target, length_penalty=0.4)
        return found.score, found.token_log_probs.tobytes()

    calls: dict[str, Callable[[], Any]] = {
        "score": score,
        "no target": lambda: engine.score(x, [], end_tokens=[]).score,
        "batch": lambda: [bits(result) for result in engine.decode_batch([x])],
        "stream": lambda: [step.ids for step in engine.stream(x)],
    }
    for name, call in calls.items():
        before = screened(engine)[0]
        with_it, without = both(engine, call)
        assert with_it == without, name
        assert (screened(engine)[0] > before) == (name != "no target"), name
    many = [[3], [4, 5, 6], [5, 5]]
    with_it, without = both(engine, lambda: [bits(r) for r in engine.decode_batch(many)])
    assert with_it == without == [bits(engine.decode(one)) for one in many]


def test_a_sentence_that_others_join_keeps_its_bits() -> None:
    engine = Engine.load(models.lstm_luong(target=200, hidden=40))
    xs = [[3, 4], [5, 6, 7], [8], [9, 9]]
    alone = [raw(engine, x) for x in xs]
    session = core.Session(engine._core, "")
    batch = core.Batch(session, core.Request())
    found: dict[int, Any] = {}
    for key, x in enumerate(xs):
        batch.join([(key, [x], 40, None, None)])
        for left, what in batch.run(3):
            found[left] = what.hypotheses
    while batch.live:
        found |= {left: what.hypotheses for left, what in batch.run(100)}
    assert [plain(found[key]) for key in range(len(xs))] == alone
    assert session.screened[0] > 0


def raw(engine: Engine, x: list[int]) -> Any:
    session = core.Session(engine._core, "")
    session.screens = False
    return plain(session.decode([x], core.Request(), 40).hypotheses)


def plain(hypotheses: Any) -> list[Any]:
    return [(h[0], h[1].tobytes(), *h[2:4]) for h in hypotheses]


def test_a_cancelled_decode_has_the_scores_of_what_it_made() -> None:
    engine = Engine.load(models.lstm_luong(target=200, hidden=40))

    def cancelled() -> list[Any]:
        token, checks = CancelToken(), itertools.count()
        token._on_check = lambda: token.cancel() if next(checks) == 50 else None
        with pytest.raises(DecodeCancelled) as caught:
            engine.decode([4, 5, 6], max_length=500, end_tokens=[], cancel=token)
        assert isinstance(caught.value.result, Result)
        return bits(caught.value.result)

    with_it, without = both(engine, cancelled)
    assert with_it == without
    assert len(with_it[0][0]) > 32  # more than one product of rows that waited


# --- models that are hard to screen ---


def hard_layers() -> Iterator[tuple[str, Array, Array]]:
    w = Weights(5)
    weight, bias = w(3000, 60), w(3000)
    yield "random", weight, bias
    yield "exact in bfloat16", (weight.view(np.uint32) & 0xFFFF0000).view(np.float32), bias
    yield "equal rows", np.repeat(weight[:1], 3000, 0), np.zeros(3000, np.float32)
    near = np.repeat(weight[:1], 3000, 0)
    near[::7] = np.nextafter(near[::7], np.float32(9))
    yield "an ulp apart", near, np.zeros(3000, np.float32)
    yield "ties of two", np.repeat(weight[:1500], 2, 0), np.repeat(bias[:1500], 2)
    yield "a bias of -1e9", weight, np.where(np.arange(3000) % 5 == 0, -1e9, bias)
    scales = 2.0 ** np.random.default_rng(1).integers(-30, 3, (3000, 1))
    yield "rows of many sizes", (weight * scales).astype(np.float32), bias
    yield "tiny", weight * np.float32(2.0**-90), bias * np.float32(2.0**-90)
    yield "denormal", weight * np.float32(1e-40), bias * np.float32(1e-40)
    yield "huge", weight * np.float32(1e25), bias
    yield "beyond the bound", weight * np.float32(1e33), bias
    yield "zeros", np.zeros_like(weight), np.zeros(3000, np.float32)


HARD = {name: (weight, np.asarray(bias, np.float32)) for name, weight, bias in hard_layers()}


@pytest.mark.parametrize("name", HARD)
def test_hard_layers_give_the_same_bits(name: str, isa: str) -> None:
    engine = Engine.load(token_model(*HARD[name]), isa=isa)
    for start in range(3):
        same(engine, [start], max_length=40)
    steps, failed, _ = screened(engine)
    assert steps > 0 or failed > 0
    if name in ("random", "ties of two", "a bias of -1e9", "huge"):
        assert failed == 0  # and none of these is refused
    if name in ("equal rows", "an ulp apart", "beyond the bound", "zeros", "denormal"):
        assert steps == 0


def test_a_failed_screening_is_followed_by_steps_without_one() -> None:
    weight = np.zeros((700, 60), np.float32)
    engine = Engine.load(token_model(weight, weight[:, 0]))
    same(engine, [1], max_length=300)
    assert screened(engine) == [0, 13, 0]  # pauses of 1, 2, 4, 8, 16 and 32 steps


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", [0, 59])
def test_inputs_that_are_no_numbers_are_the_same_errors(bad: float, at: int) -> None:
    """A table's row 0 that overflows in the doubling before the output layer."""
    w = Weights(5)
    weight, bias = w(700, 60), w(700)
    bias[0] = 100.0  # the second step reads row 0
    table = w(700, 60)
    table[0, at] = 3e38
    m = ModelBuilder(source=5, target=700)
    e, d = m.encoder, m.decoder
    e.output(h=e.pool(e.embedding(e.tokens, np.ones((5, 1))), "sum"))
    d.next(h=d.state("h", initial="h", size=1))
    factors = np.diag(np.where(np.arange(60) == at, 2.0, 1.0)).astype(np.float32)
    if bad == -np.inf:
        factors = -factors
    x = d.linear(d.embedding(d.token, table), factors)
    if np.isnan(bad):
        x = d.linear(x, np.where(np.arange(60) == at, 0.0, np.eye(60)).astype(np.float32))
    d.output(logits=d.linear(x, weight, bias))
    engine = Engine.load(m.build(start=1))

    def message() -> str:
        with pytest.raises(NumericalError, match="the logits of step 1 of sentence 0") as caught:
            engine.decode([1], max_length=5)
        return str(caught.value)

    with_it, without = both(engine, message)
    assert with_it == without
    assert screened(engine)[:2] == [1, 1]


# --- what is screened, and what it takes ---


def test_large_output_layers_are_screened_and_info_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    model = luong_model(hidden=64, embedding=8, layers=1, vocabulary=40_000, steps=2)
    engine = Engine.load(model)
    ((name, size),) = engine.info.screened.items()
    plain = Engine.load(model, certified=False)
    assert plain.info.screened == pickle.loads(pickle.dumps(plain)).info.screened == {}
    assert bits(plain.decode([3, 4])) == bits(engine.decode([3, 4]))
    assert set(plain.info.screening.values()) == {0}
    assert engine.info.screening["steps"] + engine.info.screening["fallbacks"] > 0
    weight = model.tensors[name]
    assert weight.shape == (40_000, 64)
    assert 1.2 < size / weight.size < 1.4  # 20 bytes an output
    assert Engine.load(models.lstm_luong()).info.screened == {}
    assert Engine.load(model, compute_type="int8").info.screened == {}
    assert Engine.load(model, compute_type="bfloat16").info.screened == {}


def test_logits_that_something_else_reads_are_not_screened() -> None:
    m = ModelBuilder(source=5, target=50)
    e, d = m.encoder, m.decoder
    e.output(h=e.pool(e.embedding(e.tokens, np.ones((5, 50))), "sum"))
    w = Weights(2)
    logits = d.linear([d.state("h", initial="h", size=50)], w(50, 50))
    d.next(h=logits)
    d.output(logits=logits)
    engine = Engine.load(m.build(start=1))
    assert engine.info.screened == {}
    engine.decode([1], max_length=4)


def test_memory_is_estimated_and_bounded() -> None:
    model = luong_model(hidden=16, embedding=8, layers=1, vocabulary=3000, steps=40)
    engine = Engine.load(model)
    expected = same(engine, [3, 4, 5])
    assert engine.info.workspace_bytes == engine.estimate_memory(3)
    assert engine.estimate_memory(3) > engine.estimate_memory(3, 2)  # one row alone is screened
    tight = Engine.load(model, max_memory=engine.estimate_memory(3, 2))
    assert bits(tight.decode([3, 4, 5])) == bits(expected)
    assert screened(tight) == [0, 0, 0]
    cap = engine.estimate_memory(3)
    capped = Engine.load(model, max_memory=cap)
    assert bits(capped.decode([3, 4, 5])) == bits(expected)
    assert screened(capped)[0] == 40
    beams = cap // (engine.estimate_memory(3, 101) - engine.estimate_memory(3, 100)) - 5
    capped.decode([3, 4, 5], beam_size=beams)
    assert capped.info.workspace_bytes <= cap
    assert bits(capped.decode([3, 4, 5])) == bits(expected)
    assert screened(capped)[0] == 40


def test_few_outputs_survive() -> None:
    """Random weights, 8,000 words: on average one panel of 32 in ten may be computed, and fewer
    are."""
    model = luong_model(hidden=256, embedding=64, layers=1, vocabulary=8000, steps=50)
    engine = Engine.load(model)
    for x in ([4, 5, 6], [7000, 3]):
        same(engine, x)
    steps, failed, panels = screened(engine)
    assert (steps, failed) == (100, 0)
    assert panels / steps < 15
