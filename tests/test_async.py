"""`decode_async`: a bounded queue, deadlines, cancellation and close, seen from an event loop.
Knows calls and checks, which it holds and lets go; never seconds."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import models
import pytest
from test_engine import SOURCES, bits

from s2s_engine import (
    CancelToken,
    DecodeCancelled,
    DecodeTimeout,
    Engine,
    EngineBusy,
    EngineClosedError,
    InputError,
)

X = [4, 5, 6]
T = TypeVar("T")


class Held:
    """A token whose call stops at its first check, until it is let go."""

    def __init__(self) -> None:
        self.inside, self.go = threading.Event(), threading.Event()
        self.checks = 0
        self.token = CancelToken()
        self.token._on_check = self._check

    def _check(self) -> None:
        self.checks += 1
        self.inside.set()
        self.go.wait()


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def until(event: threading.Event) -> None:
    await asyncio.get_running_loop().run_in_executor(None, event.wait)


def test_results_are_those_of_decode() -> None:
    with Engine.load(models.lstm_luong(), threads=3) as engine:

        async def work() -> list[Any]:
            calls = [engine.decode_async(x, beam_size=3, timeout=1e6) for x in SOURCES * 5]
            return [bits(result) for result in await asyncio.gather(*calls)]

        assert run(work()) == [bits(engine.decode(x, beam_size=3)) for x in SOURCES * 5]
        assert run(work()) == run(work())  # an event loop after another


def test_errors_are_those_of_decode() -> None:
    with Engine.load(models.lstm_luong()) as engine:
        with pytest.raises(InputError, match="token 0 of the input is 99"):
            run(engine.decode_async([99]))
        with pytest.raises(InputError, match="there is no option 'beamsize'"):
            run(engine.decode_async(X, beamsize=3))
        assert run(engine.decode_async(X)).ids == engine.decode(X).ids
    tagger = Engine.load(models.tagger())
    assert run(tagger.decode_async(X)).ids == tagger.decode(X).ids


@pytest.mark.parametrize(("threads", "max_queue"), [(1, 0), (1, 2), (2, 1)])
def test_a_full_queue_is_busy_at_once(threads: int, max_queue: int) -> None:
    engine = Engine.load(models.lstm_luong(), threads=threads, max_queue=max_queue)
    expected = bits(engine.decode(X))
    held = [Held() for _ in range(threads)]

    async def work() -> None:
        running = [asyncio.ensure_future(engine.decode_async(X, cancel=h.token)) for h in held]
        for one in held:
            await until(one.inside)
        waiting = [asyncio.ensure_future(engine.decode_async(X)) for _ in range(max_queue)]
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(EngineBusy, match=f"{threads} decodes are running and {max_queue} "):
                await engine.decode_async(X)
        assert bits(engine.decode(X)) == expected  # the caller's own threads are not the queue's
        for one in held:
            one.go.set()
        for result in await asyncio.gather(*running, *waiting):
            assert bits(result) == expected
        assert bits(await engine.decode_async(X)) == expected

    run(work())
    engine.close()


def test_a_cancelled_task_cancels_its_decode_within_a_step() -> None:
    engine = Engine.load(models.lstm_luong(), max_queue=0)
    expected = bits(engine.decode(X))
    held = Held()

    async def work() -> None:
        task = asyncio.ensure_future(engine.decode_async(X, cancel=held.token, max_length=400))
        await until(held.inside)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.go.set()

    run(work())
    engine.close()  # waits for the worker
    assert held.checks == 1  # the check that it was held in is the one that ended it
    again = Engine.load(models.lstm_luong())
    assert bits(again.decode(X)) == expected
    assert not held.token.cancelled  # the caller's own token is the caller's


def test_a_cancelled_task_that_waits_leaves_the_queue() -> None:
    engine = Engine.load(models.lstm_luong(), max_queue=1)
    held = Held()

    async def work() -> None:
        running = asyncio.ensure_future(engine.decode_async(X, cancel=held.token))
        await until(held.inside)
        waiting = asyncio.ensure_future(engine.decode_async(X))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other = asyncio.ensure_future(engine.decode_async([3]))  # its place is free
        await asyncio.sleep(0)
        held.go.set()
        assert (await running).ids == engine.decode(X).ids
        assert (await other).ids == engine.decode([3]).ids

    run(work())


def test_a_token_cancels_with_a_partial_result() -> None:
    engine = Engine.load(models.lstm_luong())
    held = Held()

    async def work() -> None:
        task = asyncio.ensure_future(engine.decode_async(X, cancel=held.token))
        await until(held.inside)
        held.token.cancel()
        held.go.set()
        with pytest.raises(DecodeCancelled) as caught:
            await task
        assert caught.value.result.ids == []

    run(work())


def test_a_deadline_counts_the_time_in_the_queue() -> None:
    """The one that waits is told while the one that runs still runs."""
    engine = Engine.load(models.lstm_luong(), max_queue=4)
    held = Held()

    async def work() -> None:
        running = asyncio.ensure_future(engine.decode_async(X, cancel=held.token))
        await until(held.inside)
        with pytest.raises(DecodeTimeout, match="within timeout, which is 0 seconds") as caught:
            await engine.decode_async(X, timeout=0)
        assert caught.value.result.hypotheses[0].finish_reason == "timeout"
        assert not running.done()
        held.go.set()
        assert (await running).ids == engine.decode(X).ids

    run(work())


def test_close_cancels_what_runs_and_drops_what_waits() -> None:
    before = set(threading.enumerate())
    engine = Engine.load(models.lstm_luong(), max_queue=4)
    held = Held()

    async def work() -> None:
        running = asyncio.ensure_future(engine.decode_async(X, cancel=held.token, max_length=400))
        await until(held.inside)
        waiting = asyncio.ensure_future(engine.decode_async(X))
        await asyncio.sleep(0)
        closing = asyncio.get_running_loop().run_in_executor(None, engine.close)
        while not engine._closed or not engine._workers.closed:
            await asyncio.sleep(0)
        with pytest.raises(EngineClosedError):
            await engine.decode_async(X)
        held.go.set()
        await closing
        with pytest.raises(DecodeCancelled):
            await running
        with pytest.raises(EngineClosedError, match="closed before the decode began"):
            await waiting

    run(work())
    assert set(threading.enumerate()) <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_has_threads_of_its_own() -> None:
    engine = Engine.load(models.lstm_luong(), threads=2)
    expected = run(engine.decode_async(X)).ids
    for _ in range(5):
        child = os.fork()
        if child == 0:
            found = []
            try:
                found = run(engine.decode_async(X)).ids
            finally:
                os._exit(0 if found == expected else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert run(engine.decode_async(X)).ids == expected
    engine.close()


def test_an_engine_that_is_dropped_ends_its_threads() -> None:
    before = set(threading.enumerate())
    engine = Engine.load(models.lstm_luong())
    run(engine.decode_async(X))
    (thread,) = set(threading.enumerate()) - before
    del engine
    thread.join()
