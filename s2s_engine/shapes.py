"""Kinds, sizes and lengths of values, and the shape rule of every operation, as docs/operations.md
tells them. Knows types; never numbers, references, files or search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["id", "ids", "vector", "sequence", "alignment"]
KINDS: tuple[Kind, ...] = ("id", "ids", "vector", "sequence", "alignment")
AttributeValue: TypeAlias = float | int | bool | str

MAX_DIMENSION = 1 << 24
# A joined sequence has a S + b positions: at most these.
MAX_SOURCES, MAX_POSITIONS = 16, 4096


class ShapeError(ValueError):
    """What is wrong with one call of an operation; its caller adds where the call stands."""


@dataclass(frozen=True)
class ValueType:
    """Kind, size and length of a value. The size of `id` and `ids` is an exclusive upper bound.

    length (a, b): a value of kind ids or sequence has a S + b positions with S those of the
    source; an alignment's length is that of its query. The other kinds have none, (0, 0).
    """

    kind: Kind
    size: int
    length: tuple[int, int] = (1, 0)

    def __post_init__(self) -> None:
        if self.kind in ("id", "vector"):
            object.__setattr__(self, "length", (0, 0))

    def __str__(self) -> str:
        return self.with_length() if sum(self.length) > 1 else f"{self.kind}[{self.size}]"

    def with_length(self) -> str:
        """As text that names the length even where it is the source's."""
        a, b = self.length
        if a + b == 0:
            return f"{self.kind}[{self.size}]"
        positions = f"{a if a > 1 else ''}S{f'+{b}' if b else ''}"
        return f"{self.kind}[{self.size}] of {positions} positions"


@dataclass(frozen=True)
class Call:
    """The types that meet in one node: what a shape rule sees.

    body: of a scan, the check of its body, which takes the type of `x` in it and gives those of
    its output, by the name "sequence", and of its states.
    """

    inputs: Mapping[str, Sequence[ValueType]]
    weights: Mapping[str, tuple[int, ...]]
    attributes: Mapping[str, AttributeValue]
    body: Callable[[ValueType], Mapping[str, ValueType]] | None = None

    def has(self, role: str) -> bool:
        return role in self.inputs or role in self.weights

    def input(self, role: str, *kinds: Kind, size: int | None = None) -> ValueType:
        value = self.inputs[role][0]
        if value.kind not in kinds:
            raise ShapeError(f"{role} is {value}, must be a {' or a '.join(kinds)}")
        if size is not None and value.size != size:
            raise ShapeError(f"{role} is {value}, must be {value.kind}[{size}]")
        return value

    def integer(self, name: str) -> int:
        return int(self.attributes[name])

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
        return _combined(values, size, role)

    def broadcast(self, values: Sequence[ValueType]) -> ValueType:
        for value in values:
            if value.kind not in ("vector", "sequence"):
                raise ShapeError(f"takes vectors and sequences, got {value}")
        sizes = {value.size for value in values if value.size != 1}
        if len(sizes) > 1:
            listed = ", ".join(str(value) for value in values)
            raise ShapeError(f"sizes must be equal or 1, got {listed}")
        return _combined(values, sizes.pop() if sizes else 1, "a call")

    def equal_lengths(self, role: str, other: str) -> None:
        """Two sequences, or ids and a sequence, position by position."""
        one, two = self.inputs[role][0], self.inputs[other][0]
        if one.length != two.length:
            raise ShapeError(
                f"{role} is {one.with_length()} and {other} is {two.with_length()}: lengths must "
                "be equal"
            )

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


def _combined(values: Sequence[ValueType], size: int, where: str) -> ValueType:
    """What vectors and sequences of one length become together."""
    sequences = [value for value in values if value.kind == "sequence"]
    for other in sequences[1:]:
        if other.length != sequences[0].length:
            raise ShapeError(
                f"{where} holds {sequences[0].with_length()} and {other.with_length()}: lengths "
                "must be equal"
            )
    if sequences:
        return ValueType("sequence", size, sequences[0].length)
    return ValueType("vector", size)


# --- the rules, in the order of docs/operations.md ---


def embedding(call: Call) -> dict[str, ValueType]:
    x = call.input("x", "id", "ids")
    rows, size = call.expect("weight", None, None)
    if rows < x.size:
        raise ShapeError(f"weight has {rows} rows, fewer than the {x.size} ids of x")
    return {"": _looked_up(x, size)}


def one_hot(call: Call) -> dict[str, ValueType]:
    x, size = call.input("x", "id", "ids"), call.integer("size")
    if size < x.size:
        raise ShapeError(f"size is {size}, fewer than the {x.size} ids of x")
    return {"": _looked_up(x, size)}


