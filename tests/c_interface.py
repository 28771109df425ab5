"""The C interface as a program that is not of this package uses it: ctypes, and the structs of the
header written down once more. Knows the header; never the core."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint32
from pathlib import Path
from typing import Any

import s2s_engine
from s2s_engine import DecodeOptions, Engine
from s2s_engine.handover import error_of

LIBRARY = Path(s2s_engine.__file__).parent / "libs2s_engine.so"
OK, TIMEOUT, CANCELLED, INPUT, TOO_LONG, NUMERICAL, BUSY, MEMORY, VERSION, FAILED = range(10)
REASONS = ("eos", "length", "timeout", "cancelled")


class Options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("beam_size", c_int32),
        ("num_hypotheses", c_int32),
        ("max_length", c_int32),
        ("attention", c_int32),
        ("prepared", c_int32),
        ("timeout", c_double),
        ("cancel", POINTER(c_int32)),
    ]


class View(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("ids", POINTER(c_int32)),
        ("length", c_int64),
        ("token_log_probs", POINTER(c_float)),
        ("steps", c_int64),
        ("attention", POINTER(c_float)),
        ("source_length", c_int64),
        ("heads", c_int32),
        ("finish_reason", c_int32),
        ("log_prob", c_double),
        ("score", c_double),
    ]


def loaded() -> Any:
    """The library of this process: the one that the package has loaded."""
    c = ctypes.CDLL(str(LIBRARY))
    handle, p = ctypes.c_void_p, POINTER
    for name, result, arguments in (
        ("abi_version", c_uint32, []),
        ("check_version", c_int32, [c_uint32]),
        ("message", c_char_p, []),
        ("engine_retain", handle, [handle]),
        ("engine_release", None, [handle]),
        ("source_vocabulary", c_int64, [handle]),
        ("target_vocabulary", c_int64, [handle]),
        ("session_new", c_int32, [handle, p(handle)]),
        ("session_free", None, [handle]),
        ("warm_up", c_int32, [handle, c_int64, c_int32, c_int32]),
        ("options_init", c_int32, [handle, p(Options), c_size_t]),
        ("decode", c_int32, [handle, p(c_int32), c_int64, p(Options)]),
        ("decode_batch", c_int32, [handle, p(c_int32), p(c_int64), c_int32, p(Options)]),
        ("num_hypotheses", c_int32, [handle, c_int32]),
        ("hypothesis_at", c_int32, [handle, c_int32, c_int32, p(View)]),
    ):
        function = getattr(c, f"s2s_{name}")
        function.restype, function.argtypes = result, arguments
    return c


C = loaded()
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, c_char_p]


def message() -> str:
    return bytes(C.s2s_message()).decode()


def engine_of(engine: Engine, options: DecodeOptions | None = None) -> ctypes.c_void_p:
    """Counted once more than the capsule, which is gone when this returns."""
    capsule = engine._hand_over(options)
    return ctypes.c_void_p(C.s2s_engine_retain(_pointer(capsule, b"s2s_engine.engine")))


class Session:
    """One session and its results, as Python values of the same form as Engine's."""

    def __init__(self, engine: Engine, options: DecodeOptions | None = None) -> None:
        made = engine_of(engine, options)
        self.handle = ctypes.c_void_p()
        assert C.s2s_session_new(made, byref(self.handle)) == OK, message()
        C.s2s_engine_release(made)  # the session counts it

    def __del__(self) -> None:
        C.s2s_session_free(self.handle)

    def options(self, **given: Any) -> Options:
        options = Options()
        assert C.s2s_options_init(self.handle, byref(options), ctypes.sizeof(options)) == OK
        for name, value in given.items():
            setattr(options, name, value)
        return options

    def decode(self, *sources: Sequence[int], options: Options | None = None, **given: Any) -> int:
        """The code of decoding these together; one alone takes s2s_decode."""
        options = self.options(**given) if options is None else options
        ids = [id_ for source in sources for id_ in source]
        flat = (c_int32 * max(len(ids), 1))(*ids)
        if len(sources) == 1:
            code = C.s2s_decode(self.handle, flat, len(ids), byref(options))
        else:
            lengths = (c_int64 * max(len(sources), 1))(*map(len, sources))
            code = C.s2s_decode_batch(self.handle, flat, lengths, len(sources), byref(options))
        return int(code)

    def refusal(self, *sources: Sequence[int], **given: Any) -> None:
        """Raises what the code of a decode stands for."""
        if code := self.decode(*sources, **given):
            raise error_of(code, message())

    def warm_up(self, source_length: int, beam_size: int, batch_size: int) -> None:
        if code := C.s2s_warm_up(self.handle, source_length, beam_size, batch_size):
            raise error_of(code, message())

    def view(self, sentence: int = 0, index: int = 0) -> View:
        view = View(size=ctypes.sizeof(View))
        code = C.s2s_hypothesis_at(self.handle, sentence, index, byref(view))
        assert code == OK, message()
        return view

    def found(self, sentence: int = 0) -> list[tuple[Any, ...]]:
        """Every hypothesis of a sentence: see `as_found`."""
        count = C.s2s_num_hypotheses(self.handle, sentence)
        out = []
        for index in range(count):
            view = self.view(sentence, index)
            size = view.steps * view.source_length * view.heads
            out.append((
                view.ids[: view.length], view.token_log_probs[: view.steps], view.log_prob,
                view.score, REASONS[view.finish_reason],
                view.attention[:size] if view.attention else None,
            ))  # fmt: skip
        return out


def as_found(result: Any) -> list[tuple[Any, ...]]:
    """The hypotheses of a Result in the form of Session.found: floats of one bit more or less are
    different."""
    out = []
    for h in result.hypotheses:
        weights = h.attention
        if weights is not None and weights.ndim == 3:  # heads are innermost in the C interface
            weights = weights.transpose(1, 2, 0)
        out.append((
            h.ids, h.token_log_probs.tolist(), h.log_prob, h.score, h.finish_reason,
            None if weights is None else weights.reshape(-1).tolist(),
        ))  # fmt: skip
    return out
