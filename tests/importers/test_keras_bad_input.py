"""Keras files that cannot be imported: each is refused by the name of what is in the way."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_keras import made, saved
from test_keras_fixtures import RULES, unpacked

from s2s_engine import InputError, ModelFormatError
from s2s_engine.importers import keras
from s2s_engine.importers.checkpoint import Checkpoint
from s2s_engine.importers.importer import Options
from s2s_engine.importers.loading import import_model
from s2s_engine.importers.readers.hdf5_files import KerasFile, read_keras
from s2s_engine.importers.toolkits.keras import IMPORTER

pytestmark = pytest.mark.parity("h5py")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], KerasFile]:
    folder = tmp_path_factory.mktemp("keras")
    read = {}

    def find(name: str) -> KerasFile:
        if name not in read:
            read[name] = read_keras(unpacked(name, folder))
        return copy.deepcopy(read[name])

    return find


def build(file: KerasFile, **options: Any) -> Any:
    """As the importer builds it."""
    checkpoint = Checkpoint("model.h5", None, "keras", file)
    try:
        return IMPORTER.build(checkpoint, Options(IMPORTER, {**RULES, **options}, "model.h5"))
    except KeyError as error:
        raise ModelFormatError(f"KeyError {error}") from None


def layer(file: KerasFile, name: str) -> dict[str, Any]:
    assert file.config is not None
    return next(one for one in file.config["config"]["layers"] if one["name"].startswith(name))


Change = Callable[[dict[str, Any]], None]


def setting(**values: Any) -> Change:
    return lambda one: one["config"].update(values)


def kind(name: str) -> Change:
    return lambda one: one.update(class_name=name)


def call_with(**values: Any) -> Change:
    return lambda one: one["inbound_nodes"][0][0][3].update(values)


REFUSED: list[tuple[str, str, Change, str]] = [
    ("additive", "concatenate", kind("Lambda"), "layer 'concatenate.*' is a Lambda, which is code"),
    ("additive", "concatenate", kind("Conv1D"), "is a Conv1D, which is not known here; layers are"),
    ("additive", "layer_norm", kind("Functional"), "is a Functional, which is not known here"),
    ("additive", "lstm", setting(stateful=True), "is stateful: one source would change the next"),
    ("additive", "lstm", setting(time_major=True), "is time_major, which is not read"),
    ("additive", "lstm", setting(activation="gelu"), "activation 'gelu' is not supported; linear"),
    ("additive", "lstm", setting(activation={"class_name": "F"}), "code of one's own"),
    ("additive", "layer_norm", setting(axis=[1]), "axis must be that of features"),
    ("additive", "batch_norm", setting(axis=[1]), r"axis \[1\] is not that of features"),
    ("additive", "concatenate", setting(axis=1), "axis 1 is not that of features"),
    ("additive", "dense_3", setting(activation="sigmoid"), "the last activation is 'sigmoid'"),
    ("masked", "attention", setting(causal=True), "layer 'attention' has a causal mask"),
    ("additive", "batch_norm", call_with(training=True), "is called with training=True: it is"),
    ("additive", "batch_norm", call_with(scale=2), "is called with scale"),
    ("masked", "attention", setting(score_mode="cosine"), "has 2 arrays, must have 1: scale"),
    ("bidirectional", "bidirectional", setting(merge_mode="max"), "merge_mode is 'max', must be"),
    ("gru_after", "gru", setting(reset_after=False), "reset_after is False, but the bias has"),
    ("lstm_seq2seq", "lstm_1", setting(go_backwards=True), "no input is a decoder's: .*its end"),
    ("lstm_seq2seq", "lstm_1", setting(return_sequences=False), "layer 'dense' reads what "),
    ("lstm_seq2seq", "lstm", setting(use_bias=False), "has 3 arrays, must have 2: kernel, recur"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "name", "change", "message"), REFUSED)
def test_what_is_not_read_is_named(
    files: Callable[[str], KerasFile], file: str, name: str, change: Change, message: str
) -> None:
    found = files(file)
    change(layer(found, name))
    with pytest.raises(ModelFormatError, match=message):
        build(found)


def test_arrays_that_do_not_fit_are_named(files: Callable[[str], KerasFile]) -> None:
    found = files("lstm_seq2seq")
    name = next(one for one in found.arrays if one.endswith("recurrent_kernel:0"))
    short = {**found.arrays, name: found.arrays[name][:, :-1]}
    with pytest.raises(ModelFormatError, match=r"'lstm' \(LSTM\): recurrent_kernel has the shape"):
        build(replace(found, arrays=short))
    more = {**found.arrays, "adapter/kernel:0": np.zeros((2, 2), np.float32)}
    with pytest.raises(ModelFormatError, match="array 'adapter/kernel:0' belongs to no layer"):
        build(replace(found, arrays=more))
    wrong = {**found.arrays, name: np.full_like(found.arrays[name], np.nan)}
    with pytest.raises(ModelFormatError, match="holds a NaN"):
        build(replace(found, arrays=wrong))


def test_configurations_that_are_none(files: Callable[[str], KerasFile]) -> None:
    found = files("lstm_seq2seq")
    with pytest.raises(ModelFormatError, match="weights without a functional or sequential model"):
        build(replace(found, config=None))
    assert found.config is not None
    two = copy.deepcopy(found)
    two.config["config"]["output_layers"] *= 2
    with pytest.raises(ModelFormatError, match="the model has 2 outputs, must have one"):
        build(two)
    many = copy.deepcopy(found)
    many.config["config"]["input_layers"] *= 40
    with pytest.raises(ModelFormatError, match="and 80 inputs; at most 4096 layers"):
        build(many)
    circle = copy.deepcopy(found)
    layer(circle, "lstm")["inbound_nodes"] = [[["dense", 0, 0, {}]]]
    with pytest.raises(ModelFormatError, match="needs its own output"):
        build(circle)
    lost = copy.deepcopy(found)
    layer(lost, "lstm")["inbound_nodes"] = [[["nowhere", 0, 0, {}]]]
    with pytest.raises(ModelFormatError, match="names a tensor that is not there"):
        build(lost)
    old = copy.deepcopy(found)
    old.attributes[""]["keras_version"] = "1.2.2"
    old.attributes["model_weights"].pop("keras_version", None)
    with pytest.raises(ModelFormatError, match=r"is of Keras 1\.2\.2: files of Keras 1 are"):
        build(old)
    unknown = copy.deepcopy(found)
    for path in ("", "model_weights"):
        unknown.attributes[path].pop("keras_version", None)
    with pytest.raises(ModelFormatError, match="'hard_sigmoid' has another definition in Keras 3"):
        build(unknown)
    with pytest.raises(ModelFormatError, match="is a checkpoint of format arrays, not a Keras"):
        import_model({"a": np.zeros(1)}, importer="keras")


def test_a_mask_that_a_layer_does_not_know(files: Callable[[str], KerasFile]) -> None:
    """Padding that one layer leaves out and another one reads cannot be told from the source."""
    found = files("masked")
    layer(found, "words")["config"]["batch_input_shape"] = [None, 6]
    build(found)
    attention = layer(found, "attention")
    attention["class_name"], attention["config"]["axes"] = "Dot", [2, 2]
    for name in list(found.arrays):
        if name.startswith("attention/"):
            del found.arrays[name]
    with pytest.raises(ModelFormatError, match="reads padding that other layers leave out"):
        build(replace(found, layers={**found.layers, attention["name"]: ()}))


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from leaves(item)


def mutated(kept: KerasFile, seed: int, count: int = 400) -> int:
    """How many configurations with one value changed are built; every other one is refused."""
    chosen = random.Random(seed)
    values = [None, -1, 0, 2, 10**30, 1.5, "", "x", "linear", [], {}, [1], ["x", 0, 0], True]
    places = sum(1 for _ in leaves(kept.config))
    built = 0
    for _ in range(count):
        config = copy.deepcopy(kept.config)
        holder, key = list(leaves(config))[chosen.randrange(places)]
        holder[key] = chosen.choice(values)
        try:
            build(replace(kept, config=config))
            built += 1
        except (ModelFormatError, InputError):
            pass
    return built


@pytest.mark.parametrize("name", ["masked", "bidirectional", "cudnn"])
def test_no_configuration_raises_anything_else(
    name: str, files: Callable[[str], KerasFile]
) -> None:
    assert 0 < mutated(files(name), 0) < 400


@pytest.mark.parity("keras", "torch")
def test_no_configuration_of_keras_3_does_either(tmp_path: Path) -> None:
    for seed, name in enumerate(("masked", "repeated")):
        kept = read_keras(saved(tmp_path / f"{name}.keras", made(name)))
        assert 0 < mutated(kept, seed) < 400


def test_a_wrong_order_of_folders_is_seen(tmp_path: Path) -> None:
    """Folders of .keras are numbered; where they tell a layer's name it must be the layer's."""
    config = {
        "class_name": "Sequential",
        "config": {
            "layers": [
                {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, None]}},
                {
                    "class_name": "Embedding",
                    "config": {"name": "e", "mask_zero": False},
                },
                {
                    "class_name": "Dense",
                    "config": {"name": "d", "use_bias": False, "activation": "softmax"},
                },
            ]
        },
    }
    arrays = {
        "layers/embedding/vars/0": np.ones((4, 3), np.float32),
        "layers/dense/vars/0": np.ones((3, 2), np.float32),
    }
    named = {"layers/dense/vars": {"name": "other"}, "": {}}
    file = KerasFile(arrays, config, named, {}, {"keras_version": "3.15.1"}, "keras")
    with pytest.raises(ModelFormatError, match="'d' should be layers/dense, which is of 'other'"):
        build(file)
    assert build(replace(file, attributes={"": {}})).graphs.keys() == {"encoder"}


# --- layers alone ---


def test_layers_tell_what_does_not_fit() -> None:
    random_ = np.random.default_rng(0)
    group = {"kernel": random_.normal(size=(2, 9)), "recurrent_kernel": random_.normal(size=(3, 9))}
    assert keras.gru(group, reset_after=True)[1] == "after"
    assert keras.gru({**group, "bias": np.zeros(9)}, reset_after=None)[1] == "before"
    assert keras.gru({**group, "bias": np.zeros((2, 9))}, reset_after=None)[1] == "after"
    with pytest.raises(ModelFormatError, match="a GRU without biases does not tell reset_after"):
        keras.gru(group, reset_after=None)
    with pytest.raises(ModelFormatError, match=r"recurrent_kernel has the shape \(3, 9\), must ha"):
        keras.lstm(group)
    with pytest.raises(ModelFormatError, match="has no embeddings; its arrays are kernel, recurr"):
        keras.embedding(group)
    with pytest.raises(ModelFormatError, match=r"bias has the shape \(9,\), must have \(12\)"):
        wide = {"kernel": np.zeros((2, 12)), "recurrent_kernel": np.zeros((3, 12))}
        keras.lstm({**wide, "bias": np.zeros(9)})
    assert keras.activation("hard_sigmoid", keras_version="2.2.4") == "hard_sigmoid"
    assert keras.activation("hard_sigmoid", keras_version="3.0.0") == "hard_sigmoid_6"
