"""NumPy's part of pickles: array states, scalars and types read as data. Knows NumPy's plain types
and byte orders; a type with fields or dates stays an inert placeholder."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pickle_values import (
    Builder,
    Constructor,
    Global,
    Key,
    Placeholder,
    RefusedError,
    Spend,
    shown,
)

MAX_DIMENSIONS = 32
# Numbers, and text of fixed width; nothing whose meaning needs metadata.
PLAIN = re.compile(r"[<>|=]?(?:b1|i[1248]|u[1248]|f[248]|c8|c16|\?|[SU][1-9][0-9]{0,6})")
OBJECT = re.compile(r"\|?O[48]?")
MODULES = ("numpy.core", "numpy._core")


def plain_dtype(code: str) -> np.dtype[Any] | None:
    """The type of a code such as "<f4"; None where it is more than numbers or text."""
    return np.dtype(code) if PLAIN.fullmatch(code) else None


def checked_array(raw: bytes, dtype: np.dtype[Any], shape: Any, fortran: bool) -> NDArray[Any]:
    """A read-only array over exactly `raw`, in the byte order of this machine."""
    count = checked_count(shape)
    if count * dtype.itemsize != len(raw):
        raise RefusedError(
            f"an array of shape {shown_shape(shape)} and type {dtype} needs "
            f"{count * dtype.itemsize} bytes, has {len(raw)}"
        )
    array: NDArray[Any] = np.frombuffer(raw, dtype) if count else np.zeros(0, dtype)
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    if dtype.kind == "b" and count and array.view(np.uint8).max() > 1:
        raise RefusedError("an array of truth values holds a byte other than 0 and 1")
    if dtype.kind == "U" and count and array.view(np.uint32).max() > 0x10FFFF:
        raise RefusedError("an array of text holds no characters")
    array = array.reshape(shape, order="F" if fortran else "C")
    array.flags.writeable = False
    return array


def object_array(items: Any, shape: Any, fortran: bool) -> NDArray[Any]:
    count = checked_count(shape)
    if type(items) is not list or len(items) != count:
        raise RefusedError(f"an array of {count} objects holds {shown(items)} of another length")
    array = np.empty(count, object)
    for index, item in enumerate(items):
        # NumPy frees nested arrays by recursion.
        if isinstance(item, np.ndarray) and item.dtype == object:
            raise RefusedError("an array of objects in an array of objects")
        array[index] = item
    return array.reshape(shape, order="F" if fortran else "C")


def checked_count(shape: Any) -> int:
    """The number of elements of a shape, in exact integers."""
    if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS:
        raise RefusedError(f"a shape is {shown(shape)}: must be at most {MAX_DIMENSIONS} integers")
    if any(type(size) is not int or not 0 <= size < 1 << 48 for size in shape):
        raise RefusedError(f"a shape is {shown_shape(shape)}: must be integers from 0")
    # NumPy multiplies the sizes beside a zero too.
    if math.prod(size for size in shape if size) >= 1 << 56:
        raise RefusedError(f"a shape is {shown_shape(shape)}: too large")
    return math.prod(shape)


def shown_shape(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(shown(size) for size in shape[:MAX_DIMENSIONS]) + ")"


def _dtype(value: object) -> np.dtype[Any] | str | None:
    """The type of a pickled numpy.dtype; "object" for objects, None for what stays inert."""
    if type(value) is not Placeholder or (value.module, value.name) != ("numpy", "dtype"):
        raise RefusedError(f"the type of an array is {shown(value)}, must be a numpy.dtype")
    code = value.args[0] if value.args else None
    code = code.decode("latin-1") if type(code) is bytes else code
    if type(code) is not str:
        return None
    if OBJECT.fullmatch(code):
        return "object"
    order = ""
    if type(value.state) is tuple and len(value.state) > 1 and code[:1] not in ("<", ">"):
        mark = value.state[1]
        order = mark if type(mark) is str and mark in ("<", ">") else ""
    return plain_dtype(order + code.lstrip("|=") if order else code)


def _raw(value: object) -> bytes:
    if type(value) is str:  # Python 2's str, read as text; its bytes again
        return value.encode("utf-8", "surrogatepass")
    if type(value) not in (bytes, bytearray):
        raise RefusedError(f"the numbers of an array are {shown(value)}, must be bytes")
    return bytes(value)  # type: ignore[call-overload,no-any-return]


def _built(spend: Spend, target: Placeholder, state: Any) -> object:
    target.state = state
    kind = target.args[0] if target.args else None
    if type(kind) is not Global or str(kind) != "numpy.ndarray":
        return target
    if type(state) is tuple and len(state) == 5 and type(state[0]) is int:
        state = state[1:]
    if type(state) is not tuple or len(state) != 4 or type(state[2]) not in (bool, int):
        raise RefusedError("the state of an array must be shape, type, order and numbers")
    shape, pickled, fortran, values = state
    dtype = _dtype(pickled)
    if dtype is None:
        return target
    if isinstance(dtype, str):
        spend(len(values) if type(values) is list else 0)
        return object_array(values, shape, bool(fortran))
    spend(len(values) if isinstance(values, (bytes, bytearray, str)) else 0)
    return checked_array(_raw(values), dtype, shape, bool(fortran))


def _scalar(spend: Spend, args: tuple[Any, ...]) -> object:
    if len(args) != 2:
        raise RefusedError("a scalar has a type and a value")
    dtype = _dtype(args[0])
    if not isinstance(dtype, np.dtype):
        return Placeholder("numpy", "scalar", args)
    spend(dtype.itemsize)
    return checked_array(_raw(args[1]), dtype, (), False).item()


def _from_buffer(spend: Spend, args: tuple[Any, ...]) -> object:
    if len(args) != 4 or type(args[3]) is not str or args[3] not in ("C", "F"):
        raise RefusedError("_frombuffer takes bytes, type, shape and order")
    dtype = _dtype(args[1])
    if not isinstance(dtype, np.dtype):
        return Placeholder("numpy", "_frombuffer", args)
    raw = _raw(args[0])
    spend(len(raw))
    return checked_array(raw, dtype, args[2], args[3] == "F")


CONSTRUCTORS: dict[Key, Constructor] = {
    (f"{module}.{name}", function): constructor
    for module in MODULES
    for name, function, constructor in (
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _from_buffer),
    )
}
BUILDERS: dict[Key, Builder] = {
    (f"{module}.multiarray", "_reconstruct"): _built for module in MODULES
}
