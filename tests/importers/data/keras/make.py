"""The fixtures of tests/importers/test_keras_fixtures.py: models written and run by Keras 2.

    pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0
    TF_USE_LEGACY_KERAS=1 python tests/importers/data/keras/make.py [folder]

tf_keras is Keras 2 (its files say keras_version 2.21.0). Seed 0 for every model; models.zip has the
files, recorded.npz what the models give for sources and targets: logits, which are the output of
the same model with a linear last layer. `cudnn` has the weights as tf_keras itself converts them
for CuDNN's layers, which it runs on graphics processors alone: its values are those of the LSTM and
the GRU that they are made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402
from keras_models import (  # noqa: E402
    SOURCE,
    TARGET,
    attentive,
    bidirectional,
    gru,
    lstm_seq2seq,
    randomised,
)

CASES = {
    # The default of Keras before 2.3.
    "lstm_seq2seq": lambda k: lstm_seq2seq(k, recurrent_activation="hard_sigmoid"),
    "gru_after": gru,
    "gru_before": lambda k: gru(k, reset_after=False, recurrent_activation="hard_sigmoid"),
    "bidirectional": lambda k: bidirectional(k, "ave"),
    "masked": lambda k: attentive(k, "concat scaled", mask=True),
    "additive": lambda k: attentive(k, "additive scaled"),
}
START = 1
RUNS = [([3], [4, 0, 5, 2, 6]), ([4, 1, 8, 2, 6, 3, 7], [0, 3, 0, 0, 5])]


def linear(keras: Any, model: Any) -> Any:
    """The model without its last softmax."""
    config = model.get_config()
    last = config["layers"][-1]["config"]
    (last["layer"]["config"] if "layer" in last else last)["activation"] = "linear"
    other = keras.Model.from_config(config)
    other.set_weights(model.get_weights())
    return other


def logits(model: Any, source: list[int], target: list[int]) -> np.ndarray:
    given = [[source], [[START, *target]]]
    one_hot = len(model.inputs[0].shape) == 3
    sizes = (SOURCE, TARGET)
    arrays = [
        np.eye(size, dtype=np.float32)[ids] if one_hot else np.array(ids)
        for ids, size in zip(given, sizes, strict=True)
    ]
    return model(arrays).numpy()[0]


def cudnn(keras: Any, folder: Path, recorded: dict[str, np.ndarray]) -> None:
    """An encoder-decoder of an LSTM and a GRU, written as CuDNNLSTM and CuDNNGRU."""
    import h5py
    from tf_keras.src.saving.legacy import hdf5_format

    k, L = keras, keras.layers
    source, target = k.Input((None,), name="words"), k.Input((None,), name="answer")
    x = L.Embedding(SOURCE, 4, name="x")(source)
    _, h, _ = L.LSTM(5, return_state=True, name="reader")(x)
    y = L.Embedding(TARGET, 4, name="y")(target)
    y = L.GRU(5, return_sequences=True, name="writer")(y, initial_state=h)
    model = k.Model([source, target], L.Dense(TARGET, activation="softmax", name="out")(y))
    randomised(model)
    record("cudnn", linear(k, model), recorded)
    model.save(folder / "cudnn.h5")
    # The converter of Keras is asked for each layer, and takes a layer of the other class.
    kinds = {"reader": "CuDNNLSTM", "writer": "CuDNNGRU"}
    with h5py.File(folder / "cudnn.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            name = layer["config"]["name"]
            if name not in kinds:
                continue
            layer["class_name"] = kinds[name]
            keep = ("name", "trainable", "dtype", "return_sequences", "return_state",
                    "go_backwards", "stateful", "units")  # fmt: skip
            layer["config"] = {key: layer["config"][key] for key in keep}
            other = getattr(k.layers, kinds[name], None) or getattr(
                __import__("tensorflow").compat.v1.keras.layers, kinds[name]
            )
            given = model.get_layer(name).get_weights()
            made = other(5, name=name)
            arrays = hdf5_format._convert_rnn_weights(made, given)
            group = file["model_weights"][name]
            names = [os.fsdecode(text) for text in group.attrs["weight_names"]]
            for path, array in zip(names, arrays, strict=True):
                del group[path]
                group[path] = array
        file.attrs["model_config"] = json.dumps(config)


def record(name: str, model: Any, recorded: dict[str, np.ndarray]) -> None:
    for number, (source, target) in enumerate(RUNS):
        found = logits(model, source, target)
        recorded[f"{name}/{number}/in/tokens"] = np.array(source)
        recorded[f"{name}/{number}/target"] = np.array(target)
        recorded[f"{name}/{number}/decoder.logits"] = found


def make(folder: Path) -> None:
    import tf_keras as keras

    recorded: dict[str, np.ndarray] = {}
    for name, build in CASES.items():
        keras.backend.clear_session()
        model = randomised(build(keras))
        model.save(folder / f"{name}.h5")
        record(name, linear(keras, model), recorded)
    cudnn(keras, folder, recorded)
    np.savez_compressed(folder / "recorded.npz", **recorded)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        (target / "recorded.npz").write_bytes(Path(folder, "recorded.npz").read_bytes())
        with zipfile.ZipFile(target / "models.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for one in sorted(Path(folder).glob("*.h5")):
                packed.writestr(zipfile.ZipInfo(one.name), one.read_bytes(), zipfile.ZIP_DEFLATED)
    names = ("models.zip", "recorded.npz")
    sums = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in names}
    (target / "sha256.json").write_text(json.dumps(sums, indent=2) + "\n")
