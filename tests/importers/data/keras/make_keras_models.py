"""The fixtures of tests/importers/test_keras_fixtures.py: models written and run by Keras 2.

    pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0
    TF_USE_LEGACY_KERAS=1 python tests/importers/data/keras/make_keras_models.py [folder]

tf_keras is Keras 2 (its files say keras_version 2.21.0). Seed 0 for every model; models.zip has the
files, recorded.npz what the models give for sources and targets: logits, which are the output of
the same model with a linear last layer. `cudnn` has the weights as tf_keras itself converts them
for CuDNN's layers, which it runs on graphics processors alone: its values are those of the LSTM and
the GRU that they are made of.

The older ones, models_2.2.4.zip and recorded_2.2.4.npz, by the same script in Python 3.7:

    pip install keras==2.2.4 tensorflow==1.15.5 h5py==2.10.0
    python tests/importers/data/keras/make_keras_models.py
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

OLDER = {  # with that version's defaults: hard_sigmoid, and the reset before the product
    "older_lstm_seq2seq": lstm_seq2seq,
    "older_gru": gru,
    "older_bidirectional": lambda k: bidirectional(k, repeat=False),
}
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
    arrays = [np.array(ids) for ids in given]
    if one_hot:
        arrays = [np.eye(SOURCE)[arrays[0]], np.eye(TARGET)[arrays[1]]]
    return model.predict(arrays)[0]


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


def make(folder: Path) -> str:
    """Writes the files; the end of the names of what is kept of them."""
    try:
        import tf_keras as keras
    except ImportError:
        import keras
    older = keras.__version__ == "2.2.4"
    recorded: dict[str, np.ndarray] = {}
    for name, build in (OLDER if older else CASES).items():
        keras.backend.clear_session()
        model = randomised(build(keras))
        model.save(str(folder / f"{name}.h5"))
        record(name, linear(keras, model), recorded)
    if not older:
        cudnn(keras, folder, recorded)
    np.savez_compressed(folder / "recorded.npz", **recorded)
    return "_2.2.4" if older else ""


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    with tempfile.TemporaryDirectory() as folder:
        end = make(Path(folder))
        kept = target / f"recorded{end}.npz"
        kept.write_bytes(Path(folder, "recorded.npz").read_bytes())
        with zipfile.ZipFile(target / f"models{end}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for one in sorted(Path(folder).glob("*.h5")):
                packed.writestr(zipfile.ZipInfo(one.name), one.read_bytes(), zipfile.ZIP_DEFLATED)
    files = sorted([*target.glob("models*.zip"), *target.glob("recorded*.npz")])
    sums = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}
    (target / "sha256.json").write_text(json.dumps(sums, indent=2) + "\n")
