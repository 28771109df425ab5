"""Decodes in progress: tokens as they become certain, and states that the caller feeds, branches,
keeps and goes on with. Knows one source at a time; never how a step is computed."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core
from .calls import Calls, Read, Ready, stopped_error
from .errors import InputError
from .finishing import unknown_id
from .results import Result

MAGIC = b"s2s_state1"
MAX_SNAPSHOT = 1 << 30


class Token(NamedTuple):
    """One token of a stream: its string, its id, and its place among the generated ids."""

    token: str
    id: int
    position: int


class Stream(Iterator[Token]):
    """Tokens in the moment in which no later step can change them: greedy, one with each step; with
    a beam, those that all live hypotheses and the best ended one begin with. An exact search is
    certain of nothing before its end, and a token that `replace_unknowns` is to replace is told
    then, with all behind it. `result` is the whole result, of `decode`'s bits, once the iteration
    has ended."""

    def __init__(
        self,
        calls: Calls,
        ready: Ready,
        read: Read,
        session: _core.Session,
        give: Callable[[_core.Session], None],
    ) -> None:
        self.result: Result | None = None
        self._calls, self._ready, self._read = calls, ready, read
        self._session: _core.Session | None = session
        self._give = give
        self._deadline = time.monotonic() + ready.seconds
        self._tokens: deque[Token] = deque()
        self._count = 0
        assert ready.request is not None  # a model without a decoder does not come here
        self._limit = calls.limit(ready.options, read)
        self._unknown = unknown_id(ready.options.replace_unknowns, calls.inputs)
        if ready.options.exact:
            return
        self._batch = _core.Batch(session, ready.request)
        given = (0, read.inputs, self._limit, read.prompt, None)
        self._batch.join([given], ready.cancel, self._seconds())

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Token:
        while not self._tokens:
            if self._session is None:
                raise StopIteration
            self._step()
        return self._tokens.popleft()

    def close(self) -> None:
        """Ends the stream; a decode that is not done is given up."""
        session, self._session = self._session, None
        if session is not None:
            self._give(session)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_session", None) is not None:
            self.close()

    def _seconds(self) -> float:
        return inf if self._deadline == inf else max(0.0, self._deadline - time.monotonic())

    def _step(self) -> None:
        try:
            found = self._searched() if self._ready.options.exact else self._stepped()
        except BaseException:
            self.close()
            raise
        if found is None:
            ids = self._batch.certain()
            if self._unknown in ids:
                ids = ids[: ids.index(self._unknown)]
            self._certain(ids, self._calls.inputs.target_tokens(ids))
            return
        self.close()
        if isinstance(found, Exception):
            raise found
        result = self._calls.result(found, self._read, self._ready.options)
        if found.stopped:
            raise stopped_error(found.stopped, self._ready.seconds, result)
        self.result = result
        self._certain(result.ids, result.tokens)

    def _stepped(self) -> _core.Found | Exception | None:
        """One step; None while the search goes on."""
        left = self._batch.run(1, self._ready.cancel, self._seconds())
        if self._batch.stopped:
            left = self._batch.interrupt()
        return left[0][1] if left else None

    def _searched(self) -> _core.Found:
        """The whole search at once."""
        assert self._session is not None and self._ready.request is not None
        return self._session.decode(
            self._read.inputs,
            self._ready.request,
            self._limit,
            self._read.prompt,
            self._ready.cancel,
            self._seconds(),
        )

    def _certain(self, ids: list[int], tokens: list[str]) -> None:
        for at in range(self._count, len(ids)):
            self._tokens.append(Token(tokens[at], ids[at], at))
        self._count = max(self._count, len(ids))


class _Source:
    """An encoded source that states share: one session, one step at a time."""

    def __init__(
        self,
        calls: Calls,
        read: Read,
        session: _core.Session,
        give: Callable[[_core.Session], None],
        fingerprint: Callable[[], str],
    ) -> None:
        self.calls, self.read, self.fingerprint = calls, read, fingerprint
        self._session, self._give = session, give
        self._lock = threading.Lock()
        self._core = _core.DecoderState(session, read.inputs)

    def step(self, states: bytes, id_: int, step: int) -> tuple[NDArray[np.float32], bytes]:
        """One step behind these states: log-probabilities and the states behind it."""
        with self._lock:
            if step:
                self._core.restore(states)
            log_probs = self._core.feed(id_, step)
            return log_probs, self._core.states()

    def __del__(self) -> None:
        if hasattr(self, "_core"):
            self._give(self._session)


class DecoderState:
    """A decode that the caller leads: it feeds ids, and reads what may follow.

    log_probs: (vocabulary,) float32, the natural logarithms of the next token's probabilities; the
    numbers of `decode` for the same ids, to the last bit. ids: what was fed, without the start.
    Branches of one state may be fed from any threads; a single state from one at a time.
    """

    def __init__(self, source: _Source, lead: list[int]) -> None:
        self._source = source
        self._fed: list[int] = []
        self._lead = len(lead)
        self._before = self._states = b""
        self.log_probs: NDArray[np.float32] = np.zeros(0, np.float32)
        for id_ in lead:
            self._step(id_)

    @property
    def ids(self) -> list[int]:
        """What was fed, without the start and a prompt."""
        return self._fed[self._lead :]

    @property
    def tokens(self) -> list[str]:
        """The same as strings."""
        return self._source.calls.inputs.target_tokens(self.ids)

    def feed(self, target: object) -> DecoderState:
        """Goes on with these tokens: a list of strings or of ids. Gives itself.

        Raises InputError for what is no token of the target, or beyond the model's steps, and
        NumericalError; the state is then where it was."""
        ids = self._source.calls.inputs.target(target)
        kept = self._fed, self._before, self._states, self.log_probs
        self._fed = list(self._fed)
        try:
            for id_ in ids:
                self._step(id_)
        except BaseException:
            self._fed, self._before, self._states, self.log_probs = kept
            raise
        return self

    def branch(self) -> DecoderState:
        """Another state at the same place; what one is fed does not touch the other."""
        other = object.__new__(DecoderState)
        other.__dict__.update(self.__dict__, _fed=list(self._fed))
        return other

    def snapshot(self) -> bytes:
        """The state as bytes, for `Engine.resume` of the same model anywhere: the source as it was
        read, the ids, and the decoder's states (4 bytes for each of their numbers)."""
        read = self._source.read
        arrays = [np.asarray(x, np.int32 if isinstance(x, list) else np.float32)
                  for x in read.inputs]  # fmt: skip
        header = json.dumps(
            {
                "model": self._source.fingerprint(),
                "inputs": [[array.dtype.kind, list(array.shape)] for array in arrays],
                "lead": self._lead,
                "fed": self._fed,
            }
        ).encode()
        body = len(header).to_bytes(4, "little") + header
        body += b"".join(array.tobytes() for array in arrays) + self._before
        return MAGIC + hashlib.sha256(body).digest()[:16] + body

    def _step(self, id_: int) -> None:
        log_probs, states = self._source.step(self._states, id_, len(self._fed))
        self._before, self._states, self.log_probs = self._states, states, log_probs
        self._fed.append(id_)

    def _replay(self, fed: list[int], before: bytes) -> None:
        """Stands where a snapshot was taken: its states, and the last id once more."""
        self._fed, self._states = fed[:-1], before
        self._step(fed[-1])


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(
        type(id_) is int and -1 <= id_ <= 1 << 30 for id_ in value
    )


