"""The errors of the package: one family, each also the builtin exception people already catch.
Knows no models; the C++ core raises these same classes through the bindings."""

from __future__ import annotations


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


class DecodeTimeout(S2SError, TimeoutError):
    """A deadline passed before the decode ended."""


class EngineClosedError(S2SError, RuntimeError):
    """A call on an engine after `close()`."""


class EngineBusy(S2SError, RuntimeError):
    """A session entered by two threads at once, or a full queue."""


class UnsupportedIsaError(S2SError, ValueError):
    """An instruction set that this machine or this build does not have."""
