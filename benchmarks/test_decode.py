"""The engine alone under pytest-benchmark: `pytest benchmarks/`. Needs no peers; under two minutes.
Answers are checked once a time is taken; nothing here is compared with anything."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from s2s_engine import Engine
from s2s_engine.bench.contenders import COMPUTE_TYPES
from s2s_engine.bench.workloads import Workload, workloads

pytestmark = pytest.mark.benchmark(min_time=1e-4, max_time=2.0, min_rounds=3, disable_gc=True)
NAMES = ("w1", "w2", "w3", "w4", "shipped")
SEARCHES = [
    pytest.param(name, number, id=f"{name}-{search}")
    for name in NAMES
    for number, search in enumerate(
        {"w1": ("greedy",), "w3": ("greedy", "beam", "batch")}.get(name, ("greedy", "beam"))
    )
]


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, list[Workload]]]:
    """Workloads by name, made when first asked for."""

    class Made(dict[str, list[Workload]]):
        def __missing__(self, name: str) -> list[Workload]:
            self.clear()  # one model at a time: W3 and W4 are large
            self[name] = workloads([name])
            return self[name]

    yield Made()


@pytest.mark.parametrize("compute_type", COMPUTE_TYPES)
@pytest.mark.parametrize(("name", "number"), SEARCHES)
def test_decode(
    benchmark: BenchmarkFixture,
    made: dict[str, list[Workload]],
    name: str,
    number: int,
    compute_type: str,
) -> None:
    workload = made[name][number]
    try:
        engine = Engine.load(workload.model, compute_type=compute_type)
    except NotImplementedError:
        pytest.skip(f"{compute_type} is not built")
    options = {"beam_size": workload.beam, **workload.options}
    with engine:
        if workload.batch > 1:

            def batch() -> list[list[int]]:
                how = {"batch_size": workload.batch, **options}
                return [result.ids for result in engine.decode_batch(workload.inputs, **how)]

            first = benchmark(batch)[0]
        else:
            sources = cycle(workload.inputs)
            benchmark(lambda: engine.decode(next(sources), **options).ids)
            first = engine.decode(workload.inputs[0], **options).ids
        assert first == engine.decode(workload.inputs[0], **options).ids
        if not workload.model.end:
            assert len(first) == workload.model.generation["max_length"]


@pytest.mark.parametrize("name", ["w1", "shipped"])
def test_load(
    benchmark: BenchmarkFixture, made: dict[str, list[Workload]], name: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    made[name][0].model.save(path)
    benchmark(Engine.load, path).close()