def _looked_up(x: ValueType, size: int) -> ValueType:
    return ValueType("vector" if x.kind == "id" else "sequence", size, x.length)


def constant(call: Call) -> dict[str, ValueType]:
    size = call.integer("size")
    if call.has("value"):
        call.expect("value", size)
    return {"": ValueType("vector", size)}


def linear(call: Call) -> dict[str, ValueType]:
    x = call.features()
    size, _ = call.expect("weight", None, x.size)
    if call.has("bias"):
        call.expect("bias", size)
    return {"": ValueType(x.kind, size, x.length)}


def concat(call: Call) -> dict[str, ValueType]:
    return {"": call.features()}


def slice_(call: Call) -> dict[str, ValueType]:
    x = call.input("x", "vector", "sequence")
    start, stop = call.integer("start"), call.integer("stop")
    if not start < stop <= x.size:
        raise ShapeError(f"takes features {start} to {stop} of x, which is {x}")
    return {"": ValueType(x.kind, stop - start, x.length)}


def join(call: Call) -> dict[str, ValueType]:
    values = call.inputs["x"]
    listed = ", ".join(str(value) for value in values) or "nothing"
    if len(values) < 2:
        raise ShapeError(f"needs at least two values in x, got {listed}")
    for value in values:
        if value.kind not in ("vector", "sequence"):
            raise ShapeError(f"x holds {value}, must hold vectors and sequences")
    if len({value.size for value in values}) > 1:
        raise ShapeError(f"sizes must be equal, got {listed}")
    if all(value.kind == "vector" for value in values):
        raise ShapeError(f"x holds no sequence, got {listed}")
    # A vector is one position.
    lengths = [(0, 1) if value.kind == "vector" else value.length for value in values]
    a, b = sum(length[0] for length in lengths), sum(length[1] for length in lengths)
    joined = ValueType("sequence", values[0].size, (a, b))
    if a > MAX_SOURCES or b > MAX_POSITIONS:
        raise ShapeError(
            f"makes {joined.with_length()}, at most {MAX_SOURCES}S+{MAX_POSITIONS} are allowed"
        )
    return {"": joined}


def map_many(call: Call) -> dict[str, ValueType]:
    values = call.inputs["x"]
    if len(values) < 2:
        raise ShapeError(f"needs at least two values in x, got {len(values)}")
    return {"": call.broadcast(values)}


def interpolate(call: Call) -> dict[str, ValueType]:
    return {"": call.broadcast([call.inputs[role][0] for role in ("gate", "a", "b")])}


def same(call: Call) -> dict[str, ValueType]:
    return {"": call.input("x", "vector", "sequence")}


