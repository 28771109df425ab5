"""What is left of a model's weights in Python once an engine has packed them, and what pickles need
of it. Knows arrays by their ends, never a process's size."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import models
import numpy as np
import pytest
from test_convert import arrays
from test_engine import bits

from s2s_engine import Engine, Model, ModelBuilder, ModelFormatError, _core, format, self_test

X = [4, 5, 6]
Alive = Callable[[], int]


@pytest.fixture(params=[1, 1 << 40], ids=["mapped", "read"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of reading a file, whatever its size."""
    monkeypatch.setattr(format, "MAPPED", request.param)
    return "mapped" if request.param == 1 else "read"


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Alive:
    """Counts what exists of the arrays that the core was given, and of what they are views of."""
    seen: list[weakref.ref[Any]] = []
    make = _core.Model

    def spy(graphs: Any, tensors: dict[str, Any], *rest: Any, **options: Any) -> _core.Model:
        for array in tensors.values():
            while isinstance(array, np.ndarray):
                seen.append(weakref.ref(array))
                array = array.base
        return make(graphs, tensors, *rest, **options)

    monkeypatch.setattr(_core, "Model", spy)

    def count() -> int:
        assert seen
        return sum(reference() is not None for reference in seen)

    return count


def model(hidden: int = 6) -> Model:
    return self_test.attach(models.lstm_luong(hidden=hidden))


def saved(folder: Path, storage: str = "float32", hidden: int = 6) -> Path:
    path = folder / f"{storage}.safetensors"
    model(hidden).save(path, storage=storage)
    return path


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@pytest.mark.parametrize("compute_type", ["float32", "int8", "auto"])
def test_an_engine_from_a_file_keeps_no_weights(
    storage: str, compute_type: str, tmp_path: Path, alive: Alive, way: str
) -> None:
    engine = Engine.load(saved(tmp_path, storage), compute_type=compute_type)
    assert alive() == 0
    assert not engine._model.tensors and engine._model.graphs
    assert engine.info.parameters == sum(a.size for a in model().tensors.values())
    assert engine.self_test().largest_difference < (1e-4 if compute_type == "float32" else 1)
    with engine.stream(X) as stream:
        assert list(stream)
    assert alive() == 0


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_an_engine_from_bytes_keeps_the_bytes_alone(
    kind: Any, tmp_path: Path, alive: Alive
) -> None:
    data = saved(tmp_path).read_bytes()
    engine = Engine.load(kind(data))
    assert alive() == 0 and not engine._model.tensors
    if kind is bytes:
        assert engine._origin is data
    assert engine._origin == data


def test_an_engine_of_a_model_keeps_the_callers_own_arrays(alive: Alive) -> None:
    given = model()
    engine = Engine.load(given)
    assert engine._model is given and alive() > 0
    expected = bits(engine.decode(X))
    del given
    assert bits(pickle.loads(pickle.dumps(engine)).decode(X)) == expected
    del engine
    assert alive() == 0


