"""Every reader on mutated and cut files, by `mutate.py`, which watches what else happens. A million
for one reader: `python tests/importers/mutate.py --count 1000000 npz`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mutation_seeds import READERS

SCRIPT = Path(__file__).with_name("mutate.py")
needs_h5py = pytest.mark.parity("h5py")
NAMES = [pytest.param(name, marks=needs_h5py if READERS[name].forks else ()) for name in READERS]


def told(*options: str, folder: Path) -> dict[str, int]:
    """How many files came to what."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--keep", str(folder), *options],
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    *_, counts = done.stdout.strip().split(": ")
    return {what: int(count) for count, what in re.findall(r"(\d+) ([a-z ]+)", counts)}


@pytest.mark.parametrize("name", NAMES)
def test_mutations_are_read_or_refused(name: str, tmp_path: Path) -> None:
    count = 400 if READERS[name].unchecked else 1000 if READERS[name].forks else 2000
    counts = told("--count", str(count), "--seed", "7", name, folder=tmp_path)
    assert sum(counts.values()) == count and counts["refused"] > count // 4
    assert counts["read"] > 0  # the seeds themselves are files
    contained = counts.get("crash contained", 0) + counts.get("limit reached", 0)
    assert not contained or READERS[name].forks


@pytest.mark.parity("h5py")
@pytest.mark.parametrize("name", ["h5", "keras"])
def test_every_cut_file_is_refused(name: str, tmp_path: Path) -> None:
    counts = told("--cut", "89", name, folder=tmp_path)
    assert set(counts) == {"refused"} and counts["refused"] > 500
