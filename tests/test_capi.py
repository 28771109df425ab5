"""Another package, in Cython, built and installed from nothing in a temporary folder: it decodes
without Python's lock what Python decodes, also where it was built for an older release. Knows
tests/downstream; the results of Python are the measure."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import models
import numpy as np
import pytest

import s2s_engine
from s2s_engine import (
    DecodeOptions,
    DecodeTimeout,
    Engine,
    InputError,
    InputTooLongError,
    demo_model,
)

PXD = Path(s2s_engine.__file__).parent / "capi.pxd"
TOOLS = ("Cython", "setuptools", "pip")
MISSING = [name for name in TOOLS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]
LONGEST = 64


def installed(folder: Path, declared: str | None = None) -> ModuleType:
    """The package built in a new folder and installed into another; `declared`: the capi.pxd that
    it is built with, by default the installed one."""
    source, target = folder / "source", folder / "target"
    shutil.copytree(Path(__file__).parent / "downstream", source)
    if declared is not None:
        other = source / "declared" / "s2s_engine"
        other.mkdir(parents=True)
        (other / "__init__.py").touch()
        (other / "capi.pxd").write_text(declared)
    command = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [sys.executable, *command, "--target", str(target), "."],
        cwd=source, env=os.environ | {"CFLAGS": "-O0"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (target / "downstream").glob("stage*.so")
    spec = importlib.util.spec_from_file_location("downstream.stage", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def downstream(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return installed(tmp_path_factory.mktemp("downstream"))


def flat(sources: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    ids = [id_ for source in sources for id_ in source]
    return np.array(ids, np.int32), np.array([len(source) for source in sources], np.int64)


def run(stage: Any, sources: Sequence[Sequence[int]], **given: Any) -> list[Any]:
    """Ids, token_log_probs and log_prob of every source."""
    count = len(sources)
    found, log_probs = np.zeros((count, LONGEST), np.int32), np.zeros((count, LONGEST), np.float32)
    counts, sums = np.zeros((count, 2), np.int64), np.zeros(count)
    stage.decode(*flat(sources), found, log_probs, counts, sums, **given)
    return [
        (found[n, : counts[n, 0]].tolist(), log_probs[n, : counts[n, 1]].tobytes(), sums[n])
        for n in range(count)
    ]


def expected(engine: Engine, sources: Sequence[Sequence[int]], **given: Any) -> list[Any]:
    out = []
    for source in sources:
        best = engine.decode(list(source), **given).hypotheses[0]
        out.append((best.ids, best.token_log_probs.tobytes(), best.log_prob))
    return out


def words(engine: Engine, count: int) -> list[list[int]]:
    """Random letters."""
    random = np.random.default_rng(5)
    size = engine.info.source_vocabularies["tokens"]
    return [
        random.integers(4, size, random.integers(1, 14)).tolist() for _ in range(count)
    ]  # the first ids of this vocabulary are specials


def test_two_threads_without_the_lock_give_the_bits_of_python(downstream: Any) -> None:
    engine = Engine.load(demo_model())
    halves = words(engine, 150), words(engine, 300)[150:]
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        stage = downstream.Stage(engine)
        found[number] = [run(stage, halves[number], beam_size=beam) for beam in (1, 4)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, half in enumerate(halves):
        for beam, results in zip((1, 4), found[number], strict=True):
            assert results == expected(engine, half, beam_size=beam)
    stage = downstream.Stage(engine)
    assert stage.decode_together(*flat(halves[0])) == [ids for ids, *_ in found[0][0]]


def test_two_loops_run_at_the_same_time(downstream: Any) -> None:
    """Neither ends before the other one has begun, and nobody is asked for Python's lock."""
    engine = Engine.load(models.gru_plain())
    flags, met = np.zeros(2, np.int32), [False, False]

    def work(me: int) -> None:
        met[me] = downstream.Stage(engine).meet(flags, me, np.array([3, 4], np.int32))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [True, True]


def test_errors_are_those_of_python(downstream: Any) -> None:
    stage = downstream.Stage(Engine.load(models.gru_plain(), max_input_length=4))
    with pytest.raises(InputError, match="token 0 of source 0 is 99"):
        run(stage, [[99]])
    with pytest.raises(InputTooLongError, match="more than 4"):
        run(stage, [[3] * 5])
    with pytest.raises(InputError, match="beam_size is 0"):
        run(stage, [[3]], beam_size=0)
    with pytest.raises(InputError, match=r"must be a loaded s2s_engine\.Engine"):
        downstream.Stage("g2p.safetensors")
    with pytest.raises(s2s_engine.EngineClosedError):
        engine = Engine.load(models.gru_plain())
        engine.close()
        downstream.Stage(engine)


def test_a_package_built_for_an_older_release_still_runs(downstream: Any, tmp_path: Path) -> None:
    """Of a release whose structs ended sooner, and which had fewer functions."""
    older = PXD.read_text()
    for gone in (
        r"    double timeout\n    const int32_t\* cancel\n",
        r"    double score\n",
        r"cdef int64_t source_vocabulary.*\n",
    ):
        older, count = re.subn(gone, "", older)
        assert count == 1
    stage = installed(tmp_path, older)
    now = downstream.sizes()
    assert stage.sizes() == (now[0] - 16, now[1] - 8, now[2])
    engine = Engine.load(demo_model())
    sources = words(engine, 40)
    assert run(stage.Stage(engine), sources, beam_size=3) == expected(engine, sources, beam_size=3)
    # What it cannot say is as the engine was handed over.
    with pytest.raises(DecodeTimeout):
        run(stage.Stage(engine, DecodeOptions(timeout=0.0)), sources)


def test_a_package_built_for_a_newer_release_is_refused(tmp_path: Path) -> None:
    stage = installed(tmp_path, PXD.read_text().replace("= 0x10000", "= 0x10001"))
    assert (stage.sizes()[2], stage.abi_version()) == (0x10001, 0x10000)
    with pytest.raises(ImportError, match=r"this library has 1\.0"):
        stage.Stage(Engine.load(demo_model()))
