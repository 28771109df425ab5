"""The engine in somebody else's process: copies, pickles, forks, exits, threads, the floating-point
environment, idleness and memory. Knows processes; never what is decoded."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import itertools
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
from test_engine import bits

from s2s_engine import CancelToken, DecodeCancelled, Engine

TESTS = Path(__file__).parent
X = [4, 5, 6]
OPTIONS: dict[str, Any] = {
    "threads": 3, "isa": "portable", "max_input_length": 50, "max_memory": 1 << 24, "max_queue": 7,
}  # fmt: skip


def used() -> Engine:
    """An engine with everything in use."""
    engine = Engine.load(models.lstm_luong(), **OPTIONS)
    engine.decode_batch([X] * 8, batch_size=2)
    return engine


def copies() -> dict[str, Callable[[Engine], Engine]]:
    ways: dict[str, Callable[[Engine], Engine]] = {
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "pickle": lambda engine: pickle.loads(pickle.dumps(engine)),
    }
    try:
        import cloudpickle
    except ImportError:
        return ways
    return {**ways, "cloudpickle": lambda engine: pickle.loads(cloudpickle.dumps(engine))}


@pytest.mark.parametrize("way", ["copy", "deepcopy", "pickle", "cloudpickle"])
def test_copies_have_all_options_and_the_bits(way: str) -> None:
    if way not in copies():
        pytest.skip("cloudpickle is not installed")
    engine = used()
    again = copies()[way](engine)
    assert bits(again.decode(X, beam_size=3)) == bits(engine.decode(X, beam_size=3))
    assert (again.info.threads, again.info.isa) == (3, "portable")
    assert (again._inputs.max_input_length, again._max_memory, again._max_queue) == (50, 1 << 24, 7)
    engine.close()
    assert again.decode(X).ids  # of its own


def decoded(engine: Engine) -> list[Any]:
    return [bits(r) for r in engine.decode_batch([X, [3]] * 4, batch_size=2, beam_size=2)]


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_decode_after_threads_were_used(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method}")
    engine = used()
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(decoded, [engine] * 4)
    assert found == [decoded(engine)] * 4


FORK = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
import models
from s2s_engine import CancelToken, Engine
engine = Engine.load(models.lstm_luong(), threads=2)
expected = [r.ids for r in engine.decode_batch([[4, 5]] * 8, batch_size=2)]
inside, go = threading.Event(), threading.Event()
token = CancelToken()
def hold():
    inside.set()
    go.wait()
token._on_check = hold
thread = threading.Thread(target=engine.decode, args=([4, 5],), kwargs={"cancel": token})
thread.start()
inside.wait()
for _ in range(20):  # another thread is in the middle of a decode
    child = os.fork()
    if child == 0:
        found = [r.ids for r in engine.decode_batch([[4, 5]] * 8, batch_size=2)]
        os._exit(0 if found == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
go.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_in_the_middle_of_a_decode() -> None:
    subprocess.run([sys.executable, "-c", FORK, str(TESTS)], check=True, timeout=100)


def test_twenty_interpreters_of_twenty_end_cleanly() -> None:
    """`scripts/clean-exits.sh` runs two hundred."""
    for number in range(20):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", str(TESTS / "exits.py"), str(number)],
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), number


def test_eight_threads_of_every_kind_of_call_get_the_serial_bits() -> None:
    engine = Engine.load(models.lstm_luong(), threads=2)
    xs = [[n % 11, n % 7, n % 5][: 1 + n % 3] for n in range(40)]

    def everything(number: int) -> list[Any]:
        mine = xs[number % 4 :: 4]
        state = engine.start(mine[0]).feed([3, 4])
        stream = engine.stream(mine[1], beam_size=2)
        token = CancelToken()
        token.cancel()
        with pytest.raises(DecodeCancelled):
            engine.decode(mine[2], cancel=token)
        return [
            [bits(engine.decode(x, beam_size=3, max_length=6)) for x in mine],
            [bits(r) for r in engine.decode_batch(mine, batch_size=3, beam_size=2)],
            [bits(r) for r in engine.decode_iter(mine, batch_size=2)],
            list(stream),
            state.log_probs.tobytes(),
            engine.score(mine[0], [3, 4]).token_log_probs.tobytes(),
        ]

    serial = [everything(number) for number in range(8)]
    found: list[Any] = [None] * 8
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        found[number] = everything(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == serial


# --- the floating-point environment ---

LIBM = ctypes.CDLL(None)
UPWARD, TONEAREST = 0x800, 0  # x86-64


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="rounding modes by number")
def test_no_call_changes_the_control_word_or_is_changed_by_it() -> None:
    engine = Engine.load(models.lstm_luong())
    token = CancelToken()
    token.cancel()

    def cancelled() -> None:
        with pytest.raises(DecodeCancelled):
            engine.decode(X, cancel=token)

    calls: dict[str, Callable[[], Any]] = {
        "decode": lambda: bits(engine.decode(X, beam_size=3)),
        "batch": lambda: [bits(r) for r in engine.decode_batch([X, [3], [4, 5]] * 3, batch_size=2)],
        "threads": lambda: [bits(r) for r in engine.decode_batch([X] * 8, batch_size=2, threads=2)],
        "stream": lambda: list(engine.stream(X, beam_size=2)),
        "state": lambda: engine.resume(engine.start(X).feed([3]).snapshot()).log_probs.tobytes(),
        "score": lambda: engine.score(X, [3, 4]).token_log_probs.tobytes(),
        "encode": lambda: engine.encode(X)["memory"].tobytes(),
        "cancelled": cancelled,
    }
    for name, call in calls.items():
        expected = call()
        assert LIBM.fegetround() == TONEAREST, name
        assert LIBM.fesetround(UPWARD) == 0
        try:
            assert call() == expected, name
            assert LIBM.fegetround() == UPWARD, name
        finally:
            LIBM.fesetround(TONEAREST)


# --- idleness and memory ---


def test_an_engine_at_rest_runs_nothing() -> None:
    """No thread of the process is runnable: all wait for something, in the kernel.

    NumPy's OpenBLAS has none of its own here: those spin for a while after NumPy was imported."""
    code = """
import asyncio, os, sys, threading
sys.path.insert(0, sys.argv[1])
import models
from s2s_engine import Engine
engine = Engine.load(models.lstm_luong(), threads=2)
engine.decode_batch([[4, 5]] * 20, batch_size=2)
asyncio.run(engine.decode_async([4, 5]))
found = engine.decode_iter(([4, 5] for _ in range(10**6)), batch_size=2, threads=2)
next(found)
for thread in threading.enumerate():
    if thread.name == "s2s_engine decode":
        thread.join()  # they end when the window is full: the caller is not waited for
print("ready", flush=True)
sys.stdin.readline()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(TESTS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while states_of_main(process.pid) == "R":
        pass  # on its way into the readline
    stat = Path(f"/proc/{process.pid}/task")
    if stat.exists():
        assert {state for _ in range(500) for state in states_of(stat)} == {"S"}
    process.communicate("\n")
    assert process.returncode == 0


def states_of_main(pid: int) -> str:
    """The same of its first thread; S where the system does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_text().rsplit(")", 1)[1].split()[0] if stat.exists() else "S"


