"""Files of named arrays: npy, npz, plain pickles and safetensors, each to a dictionary of arrays.
Knows the containers' headers; never which array is which weight."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFormatError
from .archives import Archive, Source, load, stem_of
from .numpy_pickles import (
    BUILDERS,
    CONSTRUCTORS,
    OBJECT,
    checked_array,
    checked_count,
    object_array,
    plain_dtype,
)
from .pickle_values import Placeholder, RefusedError, shown
from .pickles import read_pickle as read_objects

MAGIC = b"\x93NUMPY"
MAX_HEADER = 1 << 16
MAX_SAFETENSORS_HEADER = 64 << 20
MAX_VISITS = 1_000_000
# The dictionary that numpy.save writes; other writers space it differently.
ENTRY = r"'(?:descr|fortran_order|shape)'\s*:\s*(?:'[^']*'|True|False|\([0-9,\sL]*\))"
HEADER = re.compile(rf"\{{\s*{ENTRY}\s*,\s*{ENTRY}\s*,\s*{ENTRY}\s*+,?+\s*+\}}\s*")
PART = re.compile(r"'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([0-9,\sL]*\))")
SHAPE = re.compile(r"\((?:[0-9]{1,19}L?,)*(?:[0-9]{1,19}L?)?\)")
SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
    "BOOL": "|b1",
}  # fmt: skip

Arrays = dict[str, NDArray[Any]]


def read_npy(source: Source) -> Arrays:
    """The array of an npy file, under the file's name without its ending."""
    data, where = load(source)
    return {stem_of(source): _npy(data, where)}


def read_npz(source: Source) -> Arrays:
    """The arrays of an npz file, stored or deflated."""
    data, where = load(source)
    archive = Archive(data, where)
    result = {}
    for name in archive.names():
        if not name.endswith(".npy"):
            archive.refuse(name, "must end in '.npy': not an npz file")
        result[name.removesuffix(".npy")] = _npy(archive.read(name), f"{where}: member {name!r}")
    return result


def read_pickle(source: Source) -> Arrays:
    """The arrays of a pickle (protocols 0 to 5) of dictionaries and lists, as `flatten` names
    them."""
    return flatten(load_pickle(source), where=load_name(source))


def load_pickle(source: Source) -> Any:
    """What a plain pickle holds: arrays, containers, scalars, and `Placeholder`s for the rest."""
    data, where = load(source)
    return _objects(data, where)


def load_name(source: Source) -> str:
    return "bytes" if isinstance(source, bytes) else str(source)


def _objects(data: bytes, where: str) -> Any:
    value, stop = read_objects(data, where=where, constructors=CONSTRUCTORS, builders=BUILDERS)
    if stop != len(data):
        raise ModelFormatError(f"{where}: {len(data) - stop} bytes stand behind the pickle")
    return value


def flatten(
    value: Any,
    *,
    where: str,
    members: Callable[[Placeholder, str], Iterable[tuple[Any, Any]]] | None = None,
) -> Arrays:
    """Arrays by dotted names: keys of dictionaries, indices of lists; what is no array is left out.

    members: what a placeholder holds, as pairs; without it placeholders are left out.
    """
    result: Arrays = {}
    todo: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_VISITS):
        if not todo:
            return result
        name, item = todo.pop()
        if isinstance(item, np.ndarray):
            if name in result and result[name] is not item:
                raise ModelFormatError(f"{where}: two arrays are named {name[:200]!r}")
            result[name] = item
            continue
        children: Iterable[tuple[Any, Any]]
        if type(item) is dict:
            children = item.items()
        elif type(item) is Placeholder:
            children = members(item, name) if members else ()
        elif type(item) in (list, tuple):
            children = enumerate(item)
        else:
            raise ModelFormatError(f"{where}: is {shown(item)}, must be a dictionary of arrays")
        held = [
            (_joined(name, key, where), child)
            for key, child in children
            if type(child) in (dict, list, tuple, Placeholder) or isinstance(child, np.ndarray)
        ]
        todo.extend(reversed(held))
        if len(todo) > MAX_VISITS:
            break
    raise ModelFormatError(
        f"{where}: more than {MAX_VISITS} containers to look through, at {name[:200]!r}: "
        "the file holds itself"
    )


def _joined(prefix: str, key: object, where: str) -> str:
    name = key if type(key) is str else shown(key)
    joined = f"{prefix}.{name}" if prefix else name
    if len(joined) > 2000:
        raise ModelFormatError(f"{where}: {joined[:200]!r}... is too long for a name")
    return joined


# --- npy ---


def _npy(data: bytes, where: str) -> NDArray[Any]:
    try:
        return _npy_array(data, where)
    except RefusedError as error:
        raise ModelFormatError(f"{where}: {error}") from None