def test_a_load_leaves_little_behind_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy and Python tell tracemalloc of all that they take, but for mapped pages."""
    monkeypatch.setattr(format, "MAPPED", 1 << 40)
    path = saved(tmp_path, hidden=96)
    size = path.stat().st_size
    Engine.load(path)  # what is made once
    tracemalloc.start()
    try:
        engine = Engine.load(path)
        left, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 500_000
    assert left < size / 4
    assert most < 1.5 * size, "the file, and no copy of its numbers beside it"
    assert engine.decode(X).ids


def origins() -> dict[str, Callable[[Path], Any]]:
    return {
        "a file": saved,
        "a file in bfloat16": lambda folder: saved(folder, "bfloat16"),
        "bytes": lambda folder: saved(folder).read_bytes(),
        "a bytearray": lambda folder: bytearray(saved(folder).read_bytes()),
        "a model": lambda folder: model(),
        "a model of a file": lambda folder: format.read(saved(folder)),
        "a checkpoint": lambda folder: arrays(),
    }


@pytest.mark.parametrize("origin", origins())
def test_pickles_of_every_origin_give_the_same_bits(origin: str, tmp_path: Path, way: str) -> None:
    engine = Engine.load(origins()[origin](tmp_path), compute_type="int8")
    again = pickle.loads(pickle.dumps(engine))
    twice = pickle.loads(pickle.dumps(again))
    expected = bits(engine.decode(X, prepared=True, beam_size=3))
    for other in (again, twice):
        assert bits(other.decode(X, prepared=True, beam_size=3)) == expected
        assert other.info.compute_types == engine.info.compute_types
        assert other.info.parameters == engine.info.parameters > 0
        assert other.info.vocabularies == engine.info.vocabularies
        if engine._model.self_test is not None:
            assert other.self_test() == engine.self_test()
    if isinstance(engine._origin, (str, bytes)):
        assert other.info.digest == engine.info.digest != ""
    snapshot = engine.start(X, prepared=True).feed([5]).snapshot()
    assert np.array_equal(
        twice.resume(snapshot).log_probs, engine.start(X, prepared=True).feed([5]).log_probs
    )


def shifted(data: bytes) -> bytes:
    """The same file with a longer header, so that its numbers stand at odd addresses."""
    length = int.from_bytes(data[:8], "little")
    header, digest = data[8 : 8 + length] + b" ", format.digest_of(data).encode()
    whole = (length + 1).to_bytes(8, "little") + header + data[8 + length :]
    sealed = hashlib.sha256(whole.replace(digest, format.NO_DIGEST)).hexdigest().encode()
    return whole.replace(digest, sealed)


def test_arrays_are_views_only_on_bytes_that_nobody_changes(tmp_path: Path, way: str) -> None:
    path = saved(tmp_path)
    expected, given = model().tensors, path.read_bytes()
    changed = bytearray(given)
    found = [format.read(path), *map(format.from_bytes, (given, changed, shifted(given)))]
    found.append(format.from_bytes(memoryview(changed)))
    changed[:] = bytes(len(changed))
    for read in found:
        for name, array in read.tensors.items():
            assert np.array_equal(array, expected[name])
            assert array.flags.aligned and not array.flags.writeable


def test_a_file_that_grows_or_shrinks_meanwhile_is_read_as_it_is(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `fstat` said is not what there is."""
    path = saved(tmp_path)
    size = path.stat().st_size
    digest = format.read_with_digest(path)[1]
    monkeypatch.setattr(format.os, "fstat", lambda file: SimpleNamespace(st_size=size + 5000))
    assert format.read_with_digest(path)[1] == digest
    monkeypatch.setattr(format.os, "fstat", lambda file: SimpleNamespace(st_size=size - 4))
    if way == "mapped":
        with pytest.raises(ModelFormatError, match="truncated"):
            format.read_with_digest(path)


def address_space() -> int:
    """Bytes of private writable memory that this process has asked for, touched or not."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))


def embedded(tied: bool, ids: int = 200_000, size: int = 32) -> Model:
    w = models.Weights(9)
    first = w(ids, size)
    second = first if tied else first.copy()
    m = ModelBuilder(source=ids, target=ids)
    e, d = m.encoder, m.decoder
    e.output(h=e.gru(e.embedding(e.tokens, first), w.gru(size, 4))[1])
    h = d.gru_cell(d.embedding(d.token, second), d.state("h", initial="h"), w.gru(size, 4))
    d.next(h=h)
    d.output(logits=d.linear(h, w(ids, 4)))
    return m.build(start=1, end=[2])


@pytest.mark.skipif(
    sys.platform != "linux" or "san" in os.environ.get("LD_PRELOAD", ""),
    reason="reads /proc, where sanitizers have memory of their own",
)
def test_the_core_has_one_table_of_embeddings_that_share_a_weight() -> None:
    given = {tied: embedded(tied) for tied in (True, False)}
    taken, engines = {}, []
    for tied, one in given.items():
        before = address_space()
        engines.append(Engine.load(one))
        taken[tied] = address_space() - before
    assert taken[False] - taken[True] > 0.5 * (200_000 * 32 * 4)
    one, other = (bits(e.decode([5, 70_000, 199_999], max_length=3)) for e in engines)
    assert one == other
