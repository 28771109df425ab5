"""`Engine`: a loaded model, from a caller's tokens to results. Knows files, vocabularies, options
and a pool of sessions of the C++ core; never how a step is computed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core, handover
from .calls import MAX_BATCH, Calls, Read, Ready, check_whole, stopped_error
from .compute_types import ROWS, resolve
from .errors import EngineClosedError, InputError, ModelFormatError
from .format import to_bytes
from .graph import to_json
from .info import Info, info_of
from .loading import Source, opened
from .model import Model
from .options import DEFAULTS, DecodeOptions
from .pipelines import Pipelines
from .results import Check, Hypothesis, Result, Score
from .search_rules import score_of
from .self_test import compare
from .threads import wanted
from .vocabulary import MAX_INPUT_LENGTH, Inputs

MAX_MEMORY = 8 << 30
MAX_QUEUE = 256

# Python tells signals to its main thread alone; in the child of a fork, that is the one there is.
_core.set_main_thread(threading.main_thread().ident)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _core.set_main_thread(threading.get_ident()))


class Engine(Pipelines):
    """Decodes with one model. Engines may be used from many threads at once, forked and pickled."""

    def __init__(
        self,
        model: Model,
        *,
        origin: str | bytes | None = None,
        digest: str = "",
        compute_type: str | Mapping[str, str] = "float32",
        threads: int | str = 1,
        isa: str | None = None,
        certified: bool = True,
        max_input_length: int = MAX_INPUT_LENGTH,
        max_memory: int = MAX_MEMORY,
        max_queue: int = MAX_QUEUE,
    ) -> None:
        check_whole("max_input_length", max_input_length, 1 << 30)
        check_whole("max_memory", max_memory, 1 << 50)
        check_whole("max_queue", max_queue, 1 << 30, low=0)
        if isa is not None and not isinstance(isa, str):
            raise InputError(f"isa is {isa!r}, must be a name or None")
        if not isinstance(certified, bool):
            raise InputError(f"certified is {certified!r}, must be True or False")
        self._model = model if origin is None else replace(model, tensors={})  # packed below
        self._parameters = sum(array.size for array in model.tensors.values())
        self._origin, self._digest = origin, digest
        self._threads, self._isa, self._certified = wanted(threads), isa, certified
        self._max_memory, self._max_queue = max_memory, max_queue
        self._inputs = Inputs(model, max_input_length)
        self._has_encoder, self._has_decoder = (r in model.graphs for r in ("encoder", "decoder"))
        graphs = {role: to_json(graph, role) for role, graph in model.graphs.items()}
        start = -1 if model.start is None else model.start
        types = resolve(
            model, compute_type,
            lambda weight: [_core.time_products(weight, isa or "", rows) for rows in ROWS],
        )  # fmt: skip
        self._core = _core.Model(
            graphs, dict(model.tensors), start, list(model.end), types,
            screen_from=_core.SCREEN_FROM if certified else sys.maxsize,
        )  # fmt: skip
        self._calls = Calls(self._model, self._inputs, self._core.inputs, self._forced)
        self._workers: Any = None  # made by the first decode_async
        self._closed = False
        self._idle: list[_core.Session] = [self._new_session()]

    @staticmethod
    def load(
        source: Source,
        *,
        compute_type: str | Mapping[str, str] = "float32",
        threads: int | str = 1,
        isa: str | None = None,
        certified: bool = True,
        max_input_length: int = MAX_INPUT_LENGTH,
        max_memory: int = MAX_MEMORY,
        max_queue: int = MAX_QUEUE,
        importer: str | None = None,
        **importer_options: Any,
    ) -> Engine:
        """An engine from a model file, its bytes, a `Model` built in memory, or a checkpoint of
        another program: a file or folder, arrays by name, an encoder's and a decoder's path.

        compute_type: float32, bfloat16 or int8 for every matrix, or types by the weights' names
        (docs/architecture.md); auto takes what a measurement says, other bits on other machines.
        threads: the most that one call works on, where that pays, and never more than the process
        has CPUs; "auto": OMP_NUM_THREADS, else all of them. isa: the instruction set, by default
        S2S_ISA or the fastest. certified: greedy decodes in float32 look for the best id of a
        large output layer in int8 first, with a bound on the error: the same bits, sooner, for a
        quarter of that layer's memory (docs/architecture.md). max_input_length: longer sources are
        refused. max_memory: bytes that one thread's decode may take, refused before any is
        allocated; batches keep within it. max_queue: calls of `decode_async` that may wait for one
        of the threads. importer: who wrote the checkpoint, where its names do not tell; it may need
        options of its own.
        Raises ModelFormatError, UnsupportedIsaError, FileNotFoundError, InputError; no code of a
        file is ever executed.
        """
        model, digest, origin = opened(source, importer, importer_options)
        return Engine(
            model,
            origin=origin,
            digest=digest,
            compute_type=compute_type,
            threads=threads,
            isa=isa,
            certified=certified,
            max_input_length=max_input_length,
            max_memory=max_memory,
            max_queue=max_queue,
        )

    # --- decoding ---

    def decode(
        self,
        x: object = None,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
        options: DecodeOptions | None = None,
        **keywords: Any,
    ) -> Result:
        """The best outputs for one source.

        x: a list of strings, a list of ids or a 1-D integer array; `inputs` maps the names of
        several inputs, `features` is the one input of floats, (positions, size) or (size,).
        prepared: the model's source rule is not applied. Keywords are DecodeOptions' fields.
        Raises InputError, InputTooLongError, NumericalError, EngineClosedError, and, with the
        partial result, DecodeTimeout and DecodeCancelled.
        """
        ready = self._calls.ready(options, keywords)
        reader = self._calls.prepared_reader if prepared else self._calls.reader
        if reader is None or ready.max_length is None or inputs is not None or features is not None:
            return self._decode(self._calls.read(x, inputs, features, prepared), ready)
        session = self._session()
        try:
            found = session.decode_ids(
                x, reader, ready.request, *ready.max_length, ready.cancel, ready.seconds
            )
        finally:
            self._give(session)
        if found is None:  # strings, arrays, and all that is wrong
            return self._decode(self._calls.read(x, inputs, features, prepared), ready)
        result = Result.found(found, self._inputs, None)
        if found.stopped:
            raise stopped_error(found.stopped, ready.seconds, result)
        return result

    def _decode(
        self,
        read: Read,
        ready: Ready,
        cancel: _core.CancelToken | None = None,
        seconds: float | None = None,
        threads: int | None = None,
    ) -> Result:
        session = self._session(threads)
        try:
            if ready.request is None:
                return self._labelled(session, read, ready.options)
            found = session.decode(
                read.inputs,
                ready.request,
                self._calls.limit(ready.options, read),
                read.prompt,
                cancel or ready.cancel,
                ready.seconds if seconds is None else seconds,
            )
        finally:
            self._give(session)
        result = self._calls.result(found, read, ready.options)
        if found.stopped:
            raise stopped_error(found.stopped, ready.seconds, result)
        return result

    def score(
        self,
        x: object,
        target: object,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
        length_penalty: float | None = None,
        length_penalty_kind: str | None = None,
        length_penalty_offset: int | None = None,
        coverage_penalty: float | None = None,
        end_tokens: object = None,
    ) -> Score:
        """Log-probabilities of a given target (teacher forcing), the (first) end token's included.

        target: strings or ids without start and end; of a model without a decoder, a label for
        each that it gives. The options are those of DecodeOptions, by default the model's. The
        numbers are those that `decode` gives for the same ids, to the last bit.
        """
        ids = self._inputs.target(target)
        chosen = self._calls.default.options.for_score(
            length_penalty=length_penalty,
            length_penalty_kind=length_penalty_kind,
            length_penalty_offset=length_penalty_offset,
            coverage_penalty=coverage_penalty,
            end_tokens=end_tokens,
        )
        if self._has_decoder:
            self._model.check_alignment(chosen)
        else:
            _check_default(chosen, ("coverage_penalty", "end_tokens"))
        read = self._calls.read(x, inputs, features, prepared)
        session = self._session()
        try:
            if not self._has_decoder:
                log_probs = session.score_labels(read.inputs, ids, self._logits())
                log_prob = float(sum(map(float, log_probs)))
                score = score_of(log_prob, len(ids), *chosen.penalty)
            else:
                rules = self._calls.rules(chosen)
                _, log_probs, log_prob, score, _, _ = session.score(
                    read.inputs, ids, False, read.prompt, rules
                )
        finally:
            self._give(session)
        return Score(log_prob, log_probs, score)

    def encode(
        self,
        x: object = None,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
    ) -> dict[str, NDArray[np.float32]]:
        """The encoder's named outputs: (size,) for vectors, (positions, size) for sequences."""
        if not self._has_encoder:
            raise InputError("this model has no encoder: there is nothing to encode")
        read = self._calls.read(x, inputs, features, prepared)
        session = self._session()
        try:
            return session.encode(read.inputs)
        finally:
            self._give(session)

    def forced_logits(
        self,
        x: object,
        target: object,
        *,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
    ) -> NDArray[np.float32]:
        """The logits of every step under teacher forcing, (len(target) + 1, vocabulary).

        For comparisons with other executors; `score` is the fast way to log-probabilities.
        """
        if not self._has_decoder:
            raise InputError("this model has no decoder; encode() gives its logits")
        ids = self._inputs.target(target)
        read = self._calls.read(x, inputs, features, prepared)
        session = self._session()
        try:
            return session.forced_logits(read.inputs, ids, read.prompt)
        finally:
            self._give(session)

    # --- the engine itself ---

    def warm_up(self, source_length: int, beam_size: int = 1, batch_size: int = 1) -> None:
        """Takes all memory that decodes within these bounds can need, and touches it.

        source_length: tokens of a source. On an engine of one thread, `decode` of such a source
        under such a beam makes no heap call in the core, takes no lock and makes no system call
        there from then on (but for signals, which the main thread looks for under Python's
        lock); batches up to batch_size find their memory too. One session for each
        of `threads` is made ready. The other options are the model's. Raises InputError.
        """
        check_whole("source_length", source_length, self._inputs.max_input_length)
        check_whole("batch_size", batch_size, MAX_BATCH)
        request, length, limit = self._calls.largest(source_length, beam_size)
        sessions = [self._session() for _ in range(self._threads)]
        for session in sessions:
            session.warm_up(length, batch_size, request, limit)
            self._give(session)

    @property
    def info(self) -> Info:
        """Sizes, vocabularies, instruction set, compute types and provenance."""
        self._check_open()
        sessions = self._idle or [_core.Session(self._core, self._isa or "")]
        return info_of(
            self._model, self._core, sessions, self._threads, self._digest, self._parameters
        )

    def self_test(self) -> Check:
        """Runs the self-test in the model file: the largest difference of a log-probability.

        Raises ModelFormatError where the file has none; look at `.passed`.
        """
        test = self._model.self_test
        if test is None:
            raise ModelFormatError(
                "this model has no self-test: s2s_engine.self_test.attach(model) makes one"
            )
        source = test.call
        if not self._has_decoder:
            return compare(test, self.decode(source, prepared=True).hypotheses[0].token_log_probs)
        score = self.score(source, list(test.target), prepared=True)
        return compare(test, score.token_log_probs)

    def close(self) -> None:
        """Frees the sessions and ends the threads; every later call raises EngineClosedError. Calls
        that are running on threads of the caller's end as they would have."""
        self._closed = True
        self._idle.clear()
        if self._workers is not None:
            self._workers.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._isa or "default isa"
        where = self._origin if isinstance(self._origin, str) else "memory"
        return f"<Engine of {where}, {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        origin = to_bytes(self._model) if self._origin is None else self._origin
        digest = self._digest if self._origin is not None else ""
        options = {
            "compute_type": self._core.compute_types,
            "threads": self._threads,
            "isa": self._isa,
            "max_input_length": self._inputs.max_input_length,
            "certified": self._certified,
            "max_memory": self._max_memory,
            "max_queue": self._max_queue,
        }
        return _reload, (origin, digest, options)

    def _hand_over(self, options: DecodeOptions | None) -> object:
        """A capsule for s2s_engine.capi: the model and the rules of its calls, for sessions that
        outlive this engine if they must."""
        self._check_open()
        terms = handover.terms(self._model, self._core.inputs, self._calls, options)
        return _core.hand_over(
            self._core,
            self._isa or "",
            self._threads,
            self._max_memory,
            self._inputs.max_input_length,
            *terms,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError("this engine is closed; load the model again")

    def _new_session(self) -> _core.Session:
        return _core.Session(self._core, self._isa or "", self._threads, max_bytes=self._max_memory)

    def _session(self, threads: int | None = None) -> _core.Session:
        self._check_open()
        try:
            session = self._idle.pop()
        except IndexError:
            session = self._new_session()
        session.threads = self._threads if threads is None else threads
        return session

    def _give(self, session: _core.Session) -> None:
        if not self._closed:
            self._idle.append(session)

    def _labelled(self, session: _core.Session, read: Read, chosen: DecodeOptions) -> Result:
        """The best label of each position, or of the sentence: a model without a decoder."""
        changed = [name for name in DEFAULTS if getattr(chosen, name) != DEFAULTS[name]]
        if changed:
            raise InputError(f"{changed[0]} is for models with a decoder; this one has none")
        ids, log_probs = session.label(read.inputs, self._logits())
        log_prob = float(sum(float(value) for value in log_probs))
        tokens = self._inputs.target_tokens(ids)
        best = Hypothesis(ids, tokens, log_prob, log_prob, log_probs, None, "length")
        return Result([best], self._calls.source_tokens(read))

    def _forced(self, read: Read, ids: list[int]) -> NDArray[np.float32]:
        session = self._session()
        try:
            return session.forced_logits(read.inputs, ids, read.prompt)
        finally:
            self._give(session)

    def _logits(self) -> int:
        """Which of the encoder's outputs a model without a decoder labels by."""
        outputs = list(self._model.graphs["encoder"].outputs)
        if "logits" not in outputs:
            raise InputError(f"this model has no logits; encode() gives {', '.join(outputs)}")
        return outputs.index("logits")


def _reload(origin: str | bytes, digest: str, options: Mapping[str, Any]) -> Engine:
    engine = Engine.load(origin, **options)
    if digest and engine.info.digest != digest:
        raise ModelFormatError(
            f"{engine!r} has the digest {engine.info.digest}, the pickled engine had {digest}: "
            "the file has changed"
        )
    return engine


def _check_default(options: DecodeOptions, names: Sequence[str]) -> None:
    """Labels know none of these."""
    for name in names:
        if getattr(options, name) != DEFAULTS[name]:
            raise InputError(f"{name} is for models with a decoder; this one has none")
