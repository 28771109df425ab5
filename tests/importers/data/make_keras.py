"""Writes the Keras files beside this file, one set with each of: Keras 1.2.2 (Theano 1.0.5, h5py
2.10.0, Python 3.7), Keras 2.2.4 (TensorFlow 1.15.5, h5py 2.10.0, Python 3.7) and tf_keras 2.21.0
(TensorFlow 2.21.0, h5py 3.14.0, Python 3.11): `python make_keras.py`, for Keras 1 with
KERAS_BACKEND=theano THEANO_FLAGS=cxx=.

Weights are drawn as `numbers` says, of seed 1. keras.json has for each file its SHA-256, the
weights by the names and in the order of Keras itself, and what the model answers to `TOKENS`."""

# mypy: ignore-errors
from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import h5py
import numpy as np

try:
    import tf_keras as keras
    from tf_keras import layers
except ImportError:
    import keras
    from keras import layers

HERE = Path(__file__).parent
VERSION = keras.__version__
MAJOR = int(VERSION.split(".")[0])
TOKENS = [[1, 2, 0, 6, 3]]


def numbers(shapes):
    """Multiples of 1/1024, the same in every version of NumPy."""
    generator = np.random.RandomState(1)
    return [(generator.randint(-512, 512, size=shape) / 1024).astype("float32") for shape in shapes]


def network():
    inside = layers.LSTM(2, return_sequences=True, name="lstm")
    if MAJOR == 1:
        grus = [layers.GRU(3, name="gru_before")]
    else:
        grus = [
            layers.GRU(2, return_sequences=True, reset_after=True, name="gru_after"),
            layers.GRU(3, reset_after=False, name="gru_before"),
        ]
    tokens = layers.Input(shape=(5,), dtype="int32", name="tokens")
    x = layers.Embedding(7, 3, name="embedding")(tokens)
    for layer in (layers.Bidirectional(inside, name="both"), *grus):
        x = layer(x)
    if MAJOR == 1:
        return keras.models.Model(input=tokens, output=x)
    return keras.models.Model(tokens, x)


class Cudnn:
    """Keras 2's layers for graphics cards: without a card their weights can be made, not used."""

    def __init__(self):
        self.layers = [layers.CuDNNLSTM(2, name="cudnn_lstm"), layers.CuDNNGRU(2, name="cudnn_gru")]
        for layer in self.layers:
            with keras.backend.name_scope(layer.name):
                layer.build((None, 5, 3))
        self.weights = [weight for layer in self.layers for weight in layer.weights]

    def get_weights(self):
        return keras.backend.batch_get_value(self.weights)

    def set_weights(self, values):
        keras.backend.batch_set_value(list(zip(self.weights, values)))  # noqa: B905

    def save_weights(self, path):
        from keras.engine.saving import save_weights_to_hdf5_group

        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, self.layers)


def filled(model):
    weights = numbers([np.shape(weight) for weight in model.get_weights()])
    model.set_weights(weights)
    return weights


def listed(model):
    """Names and shapes as the layers have them, in the order of get_weights."""
    values = model.get_weights()
    return [[weight.name, list(value.shape)] for weight, value in zip(model.weights, values)]  # noqa: B905


def main():
    story = {}
    record = HERE / "keras.json"
    if record.exists():
        story = json.loads(record.read_text())
    model = network()
    filled(model)
    files = {"model": (model, model.save)}
    if MAJOR == 2 and hasattr(layers, "CuDNNLSTM"):
        graphics = Cudnn()
        filled(graphics)
        files["cudnn_weights"] = (graphics, graphics.save_weights)
    for name, (source, save) in files.items():
        path = HERE / f"keras_{VERSION}_{name}.h5"
        save(str(path))
        answer = None if source is not model else source.predict(np.array(TOKENS)).tolist()
        story[path.name] = {
            "keras": VERSION, "module": keras.__name__, "h5py": h5py.__version__,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "weights": listed(source),
            "answer": answer,
        }  # fmt: skip
    lines = [f" {json.dumps(name)}: {json.dumps(story[name])}" for name in sorted(story)]
    record.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
