"""For each reader of model files the whole files that mutations start from, and how a changed part
becomes a file again: sums and archives made right, so that what stands behind them is reached.
Knows the files that the readers' own tests make; never what a mutation is."""

from __future__ import annotations

import io
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from s2s_engine import ModelFormatError
from s2s_engine.importers.readers import arrays, tensorflow_objects
from s2s_engine.importers.readers.hdf5_files import read_keras
from s2s_engine.importers.readers.marian_files import read_marian
from s2s_engine.importers.readers.onnx_files import read_onnx, read_onnx_tensor
from s2s_engine.importers.readers.pickle_values import RefusedError
from s2s_engine.importers.readers.tensorflow_files import read_tensorflow
from s2s_engine.importers.readers.torch_files import read_torch, tensors_of, vocabularies_of
from s2s_engine.importers.readers.yaml import read_yaml

DATA = Path(__file__).parent / "data"
Seed = tuple[bytes, Callable[[bytes], bytes]]


@dataclass(frozen=True)
class Reader:
    """read: takes a file's bytes. seeds: pairs of a part that changes, and what makes a file of
    it. forks: reads in processes made by `fork`, for readers that start one. unchecked: without the
    checks that keep known crashes from the HDF5 library, to see that its process contains them."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[Seed]]
    forks: bool = False
    unchecked: bool = False


def whole(*files: bytes) -> list[Seed]:
    return [(data, lambda data: data) for data in files]


def member(name: str, data: bytes, **others: bytes) -> Seed:
    """A member of an archive that changes; its CRC is right again."""

    def archive(changed: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as zipped:
            for other, held in {**others, name: changed}.items():
                zipped.writestr(other.replace("__", "/"), held)
        return file.getvalue()

    return data, archive


def npy_seeds() -> list[Seed]:
    import test_arrays as made

    words = np.array(["a", ["b"]], object)
    return whole(*[made.npy(array) for array in made.EXAMPLES.values()], made.npy(words))


def npz_seeds() -> list[Seed]:
    import test_arrays as made

    files = npy_seeds()
    inner = [member("a.npy", data, **{"b.npy": files[0][0]}) for data, _ in files]
    return [*whole(made.npz(a=np.eye(2)), made.npz(True, a=np.eye(2))), *inner]


def safetensors_seeds() -> list[Seed]:
    import test_arrays as made

    plain = {name: np.ascontiguousarray(held) for name, held in made.EXAMPLES.items()}
    plain = {name: held for name, held in plain.items() if held.dtype.kind in "biuf"}
    kept = {name: held for name, held in plain.items() if held.dtype.isnative}
    one = {"a": np.eye(2, dtype=np.float32), "b": np.arange(3)}
    kept = {name: held for name, held in kept.items() if held.dtype.itemsize <= 8}
    return whole(safetensors.numpy.save(one), safetensors.numpy.save(kept))


def pickle_seeds() -> list[Seed]:
    import test_pickles as made

    words = {"a": np.arange(6), "b": np.array(["a", ["b"]], object), "c": np.float32(1)}
    numbers = [pickle.dumps(words, protocol) for protocol in range(6)]
    return whole(*made.seeds(), *numbers)


def torch_seeds() -> list[Seed]:
    import test_torch_hostile as made

    state = b"}" + made.text("a") + made.tensor(0, (2, 3), (3, 1)) + b"s"
    held = {"m__byteorder": b"little", "m__data__0": made.NUMBERS}
    return [*whole(*made.seeds()), member("m__data.pkl", state + b".", **held)]


def keras_seeds(archived: bool) -> list[Seed]:
    import test_hdf5_files as made

    texts = made.made(lambda root: made.keras2(root, fixed=False))
    files = [made.FILE, made.WEIGHTS, texts, made.made(made.chunked)]
    files += [path.read_bytes() for path in sorted(DATA.glob("keras*.h5"))]
    if not archived:
        return whole(*files)
    inner = [member("model.weights.h5", data, **{"config.json": b"{}"}) for data in files]
    return [*whole(made.ARCHIVE), *inner]


def newer_seeds() -> list[Seed]:
    """With the layout that is refused before the library sees it."""
    import test_hdf5_files as made
    from test_hdf5_process import CRASH

    newer = [made.made(write, libver="latest") for write in (made.keras2, made.chunked)]
    return [*keras_seeds(False), *whole(*newer, CRASH)]


def tensorflow_seeds() -> list[Seed]:
    import test_tensorflow_files as made

    head, rest = made.INDEX[: made.BLOCK], made.INDEX[made.BLOCK :]
    return [*whole(made.INDEX), (head, lambda changed: made.resealed(
        (changed + bytes(made.BLOCK))[: made.BLOCK] + rest))]  # fmt: skip


class Checkpoint:
    """A checkpoint whose index changes; TensorFlow's are files beside each other."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="s2s_engine_checkpoint_")
        shard = "tensorflow_v1.data-00000-of-00001"
        Path(self._folder.name, shard).write_bytes((DATA / shard).read_bytes())
        self.path = Path(self._folder.name, "tensorflow_v1")

    def __call__(self, data: bytes) -> object:
        Path(f"{self.path}.index").write_bytes(data)
        return read_tensorflow(self.path)


