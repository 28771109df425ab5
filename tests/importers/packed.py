"""A fixture of many small arrays in one small file: all numbers in one vector of each type, the
names and shapes in one text. Knows no toolkit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack(path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Writes arrays by name and JSON facts; the same content gives the same bytes."""
    parts: dict[str, list[NDArray[Any]]] = {}
    for array in arrays.values():
        parts.setdefault(array.dtype.name, []).append(array.ravel())
    listed = [[name, a.dtype.name, list(a.shape)] for name, a in arrays.items()]
    text = json.dumps({"arrays": listed, "facts": facts}, sort_keys=True)
    vectors = {dtype: np.concatenate(held) for dtype, held in sorted(parts.items())}
    np.savez_compressed(path, text=np.frombuffer(text.encode(), np.uint8), **vectors)


def unpack(path: Path) -> tuple[dict[str, NDArray[Any]], Any]:
    """Arrays by name, and the facts."""
    with np.load(path) as file:
        document = json.loads(file["text"].tobytes())
        vectors = {name: file[name] for name in file.files if name != "text"}
    arrays, at = {}, dict.fromkeys(vectors, 0)
    for name, dtype, shape in document["arrays"]:
        count = int(np.prod(shape))
        arrays[name] = vectors[dtype][at[dtype] : at[dtype] + count].reshape(shape)
        at[dtype] += count
    return arrays, document["facts"]


def part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays below `<prefix>/`, without it; float16 as the float32 that it stands for."""
    found = {n[len(prefix) + 1 :]: a for n, a in arrays.items() if n.startswith(f"{prefix}/")}
    return {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in found.items()}
