"""A graph as plain data: inputs, states, nodes, outputs; its JSON form and its check. Knows the
operations' shape rules and names; never weights' values, files or search."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .errors import ModelFormatError
from .operations import (
    KINDS,
    MAX_DIMENSION,
    OPERATIONS,
    AttributeValue,
    Call,
    Kind,
    ShapeError,
    ValueType,
    call_operation,
)

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
MAX_NODES = 4096
# All values of a graph together, per row: bounds the memory that a small file can ask for.
MAX_FEATURES = 1 << 25
# Inputs that the engine itself provides; a graph that wants one declares it.
BUILT_IN = {
    "encoder": {"position": "ids", "source_length": "vector"},
    "decoder": {"step": "id", "source_length": "vector"},
}

References: TypeAlias = str | list[str]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Node:
    """One use of an operation. `inputs` maps roles to a reference or a list of references."""

    name: str
    op: str
    inputs: Mapping[str, References]
    weights: Mapping[str, str]
    attributes: Mapping[str, AttributeValue]

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
    """An encoder, or one step of a decoder. Only a decoder has states."""

    inputs: Mapping[str, ValueType] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    nodes: Sequence[Node] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)


def to_json(graph: Graph, role: str) -> dict[str, Any]:
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
            for node in graph.nodes
        ],
        "outputs": dict(graph.outputs),
    }
    if role == "decoder":
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


def from_json(document: object, role: str) -> Graph:
    """Reads a graph from its document; ModelFormatError names the key that breaks a rule."""
    where = f"graph {role}"
    keys = {"inputs", "nodes", "outputs"} | ({"states"} if role == "decoder" else set())
    fields = closed(document, keys, where)
    inputs = {
        name: _input(value, f"{where}, input {name!r}")
        for name, value in named(fields["inputs"], f"{where}, inputs").items()
    }
    states = {
        name: _state(value, f"{where}, state {name!r}")
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
    read = [_node(value, f"{where}, node {number}") for number, value in enumerate(nodes)]
    return Graph(inputs, states, read, outputs)


def check(graph: Graph, role: str, shapes: Shapes, encoder: Mapping[str, ValueType]) -> Types:
    """The type of every reference of a graph, in the order in which they become known.

    `shapes` gives the shape of each tensor, `encoder` the types of the encoder's outputs. Raises
    ModelFormatError naming the node and the shapes that do not fit.
    """
    types = _declared(graph, role, encoder)
    seen: set[str] = set()
    for node in graph.nodes:
        where = f"graph {role}, node {node.name!r} ({node.op})"
        if not NAME.fullmatch(node.name):
            raise ModelFormatError(f"{where}: a name must match {NAME.pattern}")
        if node.name in seen or node.name in graph.inputs:
            raise ModelFormatError(f"{where}: the name is taken already")
        seen.add(node.name)
        for output, type_ in node_types(node, types, shapes, where).items():
            types[f"{node.name}.{output}" if output else node.name] = type_
    for name, state in graph.states.items():
        where = f"graph {role}, state {name!r}"
        for what, reference in (("initial", state.initial), ("next", state.next)):
            if reference is not None:
                _expect(types, reference, state.type, f"{where}, {what}")
        if state.initial is not None and not state.initial.startswith("encoder."):
            raise ModelFormatError(
                f"{where}: initial is {state.initial!r}, must be an encoder output or null"
            )
    for name, reference in graph.outputs.items():
        if reference not in types:
            raise ModelFormatError(_unknown(f"graph {role}, output {name!r}", reference, types))
    _check_outputs(graph, role, types)
    total = sum(type_.size for name, type_ in types.items() if not name.startswith("encoder."))
    if total > MAX_FEATURES:
        raise ModelFormatError(
            f"graph {role} has {total} features in all its values, at most {MAX_FEATURES}"
        )
    return types


Types: TypeAlias = dict[str, ValueType]


def node_types(node: Node, types: Types, shapes: Shapes, where: str) -> dict[str, ValueType]:
    """The types of one node's outputs from those of its inputs and weights."""
    for reference in node.references():
        if reference not in types:
            raise ModelFormatError(_unknown(where, reference, types))
    for role, tensor in node.weights.items():
        if tensor not in shapes:
            raise ModelFormatError(f"{where}: {role} names tensor {tensor!r}, which is not there")
    inputs = {
        role: [types[r] for r in ([value] if isinstance(value, str) else value)]
        for role, value in node.inputs.items()
    }
    weights = {role: tuple(shapes[tensor]) for role, tensor in node.weights.items()}
    try:
        _check_lists(node)
        return call_operation(node.op, Call(inputs, weights, node.attributes))
    except ShapeError as error:
        raise ModelFormatError(f"{where}: {error}") from None


