"""Time against one size at a time, beside what bytes and operations predict from rates measured in
the same run. Knows sizes and predictions; no peers.

`limit` takes the machine's bandwidth and multiply-add rate, where they are known, `predicted` those
that the product kernels reach: how good the kernels are, and whether a decode is their sum.
A time is the fastest block's median, as the rates are the fastest of some rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import Engine, Model
from . import cost
from .limits import Limits
from .measure import Contender, kept, measure
from .workloads import luong_model, random_ids

AGREEMENT = 0.25  # of the prediction; a point further away is marked
BLOCKS, BLOCK_MS, SECONDS = 12, 10.0, 8.0


@dataclass(frozen=True)
class Point:
    """A model of one LSTM layer with attention, and how it decodes."""

    source: int = 20
    output: int = 20
    beam: int = 1
    batch: int = 1
    hidden: int = 256
    vocabulary: int = 1000
    threads: int = 1

    def model(self) -> Model:
        sizes = {"hidden": self.hidden, "embedding": self.hidden, "layers": 1}
        return luong_model(**sizes, vocabulary=self.vocabulary, steps=self.output)


@dataclass(frozen=True)
class Sweep:
    name: str
    unit: str
    values: Sequence[int]
    point: Callable[[int], Point]


SWEEPS = (
    Sweep("source length", "positions", (5, 10, 20, 40, 80), lambda n: Point(source=n)),
    Sweep("output length", "tokens", (5, 10, 20, 40, 80), lambda n: Point(output=n)),
    Sweep("beam", "hypotheses", (1, 2, 5, 10, 20), lambda n: Point(beam=n)),
    Sweep("batch", "sentences", (1, 4, 16, 64), lambda n: Point(batch=n)),
    Sweep("hidden size", "units", (64, 128, 256, 512, 1024), lambda n: Point(hidden=n)),
    Sweep("vocabulary", "tokens", (100, 1000, 8000, 32000), lambda n: Point(vocabulary=n)),
    Sweep("threads", "threads, batch 64", (1, 2, 4, 8), lambda n: Point(batch=64, threads=n)),
)


def swept(sweep: Sweep, limits: Limits, threads: int) -> dict[str, Any]:
    """All points of a sweep, measured in turns; threads: no point with more of them."""
    points = [(n, sweep.point(n)) for n in sweep.values if sweep.point(n).threads <= threads]
    engines = [Engine.load(point.model(), threads=point.threads) for _, point in points]
    try:
        made = [
            Contender(str(n), _turn(engine, point), alone=point.threads == 1)
            for (n, point), engine in zip(points, engines, strict=True)
        ]
        calibrations = measure(made, 1, blocks=BLOCKS, block_ms=BLOCK_MS, seconds=SECONDS)
        blocks = kept(calibrations, made)
        found = []
        for (n, point), engine, contender in zip(points, engines, made, strict=True):
            best = min(float(np.median(contender.times[block])) for block in blocks.blocks) / 1e3
            machines = limits.reached(point.threads), limits.machines.get(point.threads)
            found.append(compared(n, best, *(predict(point, engine, m) for m in machines)))
    finally:
        for engine in engines:
            engine.close()
    return {
        "name": sweep.name,
        "unit": sweep.unit,
        "points": found,
        "quiet": blocks.quiet,
        "blocks_rejected": blocks.rejected,
    }


def compared(
    value: int, microseconds: float, predicted: float | None, limit: float | None
) -> dict[str, Any]:
    """deviation: of the time from the prediction, as a share of the prediction."""
    deviation = None if predicted is None else microseconds / predicted - 1
    return {
        "value": value,
        "us": microseconds,
        "predicted_us": predicted,
        "limit_us": limit,
        "deviation": deviation,
        "within": None if deviation is None else abs(deviation) <= AGREEMENT,
    }


def predict(point: Point, engine: Engine, machine: cost.Machine | None) -> float | None:
    """Microseconds: the roofline of every stage, nothing added."""
    if machine is None:
        return None
    stages = cost.stages(
        engine._model,
        positions=point.source,
        steps=point.output,
        beam=point.beam,
        batch=point.batch,
        types=engine.info.compute_types,
        screened=engine.info.screened,
    )
    seconds = cost.limit(stages, machine)
    return None if seconds is None else seconds * 1e6


def _turn(engine: Engine, point: Point) -> Callable[[int], object]:
    sources = random_ids(point.vocabulary, point.batch, point.source)
    if point.batch == 1:  # ids are made when they are read
        return lambda number: engine.decode(sources[0], beam_size=point.beam).ids
    size = -(-point.batch // point.threads)

    def turn(number: int) -> object:
        found = engine.decode_batch(sources, batch_size=size, beam_size=point.beam)
        return [result.ids for result in found]

    return turn
