"""Threads inside one decode: equal bits, who starts and sleeps when, forks, limits of a machine.
Knows sessions that share every product; never how long anything takes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from numpy.typing import NDArray

from s2s_engine import Engine, InputError, NumericalError, _core
from s2s_engine.model import Model
from s2s_engine.results import Result
from s2s_engine.threads import automatic, wanted

TESTS = str(Path(__file__).parent)
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MEMBERS = 7
# Wide enough for several panels of outputs in every product.
MODELS: dict[str, Callable[[], Model]] = {
    "gru": lambda: models.gru_plain(hidden=70, target=130),
    "lstm": lambda: models.lstm_luong(hidden=67, target=140),
    "additive": lambda: models.gru_additive(hidden=65, target=97),
}
SOURCES = [[3, 4, 5], [6], [7, 8, 9, 10, 3, 4, 5, 6, 7, 8, 9], [10, 3]]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sessions that share all there is to share, on a machine that seems large enough."""

    def session(engine: Any) -> _core.Session:
        return _core.Session(engine._core, engine._isa or "", engine._threads, 1)

    monkeypatch.setattr(Engine, "_new_session", session)
    _core.assume_cpus(MEMBERS + 1)
    yield
    _core.assume_cpus(0)


def bits(result: Result) -> list[Any]:
    return [
        (h.ids, h.log_prob, h.score, h.token_log_probs.tobytes(), floats(h.attention))
        for h in result.hypotheses
    ]


def floats(array: NDArray[np.float32] | None) -> bytes | None:
    return None if array is None else array.tobytes()


def everything(engine: Engine) -> list[Any]:
    found: list[Any] = []
    attention = "alignment" in engine._model.graphs["decoder"].outputs
    for beam in (1, 4):
        options = {"beam_size": beam, "num_hypotheses": beam, "return_attention": attention}
        found += [bits(engine.decode(x, **options)) for x in SOURCES]
        for size in (1, 3, 64):
            found += [bits(r) for r in engine.decode_batch(SOURCES * 3, batch_size=size, **options)]
    for x in SOURCES:
        found.append(engine.score(x, [3, 4, 5]).token_log_probs.tobytes())
        found.append(engine.forced_logits(x, [3, 4, 5]).tobytes())
        found += [(name, array.tobytes()) for name, array in sorted(engine.encode(x).items())]
    return found


