"""The closed set of operations: roles, attributes and the shape rule of each, as docs/operations.md
tells them. Knows kinds and sizes; never numbers, files or search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

Kind: TypeAlias = Literal["id", "ids", "vector", "sequence", "alignment"]
KINDS: tuple[Kind, ...] = ("id", "ids", "vector", "sequence", "alignment")
AttributeValue: TypeAlias = float | int | bool | str

MAX_DIMENSION = 1 << 24
ACTIVATIONS = (
    "identity", "tanh", "sigmoid", "hard_sigmoid", "hard_sigmoid_6", "relu", "softplus",
)  # fmt: skip


class ShapeError(ValueError):
    """What is wrong with one call of an operation; its caller adds where the call stands."""


@dataclass(frozen=True)
class ValueType:
    """Kind and size of a value. The size of `id` and `ids` is an exclusive upper bound."""

    kind: Kind
    size: int

    def __str__(self) -> str:
        return f"{self.kind}[{self.size}]"


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

    def check(self, value: object) -> AttributeValue:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ShapeError(f"must be a number, is {value!r}")
        if not abs(value) <= float(np.finfo(np.float32).max):
            raise ShapeError(f"must be finite in float32, is {value!r}")
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
class Call:
    """The types that meet in one node: what a shape rule sees."""

    inputs: Mapping[str, Sequence[ValueType]]
    weights: Mapping[str, tuple[int, ...]]
    attributes: Mapping[str, AttributeValue]

    def has(self, role: str) -> bool:
        return role in self.inputs or role in self.weights

    def input(self, role: str, *kinds: Kind) -> ValueType:
        value = self.inputs[role][0]
        if value.kind not in kinds:
            raise ShapeError(f"{role} is {value}, must be a {' or a '.join(kinds)}")
        return value

    def features(self, role: str = "x") -> ValueType:
        """The join of vectors and sequences along features."""
        values = self.inputs[role]
        if not values:
            raise ShapeError(f"{role} is an empty list, must name at least one value")
        for value in values:
            if value.kind not in ("vector", "sequence"):
                raise ShapeError(f"{role} holds {value}, must hold vectors and sequences")
        size = sum(value.size for value in values)
        if size > MAX_DIMENSION:
            raise ShapeError(f"{role} joins to {size} features, at most {MAX_DIMENSION}")
        return ValueType(_widest(values), size)

    def broadcast(self, values: Sequence[ValueType]) -> ValueType:
        for value in values:
            if value.kind not in ("vector", "sequence"):
                raise ShapeError(f"takes vectors and sequences, got {value}")
        sizes = {value.size for value in values if value.size != 1}
        if len(sizes) > 1:
            listed = ", ".join(str(value) for value in values)
            raise ShapeError(f"sizes must be equal or 1, got {listed}")
        return ValueType(_widest(values), sizes.pop() if sizes else 1)

    def expect(self, role: str, *shape: int | None) -> tuple[int, ...]:
        """The shape of a weight, of which the given dimensions must be as they are."""
        actual = self.weights[role]
        rule = "x".join("?" if d is None else str(d) for d in shape)
        fits = len(actual) == len(shape) and all(
            want is None or want == have for want, have in zip(shape, actual, strict=True)
        )
        if not fits:
            raise ShapeError(f"{role} is {'x'.join(map(str, actual))}, must be {rule}")
        return actual


Rule: TypeAlias = Callable[[Call], dict[str, ValueType]]


@dataclass(frozen=True)
class Operation:
    """Roles, attributes and shape rule of one operation. One output has the role ''."""

    inputs: tuple[Role, ...]
    weights: tuple[Role, ...]
    attributes: Mapping[str, Attribute]
    rule: Rule


def shortest_float32(value: float) -> float:
    """The number whose shortest decimal reads back as the float32 nearest to `value`."""
    return float(str(np.float32(value)))


def _widest(values: Sequence[ValueType]) -> Kind:
    return "sequence" if any(value.kind == "sequence" for value in values) else "vector"


def _embedding(call: Call) -> dict[str, ValueType]:
    x = call.input("x", "id", "ids")
    rows, size = call.expect("weight", None, None)
    if rows < x.size:
        raise ShapeError(f"weight has {rows} rows, fewer than the {x.size} ids of x")
    return {"": ValueType("vector" if x.kind == "id" else "sequence", size)}


def _constant(call: Call) -> dict[str, ValueType]:
    size = int(call.attributes["size"])
    if call.has("value"):
        call.expect("value", size)
    return {"": ValueType("vector", size)}


def _linear(call: Call) -> dict[str, ValueType]:
    x = call.features()
    size, _ = call.expect("weight", None, x.size)
    if call.has("bias"):
        call.expect("bias", size)
    return {"": ValueType(x.kind, size)}


def _concat(call: Call) -> dict[str, ValueType]:
    return {"": call.features()}


def _slice(call: Call) -> dict[str, ValueType]:
    x = call.input("x", "vector", "sequence")
    start, stop = int(call.attributes["start"]), int(call.attributes["stop"])
    if not start < stop <= x.size:
        raise ShapeError(f"takes features {start} to {stop} of x, which is {x}")
    return {"": ValueType(x.kind, stop - start)}


def _map_many(call: Call) -> dict[str, ValueType]:
    values = call.inputs["x"]
    if len(values) < 2:
        raise ShapeError(f"needs at least two values in x, got {len(values)}")
    return {"": call.broadcast(values)}


def _interpolate(call: Call) -> dict[str, ValueType]:
    return {"": call.broadcast([call.inputs[role][0] for role in ("gate", "a", "b")])}


def _same(call: Call) -> dict[str, ValueType]:
    return {"": call.input("x", "vector", "sequence")}


def _pool(call: Call) -> dict[str, ValueType]:
    return {"": ValueType("vector", call.input("x", "sequence").size)}


def _recurrent(call: Call, gates: int, states: Sequence[str]) -> int:
    """Checks the weights and states of a cell and returns its hidden size."""
    hidden = call.expect("weight_hh", None, None)[1]
    call.expect("weight_hh", gates * hidden, hidden)
    if call.has("x") != call.has("weight_ih"):
        raise ShapeError("x and weight_ih must be given together")
    if call.has("x"):
        call.expect("weight_ih", gates * hidden, call.features().size)
    for bias in ("bias_ih", "bias_hh"):
        if call.has(bias):
            call.expect(bias, gates * hidden)
    for state in states:
        if call.has(state):
            value = call.input(state, "vector")
            if value.size != hidden:
                raise ShapeError(f"{state} is {value}, must be vector[{hidden}]")
    return hidden


def _cell(gates: int, states: tuple[str, ...]) -> Rule:
    def rule(call: Call) -> dict[str, ValueType]:
        hidden = _recurrent(call, gates, states)
        if call.has("x") and call.features().kind != "vector":
            raise ShapeError("x holds a sequence; a cell takes vectors, a layer takes sequences")
        out = ValueType("vector", hidden)
        return {"": out} if len(states) == 1 else {state: out for state in states}

    return rule


def _layer(gates: int, states: tuple[str, ...]) -> Rule:
    def rule(call: Call) -> dict[str, ValueType]:
        hidden = _recurrent(call, gates, states)
        if call.features().kind != "sequence":
            raise ShapeError("x holds no sequence; a layer takes sequences, a cell takes vectors")
        out = ValueType("vector", hidden)
        return {"sequence": ValueType("sequence", hidden), **{state: out for state in states}}

    return rule


def _attention(call: Call) -> dict[str, ValueType]:
    score = call.attributes["score"]
    values = call.input("values", "sequence")
    needed = {"dot": ("query", "keys"), "additive": ("query", "keys", "v"), "given": ("scores",)}
    roles = needed[str(score)]
    for role in ("query", "keys", "scores", "v"):
        if call.has(role) != (role in roles):
            verb = "needs" if role in roles else "does not take"
            raise ShapeError(f"score {score!r} {verb} {role}")
    if score == "given":
        scores = call.input("scores", "sequence")
        if scores.size != 1:
            raise ShapeError(f"scores is {scores}, must be sequence[1]")
    else:
        query, keys = call.input("query", "vector"), call.input("keys", "sequence")
        if query.size != keys.size:
            raise ShapeError(f"query is {query} and keys is {keys}: sizes must be equal")
        if score == "additive":
            call.expect("v", keys.size)
    return {"context": ValueType("vector", values.size), "weights": ValueType("sequence", 1)}


_X = (Role("x"),)
_XS = (Role("x", many=True),)
_LSTM = ("h", "c")
_ACTIVATION = Choice("identity", ACTIVATIONS)
_CELL_WEIGHTS = (
    Role("weight_ih", optional=True),
    Role("weight_hh"),
    Role("bias_ih", optional=True),
    Role("bias_hh", optional=True),
)
_CELL_ATTRIBUTES: dict[str, Attribute] = {
    "activation": Choice("tanh", ACTIVATIONS),
    "gate_activation": Choice("sigmoid", ACTIVATIONS),
}
_GRU_ATTRIBUTES = {**_CELL_ATTRIBUTES, "reset": Choice("after", ("after", "before"))}
# clip stands in the file from version 1 on; values other than 0 come with projection.
_LSTM_ATTRIBUTES: dict[str, Attribute] = {**_CELL_ATTRIBUTES, "clip": Float(0.0)}
_DIRECTION: dict[str, Attribute] = {"direction": Choice("forward", ("forward", "backward"))}


def _recurrent_operation(states: tuple[str, ...], gates: int, layer: bool) -> Operation:
    attributes: Mapping[str, Attribute] = _LSTM_ATTRIBUTES if gates == 4 else _GRU_ATTRIBUTES
    return Operation(
        inputs=(
            Role("x", many=True, optional=not layer),
            *(Role(state, optional=True) for state in states),
        ),
        weights=_CELL_WEIGHTS if not layer else (Role("weight_ih"), *_CELL_WEIGHTS[1:]),
        attributes={**_DIRECTION, **attributes} if layer else attributes,
        rule=(_layer if layer else _cell)(gates, states),
    )


OPERATIONS: dict[str, Operation] = {
    "embedding": Operation(_X, (Role("weight"),), {"scale": Float(1.0)}, _embedding),
    "constant": Operation(
        (), (Role("value", optional=True),), {"size": Integer(None, 1)}, _constant
    ),
    "linear": Operation(
        _XS, (Role("weight"), Role("bias", optional=True)), {"activation": _ACTIVATION}, _linear
    ),
    "concat": Operation(_XS, (), {}, _concat),
    "slice": Operation(_X, (), {"start": Integer(None, 0), "stop": Integer(None, 1)}, _slice),
    "add": Operation(_XS, (), {}, _map_many),
    "multiply": Operation(_XS, (), {}, _map_many),
    "interpolate": Operation((Role("gate"), Role("a"), Role("b")), (), {}, _interpolate),
    "activation": Operation(_X, (), {"function": Choice("tanh", ACTIVATIONS)}, _same),
    "softmax": Operation(_X, (), {}, _same),
    "pool": Operation(
        _X, (), {"how": Choice("last", ("last", "first", "mean", "max", "sum"))}, _pool
    ),
    "gru": _recurrent_operation(("h",), 3, layer=True),
    "lstm": _recurrent_operation(_LSTM, 4, layer=True),
    "gru_cell": _recurrent_operation(("h",), 3, layer=False),
    "lstm_cell": _recurrent_operation(_LSTM, 4, layer=False),
    "attention": Operation(
        (
            Role("query", optional=True),
            Role("keys", optional=True),
            Role("scores", optional=True),
            Role("values"),
        ),
        (Role("v", optional=True),),
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
        _attention,
    ),
}

# Values of attributes that the format has and the engine does not run yet: everything but these.
BUILT: dict[str, dict[str, AttributeValue]] = {
    "attention": {"heads": 1, "energy_activation": "identity", "window": 0, "gaussian": False},
    "lstm": {"clip": 0.0},
    "lstm_cell": {"clip": 0.0},
}


def call_operation(op: str, call: Call) -> dict[str, ValueType]:
    """Checks one use of an operation and returns the types of its outputs.

    Raises ShapeError where a role, an attribute or a shape breaks the operation's rule, and
    NotImplementedError for what the format has and this version does not run.
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
    outputs = operation.rule(Call(call.inputs, call.weights, attributes))
    for name, value in BUILT.get(op, {}).items():
        if attributes[name] != value:
            raise NotImplementedError(f"{op} with {name}={attributes[name]!r} is not built yet")
    return outputs


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
