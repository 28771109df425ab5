"""Files that Keras 2 wrote (data/keras/make.py), beside the values that Keras 2 computed."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from verified import Recorded, check

from s2s_engine.importers.loading import open_foreign
from s2s_engine.importers.readers.hdf5_files import read_keras
from s2s_engine.importers.verification import verify

DATA = Path(__file__).parent / "data" / "keras"
RULES = {"start": 1, "end": [2], "reverse_source": False}
NO_JOIN = ("concatenation",)
# Models by name, with the damages that have no place in them.
NAMES = {
    "lstm_seq2seq": NO_JOIN,
    "gru_after": NO_JOIN,
    "gru_before": NO_JOIN,
    "bidirectional": (),
    "masked": (),
    "additive": (),
    "cudnn": NO_JOIN,
}
OLDER = {"older_lstm_seq2seq": NO_JOIN, "older_gru": NO_JOIN, "older_bidirectional": ()}
ALL = {**NAMES, **OLDER}  # fmt: skip


def end(name: str) -> str:
    return "_2.2.4" if name in OLDER else ""


def recorded(name: str, path: Path | None = None) -> Recorded:
    with np.load(path or DATA / f"recorded{end(name)}.npz") as arrays:
        return Recorded(
            "keras 2.2.4" if name in OLDER else "tf_keras 2.21.0",
            {key[len(name) + 1 :]: arrays[key] for key in arrays if key.startswith(f"{name}/")},
        )


def unpacked(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(DATA / f"models{end(name)}.zip") as packed:
        return Path(packed.extract(f"{name}.h5", folder))


def test_the_fixtures_are_those_that_were_made() -> None:
    sums = json.loads((DATA / "sha256.json").read_text())
    for name, digest in sums.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest


@pytest.mark.parity("h5py")
@pytest.mark.parametrize("name", ALL)
def test_a_model_is_what_keras_2_computed(name: str, tmp_path: Path) -> None:
    values = recorded(name)
    check(
        unpacked(name, tmp_path),
        "keras",
        RULES,
        peer=values,
        without=ALL[name],
        **values.runs,
    )


@pytest.mark.parity("keras", "torch", "h5py")
@pytest.mark.parametrize("name", ["gru_after", "bidirectional", *OLDER])
def test_keras_3_computes_the_same_from_a_file_of_keras_2(name: str, tmp_path: Path) -> None:
    imported = open_foreign(unpacked(name, tmp_path), None, RULES)
    found = verify(imported.model, imported.peer())
    assert found.passed, str(found)


@pytest.mark.parity("h5py")
def test_keras_3_has_no_layer_of_cudnn(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    imported = open_foreign(unpacked("cudnn", tmp_path), None, RULES)
    with pytest.raises(ValueError, match="Keras 3 has no layer CuDNNLSTM"):
        imported.peer()


@pytest.mark.parity("h5py")
@pytest.mark.filterwarnings("ignore")
def test_the_script_makes_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("tf_keras")
    sys.path.insert(0, str(DATA))
    from make_keras_models import make

    make(tmp_path)
    for name in NAMES:
        made = read_keras(tmp_path / f"{name}.h5")
        kept = read_keras(unpacked(name, tmp_path / "kept"))
        assert made.config == kept.config
        for key, array in kept.arrays.items():
            np.testing.assert_allclose(made.arrays[key], array, atol=1e-6)
        again = recorded(name, tmp_path / "recorded.npz").arrays
        for key, array in recorded(name).arrays.items():
            np.testing.assert_allclose(again[key], array, atol=1e-5)
