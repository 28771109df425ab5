"""Deadlines, cancel tokens and Ctrl-C: what a call does that has to end before it is done. Knows
checks and steps, and counts them; never seconds."""

from __future__ import annotations

import ctypes
import itertools
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
from test_engine import bits
from test_prompts import language_model

from s2s_engine import (
    CancelToken,
    DecodeCancelled,
    DecodeOptions,
    DecodeStopped,
    DecodeTimeout,
    Engine,
    S2SError,
)
from s2s_engine.search_rules import STANDING

X = [4, 5, 6]
LONG = 400
ENGINE = Engine.load(models.lstm_luong())


def endless(x: list[int], **options: Any) -> list[int]:
    return ENGINE.decode(x, max_length=LONG, **options).ids


def counting(action: Callable[[int], float | None]) -> CancelToken:
    """A token that is asked as every token is, and calls `action` with the number of the check."""
    token, checks = CancelToken(), itertools.count(1)
    token._on_check = lambda: action(next(checks))
    return token


def cancelled_at(check: int) -> CancelToken:
    """A token that cancels itself when it is asked for the so-manieth time."""
    token = counting(lambda n: token.cancel() if n == check else None)
    return token


def checks_of(**options: Any) -> int:
    """How often a decode asks whether it must end."""
    seen: list[int] = []
    ENGINE.decode(X, cancel=counting(lambda n: seen.append(n)), **options)
    return len(seen)


def checks_before_the_first_step() -> int:
    return checks_of(max_length=1) - 1


def test_a_decode_asks_before_every_step() -> None:
    assert len(endless(X)) == LONG  # it does not end by itself
    before = checks_before_the_first_step()
    for steps in (1, 2, 17):
        assert checks_of(max_length=steps) == before + steps


@pytest.mark.parametrize("steps", [0, 1, 2, 9])
def test_a_token_ends_a_decode_within_one_step(steps: int, isa: str) -> None:
    engine = Engine.load(models.lstm_luong(), isa=isa)
    expected = bits(engine.decode(X, max_length=20))
    before = checks_before_the_first_step()
    token = CancelToken()
    checks: list[int] = []

    def action() -> None:
        checks.append(0)
        if len(checks) == before + steps + 1:
            token.cancel()

    token._on_check = action
    with pytest.raises(DecodeCancelled, match="the decode was cancelled") as caught:
        engine.decode(X, max_length=LONG, cancel=token)
    partial = caught.value.result
    best = partial.hypotheses[0]
    assert len(checks) == before + steps + 1  # nothing was asked, so no step was made, afterwards
    assert best.finish_reason == "cancelled" and len(best.ids) == steps
    assert best.ids == endless(X)[:steps]
    whole = engine.decode(X, max_length=LONG).hypotheses[0]
    assert best.token_log_probs.tobytes() == whole.token_log_probs[:steps].tobytes()
    assert bits(engine.decode(X, max_length=20)) == expected


def test_the_partial_result_of_a_beam_is_the_best_so_far() -> None:
    """What lives competes with what has ended, as at max_length."""
    engine = Engine.load(models.lstm_luong(seed=14))
    before, cut = checks_before_the_first_step(), 0
    options = DecodeOptions(beam_size=4, num_hypotheses=4, return_attention=True)
    for steps in range(1, 8):
        at_limit = engine.decode(X, options=options, max_length=steps)
        with pytest.raises(DecodeCancelled) as caught:
            engine.decode(
                X, options=options, max_length=12, cancel=cancelled_at(before + steps + 1)
            )
        partial = caught.value.result
        reasons = {h.finish_reason for h in partial.hypotheses}
        assert "cancelled" in reasons and reasons <= {"cancelled", "eos"}
        cut += "eos" in reasons
        # At the limit the same hypotheses stand, in the same order.
        assert [h.ids for h in partial.hypotheses] == [h.ids for h in at_limit.hypotheses]
        assert [h.score for h in partial.hypotheses] == [h.score for h in at_limit.hypotheses]
        for one, other in zip(partial.hypotheses, at_limit.hypotheses, strict=True):
            assert one.attention is not None and other.attention is not None
            assert one.attention.tobytes() == other.attention.tobytes()
    assert cut > 0  # some had ended by then


