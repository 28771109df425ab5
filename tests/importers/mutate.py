"""Mutates model files and reads them: `python tests/importers/mutate.py --count 1000000 npz h5`, or
`all`. Each file must be read or refused by ModelFormatError, in bounded time and memory, with
nothing opened, imported, executed or started; the first that is not ends the run and is kept.
Knows outcomes; never a format."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mutation_seeds import READERS, Reader, Seed

from s2s_engine import ModelFormatError
from s2s_engine.importers.readers import hdf5_child, hdf5_process

SECONDS = 20  # for one file; the readers need milliseconds
MEMORY = 256 << 20  # more than at the start; all seeds are below 100 KB
NUMBERS = (0, 1, 2, 127, 128, 255, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
           1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
BYTES = (0, 1, 2, 127, 128, 255)
# What a reader may do: look at arrays, frames and texts of its own, and warn.
QUIET = ("object.", "sys._getframe", "array.", "builtins.id", "_thread.start")
STRANGE = 99


def mutated(data: bytes, chance: random.Random, others: list[Seed]) -> bytes:
    """One to four changes: bytes, bits, numbers of 2 to 8 bytes, cuts, doubled and moved pieces."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(result) or 1)
        size = chance.choice((1, 2, 4, 8, 24))
        match chance.randrange(9):
            case 0 | 1:
                result[at : at + 1] = bytes([chance.choice((*BYTES, chance.randrange(256)))])
            case 2 | 3 if result:
                result[at] ^= 1 << chance.randrange(8)
            case 4:
                width = chance.choice((2, 4, 8))
                number = chance.choice((*NUMBERS, len(data), chance.randrange(len(data) or 1)))
                result[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
            case 5:
                result[at : at + chance.choice((size, 1, len(result)))] = b""
            case 6:
                result[at:at] = result[at : at + size]
            case 7:
                start = chance.randrange(len(result) or 1)
                result[at : at + size] = result[start : start + size]
            case _:
                other = chance.choice(others)[0]
                start = chance.randrange(len(other) or 1)
                result[at : at + size] = other[start : start + size]
    return bytes(result)


class Watch:
    """What happens while a file is read that never may."""

    def __init__(self, allowed: str) -> None:
        self.allowed, self.on, self.child = allowed, False, False
        sys.addaudithook(self.hook)

    def hook(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.on or event.startswith(QUIET):
            return
        if event == "open" and isinstance(details[0], int):
            return  # a descriptor that is open already
        if event == "open" and str(details[0]).startswith(self.allowed):
            return
        if self.child:
            os._exit(STRANGE)  # told apart from all other ends
        self.on = False
        raise AssertionError(f"{event} {str(details)[:300]}")


class Forked:
    """Stands for `subprocess.Popen`: a copy of this process that runs what the child runs from
    its limits on; it has imported and rehearsed already."""

    def __init__(self, watch: Watch, memory: int, seconds: int) -> None:
        import h5py

        pipes = [os.pipe() for _ in range(3)]
        self.watch, self.args = watch, ["fork"]
        self.returncode: int | None = None
        watched, watch.on = watch.on, False
        self.pid = os.fork()
        if not self.pid:
            for number, end in enumerate((pipes[0][0], pipes[1][1], pipes[2][1])):
                os.dup2(end, number)
            os.closerange(3, 256)
            signal.setitimer(signal.ITIMER_REAL, 0)
            limit = hdf5_child.limit

            def limited(memory: int, seconds: int) -> None:
                limit(memory, seconds)
                watch.child = watch.on = True

            hdf5_child.limit = limited
            hdf5_child.serve(h5py, memory, seconds)
            os._exit(0)
        watch.on = watched
        for end in (pipes[0][0], pipes[1][1], pipes[2][1]):
            os.close(end)
        self.stdin = os.fdopen(pipes[0][1], "wb")
        self.stdout, self.stderr = os.fdopen(pipes[1][0], "rb"), os.fdopen(pipes[2][0], "rb")

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()
        for file in (self.stdin, self.stdout, self.stderr):
            file.close()

    def kill(self) -> None:
        if self.returncode is None:
            watched, self.watch.on = self.watch.on, False
            os.kill(self.pid, signal.SIGKILL)
            self.watch.on = watched

    def wait(self) -> None:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def uncheck() -> None:
    """What the checks keep from the library reaches it; a second is enough to see it loop."""
    from s2s_engine.importers.readers import hdf5_objects

    hdf5_objects.check_heaps = lambda _: None
    hdf5_objects.TextLengths.check = lambda *_: None  # type: ignore[method-assign]
    hdf5_process.SECONDS = 1


def fork_instead(watch: Watch) -> None:
    """h5py is imported once, here, instead of once for each file."""
    import h5py

    hdf5_child.rehearse(h5py)
    hdf5_process.start = lambda *limits: Forked(watch, *limits)  # type: ignore[assignment]


def in_one_process(reader: Reader, watch: Watch, files: list[bytes]) -> list[str]:
    """What the files came to, read one after another by one process with its limits, up to the
    first that ended it. Of that one nothing is said: alone it shows what the readers make of it."""
    source, sink = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            read_all(reader, watch, files, sink)
        finally:
            os._exit(STRANGE)
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        told = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status or len(told) == 4 * len(files)
    return [{"read": "read", "refu": "refused"}[told[i : i + 4]] for i in range(0, len(told), 4)]


def read_all(reader: Reader, watch: Watch, files: list[bytes], sink: int) -> None:
    """Writes four letters for each file and ends this process."""
    answer_here()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    size = max(map(len, files))
    hdf5_child.limit(hdf5_process.MEMORY + hdf5_process.MEMORY_RATIO * size, 4 * SECONDS)
    watch.child = True
    for data in files:
        signal.setitimer(signal.ITIMER_REAL, hdf5_process.SECONDS)
        watch.on = True
        told = outcome(reader, data)
        watch.on = False
        os.write(sink, told[:4].encode())
    os._exit(0)


def answer_here() -> None:
    """The library runs in this process, which has the limits of the one that readers start."""
    import h5py

    from s2s_engine.importers.readers import hdf5_files

    def here(data: bytes, where: str) -> hdf5_process.Answer:
        _, text, *body = hdf5_child.answer(h5py, data)
        try:
            return hdf5_process.judged(bytes(text), b"".join(body))
        except ValueError as error:
            raise ModelFormatError(f"{where}: {error}") from None

    hdf5_files.read_hdf5 = here


def outcomes(
    reader: Reader, watch: Watch, files: Iterator[bytes], together: int
) -> Iterator[tuple[bytes, str | None]]:
    """Each file and what it came to; None where it is to be read alone."""
    while chunk := list(itertools.islice(files, together)):
        while chunk:
            told = in_one_process(reader, watch, chunk) if len(chunk) > 1 else []
            yield from zip(chunk, told, strict=False)
            chunk = chunk[len(told) :]
            if chunk:
                yield chunk.pop(0), None


def outcome(reader: Reader, data: bytes) -> str:
    """What a file came to; AssertionError where it must not."""
    try:
        reader.read(data)
    except ModelFormatError as error:
        text = str(error)
        assert f"exit status {STRANGE}" not in text, "something was opened or imported"
        assert "Too many open files" not in text, "the HDF5 library opens something"
        if "the HDF5 library" not in text:
            return "refused"
        return "crash contained" if "crashed" in text else "limit reached"
    return "read"


def late(_: int, __: FrameType | None) -> NoReturn:
    raise AssertionError(f"more than {SECONDS} s")


def changed(seeds: list[Seed], name: str, options: argparse.Namespace) -> Iterator[bytes]:
    for index in range(options.count):
        chance = random.Random(f"{options.seed} {name} {index}")
        part, make = seeds[index % len(seeds)]
        yield make(mutated(part, chance, seeds))


def cut(seeds: list[Seed], step: int) -> Iterator[bytes]:
    for part, make in seeds:
        data = make(part)
        for size in range(0, len(data), step):
            yield data[:size]


def run(name: str, options: argparse.Namespace) -> None:
    reader = READERS[name]
    watch = Watch(str(getattr(reader.read, "path", os.devnull)))
    if reader.forks:
        fork_instead(watch)
    if reader.unchecked:
        uncheck()
    seeds, counts = reader.seeds(), Counter[str]()
    for data, make in seeds:  # what Python imports late
        for start in (make(data), b"", b"PK\3\4" + make(data), make(data[:-9]), make(b"\xff" * 20)):
            outcome(reader, start)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGALRM, late)
    began, index = time.monotonic(), 0
    allowed = SECONDS * (4 if reader.forks else 1)
    files = cut(seeds, options.cut) if options.cut else changed(seeds, name, options)
    together = options.together if reader.forks else 1
    for data, told in outcomes(reader, watch, files, together):
        if time.monotonic() - began > options.seconds:
            break
        signal.setitimer(signal.ITIMER_REAL, allowed)
        watch.on = True
        try:
            counts[told or outcome(reader, data)] += 1
        except BaseException as error:
            watch.on = False
            kept = Path(options.keep, f"{name}-{options.seed}-{index}.bin")
            kept.write_bytes(data)
            print(f"{name}: {index}: {error!r}: kept as {kept}", file=sys.stderr)
            raise
        finally:
            watch.on = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        index += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    took = time.monotonic() - began
    print(f"{name}: {index} files of seed {options.seed} in {took:.0f} s, +{grown} MB: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="+", choices=[*READERS, "all"])
    parser.add_argument("--count", type=int, default=10_000, help="files for each reader")
    parser.add_argument("--cut", type=int, metavar="STEP", help="cut files at every STEPth byte")
    parser.add_argument(
        "--together", type=int, default=1, metavar="FILES",
        help="HDF5 files that one process reads; readers start one for each",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", default=".", help="the folder for a file that breaks a reader")
    options = parser.parse_args()
    for name in READERS if "all" in options.readers else options.readers:
        # One process a reader: audit hooks and limits stay for good.
        pid = os.fork()
        if not pid:
            run(name, options)
            sys.stdout.flush()
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"{name}: broke")


if __name__ == "__main__":
    main()
