"""The process that reads one HDF5 file from its standard input: limits first, then the library,
then an answer that is only sizes, JSON and safetensors. Knows no path of any file, and imports
nothing of this package but its readers' parts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .hdf5_layers import kept
from .hdf5_objects import BITS, BROKEN, Array, Objects
from .pickle_values import RefusedError

READY = b"s2s_engine reads HDF5\n"
# Of our own types only; bfloat16 comes as its bits and keeps its name.
CODES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8",
    "u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL",
}  # fmt: skip


def main(memory: int, seconds: int) -> None:
    """Answers on descriptor 1 what the file on descriptor 0 holds; the numbers are `serve`'s."""
    import h5py  # type: ignore[import-untyped,unused-ignore]

    rehearse(h5py)
    serve(h5py, memory, seconds)


def serve(h5py: Any, memory: int, seconds: int) -> None:
    """One file.

    memory: how many bytes more than now the process may have. seconds: of processor time.
    """
    limit(memory, seconds)
    with open(1, "wb", closefd=False) as out:
        out.write(READY)
        out.flush()
        with open(0, "rb", closefd=False) as file:
            data = file.read()
        for part in answer(h5py, data):
            out.write(part)


def rehearse(h5py: Any) -> None:
    """Reads a file made here, with all that files have: what Python imports late is there when
    nothing can be opened any more."""
    with h5py.File("-", "w", driver="core", backing_store=False) as file:
        file.attrs["text"], file.attrs["layer_names"] = "\u03b1", [np.bytes_("a")]
        file.create_group("a").attrs["weight_names"] = [np.bytes_("w"), np.bytes_("x")]
        file["a/w"] = np.zeros(2, np.bool_)
        file.create_dataset("a/x", data=np.zeros(2, ">f4"), chunks=(1,), compression=1, shuffle=1)
        file.flush()
        image = file.id.get_file_image()
    document = answer(h5py, image)[1]
    if b'"names"' not in document:
        raise RuntimeError(f"h5py {h5py.__version__} does not read what it wrote: {document!r}")


def limit(memory: int, seconds: int) -> None:
    """What the system enforces from here on: no file is opened, none grows, no process starts.

    The address space is limited to what it is now and `memory` more: under the address sanitizer
    it is terabytes from the start, and only growth means something.
    """
    try:
        import resource
    except ImportError:  # Windows: the parent's clock remains
        return
    used = address_space()
    limits = {
        "RLIMIT_NOFILE": 0, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_NPROC": 0,
        "RLIMIT_CPU": seconds, "RLIMIT_AS": used + memory if used else None,
    }  # fmt: skip
    for name, most in limits.items():
        kind = getattr(resource, name, None)
        if kind is None or most is None:
            continue
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY or most < hard:
            # A second more before SIGKILL, so that the signal tells which limit it was.
            resource.setrlimit(kind, (most, most + (name == "RLIMIT_CPU")))


def address_space() -> int:
    """Bytes of addresses this process has, 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def answer(h5py: Any, data: bytes) -> list[bytes | memoryview]:
    """Two sizes, a JSON document, and behind it the arrays as a safetensors file."""
    objects = Objects(h5py, data)
    arrays: list[Array] = []
    try:
        document, arrays = read(objects)
    except MemoryError:
        document = refusal(objects, "needs more memory than a file of its size may")
    except (RefusedError, *BROKEN) as error:
        document = refusal(objects, " ".join(str(error).split())[:500])
    header, at = {}, 0
    for index, array in enumerate(arrays):
        code = "BF16" if array.dtype == BITS else CODES[array.dtype.str[1:]]
        span = (at, at := at + array.nbytes)
        header[str(index)] = {"dtype": code, "shape": array.shape, "data_offsets": span}
    head, text = json.dumps(header).encode(), json.dumps(document).encode()
    sizes = len(text).to_bytes(8, "little") + (8 + len(head) + at).to_bytes(8, "little")
    parts = [array.reshape(-1).view(np.uint8).data for array in arrays if array.nbytes]
    return [sizes, text, len(head).to_bytes(8, "little"), head, *parts]


def read(objects: Objects) -> tuple[dict[str, Any], list[Array]]:
    with objects.open() as file:
        objects.walk(file)
        weights = kept(objects)
        arrays = [objects.array(path) for path in weights.paths.values()]
    document = {
        "names": list(weights.paths), "layers": weights.layers, "kind": weights.kind,
        "attributes": objects.attributes,
    }  # fmt: skip
    return document, arrays


def refusal(objects: Objects, reason: str) -> dict[str, Any]:
    return {"member": objects.member[:200], "reason": reason}
