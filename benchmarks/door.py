"""What the doors cost: `python -m benchmarks.door` prints the time of a call over the core's own
work through Cython and through Python; `--jitter` decodes words at a steady rate beside a busy
core, and prints and draws the distribution of their latencies. Ctrl-C ends that with what there is.

Calls that are compared take turns, and differences are taken within a turn. Answers are checked
before anything is timed. Knows clocks; how a call works is the package's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s_engine import DecodeOptions, Engine, _core, demo_model
from s2s_engine.bench import latency
from s2s_engine.bench.environment import machine, moment, software
from s2s_engine.bench.workloads import WORDS, gru_model

GOAL_NS = 100.0  # of a call with 20 ids through Cython, over the work
BEST = 5  # of so many blocks the fastest counts
TURN = 10  # seconds of one door before it is the other's turn
NEVER = np.int64(-1)  # of a word that did not come
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
    engine: Engine,
    words: list[list[int]],
    first: int,
    due: int,
    period: int,
    spent: NDArray[np.int64],
) -> int:
    """What Door.latencies does, with Engine.decode."""
    now = time.monotonic_ns
    for n in range(len(spent)):
        word = words[(first + n) % len(words)]
        while now() < due:
            pass
        engine.decode(word).ids  # noqa: B018  # the result is read
        spent[n] = now() - due
        due += period
    return due


Latencies = Callable[[int, int, int, NDArray[np.int64]], int]


def in_turns(
    doors: dict[str, Latencies],
    count: int,
    rate: float,
    spent: dict[str, NDArray[np.int64]],
    tell: Callable[[int], None],
) -> None:
    """Fills `spent` turn by turn, each of TURN seconds and of a schedule of its own; within one,
    signals are looked for every second, and nothing is forgiven. tell: with the words done."""
    period, part = int(1e9 / rate), max(1, int(rate))
    for turn in range(0, count, part * TURN):
        for door, latencies in doors.items():
            latencies(turn, time.monotonic_ns() + period, period, np.zeros(1, np.int64))
            due = time.monotonic_ns() + period
            end = min(turn + part * TURN, count)
            for first in range(turn, end, part):
                due = latencies(first, due, period, spent[door][first : min(first + part, end)])
        tell(end)


def jitter(paced: Any, count: int, rate: float) -> dict[str, Any]:
    """Latencies of words that come `rate` a second, by door, as `bench/latency.py` keeps them.
    Ctrl-C ends it with what there is."""
    found: dict[str, Any] = {
        "schema": latency.SCHEMA, "machine": machine(), "software": software(), **moment(),
        "what": "the shipped model, float32, greedy, one thread",
    }  # fmt: skip
    engine = Engine.load(demo_model())
    known = engine._calls.inputs
    words = [known.source(list(word), prepared=True) for word in WORDS]
    begins = np.cumsum([0, *map(len, words)])
    ids = np.concatenate([np.array(word, np.int32) for word in words])
    door = paced.Door(engine, None, max(map(len, words)))
    engine.warm_up(max(map(len, words)))
    for word in words:
        assert door.ids(np.array(word, np.int32)) == engine.decode(word).ids
    doors: dict[str, Latencies] = {
        "Python": partial(python_latencies, engine, words),
        "Cython": partial(door.latencies, ids, begins),
    }
    spent = {name: np.full(count, NEVER) for name in doors}  # touched here, and not on the way
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:1])
    busy = [
        subprocess.Popen(
            [sys.executable, "-c", BURN],
            preexec_fn=lambda c=cpu: os.sched_setaffinity(0, [c]),
            start_new_session=True,  # Ctrl-C is for this process
        )
        for cpu in cpus[1:2]
    ]
    found["busy"] = f"a loop of Python on CPU {cpus[1]}" if busy else "nothing, for want of a CPU"
    try:
        in_turns(doors, count, rate, spent, lambda done: tell(done, count))
        found["interrupted"] = False
    except KeyboardInterrupt:
        found["interrupted"] = True
    finally:
        for process in busy:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, cpus)
    done = {name: times[times != NEVER] for name, times in spent.items()}
    found["doors"] = {name: latency.of_door(times) for name, times in done.items() if len(times)}
    return found | {"words": count, "rate": rate}


def tell(done: int, count: int) -> None:
    end = "\n" if done == count else "\r"
    print(f"... {done:,} of {count:,} words by each door", end=end, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--check", action="store_true", help="fail above the goal for Cython")
    parser.add_argument("--jitter", action="store_true")
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=1000.0, help="words a second")
    parser.add_argument("-o", "--output", type=Path, help="a page with the distribution drawn")
    parser.add_argument("--json", type=Path, help="the same for `s2s-engine bench --latency`")
    arguments = parser.parse_args()
    if arguments.words < 1 or arguments.rate <= 0:
        parser.error("--words and --rate must be above zero")
    paced = built()
    print(f"instruction set {_core.default_isa()}, 1 thread, float32")
    if arguments.jitter:
        found = jitter(paced, arguments.words, arguments.rate)
        if not found["doors"]:
            raise SystemExit("interrupted before the first word")
        print(latency.text(found))
        if arguments.output is not None:
            arguments.output.write_text(latency.page(found), encoding="utf-8")
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        raise SystemExit(130 if found["interrupted"] else 0)
    print("ns of a call over the core's work, 20 ids in, 8 out")
    over = overhead(paced, arguments.rounds)
    for name, value in over.items():
        print(f"  {name:8} {value:8.0f}")
    if arguments.check and over["Cython"] > GOAL_NS:
        raise SystemExit(f"a call through Cython costs more than {GOAL_NS:g} ns over the work")


if __name__ == "__main__":
    main()
