"""`Engine`: a loaded model, from a caller's tokens to results. Knows files, vocabularies, options
and a pool of sessions of the C++ core; never how a step is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import _core
from .compute_types import resolve
from .core_rules import CoreRules
from .errors import EngineClosedError, InputError, ModelFormatError
from .finishing import finished, unknown_id
from .format import to_bytes
from .graph import Graph, to_json
from .loading import Source, opened
from .model import Model
from .options import DEFAULTS, DecodeOptions
from .results import Check, Hypothesis, Result, Score
from .self_test import compare
from .threads import wanted
from .vocabulary import MAX_INPUT_LENGTH, Inputs, core_input


@dataclass(frozen=True)
class Info:
    """What an engine is made of.

    threads: the most that a call works on. parameters: numbers among the weights.
    compute_types: the type each weight is computed in.
    source_vocabularies: ids by input name. workspace_bytes: of the sessions that exist now.
    """

    isa: str
    reference_speed: bool
    threads: int
    format: int
    digest: str
    parameters: int
    compute_types: dict[str, str]
    source_vocabularies: dict[str, int]
    target_vocabulary: int | None
    vocabularies: Mapping[str, tuple[str, ...]]
    generation: Mapping[str, Any]
    provenance: Mapping[str, Any]
    workspace_bytes: int


class _Read(NamedTuple):
    """One source as the core takes it: its inputs in order, its length and ids where it has such,
    the prompt of a model without an encoder, and what the caller gave."""

    inputs: list[Any]
    length: int | None
    ids: list[int] | None
    prompt: list[int] | None
    given: object
    prepared: bool


class Engine:
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
        max_input_length: int = MAX_INPUT_LENGTH,
    ) -> None:
        _check_whole("max_input_length", max_input_length, 1 << 30)
        if isa is not None and not isinstance(isa, str):
            raise InputError(f"isa is {isa!r}, must be a name or None")
        self._model, self._origin, self._digest = model, origin, digest
        self._threads, self._isa = wanted(threads), isa
        self._inputs = Inputs(model, max_input_length)
        self._options = DecodeOptions.of(model.generation, None, {})
        self._rules = CoreRules(model, self._inputs, self._options)
        self._has_decoder = "decoder" in model.graphs
        self._has_encoder = "encoder" in model.graphs
        graphs = {role: to_json(graph, role) for role, graph in model.graphs.items()}
        start = -1 if model.start is None else model.start
        types = resolve(model, compute_type, lambda weight: _core.time_products(weight, isa or ""))
        self._core = _core.Model(graphs, dict(model.tensors), start, list(model.end), types)
        self._order: list[str] = self._core.inputs
        self._closed = False
        self._idle: list[_core.Session] = [self._new_session()]

    @staticmethod
    def load(
        source: Source,
        *,
        compute_type: str | Mapping[str, str] = "float32",
        threads: int | str = 1,
        isa: str | None = None,
        max_input_length: int = MAX_INPUT_LENGTH,
        importer: str | None = None,
        **importer_options: Any,
    ) -> Engine:
        """An engine from a model file, its bytes, a `Model` built in memory, or a checkpoint of
        another program: a file or folder, arrays by name, an encoder's and a decoder's path.

        compute_type: float32, bfloat16 or int8 for every matrix, or types by the weights' names
        (docs/architecture.md); auto takes what a measurement says, other bits on other machines.
        threads: the most that one call works on, where that pays, and never more than the process
        has CPUs; "auto": OMP_NUM_THREADS, else all of them. isa: the instruction set, by default
        S2S_ISA or the fastest. max_input_length: longer sources are refused. importer: who wrote
        the checkpoint, where its names do not tell; it may need options of its own.
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
            max_input_length=max_input_length,
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
        Raises InputError, InputTooLongError, NumericalError, EngineClosedError.
        """
        chosen = self._chosen(options, keywords)
        read = self._read(x, inputs, features, prepared)
        session = self._session()
        try:
            if not self._has_decoder:
                return self._labelled(session, read, chosen)
            found = session.decode(
                read.inputs,
                chosen.beam_size,
                chosen.num_hypotheses,
                chosen.keeps_attention,
                self._model.limit(chosen, read.length),
                read.prompt,
                self._rules.of(chosen),
            )
            return self._result(session, read, found, chosen)
        finally:
            self._idle.append(session)

    def decode_batch(
        self,
        xs: Iterable[object],
        *,
        batch_size: int = 64,
        threads: int | str | None = None,
        show_progress: bool = False,
        prepared: bool = False,
        options: DecodeOptions | None = None,
        **keywords: Any,
    ) -> list[Result]:
        """The results of many sources, in their order: the bits of `decode` one by one.

        batch_size: the most sentences that share a step. threads: by default the engine's; batches
        are decoded at once, large products of a batch shared by threads that are left over. A
        source may be a mapping by input name.
        """
        if show_progress:
            raise NotImplementedError("show_progress is not built yet")
        _check_whole("batch_size", batch_size, 1 << 20)
        count = self._threads if threads is None else wanted(threads)
        chosen = self._chosen(options, keywords)
        reads = []
        for number, x in enumerate(xs):
            try:
                reads.append(self._read(x, None, None, prepared))
            except InputError as error:
                raise type(error)(f"source {number} of the batch: {error}") from None
        if not reads:
            return []
        parallel = min(count, -(-len(reads) // batch_size))
        sessions = [self._session(count // parallel) for _ in range(parallel)]
        try:
            if not self._has_decoder:
                return [self._labelled(sessions[0], read, chosen) for read in reads]
            found = _core.decode_batch(
                sessions,
                [read.inputs for read in reads],
                chosen.beam_size,
                chosen.num_hypotheses,
                chosen.keeps_attention,
                [self._model.limit(chosen, read.length) for read in reads],
                batch_size,
                [] if self._has_encoder else [read.prompt for read in reads],
                self._rules.of(chosen),
            )
            return [
                self._result(sessions[0], read, one, chosen)
                for read, one in zip(reads, found, strict=True)
            ]
        finally:
            self._idle.extend(sessions)

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
        coverage_penalty: float | None = None,
        end_tokens: object = None,
    ) -> Score:
        """Log-probabilities of a given target (teacher forcing), the (first) end token's included.

        target: strings or ids without start and end. The options are those of DecodeOptions, by
        default the model's. The numbers are those that `decode` gives for the same ids, to the last
        bit.
        """
        if not self._has_decoder:
            raise NotImplementedError("score of a model without a decoder is not built yet")
        ids = self._inputs.target(target)
        chosen = self._options.for_score(
            length_penalty=length_penalty,
            length_penalty_kind=length_penalty_kind,
            coverage_penalty=coverage_penalty,
            end_tokens=end_tokens,
        )
        self._model.check_alignment(chosen)
        read = self._read(x, inputs, features, prepared)
        session = self._session()
        try:
            _, log_probs, log_prob, score, _, _ = session.score(
                read.inputs, ids, False, read.prompt, self._rules.of(chosen)
            )
        finally:
            self._idle.append(session)
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
        read = self._read(x, inputs, features, prepared)
        session = self._session()
        try:
            return session.encode(read.inputs)
        finally:
            self._idle.append(session)

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
        read = self._read(x, inputs, features, prepared)
        session = self._session()
        try:
            return session.forced_logits(read.inputs, ids, read.prompt)
        finally:
            self._idle.append(session)

    def decode_iter(self, xs: Iterable[object]) -> NoReturn:
        """Lazy decoding of many sources (not built yet)."""
        raise NotImplementedError("decode_iter is not built yet")

    def stream(self, x: object) -> NoReturn:
        """Tokens as they become certain (not built yet)."""
        raise NotImplementedError("stream is not built yet")

    async def decode_async(self, x: object) -> NoReturn:
        """Decoding without blocking an event loop (not built yet)."""
        raise NotImplementedError("decode_async is not built yet")

    def estimate_memory(
        self, source_length: int, beam_size: int = 1, batch_size: int = 1
    ) -> NoReturn:
        """Bytes that a decode will take (not built yet)."""
        raise NotImplementedError("estimate_memory is not built yet")

    # --- the engine itself ---

    @property
    def info(self) -> Info:
        """Sizes, vocabularies, instruction set, compute types and provenance."""
        self._check_open()
        model = self._model
        isa = self._idle[0].isa if self._idle else _core.Session(self._core, self._isa or "").isa
        decoder = model.graphs.get("decoder")
        return Info(
            isa=isa,
            reference_speed=isa == "portable",
            threads=self._threads,
            format=1,
            digest=self._digest,
            parameters=sum(array.size for array in model.tensors.values()),
            compute_types=self._core.compute_types,
            source_vocabularies={
                name: type_.size
                for name, type_ in model.graphs.get("encoder", Graph()).inputs.items()
                if type_.kind in ("id", "ids")
            },
            target_vocabulary=None if decoder is None else decoder.inputs["token"].size,
            vocabularies=model.vocabularies,
            generation=model.generation,
            provenance=model.provenance,
            workspace_bytes=sum(session.workspace_bytes for session in self._idle),
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
        """Frees the sessions; every later call raises EngineClosedError."""
        self._closed = True
        self._idle.clear()

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
        types = self._core.compute_types
        arguments = (origin, digest, types, self._threads, self._isa, self._inputs.max_input_length)
        return _reload, arguments

    def _chosen(self, options: DecodeOptions | None, keywords: Mapping[str, Any]) -> DecodeOptions:
        if options is None and not keywords:
            return self._options
        return DecodeOptions.of(self._model.generation, options, keywords)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError("this engine is closed; load the model again")

    def _new_session(self) -> _core.Session:
        return _core.Session(self._core, self._isa or "", self._threads)

    def _session(self, threads: int | None = None) -> _core.Session:
        self._check_open()
        try:
            session = self._idle.pop()
        except IndexError:
            session = self._new_session()
        session.threads = self._threads if threads is None else threads
        return session

    def _read(
        self,
        x: object,
        inputs: Mapping[str, object] | None,
        features: object,
        prepared: bool,
    ) -> _Read:
        if not self._has_encoder:
            prompt = self._inputs.prompt(x, inputs=inputs, features=features)
            return _Read([], None, None, prompt, x, prepared)
        read = self._inputs.encoder(x, inputs=inputs, features=features, prepared=prepared)
        ordered = [core_input(read[name]) for name in self._order]
        main = self._inputs.main
        if main is None:
            return _Read(ordered, None, None, None, x, prepared)
        ids: Any = read[main]
        given = inputs if x is None else x
        return _Read(
            ordered, len(ids), ids if isinstance(ids, list) else None, None, given, prepared
        )

    def _result(
        self, session: _core.Session, read: _Read, found: Sequence[Any], chosen: DecodeOptions
    ) -> Result:
        tokens = self._inputs.target_tokens
        hypotheses = [
            Hypothesis(ids, tokens(ids), score, log_prob, log_probs, attention, reason)
            for ids, log_probs, log_prob, score, reason, attention in found
        ]
        if chosen.replace_unknowns is not False or chosen.return_logits:
            hypotheses = finished(
                hypotheses,
                chosen,
                unknown=unknown_id(chosen.replace_unknowns, self._inputs),
                words=lambda: self._inputs.source_words(read.given, read.ids or [], read.prepared),
                logits=lambda ids: session.forced_logits(read.inputs, ids, read.prompt),
            )
        return Result(hypotheses, self._source_tokens(read))

    def _source_tokens(self, read: _Read) -> list[str]:
        return [] if read.ids is None else self._inputs.source_tokens(read.ids)

    def _labelled(self, session: _core.Session, read: _Read, chosen: DecodeOptions) -> Result:
        """The best label of each position, or of the sentence: a model without a decoder."""
        changed = [name for name in DEFAULTS if getattr(chosen, name) != DEFAULTS[name]]
        if changed:
            raise InputError(f"{changed[0]} is for models with a decoder; this one has none")
        outputs = list(self._model.graphs["encoder"].outputs)
        if "logits" not in outputs:
            raise InputError(f"this model has no logits; encode() gives {', '.join(outputs)}")
        ids, log_probs = session.label(read.inputs, outputs.index("logits"))
        log_prob = float(sum(float(value) for value in log_probs))
        tokens = self._inputs.target_tokens(ids)
        best = Hypothesis(ids, tokens, log_prob, log_prob, log_probs, None, "length")
        return Result([best], self._source_tokens(read))


def _reload(
    origin: str | bytes,
    digest: str,
    types: dict[str, str],
    threads: int,
    isa: str | None,
    max_input_length: int,
) -> Engine:
    engine = Engine.load(
        origin, compute_type=types, threads=threads, isa=isa, max_input_length=max_input_length
    )
    if digest and engine.info.digest != digest:
        raise ModelFormatError(
            f"{engine!r} has the digest {engine.info.digest}, the pickled engine had {digest}: "
            "the file has changed"
        )
    return engine


def _check_whole(name: str, value: object, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} is {value!r}, must be an integer")
    if not 1 <= value <= high:
        raise InputError(f"{name} is {value}, must be 1 to {high}")