class Snapshot(NamedTuple):
    """What the bytes of a snapshot say."""

    model: str
    read: Read
    lead: int
    fed: list[int]
    states: bytes


def opened(data: bytes) -> Snapshot:
    """Reads a snapshot; InputError for anything else."""
    if not isinstance(data, bytes):
        raise InputError(f"the snapshot is {type(data).__name__}, must be bytes of snapshot()")
    body = data[len(MAGIC) + 16 :]
    if not data.startswith(MAGIC) or len(data) > MAX_SNAPSHOT:
        raise InputError("these bytes are no snapshot of a decoder's state")
    if hashlib.sha256(body).digest()[:16] != data[len(MAGIC) : len(MAGIC) + 16]:
        raise InputError("the snapshot is damaged: its digest does not fit")
    try:
        size = int.from_bytes(body[:4], "little")
        header, at = json.loads(body[4 : 4 + size]), 4 + size
        inputs: list[Any] = []
        for kind, shape in header["inputs"]:
            array = np.frombuffer(body, f"<{kind}4", int(np.prod(shape)), at).reshape(shape)
            at += array.nbytes
            inputs.append(array.tolist() if kind == "i" else array)
        lead, fed = header["lead"], header["fed"]
        if not _are_ids(fed) or type(lead) is not int or not 0 <= lead <= len(fed) or not fed:
            raise ValueError("fed and lead")
        read = Read(inputs, None, None, None)
        return Snapshot(header["model"], read, lead, fed, body[at:])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"the snapshot is not of the documented form: {error}") from None


def started(
    calls: Calls,
    read: Read,
    start: int | None,
    session: _core.Session,
    give: Callable[[_core.Session], None],
    fingerprint: Callable[[], str],
) -> DecoderState:
    """The state before the first token: the start, and a prompt where there is one, are fed."""
    source = _Source(calls, read, session, give, fingerprint)
    prompt = list(read.prompt or [])
    lead = prompt if start is None and prompt else [-1 if start is None else start, *prompt]
    return DecoderState(source, lead)


def resumed(
    calls: Calls,
    snapshot: Snapshot,
    session: _core.Session,
    give: Callable[[_core.Session], None],
    fingerprint: Callable[[], str],
) -> DecoderState:
    """The state that a snapshot was taken of."""
    state = DecoderState(_Source(calls, snapshot.read, session, give, fingerprint), [])
    state._lead = snapshot.lead
    state._replay(snapshot.fed, snapshot.states)
    return state
