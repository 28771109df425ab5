"""Keras files (.h5, .weights.h5, .keras) as arrays by name and the stored configuration. Knows the
containers of each version; HDF5 itself is read in another process, and no layer is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from ...errors import ModelFormatError
from ...strict_json import loads
from .archives import Archive, Source, load
from .hdf5_process import Answer, read_hdf5

SIGNATURE = b"\x89HDF\r\n\x1a\n"

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class KerasFile:
    """A Keras file.

    arrays: by path, as the file has them: `lstm_1/lstm_1/kernel:0` of whole-model and weights-only
    files, in the order of the layers; `layers/lstm/cell/vars/0` of Keras 3. config: the
    architecture, None where the file has none. attributes: of each group and dataset by path, ""
    the root. layers: of each layer the names of its arrays, in order; empty for Keras 3, which
    stores no such list. kind: "model.h5", "weights.h5", "keras3.weights.h5" or "keras".
    """

    arrays: dict[str, Array]
    config: dict[str, Any] | None
    attributes: dict[str, dict[str, Any]]
    layers: dict[str, tuple[str, ...]]
    metadata: dict[str, Any]
    kind: str


def read_keras(source: Source) -> KerasFile:
    """The arrays and the configuration of a Keras file; nothing in it is built or run.

    Optimizer states are left out. ModelFormatError names path and member, before any number is
    read: links, other files, virtual datasets, references, objects of variable length, compound
    types, filters but deflate and shuffle, and sizes that the file cannot hold. So it does when
    the HDF5 library crashes on the file or does not end: it runs in a process of its own, which
    may open nothing, with limits of memory and time that follow from the file's size.
    RuntimeError: that process cannot be started.
    """
    data, where = load(source)
    if data[:8] == SIGNATURE:
        return _with_config(read_hdf5(data, where), where)
    if data[:4] == b"PK\x03\x04":
        return _read_archive(data, where)
    raise ModelFormatError(
        f"{where}: begins with {data[:8]!r}, neither an HDF5 file nor a .keras archive"
    )


def _read_archive(data: bytes, where: str) -> KerasFile:
    archive = Archive(data, where)
    for name in ("config.json", "model.weights.h5"):
        if name not in archive:
            archive.refuse(name, "is missing: not a .keras archive")
    config, metadata = _json(archive.read("config.json"), where, "config.json"), {}
    if "metadata.json" in archive:
        metadata = _json(archive.read("metadata.json"), where, "metadata.json")
    weights = archive.read("model.weights.h5")
    inner = read_hdf5(weights, f"{where}: member 'model.weights.h5'")
    return KerasFile(inner.arrays, config, inner.attributes, inner.layers, metadata, "keras")


def _with_config(file: Answer, where: str) -> KerasFile:
    config = None
    if isinstance(text := file.attributes.get("", {}).get("model_config"), str):
        config = _json(text.encode("utf-8", "surrogateescape"), where, "attribute 'model_config'")
    return KerasFile(file.arrays, config, file.attributes, file.layers, {}, file.kind)


def _json(data: bytes, where: str, member: str) -> dict[str, Any]:
    try:
        return loads(data, member)
    except ModelFormatError as error:
        raise ModelFormatError(f"{where}: {error}") from None
