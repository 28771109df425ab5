"""The engine alone under pytest-benchmark: `pytest benchmarks/`. Needs no peers; under a minute."""

# isort: off
from . import settings  # before NumPy
# isort: on

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from s2s_engine import Engine, _core

from .models import WORDS, gru_model, shipped_model, workloads

pytestmark = pytest.mark.benchmark(min_time=1e-4, max_time=2.0, disable_gc=True)


@pytest.fixture(scope="module")
def w1() -> Iterator[Engine]:
    with Engine.load(gru_model(30, 74), threads=settings.THREADS) as engine:
        yield engine


@pytest.fixture(scope="module")
def g2p() -> Iterator[Engine]:
    with Engine.load(shipped_model()[0], threads=settings.THREADS) as engine:
        yield engine


@pytest.fixture
def w1_source() -> list[int]:
    source = workloads()[0].inputs[0]
    return [int(item) for item in source]


def test_w1_greedy(benchmark: BenchmarkFixture, w1: Engine, w1_source: list[int]) -> None:
    result = benchmark(w1.decode, w1_source)
    assert len(result.ids) == 8


def test_w1_greedy_in_the_core(
    benchmark: BenchmarkFixture, w1: Engine, w1_source: list[int]
) -> None:
    session = w1._new_session()
    found = benchmark(session.decode, [w1_source], _core.Request(), 8)
    assert found.hypotheses[0][0] == w1.decode(w1_source).ids


@pytest.mark.parametrize("beam", [1, 5])
def test_shipped_model(benchmark: BenchmarkFixture, g2p: Engine, beam: int) -> None:
    sources = cycle([list(word) for word in WORDS])
    result = benchmark(lambda: g2p.decode(next(sources), beam_size=beam))
    assert result.ids


@pytest.mark.parametrize("beam", [1, 5])
def test_shipped_model_batch_of_64(benchmark: BenchmarkFixture, g2p: Engine, beam: int) -> None:
    source = cycle([list(word) for word in WORDS])
    batch = [next(source) for _ in range(64)]
    results = benchmark(g2p.decode_batch, batch, batch_size=64, beam_size=beam)
    single = [g2p.decode(word, beam_size=beam).ids for word in batch[: len(WORDS)]]
    assert [result.ids for result in results[: len(WORDS)]] == single


def test_load_w1(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    path = tmp_path / "w1.safetensors"
    gru_model(30, 74).save(path)
    benchmark(Engine.load, path).close()


def test_load_shipped_model(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    path = tmp_path / "g2p.safetensors"
    shipped_model()[0].save(path)
    benchmark(Engine.load, path).close()
