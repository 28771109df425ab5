"""What int8 and bfloat16 cost on real models and words stays within the documented bounds. Results
are the same bits everywhere, so these are facts and no samples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = os.environ.get("S2S_SHARED_DATA")
pytestmark = [
    pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="reads the source tree"),
    pytest.mark.skipif(not SHARED, reason="S2S_SHARED_DATA names no folder"),
]


def test_narrow_weights_keep_the_words() -> None:
    shared = Path(SHARED or "")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.quality", str(shared / "cmudict" / "cmudict.dict"),
         "--words", "10000", "--g2p-en", str(shared / "g2p_en" / "checkpoint20.npz"),
         "--opennmt-g2p", str(shared / "opennmt_g2p")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1 + 3 * 2 * 3
