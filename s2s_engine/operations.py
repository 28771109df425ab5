"""The closed set of operations: roles, attributes, shape rule and places of each, as
docs/operations.md tells them. Knows names and ranges; never numbers, files or search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from . import shapes
from .shapes import KINDS, MAX_DIMENSION, AttributeValue, Call, Kind, Rule, ShapeError, ValueType

__all__ = [
    "ACTIVATIONS", "KINDS", "MAX_DIMENSION", "OPERATIONS", "PLACES", "Attribute", "AttributeValue",
    "Call", "Choice", "Flag", "Float", "Integer", "Kind", "Operation", "Place", "Role",
    "ShapeError", "ValueType", "call_operation", "check_attributes", "shortest_float32",
]  # fmt: skip

ACTIVATIONS = (
    "identity", "tanh", "sigmoid", "hard_sigmoid", "hard_sigmoid_6", "relu", "softplus",
)  # fmt: skip
# Where a node stands, and what messages call it.
Place: TypeAlias = str
PLACES: dict[Place, str] = {
    "encoder": "an encoder",
    "decoder": "a decoder",
    "body": "the body of a scan",
}


@dataclass(frozen=True)
class Role:
    """One named input or weight of an operation; `many` takes a list of references."""

    name: str
    optional: bool = False
    many: bool = False


@dataclass(frozen=True)
class Float:
    """A finite attribute that is exactly a float32."""

    default: float
    low: float | None = None

    def check(self, value: object) -> AttributeValue:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ShapeError(f"must be a number, is {value!r}")
        if not abs(value) <= float(np.finfo(np.float32).max):
            raise ShapeError(f"must be finite in float32, is {value!r}")
        if self.low is not None and value < self.low:
            raise ShapeError(f"must be at least {self.low:g}, is {value!r}")
        return shortest_float32(value)


@dataclass(frozen=True)
class Integer:
    """A whole attribute within bounds."""

    default: int | None
    low: int
    high: int = MAX_DIMENSION

    def check(self, value: object) -> AttributeValue:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ShapeError(f"must be an integer, is {value!r}")
        if not self.low <= value <= self.high:
            raise ShapeError(f"must be {self.low} to {self.high}, is {value}")
        return value


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    default: str
    words: tuple[str, ...]

    def check(self, value: object) -> AttributeValue:
        if not isinstance(value, str) or value not in self.words:
            raise ShapeError(f"must be one of {', '.join(self.words)}; is {value!r}")
        return value


@dataclass(frozen=True)
class Flag:
    """True or false."""

    default: bool

    def check(self, value: object) -> AttributeValue:
        if not isinstance(value, bool):
            raise ShapeError(f"must be true or false, is {value!r}")
        return value


Attribute: TypeAlias = Float | Integer | Choice | Flag


@dataclass(frozen=True)
class Operation:
    """Roles, attributes and shape rule of one operation. One output has the role ''.

    places: the graphs in which it may stand.
    """

    inputs: tuple[Role, ...]
    weights: tuple[Role, ...]
    attributes: Mapping[str, Attribute]
    rule: Rule
    places: tuple[Place, ...] = tuple(PLACES)


def shortest_float32(value: float) -> float:
    """The number whose shortest decimal reads back as the float32 nearest to `value`."""
    return float(str(np.float32(value)))


_X = (Role("x"),)
_XS = (Role("x", many=True),)
_H, _LSTM = ("h",), ("h", "c")
_ACTIVATION = Choice("identity", ACTIVATIONS)
_SCALE_AND_SHIFT = (Role("weight", optional=True), Role("bias", optional=True))
_CELL_WEIGHTS = (
    Role("weight_ih", optional=True),
    Role("weight_hh"),
    Role("bias_ih", optional=True),
    Role("bias_hh", optional=True),
)
_LSTM_WEIGHTS = (Role("peephole", optional=True), Role("projection", optional=True))
_RNN_ATTRIBUTES: dict[str, Attribute] = {"activation": Choice("tanh", ACTIVATIONS)}
_CELL_ATTRIBUTES: dict[str, Attribute] = {
    **_RNN_ATTRIBUTES,
    "gate_activation": Choice("sigmoid", ACTIVATIONS),
}
_GRU_ATTRIBUTES = {**_CELL_ATTRIBUTES, "reset": Choice("after", ("after", "before"))}
_LSTM_ATTRIBUTES: dict[str, Attribute] = {**_CELL_ATTRIBUTES, "clip": Float(0.0, low=0.0)}
_DIRECTION: dict[str, Attribute] = {"direction": Choice("forward", ("forward", "backward"))}


def _recurrent_operation(states: tuple[str, ...], gates: int, layer: bool) -> Operation:
    attributes: Mapping[str, Attribute] = {
        1: _RNN_ATTRIBUTES, 3: _GRU_ATTRIBUTES, 4: _LSTM_ATTRIBUTES
    }[gates]  # fmt: skip
    weights = _CELL_WEIGHTS if not layer else (Role("weight_ih"), *_CELL_WEIGHTS[1:])
    return Operation(
        inputs=(
            Role("x", many=True, optional=not layer),
            *(Role(state, optional=True) for state in states),
        ),
        weights=(*weights, *_LSTM_WEIGHTS) if gates == 4 else weights,
        attributes={**_DIRECTION, **attributes} if layer else attributes,
        rule=(shapes.layer if layer else shapes.cell)(gates, states),
    )


OPERATIONS: dict[str, Operation] = {
    "embedding": Operation(_X, (Role("weight"),), {"scale": Float(1.0)}, shapes.embedding),
    "one_hot": Operation(_X, (), {"size": Integer(None, 1)}, shapes.one_hot),
    "constant": Operation(
        (), (Role("value", optional=True),), {"size": Integer(None, 1)}, shapes.constant
    ),
    "linear": Operation(
        _XS,
        (Role("weight"), Role("bias", optional=True)),
        {"activation": _ACTIVATION},
        shapes.linear,
    ),
    "concat": Operation(_XS, (), {}, shapes.concat),
    "slice": Operation(
        _X, (), {"start": Integer(None, 0), "stop": Integer(None, 1)}, shapes.slice_
    ),
    "join": Operation(_XS, (), {}, shapes.join),
    "add": Operation(_XS, (), {}, shapes.map_many),
    "multiply": Operation(_XS, (), {}, shapes.map_many),
    "interpolate": Operation((Role("gate"), Role("a"), Role("b")), (), {}, shapes.interpolate),
    "activation": Operation(_X, (), {"function": Choice("tanh", ACTIVATIONS)}, shapes.same),
    "softmax": Operation(_X, (), {}, shapes.same),
    "maxout": Operation(_X, (), {"pieces": Integer(None, 1)}, shapes.maxout),
    "layer_norm": Operation(_X, _SCALE_AND_SHIFT, {"eps": Float(1e-5, low=0.0)}, shapes.layer_norm),
    "pool": Operation(
        _X, (), {"how": Choice("last", ("last", "first", "mean", "max", "sum"))}, shapes.pool
    ),
    "reverse": Operation(_X, (), {}, shapes.reverse),
    "to_positions": Operation(_X, (), {}, shapes.to_positions, places=("encoder", "decoder")),
    "scatter": Operation(
        (Role("weights"), Role("ids")), (), {"size": Integer(None, 1)}, shapes.scatter
    ),
    "first_step": Operation(
        (Role("first"), Role("otherwise")), (), {}, shapes.first_step, places=("decoder",)
    ),
    "rnn": _recurrent_operation(_H, 1, layer=True),
    "gru": _recurrent_operation(_H, 3, layer=True),
    "lstm": _recurrent_operation(_LSTM, 4, layer=True),
    "rnn_cell": _recurrent_operation(_H, 1, layer=False),
    "gru_cell": _recurrent_operation(_H, 3, layer=False),
    "lstm_cell": _recurrent_operation(_LSTM, 4, layer=False),
    "scan": Operation(_XS, (), _DIRECTION, shapes.scan, places=("encoder", "decoder")),
    "attention": Operation(
        (
            Role("query", optional=True),
            Role("keys", optional=True),
            Role("scores", optional=True),
            Role("values"),
            Role("centre", optional=True),
        ),
        (Role("v", optional=True), Role("energy_bias", optional=True)),
        {
            "score": Choice("dot", ("dot", "additive", "given")),
            "scale": Float(1.0),
            "heads": Integer(1, 1),
            "activation": Choice("tanh", ACTIVATIONS),
            "energy_activation": _ACTIVATION,
            "normaliser": Choice("softmax", ("softmax", "none")),
            "window": Integer(0, 0),
            "gaussian": Flag(False),
        },
        shapes.attention,
    ),
}


def call_operation(op: str, call: Call) -> dict[str, ValueType]:
    """Checks one use of an operation and returns the types of its outputs.

    Raises ShapeError where a role, an attribute or a shape breaks the operation's rule.
    """
    operation = OPERATIONS.get(op)
    if operation is None:
        raise ShapeError(f"is not an operation of format 1 ({', '.join(OPERATIONS)})")
    _check_roles("input", operation.inputs, call.inputs)
    _check_roles("weight", operation.weights, call.weights)
    for role in operation.inputs:
        if not role.many and role.name in call.inputs and len(call.inputs[role.name]) != 1:
            raise ShapeError(f"{role.name} must be one value")
    for name, shape in call.weights.items():
        if not shape or any(not 1 <= d <= MAX_DIMENSION for d in shape):
            raise ShapeError(f"{name} has shape {list(shape)}; dimensions are 1 to {MAX_DIMENSION}")
    attributes = check_attributes(op, call.attributes)
    return operation.rule(replace(call, attributes=attributes))


def check_attributes(op: str, attributes: Mapping[str, object]) -> dict[str, AttributeValue]:
    """The attributes of one node, each checked; all of the operation's must be there, no others."""
    rules = OPERATIONS[op].attributes
    unknown = [name for name in attributes if name not in rules]
    if unknown:
        raise ShapeError(f"has no attribute {unknown[0]!r}; it has {', '.join(rules) or 'none'}")
    checked: dict[str, AttributeValue] = {}
    for name, rule in rules.items():
        if name not in attributes:
            raise ShapeError(f"lacks the attribute {name!r}")
        try:
            checked[name] = rule.check(attributes[name])
        except ShapeError as error:
            raise ShapeError(f"attribute {name} {error}") from None
    return checked


def _check_roles(what: str, roles: Sequence[Role], given: Mapping[str, object]) -> None:
    known = {role.name for role in roles}
    for name in given:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ShapeError(f"has no {what} {name!r}; it has {listed}")
    for role in roles:
        if not role.optional and role.name not in given:
            raise ShapeError(f"lacks the {what} {role.name!r}")
