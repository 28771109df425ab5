"""Benchmarks under pytest-benchmark, `pytest benchmarks/`; the suite is `s2s-engine bench`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if not any((ROOT / "s2s_engine").glob("_core.*.so")):
    # `python -m benchmarks.NAME` looks here first, where s2s_engine is sources: the installed
    # package goes before them.
    sys.path = [*(path for path in sys.path if Path(path).resolve() != ROOT), str(ROOT)]
