"""The g2p_en importer: its own checkpoint where it is there, and a random one of its names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from verified import check

from s2s_engine import Engine, InputError, ModelFormatError

SHARED = Path(os.environ.get("S2S_SHARED_DATA", "-")) / "g2p_en"
with_data = pytest.mark.skipif(not SHARED.is_dir(), reason="S2S_SHARED_DATA names no such folder")


def arrays(source: int = 11, target: int = 9, e: int = 5, h: int = 6) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    shapes = {
        "enc_emb": (source, e),
        "dec_emb": (target, e),
        "fc_w": (target, h),
        "fc_b": (target,),
    }
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * h, e), f"{side}_w_hh": (3 * h, h)}
        shapes |= {f"{side}_b_ih": (3 * h,), f"{side}_b_hh": (3 * h,)}
    return {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


@pytest.mark.parity("torch")
def test_a_random_checkpoint_is_pytorchs_grus(tmp_path: Path) -> None:
    np.savez(tmp_path / "checkpoint.npz", **arrays())
    imported = check(tmp_path / "checkpoint.npz", "g2p_en", without=("concatenation",))
    assert imported.model.vocabularies == {}
    assert imported.model.provenance["importer"] == "g2p_en"


def test_vocabularies_are_taken_from_options_and_checked(tmp_path: Path) -> None:
    listed = [f"t{n}" for n in range(9)]
    (tmp_path / "letters.txt").write_text("\n".join("abcdefghijk") + "\n")
    options = {"source_vocabulary": tmp_path / "letters.txt", "target_vocabulary": listed}
    with Engine.load(arrays(), **options) as engine:
        assert engine.decode(list("abc")).ids == engine.decode([0, 1, 2]).ids
        assert engine.info.vocabularies["target"] == tuple(listed)
    with pytest.raises(InputError, match="the target vocabulary has 2 strings, must have 9"):
        Engine.load(arrays(), target_vocabulary=["a", "b"])


def test_what_is_missing_is_named() -> None:
    broken = arrays()
    del broken["dec_b_hh"]
    with pytest.raises(ModelFormatError, match="importer g2p_en knows it: dec_b_hh"):
        Engine.load(broken)
    with pytest.raises(InputError, match="has no option 'reverse'; its options are source_vocab"):
        Engine.load(arrays(), importer="g2p_en", reverse=True)
    with pytest.raises(InputError, match=r"there is no importer 'g2p'; importers are .*g2p_en"):
        Engine.load(arrays(), importer="g2p")


@with_data
@pytest.mark.parametrize("beam_size", [1, 5])
def test_all_expected_words(beam_size: int) -> None:
    lines = (SHARED / "expected_cmudict1500.jsonl").read_text().splitlines()
    expected = [json.loads(line) for line in lines]
    with Engine.load(SHARED / "checkpoint20.npz", importer="g2p_en") as engine:
        words = [list(one["word"]) for one in expected]
        results = engine.decode_batch(words, beam_size=beam_size)
    assert len(expected) == 1500
    for one, result in zip(expected, results, strict=True):
        want = one["greedy"] if beam_size == 1 else one["beam5"][0]["out"]
        assert " ".join(result.tokens) == want, one["word"]


@with_data
@pytest.mark.parity("torch")
def test_its_own_checkpoint_is_pytorchs_grus() -> None:
    check(SHARED / "checkpoint20.npz", "g2p_en", without=("concatenation",))
