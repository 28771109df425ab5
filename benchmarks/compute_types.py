"""Speed of the compute types: `python -m benchmarks.compute_types`. Products of one matrix with few
and many rows, then whole models, float32 beside the others, pair by pair in one process.

A product's time is the fastest of some rounds; GB/s are of the weights as they are kept. A model's
ratio is the median over rounds of float32's time over the type's, the rounds taking turns.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from s2s_engine import Engine, Model, _core, demo_model
from s2s_engine.bench.workloads import WORDS, workloads
from s2s_engine.format import read

TYPES = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes of a weight
SHAPES = ((256, 256), (768, 256), (1024, 512), (32000, 512))
ROWS = (1, 5, 24)


def products(isa: str) -> None:
    print(f"{'weight':<12}{'rows':>5}  {'type':<10}{'us':>10}{'GB/s':>8}{'GOP/s':>8}{'ratio':>8}")
    for outputs, depth in SHAPES:
        weight = np.random.default_rng(0).standard_normal((outputs, depth)).astype(np.float32)
        for rows in ROWS:
            rounds = [_core.time_products(weight, isa, rows) for _ in range(3)]
            best = {type_: min(one[type_] for one in rounds) for type_ in TYPES}
            for type_, size in TYPES.items():
                seconds = best[type_]
                print(
                    f"{f'{outputs}x{depth}':<12}{rows:>5}  {type_:<10}{seconds * 1e6:>10.2f}"
                    f"{weight.size * size / seconds / 1e9:>8.0f}"
                    f"{2 * weight.size * rows / seconds / 1e9:>8.0f}"
                    f"{best['float32'] / seconds:>8.2f}",
                    flush=True,
                )


def decodes(name: str, model: Model, sources: Sequence[list[str] | list[int]], rounds: int) -> None:
    """Whole decodes by `Engine.decode`, greedy and with beam 5."""
    engines = {type_: Engine.load(model, compute_type=type_) for type_ in TYPES}
    for beam in (1, 5):
        times: dict[str, list[float]] = {type_: [] for type_ in TYPES}
        order = list(TYPES)
        for _ in range(rounds):
            order = order[1:] + order[:1]
            for type_ in order:
                engine = engines[type_]
                engine.decode(sources[0], beam_size=beam)
                begin = time.perf_counter_ns()
                for source in sources:
                    _ = engine.decode(source, beam_size=beam).ids  # made when they are read
                times[type_].append((time.perf_counter_ns() - begin) / len(sources) / 1e3)
        for type_ in TYPES:
            ratios = [a / b for a, b in zip(times["float32"], times[type_], strict=True)]
            search = "greedy" if beam == 1 else f"beam {beam}"
            middle = median(times[type_])
            print(f"{name:<10}{search:<8}{type_:<10}{middle:>10.1f} us{median(ratios):>8.2f}")


def main() -> int:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isa", default=_core.default_isa())
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {options.isa}, 1 thread")
    products(options.isa)
    (w1,) = workloads(["w1"])
    decodes("w1", w1.model, w1.sources, options.rounds)
    decodes("shipped", read(demo_model()), [list(word) for word in WORDS], options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
