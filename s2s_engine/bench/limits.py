"""What the machine can do at best, measured in the run that uses it by the program of
`benchmarks/cpp`, which times the kernels too; where that is not built, what the engine's products
reach. Knows the program's output and rates; nothing of workloads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core
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
    """machines: by number of threads. kernels: rows as the program prints them, or none. rates:
    those of the engine's products on one thread, where there is no program."""

    source: str
    machines: dict[int, Machine]
    kernels: list[dict[str, Any]] = field(default_factory=list)
    isa: str = ""
    rates: Machine | None = None

    def reached(self, threads: int) -> Machine | None:
        """A machine at the rates that the product kernels reach: their share of reading, by working
        set, and of multiplying. The machine itself where kernels were not timed."""
        machine = self.machines.get(threads)
        if machine is None:
            return self.rates if threads == 1 else None
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


def unknown() -> Limits:
    """Nothing that Python can call reads or multiplies faster than the engine's kernels: without
    the program there is no limit to compare with."""
    return Limits("nothing: the program for kernels is not built", {})


def by_engine() -> Limits:
    """No limit, but what the engine's float32 products reach on one thread, for predictions."""
    random = np.random.default_rng(1)

    def seconds(outputs: int, depth: int, rows: int) -> float:
        weight = random.standard_normal((outputs, depth), np.float32)
        return _core.time_products(weight, "", rows)["float32"]

    read = {size: size / seconds(size // 1024, 256, 1) / 1e9 for size in SIZES}
    fma = max(2 * 64 * 256 * n / seconds(n, 256, 64) / 1e9 for n in (256, 512))
    return replace(unknown(), rates=Machine(read, fma))
