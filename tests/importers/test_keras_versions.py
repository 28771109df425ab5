"""Files that Keras 1.2.2, Keras 2.2.4 and tf_keras 2.21 wrote: the arrays, their order, and what
they mean: the model computed from them with NumPy answers what Keras answered."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from s2s_engine.importers.readers.hdf5_files import read_keras

DATA = Path(__file__).parent / "data"
STORY = json.loads((DATA / "keras.json").read_text())
MODELS = [name for name in STORY if STORY[name]["answer"]]
TOKENS = [1, 2, 0, 6, 3]
LAYERS = {"1": ["both", "gru_before"], "2": ["both", "gru_after", "gru_before"]}
Array = NDArray[Any]
pytestmark = pytest.mark.parity("h5py")


def numbers(shapes: list[tuple[int, ...]]) -> list[Array]:
    """As the script that wrote the files draws them."""
    generator = np.random.RandomState(1)
    drawn = (generator.randint(-512, 512, size=shape) / 1024 for shape in shapes)
    return [array.astype("float32") for array in drawn]


def test_the_files_are_those_that_the_script_wrote() -> None:
    assert len(STORY) == 4
    for name, told in STORY.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == told["sha256"], name


@pytest.mark.parametrize("name", STORY)
def test_arrays_are_those_of_keras_in_its_order(name: str) -> None:
    file, told = read_keras(DATA / name), STORY[name]
    want = numbers([tuple(shape) for _, shape in told["weights"]])
    assert len(file.arrays) == len(want)
    pairs = zip(file.arrays.items(), told["weights"], want, strict=True)
    for (path, array), (weight, _), drawn in pairs:
        # Behind the folders of layers and cells.
        assert path.split("/")[-1] == weight.split("/")[-1], path
        assert array.dtype == np.float32 and not array.flags.writeable
        np.testing.assert_array_equal(array, drawn, err_msg=path)
    listed = [path for names in file.layers.values() for path in names]
    assert listed == list(file.arrays)


@pytest.mark.parametrize("name", MODELS)
def test_the_configuration_is_data(name: str) -> None:
    file, version = read_keras(DATA / name), STORY[name]["keras"]
    assert file.kind == "model.h5" and file.config is not None
    assert file.attributes[""]["keras_version"] == version
    names = [layer["name"] for layer in file.config["config"]["layers"]]
    assert names == ["tokens", "embedding", *LAYERS[version[0]]] == list(file.layers)
    gru = file.config["config"]["layers"][-1]["config"]
    inner = gru.get("inner_activation") or gru["recurrent_activation"]
    assert inner == ("sigmoid" if version == "2.21.0" else "hard_sigmoid")


def test_weights_for_graphics_cards_have_two_biases() -> None:
    file = read_keras(DATA / "keras_2.2.4_cudnn_weights.h5")
    assert file.kind == "weights.h5" and file.config is None
    shapes = {path.split("/", 1)[1]: array.shape for path, array in file.arrays.items()}
    assert shapes["cudnn_lstm/bias:0"] == (16,) and shapes["cudnn_gru/bias:0"] == (12,)


# --- what the arrays mean ---


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: Array) -> Array:
    return np.clip(0.2 * x + 0.5, 0, 1)


def lstm(x: Array, weights: list[Array], inner: Any) -> Array:
    kernel, recurrent, bias = weights
    h = c = np.zeros(len(recurrent))
    steps = []
    for row in x:
        i, f, g, o = np.split(row @ kernel + h @ recurrent + bias, 4)
        c = inner(f) * c + inner(i) * np.tanh(g)
        steps.append(h := inner(o) * np.tanh(c))
    return np.array(steps)


def gru(x: Array, weights: list[Array], inner: Any) -> Array:
    """Two rows of biases mean that the reset comes behind the matrix."""
    kernel, recurrent, bias = weights
    h, steps, after = np.zeros(len(recurrent)), [], bias.ndim == 2
    size = len(recurrent)
    first, second = bias if after else (bias, np.zeros_like(bias))
    for row in x:
        xz, xr, xh = np.split(row @ kernel + first, 3)
        hz, hr, hh = np.split(h @ recurrent + second, 3)
        z, r = inner(xz + hz), inner(xr + hr)
        held = r * hh if after else (r * h) @ recurrent[:, 2 * size :]
        steps.append(h := z * h + (1 - z) * np.tanh(xh + held))
    return np.array(steps)


def joined(arrays: list[Array], gates: str, stored: str) -> list[Array]:
    """Keras 1 stores each gate by itself, kernel, recurrent kernel and bias in turn."""
    if len(arrays) == 3:
        return arrays
    parts = dict(zip(stored, [arrays[i : i + 3] for i in range(0, len(arrays), 3)], strict=True))
    return [np.concatenate([parts[gate][i] for gate in gates], axis=-1) for i in range(3)]


@pytest.mark.parametrize("name", MODELS)
def test_the_arrays_mean_what_keras_computed(name: str) -> None:
    file = read_keras(DATA / name)
    inner = sigmoid if STORY[name]["keras"] == "2.21.0" else hard_sigmoid
    held = {layer: [file.arrays[path] for path in names] for layer, names in file.layers.items()}
    x = held["embedding"][0][TOKENS].astype(np.float64)
    half = len(held["both"]) // 2
    sides = [joined(part, "ifco", "icfo") for part in (held["both"][:half], held["both"][half:])]
    forward, backward = lstm(x, sides[0], inner), lstm(x[::-1], sides[1], inner)[::-1]
    x = np.concatenate([forward, backward], axis=-1)
    for layer in LAYERS[STORY[name]["keras"][0]][1:]:
        x = gru(x, joined(held[layer], "zrh", "zrh"), inner)
    bound = 1e-6  # of float32 in five steps
    assert math.isclose(np.abs(x[-1] - STORY[name]["answer"][0]).max(), 0, abs_tol=bound)
