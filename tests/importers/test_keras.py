"""The Keras importer: models of every layer, made by Keras here and now, beside Keras itself."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_models import MODELS, SOURCE, TARGET, lstm_seq2seq, randomised
from verified import check

from s2s_engine import Engine, InputError, ModelFormatError
from s2s_engine.importers.loading import import_model, open_foreign
from s2s_engine.importers.verification import verify

RULES = {"start": 1, "end": [2], "reverse_source": False}
ALONE = ("tagger", "classifier", "classifier max", "repeated")


def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")


def saved(path: Path, model: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def made(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return randomised(MODELS[name][0](keras()))


def options(name: str) -> dict[str, Any]:
    if name == "repeated":
        return {"reverse_source": False}
    return {} if name in ALONE else dict(RULES)


@pytest.mark.parity("keras", "torch", "h5py")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_what_keras_computes(name: str, tmp_path: Path) -> None:
    model = made(name)
    imported = check(
        saved(tmp_path / "model.keras", model), "keras", options(name), without=MODELS[name][1]
    )
    # The older format has the same graphs and weights.
    older = open_foreign(saved(tmp_path / "model.h5", model), None, options(name))
    assert verify(older.model, imported.peer()).passed
