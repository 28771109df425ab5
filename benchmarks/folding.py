"""What folding contexts brings, by lengths of source and output: `python -m benchmarks.folding`.

Two engines of one model, one that folds and one that does not, take turns; times are the thread's
CPU times, so that other programs do little to them. Knows the engine alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from s2s_engine import Engine, Model, _core
from s2s_engine.bench.workloads import bahdanau_model, luong_model, random_ids

# Source positions, steps, beam, sentences of a batch.
POINTS = (
    (20, 20, 1, 1), (20, 10, 1, 1), (40, 10, 1, 1), (100, 10, 1, 1), (100, 100, 1, 1),
    (20, 20, 5, 1), (20, 20, 1, 32), (20, 10, 1, 32), (40, 10, 1, 32), (20, 20, 5, 32),
)  # fmt: skip
MODELS = {
    "w2": lambda: luong_model(hidden=256, embedding=128, layers=1, vocabulary=100, steps=20),
    "additive": lambda: bahdanau_model(
        hidden=256, embedding=128, readout=128, vocabulary=2000, steps=20
    ),
}
VOCABULARY = 100  # of the random sources


@contextmanager
def unfolded() -> Iterator[None]:
    """Engines that are loaded here fold no context and no query."""
    made = _core.Model
    _core.Model = partial(made, fold_bytes=1 << 40)  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        _core.Model = made  # type: ignore[misc]


def measured(model: Model, type_: str, point: tuple[int, int, int, int], seconds: float) -> str:
    """The quartiles of the time with folding over the time without, turn by turn."""
    source, steps, beam, batch = point
    xs = random_ids(VOCABULARY, batch, source)
    options = {"beam_size": beam, "max_length": steps}
    folding, ratios = Engine.load(model, compute_type=type_), []
    with unfolded():
        other = Engine.load(model, compute_type=type_)
    assert folding.info.folded != other.info.folded

    def turn(engine: Engine) -> int:
        begin = time.thread_time_ns()
        engine.decode_batch(xs, batch_size=batch, **options)
        return time.thread_time_ns() - begin

    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(ratios) < 5:
        ratios.append(turn(folding) / turn(other))
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number")
    options = parser.parse_args()
    print(
        f"{'model':10}{'type':10}{'source':>8}{'steps':>7}{'beam':>6}{'batch':>7}  folded/unfolded"
    )
    for name, make in MODELS.items():
        model = make()
        for type_ in ("float32", "int8"):
            for point in POINTS:
                source, steps, beam, batch = point
                ratio = measured(model, type_, point, options.seconds)
                print(f"{name:10}{type_:10}{source:8}{steps:7}{beam:6}{batch:7}  {ratio}")


if __name__ == "__main__":
    main()
