"""The nmt_with_attention importer on checkpoints of the tutorial's first version that the
TensorFlow of its time trained and saved, against what that TensorFlow computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures import sums_hold
from verified import Recorded, check

from s2s_engine import Engine

DATA = Path(__file__).parent / "data" / "nmt_older"
VERSIONS = ("2.0.4", "2.10.1")
OPTIONS = {
    "start": 3, "end": 2, "source_start": 2, "source_end": 3, "w1_reads": "query",
    "padded_length": 0,
}  # fmt: skip


def recorded(version: str) -> Recorded:
    with np.load(DATA / f"{version}.npz") as file:
        return Recorded(f"TensorFlow {version}", dict(file))


@pytest.mark.parametrize("version", VERSIONS)
def test_tensorflow_computes_the_same(version: str) -> None:
    peer = recorded(version)
    check(DATA / f"{version}-1", "nmt_with_attention", OPTIONS, peer=peer, **peer.runs)


@pytest.mark.parametrize("version", VERSIONS)
def test_greedy_searches_of_tensorflow(version: str) -> None:
    peer = recorded(version)
    with Engine.load(DATA / f"{version}-1", **OPTIONS) as engine:
        for case in peer.cases:
            wanted = peer.arrays[f"{case}/greedy"].tolist()
            best = engine.decode(None, inputs=peer.inputs(case), prepared=True, max_length=6)
            ended = [2] if best.hypotheses[0].finish_reason == "eos" else []
            assert [*best.ids, *ended] == wanted


def test_the_fixtures_are_those_that_were_made() -> None:
    sums_hold(DATA)
