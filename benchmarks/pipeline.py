"""What calls cost beside the work: microseconds of a call over the core's own, the part of a step
that is no graph, milliseconds until an interruption takes effect, sentences a second of a batch:
`python -m benchmarks.pipeline`.

Every figure is of one interleaved run: the calls that are compared take turns, and differences and
ratios are taken within a turn. Answers are checked before anything is timed. Python's cycle
collector is off while calls are timed: its turns would fall to whichever call is under way.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from s2s_engine import (
    CancelToken,
    DecodeCancelled,
    DecodeOptions,
    DecodeTimeout,
    Engine,
    _core,
    demo_model,
)
from s2s_engine.bench.workloads import WORDS, gru_model, workloads

Call = Callable[[], object]


def overhead(rounds: int) -> dict[str, float]:
    """Microseconds of a call over the core's work for 20 ids in and 8 out, the result unread."""
    engine = Engine.load(gru_model(30, 74, hidden=16))
    x = [n % 30 for n in range(20)]
    options = DecodeOptions(max_length=8)
    session = engine._session()
    reader, ready = engine._calls.reader, engine._calls.ready(options, {})
    assert reader is not None and ready.request is not None
    calls: dict[str, Call] = {
        "defaults": lambda: engine.decode(x),
        "prepared options": lambda: engine.decode(x, options=options),
        "keywords": lambda: engine.decode(x, max_length=8, beam_size=1, num_hypotheses=1),
        "keywords and a timeout": lambda: engine.decode(x, max_length=8, timeout=10.0),
        "defaults, ids and tokens read": lambda: (found := engine.decode(x)).ids and found.tokens,
    }
    (expected,) = {tuple(call_ids(engine, call)) for call in list(calls.values())[:4]}
    assert len(expected) == 8
    # Turns are short, so that another program's turn on this CPU spoils few of them.
    count, over = 20, {name: list[float]() for name in calls}
    gc.disable()
    for _ in range(20 * rounds):
        for name, call in calls.items():
            core = session.time_decode([x], ready.request, 8, count)
            start = time.perf_counter()
            for _ in range(count):
                call()
            over[name].append((time.perf_counter() - start) / count - core)
    gc.enable()
    return {name: statistics.median(times) * 1e6 for name, times in over.items()}


def bookkeeping(name: str, rounds: int) -> dict[str, float]:
    """Percent of a float32 step of a workload, beam 5, that is not its graph: states that move to
    the hypotheses that go on, log-softmax and candidates of each row, and the search itself.

    A clock in the core reads behind every operation and part of a step; its reads are taken off.
    The median over decodes of each part's share of one decode's steps.
    """
    workload = next(w for w in workloads([name]) if w.beam == 5 and w.batch == 1)
    engine = Engine.load(workload.model)
    session, request = engine._session(), _core.Request(5)
    options = DecodeOptions.of(workload.model.generation, None, workload.options)
    parts: dict[str, list[float]] = {"states": [], "rank": [], "search": []}
    whole = list[float]()
    for number in range(-2, rounds):
        for source in workload.sources[:4]:
            times = session.profile([[source]], request, [options.limit(len(source))])
            if number < 0:
                continue
            graph = sum(seconds for _, when, seconds in times["nodes"] if when == "step")
            step = graph + sum(times[part] for part in parts)
            whole.append(step / times["steps"])
            for part, shares in parts.items():
                shares.append(100 * times[part] / step)
    totals = [sum(shares) for shares in zip(*parts.values(), strict=True)]
    found = {part: statistics.median(shares) for part, shares in parts.items()}
    return {
        "all of it (goal: at most 5)": statistics.median(totals),
        **found,
        "(a step)": statistics.median(whole) * 1e6,
    }


def call_ids(engine: Engine, call: Call) -> list[int]:
    result = call()
    return list(getattr(result, "ids", []))


def w3() -> Engine:
    """The suite's model of 32,000 words, with as many ids out as in."""
    return Engine.load(replace(workloads(["w3"])[0].model, generation={"max_length": "source"}))


