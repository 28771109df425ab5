"""A source of weights as people have it: a file of any format, a folder, a pair of files, or arrays
in memory. Knows how to tell formats apart by their bytes; never a toolkit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, ModelFormatError
from ..format import file_bytes
from ..magic import format_of
from .readers.archives import Archive
from .readers.arrays import flatten, load_pickle, read_npy, read_npz, read_safetensors
from .readers.packed import read_tar
from .readers.torch_files import read_torch, tensors_of

Array: TypeAlias = NDArray[Any]
Path_: TypeAlias = "str | os.PathLike[str]"
# A path, a file's bytes, arrays by name, or an encoder's and a decoder's path.
Foreign: TypeAlias = "Path_ | bytes | Mapping[str, Array] | Sequence[Path_]"

PAIR = ("encoder", "decoder")
MAX_FOLDER = 4096


@dataclass(frozen=True)
class Checkpoint:
    """What a source holds.

    where: what messages call it. path: None for bytes and arrays. format: "torch", "pickle", "npz",
    "npy", "safetensors", "keras", "tensorflow", "onnx", "marian", "archive" (a tar file), "folder",
    "pair" or "arrays". content: what the format's reader gives: the object of torch.save and of
    pickles, a KerasFile, OnnxFile, MarianFile or TensorFlowFile, an archive's members by name
    (bytes), a folder's files by name (paths), else the arrays. parts: of a pair, its two
    checkpoints.
    """

    where: str
    path: Path | None
    format: str
    content: Any
    parts: Mapping[str, Checkpoint] = field(default_factory=dict)

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """Every array by its dotted name (of a pair: behind `encoder.` and `decoder.`)."""
        if self.format == "pair":
            return {
                f"{role}.{name}": array
                for role, part in self.parts.items()
                for name, array in part.arrays.items()
            }
        if self.format == "torch":
            return tensors_of(self.content)
        if self.format == "pickle":
            return flatten(self.content, where=self.where)
        if self.format in ("keras", "marian", "tensorflow"):
            return dict(self.content.arrays)
        if self.format == "onnx":
            return dict(self.content.initializers)
        if self.format in ("archive", "folder"):
            return {}
        return dict(self.content)

    def beside(self, *names: str) -> Path | None:
        """The first of these files in the checkpoint's folder (of a folder: in itself)."""
        if self.path is None:
            return None
        folder = self.path if self.format == "folder" else self.path.parent
        found = (folder / name for name in names)
        return next((path for path in found if path.is_file()), None)

    def refuse(self, reason: str) -> ModelFormatError:
        """The error to raise: the source is named, then the reason."""
        return ModelFormatError(f"{self.where}: {reason}")


def read(source: Foreign) -> Checkpoint:
    """Opens a source; ModelFormatError names what is wrong with its bytes."""
    if isinstance(source, Mapping):
        return _arrays(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return Checkpoint("bytes", None, *_content(data, data, "bytes", ""))
    if isinstance(source, (str, os.PathLike)):
        return _path(Path(source))
    if isinstance(source, (list, tuple)) and len(source) == 2:
        parts = {role: read(one) for role, one in zip(PAIR, source, strict=True)}
        where = " and ".join(part.where for part in parts.values())
        return Checkpoint(where, parts["encoder"].path, "pair", None, parts)
    raise InputError(
        f"cannot import a model from {type(source).__name__}: give a path, bytes, a mapping of "
        "arrays, or an encoder's and a decoder's path"
    )


def _arrays(arrays: Mapping[str, Array]) -> Checkpoint:
    for name, array in arrays.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise InputError(
                f"the mapping holds {name!r}: {type(array).__name__}; it must map names to NumPy "
                "arrays"
            )
    return Checkpoint("the mapping of arrays", None, "arrays", dict(arrays))


def _path(path: Path) -> Checkpoint:
    if path.is_dir():
        return _folder(path)
    index = path if path.suffix == ".index" else path.with_name(path.name + ".index")
    if index.is_file() and (path.suffix == ".index" or not path.exists()):
        from .readers.tensorflow_files import read_tensorflow

        return Checkpoint(str(path), path, "tensorflow", read_tensorflow(path))
    data = file_bytes(path)
    return Checkpoint(str(path), path, *_content(data, path, str(path), path.suffix))


def _folder(path: Path) -> Checkpoint:
    variables = path / "variables" / "variables.index"
    if variables.is_file():  # a SavedModel: its graph is never read
        from .readers.tensorflow_files import read_tensorflow

        return Checkpoint(str(path), path, "tensorflow", read_tensorflow(variables))
    files = {one.name: one for one in sorted(path.iterdir())[:MAX_FOLDER] if one.is_file()}
    return Checkpoint(str(path), path, "folder", files)


def _content(data: bytes, source: bytes | Path, where: str, suffix: str) -> tuple[str, Any]:
    """The format of a file and what its reader gives."""
    found = format_of(data, suffix)
    if found == "zip":
        found = _kind_of_zip(Archive(data, where).names())
    if found in ("hdf5", "keras"):
        from .readers.hdf5_files import read_keras

        return "keras", read_keras(source)
    if found == "tar":
        return "archive", read_tar(data, where)
    if found == "marian":
        from .readers.marian_files import read_marian

        return "marian", read_marian(source)
    if found == "onnx":
        from .readers.onnx_files import read_onnx

        return "onnx", read_onnx(source)
    if found in READERS:
        return found, READERS[found](source)
    if found == "model":
        raise ModelFormatError(
            f"{where}: is a model file of this engine already: load it without an importer"
        )
    raise ModelFormatError(
        f"{where}: begins with {data[:8]!r}: no format that is read here (PyTorch, pickle, npz, "
        "npy, safetensors, Keras, TensorFlow checkpoint, ONNX, Marian, tar archive)"
    )


def _kind_of_zip(names: Sequence[str]) -> str:
    if any(name.endswith("/data.pkl") for name in names):
        return "torch"
    if "model.weights.h5" in names:
        return "keras"
    if "special:model.yml.npy" in names or {"decoder_U_nl.npy", "Wemb_dec.npy"} <= set(names):
        return "marian"
    return "npz"


READERS: dict[str, Callable[[Any], Any]] = {
    "torch": read_torch,
    "pickle": load_pickle,
    "npz": read_npz,
    "npy": read_npy,
    "safetensors": read_safetensors,
}
