"""Many sources through few sessions: read ahead so far and no further, joined to a batch as others
leave it, given back in order. Knows threads and windows; never how a sentence is decoded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, TypeAlias

from . import _core
from .calls import Calls, Read, Ready, stopped_error
from .errors import InputError, S2SError
from .results import Result

# How many batches' worth of sources `decode_iter` holds for each thread.
AHEAD = 4
# So many sources, or a full batch, are worth one more thread; of fewer, its start takes longer than
# it saves (measured with the shipped model's words).
FEWEST = 16
EVER = 1 << 60
Outcome: TypeAlias = "Result | Exception"


class Flow:
    """The sources of one call on their way to results."""

    def __init__(
        self,
        calls: Calls,
        ready: Ready,
        xs: Iterable[object],
        *,
        prepared: bool,
        batch_size: int,
        ahead: int,
        prefixes: Iterator[Any] | None = None,
        return_exceptions: bool = False,
    ) -> None:
        """prefixes: one for each source, over options without. return_exceptions: a source's
        error is its outcome, and the others go on."""
        self._calls, self._ready, self._xs = calls, ready, enumerate(xs)
        self._prefixes = None if prefixes is None else calls.prefixes(prefixes, ready)
        self._return_exceptions = return_exceptions
        self._prepared, self._batch_size, self._ahead = prepared, batch_size, ahead
        self.cancel = _core.CancelToken(ready.cancel)
        self._deadline = time.monotonic() + ready.seconds
        self._changed = threading.Condition()
        # (length, -number), sorted: the longest is last, and of one length the first.
        self._waiting: list[tuple[int, int]] = []
        self._reads: dict[int, tuple[Read, int, _core.Constraints | None]] = {}
        self._done: dict[int, Outcome] = {}
        self._partial: dict[int, Result] = {}
        self._given = self._taken_in = 0
        self._exhausted = False
        self.stopped: str | None = None
        self._broken: BaseException | None = None
        self._workers = 0

    # --- the caller's side ---

    def fill(self) -> None:
        """Reads sources until as many are held as may be."""
        new: list[tuple[int, int]] = []
        try:
            self._read_ahead(new)
        finally:
            self._wait_again(new)

    def _read_ahead(self, new: list[tuple[int, int]]) -> None:
        while not self._exhausted and self._taken_in - self._given < self._ahead:
            try:
                number, x = next(self._xs)
            except StopIteration:
                self._exhausted = True
                return
            self._taken_in += 1
            try:
                options, own = self._ready.options, None
                if self._prefixes is not None:
                    options, own = self._prefixes.next()
                read = self._calls.read(x, None, None, self._prepared)
                limit = self._calls.limit(options, read)
            except InputError as error:
                self._put(number, type(error)(f"source {number} of the batch: {error}"))
                if self._return_exceptions:
                    continue
                self._exhausted = True  # it is raised in its turn, and nothing is read behind it
                return
            self._reads[number] = read, limit, own
            new.append((len(read.prompt or []) if read.length is None else read.length, -number))

    def _wait_again(self, sources: list[tuple[int, int]]) -> None:
        if sources:
            with self._changed:
                self._waiting.extend(sources)
                self._waiting.sort()

    def check(self) -> None:
        """Raises for the first source that could not be read."""
        for found in self._done.values():
            if isinstance(found, Exception) and not self._return_exceptions:
                raise found

    def next_result(self, decode: Callable[[], None]) -> Outcome | None:
        """The next source's result, None behind the last. `decode` makes progress, or waits."""
        while True:
            self.fill()
            if self._broken is not None:
                raise self._broken
            if self._given in self._done:
                found = self._done.pop(self._given)
                if isinstance(found, Exception) and not self._return_exceptions:
                    raise found
                self._reads.pop(self._given, None)
                self._given += 1
                return found
            if self.stopped is not None:
                raise stopped_error(self.stopped, self._ready.seconds, self._rest())
            if self._given == self._taken_in:
                return None
            decode()

    def _rest(self) -> list[Outcome]:
        """What there is of the sources that were read and not given."""
        rest: list[Outcome] = []
        for number in range(self._given, self._taken_in):
            found = self._done.get(number, self._partial.get(number))
            if isinstance(found, Exception) and not self._return_exceptions:
                break
            if found is None:
                found = self._calls.empty(self.stopped or "cancelled", self._reads[number][0])
            rest.append(found)
        return rest

    def hire(self, threads: int) -> list[int]:
        """What one more thread begins with, which then counts as working; nothing where there is
        nothing to do for it."""
        with self._changed:
            if self._over or not self._worth(threads):
                return []
            share = -(-len(self._waiting) // (threads - self._workers))
            self._workers += 1
            return self._take(min(self._batch_size, max(share, FEWEST)))

    def _worth(self, threads: int) -> bool:
        enough = 1 if self._workers == 0 else min(self._batch_size, FEWEST)
        return self._workers < threads and len(self._waiting) >= enough

    def dismiss(self) -> None:
        """A thread has ended."""
        with self._changed:
            self._workers -= 1
            self._changed.notify_all()

    def wait(self, threads: int) -> None:
        """Until there is something to give, or a thread to hire."""
        with self._changed:
            while not (self._given in self._done or self._over):
                if self._worth(threads):
                    return
                self._changed.wait()

    @property
    def _over(self) -> bool:
        return self.stopped is not None or self._broken is not None

    # --- the decoding side ---

    def batch(self, session: _core.Session) -> _core.Batch:
        """A batch of its own for a thread."""
        assert self._ready.request is not None  # models without a decoder do not come here
        return _core.Batch(session, self._ready.request)

    def work(self, batch: _core.Batch, numbers: Iterable[int] = (), *, once: bool = False) -> None:
        """Decodes these sources and what waits, until nothing does; `once`: until a sentence has
        left."""
        self._join(batch, list(numbers))
        while True:
            room = self._batch_size - batch.live
            if room * 4 >= self._batch_size or not batch.live:
                self._join(batch, self._take(room))
            if not batch.live and not batch.stopped:
                return
            for number, found in batch.run(EVER, self.cancel, self._seconds()):
                self._found(number, found)
            if batch.stopped:
                left = batch.interrupt()
                with self._changed:
                    for number, found in left:
                        result = self._result(number, found)
                        self._partial[number] = result
                    self.stopped = self.stopped or batch.stopped
                    self._changed.notify_all()
                return
            if once:
                return

    def fail(self, error: BaseException) -> None:
        """An error that is no single source's; the caller gets it."""
        with self._changed:
            self._broken = self._broken or error
            self._changed.notify_all()

    def _seconds(self) -> float:
        return inf if self._deadline == inf else max(0.0, self._deadline - time.monotonic())

    def _take(self, count: int) -> list[int]:
        if self._over:
            return []
        with self._changed:
            taken = self._waiting[-count:]
            del self._waiting[-count:]
        return [-number for _, number in reversed(taken)]

    def _join(self, batch: _core.Batch, numbers: list[int]) -> None:
        """Lets sources join, fewer at a time where memory does not hold all of them."""
        count = len(numbers)
        while numbers and not batch.stopped:
            part = numbers[:count]
            given = []
            for number in part:
                read, limit, own = self._reads[number]
                given.append((number, read.inputs, limit, read.prompt, own))
            try:
                batch.join(given, self.cancel, self._seconds())
            except InputError as error:
                if len(part) > 1:
                    count = len(part) // 2
                    continue
                if batch.live:
                    break  # once others have left
                self._found(part[0], error)
            numbers = numbers[len(part) :]
        self._wait_again([(self._reads[number][0].length or 0, -number) for number in numbers])

    def _found(self, number: int, found: Any) -> None:
        if isinstance(found, S2SError):
            self._put(number, type(found)(f"source {number} of the batch: {found}"))
        elif isinstance(found, Exception):
            self._put(number, found)
        else:
            self._put(number, self._result(number, found))

    def _result(self, number: int, found: Any) -> Result:
        return self._calls.result(found, self._reads[number][0], self._ready.options)

    def _put(self, number: int, outcome: Outcome) -> None:
        with self._changed:
            self._done[number] = outcome
            self._changed.notify_all()


def results(
    flow: Flow,
    threads: int,
    take: Callable[[], _core.Session],
    give: Callable[[_core.Session], None],
) -> Iterator[Outcome]:
    """The results of a flow, in order; sessions are taken and given back."""
    with _alone(flow, take, give) if threads == 1 else _team(flow, threads, take, give) as decode:
        while True:
            result = flow.next_result(decode)
            if result is None:
                return
            yield result


@contextmanager
def _alone(
    flow: Flow, take: Callable[[], _core.Session], give: Callable[[_core.Session], None]
) -> Iterator[Callable[[], None]]:
    """The caller's thread decodes while it waits."""
    session = take()
    try:
        batch = flow.batch(session)
        yield lambda: flow.work(batch, once=True)
    finally:
        give(session)


@contextmanager
def _team(
    flow: Flow,
    threads: int,
    take: Callable[[], _core.Session],
    give: Callable[[_core.Session], None],
) -> Iterator[Callable[[], None]]:
    """Threads that live as long as sources wait: none of them ever waits for the caller, so that
    an iteration that nobody goes on with leaves nothing behind."""
    team: list[threading.Thread] = []

    def work(numbers: list[int]) -> None:
        try:
            session = take()
            try:
                flow.work(flow.batch(session), numbers)
            finally:
                give(session)
        except BaseException as error:
            flow.fail(error)
        finally:
            flow.dismiss()

    def decode() -> None:
        team[:] = [thread for thread in team if thread.is_alive()]
        hired = []  # all before the first begins, which would take what is left
        while numbers := flow.hire(threads):
            hired.append(threading.Thread(target=work, args=(numbers,), name="s2s_engine decode"))
        for thread in hired:
            team.append(thread)
            thread.start()
        flow.wait(threads)

    try:
        yield decode
    finally:
        flow.cancel.cancel()
        for thread in team:
            thread.join()
