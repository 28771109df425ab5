"""Keras's files read with h5py alone: what each version writes, and what every hostile one is
answered before a number is read."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2s_engine import ModelFormatError
from s2s_engine.importers.readers.hdf5_files import KerasFile, read_keras

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.parity("h5py")
CONFIG = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda"}]}}
KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


def made(write: Callable[[Any], object], **options: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as root:
        write(root)
    return file.getvalue()


def keras2(root: Any, *, fixed: bool = True) -> None:
    """A whole model as Keras 1 and 2 write it."""
    text = np.bytes_ if fixed else str
    root.attrs["model_config"] = json.dumps(CONFIG).encode()
    root.attrs["keras_version"] = "2.2.4"
    group = root.create_group("model_weights")
    group.attrs["layer_names"] = [text("z"), text("a"), text("empty")]
    group.create_group("empty").attrs["weight_names"] = np.zeros(0)
    for name in ("a", "z"):
        layer = group.create_group(name)
        layer.attrs["weight_names"] = [text(f"{name}/kernel:0"), text(f"{name}/bias:0")]
        layer[f"{name}/kernel:0"] = KERNEL
        layer[f"{name}/bias:0"] = np.ones(3, np.float32)
    root["optimizer_weights/m"] = KERNEL


FILE = made(keras2)


@pytest.mark.parametrize("fixed", [True, False])
def test_a_whole_model_is_read_in_the_order_of_its_layers(fixed: bool) -> None:
    file = read_keras(made(lambda root: keras2(root, fixed=fixed)))
    assert list(file.arrays) == ["z/z/kernel:0", "z/z/bias:0", "a/a/kernel:0", "a/a/bias:0"]
    assert file.layers["a"] == ("a/a/kernel:0", "a/a/bias:0") and file.layers["empty"] == ()
    np.testing.assert_array_equal(file.arrays["a/a/kernel:0"], KERNEL)
    assert not file.arrays["a/a/kernel:0"].flags.writeable
    assert file.config == CONFIG and file.kind == "model.h5"  # a Lambda is data
    assert file.attributes[""]["keras_version"] == "2.2.4"


def test_long_lists_of_names_and_weights_alone() -> None:
    def write(root: Any) -> None:
        root.attrs["layer_names0"] = [np.bytes_("a")]
        root.attrs["layer_names1"] = [np.bytes_("b")]
        for name in ("a", "b", "top_level_model_weights"):
            root.create_group(name).attrs["weight_names"] = [np.bytes_("w")]
            root[name]["w"] = KERNEL

    file = read_keras(made(write))
    assert list(file.arrays) == ["a/w", "b/w", "top_level_model_weights/w"]
    assert file.kind == "weights.h5" and file.config is None


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8", "<i4", "<u1", "?"])
def test_chunked_arrays_and_every_type(kind: str) -> None:
    array = (np.arange(35).reshape(7, 5) % 2).astype(kind)
    data = made(lambda root: root.create_dataset(
        "w", data=array, chunks=(3, 2), compression="gzip", shuffle=True))  # fmt: skip
    for file in (
        read_keras(data),
        read_keras(made(lambda root: root.create_dataset("w", data=array))),
    ):
        assert file.arrays["w"].tolist() == array.tolist() and file.arrays["w"].dtype.isnative


def chunked(root: Any) -> None:
    data = np.eye(7, 5)
    root.create_dataset("layers/w", data=data, chunks=(3, 2), compression="gzip", shuffle=True)


def external(root: Any) -> None:
    root.create_dataset("w", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(root: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    root.create_virtual_dataset("w", layout)


def cycle(root: Any) -> None:
    group = root.create_group("g")
    group["g"] = group


def twice(root: Any) -> None:
    root["a"] = KERNEL
    root["b"] = root["a"]


def bomb(root: Any) -> None:
    root.create_dataset("w", (1 << 28,), "f4", chunks=(1 << 16,), compression="gzip")


def deep(root: Any) -> None:
    root["/".join("g" * 70)] = KERNEL


def big_chunk(root: Any) -> None:
    """A chunk that unpacks to far more than its size says."""
    import zlib

    item = root.create_dataset("w", (100,), "f4", chunks=(100,), compression="gzip")
    item.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 22)))


def linked(root: Any) -> None:
    root["a"] = KERNEL
    root["w"] = h5py.SoftLink("/a")


def outside(root: Any) -> None:
    root["w"] = h5py.ExternalLink("/etc/passwd", "/")


def listed(root: Any) -> None:
    root.attrs["layer_names"] = [np.bytes_("x")]


def unlisted(root: Any) -> None:
    root.attrs["layer_names"] = [np.bytes_("g")]
    root.create_group("g").attrs["weight_names"] = [np.bytes_("../w")]
    root["w"] = KERNEL


def text(value: Any) -> Callable[[Any], object]:
    def write(root: Any) -> None:
        root["w"] = value

    return write


def typed(dtype: Any, **options: Any) -> Callable[[Any], object]:
    return lambda root: root.create_dataset("w", (2,), dtype, **options)


def reference(root: Any) -> None:
    root.attrs["r"] = root.ref


HOSTILE = {
    "external": (external, "member 'w': has external storage"),
    "virtual": (virtual, "member 'w': is a virtual dataset"),
    "outside": (outside, "member 'w': is external link"),
    "linked": (linked, "member 'w': is soft link"),
    "cycle": (cycle, "member 'g/g': is linked twice"),
    "twice": (twice, "member 'b': is linked twice"),
    "deep": (deep, "nested too deeply"),
    "bomb": (bomb, "member 'w': of shape .* at most 64 times the file"),
    "big_chunk": (big_chunk, r"member 'w': chunk \(0,\) has 401 bytes, must have 400"),
    "unwritten": (typed("f4", chunks=(1,)), "chunks that were never written"),
    "late": (typed("f4"), "needs 8 bytes, stored are 0"),
    "fletcher": (typed("f4", fletcher32=True), "has filter 3"),
    "lzf": (typed("f4", compression="lzf"), "has filter 32000"),
    "scale": (typed("i4", scaleoffset=0), "has filter 6"),
    "compound": (text(np.zeros(2, [("a", "f4")])), "a compound type"),
    "texts": (text(np.array([b"abc"])), "texts"),
    "variable": (text("abc"), "texts"),
    "vlen": (typed(h5py.vlen_dtype("f4")), "values of variable length"),
    "references": (typed(h5py.ref_dtype), "references"),
    "opaque": (text(np.void(b"abc")), "opaque bytes"),
    "array": (typed(np.dtype(("f4", 3))), "arrays in elements"),
    "long": (text(np.zeros(2, np.longdouble)), "type float128"),
    "null": (text(h5py.Empty("f4")), "holds nothing"),
    "reference": (reference, "attribute 'r' holds references"),
    "listed": (listed, "layer 'x' is listed, but not there"),
    "unlisted": (unlisted, "layer 'g' is listed, but not there"),
    "type": (lambda root: root.__setitem__("w", np.dtype("f4")), "neither a group nor a dataset"),
    "json": (lambda root: root.attrs.__setitem__("model_config", "{"), "'model_config' is not the"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_path_and_member(name: str, tmp_path: Path) -> None:
    write, message = HOSTILE[name]
    path = tmp_path / "m.h5"
    path.write_bytes(made(write))
    with pytest.raises(ModelFormatError, match=f"^{path}: .*{message}"):
        read_keras(path)


def test_a_text_longer_than_the_file_is_refused_before_memory_is_taken() -> None:
    data = made(lambda root: root.attrs.__setitem__("model_config", "{}"))
    at = data.index(b"model_config\0")
    length = data.index(b"\x02\0\0\0", at + 32)
    with pytest.raises(ModelFormatError, match=r"'model_config' at byte .* texts of 4294967295"):
        read_keras(data[:length] + b"\xff" * 4 + data[length + 4 :])


def test_the_newer_layout_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="superblock is of version 3"):
        read_keras(made(keras2, libver="latest"))


def test_a_heap_that_does_not_end_is_refused() -> None:
    data = made(lambda root: root.attrs.__setitem__("model_config", "{}"))
    at = data.index(b"GCOL") + 16
    with pytest.raises(ModelFormatError, match=r"the heap at byte .* is broken"):
        read_keras(data[:at] + bytes(16) + data[at + 16 :])


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, data in members.items():
            zipped.writestr(name.replace("__", "."), data)
    return file.getvalue()


WEIGHTS = made(lambda root: root.__setitem__("layers/dense/vars/0", KERNEL))
ARCHIVE = archive(
    config__json=json.dumps(CONFIG).encode(),
    metadata__json=b'{"keras_version": "3.0.0"}',
    model__weights__h5=WEIGHTS,
)


def test_an_archive_is_read() -> None:
    file = read_keras(ARCHIVE)
    assert file.kind == "keras" and file.config == CONFIG and list(file.arrays) == [
        "layers/dense/vars/0"
    ]  # fmt: skip
    assert file.metadata == {"keras_version": "3.0.0"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(model__weights__h5=WEIGHTS), "'config.json': is missing"),
        (archive(config__json=b"{}"), "'model.weights.h5': is missing"),
        (archive(config__json=b"[]", model__weights__h5=WEIGHTS), "config.json must be a JSON"),
        (archive(config__json=b"{}", model__weights__h5=b"x"), "not an HDF5 file"),
        (archive(config__json=b"{}", model__weights__h5=made(external)), "5': member 'w': has ext"),
        (b"", "neither an HDF5 file nor"),
    ],
)
def test_a_broken_archive_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        read_keras(data)


def test_without_h5py_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 's2s_engine\[keras\]'"):
        read_keras(FILE)


# --- against Keras ---

KERAS = """
import os, sys
os.environ["KERAS_BACKEND"] = "torch"
import h5py, keras
import numpy as np
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
folder = sys.argv[1]
keras.utils.set_random_seed(1)
x = tokens = keras.Input((None,))
x = keras.layers.Embedding(7, 3, name="emb")(x)
x = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True), name="bi")(x)
x = keras.layers.GRU(3, name="gru")(x)
model = keras.Model(tokens, keras.layers.Dense(2, name="out", dtype="bfloat16")(x))
np.savez(folder + "/weights.npz", *[keras.ops.convert_to_numpy(
    keras.ops.cast(w, "float32")) for w in model.weights])