def _npy_array(data: bytes, where: str) -> NDArray[Any]:
    if data[:6] != MAGIC or len(data) < 10:
        raise RefusedError(f"begins with {data[:6]!r}, must be {MAGIC!r}: not an npy file")
    version = (data[6], data[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise RefusedError(f"npy version is {version[0]}.{version[1]}, must be 1.0, 2.0 or 3.0")
    at = 10 if version == (1, 0) else 12
    size = int.from_bytes(data[8:at], "little")
    if size > MAX_HEADER or at + size > len(data):
        raise RefusedError(f"the npy header has {size} bytes of {len(data)}: truncated")
    descr, fortran, shape = _npy_header(data[at : at + size])
    body = data[at + size :]
    if OBJECT.fullmatch(descr):
        value = _objects(body, where)
        if isinstance(value, np.ndarray) and value.shape == shape and value.dtype == object:
            return value
        if type(value) is list:  # written by very old NumPy
            return object_array(value, shape, fortran)
        raise RefusedError("the header says objects, the pickle holds something else")
    dtype = plain_dtype(descr)
    if dtype is None:
        raise RefusedError(f"descr is {descr[:60]!r}, must be numbers or text of fixed width")
    return checked_array(body, dtype, shape, fortran)


def _npy_header(header: bytes) -> tuple[str, bool, tuple[int, ...]]:
    text = header.decode("latin-1")
    parts = dict(PART.findall(text)) if HEADER.fullmatch(text) else {}
    descr, order, shape = (parts.get(key, "") for key in ("descr", "fortran_order", "shape"))
    shape = "".join(shape.split())
    if descr[:1] != "'" or order not in ("True", "False") or not SHAPE.fullmatch(shape):
        raise RefusedError(
            f"the npy header is {header[:80]!r}, must hold descr (a plain type), fortran_order "
            "and shape"
        )
    sizes = tuple(int(size) for size in re.findall("[0-9]+", shape))
    checked_count(sizes)
    return descr[1:-1], order == "True", sizes


# --- safetensors ---


def read_safetensors(source: Source) -> Arrays:
    """The arrays of a safetensors file; BF16 comes out as float32, exactly."""
    data, where = load(source)
    try:
        return _safetensors(data)
    except RefusedError as error:
        raise ModelFormatError(f"{where}: {error}") from None
    except RecursionError:
        raise ModelFormatError(f"{where}: the header's JSON is nested too deeply") from None


def _safetensors(data: bytes) -> Arrays:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, MAX_SAFETENSORS_HEADER):
        raise RefusedError(f"the header's length is given as {size}, the file has {len(data)}")
    entries = _header_json(data[8 : 8 + size])
    body = memoryview(data)[8 + size :]
    result, spans = {}, [(0, 0)]
    for name, entry in entries.items():
        if name != "__metadata__":
            result[name], span = _safetensor(name, entry, body)
            spans.append(span)
    spans.sort()
    for (_, stop), (start, _) in pairwise([*spans, (len(body), len(body))]):
        if start != stop:
            raise RefusedError(
                f"bytes {stop} to {start} of the data belong to no tensor, or to two"
            )
    return result


def _safetensor(name: str, entry: Any, body: memoryview) -> tuple[NDArray[Any], tuple[int, int]]:
    if type(entry) is not dict or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise RefusedError(f"tensor {name[:200]!r} must have exactly dtype, shape, data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in SAFETENSORS:
        raise RefusedError(
            f"tensor {name[:200]!r}: dtype is {shown(dtype)}, must be one of "
            f"{', '.join(SAFETENSORS)}"
        )
    if type(offsets) is not list or [type(offset) for offset in offsets] != [int, int]:
        raise RefusedError(f"tensor {name[:200]!r}: data_offsets must be two integers")
    start, stop = offsets
    if not 0 <= start <= stop <= len(body):
        raise RefusedError(
            f"tensor {name[:200]!r} is at {start} to {stop} of {len(body)} bytes: truncated"
        )
    shape = tuple(shape) if type(shape) is list else shape
    try:
        array = checked_array(bytes(body[start:stop]), np.dtype(SAFETENSORS[dtype]), shape, False)
    except RefusedError as error:
        raise RefusedError(f"tensor {name[:200]!r}: {error}") from None
    return (widened(array) if dtype == "BF16" else array), (start, stop)


def widened(bits: NDArray[Any]) -> NDArray[np.float32]:
    """bfloat16, given as its 16 bits, as float32: the same numbers."""
    wide: NDArray[np.float32] = (bits.astype(np.uint32) << 16).view(np.float32)
    wide.flags.writeable = False
    return wide


def _header_json(header: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            header.decode(), object_pairs_hook=_unique, parse_int=_short, parse_constant=_short
        )
    except RefusedError:
        raise
    except ValueError as error:
        raise RefusedError(f"the header is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, Mapping):
        raise RefusedError("the header is no JSON object: not a safetensors file")
    return dict(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RefusedError("a key stands twice in the header")
    return result


def _short(digits: str) -> int:
    if len(digits) > 20 or not digits.lstrip("-").isdigit():
        raise RefusedError(f"the header holds the number {digits[:40]}")
    return int(digits)
