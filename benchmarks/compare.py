"""Microseconds per decode of the engine beside its peers on the same weights, in one interleaved
run: `python -m benchmarks.compare`. Answers are checked first; without equal ids there is no time.

A run is a number of blocks. In a block every contender decodes for about `--block-ms`, in an order
that rotates from block to block; ratios are taken within a block. A calibration loop runs before
each turn, and blocks in which it deviates from the run's median are left out and counted.
"""

from __future__ import annotations

# isort: off
from . import settings  # before NumPy
# isort: on

import argparse
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from s2s_engine import DecodeOptions, Engine, __version__, _core

from . import models
from .models import Workload

# Takes the number of a source and decodes it.
Turn = Callable[[int], object]
Clock = time.perf_counter_ns
# The package that each peer needs beside NumPy; OpenVINO reads the ONNX graphs.
PEERS = {
    "numpy": (),
    "torch": ("torch",),
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "onnxruntime", "openvino"),
}
READS = ("np.max", "np.dot(matrix, vector)", "np.dot(vector, matrix)")
DEVIATION = 0.25
QUIET_BLOCKS = 10  # with fewer of them, a run's figures are of all blocks, and marked


@dataclass
class Contender:
    """`times` holds nanoseconds per call, a list per block; a block has `calls` of them."""

    name: str
    turn: Turn
    calls: int = 1
    times: list[list[int]] = field(default_factory=list)


# --- contenders ---


def engine_contenders(workload: Workload, engine: Engine) -> list[Contender]:
    """`Engine.decode` as a caller uses it, and the core below it with ids prepared."""
    inputs, sources = workload.inputs, workload.sources
    limit = max_length(workload)
    session, request = engine._session(), _core.Request()

    def core(number: int) -> object:
        return session.decode([sources[number]], request, limit).hypotheses

    return [
        Contender("s2s_engine", lambda number: engine.decode(inputs[number]).ids),
        Contender("s2s_engine, core only", core),
    ]


def max_length(workload: Workload) -> int:
    """max_length as a number for every source of a workload (all have one length)."""
    options = DecodeOptions.of(workload.model.generation, None, {})
    (limit,) = {options.limit(len(source)) for source in workload.sources}
    return limit


def installed_peers() -> list[str]:
    return [name for name, needs in PEERS.items() if all(map(importlib.util.find_spec, needs))]


def peer_contenders(workload: Workload, peers: Sequence[str]) -> list[Contender]:
    made: dict[str, Callable[[Sequence[int], int], list[int]]] = {}
    if "numpy" in peers:
        from . import peers_numpy

        made |= peers_numpy.contenders(workload.weights)
    if "torch" in peers:
        from . import peers_torch

        made |= peers_torch.contenders(workload.weights)
    if "onnx" in peers:
        from . import peers_onnx

        made |= peers_onnx.contenders(workload.weights)
    if "openvino" in peers:
        from . import peers_openvino

        made |= peers_openvino.contenders(workload.weights)
    sources, steps = workload.sources, [len(ids) for ids in workload.expected]

    def turn(decode: Callable[[Sequence[int], int], list[int]]) -> Turn:
        return lambda number: decode(sources[number], steps[number])

    return [Contender(name, turn(decode)) for name, decode in made.items()]


def check_answers(workload: Workload, contenders: Sequence[Contender]) -> None:
    """Raises SystemExit unless every contender gives the ids of the engine for every source."""
    end = workload.model.end
    for contender in contenders:
        for number, expected in enumerate(workload.expected):
            answer = contender.turn(number)
            if contender.name == "s2s_engine, core only":
                answer = answer[0][0]  # type: ignore[index]
            if contender.name.startswith("s2s_engine"):
                expected = [token for token in expected if token not in end]
            if answer != expected:
                raise SystemExit(
                    f"{workload.name}, source {number}: {contender.name} gives {answer}, the "
                    f"engine gave {expected}. No times without equal answers."
                )


# --- measuring ---


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
    contenders: Sequence[Contender], sources: int, blocks: int, block_ms: float
) -> list[list[int]]:
    """Fills the contenders' times; returns the calibration's times, a list per block."""
    calibrate = calibration()
    for contender in contenders:
        _size(contender, sources, block_ms)
    calibrations = []
    gc.collect()
    gc.disable()
    try:
        for block in range(blocks):
            calibrated = []
            shift = block % len(contenders)
            for contender in [*contenders[shift:], *contenders[:shift]]:
                calibrated.append(calibrate())
                contender.times.append(_calls(contender, sources, block * 7))
            calibrated.append(calibrate())
            calibrations.append(calibrated)
            gc.collect()
    finally:
        gc.enable()
    return calibrations


