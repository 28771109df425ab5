"""What a warm session does besides computing: no heap call, no lock, no system call; and that it
ends within a step. Knows hooks in a process of their own and strace; never what is decoded."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import models
import pytest
from c_interface import CANCELLED, Session
from test_heap import CC, SHIM, TESTS
from test_heap import pytestmark as needs_hooks

from s2s_engine import DecodeOptions, Engine

pytestmark = needs_hooks

# Locks are counted as heap calls are; `during` counts everything that this thread does in a decode,
# and marks it with system calls that nothing else makes.
HOOK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>
static volatile long locks;
#define LOCKED(name, type) \
  int name(type *object) { \
    static int (*real)(type *); \
    if (real == NULL) real = (int (*)(type *))dlsym(RTLD_NEXT, #name); \
    if (inside()) __sync_fetch_and_add(&locks, 1); \
    return real(object); \
  }
LOCKED(pthread_mutex_lock, pthread_mutex_t)
LOCKED(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCKED(pthread_rwlock_wrlock, pthread_rwlock_t)
LOCKED(pthread_spin_lock, pthread_spinlock_t)
long lock_calls(void) { return locks; }

typedef int32_t (*decode_function)(void *, const int32_t *, int64_t, const void *);
int32_t during(decode_function decode, void *session, const int32_t *ids, int64_t length,
               const void *options, int times) {
  int32_t code = 0;
  getppid();
  everything = 1;
  for (int n = 0; n < times; ++n) code |= decode(session, ids, 1 + n % length, options);
  everything = 0;
  getppid();
  return code;
}
"""

COMMON = """
import ctypes, itertools, json, sys, threading
sys.path.insert(0, sys.argv[2])
import models
from c_interface import C, Session
from s2s_engine import DecodeOptions, Engine, _core, demo_model
shim = ctypes.CDLL(sys.argv[1])
shim.heap_calls.restype = shim.lock_calls.restype = ctypes.c_long
shim.heap_watch(C.s2s_entry_depth)
shim.during.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int]
def counted(call):
    before = shim.heap_calls(), shim.lock_calls()
    call()
    return [shim.heap_calls() - before[0], shim.lock_calls() - before[1]]
def during(session, source, options, times=1):
    ids = (ctypes.c_int32 * len(source))(*source)
    given = ctypes.byref(options)
    assert shim.during(C.s2s_decode, session.handle, ids, len(source), given, times) == 0
x = [3, 4, 5, 6, 7, 8]
"""

COUNTS = (
    COMMON
    + """
found = {}
rules = {"plain": {}, "stay": {"early_stop": "opennmt"}, "penalty": {"length_penalty": 0.6},
         "groups": {"beam_size": 5, "beam_groups": 5, "num_hypotheses": 5}}
for name, make in models.DECODERS.items():
    for isa, weights in itertools.product(_core.available_isas(), ("float32", "int8")):
        for rule, given in rules.items():
            if rule != "plain" and isa != "portable":
                continue
            options = DecodeOptions(max_length=9, **given)
            engine = Engine.load(make(), isa=isa, compute_type=weights)
            case = f"{name} {isa} {weights} {rule}"
            session = Session(engine, options)
            C.s2s_warm_up(session.handle, 6, 5, 2)
            beams = (5,) if rule == "groups" else (1, 3, 5)
            for beam in beams:
                given_c = session.options(beam_size=beam, num_hypotheses=beam, timeout=10.0,
                                          attention=int(name != "gru_plain"))
                for source in ([3], x):
                    found[f"{case} c {beam} {len(source)}"] = counted(
                        lambda: during(session, source, given_c))
            if rule == "plain":
                engine.warm_up(6, 5)
                # Not on the main thread, which looks for signals under Python's lock.
                call = lambda: engine.decode(x, beam_size=5, num_hypotheses=5)
                count = lambda: found.update({f"{case} python": counted(call)})
                thread = threading.Thread(target=count)
                thread.start()
                thread.join()
cold = Session(Engine.load(models.lstm_luong()))
found["cold"] = counted(lambda: during(cold, x, cold.options()))
_core.assume_cpus(4)
engine = Engine.load(models.lstm_luong(hidden=67, target=140))
team = _core.Session(engine._core, "", 3, 1)
found["threads"] = counted(lambda: team.decode([x], _core.Request(), 9))
print(json.dumps(found))
"""
)

