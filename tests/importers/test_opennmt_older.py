"""The OpenNMT-py importer on checkpoints that releases 1.2.0 and 2.3.0 trained and saved, against
what their own translate gives."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from fixtures import sums_hold
from verified import check

from s2s_engine import Engine

DATA = Path(__file__).parent / "data" / "opennmt_older"
VERSIONS = ("1.2.0", "2.3.0")
# The settings of make.py in words of ours: min_length leaves the end out.
SETTINGS: list[dict[str, Any]] = [
    {"max_length": 15},
    {"num_hypotheses": 4, "beam_size": 4, "min_length": 2, "max_length": 9},
    {
        "num_hypotheses": 2, "max_length": 12, "length_penalty": 0.8,
        "length_penalty_kind": "gnmt", "length_penalty_offset": 1,
    },
]  # fmt: skip


def unpacked(version: str, folder: Path) -> Path:
    path = folder / f"{version}.pt"
    path.write_bytes(lzma.decompress((DATA / f"{version}.pt.xz").read_bytes()))
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_n_best_lists_are_those_of_its_translate(version: str, tmp_path: Path) -> None:
    recorded = json.loads(lzma.decompress((DATA / f"{version}.json.xz").read_bytes()))
    outputs = set()
    with Engine.load(unpacked(version, tmp_path)) as engine:
        assert engine.info.generation["beam_size"] == 5
        assert engine.info.generation["max_length"] == 100
        for options, lists in zip(SETTINGS, recorded["found"], strict=True):
            for source, listed in zip(recorded["sources"], lists, strict=True):
                found = engine.decode(source, **options).hypotheses
                assert [h.tokens for h in found] == [words for words, _ in listed]
                for h, (_, score) in zip(found, listed, strict=True):
                    assert abs(h.score - score) <= 1e-3
                    outputs.add(tuple(h.ids))
    assert len(outputs) > 20


@pytest.mark.parity("torch")
@pytest.mark.parametrize(("version", "stop"), [("1.2.0", "top"), ("2.3.0", "both")])
def test_the_checkpoint_is_pytorchs_modules(version: str, stop: str, tmp_path: Path) -> None:
    """Of its vocabularies only those of both sides are inputs; 1.2.0 has one of corpora besides."""
    model = check(unpacked(version, tmp_path), "opennmt_py").model
    assert list(model.graphs["encoder"].inputs) == ["tokens"]
    assert model.generation["search"] == {"ended": "place", "stop": stop}


def test_the_fixtures_are_those_that_were_made() -> None:
    sums_hold(DATA)