@pytest.mark.parametrize("limit", STANDING)
def test_what_continues_ended_ones_is_part_of_a_partial_result(limit: str) -> None:
    engine = Engine.load(models.lstm_luong(seed=19))
    before, repeated = checks_before_the_first_step(), 0
    options = {"beam_size": 4, "num_hypotheses": 4, "length_penalty": 1.0, "end_tokens": [8],
               "search": {"ended": "expand", "stop": "empty", "limit": limit}}  # fmt: skip
    for steps in range(1, 8):
        at_limit = engine.decode(X, max_length=steps, **options)
        with pytest.raises(DecodeCancelled) as caught:
            engine.decode(X, max_length=12, cancel=cancelled_at(before + steps + 1), **options)
        partial = caught.value.result.hypotheses
        assert [h.ids for h in partial] == [h.ids for h in at_limit.hypotheses]
        assert [h.score for h in partial] == [h.score for h in at_limit.hypotheses]
        outputs = [(h.ids, h.finish_reason) for h in partial if h.finish_reason == "eos"]
        repeated += any(outputs.count(one) > 1 for one in outputs)
    assert repeated > 0


@pytest.mark.parametrize("steps", [0, 3])
def test_a_deadline_by_a_clock_that_the_test_holds(steps: int) -> None:
    before = checks_before_the_first_step()
    clock = counting(lambda n: 1e8 if n > before + steps else 1e8 - 1)
    with pytest.raises(DecodeTimeout, match=r"within timeout, which is 1e\+08 seconds") as caught:
        endless(X, timeout=1e8, cancel=clock)
    best = caught.value.result.hypotheses[0]
    assert best.finish_reason == "timeout" and best.ids == endless(X)[:steps]
    assert len(endless(X, timeout=1e8)) == LONG  # the clock of the machine has not gone so far


def test_a_deadline_of_zero_and_a_token_that_is_cancelled_before() -> None:
    with pytest.raises(DecodeTimeout) as late:
        endless(X, timeout=0)
    token = CancelToken()
    token.cancel()
    token.cancel()
    assert token.cancelled
    with pytest.raises(DecodeCancelled) as dropped:
        endless(X, cancel=token)
    for caught in (late, dropped):
        assert caught.value.result.ids == [] and caught.value.result.score == 0.0
        assert caught.value.result.source == ["s4", "s5", "s6", "s2"]
    assert isinstance(late.value, TimeoutError) and isinstance(dropped.value, RuntimeError)
    for error in (late.value, dropped.value):
        assert isinstance(error, DecodeStopped) and isinstance(error, S2SError)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and bits(again.result) == bits(error.result)


def test_the_encoder_is_interrupted_between_positions() -> None:
    source = [3] * 3000
    checks: list[int] = []
    ENGINE.decode(source, max_length=1, cancel=counting(lambda n: checks.append(n)))
    assert len(checks) > 2 * len(source) / 8  # two directions, every eighth position
    expected = bits(ENGINE.decode(source, max_length=3))
    with pytest.raises(DecodeCancelled) as caught:
        ENGINE.decode(source, max_length=3, cancel=cancelled_at(100))
    assert caught.value.result.ids == []
    assert bits(ENGINE.decode(source, max_length=3)) == expected


def test_a_source_without_an_encoder_may_be_interrupted_while_its_prompt_is_read() -> None:
    engine = Engine.load(language_model())
    prompt = [3, 4, 5, 6, 7]
    for stop in range(1, len(prompt) + 1):
        with pytest.raises(DecodeCancelled) as caught:
            engine.decode(prompt, max_length=5, cancel=cancelled_at(stop))
        assert caught.value.result.ids == []


@pytest.mark.parametrize("steps", [0, 4])
def test_ctrl_c_within_one_step(steps: int) -> None:
    """The flag that the handler of SIGINT sets is set from inside a check, where no line of Python
    follows that could look at it: the core must."""
    expected = bits(ENGINE.decode(X, max_length=20))
    before = checks_before_the_first_step()
    interrupt = ctypes.pythonapi.PyErr_SetInterrupt
    interrupt.restype = None
    seen: list[int] = []
    token = CancelToken()

    def arm() -> None:
        seen.append(0)
        if len(seen) == before + steps:
            token._on_check = interrupt  # the next check calls C alone

    token._on_check = arm
    if before + steps == 0:
        token._on_check = interrupt
    with pytest.raises(KeyboardInterrupt):
        endless(X, cancel=token)
    assert len(seen) == before + steps
    assert bits(ENGINE.decode(X, max_length=20)) == expected