def _check_lists(node: Node) -> None:
    operation = OPERATIONS.get(node.op)
    for role in operation.inputs if operation else ():
        if role.name in node.inputs and isinstance(node.inputs[role.name], list) != role.many:
            raise ShapeError(f"{role.name} must be {'a list' if role.many else 'one reference'}")


def _declared(graph: Graph, role: str, encoder: Mapping[str, ValueType]) -> Types:
    types: Types = {}
    for name, type_ in graph.inputs.items():
        where = f"graph {role}, input {name!r}"
        want = BUILT_IN[role].get(name) or ("id" if role == "decoder" else None)
        if role == "decoder" and name not in ("token", *BUILT_IN[role]):
            raise ModelFormatError(f"{where}: a decoder's inputs are token, step, source_length")
        if (want is not None and type_.kind != want) or type_.kind == "alignment":
            raise ModelFormatError(f"{where} is {type_}, must be {want or 'a value'}")
        if name == "source_length" and type_.size != 1:
            raise ModelFormatError(f"{where} is {type_}, must be vector[1]")
        types[name] = type_
    if role == "decoder":
        types |= {f"encoder.{name}": type_ for name, type_ in encoder.items()}
        types |= {f"state.{name}": state.type for name, state in graph.states.items()}
    return types


def _check_outputs(graph: Graph, role: str, types: Types) -> None:
    outputs = {name: types[reference] for name, reference in graph.outputs.items()}
    for name, type_ in outputs.items():
        if type_.kind not in ("vector", "sequence", "alignment"):
            raise ModelFormatError(
                f"graph {role}, output {name!r} is {type_}, must be vector or sequence"
            )
    if role != "decoder":
        return
    if "token" not in graph.inputs:
        raise ModelFormatError("graph decoder: the input 'token' is missing")
    for name in outputs:
        if name not in ("logits", "alignment"):
            raise ModelFormatError(f"graph decoder: output {name!r} is neither logits nor alignment")
    if "logits" not in outputs:
        raise ModelFormatError("graph decoder: the output 'logits' is missing")
    vocabulary = graph.inputs["token"].size
    if outputs["logits"] != ValueType("vector", vocabulary):
        raise ModelFormatError(
            f"graph decoder, output 'logits' is {outputs['logits']}, must be vector[{vocabulary}], "
            f"one for each of the token's {vocabulary} ids"
        )
    if "alignment" in outputs and outputs["alignment"].kind != "sequence":
        raise ModelFormatError(
            f"graph decoder, output 'alignment' is {outputs['alignment']}, must be a sequence"
        )


def _expect(types: Types, reference: str, want: ValueType, where: str) -> None:
    if reference not in types:
        raise ModelFormatError(_unknown(where, reference, types))
    if types[reference] != want:
        raise ModelFormatError(f"{where}: {reference!r} is {types[reference]}, must be {want}")


def _unknown(where: str, reference: str, types: Types) -> str:
    known = ", ".join(list(types)[-12:]) or "nothing"
    return f"{where}: {reference!r} is not a value known here (the latest known: {known})"


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


def _state(value: object, where: str) -> State:
    fields = closed(value, {"kind", "size", "initial", "next"}, where)
    type_ = _type(fields, where)
    if type_.kind not in ("vector", "sequence"):
        raise ModelFormatError(f"{where} is {type_}, must be a vector or a sequence")
    if type_.kind == "sequence":
        raise NotImplementedError(f"{where}: states of kind sequence are not built yet")
    initial = fields["initial"]
    if initial is not None:
        text(initial, f"{where}, initial")
    return State(type_, initial, text(fields["next"], f"{where}, next"))


def _node(value: object, where: str) -> Node:
    fields = closed(value, {"name", "op", "inputs", "weights", "attributes"}, where)
    name = text(fields["name"], f"{where}, name")
    where = f"{where} {name!r}"
    inputs = named(fields["inputs"], f"{where}, inputs")
    for role, reference in inputs.items():
        for item in reference if isinstance(reference, list) else [reference]:
            text(item, f"{where}, input {role!r}")
    weights = named(fields["weights"], f"{where}, weights")
    for role, tensor in weights.items():
        text(tensor, f"{where}, weight {role!r}")
    attributes = named(fields["attributes"], f"{where}, attributes")
    return Node(name, text(fields["op"], f"{where}, op"), inputs, weights, attributes)


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
