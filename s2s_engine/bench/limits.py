"""What the machine can do at best, measured in the run that uses it: by the program of
`benchmarks/cpp`, which times the kernels too, or where that is not built, by NumPy.

Knows the program's output and NumPy's fastest reads and products; nothing of workloads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .cost import Machine

PROGRAM = "s2s_bench_kernels"
VARIABLE = "S2S_BENCH_KERNELS"
HOW = (
    "kernels are timed by a small C++ program that is no part of the package; in the sources of "
    "s2s_engine: cmake -S . -B build/bench -DS2S_BENCHMARKS=ON && cmake --build build/bench "
    f"--target {PROGRAM}, then --kernels build/bench/{PROGRAM} (or {VARIABLE})"
)
SIZES = tuple(1 << power for power in range(15, 28))


@dataclass(frozen=True)
class Limits:
    """machines: by number of threads. kernels: rows as the program prints them, or none."""

    source: str
    machines: dict[int, Machine]
    kernels: list[dict[str, Any]] = field(default_factory=list)
    isa: str = ""

    def reached(self, machine: Machine) -> Machine:
        """A machine at the rates that the product kernels reach: their share of reading, by working
        set, and of multiplying. The machine itself where kernels were not timed."""
        one = [k for k in self.kernels if k["group"] == "product of 1 row"]
        many = [k for k in self.kernels if k["group"] == "product of 64 rows"]
        if not one or not many:
            return machine
        shares = Machine({int(k["bytes"]): _share(k, "bytes", "read_gb_per_s") for k in one}, 1)
        read = {size: rate * shares.bandwidth(size) for size, rate in machine.read.items()}
        best = max(_share(k, "operations", "peak_gflops") for k in many)
        return Machine(read, machine.fma * best, machine.int8)

    def as_json(self) -> dict[str, Any]:
        machines = [
            {
                "threads": threads,
                "read": [[size, rate] for size, rate in sorted(machine.read.items())],
                "gflops": machine.fma,
                "int8_gops": machine.int8 or 0.0,
            }
            for threads, machine in sorted(self.machines.items())
        ]
        return {"source": self.source, "isa": self.isa, "machines": machines}


def _share(kernel: dict[str, Any], work: str, rate: str) -> float:
    """Of a rate, at most all of it: a kernel is above it where noise hit the rate alone."""
    return min(1.0, float(kernel[work] / kernel["ns"] / kernel[rate]))


def find_program(given: Path | None) -> Path | None:
    """The program: as given, of the environment, or on the path."""
    found = given or os.environ.get(VARIABLE) or shutil.which(PROGRAM)
    return None if found is None else Path(found)


def by_program(program: Path, threads: int) -> Limits:
    done = subprocess.run(
        [str(program), str(threads)], stdout=subprocess.PIPE, check=True, text=True
    )
    return parsed(json.loads(done.stdout))


def parsed(printed: dict[str, Any]) -> Limits:
    machines = {
        int(one["threads"]): Machine(
            {int(size): float(rate) for size, rate in one["read"]},
            float(one["gflops"]),
            float(one["int8_gops"]) or None,
        )
        for one in printed["limits"]
    }
    return Limits("the kernel program", machines, printed["kernels"], printed["isa"])


def by_numpy() -> Limits:
    """One thread, in ways that NumPy has: the largest of an array, a product of two matrices."""
    read = {size: _best(lambda data: data.max(), size) for size in SIZES}
    n = 512
    a, b, out = (np.ones((n, n), np.float32) for _ in range(3))
    fma = 2 * n**3 / min(_times(lambda: np.dot(a, b, out=out), 10))
    source = "NumPy (np.max, np.dot): what good code reaches, not the limit"
    return Limits(source, {1: Machine(read, fma)})


def _best(way: Any, size: int) -> float:
    data = np.ones(size // 4, np.float32)
    repeat = max(1, (1 << 20) // size)
    times = _times(lambda: [way(data) for _ in range(repeat)], 8)
    return size * repeat / min(times)


def _times(work: Any, count: int) -> list[int]:
    work()
    times = []
    for _ in range(count):
        begin = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begin)
    return times
