"""Fixtures made again by the programs that made them, wherever environment variables name these,
hold what is committed: `S2S_KERAS1_PYTHON=.../bin/python pytest tests/importers/test_fixtures.py`.
How each program is installed stands at the head of its script."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fixtures import TESTS, Script, content, differences, make_again, names

DATA = TESTS / "data"
KERAS1 = {"KERAS_BACKEND": "theano", "THEANO_FLAGS": "cxx="}
SCRIPTS = {
    "keras 1.2.2": Script(
        "S2S_KERAS1_PYTHON", "make_keras.py", ("keras_1.2.2*.h5",), environment=KERAS1
    ),
    "keras 2.2.4": Script("S2S_KERAS2_PYTHON", "make_keras.py", ("keras_2.2.4*.h5",)),
    "tf_keras": Script("S2S_TF_KERAS_PYTHON", "make_keras.py", ("keras_2.21.0*.h5",)),
    "models of keras 2.2.4": Script(
        "S2S_KERAS2_PYTHON", "keras/make_keras_models.py", ("*_2.2.4.zip", "*_2.2.4.npz")
    ),
    "models of tf_keras": Script(
        "S2S_TF_KERAS_PYTHON", "keras/make_keras_models.py", ("models.zip", "recorded.npz")
    ),
    "tensorflow": Script("S2S_TENSORFLOW_PYTHON", "make_tensorflow.py", ("tensorflow*.*",)),
    "nmt_with_attention": Script(
        "S2S_TF_KERAS_PYTHON", "nmt_with_attention/make.py", ("*.npz", "**/*.index", "**/*.data-*")
    ),
    "nmt_with_attention of 2.0": Script("S2S_TENSORFLOW20_PYTHON", "nmt_older/make.py", ("2.0.*",)),
    "nmt_with_attention of 2.10": Script(
        "S2S_TENSORFLOW210_PYTHON", "nmt_older/make.py", ("2.10.*",)
    ),
    "allennlp": Script("S2S_ALLENNLP_PYTHON", "allennlp/make.py", ("*.tar.gz", "*.npz")),
    "fairseq": Script(
        "S2S_FAIRSEQ_PYTHON", "fairseq/make.py", ("*.pt", "*.npz", "*.txt"), "S2S_FAIRSEQ"
    ),
    "joeynmt": Script("S2S_JOEYNMT_PYTHON", "joeynmt/make.py", ("*.npz", "model/*"), "S2S_JOEYNMT"),
    "marian": Script(
        "S2S_MARIAN_PYTHON", "marian/make_marian.py", ("*.xz", "*.npz", "*.bin", "*.yml")
    ),
    "opennmt 3": Script("S2S_OPENNMT_PYTHON", "opennmt_py/make.py", ("*.pt", "*.npz", "*.xz")),
    "opennmt 1": Script("S2S_OPENNMT1_PYTHON", "opennmt_older/make.py", ("1.*.xz",)),
    "opennmt 2": Script("S2S_OPENNMT2_PYTHON", "opennmt_older/make.py", ("2.*.xz",)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_the_same_files(name: str, tmp_path: Path) -> None:
    script = SCRIPTS[name]
    made, kept = make_again(script, tmp_path), (DATA / script.path).parent
    files = names(kept, script.files)
    assert files and names(made, script.files) == files
    for file in files:
        new, tolerance = content(made / file)
        old, _ = content(kept / file)
        assert not list(differences(new, old, file, tolerance))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_which_files_are_its_own(name: str) -> None:
    script = SCRIPTS[name]
    assert (DATA / script.path).is_file()
    assert names((DATA / script.path).parent, script.files)


def test_differences_are_seen(tmp_path: Path) -> None:
    """In an array's last bit and in a member's text, but not in dates."""

    def archive(weight: float, text: str, day: int) -> Path:
        file = io.BytesIO()
        np.savez(file, a=np.array([weight, 2.0], np.float32))
        path = tmp_path / f"{weight}{text}{day}.zip"
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr(zipfile.ZipInfo("a.npz", (2020, 1, day, 0, 0, 0)), file.getvalue())
            zipped.writestr("b.json", json.dumps({"x": [1, text], "sha256": day}))
        return path

    def found(one: Path, other: Path) -> list[str]:
        return list(differences(content(one)[0], content(other)[0], "", 0.0))

    whole = archive(1.0, "y", 1)
    assert found(whole, archive(1.0, "y", 2)) == []
    assert found(whole, archive(1.0000001, "y", 1)) == ["/a.npz/a"]
    assert found(whole, archive(1.0, "z", 1)) == ["/b.json/x/1: y for z"]
