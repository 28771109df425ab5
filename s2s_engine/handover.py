"""What an engine hands over to callers without Python: the rules of its calls, and its errors by
their codes. Knows csrc/include/s2s_engine.h; never sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _core
from .calls import Calls
from .errors import (
    DecodeCancelled,
    DecodeTimeout,
    EngineBusy,
    InputError,
    InputTooLongError,
    NumericalError,
    S2SError,
)
from .length_limits import as_limit, max_length
from .model import Model
from .options import DecodeOptions
from .source import SourceRule

# By code, from 1.
_ERRORS: tuple[type[Exception], ...] = (
    DecodeTimeout,
    DecodeCancelled,
    InputError,
    InputTooLongError,
    NumericalError,
    EngineBusy,
    MemoryError,
    ImportError,
    S2SError,
)


def error_of(code: int, message: str) -> Exception:
    """The exception that stands for what a call of the C interface gave."""
    return _ERRORS[min(code, len(_ERRORS)) - 1](message)


def capsule_of(engine: Any, options: DecodeOptions | None) -> object:
    """The capsule of a loaded engine. Raises InputError for anything else."""
    if not hasattr(engine, "_hand_over"):
        raise InputError(
            f"the engine is {engine!r:.80}, must be a loaded s2s_engine.Engine: use Engine.load"
        )
    if options is not None and not isinstance(options, DecodeOptions):
        raise InputError(f"options is {options!r:.80}, must be DecodeOptions or None")
    capsule: object = engine._hand_over(options)
    return capsule


def terms(
    model: Model, inputs: Sequence[str], calls: Calls, options: DecodeOptions | None
) -> tuple[_core.Request, tuple[int, int, int, int], float, _core.SourceRule]:
    """The request, max_length as the numbers of a LengthLimit, the timeout in seconds and the
    source rule of an engine's sessions.

    inputs: the encoder's, by name. Raises InputError for a model or an option that sessions do not
    take, NotImplementedError for options that make more of a result than the search does.
    """
    if "decoder" not in model.graphs:
        raise InputError(
            "this model has no decoder, sessions of s2s_engine.capi decode: use Engine.decode"
        )
    known = [(name, model.graphs["encoder"].inputs[name].kind) for name in inputs]
    if [kind for _, kind in known] not in ([], ["ids"]):
        raise InputError(
            f"the model's inputs are {', '.join(f'{name} ({kind})' for name, kind in known)}, "
            "sessions of s2s_engine.capi take one input of ids: use Engine.decode"
        )
    ready = calls.ready(options, {})
    chosen = ready.options
    for name in ("replace_unknowns", "return_logits"):
        if getattr(chosen, name) is not False:
            raise NotImplementedError(
                f"{name} is not built for sessions of s2s_engine.capi: use Engine.decode"
            )
    if chosen.samples and chosen.seed is None:
        raise InputError(
            "sampling without a seed draws anew in every call, sessions of s2s_engine.capi keep "
            "their options: give a seed"
        )
    if chosen.cancel is not None:
        raise InputError(
            "cancel is a CancelToken, sessions of s2s_engine.capi read a number in memory: "
            "set Options.cancel"
        )
    model.check_alignment(chosen)
    chosen.limit(1 if inputs else None)
    limit = as_limit(max_length(chosen.max_length))
    numbers = (limit.numerator, limit.denominator, limit.addend, limit.most)
    assert ready.request is not None  # there is a decoder
    return ready.request, numbers, ready.seconds, _rule(model.source)


def _rule(rule: SourceRule) -> _core.SourceRule:
    pad: Any = rule.pad
    return _core.SourceRule(
        prepend=rule.prepend,
        append=rule.append,
        truncate=rule.truncate or 0,
        pad_to=() if pad is None else pad.to,
        pad_left=pad is not None and pad.side == "left",
        pad_id=0 if pad is None else pad.id,
        reverse=rule.reverse,
    )
