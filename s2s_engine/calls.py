"""One model's calls as the core takes them: sources read, options prepared once and remembered,
results wrapped. Knows the bindings' arguments; never sessions, threads or what a step computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any, NamedTuple
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from . import _core
from .core_rules import CoreRules
from .errors import DecodeCancelled, DecodeTimeout, InputError
from .finishing import finished, unknown_id
from .model import Model
from .options import DecodeOptions, check_interruption
from .prefixes import Prefixes
from .results import Hypothesis, Result
from .vocabulary import Inputs, core_input

# Keywords of these types are remembered; a bool and the integer that it equals are not the same.
_PLAIN = frozenset({int, float, str, bool, type(None)})
_REMEMBERED = 256
MAX_BATCH = 1 << 20


class Read(NamedTuple):
    """One source as the core takes it: its inputs in order, its length and ids where it has such,
    the prompt of a model without an encoder, and what the caller gave."""

    inputs: list[Any]
    length: int | None
    ids: list[int] | None
    prompt: list[int] | None
    given: object = None
    prepared: bool = False


class Ready(NamedTuple):
    """Options as the core takes them. max_length: (a, b) for a * source length + b where nothing
    else bounds it. seconds: the timeout, infinite without."""

    options: DecodeOptions
    request: _core.Request | None
    max_length: tuple[int, int] | None
    seconds: float
    cancel: _core.CancelToken | None


class Calls:
    """Everything about a call on one model but the session that computes it."""

    def __init__(
        self,
        model: Model,
        inputs: Inputs,
        order: list[str],
        logits: Callable[[Read, list[int]], NDArray[np.float32]],
    ) -> None:
        """logits: (len(ids) + 1, V) of a source and given ids, for options that ask for them; a
        bound method, which is not kept alive."""
        self._model, self.inputs, self._order = model, inputs, order
        self._logits = WeakMethod(logits)  # an engine that is dropped ends at once
        self._rules = CoreRules(model, inputs)
        self.default = self._made(DecodeOptions.of(model.generation, None, {}))
        self.draws_anew = _draws_anew(self.default.options)
        self._by_keywords: dict[Any, Ready] = {}
        self._by_object: dict[int, Ready] = {}
        self.reader, self.prepared_reader = inputs.id_reader(), inputs.id_reader(prepared=True)

    def ready(self, options: DecodeOptions | None, keywords: dict[str, Any]) -> Ready:
        """The options of one call: keywords over an options object over the model's."""
        if options is None:
            if not keywords:
                return self._made(self.default.options) if self.draws_anew else self.default
            if "timeout" in keywords or "cancel" in keywords:
                return self._interruptible(keywords)
            types = tuple(map(type, keywords.values()))
            if not _PLAIN.issuperset(types):
                return self._made(DecodeOptions.of(self._model.generation, None, keywords))
            key = (*keywords.items(), types)
            found = self._by_keywords.get(key)
            if found is None:
                found = self._made(DecodeOptions.of(self._model.generation, None, keywords))
                _remember(self._by_keywords, key, found)
            return found
        if keywords:
            return self._made(DecodeOptions.of(self._model.generation, options, keywords))
        found = self._by_object.get(id(options))
        if found is None or found.options is not options:
            found = self._made(DecodeOptions.of(self._model.generation, options, {}))
            _remember(self._by_object, id(options), found)
        return found

    def _interruptible(self, keywords: dict[str, Any]) -> Ready:
        """What tells one call when to end is not remembered; the rest is."""
        timeout, cancel = keywords.get("timeout"), keywords.get("cancel")
        check_interruption(timeout, cancel)
        rest = {name: keywords[name] for name in keywords if name not in ("timeout", "cancel")}
        options, request, max_length, _, _ = self.ready(None, rest)
        if request is None:
            return self._made(DecodeOptions.of({}, options, keywords))
        return Ready(options, request, max_length, inf if timeout is None else timeout, cancel)

    def _made(self, options: DecodeOptions) -> Ready:
        if "decoder" not in self._model.graphs:
            return Ready(options, None, None, **_interruption(options))
        request = _core.Request(
            options.beam_size,
            options.num_hypotheses,
            options.keeps_attention,
            self.rules(options),
        )
        return Ready(options, request, self._simple_limit(options), **_interruption(options))

    def prefixes(self, given: Iterator[Any], ready: Ready) -> Prefixes:
        """A prefix for each source, over options without one."""
        return Prefixes(given, ready.options, self._rules.constraints, self._rules.prefix)

    def rules(self, options: DecodeOptions) -> _core.SearchRules:
        """How hypotheses end, are scored and are chosen."""
        return self._rules.of(options)

    def _simple_limit(self, options: DecodeOptions) -> tuple[int, int] | None:
        decoder = self._model.graphs["decoder"]
        if options.prefix or _asks_for_more(options):
            return None
        if options.reads_alignment and "alignment" not in decoder.outputs:
            return None
        limit = options.max_length
        if isinstance(limit, int):
            bounded = "step" in decoder.inputs and limit > decoder.inputs["step"].size
            return None if bounded else (0, limit)
        if "step" in decoder.inputs:
            return None
        if isinstance(limit, str):
            return 1, 0
        return limit if isinstance(limit, tuple) else None

    def largest(self, source_length: int, beam_size: int) -> tuple[_core.Request, int, int]:
        """What the largest decode of such sources takes: a request, the prepared length and the ids
        that may be generated."""
        options = self.default.options
        single = {} if options.samples else {"num_hypotheses": 1}
        ready = self.ready(options, {"beam_size": beam_size, **single})
        length = source_length
        if self.inputs.main is not None:
            length = len(self._model.source.prepare([0] * source_length))
        if ready.request is None:
            return _core.Request(), length, 1
        with_source = "encoder" in self._model.graphs
        return (
            ready.request,
            length,
            self._model.limit(ready.options, length if with_source else None),
        )

    def limit(self, options: DecodeOptions, read: Read) -> int:
        """The most ids that a source may generate."""
        return self._model.limit(options, read.length)

    def read(
        self,
        x: object,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        prepared: bool = False,
    ) -> Read:
        """A caller's source."""
        if "encoder" not in self._model.graphs:
            prompt = self.inputs.prompt(x, inputs=inputs, features=features)
            return Read([], None, None, prompt, x, prepared)
        read = self.inputs.encoder(x, inputs=inputs, features=features, prepared=prepared)
        ordered = [core_input(read[name]) for name in self._order]
        main = self.inputs.main
        if main is None:
            return Read(ordered, None, None, None, x, prepared)
        ids: Any = read[main]
        known = ids if isinstance(ids, list) else None
        return Read(ordered, len(ids), known, None, inputs if x is None else x, prepared)

    def result(self, found: _core.Found, read: Read, options: DecodeOptions) -> Result:
        """What the core found for a source, as the options want it."""
        result = Result.found(found, self.inputs, read.ids or [])
        if not _asks_for_more(options):
            return result
        forced = self._logits()
        assert forced is not None  # the engine is in the middle of a call
        hypotheses = finished(
            result.hypotheses,
            options,
            unknown=unknown_id(options.replace_unknowns, self.inputs),
            words=lambda: self.inputs.source_words(read.given, read.ids or [], read.prepared),
            logits=lambda ids: forced(read, ids),
        )
        return Result(hypotheses, result.source)

    def empty(self, reason: str, read: Read) -> Result:
        """The partial result of a source whose decode had not begun."""
        nothing = np.zeros(0, np.float32)
        hypothesis = Hypothesis([], [], 0.0, 0.0, nothing, None, reason)  # type: ignore[arg-type]
        return Result([hypothesis], self.source_tokens(read))

    def source_tokens(self, read: Read) -> list[str]:
        """The tokens that the encoder reads."""
        return [] if read.ids is None else self.inputs.source_tokens(read.ids)


