"""A wiring of one's own as a TOML file: both graphs, whose weights are arrays of any file by name.
Knows the file's form, which is that of a model's document with defaults; never execution."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..builder import Tensors
from ..errors import ModelFormatError
from ..graph import BUILT_IN, named
from ..model import FORMAT, Model
from ..operations import KINDS, OPERATIONS, Operation
from ..source import SourceRule
from .checkpoint import Foreign, read
from .importer import read_vocabulary
from .layers import GATES, reordered

MAX_MAP = 16 << 20
KEYS = {
    "encoder", "decoder", "source", "target", "vocabularies", "characters", "generation",
    "provenance", "unused",
}  # fmt: skip
GRAPH_KEYS = {"inputs", "states", "nodes", "outputs"}
# What may be done to an array before it is a weight, in this order.
CHANGES = ("transpose", "rows", "columns", "reshape", "gates", "add", "add_to_gate", "multiply")

Array = NDArray[Any]


def map_model(source: Foreign, map_file: str | Path) -> Model:
    """The model that a map writes over the arrays of `source`: docs/bring-your-model.md.

    Every array must be used, or match a pattern of `unused`. ModelFormatError names the key of the
    map, and what its value must be.
    """
    path, checkpoint = Path(map_file), read(source)
    try:
        return _Map(checkpoint.arrays, path.parent).model(_document(path))
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from None


def _document(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_MAP:
        raise ModelFormatError(f"has {path.stat().st_size} bytes, a map at most {MAX_MAP}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"no TOML: {str(error)[:200]}") from None


class _Map:
    """One map over one set of arrays, relative to the map's folder."""

    def __init__(self, arrays: Mapping[str, Array], folder: Path) -> None:
        self.arrays, self.folder = arrays, folder
        self.tensors, self.used = Tensors(), set[str]()

    def model(self, document: dict[str, Any]) -> Model:
        _known(document, KEYS, "the map")
        graphs = {
            role: self.graph(named(document[role], role), role)
            for role in ("encoder", "decoder")
            if role in document
        }
        target = named(document.get("target", {}), "target")
        _known(target, {"start", "end"}, "target")
        self._check_used(document.get("unused", []))
        listed = named(document.get("vocabularies", {}), "vocabularies")
        source = {**SourceRule().to_json(), **named(document.get("source", {}), "source")}
        return Model.from_document(
            {
                "format": FORMAT,
                "graphs": graphs,
                "vocabularies": {name: self._words(words) for name, words in listed.items()},
                "characters": document.get("characters", False),
                "source": source,
                "target": {"start": target.get("start"), "end": target.get("end", [])},
                "generation": document.get("generation", {}),
                "self_test": None,
                "provenance": document.get("provenance", {}),
            },
            self.tensors.arrays,
        )

    def graph(self, fields: dict[str, Any], where: str) -> dict[str, Any]:
        """A graph's document: sizes and defaults written out, weights named."""
        _known(fields, GRAPH_KEYS, where)
        place = where if where in BUILT_IN else "body"
        inputs = {
            name: _input(value, f"{where}, input {name!r}")
            for name, value in named(fields.get("inputs", {}), f"{where}, inputs").items()
        }
        nodes = [
            self.node(name, named(node, f"{where}, node {name!r}"), where)
            for name, node in named(fields.get("nodes", {}), f"{where}, nodes").items()
        ]
        graph = {"inputs": inputs, "nodes": nodes, "outputs": fields.get("outputs", {})}
        if place == "encoder":
            if "states" in fields:
                raise ModelFormatError("encoder: has no states; a scan's body has, and the decoder")
            return graph
        states = named(fields.get("states", {}), f"{where}, states")
        zeros = {"kind": "vector", "initial": None}
        return graph | {
            "states": {
                name: {**zeros, **named(state, f"{where}, state {name!r}")}
                for name, state in states.items()
            }
        }

    def node(self, name: str, fields: dict[str, Any], graph: str) -> dict[str, Any]:
        where = f"{graph}, node {name!r}"
        op = fields.get("op")
        operation = OPERATIONS.get(op) if isinstance(op, str) else None
        if operation is None or not isinstance(op, str):
            raise ModelFormatError(f"{where}: op is {op!r}, must be one of {', '.join(OPERATIONS)}")
        inputs = {role.name: role.many for role in operation.inputs}
        weights = {role.name for role in operation.weights}
        known = {"op", *inputs, *weights, *operation.attributes}
        _known(fields, known | ({"body"} if op == "scan" else set()), f"{where} ({op})")
        node = {
            "name": name,
            "op": op,
            "inputs": {
                role: [fields[role]] if many and isinstance(fields[role], str) else fields[role]
                for role, many in inputs.items()
                if role in fields
            },
            "weights": {
                role: self.tensors.add(
                    self.weight(fields[role], op, f"{where}, {role}"), f"{graph}.{name}.{role}"
                )
                for role in fields
                if role in weights
            },
            "attributes": dict(_attributes(operation, fields)),
        }
        if op == "scan":
            body = named(fields.get("body", {}), f"{where}, body")
            node["body"] = self.graph(body, f"{graph}.{name}")
        return node

    def weight(self, value: object, op: str, where: str) -> Array:
        """An array by name, or a table of its name and what is done to it."""
        if isinstance(value, str):
            return self.array(value, where)
        fields = named(value, where)
        _known(fields, {"array", *CHANGES}, where)
        array = self.array(fields.get("array"), where)
        try:
            for change in CHANGES:
                if change in fields:
                    array = self.changed(array, change, fields[change], op)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise ModelFormatError(
                f"{where}: {change} = {fields[change]!r} cannot be done to an array of shape "
                f"{list(array.shape)}: {error}"
            ) from None
        return np.ascontiguousarray(array)

    def changed(self, array: Array, change: str, how: Any, op: str) -> Array:
        gates = GATES.get(op.removesuffix("_cell"), "")
        if change == "transpose":
            return array.T if how is True else array.transpose(_axes(how, array))
        if change in ("rows", "columns"):
            start, stop = how
            axis = 0 if change == "rows" else 1
            if not 0 <= start < stop <= array.shape[axis]:
                raise ValueError(f"must be [start, stop] within 0 to {array.shape[axis]}")
            return array[start:stop] if axis == 0 else array[:, start:stop]
        if change == "reshape":
            return array.reshape([int(size) for size in how])
        if change == "gates":
            return reordered(array, str(how).split(), gates)
        if change == "add_to_gate":
            parts = np.split(np.array(array), len(gates))
            for gate, number in named(how, "").items():
                parts[gates.index(gate)] += np.float32(number)
            return np.concatenate(parts)
        other = self.array(how, "") if isinstance(how, str) else np.float32(how)
        return array + other if change == "add" else array * other

    def array(self, name: object, where: str) -> Array:
        if not isinstance(name, str) or name not in self.arrays:
            listed = ", ".join(list(self.arrays)[:20])
            raise ModelFormatError(f"{where}: there is no array {name!r}; there are {listed}")
        self.used.add(name)
        array = self.arrays[name]
        if array.dtype.kind != "f":
            raise ModelFormatError(f"{where}: array {name!r} is of {array.dtype}, must be floats")
        return array

    def _check_used(self, patterns: object) -> None:
        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            raise ModelFormatError("unused must be a list of names or patterns such as 'optim.*'")
        for name in self.arrays:
            if name not in self.used and not any(fnmatchcase(name, p) for p in patterns):
                raise ModelFormatError(
                    f"array {name!r} is used by no node; if that is right, add it to 'unused'"
                )

    def _words(self, words: object) -> object:
        return read_vocabulary(self.folder / words) if isinstance(words, str) else words


def _axes(how: Any, array: Array) -> tuple[int, ...]:
    if sorted(how) != list(range(array.ndim)):
        raise ValueError("must be true, or an order of the axes")
    return tuple(how)


def _known(fields: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in fields:
        if key not in known:
            raise ModelFormatError(f"{where}: there is no key {key!r}; keys are {_listed(known)}")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _input(value: object, where: str) -> dict[str, Any]:
    """`{ ids = 29 }` as a document has it."""
    fields = named(value, where)
    if len(fields) != 1 or next(iter(fields)) not in KINDS:
        raise ModelFormatError(f"{where} must be one of {', '.join(KINDS)} with a size")
    kind, size = next(iter(fields.items()))
    along = {"length": "source"} if kind in ("ids", "sequence") else {}
    return {"kind": kind, "size": size, **along}


def _attributes(operation: Operation, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, rule in operation.attributes.items():
        if name in fields:
            # TOML tells 1 from 1.0; a number is a number here.
            yield name, fields[name]
        elif rule.default is not None:
            yield name, rule.default