def tasks() -> dict[int, str]:
    """The states of this process's threads."""
    states = {}
    for path in Path("/proc/self/task").iterdir():
        try:
            states[int(path.name)] = (path / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:  # ended in between
            continue
    return states


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("compute_type", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_bits_are_equal_on_any_number_of_threads(name: str, compute_type: str, isa: str) -> None:
    model = MODELS[name]()
    expected = everything(Engine.load(model, compute_type=compute_type, isa=isa))
    for threads in (2, 3, MEMBERS):
        engine = Engine.load(model, compute_type=compute_type, isa=isa, threads=threads)
        assert everything(engine) == expected, threads


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("name", sorted(models.DECODERS))
def test_every_wiring_gives_equal_bits_on_three_threads(name: str) -> None:
    model = models.DECODERS[name]()
    assert everything(Engine.load(model, threads=3)) == everything(Engine.load(model))


@pytest.mark.usefixtures("shared")
def test_labels_are_equal_on_three_threads() -> None:
    one, three = Engine.load(models.tagger()), Engine.load(models.tagger(), threads=3)
    assert [bits(three.decode(x)) for x in SOURCES] == [bits(one.decode(x)) for x in SOURCES]


@pytest.mark.usefixtures("shared")
def test_a_decode_that_failed_leaves_its_team_in_order() -> None:
    model = models.lstm_luong(hidden=67, target=140)
    engine = Engine.load(model, threads=3)
    expected = bits(engine.decode([4, 5]))
    broken = Engine.load(overflowing(), threads=3)
    for _ in range(3):
        with pytest.raises(NumericalError):
            broken.decode([4, 5])
        assert bits(engine.decode([4, 5])) == expected


def overflowing() -> Model:
    """Finite weights whose logits are not."""
    model = models.lstm_luong(hidden=67, target=140)
    (last,) = [
        n
        for n in model.graphs["decoder"].nodes
        if n.name == model.graphs["decoder"].outputs["logits"]
    ]
    tensors = dict(model.tensors)
    tensors[last.weights["weight"]] = np.full((140, 67), 3e38, np.float32)
    return Model(**{**model.__dict__, "tensors": tensors})


# --- who runs, and when ---


@linux
@pytest.mark.usefixtures("shared")
def test_workers_sleep_as_soon_as_a_decode_is_over() -> None:
    engine = Engine.load(MODELS["lstm"](), threads=MEMBERS)
    before = set(tasks())
    for call in (
        lambda: engine.decode(SOURCES[2], beam_size=5),
        lambda: engine.decode_batch(SOURCES * 4, batch_size=1),
    ):
        call()
        here = threading.get_native_id()
        for _ in range(2000):
            others = {state for task, state in tasks().items() if task != here}
            if others == {"S"}:
                break
            time.sleep(0.001)  # others use the CPUs, too
        assert others == {"S"}
    assert len(tasks()) >= MEMBERS  # this one and six workers, of now or of an earlier test
    assert len(set(tasks()) - before) <= 2 * MEMBERS


PROCESS = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import models
from s2s_engine import Engine, _core
def count():
    return len(os.listdir("/proc/self/task"))
def large(threads, share=1):
    engine = Engine.load(models.lstm_luong(hidden=67, target=140))
    return _core.Session(engine._core, "", threads, share)
def run(session, beam=3):
    found = session.decode([[3, 4, 5, 6]], _core.Request(beam, beam), 20)
    return [(h[0], h[1].tobytes()) for h in found.hypotheses]
"""


def process(script: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS + script, TESTS],
        env=os.environ | environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@linux
def test_no_thread_is_started_before_work_is_worth_it() -> None:
    """Threads by id, without those that Python started and joined: the system lists some of these
    for a moment after `join` has returned, with or without an engine."""
    process("""
import threading
joined, start = set(), threading.Thread.start
def started(thread):
    start(thread)
    joined.add(thread.native_id)
threading.Thread.start = started
def ours():
    return {int(name) for name in os.listdir("/proc/self/task")} - before - joined
_core.assume_cpus(4)
before = set()
before = ours()
engine = Engine.load(models.lstm_luong(hidden=40, target=140), threads=4)
engine.decode([3, 4, 5], beam_size=5)  # small: on one thread
engine.decode_batch([[3, 4]] * 8)  # one batch
one = large(1)
expected = run(one)
assert not ours() and not joined
four = large(4)
assert not ours()
assert run(four) == expected
while len(ours()) < 3:  # they start beside the decode
    time.sleep(0.001)
workers = ours()
for _ in range(20):
    assert run(four) == expected
engine.decode_batch([[3, 4]] * 8, batch_size=1)
assert joined and threading.active_count() == 1
assert ours() == workers and len(workers) == 3
""")


@linux
def test_a_process_bound_to_one_cpu_starts_no_thread() -> None:
    process("""
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert _core.usable_cpus() == 1
before = count()
run(large(4))
Engine.load(models.lstm_luong(), threads=4).decode_batch([[3]] * 8, batch_size=1)
assert Engine.load(models.lstm_luong(), threads="auto").info.threads == 1
assert count() == before
""")


@linux
def test_omp_thread_limit_is_kept() -> None:
    process("""
before = count()
assert _core.usable_cpus() == 1
run(large(4))
assert count() == before
""", OMP_THREAD_LIMIT="1")  # fmt: skip


def test_automatic_is_what_the_environment_says() -> None:
    process("""
_core.assume_cpus(8)
assert Engine.load(models.lstm_luong(), threads="auto").info.threads == 3
assert Engine.load(models.lstm_luong()).info.threads == 1
""", OMP_NUM_THREADS="3")  # fmt: skip


@linux
def test_a_system_without_another_thread_leaves_the_caller() -> None:
    process("""
import resource
_core.assume_cpus(2)
one, two = large(1), large(2)
expected = run(one)
before = count()
pages = int(open("/proc/self/statm").read().split()[0])
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (1 << 20), limits[1]))  # no other stack
found = run(two)
assert count() == before
resource.setrlimit(resource.RLIMIT_AS, limits)
assert found == expected
assert run(two) == expected
assert count() == before + 1
""")


FORK = """
_core.assume_cpus(4)
session, serial = large(3), large(1)
expected = run(serial)
assert run(session) == expected
for _ in range(20):
    child = os.fork()
    if child == 0:
        found = run(session) == expected and run(large(3)) == expected and count() > 1
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if run(session) == expected and run(serial) == expected else 3)
        status = os.waitpid(grandchild, 0)[1]
        os._exit(0 if found and status == 0 else 4)
    assert os.waitpid(child, 0)[1] == 0
    assert run(session) == expected
