"""What the benchmark of the doors makes of latencies: percentiles, and a page that draws them.
Knows given numbers; measures nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="reads the source tree")

SCRIPT = """
import numpy as np
from benchmarks.door import figures, page
slow, fast = np.arange(1, 10_001) * 2000, np.arange(1, 10_001) * 1000
found = figures(fast)
assert [round(found[name]) for name in ("p50", "p99", "p99.9", "max")] == [5000, 9900, 9990, 10000]
text = page({"Python": slow, "Cython": fast}, 250.0)
assert "10,000 words at 250 a second" in text and text.count('class="line') == 2
for cell in ("10001.0 us", "20000.0 us", "9900.0 us", "10000.0 us"):
    assert f"<td>{cell}</td>" in text, cell
print(len(text))
"""


def test_percentiles_are_drawn_and_listed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert 2000 < int(done.stdout) < 20_000  # a plot, and nothing but itself