def throughput(engine: Engine, xs: Sequence[object], rounds: int, beam: int) -> dict[str, float]:
    """Sentences a second: one at a time, as a batch, as an iteration of small batches."""

    def one_by_one() -> list[list[int]]:
        return [engine.decode(x, beam_size=beam).ids for x in xs]

    def batch() -> list[list[int]]:
        return [result.ids for result in engine.decode_batch(xs, beam_size=beam)]

    def iteration() -> list[list[int]]:
        return [r.ids for r in engine.decode_iter(xs, batch_size=16, beam_size=beam)]

    calls = {"one at a time": one_by_one, "decode_batch, 64": batch, "decode_iter, 16": iteration}
    assert batch() == iteration() == one_by_one()
    times = {name: list[float]() for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: len(xs) / statistics.median(spent) for name, spent in times.items()}


def latency(engine: Engine, rounds: int) -> dict[str, float]:
    """Milliseconds from the moment in which a decode should end until it has, at worst."""
    x = list(range(25))
    worst: dict[str, float] = {}

    def measure(name: str, run: Callable[[], float]) -> None:
        worst[name] = max(run() for _ in range(rounds)) * 1e3

    def after(delay: float, action: Callable[[], object]) -> list[float]:
        """Acts on another thread in the middle of a decode; when it did."""
        moment: list[float] = []

        def work() -> None:
            time.sleep(delay)
            moment.append(time.perf_counter())
            action()

        threading.Thread(target=work).start()
        return moment

    def cancelled() -> float:
        token = CancelToken()
        moment = after(0.05, token.cancel)
        try:
            engine.decode(x, max_length=100_000, cancel=token)
        except DecodeCancelled:
            return time.perf_counter() - moment[0]
        raise AssertionError("the decode ended by itself")

    def late() -> float:
        start = time.perf_counter()
        try:
            engine.decode(x, max_length=100_000, timeout=0.05)
        except DecodeTimeout:
            return time.perf_counter() - start - 0.05
        raise AssertionError("the decode ended by itself")

    ctypes.pythonapi.PyErr_SetInterrupt.restype = None

    def interrupted() -> float:
        moment = after(0.05, ctypes.pythonapi.PyErr_SetInterrupt)
        try:
            engine.decode(x, max_length=100_000)
        except KeyboardInterrupt:
            return time.perf_counter() - moment[0]
        raise AssertionError("the decode ended by itself")

    measure("a cancel token", cancelled)
    measure("a deadline", late)
    measure("Ctrl-C", interrupted)
    return worst


def show(title: str, figures: dict[str, float], unit: str) -> None:
    print(f"\n{title}")
    for name, figure in figures.items():
        print(f"  {name:34} {figure:10.2f} {'us' if name.startswith('(') else unit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--w3", action="store_true", help="a model of 250 MB beside the small one")
    arguments = parser.parse_args()
    print(f"instruction set {_core.default_isa()}, 1 thread, float32")
    show("a call over the core's work, 20 ids in, 8 out", overhead(arguments.rounds), "us")
    show("W2, beam 5: of a step", bookkeeping("w2", 10 * arguments.rounds), "%")
    g2p = Engine.load(demo_model())
    words = [list(word[: 1 + n % 8]) for n, word in enumerate(WORDS * 4)]
    for beam in (1, 5):
        found = throughput(g2p, words, arguments.rounds, beam)
        show(
            f"the shipped model, {len(words)} words of 1 to 8 letters, beam {beam}",
            found,
            "words/s",
        )
    if not arguments.w3:
        return
    show("W3, beam 5: of a step", bookkeeping("w3", arguments.rounds), "%")
    engine = w3()
    random = np.random.default_rng(1)
    xs = [random.integers(0, 32_000, size).tolist() for size in random.integers(3, 40, 24)]
    for beam in (1, 5):
        found = throughput(engine, xs, 1, beam)
        show(f"W3, {len(xs)} sentences of 3 to 39 ids, beam {beam}", found, "sentences/s")
    show("W3, from the moment to the end, at worst", latency(engine, arguments.rounds), "ms")


if __name__ == "__main__":
    main()
