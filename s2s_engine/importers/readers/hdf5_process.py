"""An HDF5 file read in a process of its own, because its library crashes on files that are broken
in the right place. Knows that process and how to judge its answer; nothing of HDF5."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from ...errors import ModelFormatError
from .arrays import read_safetensors

READY = b"s2s_engine reads HDF5\n"
# Of processor time; the clock on the wall may show more, for machines with much to do.
SECONDS, WALL = 10, 6
MIB = 1 << 20
# What reading and its answer may take, per byte of the file and besides.
MEMORY_RATIO, MEMORY = 96, 128 * MIB
ANSWER_RATIO, ANSWER = 128, 16 * MIB
FIELDS = {"names", "kind", "layers", "attributes"}
KINDS = ("model.h5", "weights.h5", "keras3.weights.h5")
# The package is named without running its __init__: neither the core nor an installer's import
# hook is needed. -I and -S: nothing of the user's folders and variables runs.
PROGRAM = """
import json, sys, types
path, packages, memory, seconds = json.loads(sys.argv[1])
sys.path[:] = path
for name, folder in packages.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from s2s_engine.importers.readers.hdf5_child import main
main(memory, seconds)
"""

Array: TypeAlias = NDArray[Any]
Process: TypeAlias = "subprocess.Popen[bytes]"


@dataclass(frozen=True)
class Answer:
    """What a file holds; the fields are those of `KerasFile`."""

    arrays: dict[str, Array]
    attributes: dict[str, dict[str, Any]]
    layers: dict[str, tuple[str, ...]]
    kind: str


class _RefusalError(ValueError):
    """The answer is that the file is refused, and why."""


def read_hdf5(data: bytes, where: str) -> Answer:
    """The weights in an HDF5 file.

    ModelFormatError begins with `where`, and says what is wrong with the file, or how the process
    that read it ended. RuntimeError: no such process could be started.
    """
    if importlib.util.find_spec("h5py") is None:
        raise ModuleNotFoundError(
            "h5py is not installed, and HDF5 files need it: pip install 's2s_engine[keras]'"
        )
    seconds = SECONDS + len(data) // (2 * MIB)
    late = threading.Event()
    with start(MEMORY + MEMORY_RATIO * len(data), seconds) as process:

        def stop() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(WALL * seconds, stop)
        clock.daemon = True
        clock.start()
        try:
            parts = exchange(process, data)
        except ModelFormatError as error:
            raise ModelFormatError(f"{where}: {error}") from None
        finally:
            clock.cancel()
            process.kill()
            process.wait()
        if parts is None:
            took = f"needed more than {WALL * seconds} s" if late.is_set() else None
            raise ModelFormatError(
                f"{where}: the HDF5 library {took or ending(process, seconds)} on it: the file is "
                "damaged"
            )
    try:
        return judged(*parts)
    except _RefusalError as error:
        raise ModelFormatError(f"{where}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFormatError(
            f"{where}: the HDF5 library broke its own process on it, whose answer is not one: the "
            f"file is damaged ({str(error)[:200]})"
        ) from None


def start(memory: int, seconds: int) -> Process:
    """A process that waits for a file; `hdf5_child.main` tells what the numbers are."""
    # What multiprocessing would start: programs that embed Python name theirs there.
    python = os.fsdecode(multiprocessing.spawn.get_executable() or b"")
    if not python or (getattr(sys, "frozen", False) and python == sys.executable):
        raise RuntimeError(
            "HDF5 files are read in a process of their own, and this program does not know its "
            "Python: name one with multiprocessing.set_executable(path)"
        )
    here = Path(__file__).parents[1]
    names = __name__.split(".")
    packages = {names[0]: str(here.parent), ".".join(names[:2]): str(here)}
    # Not the current folder, whatever it is called.
    path = [item for item in sys.path if Path(item).is_absolute()]
    story = json.dumps([path, packages, memory, seconds])
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    return subprocess.Popen(
        [python, "-I", "-S", "-c", PROGRAM, story], env={**os.environ, **quiet},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def exchange(process: Process, data: bytes) -> tuple[bytes, bytes] | None:
    """The document and the arrays that the process answers; None if it ends before."""
    assert process.stdin and process.stdout and process.stderr
    if process.stdout.read(len(READY)) != READY:
        process.kill()
        last = process.stderr.read().decode(errors="replace").split("\n")[-2:]
        raise RuntimeError(
            f"HDF5 files are read in a process of their own, and {process.args!r:.80} is none: "
            f"{' '.join(last)[:300]}"
        )
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(process.stdin.fileno(), view[:MIB]) :]
    except BrokenPipeError:
        return None
    process.stdin.close()
    sizes = process.stdout.read(16)
    text, body = (int.from_bytes(part, "little") for part in (sizes[:8], sizes[8:]))
    if text + body > ANSWER + ANSWER_RATIO * len(data):
        raise ModelFormatError(f"what it holds has {text + body} bytes, the file has {len(data)}")
    parts = process.stdout.read(text), process.stdout.read(body)
    return parts if tuple(map(len, (sizes, *parts))) == (16, text, body) else None


def ending(process: Process, seconds: int) -> str:
    """How a process ended that gave no answer."""
    assert process.stderr
    code = process.returncode or 0
    if hasattr(signal, "SIGXCPU") and code == -signal.SIGXCPU:
        return f"needed more than {seconds} s of processor time"
    said = process.stderr.read(4096).decode(errors="replace").strip().split("\n")[-1][:200]
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"exit status {code}"
    return f"crashed ({name}{': ' if said else ''}{said})"


def judged(text: bytes, body: bytes) -> Answer:
    """The answer, if it is one: whoever wrote it may have been overwritten by the file."""
    document = json.loads(text)
    if set(document) == {"member", "reason"}:
        member, reason = str(document["member"])[:200], str(document["reason"])[:1000]
        raise _RefusalError(f"member {member!r}: {reason}" if member else reason)
    names, kind = document["names"], document["kind"]
    arrays = read_safetensors(body)
    if not texts(names) or len(set(names)) != len(names) or set(document) != FIELDS:
        raise ValueError("names")
    if kind not in KINDS or set(arrays) != set(map(str, range(len(names)))):
        raise ValueError("arrays")
    layers = {name: tuple(listed) for name, listed in document["layers"].items() if texts(listed)}
    attributes = document["attributes"]
    if len(layers) != len(document["layers"]) or not {*sum(layers.values(), ())} <= {*names}:
        raise ValueError("layers")
    if not all(plain(value) for held in attributes.values() for value in held.values()):
        raise ValueError("attributes")
    by_name = {name: arrays[str(index)] for index, name in enumerate(names)}
    return Answer(by_name, attributes, layers, kind)


def texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def plain(value: object) -> bool:
    """Whether JSON's value is a number, a text, nothing, or lists of these."""
    return not isinstance(value, dict) and (
        not isinstance(value, list) or all(plain(item) for item in value)
    )
