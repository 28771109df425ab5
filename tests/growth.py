"""Whether a process grows with its decodes: `python tests/growth.py 1000000` prints the bytes that
its resident memory has grown by, and fails above 1 MB. Knows /proc; never what is decoded."""

from __future__ import annotations

import sys
from pathlib import Path

import models

from s2s_engine import Engine

ALLOWED = 1_000_000
WARM = 3000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def growth(decodes: int) -> int:
    """Bytes that so many decodes leave behind, greedy and with beams, read and unread."""
    engine = Engine.load(models.lstm_luong())
    xs = [[n % 11, n % 7, n % 5][: 1 + n % 3] for n in range(1000)]

    def run(count: int) -> None:
        for n in range(count):
            result = engine.decode(xs[n % 1000], max_length=4, beam_size=1 if n % 10 else 3)
            if n % 2:
                _ = result.tokens

    run(WARM)
    before = resident()
    run(decodes)
    return resident() - before


if __name__ == "__main__":
    grown = growth(int(sys.argv[1]))
    print(grown)
    sys.exit(grown >= ALLOWED)
