"""One decode on one thread and on several: `python -m benchmarks.threads`. Checks first that the
bits are equal. Knows the engine alone; calls take turns, because other programs take CPUs away."""

import argparse
import contextlib
import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from s2s_engine import Engine, Model, Result, _core
from s2s_engine.bench.workloads import workloads

MODELS = ("w1", "shipped", "w2", "w3")


def sources(name: str) -> tuple[Model, Sequence[object]]:
    """The model of a workload of the suite, and its first sources."""
    workload = workloads([name])[0]
    return workload.model, workload.inputs[:4]


def bits(results: Sequence[Result]) -> list[tuple[object, ...]]:
    return [(h.ids, h.log_prob, h.token_log_probs.tobytes()) for r in results for h in r.hypotheses]


def pin(cpus: Sequence[int]) -> None:
    """Binds the caller to the first CPU and every other thread to the others (Linux)."""
    _core.assume_cpus(len(cpus))  # what the caller may use is one of them, now
    for path in Path("/proc/self/task").iterdir():
        mine = int(path.name) == os.getpid()
        with contextlib.suppress(ProcessLookupError):  # a thread that has just ended
            os.sched_setaffinity(int(path.name), cpus[:1] if mine else cpus[1:])


def measure(
    engine: Engine, counts: Sequence[int], xs: Sequence[object], beam: int, seconds: float
) -> None:
    """Prints the median, the lowest quarter and the best time of a sentence, by threads. One
    engine's one session does all, so that weights and states lie at the same addresses."""
    times: dict[int, list[float]] = {count: [] for count in counts}
    expected = None
    for count in counts:
        engine._threads = count
        found = bits([engine.decode(x, beam_size=beam) for x in xs])
        expected = found if expected is None else expected
        assert found == expected
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[1]) < 5:
        for count in counts:
            engine._threads = count
            begin = time.perf_counter()
            for x in xs:
                _ = engine.decode(x, beam_size=beam).ids  # made when they are read
            times[count].append((time.perf_counter() - begin) / len(xs) * 1e3)
    single = statistics.median(times[1])
    for count, taken in times.items():
        median = statistics.median(taken)
        quarter = statistics.quantiles(taken, n=4)[0]
        print(f"{count:8} {median:10.4f} {quarter:10.4f} {min(taken):10.4f} {single / median:8.2f}"
              f" {min(times[1]) / min(taken):8.2f}   ({len(taken)} rounds)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--types", nargs="+", default=["float32", "int8"])
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    parser.add_argument("--pin", action="store_true", help="the caller to a CPU of its own (Linux)")
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0)) if options.pin else []
    print(f"{platform.machine()}, {_core.usable_cpus()} CPUs for this process, ISA"
          f" {_core.default_isa()}, load {os.getloadavg()[0]:.1f}, batch 1")  # fmt: skip
    for name in options.models:
        model, xs = sources(name)
        for kind in options.types:
            engine = Engine.load(model, compute_type=kind, threads=max(options.threads))
            if options.pin:
                for x in xs:  # so that all threads are there
                    engine.decode_batch([x] * 8 * max(options.threads), batch_size=1)
                pin(cpus)
            for beam in options.beams:
                print(f"\n{name} {kind} beam {beam}, ms a sentence\n{'threads':>8} {'median':>10}"
                      f" {'quarter':>10} {'best':>10} {'median x':>8} {'best x':>8}")  # fmt: skip
                measure(engine, sorted({1, *options.threads}), xs, beam, options.seconds)


if __name__ == "__main__":
    main()
