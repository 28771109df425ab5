"""The errors of the package: one family, each also the builtin exception people already catch.
Knows no models; the C++ core raises these same classes through the bindings."""

from __future__ import annotations

from typing import Any


class S2SError(Exception):
    """The base of every error that the engine raises on purpose."""


class ModelFormatError(S2SError, ValueError):
    """A model file, graph or set of weights that breaks a rule of the format."""


class InputError(S2SError, ValueError, TypeError):
    """A source, target or option that the model cannot take."""


class InputTooLongError(InputError):
    """A source longer than `max_input_length`."""


class NumericalError(S2SError, ArithmeticError):
    """A NaN or an infinity among the logits."""


class DecodeStopped(S2SError):
    """A decode that had to end before it was done. result: what there was of it by then, a Result,
    or the list of a batch's in the order of their sources; None where nothing had begun."""

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class DecodeTimeout(DecodeStopped, TimeoutError):
    """`timeout` passed before the decode ended."""


class DecodeCancelled(DecodeStopped, RuntimeError):
    """The call's CancelToken was cancelled, or its engine closed, before the decode ended."""


class EngineClosedError(S2SError, RuntimeError):
    """A call on an engine after `close()`."""


class EngineBusy(S2SError, RuntimeError):
    """A session entered by two threads at once, or a full queue."""


class UnsupportedIsaError(S2SError, ValueError):
    """An instruction set that this machine or this build does not have."""
