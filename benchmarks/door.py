"""What the doors cost: `python -m benchmarks.door` prints the time of a call over the core's own
work through Cython and through Python; `--jitter` decodes words at a steady rate beside a busy
core, and prints and draws the distribution of their latencies.

Calls that are compared take turns, and differences are taken within a turn. Answers are checked
before anything is timed. Knows clocks; how a call works is the package's.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s_engine import DecodeOptions, Engine, _core, demo_model
from s2s_engine.bench import svg
from s2s_engine.bench.page import STYLE
from s2s_engine.bench.workloads import WORDS, gru_model

PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
GOAL_NS = 100.0  # of a call with 20 ids through Cython, over the work
BEST = 5  # of so many blocks the fastest counts
BURN = "while True: sum(range(10_000))"


def built() -> Any:
    """The compiled module benchmarks/cython/paced.pyx, from a temporary folder."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    folder = tempfile.mkdtemp()
    source = str(Path(__file__).parent / "cython" / "paced.pyx")
    extension = Extension("paced", [source], extra_compile_args=["-O2"])
    (made,) = cythonize([extension], build_dir=folder, quiet=True)
    command: Any = Distribution({"ext_modules": [made]}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = folder
    command.ensure_finalized()
    command.run()
    sys.path.insert(0, folder)
    import paced  # type: ignore[import-not-found]

    return paced


def overhead(paced: Any, rounds: int, count: int = 500) -> dict[str, float]:
    """Nanoseconds of a call over the core's work for 20 ids in and 8 out."""
    engine = Engine.load(gru_model(30, 74, hidden=16))
    x = [n % 30 for n in range(20)]
    array = np.array(x, np.int32)
    options = DecodeOptions(max_length=8)
    ready = engine._calls.ready(options, {})
    assert ready.request is not None

    def python() -> float:
        start = time.perf_counter()
        for _ in range(count):
            engine.decode(x, options=options)
        return (time.perf_counter() - start) / count

    over: dict[str, list[float]] = {"Cython": [], "Python": []}
    kept: list[object] = []
    for _ in range(rounds):
        # New ones every round: where a session's memory lies is worth more than what is looked for.
        door, session = paced.Door(engine, options, len(x)), engine._new_session()
        assert door.ids(array) == engine.decode(x, options=options).ids
        kept += [door, session, engine._session()]
        calls: dict[str, Callable[[], float]] = {
            "Cython": partial(door.seconds_of_a_call, array, count),
            "Python": python,
        }
        for name, call in calls.items():
            core = min(session.time_decode([x], ready.request, 8, count) for _ in range(BEST))
            over[name].append((min(call() for _ in range(BEST)) - core) * 1e9)
    return {name: statistics.median(times) for name, times in over.items()}


def python_latencies(
    engine: Engine, words: list[list[int]], period: int, spent: NDArray[np.int64]
) -> None:
    """What Door.latencies does, with Engine.decode."""
    now = time.monotonic_ns
    due = now() + period
    for n in range(len(spent)):
        word = words[n % len(words)]
        while now() < due:
            pass
        engine.decode(word).ids  # noqa: B018  # the result is read
        spent[n] = now() - due
        due += period


def jitter(paced: Any, count: int, rate: float) -> dict[str, NDArray[np.int64]]:
    """Nanoseconds from a word's moment to its phonemes, by door; words come `rate` a second."""
    engine = Engine.load(demo_model())
    known = engine._calls.inputs
    words = [known.source(list(word), prepared=True) for word in WORDS]
    begins = np.cumsum([0, *map(len, words)])
    ids = np.concatenate([np.array(word, np.int32) for word in words])
    door = paced.Door(engine, None, max(map(len, words)))
    engine.warm_up(max(map(len, words)))
    for word in words:
        assert door.ids(np.array(word, np.int32)) == engine.decode(word).ids
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) > 1:
        os.sched_setaffinity(0, cpus[:1])
    busy = [
        subprocess.Popen([sys.executable, "-c", BURN], preexec_fn=lambda c=cpu: _stay(c))
        for cpu in cpus[1:2]
    ]
    period = int(1e9 / rate)
    found = {"Python": np.zeros(count, np.int64), "Cython": np.zeros(count, np.int64)}
    try:
        python_latencies(engine, words, period, found["Python"])
        door.latencies(ids, begins, period, found["Cython"])
    finally:
        for process in busy:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, cpus)
    return found


def _stay(cpu: int) -> None:
    os.sched_setaffinity(0, [cpu])


def figures(spent: NDArray[np.int64]) -> dict[str, float]:
    """Microseconds at each percentile."""
    return {name: float(np.percentile(spent, p)) / 1e3 for name, p in PERCENTILES.items()}


def page(found: dict[str, NDArray[np.int64]], rate: float) -> str:
    """The distributions as one HTML page: the worst of so many words, by door."""
    series = []
    for (name, spent), kind in zip(found.items(), ("predicted", "measured"), strict=True):
        many = [m * 10**power for power in range(1, 10) for m in (1, 2, 5)]
        parts = [2, *[n for n in many if n <= len(spent)]]
        points = [(float(n), float(np.percentile(spent, 100 - 100 / n)) / 1e3) for n in parts]
        series.append(svg.Series(name, points, kind))
    plot = svg.lines("Latency of a word", series, x="one word in so many takes longer", y="us")
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{value:.1f} us</td>" for value in figures(spent).values())
        + "</tr>"
        for name, spent in found.items()
    )
    head = "".join(f"<th>{name}</th>" for name in ("", *PERCENTILES))
    count = len(next(iter(found.values())))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Latencies of s2s_engine</title><style>{STYLE}</style></head><body>"
        f"<h1>{count:,} words at {rate:,.0f} a second, beside a busy core</h1>"
        f"<p>The shipped model, greedy, {escape(_core.default_isa())}, one thread, "
        f"{escape(platform.machine())}. A latency begins when a word is due, whether the word "
        "before is done or not.</p>"
        f"<figure>{plot}</figure><table><tr>{head}</tr>{rows}</table></body></html>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--check", action="store_true", help="fail above the goal for Cython")
    parser.add_argument("--jitter", action="store_true")
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=1000.0, help="words a second")
    parser.add_argument("-o", "--output", type=Path, help="a page with the distribution drawn")
    arguments = parser.parse_args()
    paced = built()
    print(f"instruction set {_core.default_isa()}, 1 thread, float32")
    if arguments.jitter:
        found = jitter(paced, arguments.words, arguments.rate)
        print(f"us from a word's moment to its phonemes, {arguments.rate:g} words a second")
        for name, spent in found.items():
            row = "  ".join(f"{key} {value:9.1f}" for key, value in figures(spent).items())
            print(f"  {name:8} {row}")
            if figures(spent)["p50"] * arguments.rate > 1e6:
                print("  half of the words wait for others: the rate is too high for this machine")
        if arguments.output is not None:
            arguments.output.write_text(page(found, arguments.rate))
        return
    print("ns of a call over the core's work, 20 ids in, 8 out")
    over = overhead(paced, arguments.rounds)
    for name, value in over.items():
        print(f"  {name:8} {value:8.0f}")
    if arguments.check and over["Cython"] > GOAL_NS:
        raise SystemExit(f"a call through Cython costs more than {GOAL_NS:g} ns over the work")


if __name__ == "__main__":
    main()