def _size(contender: Contender, sources: int, block_ms: float) -> None:
    """Warms up and sets the calls of a block: whole rounds of the sources, at least one."""
    contender.calls = sources
    for _ in range(2):
        times = _calls(contender, sources, 0)
    rounds = block_ms * 1e6 / (float(np.median(times)) * sources)
    contender.calls = max(1, round(rounds)) * sources


def _calls(contender: Contender, sources: int, first: int) -> list[int]:
    turn, times = contender.turn, []
    # Two rounds that do not count: the turn before has left the caches full of other weights.
    for number in range(2):
        turn(number)
    for call in range(contender.calls):
        number = (first + call) % sources
        begin = Clock()
        turn(number)
        times.append(Clock() - begin)
    return times


def quiet_blocks(calibrations: Sequence[Sequence[int]]) -> list[int]:
    """The blocks whose calibration never deviates by more than DEVIATION from the run's median."""
    usual = float(np.median([time for block in calibrations for time in block]))
    return [
        number
        for number, block in enumerate(calibrations)
        if all(abs(time / usual - 1) <= DEVIATION for time in block)
    ]


def bandwidth(bytes_: int, repeat: int = 30) -> dict[str, float]:
    """GB/s of reading `bytes_` again and again, the best of `repeat`, in ways NumPy has."""
    columns = 256
    rows = max(1, bytes_ // (4 * columns))
    matrix = np.ones((rows, columns), np.float32)
    wide, x = matrix.reshape(columns, rows), np.ones(columns, np.float32)
    out = np.empty(rows, np.float32)
    ways: dict[str, Callable[[], object]] = {
        "np.max": matrix.max,
        "np.dot(matrix, vector)": lambda: np.dot(matrix, x, out=out),
        "np.dot(vector, matrix)": lambda: np.dot(x, wide, out=out),
    }
    found = {}
    inner = max(1, (8 << 20) // matrix.nbytes)
    for name, way in ways.items():
        best = float("inf")
        for _ in range(repeat):
            begin = Clock()
            for _ in range(inner):
                way()
            best = min(best, (Clock() - begin) / inner)
        found[name] = matrix.nbytes / best
    return found


# --- results ---


def summary(
    workload: Workload, contenders: Sequence[Contender], calibrations: Sequence[Sequence[int]]
) -> dict[str, Any]:
    kept = quiet_blocks(calibrations)
    quiet = len(kept) >= QUIET_BLOCKS
    if not quiet:
        kept = list(range(len(calibrations)))
    engine = contenders[0]
    rows = []
    base = np.array([np.median(engine.times[block]) for block in kept])
    for contender in contenders:
        times = np.concatenate([contender.times[block] for block in kept]) / 1e3
        medians = np.array([np.median(contender.times[block]) for block in kept])
        low, middle, high = np.quantile(medians / base, (0.25, 0.5, 0.75))
        rows.append(
            {
                "name": contender.name,
                "p50_us": float(np.quantile(times, 0.5)),
                "p99_us": float(np.quantile(times, 0.99)),
                "ratio": float(middle),
                "ratio_quartiles": [float(low), float(high)],
                "calls": len(times),
            }
        )
    steps = [len(ids) for ids in workload.expected]
    lengths = [len(source) for source in workload.sources]
    weights = float(
        np.mean([models.weight_bytes(workload.model, *n) for n in zip(lengths, steps, strict=True)])
    )
    core = next(row for row in rows if row["name"] == "s2s_engine, core only")
    one_step = models.weight_bytes(workload.model, 1, 1) - models.weight_bytes(workload.model, 1, 0)
    whole = sum(tensor.nbytes for tensor in workload.model.tensors.values())
    return {
        "workload": workload.name,
        "what": workload.what,
        "positions": float(np.mean(lengths)),
        "steps": float(np.mean(steps)),
        "blocks": len(calibrations),
        "blocks_rejected": len(calibrations) - len(quiet_blocks(calibrations)),
        "quiet": quiet,
        "rows": rows,
        "weight_bytes_per_decode": weights,
        "core_gb_per_s": weights / (core["p50_us"] * 1e3),
        "read_gb_per_s": [
            {"what": "one decoder step's weights", "bytes": one_step, **bandwidth(one_step)},
            {"what": "all tensors", "bytes": whole, **bandwidth(whole)},
        ],
    }


def machine(engine: Engine) -> dict[str, Any]:
    versions = {"python": platform.python_version(), "s2s_engine": __version__}
    for name in ("numpy", "torch", "onnxruntime", "openvino"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "isa": engine.info.isa,
        "threads": settings.THREADS,
        "precision": settings.PRECISION,
        "batch": 1,
        "search": "greedy",
        "system": platform.platform(),
        "versions": versions,
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    fields = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    name = fields.get("model name") or platform.processor() or "unknown"
    return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"


def show(result: dict[str, Any]) -> None:
    print(
        f"\n{result['workload']}: {result['what']}\n"
        f"{result['positions']:.1f} positions, {result['steps']:.1f} steps on average; "
        f"{result['blocks']} blocks, {result['blocks_rejected']} rejected as noisy; "
        "equal ids from all"
    )
    print(f"{'':42}{'p50 us':>10}{'p99 us':>10}   time / engine (quartiles)")
    for row in result["rows"]:
        low, high = row["ratio_quartiles"]
        print(
            f"{row['name']:42}{row['p50_us']:10.1f}{row['p99_us']:10.1f}"
            f"   {row['ratio']:.2f} ({low:.2f}-{high:.2f})"
        )
    print(
        f"weights read per decode: {result['weight_bytes_per_decode'] / 1e6:.1f} MB, "
        f"{result['core_gb_per_s']:.0f} GB/s in the core. What NumPy reads in one thread:"
    )
    for read in result["read_gb_per_s"]:
        ways = ", ".join(f"{way} {read[way]:.0f}" for way in READS)
        print(f"  {read['what']} ({read['bytes'] / 1e6:.2f} MB), GB/s: {ways}")
    if not result["quiet"]:
        print("NOISY: too few quiet blocks; these figures are of all blocks, not to be quoted")


def run(workload: Workload, peers: Sequence[str], blocks: int, block_ms: float) -> dict[str, Any]:
    """One workload: answers checked, then measured."""
    with Engine.load(workload.model, threads=settings.THREADS) as engine:
        workload = models.expecting(workload, engine)
        contenders = [*engine_contenders(workload, engine), *peer_contenders(workload, peers)]
        check_answers(workload, contenders)
        calibrations = measure(contenders, len(workload.sources), blocks, block_ms)
        check_answers(workload, contenders)
        return summary(workload, contenders, calibrations)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--workload", action="append", help="w1, g2p_en or g2p; by default all")
    parser.add_argument(
        "--peers", default=",".join(installed_peers()), help="a list of " + ",".join(PEERS)
    )
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--block-ms", type=float, default=20.0, help="a contender's turn")
    parser.add_argument("--g2p-en", type=Path, help="the published weights (.npz) for g2p_en")
    parser.add_argument("--cpu", type=int, help="run on this processor only (Linux)")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"))
    given = parser.parse_args(arguments)
    peers = [name for name in given.peers.split(",") if name]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}")
    if given.cpu is not None:
        os.sched_setaffinity(0, {given.cpu})
    if "torch" in peers:
        settings.torch_settings()
    chosen = [
        workload
        for workload in models.workloads(given.g2p_en)
        if given.workload is None or workload.name in given.workload
    ]
    if not chosen:
        parser.error("no such workload")
    with Engine.load(chosen[0].model) as engine:
        about = machine(engine)
    about["command"] = " ".join(["python -m benchmarks.compare", *(arguments or sys.argv[1:])])
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    print(
        f"{about['cpu']}, {about['cpus']} CPUs, engine's ISA {about['isa']}; {about['threads']} "
        f"thread, {about['precision']}, batch 1, greedy; load {about['load_average']:.1f}\n"
        f"{versions}"
    )
    results = []
    for workload in chosen:
        results.append(run(workload, peers, given.blocks, given.block_ms))
        show(results[-1])
    given.json.write_text(json.dumps({"machine": about, "results": results}, indent=1) + "\n")
    print(f"\nwritten to {given.json}")


if __name__ == "__main__":
    main()
