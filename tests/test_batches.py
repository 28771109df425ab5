"""`decode_iter` and `decode_batch`: continuous batches give the bits of single decodes, lazily, in
order, within bounds of sources and of memory. Knows who is in a step; never how it is computed."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import models
import numpy as np
import pytest
from conftest import ISAS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import SOURCES, bits
from test_prompts import PROMPTS, language_model

from s2s_engine import (
    CancelToken,
    DecodeOptions,
    Engine,
    InputError,
    InputTooLongError,
    NumericalError,
    _core,
)
from s2s_engine.batches import Flow
from s2s_engine.search_rules import PRESETS

ENGINES = {
    (name, isa): Engine.load(model(), isa=isa)
    for name, model in models.DECODERS.items()
    for isa in ISAS
}
ENGINE = ENGINES["lstm_luong", ISAS[-1]]
SINGLE = {name: Engine.load(model()) for name, model in models.DECODERS.items()}


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(models.DECODERS)),
    isa=st.sampled_from(ISAS),
    xs=st.lists(st.lists(st.integers(0, models.SOURCE - 1), min_size=1, max_size=35), max_size=24),
    batch_size=st.integers(1, 9),
    threads=st.integers(1, 3),
    beam=st.integers(1, 5),
    rule=st.sampled_from(sorted(PRESETS)),
)
def test_the_bits_of_decode_one_by_one(
    name: str,
    isa: str,
    xs: list[list[int]],
    batch_size: int,
    threads: int,
    beam: int,
    rule: str,
) -> None:
    """Small batches and lengths of every size: sentences leave and join in most steps."""
    engine = ENGINES[name, isa]
    attention = "alignment" in engine._model.graphs["decoder"].outputs
    options = DecodeOptions(beam_size=beam, num_hypotheses=beam, max_length=9, length_penalty=0.6,
                            early_stop=rule, return_attention=attention)  # fmt: skip
    expected = [bits(SINGLE[name].decode(x, options=options)) for x in xs]
    found = engine.decode_iter(iter(xs), batch_size=batch_size, threads=threads, options=options)
    assert [bits(result) for result in found] == expected
    batch = engine.decode_batch(xs, batch_size=batch_size, threads=threads, options=options)
    assert [bits(result) for result in batch] == expected


def test_sentences_join_while_others_are_at_other_steps() -> None:
    """As many steps as a batch must make when a place is never empty for longer than it has to."""
    engine = Engine.load(models.no_recurrence())  # as many ids as the source has
    lengths = [40, *[4] * 10]
    steps: list[int] = []
    session = engine._session()
    batch = _core.Batch(session, _core.Request())
    waiting = [(n, [[3] * length], length, None, None) for n, length in enumerate(lengths)]
    left: list[int] = []
    batch.join([waiting.pop(0), waiting.pop(0)])
    while batch.live:
        steps.append(batch.live)
        for number, found in batch.run(1):
            left.append(number)
            assert isinstance(found, _core.Found)
            assert found.hypotheses[0][0] == engine.decode([3] * lengths[number]).ids
            if waiting:
                batch.join([waiting.pop(0)])
    # The ten short ones went through the second place, one behind the other; the last ended with
    # the long one.
    assert left == [*range(1, 10), 0, 10] and steps == [2] * 40


def test_prompts_join_as_sources_do() -> None:
    for start in (0, None):
        engine = Engine.load(language_model(start=start))
        xs = [*PROMPTS, *PROMPTS[::-1], *PROMPTS]
        expected = [bits(engine.decode(x, beam_size=3)) for x in xs]
        for size, threads in itertools.product((1, 2, 5), (1, 2)):
            found = engine.decode_iter(xs, batch_size=size, threads=threads, beam_size=3)
            assert [bits(result) for result in found] == expected


def test_features_and_labels_are_iterated_too() -> None:
    engine = Engine.load(models.captioner())
    xs = [{"image": np.full(7, n / 9, np.float32)} for n in range(9)]
    assert [bits(r) for r in engine.decode_iter(xs, batch_size=2)] == [
        bits(engine.decode(inputs=x)) for x in xs
    ]
    tagger = Engine.load(models.tagger())
    assert [bits(r) for r in tagger.decode_iter(SOURCES)] == [
        bits(tagger.decode(x)) for x in SOURCES
    ]


def test_an_iteration_is_lazy_and_holds_no_more_than_it_says() -> None:
    read: list[int] = []

    def sources() -> Iterator[list[int]]:
        for n in itertools.count():
            read.append(n)
            yield [n % 11]

    for threads in (1, 2):
        read.clear()
        found = ENGINE.decode_iter(sources(), batch_size=3, threads=threads)
        assert read == []
        for taken in range(1, 30):
            next(found)
            assert taken <= len(read) <= taken - 1 + 4 * 3 * threads
        found.close()  # type: ignore[attr-defined]


def test_the_callers_iterator_runs_on_the_callers_thread() -> None:
    seen: set[int] = set()

    def sources() -> Iterator[list[int]]:
        for n in range(40):
            seen.add(threading.get_ident())
            yield [n % 11]

    assert len(list(ENGINE.decode_iter(sources(), batch_size=2, threads=3))) == 40
    assert seen == {threading.get_ident()}


def test_an_abandoned_iteration_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for threads in (1, 3):
        found = ENGINE.decode_iter(itertools.repeat([4, 5]), batch_size=2, threads=threads)
        next(found)
        del found
        assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_a_wrong_source_raises_in_its_turn(threads: int) -> None:
    found = ENGINE.decode_iter([[3], [4], [99], [5]], batch_size=2, threads=threads)
    assert [next(found).ids for _ in range(2)] == [ENGINE.decode(x).ids for x in ([3], [4])]
    with pytest.raises(InputError, match="source 2 of the batch: token 0 of the input is 99"):
        next(found)
    with pytest.raises(StopIteration):
        next(found)


def broken_for(token: int) -> Engine:
    """An engine that meets a NaN with sources that hold this token, and no others."""
    model = models.gru_plain()
    tensors = dict(model.tensors)
    name = next(n for n, a in tensors.items() if a.shape[0] == models.SOURCE)
    tensors[name] = tensors[name].copy()
    tensors[name][token] = np.nan
    return Engine.load(type(model)(**{**vars(model), "tensors": tensors}))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_source_that_fails_does_not_touch_its_company(threads: int) -> None:
    engine = broken_for(7)
    good = Engine.load(models.gru_plain())
    xs = [[3], [4, 5], [6, 7], [8], [9, 10], [3, 4, 5]]
    found = engine.decode_iter(xs, batch_size=3, threads=threads, beam_size=2)
    assert [bits(next(found)) for _ in range(2)] == [
        bits(good.decode(x, beam_size=2)) for x in xs[:2]
    ]
    with pytest.raises(NumericalError, match="source 2 of the batch: the logits of step 0"):
        next(found)
    with pytest.raises(NumericalError, match="source 2 of the batch"):
        engine.decode_batch(xs, batch_size=3, threads=threads)
    rest = [x for x in xs if 7 not in x]
    assert [bits(r) for r in engine.decode_batch(rest, batch_size=3, threads=threads)] == [
        bits(good.decode(x)) for x in rest
    ]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_the_callers_iterator_is_the_callers(threads: int) -> None:
    def sources() -> Iterator[list[int]]:
        yield from ([3], [4])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(ENGINE.decode_iter(sources(), threads=threads))
    assert ENGINE.decode_iter([]) is not None and list(ENGINE.decode_iter([])) == []


def test_a_batch_keeps_within_the_memory_that_one_source_needs() -> None:
    """Fewer join at a time; the bits are the same; and one that does not fit alone is refused."""
    model = models.lstm_luong()
    free = Engine.load(model)
    xs = [[n % 11] * (1 + n % 6) for n in range(20)]
    cap = free.estimate_memory(7, beam_size=3, batch_size=2)
    tight = Engine.load(model, max_memory=cap)
    expected = [bits(free.decode(x, beam_size=3)) for x in xs]
    for threads in (1, 2):
        found = tight.decode_batch(xs, beam_size=3, threads=threads)
        assert [bits(result) for result in found] == expected
    assert tight.info.workspace_bytes <= 4 * cap  # a session and the one that encodes, per thread
    with pytest.raises(InputError, match=r"source 1 of the batch: this call needs \d+ KiB"):
        tight.decode_batch([[3], [4] * 99], beam_size=3)


@pytest.mark.parametrize("name", [*models.DECODERS, "captioner"])
def test_memory_is_what_was_estimated(name: str) -> None:
    model = (models.DECODERS | {"captioner": models.captioner})[name]()
    for beam, size in ((1, 1), (4, 1), (3, 5)):
        engine = Engine.load(model)
        if name == "captioner":
            length, xs = 1, [{"image": np.ones(7, np.float32)}] * size
        else:
            xs = [[3, 4, 5]] * size
            length = len(engine._calls.read([3, 4, 5]).ids or [])
        engine.decode_batch(xs, beam_size=beam, max_length=3)
        assert engine.info.workspace_bytes == engine.estimate_memory(length, beam, size)


def test_a_hundred_thousand_tokens_take_memory_in_proportion() -> None:
    engine = Engine.load(models.lstm_luong(), max_input_length=100_000)
    memory = [engine.estimate_memory(n, beam_size=2) for n in (10_000, 100_000)]
    assert 9.9 * memory[0] < memory[1] < 10.1 * memory[0]
    x = [n % 11 for n in range(100_000)]
    result = engine.decode(x, max_length=3, beam_size=2, return_attention=True)
    assert result.attention is not None and result.attention.shape == (3, 100_001)
    assert bits(result) == bits(
        engine.decode_batch([[3], x], max_length=3, beam_size=2, return_attention=True)[1]
    )
    with pytest.raises(InputTooLongError, match="the input has 100001 tokens, more than max_input"):
        engine.decode([*x, 3])


def test_a_memory_cap_refuses_before_it_allocates() -> None:
    engine = Engine.load(models.lstm_luong(), max_memory=1 << 20)
    expected = bits(engine.decode([4, 5]))
    held = engine.info.workspace_bytes
    for options in ({"beam_size": 1024}, {}):
        with pytest.raises(InputError, match=r"needs \d+ [MK]iB of workspace, more than 1024 KiB"):
            engine.decode([4] * 9000, **options)
    assert engine.info.workspace_bytes == held
    assert bits(engine.decode([4, 5])) == expected


def test_a_progress_bar_is_drawn_on_the_standard_error_alone(capsys: Any) -> None:
    pytest.importorskip("rich")
    xs = [[3], [4], [5]]
    found = ENGINE.decode_batch(xs, show_progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "decoding" in shown.err
    assert [bits(r) for r in found] == [bits(r) for r in ENGINE.decode_batch(xs)]
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_a_progress_bar_without_rich_says_how_to_get_it(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match=r"show_progress needs rich, .*: pip install rich"):
        ENGINE.decode_batch([[3]], show_progress=True)


def test_a_batch_that_was_interrupted_makes_no_more_steps() -> None:
    session = ENGINE._session()
    batch = _core.Batch(session, _core.Request())
    batch.join([(0, [[3, 4]], 12, None, None)])
    token = CancelToken()
    token.cancel()
    assert batch.run(5, token) == [] and batch.stopped == "cancelled"
    assert batch.run(5) == [] and batch.live == 1
    ((number, found),) = batch.interrupt()
    assert (number, batch.live) == (0, 0) and isinstance(found, _core.Found)
    assert found.hypotheses[0][4] == "cancelled"


@pytest.mark.skipif(_core.usable_cpus() < 2, reason="one CPU is one thread")
def test_two_batches_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two threads takes its sources and waits for the other: one alone never goes on."""
    both, arrived = threading.Barrier(2, timeout=20), set()
    join = Flow._join

    def joined(flow: Flow, batch: _core.Batch, numbers: list[int]) -> None:
        if numbers and threading.get_ident() not in arrived:
            arrived.add(threading.get_ident())
            both.wait()
        join(flow, batch, numbers)

    monkeypatch.setattr(Flow, "_join", joined)
    found = ENGINE.decode_batch(SOURCES[:4], batch_size=2, threads=2)
    assert [bits(result) for result in found] == [bits(ENGINE.decode(x)) for x in SOURCES[:4]]
