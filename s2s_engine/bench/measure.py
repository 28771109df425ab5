"""Times of several contenders in one process: interleaved blocks, noisy ones rejected and counted,
ratios block by block. Knows callables and a clock; never what they decode."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Clock = time.perf_counter_ns
CpuClock = time.thread_time_ns  # of the calling thread
# Takes the number of a turn and decodes its sources.
Turn = Callable[[int], object]
# A block is noisy where a calibration before one of its turns is further from the run's median, or
# where a turn's thread had so much less of a processor than it should: another program had it.
DEVIATION = 0.25
TAKEN = 0.1
QUIET_BLOCKS = 5  # with fewer, a result is of all blocks, and says so
FEWEST_BLOCKS = 3
# Nanoseconds of a turn beside which the state of the caches before it is nothing.
LONG = 50_000_000


@dataclass
class Contender:
    """`times` holds nanoseconds per turn, a list per block; `shares` the part of each block in
    which the calling thread had a processor. prepare: runs before each block, outside of the
    clock (settings that all contenders of a process share). alone: all work is the calling
    thread's, so that it should have a processor all the time; else as often as in its best block.
    """

    name: str
    turn: Turn
    prepare: Callable[[], None] = lambda: None
    calls: int = 1
    long: bool = False
    alone: bool = False
    times: list[list[int]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


def calibration() -> Callable[[], int]:
    """A loop that reads 256 KB sixteen times, brought into the caches before: nothing that a
    contender leaves behind changes its time."""
    data = np.ones(1 << 16, np.float32)

    def run() -> int:
        for _ in range(4):
            data.max()
        begin = Clock()
        for _ in range(16):
            data.max()
        return Clock() - begin

    return run


def measure(
    contenders: Sequence[Contender],
    turns: int,
    *,
    blocks: int,
    block_ms: float,
    seconds: float = float("inf"),
) -> list[list[int]]:
    """Fills the contenders' times; returns the calibration's times, a list per block.

    In a block every contender decodes for about `block_ms`, in an order that rotates from block to
    block. After `seconds` no block begins, but some are always made.
    """
    calibrate, calibrations = calibration(), []
    for contender in contenders:
        _size(contender, turns, block_ms)
    until = time.monotonic() + seconds
    gc.collect()
    gc.disable()
    try:
        for block in range(blocks):
            if block >= FEWEST_BLOCKS and time.monotonic() > until:
                break
            calibrated = []
            shift = block % len(contenders)
            for contender in [*contenders[shift:], *contenders[:shift]]:
                calibrated.append(calibrate())
                times, share = _calls(contender, turns, block * 7)
                contender.times.append(times)
                contender.shares.append(share)
            calibrated.append(calibrate())
            calibrations.append(calibrated)
            gc.collect()
    finally:
        gc.enable()
    return calibrations


def _size(contender: Contender, turns: int, block_ms: float) -> None:
    """Warms up and sets the calls of a block: whole rounds of all turns where one fits, so that
    every block decodes the same sources, else as many as fit."""
    contender.calls = 1
    first, _ = _calls(contender, turns, 0)
    contender.calls = turns if first[0] < LONG else 1
    usual = float(np.median(_calls(contender, turns, 0)[0]))
    contender.long = usual >= LONG
    rounds = round(block_ms * 1e6 / (usual * turns))
    contender.calls = rounds * turns if rounds else max(1, min(turns, int(block_ms * 1e6 / usual)))


def _calls(contender: Contender, turns: int, first: int) -> tuple[list[int], float]:
    turn = contender.turn
    times: list[int] = []
    contender.prepare()
    # What the contender before has left in the caches is for nobody's account.
    for _ in range(0 if contender.long else 2):
        turn(first % turns)
    cpu = CpuClock()
    for call in range(contender.calls):
        number = (first + call) % turns
        begin = Clock()
        turn(number)
        times.append(Clock() - begin)
    return times, (CpuClock() - cpu) / max(1, sum(times))


def quiet_blocks(
    calibrations: Sequence[Sequence[int]], contenders: Sequence[Contender] = ()
) -> list[int]:
    """The blocks whose calibration never deviates by more than DEVIATION from the run's median, and
    in which no contender's thread had less than 1 - TAKEN of the processor it should have."""
    least = [(1.0 if c.alone else max(c.shares)) * (1 - TAKEN) for c in contenders]
    usual = float(np.median([time for block in calibrations for time in block]))
    return [
        number
        for number, block in enumerate(calibrations)
        if all(abs(time / usual - 1) <= DEVIATION for time in block)
        and all(c.shares[number] >= low for c, low in zip(contenders, least, strict=True))
    ]


@dataclass(frozen=True)
class Kept:
    """The blocks that results are of, and how many were rejected."""

    blocks: list[int]
    rejected: int
    quiet: bool


def kept(calibrations: Sequence[Sequence[int]], contenders: Sequence[Contender] = ()) -> Kept:
    quiet = quiet_blocks(calibrations, contenders)
    rejected = len(calibrations) - len(quiet)
    if len(quiet) >= QUIET_BLOCKS:
        return Kept(quiet, rejected, True)
    return Kept(list(range(len(calibrations))), rejected, False)


def row(contender: Contender, base: Contender, blocks: Sequence[int]) -> dict[str, Any]:
    """Quantiles of the calls of the kept blocks, and the ratio to `base` pair by pair: the median
    of the ratios of two medians of one block, with their quartiles."""
    times = np.concatenate([contender.times[block] for block in blocks]) / 1e3
    low, middle, high = ratios(contender, base, blocks)
    p50, p90, p99 = (float(np.quantile(times, q)) for q in (0.5, 0.9, 0.99))
    return {
        "name": contender.name,
        "p50_us": p50,
        "p90_us": p90,
        "p99_us": p99,
        "calls": len(times),
        "ratio": middle,
        "ratio_quartiles": [low, high],
    }


def ratios(
    contender: Contender, base: Contender, blocks: Sequence[int]
) -> tuple[float, float, float]:
    medians = [
        np.array([np.median(one.times[block]) for block in blocks]) for one in (contender, base)
    ]
    low, middle, high = np.quantile(medians[0] / medians[1], (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def histogram(contender: Contender, blocks: Sequence[int], bins: int = 40) -> dict[str, Any]:
    """Counts of times between the fastest and just above the 99th percentile, but not above twice
    the median, in microseconds; above: how many took longer."""
    times = np.concatenate([contender.times[block] for block in blocks]) / 1e3
    p50, p99 = (float(np.quantile(times, q)) for q in (0.5, 0.99))
    top = min(p99 * 1.05, p50 * 2)
    counts, edges = np.histogram(times[times <= top], bins, (float(times.min()), top))
    return {
        "from_us": float(edges[0]),
        "to_us": float(edges[-1]),
        "counts": counts.tolist(),
        "above": int((times > top).sum()),
    }