IMPORTED = """
import ctypes, sys, threading
sys.path.insert(0, sys.argv[1])
engine = []
def load():
    import models
    from s2s_engine import Engine
    engine.append(Engine.load(models.lstm_luong()))
thread = threading.Thread(target=load)
thread.start()
thread.join()
from s2s_engine import CancelToken
token, interrupt = CancelToken(), ctypes.pythonapi.PyErr_SetInterrupt
interrupt.restype = None
token._on_check = interrupt
seen = []
def decode():
    seen.append(len(engine[0].decode([4, 5, 6], max_length=9).ids))
try:
    engine[0].decode([4, 5, 6], max_length=400, cancel=token)
except KeyboardInterrupt:
    print("interrupted")
other = threading.Thread(target=decode)
other.start()
other.join()
print(seen)
"""


def test_signals_are_the_main_threads_wherever_the_package_was_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, str(Path(__file__).parent)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "interrupted\n[9]\n"


def test_a_handler_that_returns_lets_the_decode_go_on() -> None:
    handled: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: handled.append(number))
    try:
        token = CancelToken()
        interrupt = ctypes.pythonapi.PyErr_SetInterrupt
        interrupt.restype = None
        token._on_check = interrupt
        assert len(ENGINE.decode(X, max_length=5, cancel=token).ids) == 5
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(handled) >= 5


def test_an_error_of_the_hook_is_the_calls() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    token = CancelToken()
    token._on_check = broken
    with pytest.raises(ZeroDivisionError):
        endless(X, cancel=token)
    assert len(endless(X)) == LONG


def test_one_token_cancels_calls_on_many_threads() -> None:
    token = CancelToken()
    inside = threading.Barrier(5)
    ended: list[type] = []

    def meet(n: int) -> None:
        if n == 20:
            inside.wait()

    def work() -> None:
        ENGINE.decode(X, max_length=20, cancel=counting(meet))  # all four are inside at once
        try:
            while True:
                ENGINE.decode(X, max_length=LONG, cancel=CancelToken(token))
        except DecodeCancelled as error:
            ended.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    inside.wait()
    token.cancel()
    for thread in threads:
        thread.join()
    assert ended == [DecodeCancelled] * 4


def test_a_batch_that_has_to_end_gives_what_there_is_of_every_source() -> None:
    xs = [[n % 11] * (1 + n % 5) for n in range(9)]
    whole = [ENGINE.decode(x, max_length=30) for x in xs]
    seen: list[int] = []
    count = counting(lambda n: seen.append(n))
    ENGINE.decode_batch(xs, batch_size=4, max_length=30, cancel=count)
    assert len(seen) > 80
    for stop in (1, 40, len(seen)):
        with pytest.raises(DecodeCancelled) as caught:
            ENGINE.decode_batch(xs, batch_size=4, max_length=30, cancel=cancelled_at(stop))
        partial = caught.value.result
        assert len(partial) == len(xs)
        for one, other in zip(partial, whole, strict=True):
            best = one.hypotheses[0]
            assert best.ids == other.ids[: len(best.ids)]
            assert best.finish_reason == "cancelled" or bits(one) == bits(other)
        assert any(r.hypotheses[0].finish_reason == "cancelled" for r in partial)
    with pytest.raises(DecodeTimeout) as late:
        ENGINE.decode_batch(xs, timeout=0)
    assert [r.ids for r in late.value.result] == [[]] * len(xs)
    assert [bits(r) for r in ENGINE.decode_batch(xs, max_length=30)] == [bits(r) for r in whole]


@pytest.mark.parametrize("threads", [1, 2])
def test_an_iteration_is_cancelled(threads: int) -> None:
    token = CancelToken()
    found = ENGINE.decode_iter(itertools.repeat(X), batch_size=2, threads=threads, cancel=token)
    first = [next(found).ids for _ in range(3)]
    assert first == [ENGINE.decode(X).ids] * 3
    token.cancel()
    with pytest.raises(DecodeCancelled) as caught:
        for result in found:  # what was done already
            assert result.ids == first[0]
    assert isinstance(caught.value.result, list)
