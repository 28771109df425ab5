"""No heap call inside the core once a shape has been seen, and no growth over many decodes. Knows a
malloc hook in a process of its own; never what is decoded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = str(Path(__file__).parent)
CC = shutil.which("cc")
SANITIZED = "san" in os.environ.get("LD_PRELOAD", "")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or CC is None or SANITIZED,
    reason="hooks glibc's malloc with a C compiler, as sanitizers do",
)

# Counts heap calls of threads that are inside the core (operator new of libstdc++ calls malloc).
SHIM = r"""
#include <stddef.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_memalign(size_t, size_t), *__libc_realloc(void *, size_t), __libc_free(void *);
static int (*depth)(void);
static volatile long calls;
/* depth() may allocate thread-local storage: it is not asked while it is being asked. */
static __thread int asking __attribute__((tls_model("initial-exec")));

void heap_watch(int (*function)(void)) { depth = function; }
long heap_calls(void) { return calls; }

static void count(void) {
  if (depth == NULL || asking) return;
  asking = 1;
  if (depth() > 0) __sync_fetch_and_add(&calls, 1);
  asking = 0;
}
void *malloc(size_t n) { count(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { count(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { count(); return __libc_realloc(p, n); }
void free(void *p) { if (p != NULL) count(); __libc_free(p); }
void *memalign(size_t a, size_t n) { count(); return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { count(); return __libc_memalign(a, n); }
int posix_memalign(void **out, size_t a, size_t n) {
  count();
  *out = __libc_memalign(a, n);
  return *out == NULL ? 12 : 0;
}
"""

SCRIPT = """
import ctypes, itertools, json, os, sys
sys.path.insert(0, sys.argv[2])
import models
from c_interface import C
from s2s_engine import DecodeOptions, Engine, _core
from s2s_engine.search_rules import PRESETS, STANDING
shim, core = ctypes.CDLL(sys.argv[1]), C
shim.heap_calls.restype = ctypes.c_long
shim.heap_watch(core.s2s_entry_depth)
def counted(call):
    before = shim.heap_calls()
    call()
    return shim.heap_calls() - before
found = {}
x = [3, 4, 5, 6, 7, 8]
for name, make in models.DECODERS.items():
    attention = name != "gru_plain"
    constrained = DecodeOptions(beam_size=3, prefix=[4], suppress_tokens=[5], end_tokens=[7],
                                repetition_penalty=1.2, no_repeat_ngram_size=2,
                                allowed_tokens=[3, 4, 6, 8], max_length=6)
    for isa, weights in itertools.product(_core.available_isas(), ("float32", "int8")):
        engine = Engine.load(make(), isa=isa, compute_type=weights)
        calls = {
            "greedy": lambda: engine.decode(x),
            "beam": lambda: engine.decode(x, beam_size=5, num_hypotheses=5,
                                          return_attention=attention),
            "score": lambda: engine.score(x, [3, 4, 5], length_penalty=0.6),
            **{rule: lambda rule=rule: engine.decode(x, beam_size=5, num_hypotheses=5, min_length=3,
                                                     length_penalty=0.6, early_stop=rule)
               for rule in PRESETS},
            "stay": lambda: engine.decode(x, beam_size=5, search={"ended": "stay", "stop": "top"}),
            **{limit: lambda limit=limit: engine.decode(
                x, beam_size=5, num_hypotheses=5, length_penalty=0.6,
                search={"ended": "expand", "stop": "places", "limit": limit})
               for limit in STANDING},
            "samples": lambda: engine.decode(x, sampling_topk=5, sampling_topp=0.9, seed=1,
                                             num_hypotheses=4),
            "groups": lambda: engine.decode(x, beam_size=6, num_hypotheses=6, beam_groups=3,
                                            diversity_penalty=0.5),
            "exact": lambda: engine.decode(x[:3], exact=True, max_length=4),
            "constraints": lambda: engine.decode(x, options=constrained),
            "coverage": lambda: attention and engine.decode(x, beam_size=3, coverage_penalty=0.3),
            "encode": lambda: engine.encode(x),
            "shorter": lambda: engine.decode(x[:2], beam_size=3, return_attention=attention),
        }
        for kind, call in calls.items():
            found[f"{name} {isa} {weights} {kind}"] = [counted(call) for _ in range(3)]
_core.assume_cpus(4)
for types in ("float32", "int8"):
    engine = Engine.load(models.lstm_luong(hidden=131, target=140), compute_type=types)
    assert "attention.context" in engine.info.folded["decoder.linear"]
    session = _core.Session(engine._core, "", 3, 1)
    for beam in (1, 5):
        call = lambda: session.decode([x], _core.Request(beam, beam, True), 9)
        found[f"{types} beam {beam} on three threads"] = [counted(call) for _ in range(3)]
made = _core.Model
_core.Model = lambda *given, **_: made(*given, screen_from=0)
engine = Engine.load(models.lstm_luong(hidden=67, target=1400))
calls = {"greedy": lambda: engine.decode(x, max_length=70, end_tokens=[]),
         "score": lambda: engine.score(x, [3, 4, 5] * 20),
         "in full": lambda: engine.decode(x, beam_size=2)}
for kind, call in calls.items():
    found[f"screened {kind}"] = [counted(call) for _ in range(3)]
steps, failed, _ = engine._idle[0].screened
assert steps == 3 * (70 + 61) and failed == 0, (steps, failed)
print(json.dumps([found, len(os.listdir("/proc/self/task"))]))
"""


def test_no_heap_call_in_the_second_identical_decode(tmp_path: Path) -> None:
    source, library = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    subprocess.run(
        [str(CC), "-O1", "-w", "-fno-builtin", "-shared", "-fPIC", str(source), "-o", str(library)],
        check=True,
    )
    environment = os.environ | {"LD_PRELOAD": str(library)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(library), TESTS],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts: dict[str, Any]
    counts, tasks = json.loads(done.stdout)
    assert tasks >= 3  # workers took part
    for name, (first, second, third) in counts.items():
        # The first decode of an engine reserves its workspace: proof that the hook counts.
        if name.endswith("greedy"):
            assert first > 0, name
        assert (second, third) == (0, 0), name


def test_memory_does_not_grow_over_100_000_decodes() -> None:
    """`.ci/run` makes a million."""
    command = [sys.executable, str(Path(TESTS) / "growth.py"), "100000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