CALLS = (
    COMMON
    + """
engine = Engine.load(demo_model())
session = Session(engine)
C.s2s_warm_up(session.handle, 20, 5, 1)
flag = ctypes.c_int32(0)
source = [4 + n % 20 for n in range(20)]
for beam in (1, 5):
    options = session.options(beam_size=beam, timeout=10.0, cancel=ctypes.pointer(flag))
    during(session, source, options, 100)
cold = Session(engine)
during(cold, source * 100, cold.options(beam_size=100))
"""
)


@cache
def hook(folder: Path) -> Path:
    source, library = folder / "hook.c", folder / "hook.so"
    shim = SHIM.replace(
        "static void count(void) {",
        'static __thread int everything __attribute__((tls_model("initial-exec")));\n'
        "static int inside(void) {\n"
        "  if (depth == NULL || asking) return 0;\n"
        "  if (everything) return 1;\n"
        "  asking = 1; int deep = depth() > 0; asking = 0;\n"
        "  return deep;\n"
        "}\n"
        "static void count(void) {\n"
        "  if (everything) __sync_fetch_and_add(&calls, 1);\n"
        "  if (everything) return;",
    )
    source.write_text(shim + HOOK)
    flags = ["-O1", "-w", "-fno-builtin", "-shared", "-fPIC"]
    subprocess.run([str(CC), *flags, str(source), "-o", str(library), "-ldl"], check=True)
    return library


def run(script: str, library: Path, *before: str) -> str:
    environment = os.environ | {"LD_PRELOAD": str(library)}
    if before:  # strace itself is not what is watched
        environment.pop("LD_PRELOAD")
        before = (*before, "-E", f"LD_PRELOAD={library}")
    done = subprocess.run(
        [*before, sys.executable, "-c", script, str(library), TESTS],
        env=environment, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_warm_session_makes_no_heap_call_and_takes_no_lock(tmp_path: Path) -> None:
    """In its first decode, of any source and beam within the bounds."""
    counts: dict[str, list[int]] = json.loads(run(COUNTS, hook(tmp_path)))
    heap, _ = counts.pop("cold")
    _, locks = counts.pop("threads")
    assert heap > 0 and locks > 0  # proof that the hooks count
    assert len(counts) > 100
    assert {name: count for name, count in counts.items() if count != [0, 0]} == {}


def test_a_warm_session_makes_no_system_call(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    trial = subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, text=True)
    if trial.returncode != 0:
        pytest.skip(f"strace may not trace here: {trial.stderr.strip()[:100]}")
    log = tmp_path / "calls"
    run(CALLS, hook(tmp_path), strace, "-f", "-o", str(log))
    lines = [line.split(None, 1) for line in log.read_text().splitlines()]
    marks = [number for number, (_, call) in enumerate(lines) if call.startswith("getppid(")]
    assert len(marks) == 6
    thread = lines[marks[0]][0]

    def between(first: int) -> list[str]:
        return [call for who, call in lines[marks[first] + 1 : marks[first + 1]] if who == thread]

    assert between(0) == between(2) == []
    assert any(re.match(r"mmap|brk", call) for call in between(4))  # proof that calls are seen


def test_a_decode_ends_at_the_step_after_it_is_told_to() -> None:
    """A function of the options says so in the middle of a step; its id is still taken."""
    engine = Engine.load(models.lstm_luong())
    flag = ctypes.c_int32(0)

    def third(ids: list[int]) -> list[int]:
        flag.value = int(len(ids) == 2)
        return [3, 4]

    options = DecodeOptions(allowed_tokens=third, max_length=100)
    session = Session(engine, options)
    assert session.decode([5, 6], cancel=ctypes.pointer(flag)) == CANCELLED
    ((ids, log_probs, *_),) = session.found()
    assert len(ids) == len(log_probs) == 3
    flag.value = 1
    assert session.decode([5, 6], cancel=ctypes.pointer(flag)) == CANCELLED
    assert session.found()[0][0] == []  # nor does it begin


def test_batches_within_the_bounds_find_their_memory() -> None:
    engine = Engine.load(models.lstm_luong(), max_input_length=20)
    engine.warm_up(20, 5, 3)
    before = engine.info.workspace_bytes
    engine.decode_batch([[3] * 20] * 3, beam_size=5, batch_size=3)
    assert engine.info.workspace_bytes == before > 0


def test_warm_up_of_models_of_every_kind() -> None:
    for make in [*models.DECODERS.values(), *models.LABELLERS.values(), models.captioner]:
        Engine.load(make()).warm_up(4, 3, 2)