def states_of(tasks: Path) -> list[str]:
    """What the kernel says of a process's threads: R runs or could, S waits for something."""
    states = []
    for task in tasks.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            states.append((task / "stat").read_text().rsplit(")", 1)[1].split()[0])
    return states


GROWTH = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import models
from s2s_engine import CancelToken, DecodeCancelled, Engine
engine = Engine.load(models.lstm_luong())
xs = [[n % 11, n % 7, n % 5][: 1 + n % 3] for n in range(200)]
cancelled = CancelToken()
cancelled.cancel()
def run(times):
    for n in range(times):
        for _ in engine.decode_iter(xs, batch_size=5, max_length=4):
            pass
        engine.decode_batch(xs[:20], batch_size=4, threads=2, max_length=4)
        list(engine.stream([4, 5], max_length=4))
        engine.start([4, 5]).feed([3]).snapshot()
        engine.decode([4, 5], beam_size=2, timeout=1e6 + n)
        try:
            engine.decode([4, 5], cancel=cancelled)
        except DecodeCancelled:
            pass
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
run(30)
before = resident()
run(150)
print(resident() - before)
"""


MEASURED = pytest.mark.skipif(
    not Path("/proc/self/statm").exists() or "san" in os.environ.get("LD_PRELOAD", ""),
    reason="reads /proc, and sanitizers keep what is freed",
)


@MEASURED
def test_memory_does_not_grow_with_batches_streams_and_states() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(TESTS)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000_000


@MEASURED
def test_the_memory_of_an_iteration_is_that_of_its_window() -> None:
    """A thousand times as many sources, and the peak is where it was."""
    engine = Engine.load(models.gru_plain())

    def consume(count: int) -> int:
        xs = itertools.repeat([4, 5], count)
        for _ in engine.decode_iter(xs, batch_size=4, max_length=2):
            pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = consume(2000)
    assert consume(60_000) - first < 4096  # KiB
