"""Decodes for an event loop: the engine's own threads behind a bounded queue. Knows futures, tokens
and deadlines; never models."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from typing import TypeAlias

from ._core import CancelToken
from .calls import stopped_error
from .errors import EngineBusy, EngineClosedError
from .results import Result

Work: TypeAlias = "Callable[[CancelToken, float], Result]"


class Workers:
    """Threads that decode, started when they are needed and asleep when they are not."""

    def __init__(self, threads: int, max_queue: int) -> None:
        self._threads, self._max_queue = threads, max_queue
        self._lock = threading.Lock()
        self._jobs: dict[Future[Result], CancelToken] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self.closed = False

    def submit(self, work: Callable[[], Result], token: CancelToken) -> Future[Result]:
        """EngineBusy at once where the queue is full."""
        with self._lock:
            if self.closed:
                raise EngineClosedError("this engine is closed; load the model again")
            if self._pool is None or self._process != os.getpid():  # threads do not survive a fork
                self._pool = ThreadPoolExecutor(self._threads, "s2s_engine async")
                self._process, self._jobs = os.getpid(), {}
            if len(self._jobs) >= self._threads + self._max_queue:
                raise EngineBusy(
                    f"{self._threads} decodes are running and {len(self._jobs) - self._threads} "
                    "are waiting, as many as max_queue allows: try again later, or load with a "
                    "larger max_queue"
                )
            job = self._pool.submit(work)
            self._jobs[job] = token
        job.add_done_callback(self._ended)
        return job

    def _ended(self, job: Future[Result]) -> None:
        with self._lock:
            self._jobs.pop(job, None)

    def close(self) -> None:
        """Cancels what runs, drops what waits, and ends the threads."""
        with self._lock:
            for token in self._jobs.values():
                token.cancel()
            pool, self._pool = self._pool, None
            self.closed = True
        if pool is not None and self._process == os.getpid():
            pool.shutdown(wait=True, cancel_futures=True)


async def run(
    workers: Workers, work: Work, seconds: float, cancel: CancelToken | None, empty: Result
) -> Result:
    """The result of a piece of work. `empty` is the partial result of what has not begun."""
    token = CancelToken(cancel)
    deadline = time.monotonic() + seconds

    def timed() -> Result:
        return work(token, inf if seconds == inf else max(0.0, deadline - time.monotonic()))

    job = workers.submit(timed, token)
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = job.cancel()  # only what still waits: the core looks at the clock itself

    timer = None
    if seconds < inf:
        timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            if expired:
                raise stopped_error("timeout", seconds, empty) from None
            if workers.closed:
                raise EngineClosedError("this engine was closed before the decode began") from None
        token.cancel()
        raise
    finally:
        if timer is not None:
            timer.cancel()
