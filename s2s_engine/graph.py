"""A graph as plain data: inputs, states, nodes, outputs, and its JSON form. Knows names and the
closed schema; never shapes that fit, weights' values, files or search."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .errors import ModelFormatError
from .operations import KINDS, MAX_DIMENSION, AttributeValue, Kind, Place, ValueType

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
MAX_NODES = 4096
# Inputs that the engine itself provides; a graph that wants one declares it.
BUILT_IN = {
    "encoder": {"position": "ids", "source_length": "vector"},
    "decoder": {"step": "id", "source_length": "vector"},
}

References: TypeAlias = str | list[str]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Types: TypeAlias = dict[str, ValueType]


@dataclass(frozen=True)
class Node:
    """One use of an operation. `inputs` maps roles to a reference or a list of references.

    body: of a scan, its step graph.
    """

    name: str
    op: str
    inputs: Mapping[str, References]
    weights: Mapping[str, str]
    attributes: Mapping[str, AttributeValue]
    body: Graph | None = None

    def references(self) -> Iterator[str]:
        for value in self.inputs.values():
            yield from [value] if isinstance(value, str) else value


@dataclass(frozen=True)
class State:
    """A value carried from step to step: `initial` (None: zeros) and `next` are references."""

    type: ValueType
    initial: str | None
    next: str


@dataclass(frozen=True)
class Graph:
    """An encoder, or a step: of a decoder, or of a scan, its body. Only steps have states."""

    inputs: Mapping[str, ValueType] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    nodes: Sequence[Node] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)

    def all_nodes(self) -> Iterator[Node]:
        """The nodes, and those of their bodies."""
        for node in self.nodes:
            yield node
            if node.body is not None:
                yield from node.body.all_nodes()


def to_json(graph: Graph, place: Place) -> dict[str, Any]:
    """The document of one graph, every key and attribute written out."""
    document: dict[str, Any] = {
        "inputs": {
            name: {"kind": type_.kind, "size": type_.size}
            | ({"length": "source"} if type_.kind in ("ids", "sequence") else {})
            for name, type_ in graph.inputs.items()
        },
        "nodes": [
            {
                "name": node.name,
                "op": node.op,
                "inputs": dict(node.inputs),
                "weights": dict(node.weights),
                "attributes": dict(node.attributes),
            }
            | ({} if node.body is None else {"body": to_json(node.body, "body")})
            for node in graph.nodes
        ],
        "outputs": dict(graph.outputs),
    }
    if place != "encoder":
        document["states"] = {
            name: {
                "kind": state.type.kind,
                "size": state.type.size,
                "initial": state.initial,
                "next": state.next,
            }
            for name, state in graph.states.items()
        }
    return document


def from_json(document: object, role: Place) -> Graph:
    """Reads a graph from its document; ModelFormatError names the key that breaks a rule."""
    graph = _graph(document, role, f"graph {role}")
    count = sum(1 for _ in graph.all_nodes())
    if count > MAX_NODES:
        raise ModelFormatError(
            f"graph {role} has {count} nodes, those of its scans' bodies among them; at most "
            f"{MAX_NODES} are allowed"
        )
    return graph


# --- reading documents ---


def _graph(document: object, place: Place, where: str) -> Graph:
    keys = {"inputs", "nodes", "outputs"} | (set() if place == "encoder" else {"states"})
    fields = closed(document, keys, where)
    inputs = {
        name: _input(value, f"{where}, input {name!r}")
        for name, value in named(fields["inputs"], f"{where}, inputs").items()
    }
    states = {
        name: _state(value, place, f"{where}, state {name!r}")
        for name, value in named(fields.get("states", {}), f"{where}, states").items()
    }
    nodes = fields["nodes"]
    if not isinstance(nodes, list):
        raise ModelFormatError(f"{where}: nodes must be a list, is {type(nodes).__name__}")
    if len(nodes) > MAX_NODES:
        raise ModelFormatError(f"{where} has {len(nodes)} nodes; at most {MAX_NODES} are allowed")
    outputs = named(fields["outputs"], f"{where}, outputs")
    for name, value in outputs.items():
        text(value, f"{where}, output {name!r}")
    read = [_node(value, place, f"{where}, node {number}") for number, value in enumerate(nodes)]
    return Graph(inputs, states, read, outputs)


def _input(value: object, where: str) -> ValueType:
    kind = value.get("kind") if isinstance(value, dict) else None
    along_source = kind in ("ids", "sequence")
    fields = closed(value, {"kind", "size"} | ({"length"} if along_source else set()), where)
    if along_source and fields["length"] != "source":
        raise ModelFormatError(f"{where}: length is {fields['length']!r}, must be 'source'")
    return _type(fields, where)


def _type(fields: Mapping[str, Any], where: str) -> ValueType:
    if fields["kind"] not in KINDS:
        raise ModelFormatError(f"{where}: kind is {fields['kind']!r}, must be one of {KINDS}")
    size = integer(fields["size"], 1, MAX_DIMENSION, f"{where}: size")
    return ValueType(kind_of(fields["kind"]), size)


def kind_of(word: str) -> Kind:
    return next(kind for kind in KINDS if kind == word)


def _state(value: object, place: Place, where: str) -> State:
    fields = closed(value, {"kind", "size", "initial", "next"}, where)
    type_ = _type(fields, where)
    if type_.kind not in (("vector",) if place == "body" else ("vector", "sequence")):
        kinds = "a vector" if place == "body" else "a vector or a sequence"
        raise ModelFormatError(f"{where} is {type_}, must be {kinds}")
    initial = fields["initial"]
    if initial is not None:
        text(initial, f"{where}, initial")
    return State(type_, initial, text(fields["next"], f"{where}, next"))


def _node(value: object, place: Place, where: str) -> Node:
    is_scan = isinstance(value, dict) and value.get("op") == "scan"
    keys = {"name", "op", "inputs", "weights", "attributes"} | ({"body"} if is_scan else set())
    fields = closed(value, keys, where)
    name = text(fields["name"], f"{where}, name")
    where = f"{where} {name!r}"
    if is_scan and place == "body":
        raise ModelFormatError(f"{where}: a scan may not stand in the body of a scan")
    inputs = named(fields["inputs"], f"{where}, inputs")
    for role, reference in inputs.items():
        for item in reference if isinstance(reference, list) else [reference]:
            text(item, f"{where}, input {role!r}")
    weights = named(fields["weights"], f"{where}, weights")
    for role, tensor in weights.items():
        text(tensor, f"{where}, weight {role!r}")
    attributes = named(fields["attributes"], f"{where}, attributes")
    body = _graph(fields["body"], "body", f"{where}, body") if is_scan else None
    return Node(name, text(fields["op"], f"{where}, op"), inputs, weights, attributes, body)


def closed(value: object, keys: set[str], where: str) -> dict[str, Any]:
    """A JSON object with exactly these keys."""
    if not isinstance(value, dict):
        raise ModelFormatError(f"{where} must be an object, is {type(value).__name__}")
    for key in value:
        if key not in keys:
            raise ModelFormatError(f"{where}: key {key!r} is unknown; keys are {sorted(keys)}")
    for key in sorted(keys):
        if key not in value:
            raise ModelFormatError(f"{where}: key {key!r} is missing")
    return value


def named(value: object, where: str) -> dict[str, Any]:
    """A JSON object whose keys are names."""
    if not isinstance(value, dict):
        raise ModelFormatError(f"{where} must be an object, is {type(value).__name__}")
    for key in value:
        if not isinstance(key, str) or not NAME.fullmatch(key):
            raise ModelFormatError(f"{where}: {key!r} must match {NAME.pattern}")
    return value


def text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ModelFormatError(f"{where} must be a string, is {type(value).__name__}")
    return value


def integer(value: object, low: int, high: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelFormatError(f"{where} must be an integer, is {value!r}")
    if not low <= value <= high:
        raise ModelFormatError(f"{where} must be {low} to {high}, is {value}")
    return value