def stopped_error(
    reason: str, seconds: float, partial: Result | list[Result | Exception]
) -> DecodeTimeout | DecodeCancelled:
    """The error of a call that had to end before it was done."""
    if reason == "timeout":
        return DecodeTimeout(
            f"the decode did not end within timeout, which is {seconds:g} seconds; the error's "
            "`result` holds what there is",
            partial,
        )
    return DecodeCancelled(
        "the decode was cancelled; the error's `result` holds what there is", partial
    )


def _interruption(options: DecodeOptions) -> dict[str, Any]:
    return {
        "seconds": inf if options.timeout is None else float(options.timeout),
        "cancel": options.cancel,
    }


def _asks_for_more(options: DecodeOptions) -> bool:
    """Whether results are more than what the search has found."""
    return options.replace_unknowns is not False or options.return_logits


def _draws_anew(options: DecodeOptions) -> bool:
    """Whether every call has a random sequence of its own, so that its rules serve once."""
    return options.samples and options.seed is None


def _remember(known: dict[Any, Ready], key: Any, ready: Ready) -> None:
    if _draws_anew(ready.options):
        return
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = ready


def check_whole(name: str, value: object, high: int, low: int = 1) -> None:
    """InputError for what is no integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} is {value!r}, must be an integer")
    if not low <= value <= high:
        raise InputError(f"{name} is {value}, must be {low} to {high}")
