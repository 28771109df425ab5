"""Load time and memory of one model in processes of their own, where nothing else takes memory:
`python -m s2s_engine.bench.loading MODEL TYPE`. Knows files and the process's size; no results."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from .. import Engine, Model
from ..format import read_header

PROCESSES = 5
ITEM_SIZE = {"float32": 4, "bfloat16": 2, "int8": 1}


def measured(model: Model, compute_type: str) -> dict[str, Any]:
    """Medians of some processes: load_ms, and the resident bytes that an engine takes once it has
    decoded, None where the system does not tell. weight_bytes: of the weights in the types that
    they are computed in."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        command = [sys.executable, "-m", __name__, str(path), compute_type]
        found = [
            json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            for _ in range(PROCESSES)
        ]
    taken = [one["resident_bytes"] for one in found]
    return {
        **found[0],
        "load_ms": median(one["load_ms"] for one in found),
        "resident_bytes": None if None in taken else median(taken),
    }


def weight_bytes(shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, str]) -> int:
    """What tensors of these shapes take in these types, without scales, padding and tables."""
    return sum(math.prod(shape) * ITEM_SIZE[types[name]] for name, shape in shapes.items())


def main(path: str, compute_type: str) -> None:
    before = _resident()
    begin = time.perf_counter()
    engine = Engine.load(path, compute_type=compute_type)
    load = time.perf_counter() - begin
    engine.decode([4, 5, 6], prepared=True, max_length=4)
    after = _resident()
    taken = None if before is None or after is None else after - before
    shapes = {tensor.name: tensor.shape for tensor in read_header(path).tensors}
    weights = weight_bytes(shapes, engine.info.compute_types)
    found = {"load_ms": load * 1e3, "resident_bytes": taken, "weight_bytes": weights}
    print(json.dumps(found))


def _resident() -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if "VmRSS" in line)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