def object_graph(data: bytes) -> object:
    try:
        objects = tensorflow_objects.read_objects(memoryview(data))
    except RefusedError as error:
        raise ModelFormatError(str(error)) from None
    return [objects.variables(start) for start in objects.holders("a")]


def object_graph_seeds() -> list[Seed]:
    import test_tensorflow_files as made

    return whole(made.GRAPH)


def onnx_seeds() -> list[Seed]:
    import test_onnx_files as made

    return whole(made.SMALL, made.nested(3), made.initializer(made.RAW))


def onnx_tensor_seeds() -> list[Seed]:
    import test_onnx_files as made

    return whole(made.tensor("w", 1, (2,), made.RAW))


def marian_seeds() -> list[Seed]:
    import test_marian_files as made

    text = np.frombuffer(made.YAML.encode() + b"\0", np.int8)
    files = {f"{name}.npy": array for name, array in made.items().items()}
    inner = {name: npy_of(array) for name, array in files.items()}
    yaml = member("special:model.yml.npy", npy_of(text), **{"half.npy": inner["half.npy"]})
    return [*whole(made.BIN, made.SMALL, made.NPZ), yaml]


def npy_of(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def yaml_seeds() -> list[Seed]:
    import test_marian_files as made

    return whole(made.YAML.encode())


def read_objects(data: bytes) -> object:
    value = read_torch(data)
    return tensors_of(value), vocabularies_of(value)


READERS = {
    "npy": Reader(arrays.read_npy, npy_seeds),
    "npz": Reader(arrays.read_npz, npz_seeds),
    "safetensors": Reader(arrays.read_safetensors, safetensors_seeds),
    "pickle": Reader(arrays.load_pickle, pickle_seeds),
    "pickled-arrays": Reader(arrays.read_pickle, pickle_seeds),
    "torch": Reader(read_objects, torch_seeds),
    "h5": Reader(read_keras, lambda: keras_seeds(False), forks=True),
    "keras": Reader(read_keras, lambda: keras_seeds(True), forks=True),
    "h5-unchecked": Reader(read_keras, newer_seeds, forks=True, unchecked=True),
    "tensorflow": Reader(Checkpoint(), tensorflow_seeds),
    "tensorflow-objects": Reader(object_graph, object_graph_seeds),
    "onnx": Reader(read_onnx, onnx_seeds),
    "onnx-tensor": Reader(read_onnx_tensor, onnx_tensor_seeds),
    "marian": Reader(read_marian, marian_seeds),
    "yaml": Reader(lambda data: read_yaml(data.decode("latin-1")), yaml_seeds),
}