model.save(folder + "/m.keras")
model.save_weights(folder + "/m.weights.h5")
model = keras.Model(tokens, keras.layers.Dense(2, name="out")(x))
model.layers[-1].set_weights([np.full((3, 2), 0.5), np.full(2, 0.25)])
model.save(folder + "/m.h5")
with h5py.File(folder + "/legacy.h5", "w") as file:
    save_weights_to_hdf5_group(file, model)
"""


@pytest.mark.parity("keras", "torch")
def test_files_that_keras_wrote(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KERAS, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "weights.npz") as stored:
        weights = [stored[f"arr_{index}"] for index in range(12)]

    def check(file: KerasFile, names: list[str], count: int) -> None:
        for name, weight in zip(names[:count], weights, strict=False):
            np.testing.assert_array_equal(file.arrays[name], weight)

    base = "layers/"
    names = [f"{base}embedding/vars/0"]
    for side in ("forward", "backward"):
        names += [f"{base}bidirectional/{side}_layer/cell/vars/{i}" for i in range(3)]
    names += [f"{base}gru/cell/vars/{i}" for i in range(3)] + [
        f"{base}dense/vars/{i}" for i in "01"
    ]
    for name, kind in (("m.keras", "keras"), ("m.weights.h5", "keras3.weights.h5")):
        file = read_keras(tmp_path / name)
        assert file.kind == kind and sorted(file.arrays) == sorted(names)
        check(file, names, 12)  # bfloat16 too
    for name, kind in (("m.h5", "model.h5"), ("legacy.h5", "weights.h5")):
        file = read_keras(tmp_path / name)
        assert file.kind == kind and len(file.arrays) == 12
        check(file, list(file.arrays), 10)
        assert list(file.layers) == ["input_layer", "emb", "bi", "gru", "out"]
        assert (file.config is not None) == (name == "m.h5")