def maxout(call: Call) -> dict[str, ValueType]:
    x, pieces = call.input("x", "vector", "sequence"), call.integer("pieces")
    if x.size % pieces:
        raise ShapeError(f"x is {x}, its size must be a multiple of pieces, which is {pieces}")
    return {"": ValueType(x.kind, x.size // pieces, x.length)}


def layer_norm(call: Call) -> dict[str, ValueType]:
    x = call.input("x", "vector", "sequence")
    for role in ("weight", "bias"):
        if call.has(role):
            call.expect(role, x.size)
    return {"": x}


def pool(call: Call) -> dict[str, ValueType]:
    return {"": ValueType("vector", call.input("x", "sequence").size)}


def reverse(call: Call) -> dict[str, ValueType]:
    return {"": call.input("x", "sequence", "ids")}


def to_positions(call: Call) -> dict[str, ValueType]:
    call.input("x", "vector")
    return {"": ValueType("sequence", 1)}


def scatter(call: Call) -> dict[str, ValueType]:
    call.input("weights", "sequence", size=1)
    ids, size = call.input("ids", "ids"), call.integer("size")
    call.equal_lengths("weights", "ids")
    if size < ids.size:
        raise ShapeError(f"size is {size}, fewer than the {ids.size} of ids")
    return {"": ValueType("vector", size)}


def first_step(call: Call) -> dict[str, ValueType]:
    first, otherwise = call.input("first", "vector"), call.input("otherwise", "vector")
    if first != otherwise:
        raise ShapeError(f"first is {first} and otherwise is {otherwise}: sizes must be equal")
    return {"": first}


def _recurrent(call: Call, gates: int, states: Sequence[str]) -> dict[str, ValueType]:
    """Checks the weights and states of a cell and returns the types of its states.

    With a projection (P, H), h has the size P and c the size H.
    """
    size = call.expect("weight_hh", None, None)[1]
    hidden = size
    if call.has("projection"):
        size, hidden = call.expect("projection", None, None)
    call.expect("weight_hh", gates * hidden, size)
    if call.has("x") != call.has("weight_ih"):
        raise ShapeError("x and weight_ih must be given together")
    if call.has("x"):
        call.expect("weight_ih", gates * hidden, call.features().size)
    for bias in ("bias_ih", "bias_hh"):
        if call.has(bias):
            call.expect(bias, gates * hidden)
    if call.has("peephole"):
        call.expect("peephole", 3 * hidden)
    types = {state: ValueType("vector", size if state == "h" else hidden) for state in states}
    for state, want in types.items():
        if call.has(state) and call.input(state, "vector") != want:
            raise ShapeError(f"{state} is {call.inputs[state][0]}, must be {want}")
    return types


def cell(gates: int, states: tuple[str, ...]) -> Rule:
    def rule(call: Call) -> dict[str, ValueType]:
        types = _recurrent(call, gates, states)
        if call.has("x") and call.features().kind != "vector":
            raise ShapeError("x holds a sequence; a cell takes vectors, a layer takes sequences")
        return {"": types["h"]} if len(states) == 1 else types

    return rule


def layer(gates: int, states: tuple[str, ...]) -> Rule:
    def rule(call: Call) -> dict[str, ValueType]:
        types = _recurrent(call, gates, states)
        x = call.features()
        if x.kind != "sequence":
            raise ShapeError("x holds no sequence; a layer takes sequences, a cell takes vectors")
        return {"sequence": ValueType("sequence", types["h"].size, x.length), **types}

    return rule


def scanned(call: Call) -> ValueType:
    """What a scan goes over: the join of x, which holds a sequence."""
    x = call.features()
    if x.kind != "sequence":
        raise ShapeError(f"x holds no sequence, it joins to {x}")
    return x


def scan(call: Call) -> dict[str, ValueType]:
    x = scanned(call)
    if call.body is None:
        raise ShapeError("lacks a body")
    results = dict(call.body(ValueType("vector", x.size)))
    out = results.pop("sequence")
    return {"sequence": ValueType("sequence", out.size, x.length), **results}


def attention(call: Call) -> dict[str, ValueType]:
    score = call.attributes["score"]
    values = call.input("values", "sequence")
    needed = {"dot": ("query", "keys"), "additive": ("query", "keys", "v"), "given": ("scores",)}
    roles = needed[str(score)]
    for role in ("query", "keys", "scores", "v"):
        if call.has(role) != (role in roles):
            verb = "needs" if role in roles else "does not take"
            raise ShapeError(f"score {score!r} {verb} {role}")
    heads = call.integer("heads")
    _whole_heads("values", values, heads)
    query = None
    if score == "given":
        call.input("scores", "sequence", size=heads)
        call.equal_lengths("scores", "values")
    else:
        query, keys = call.input("query", "vector", "sequence"), call.input("keys", "sequence")
        if query.size != keys.size:
            raise ShapeError(f"query is {query} and keys is {keys}: sizes must be equal")
        _whole_heads("keys", keys, heads)
        call.equal_lengths("keys", "values")
        if score == "additive":
            call.expect("v", keys.size)
    if call.has("energy_bias"):
        call.expect("energy_bias", 1)
    along_query = query is not None and query.kind == "sequence"
    _centre(call, along_query)
    if query is not None and along_query:
        context = ValueType("sequence", values.size, query.length)
        return {"context": context, "weights": ValueType("alignment", heads, query.length)}
    weights = ValueType("sequence", heads, values.length)
    return {"context": ValueType("vector", values.size), "weights": weights}


def _whole_heads(role: str, value: ValueType, heads: int) -> None:
    if value.size % heads:
        raise ShapeError(f"{role} is {value}, its size must be a multiple of the {heads} heads")


def _centre(call: Call, along_query: bool) -> None:
    """One number for the query, or for each of its positions."""
    window = call.integer("window")
    if not call.has("centre"):
        if window:
            raise ShapeError(f"window is {window}, must be 0 without a centre")
        if call.attributes["gaussian"]:
            raise ShapeError("gaussian needs a centre")
        return
    if not window:
        raise ShapeError("window is 0, must be at least 1 with a centre")
    centre = call.input("centre", *(("sequence", "ids") if along_query else ("vector", "id")))
    if centre.kind in ("vector", "sequence"):
        call.input("centre", centre.kind, size=1)
    if along_query:
        call.equal_lengths("centre", "query")
