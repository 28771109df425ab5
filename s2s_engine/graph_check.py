"""The check of a graph: every name known, every shape in its place, step by step. Knows the shape
rules of operations; never weights' values, documents or execution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ModelFormatError
from .graph import BUILT_IN, NAME, Graph, Node, Shapes, Types
from .operations import OPERATIONS, PLACES, Call, Place, ShapeError, ValueType, call_operation

# References begin with them: a node of this name could give a value that is another one already.
RESERVED = ("state", "encoder", "outer")
# All values of a graph together, per row, those of its scans' bodies among them; a sequence of
# aS+b positions counts a+b times. Bounds the memory that a file can ask for by what it brings: at
# most so many features, or so many for each weight.
MAX_FEATURES = 1 << 23
FEATURES_PER_WEIGHT = 16
# An output of a decoder that the search reads, and no other than one of them.
SCORES = ("logits", "log_probabilities")


@dataclass
class Scope:
    """What the nodes of one graph may use; it grows node by node.

    outer: around the body of a scan, the scope of its graph. features: of values in bodies.
    """

    place: Place
    types: Types
    shapes: Shapes
    outer: Scope | None = None
    features: int = 0

    def find(self, reference: str) -> ValueType | None:
        if self.outer is not None and reference.startswith("outer."):
            return self.outer.types.get(reference.removeprefix("outer."))
        return self.types.get(reference)

    def known(self, reference: str, where: str) -> ValueType:
        """The type of a reference; ModelFormatError where there is none."""
        type_ = self.find(reference)
        if type_ is None:
            known = ", ".join(list(self.types)[-12:]) or "nothing"
            raise ModelFormatError(
                f"{where}: {reference!r} is not a value known here (the latest known: {known})"
            )
        return type_

    def total(self) -> int:
        """The features of all values that the graph itself makes."""
        return self.features + sum(
            type_.size * max(1, sum(type_.length))
            for name, type_ in self.types.items()
            if not name.startswith("encoder.")
        )


def check(graph: Graph, role: Place, shapes: Shapes, encoder: Mapping[str, ValueType]) -> Types:
    """The type of every reference of a graph, in the order in which they become known.

    `shapes` gives the shape of each tensor, `encoder` the types of the encoder's outputs. Raises
    ModelFormatError naming the node and the shapes that do not fit.
    """
    where = f"graph {role}"
    scope = Scope(role, _declared(graph, role, encoder), shapes)
    _check_nodes(graph, scope, where)
    _check_states(graph, scope, where)
    for name, reference in graph.outputs.items():
        scope.known(reference, f"{where}, output {name!r}")
    _check_outputs(graph, role, scope.types)
    weights = sum(math.prod(shape) for shape in shapes.values())
    most = max(MAX_FEATURES, FEATURES_PER_WEIGHT * weights)
    if scope.total() > most:
        raise ModelFormatError(
            f"{where} has {scope.total()} features in all its values, at most {most} for a model "
            f"of {weights} weights"
        )
    return scope.types


def check_name(name: str, where: str) -> None:
    """The name of a node."""
    if not NAME.fullmatch(name):
        raise ModelFormatError(f"{where}: a name must match {NAME.pattern}")
    if name in RESERVED:
        raise ModelFormatError(f"{where}: {', '.join(RESERVED)} are no names of nodes")


def node_types(node: Node, scope: Scope, where: str) -> dict[str, ValueType]:
    """The types of one node's outputs from those of its inputs, weights and body."""
    for reference in node.references():
        scope.known(reference, where)
    for role, tensor in node.weights.items():
        if tensor not in scope.shapes:
            raise ModelFormatError(f"{where}: {role} names tensor {tensor!r}, which is not there")
    inputs = {
        role: [scope.known(r, where) for r in ([value] if isinstance(value, str) else value)]
        for role, value in node.inputs.items()
    }
    weights = {role: tuple(scope.shapes[tensor]) for role, tensor in node.weights.items()}
    body = node.body

    def check_body(x: ValueType) -> dict[str, ValueType]:
        return _body_types(body or Graph(), x, scope, f"{where}, body")

    try:
        _check_form(node, scope.place)
        call = Call(inputs, weights, node.attributes, None if body is None else check_body)
        return call_operation(node.op, call)
    except ShapeError as error:
        raise ModelFormatError(f"{where}: {error}") from None


