"""Time against one size at a time, beside what bytes and operations predict from rates measured in
the same run. Knows sizes and predictions; no peers.

`limit` takes the machine's bandwidth and multiply-add rate, where they are known, `predicted` those
that the product kernels reach, and what calls and steps of a model of next to nothing take: how
good the kernels are, and whether a decode is their sum.
A time is the fastest block's median, as the rates are the fastest of some rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import Engine, Model
from . import cost
from .limits import Limits
from .measure import Contender, Kept, kept, measure
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
class Fixed:
    """Microseconds that no number of bytes or operations changes: of a call, of each position of
    the longest source, of each step, of each hypothesis of a step and each sentence of a call
    beside the first."""

    call: float
    sentence: float
    position: float
    step: float
    hypothesis: float

    def of(self, point: Point) -> float:
        sentences = -(-point.batch // point.threads)  # each thread has its own
        return (
            self.call
            + self.sentence * (sentences - 1)
            + self.position * point.source
            + self.step * point.output
            + self.hypothesis * point.output * (sentences * point.beam - 1)
        )


def fixed() -> Fixed:
    """Measured with layers of 8 units and 32 words, each from the difference of two points."""
    few, many = 5, 45
    base = Point(source=few, output=few, hidden=8, vocabulary=32)
    points = {
        "base": base,
        "positions": replace(base, source=many),
        "steps": replace(base, output=many),
        "hypotheses": replace(base, output=many, beam=20),
        "sentences": replace(base, output=many, batch=20),
    }
    us, _ = _timed(points)
    step = (us["steps"] - us["base"]) / (many - few)
    position = (us["positions"] - us["base"]) / (many - few)
    hypothesis = (us["hypotheses"] - us["steps"]) / (many * 19)
    sentence = (us["sentences"] - us["steps"]) / 19 - many * hypothesis
    call = us["base"] - few * (step + position)
    return Fixed(*(max(one, 0.0) for one in (call, sentence, position, step, hypothesis)))


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


def swept(sweep: Sweep, limits: Limits, threads: int, fixed: Fixed) -> dict[str, Any]:
    """All points of a sweep, measured in turns; threads: no point with more of them."""
    points = {n: sweep.point(n) for n in sweep.values if sweep.point(n).threads <= threads}
    engines = {n: Engine.load(point.model(), threads=point.threads) for n, point in points.items()}
    expected = {n: _expected(point, engines[n], limits, fixed) for n, point in points.items()}
    us, blocks = _timed(points, engines)
    found = [compared(n, us[n], *expected[n]) for n in points]
    return {
        "name": sweep.name,
        "unit": sweep.unit,
        "points": found,
        "quiet": blocks.quiet,
        "blocks_rejected": blocks.rejected,
    }


def _expected(
    point: Point, engine: Engine, limits: Limits, fixed: Fixed
) -> tuple[float | None, float | None]:
    """What is predicted, and the machine's limit."""
    predicted = predict(point, engine, limits.reached(point.threads))
    limit = predict(point, engine, limits.machines.get(point.threads))
    return None if predicted is None else predicted + fixed.of(point), limit


def _timed(
    points: Mapping[Any, Point], engines: Mapping[Any, Engine] | None = None
) -> tuple[dict[Any, float], Kept]:
    """Microseconds of each point, the median of its fastest block."""
    if engines is None:
        engines = {key: Engine.load(p.model(), threads=p.threads) for key, p in points.items()}
    made = {
        key: Contender(str(key), _turn(engines[key], point), alone=point.threads == 1)
        for key, point in points.items()
    }
    try:
        field = [*made.values()]
        calibrations = measure(field, 1, blocks=BLOCKS, block_ms=BLOCK_MS, seconds=SECONDS)
    finally:
        for engine in engines.values():
            engine.close()
    blocks = kept(calibrations, field)

    def best(contender: Contender) -> float:
        return min(float(np.median(contender.times[block])) for block in blocks.blocks) / 1e3

    return {key: best(contender) for key, contender in made.items()}, blocks


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
    """Microseconds: the roofline of every stage, nothing added; None where rates are unknown."""
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
