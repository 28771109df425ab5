"""s2s_engine: the runtime for recurrent sequence-to-sequence models. `Engine.load(model)` decodes,
`ModelBuilder` writes models; importing this imports NumPy and the core alone."""

import logging as _logging
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._core import CancelToken
from ._version import __version__
from .demo import demo_model
from .engine import Engine
from .errors import (
    DecodeCancelled,
    DecodeStopped,
    DecodeTimeout,
    EngineBusy,
    EngineClosedError,
    InputError,
    InputTooLongError,
    ModelFormatError,
    NumericalError,
    S2SError,
    UnsupportedIsaError,
)
from .info import Info
from .model import Model
from .options import DecodeOptions
from .results import Check, Hypothesis, Result, Score

if _TYPE_CHECKING:
    from .builder import ModelBuilder
    from .streams import DecoderState, Stream

_logging.getLogger("s2s_engine").addHandler(_logging.NullHandler())

__all__ = [
    "CancelToken",
    "Check",
    "DecodeCancelled",
    "DecodeOptions",
    "DecodeStopped",
    "DecodeTimeout",
    "DecoderState",
    "Engine",
    "EngineBusy",
    "EngineClosedError",
    "Hypothesis",
    "Info",
    "InputError",
    "InputTooLongError",
    "Model",
    "ModelBuilder",
    "ModelFormatError",
    "NumericalError",
    "Result",
    "S2SError",
    "Score",
    "Stream",
    "UnsupportedIsaError",
    "__version__",
    "demo_model",
]


_LATER = {"ModelBuilder": "builder", "DecoderState": "streams", "Stream": "streams"}


def __getattr__(name: str) -> object:
    """Those who decode do not pay for what only some need."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module 's2s_engine' has no attribute {name!r}")
