"""The ONNX importer: PyTorch networks through both of its exporters, driven by onnxruntime."""

from __future__ import annotations

import math
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

sys.path.append(str(Path(__file__).parent / "data" / "onnx"))
import make_onnx as make  # noqa: E402
import onnx_networks as networks  # noqa: E402
from onnx_networks import Graph  # noqa: E402
from verified import check  # noqa: E402

from s2s_engine import Engine  # noqa: E402
from s2s_engine.importers.loading import Imported  # noqa: E402

pytestmark = pytest.mark.parity("torch", "onnx", "onnxruntime")
DATA = Path(__file__).parent / "data" / "onnx"
START, END, MOST = 1, 2, 12
IDS = {"start": START, "end": [END]}
EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["script", "dynamo"])


def exported(name: str, folder: Path, dynamo: bool) -> list[Path]:
    """The files of a network: exported here, or by the other exporter as data/onnx has them."""
    roles = ("encoder", "decoder")
    if not dynamo:
        pair = NETWORKS[name].make()
        return [
            graph.export(folder / f"{role}.onnx", False)
            for role, graph in zip(roles, pair, strict=True)
        ]
    return [stored(f"{name}/{role}", folder) for role in roles]


def stored(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(DATA / "dynamo.zip") as archive:
        member = f"{make.SAME.get(name, name)}.onnx"
        path = folder / Path(member).name
        path.write_bytes(archive.read(member))
    return path


# --- onnxruntime's own searches ---


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - math.log(np.exp(shifted).sum())


def searched(peer: Any, source: list[int], beam: int) -> list[int]:
    """The best of a beam, by sums of log-probabilities; ended hypotheses leave it."""
    live = [(0.0, [], peer.start(peer.encode({"tokens": source})))]
    ended: list[tuple[float, list[int]]] = []
    for _ in range(MOST):
        grown = []
        for score, ids, state in live:
            logits, after = peer.step(ids[-1] if ids else START, state)
            for token, more in enumerate(log_softmax(logits)):
                grown.append((score + more, [*ids, token], after))
        grown.sort(key=lambda one: -one[0])
        seen = grown[:1] if beam == 1 else grown[: 2 * beam]
        ends = [one for one in seen if one[1][-1] == END]
        ended += [(score, ids[:-1]) for score, ids, _ in ends]
        live = [one for one in grown if one[1][-1] != END][:beam]
        if ended and max(e[0] for e in ended) >= live[0][0]:
            break
    ended += [(score, ids) for score, ids, _ in live]
    return max(ended, key=lambda one: one[0])[1]


def searches_agree(imported: Imported, lengths: tuple[int, ...] = (1, 3, 6)) -> None:
    peer, random = imported.peer(), np.random.default_rng(7)
    outputs = set()
    with Engine.load(imported.model) as engine:
        for length in lengths:
            source = random.integers(3, networks.SOURCE, length).tolist()
            for beam in (1, 4):
                ours = engine.decode(source, beam_size=beam, max_length=MOST)
                assert list(ours.ids) == searched(peer, source, beam), (length, beam)
                outputs.add(tuple(ours.ids))
    assert outputs


# --- networks ---


@dataclass(frozen=True)
class Network:
    """without: damages it has no place for. dynamo: options of the other exporter's files alone,
    whose lengths are fixed."""

    make: Callable[[], tuple[Graph, Graph]]
    options: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    dynamo: dict[str, Any] = field(default_factory=dict)

    def given(self, dynamo: bool) -> dict[str, Any]:
        return {**IDS, **self.options, **(self.dynamo if dynamo else {})}

    def runs(self, dynamo: bool) -> dict[str, Any]:
        """Of files with a fixed length, onnxruntime reads no other."""
        if not (dynamo and self.dynamo):
            return {}
        random = np.random.default_rng(4)
        length = self.dynamo["example_length"]
        sources = [{"tokens": random.integers(11, size=length).tolist()} for _ in range(3)]
        return {"sources": sources}

    def lengths(self, dynamo: bool) -> tuple[int, ...]:
        return (networks.LENGTH,) if dynamo and self.dynamo else (1, 3, 6)


FIXED = {"example_length": networks.LENGTH}
NETWORKS = {
    "example": Network(networks.example),
    "plain": Network(networks.plain, without=("concatenation",)),
    "additive": Network(networks.additive),
    "slots": Network(networks.slots, {"padding": "zeros"}, dynamo=FIXED),
    "general": Network(lambda: networks.luong(True), dynamo=FIXED),
    "concat": Network(networks.concat, dynamo=FIXED),
    "cell": Network(networks.cell, without=("concatenation",)),
    "dot": Network(lambda: networks.luong(False)),
}


@EXPORTERS
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_onnxruntimes(name: str, dynamo: bool, tmp_path: Path) -> None:
    if name == "example" and not networks.EXAMPLE.is_file() and not dynamo:
        pytest.skip("the examples are not here")
    if name == "dot" and dynamo:
        pytest.skip("general is stored")
    network = NETWORKS[name]
    files = exported(name, tmp_path, dynamo)
    imported = check(
        files, "onnx", network.given(dynamo), without=network.without, **network.runs(dynamo)
    )
    searches_agree(imported, network.lengths(dynamo))
