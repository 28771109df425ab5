"""The calls of an engine that hold more than one source or last longer than one call: batches,
iterations, event loops, streams, states. Knows who is given a session; never how it computes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from . import _core
from .batches import AHEAD, FEWEST, Flow, Outcome, results
from .calls import MAX_BATCH, Calls, Read, Ready, check_whole
from .errors import DecodeStopped, DecodeTimeout, InputError, S2SError
from .format import digest_of, to_bytes
from .model import Model
from .options import MAX_BEAM, DecodeOptions
from .prefixes import Prefixes, taken_out
from .results import Result
from .threads import wanted

if TYPE_CHECKING:
    from .async_ import Workers
    from .streams import DecoderState, Stream


class Pipelines:
    """What `Engine` inherits; it keeps the sessions."""

    _model: Model
    _calls: Calls
    _digest: str
    _threads: int
    _max_queue: int
    _workers: Workers | None

    def _check_open(self) -> None:
        raise NotImplementedError

    def _session(self, threads: int | None = None) -> _core.Session:
        raise NotImplementedError

    def _give(self, session: _core.Session) -> None:
        raise NotImplementedError

    def _decode(
        self,
        read: Read,
        ready: Ready,
        cancel: _core.CancelToken | None = None,
        seconds: float | None = None,
        threads: int | None = None,
    ) -> Result:
        raise NotImplementedError

    @overload
    def decode_batch(
        self,
        xs: Iterable[object],
        *,
        return_exceptions: Literal[False] = ...,
        batch_size: int = ...,
        threads: int | str | None = ...,
        show_progress: bool = ...,
        prepared: bool = ...,
        options: DecodeOptions | None = ...,
        **keywords: Any,
    ) -> list[Result]: ...

    @overload
    def decode_batch(
        self,
        xs: Iterable[object],
        *,
        return_exceptions: bool,
        batch_size: int = ...,
        threads: int | str | None = ...,
        show_progress: bool = ...,
        prepared: bool = ...,
        options: DecodeOptions | None = ...,
        **keywords: Any,
    ) -> list[Result | Exception]: ...

    def decode_batch(
        self,
        xs: Iterable[object],
        *,
        return_exceptions: bool = False,
        batch_size: int = 64,
        threads: int | str | None = None,
        show_progress: bool = False,
        prepared: bool = False,
        options: DecodeOptions | None = None,
        **keywords: Any,
    ) -> list[Result] | list[Result | Exception]:
        """The results of many sources, in their order: the bits of `decode` one by one.

        batch_size: the most sentences that share a step. threads: by default the engine's; each
        that has 16 sources or a full batch decodes a batch of its own, and threads that are left
        over share the large products of these.
        show_progress: a bar on the standard error, which needs rich. A source may be a mapping by
        input name. `prefix` may be a list with one for each source. return_exceptions: the error of
        a source takes the place of its result, instead of being raised for all. All sources are
        read before the first is decoded; `timeout` is for all of them together, and the error's
        `result` is a list of them all.
        """
        xs = list(xs)
        found = self._flow(xs, batch_size, threads, prepared, options, keywords, return_exceptions)
        if show_progress:
            from .progress import tracked

            found = tracked(found, len(xs))
        done: list[Any] = []
        try:
            done.extend(found)
        except DecodeStopped as error:
            error.result = done + error.result
            raise
        return done

    @overload
    def decode_iter(
        self,
        xs: Iterable[object],
        *,
        return_exceptions: Literal[False] = ...,
        batch_size: int = ...,
        threads: int | str | None = ...,
        prepared: bool = ...,
        options: DecodeOptions | None = ...,
        **keywords: Any,
    ) -> Iterator[Result]: ...

    @overload
    def decode_iter(
        self,
        xs: Iterable[object],
        *,
        return_exceptions: bool,
        batch_size: int = ...,
        threads: int | str | None = ...,
        prepared: bool = ...,
        options: DecodeOptions | None = ...,
        **keywords: Any,
    ) -> Iterator[Result | Exception]: ...

    def decode_iter(
        self,
        xs: Iterable[object],
        *,
        return_exceptions: bool = False,
        batch_size: int = 64,
        threads: int | str | None = None,
        prepared: bool = False,
        options: DecodeOptions | None = None,
        **keywords: Any,
    ) -> Iterator[Any]:
        """The results of any number of sources, in their order, as they are asked for.

        At most 4 * batch_size * threads sources are read ahead of the results that were taken. As
        sentences of a batch end, others join it. A source that cannot be decoded raises its error
        in its turn and ends the iteration; with return_exceptions the error is given in its turn.
        `prefix` may be a list or an iterator with one for each source. There is no `timeout`, for
        the time that the caller takes would count: `cancel` ends an iteration, whose error's
        `result` lists what was read and not yet given.
        """
        if keywords.get("timeout") is not None or (options and options.timeout is not None):
            raise InputError("timeout is for a call that returns; give decode_iter a cancel token")
        return self._flow(
            iter(xs), batch_size, threads, prepared, options, keywords, return_exceptions
        )

    def _flow(
        self,
        xs: Iterable[object],
        batch_size: int,
        threads: int | str | None,
        prepared: bool,
        options: DecodeOptions | None,
        keywords: dict[str, Any],
        return_exceptions: bool,
    ) -> Iterator[Outcome]:
        """decode_batch hands in a list, of which all is read at once; decode_iter an iterator."""
        check_whole("batch_size", batch_size, MAX_BATCH)
        count = self._threads if threads is None else wanted(threads)
        self._check_open()
        sources = len(xs) if isinstance(xs, list) else None
        prefixes, options, keywords = taken_out(options, keywords, sources)
        ready = self._calls.ready(options, keywords)
        if ready.request is None or ready.options.exact:
            own = None if prefixes is None else self._calls.prefixes(prefixes, ready)
            return self._one_by_one(xs, prepared, ready, count, own, return_exceptions)
        team = min(count, _core.usable_cpus())
        flow = Flow(
            self._calls,
            ready,
            xs,
            prepared=prepared,
            batch_size=batch_size,
            ahead=AHEAD * batch_size * team if sources is None else sources + 1,
            prefixes=prefixes,
            return_exceptions=return_exceptions,
        )
        if sources is not None:
            flow.fill()
            flow.check()
            team = max(1, min(team, max(-(-sources // batch_size), sources // FEWEST)))
        return results(flow, team, lambda: self._session(count // team), self._give)

    def _one_by_one(
        self,
        xs: Iterable[object],
        prepared: bool,
        ready: Ready,
        threads: int,
        prefixes: Prefixes | None,
        return_exceptions: bool,
    ) -> Iterator[Outcome]:
        """Labels, and exact searches: no two of these share a step."""
        end = time.monotonic() + ready.seconds
        given = enumerate(xs)
        for number, x in given:
            outcome: Outcome
            try:
                mine = ready
                if prefixes is not None:
                    mine = self._calls.ready(prefixes.next()[0], {})
                read = self._calls.read(x, None, None, prepared)
                left = max(0.0, end - time.monotonic())
                outcome = self._decode(read, mine, None, left, threads=threads)
            except DecodeStopped as error:
                reason = "timeout" if isinstance(error, DecodeTimeout) else "cancelled"
                rest = [y for _, y in given] if isinstance(xs, list) else []
                reads = [self._calls.read(y, None, None, prepared) for y in rest]
                empty = [self._calls.empty(reason, read) for read in reads]
                error.result = [error.result, *empty]
                raise
            except S2SError as error:
                outcome = type(error)(f"source {number} of the batch: {error}")
                if not return_exceptions:
                    raise outcome from None
            yield outcome

    async def decode_async(
        self,
        x: object = None,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
        options: DecodeOptions | None = None,
        **keywords: Any,
    ) -> Result:
        """`decode` without blocking an event loop, on the engine's own `threads`.

        Raises EngineBusy at once where max_queue calls are waiting already. Cancelling the task
        cancels the decode within one step. A `timeout` counts the time in the queue; `close()`
        cancels what runs, and what waits raises EngineClosedError.
        """
        from .async_ import Workers, run

        self._check_open()
        if self._workers is None:
            self._workers = Workers(self._threads, self._max_queue)
        ready = self._calls.ready(options, keywords)
        read = self._calls.read(x, inputs, features, prepared)

        def work(cancel: _core.CancelToken, seconds: float) -> Result:
            return self._decode(read, ready, cancel, seconds, threads=1)

        empty = self._calls.empty("timeout", read)
        return await run(self._workers, work, ready.seconds, ready.cancel, empty)

    def stream(
        self,
        x: object = None,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
        options: DecodeOptions | None = None,
        **keywords: Any,
    ) -> Stream:
        """Tokens as they become certain: an iterator of (token, id, position) that computes a step
        when it has none to give. Once it has ended, its `result` is that of `decode`.

        Greedy, every step makes one token certain; with a beam, those that all live hypotheses and
        the best ended one share. A `timeout` counts from here, the caller's time included.
        """
        from .streams import Stream

        ready, read = self._reading(x, inputs, features, prepared, options, keywords)
        return Stream(self._calls, ready, read, self._session(), self._give)

    def start(
        self,
        x: object = None,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
    ) -> DecoderState:
        """A decode that the caller leads: encodes a source and gives the state before the first
        token, to be fed, branched and kept (docs/streams.md)."""
        from .streams import started

        _, read = self._reading(x, inputs, features, prepared, None, {})
        session = self._session()
        return started(self._calls, read, self._model.start, session, self._give, self._fingerprint)

    def resume(self, snapshot: bytes) -> DecoderState:
        """The state that `DecoderState.snapshot` gave, in any process, with the same next bits.

        Raises InputError for bytes that are no snapshot, or one of another model.
        """
        from .streams import opened, resumed

        taken = opened(snapshot)
        if taken.model != self._fingerprint():
            raise InputError("the snapshot is of another model")
        return resumed(self._calls, taken, self._session(), self._give, self._fingerprint)

    def _reading(
        self,
        x: object,
        inputs: Mapping[str, object] | None,
        features: object,
        prepared: bool,
        options: DecodeOptions | None,
        keywords: dict[str, Any],
    ) -> tuple[Ready, Read]:
        self._check_open()
        ready = self._calls.ready(options, keywords)
        if ready.request is None:
            raise InputError("this model has no decoder; decode() gives its labels at once")
        return ready, self._calls.read(x, inputs, features, prepared)

    def _fingerprint(self) -> str:
        if not self._digest:
            self._digest = digest_of(to_bytes(self._model))
        return self._digest

    def estimate_memory(self, source_length: int, beam_size: int = 1, batch_size: int = 1) -> int:
        """Bytes of the workspace of so many sources of this prepared length in one step: what a
        thread's first such decode allocates, and `max_memory` bounds. The weights are beside it,
        and some 100 bytes for each step of each hypothesis."""
        check_whole("source_length", source_length, 1 << 40)
        check_whole("beam_size", beam_size, MAX_BEAM)
        check_whole("batch_size", batch_size, MAX_BATCH)
        session = self._session()
        try:
            return int(session.workspace_bytes_for(source_length, beam_size, batch_size))
        finally:
            self._give(session)
