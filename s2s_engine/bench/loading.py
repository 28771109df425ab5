"""Load time and memory of one model in a process of its own, where nothing else takes memory:
`python -m s2s_engine.bench.loading MODEL TYPE`. Knows files and the process's size; no results."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .. import Engine, Model


def measured(model: Model, compute_type: str) -> dict[str, Any]:
    """load_ms, and the resident bytes that an engine takes once it has decoded, None where the
    system does not tell; tensor_bytes: of the weights in float32."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(path), compute_type],
            stdout=subprocess.PIPE, check=True, text=True,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "tensor_bytes": sum(array.nbytes for array in model.tensors.values())}


def main(path: str, compute_type: str) -> None:
    before = _resident()
    begin = time.perf_counter()
    engine = Engine.load(path, compute_type=compute_type)
    load = time.perf_counter() - begin
    engine.decode([4, 5, 6], prepared=True, max_length=4)
    after = _resident()
    taken = None if before is None or after is None else after - before
    print(json.dumps({"load_ms": load * 1e3, "resident_bytes": taken}))


def _resident() -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if "VmRSS" in line)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
