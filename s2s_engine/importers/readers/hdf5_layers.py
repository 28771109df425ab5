"""Which datasets of a file are weights, in what order, and how Keras lists them by layer. Knows the
names that Keras 1, 2 and 3 give to groups and attributes; never how HDF5 stores them."""

from __future__ import annotations

from dataclasses import dataclass

from .hdf5_objects import Objects
from .pickle_values import RefusedError

TOP = "top_level_model_weights"
OPTIMIZERS = ("optimizer", "optimizer_weights")


@dataclass(frozen=True)
class Kept:
    """paths: by the name that a weight gets, its path in the file. layers: of each layer the names
    of its weights; empty for Keras 3. kind: as in `KerasFile`."""

    paths: dict[str, str]
    layers: dict[str, tuple[str, ...]]
    kind: str


def kept(objects: Objects) -> Kept:
    """The weights of a file, without the states of optimizers."""
    base = "model_weights/" if "model_weights" in objects.attributes else ""
    layers = _layers(objects, base)
    if layers:
        paths = {name: base + name for names in layers.values() for name in names}
        return Kept(paths, layers, "model.h5" if base else "weights.h5")
    paths = {
        path.removeprefix(base): path
        for path in objects.datasets
        if path.startswith(base) and path.split("/")[0] not in OPTIMIZERS
    }
    return Kept(paths, layers, "model.h5" if base else "keras3.weights.h5")


def _layers(objects: Objects, base: str) -> dict[str, tuple[str, ...]]:
    """The lists of Keras 1 and 2: layer_names of the group, weight_names of each layer."""
    layers: dict[str, tuple[str, ...]] = {}
    listed = _listed(objects, base.rstrip("/"), "layer_names")
    # What belongs to no layer; not in the list itself.
    if listed and _listed(objects, base + TOP, "weight_names"):
        listed.append(TOP)
    for layer in listed:
        path = base + layer
        names = tuple(f"{layer}/{name}" for name in _listed(objects, path, "weight_names"))
        missing = [name for name in names if base + name not in objects.datasets]
        objects.member = path
        if missing or len(set(names)) != len(names) or path not in objects.attributes:
            raise RefusedError(f"layer {layer[:200]!r} is listed, but not there: {missing[:5]}")
        if layer in layers:
            raise RefusedError(f"layer {layer[:200]!r} is listed twice")
        layers[layer] = names
    return layers


def _listed(objects: Objects, path: str, name: str) -> list[str]:
    """An attribute's texts; long lists are stored as `name0`, `name1`, and so on."""
    objects.member = path
    attributes = objects.attributes.get(path, {})
    if name in attributes:
        parts = [attributes[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in attributes:
            parts.append(attributes[f"{name}{len(parts)}"])
    texts = [text for part in parts for text in (part if isinstance(part, list) else [part])]
    # An empty list is stored as no numbers.
    if not all(isinstance(text, str) for text in texts):
        raise RefusedError(f"attribute {name!r} holds something else than names")
    return texts