def _body_types(graph: Graph, x: ValueType, outer: Scope, where: str) -> dict[str, ValueType]:
    """The types of a body's output, by the name "sequence", and of its states."""
    if dict(graph.inputs) != {"x": x}:
        given = ", ".join(f"{name} ({type_})" for name, type_ in graph.inputs.items()) or "none"
        raise ModelFormatError(f"{where}: its inputs are {given}; must be x ({x})")
    if "sequence" in graph.states:
        raise ModelFormatError(f"{where}: a state may not be called 'sequence'")
    states = {name: state.type for name, state in graph.states.items()}
    types = {"x": x} | {f"state.{name}": type_ for name, type_ in states.items()}
    scope = Scope("body", types, outer.shapes, outer)
    _check_nodes(graph, scope, where)
    _check_states(graph, scope, where)
    if set(graph.outputs) != {"sequence"}:
        given = ", ".join(graph.outputs) or "none"
        raise ModelFormatError(f"{where}: its outputs are {given}; must be sequence alone")
    out = scope.known(graph.outputs["sequence"], f"{where}, output 'sequence'")
    if out.kind != "vector":
        raise ModelFormatError(f"{where}, output 'sequence' is {out}, must be a vector")
    outer.features += scope.total()
    return {"sequence": out, **states}


def _check_nodes(graph: Graph, scope: Scope, where: str) -> None:
    seen: set[str] = set()
    for node in graph.nodes:
        here = f"{where}, node {node.name!r} ({node.op})"
        check_name(node.name, here)
        if node.name in seen or node.name in graph.inputs:
            raise ModelFormatError(f"{here}: the name is taken already")
        seen.add(node.name)
        for output, type_ in node_types(node, scope, here).items():
            scope.types[f"{node.name}.{output}" if output else node.name] = type_


def _check_states(graph: Graph, scope: Scope, where: str) -> None:
    kind = "an encoder output" if scope.place == "decoder" else "a value of the graph around it"
    prefix = "encoder." if scope.place == "decoder" else "outer."
    for name, state in graph.states.items():
        here = f"{where}, state {name!r}"
        for what, reference in (("initial", state.initial), ("next", state.next)):
            if reference is None:
                continue
            type_ = scope.known(reference, f"{here}, {what}")
            if type_ != state.type:
                raise ModelFormatError(
                    f"{here}, {what}: {reference!r} is {type_}, must be {state.type}"
                )
        if state.initial is not None and not state.initial.startswith(prefix):
            raise ModelFormatError(f"{here}: initial is {state.initial!r}, must be {kind} or null")


def _check_form(node: Node, place: Place) -> None:
    operation = OPERATIONS.get(node.op)
    if operation is None:
        return
    if place not in operation.places:
        raise ShapeError(f"may not stand in {PLACES[place]}")
    for role in operation.inputs:
        if role.name in node.inputs and isinstance(node.inputs[role.name], list) != role.many:
            raise ShapeError(f"{role.name} must be {'a list' if role.many else 'one reference'}")


def _declared(graph: Graph, role: Place, encoder: Mapping[str, ValueType]) -> Types:
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


def _check_outputs(graph: Graph, role: Place, types: Types) -> None:
    outputs = {name: types[reference] for name, reference in graph.outputs.items()}
    # An encoder hands ids through for its decoder, and may show an alignment.
    kinds = ("vector", "sequence") + (("ids", "alignment") if role == "encoder" else ())
    for name, type_ in outputs.items():
        if type_.kind not in kinds:
            raise ModelFormatError(
                f"graph {role}, output {name!r} is {type_}, must be vector or sequence"
            )
    if role != "decoder":
        return
    if "token" not in graph.inputs:
        raise ModelFormatError("graph decoder: the input 'token' is missing")
    for name in outputs:
        if name not in (*SCORES, "alignment"):
            raise ModelFormatError(
                f"graph decoder: output {name!r} is neither logits nor log_probabilities nor "
                "alignment"
            )
    given = [name for name in SCORES if name in outputs]
    if not given:
        raise ModelFormatError(
            "graph decoder: the output 'logits' is missing, or 'log_probabilities' in its place"
        )
    if len(given) > 1:
        raise ModelFormatError("graph decoder: it has logits and log_probabilities, must have one")
    vocabulary = graph.inputs["token"].size
    if outputs[given[0]] != ValueType("vector", vocabulary):
        raise ModelFormatError(
            f"graph decoder, output {given[0]!r} is {outputs[given[0]]}, must be "
            f"vector[{vocabulary}], one for each of the token's {vocabulary} ids"
        )
    if "alignment" in outputs and outputs["alignment"].kind != "sequence":
        raise ModelFormatError(
            f"graph decoder, output 'alignment' is {outputs['alignment']}, must be a sequence"
        )