"""


@linux
def test_the_child_of_a_fork_has_teams_of_its_own() -> None:
    process(FORK)


@linux
def test_a_fork_beside_threads_that_decode() -> None:
    process("""
import threading
_core.assume_cpus(6)
expected = run(large(1))
over = []
def work():
    session = large(3)
    while not over:
        assert run(session) == expected
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
session = large(3)
for _ in range(30):
    child = os.fork()
    if child == 0:
        os._exit(0 if run(session) == expected else 3)
    assert os.waitpid(child, 0)[1] == 0
over.append(1)
for thread in threads:
    thread.join()
""")


@linux
@pytest.mark.usefixtures("shared")
def test_many_callers_share_the_cpus() -> None:
    """Teams together have no more threads than there are CPUs, and nobody waits for a team."""
    engine = Engine.load(MODELS["lstm"](), threads=4)
    other = Engine.load(MODELS["gru"](), threads=3)
    expected = [bits(engine.decode(x, beam_size=3)) for x in SOURCES]
    also = [bits(r) for r in other.decode_batch(SOURCES, batch_size=1)]
    before = len(tasks())

    def work(number: int) -> bool:
        for _ in range(10):
            if number % 2 and [bits(engine.decode(x, beam_size=3)) for x in SOURCES] != expected:
                return False
            if [bits(r) for r in other.decode_batch(SOURCES, batch_size=1)] != also:
                return False
        return True

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(work, range(8)))
    assert len(tasks()) <= before + MEMBERS + 8


# --- numbers ---


@pytest.mark.parametrize(
    ("allowed", "quota", "limit", "expected"),
    [(8, 0.0, 0, 8), (8, 2.0, 0, 2), (8, 2.9, 0, 2), (8, 0.5, 0, 1), (2, 6.0, 0, 2), (8, 0.0, 3, 3),
     (8, 2.0, 3, 2), (1, 0.0, 0, 1), (0, 0.0, 0, 1), (4, 0.0, 9, 4)],
)  # fmt: skip
def test_the_least_limit_holds(allowed: int, quota: float, limit: int, expected: int) -> None:
    assert _core.usable(allowed, quota, limit) == expected


def quota(tmp_path: Path, groups: str, files: dict[str, str]) -> float:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return _core.group_quota(str(tmp_path / "cgroup"), str(tmp_path / "mount"))


V1 = "4:memory:/a\n3:cpuset:/a\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "400000 100000\n"}, 4.0),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, 0.0),
        ("0::/a\n", {}, 0.0),
        ("0::/a\n", {"a/cpu.max": "nonsense"}, 0.0),
        ("0::/a\n", {"a/cpu.max": "100000 0\n"}, 0.0),
        ("", {"cpu.max": "50000 100000\n"}, 0.0),
        (V1, {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n",
              "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"}, 2.5),
        (V1, {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "-1\n",
              "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"}, 0.0),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
              "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 3.0),
    ],
)  # fmt: skip
def test_the_quota_of_a_control_group(
    tmp_path: Path, groups: str, files: dict[str, str], expected: float
) -> None:
    assert quota(tmp_path, groups, files) == expected


@pytest.mark.parametrize(
    ("value", "cpus", "expected"),
    [(None, 6, 6), ("4", 6, 4), ("4,2", 6, 4), (" 3 ", 6, 3), ("12", 6, 6), ("0", 6, 6),
     ("x", 6, 6), ("-2", 6, 6), ("", 6, 6), ("\u0664", 6, 6), ("9" * 5000, 6, 6),
     (None, 5000, 1024)],
)  # fmt: skip
def test_automatic(value: str | None, cpus: int, expected: int) -> None:
    environment = {} if value is None else {"OMP_NUM_THREADS": value}
    assert automatic(environment, cpus) == expected


@pytest.mark.parametrize("value", [True, 1.0, "2", "automatic", None, 0, -1, 1025, [2]])
def test_threads_that_are_none(value: object) -> None:
    with pytest.raises(InputError, match="threads is "):
        wanted(value)


def test_the_core_refuses_what_it_cannot_have() -> None:
    engine = Engine.load(models.gru_plain())
    for threads, member_bytes in ((0, 1), (1025, 1), (1, 0)):
        with pytest.raises(InputError, match="must be 1 to"):
            _core.Session(engine._core, "", threads, member_bytes)
    session = _core.Session(engine._core, "")
    with pytest.raises(InputError, match="threads is 0, must be 1 to 1024"):
        session.threads = 0
    assert session.threads == 1
