"""What the processor counts in a decode: `python -m benchmarks.counters --models w1` (Linux).

Cycles do not change with the clock, so that builds which times cannot tell apart differ in them.
On AMD's Zen 5 also what the second cache was asked for by the first ones, and beside that by its
own prefetchers: it answers one request a cycle."""

import argparse
import ctypes
import os
import platform
import statistics
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.threads import MODELS, sources
from s2s_engine import Engine

SYSCALLS = {"x86_64": 298, "aarch64": 241}  # perf_event_open
HARDWARE, RAW = 0, 4  # PERF_TYPE_*
ONLY_USER = 1 << 5 | 1 << 6  # exclude_kernel, exclude_hv
EVENTS = {
    "cycles": (HARDWARE, 0),
    "instructions": (HARDWARE, 1),
    "mispredicted branches": (HARDWARE, 5),
}
# Events and masks of "Processor Programming Reference" for AMD family 1Ah: PMCx064, PMCx060,
# PMCx070 (the masks above 0x1F are the first cache's prefetchers), PMCx044.
SECOND_CACHE = {
    "requests to the second cache": (RAW, 0xFF64),
    "  that missed": (RAW, 0x0864),
    "besides, by its prefetchers": (RAW, 0x0260),
    "  for what it had already": (RAW, 0x1F70),
    "lines from further away": (RAW, 0xFE44),
}


def events() -> dict[str, tuple[int, int]]:
    """Those of this processor, by name: the kind and the number that Linux knows them by."""
    cpu = Path("/proc/cpuinfo").read_text() if platform.machine() == "x86_64" else ""
    family = next((line.split(":")[1] for line in cpu.splitlines() if "cpu family" in line), "0")
    zen_5 = "AuthenticAMD" in cpu and int(family) == 0x1A
    return EVENTS | SECOND_CACHE if zen_5 else EVENTS


class Counter:
    """Counts one event of the calling thread, outside the kernel. OSError where none is given."""

    def __init__(self, kind: int, number: int) -> None:
        attributes = bytearray(128)  # struct perf_event_attr: type, size, config; flags at 40
        struct.pack_into("<IIQ", attributes, 0, kind, len(attributes), number)
        struct.pack_into("<Q", attributes, 40, ONLY_USER)
        library = ctypes.CDLL(None, use_errno=True)
        given = (ctypes.c_char * len(attributes)).from_buffer(attributes)
        call = SYSCALLS.get(platform.machine(), -1)
        self._file = library.syscall(call, given, 0, -1, -1, 0)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "the system gives no counters (perf_event_open)")

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def read(self) -> int:
        """How many there were since the counter was made."""
        return int(struct.unpack("<q", os.read(self._file, 8))[0])


def count(counter: Counter, work: Callable[[], object], times: int, rounds: int) -> float:
    """The median over rounds of what one call of `work` takes."""
    found = []
    for _ in range(rounds):
        before = counter.read()
        for _ in range(times):
            work()
        found.append((counter.read() - before) / times)
    return statistics.median(found)


def measure(engine: Engine, xs: Sequence[object], beam: int, rounds: int) -> dict[str, float]:
    """Each event of a decode, the mean of the sources: medians of rounds of some milliseconds."""

    def work() -> None:
        for x in xs:
            _ = engine.decode(x, beam_size=beam).ids  # made when they are read

    found = {}
    for name, (kind, number) in events().items():
        with Counter(kind, number) as counter:
            work()
            found[name] = count(counter, work, 25, rounds) / len(xs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["w1"], choices=MODELS)
    parser.add_argument("--types", nargs="+", default=["float32", "int8"])
    parser.add_argument("--beams", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=40, help="of each event")
    options = parser.parse_args()
    try:
        with Counter(*EVENTS["cycles"]):
            pass
    except OSError as error:
        raise SystemExit(f"error: {error}") from error
    for name in options.models:
        model, xs = sources(name)
        for kind in options.types:
            engine = Engine.load(model, compute_type=kind, threads=1)
            for beam in options.beams:
                print(f"\n{name} {kind} beam {beam}, a decode")
                for event, value in measure(engine, xs, beam, options.rounds).items():
                    print(f"  {event:30} {value:14,.0f}")


if __name__ == "__main__":
    main()
