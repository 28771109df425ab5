"""`ModelBuilder`: a model written as the equations of a paper, checked at the line that writes
them. Knows graphs and weights; never how they are executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ModelFormatError
from .graph import BUILT_IN, NAME, Graph, Node, State, Types, node_types
from .model import Model
from .operations import OPERATIONS, Attribute, AttributeValue, Kind, ValueType

Array: TypeAlias = NDArray[np.float32]
Cell: TypeAlias = Mapping[str, ArrayLike]


@dataclass(frozen=True)
class Value:
    """A handle on a value of one graph: what its calls return and take."""

    graph: str
    reference: str
    type: ValueType

    def __str__(self) -> str:
        return f"{self.reference} ({self.type})"


X: TypeAlias = "Value | str"
Xs: TypeAlias = "Value | str | Sequence[Value | str]"


class Tensors:
    """The weights of a model by name. The same array object twice is one tensor (tied)."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._names: dict[int, tuple[object, str]] = {}

    def add(self, array: ArrayLike, name: str) -> str:
        known = self._names.get(id(array))
        if known is not None:
            return known[1]
        converted = np.asarray(array)
        if converted.dtype.kind != "f":
            raise ModelFormatError(
                f"tensor {name!r} is of {converted.dtype}, must be float16, float32 or float64"
            )
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(converted, np.float32)
        if not np.isfinite(stored).all():
            raise ModelFormatError(f"tensor {name!r} holds a NaN or an infinity in float32")
        self.arrays[name] = stored
        self._names[id(array)] = (array, name)
        return name

    def used_as(self, array: ArrayLike) -> str | None:
        known = self._names.get(id(array))
        return known[1] if known else None


class GraphBuilder:
    """Writes one graph. Every operation is a method; shapes that do not fit raise at the call."""

    role = ""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._inputs: dict[str, ValueType] = {}
        self._nodes: list[Node] = []
        self._outputs: dict[str, str] = {}
        self._types: Types = {}
        self._taken: set[str] = set()

    # --- operations, in the order of docs/operations.md ---

    def embedding(
        self, x: X, weight: ArrayLike, *, scale: float = 1.0, name: str | None = None
    ) -> Value:
        """Row x of `weight` (V, D), times `scale`; the id -1 gives zeros."""
        return self._one("embedding", {"x": x}, {"weight": weight}, {"scale": scale}, name)

    def constant(
        self, value: ArrayLike | None = None, *, size: int | None = None, name: str | None = None
    ) -> Value:
        """A vector that depends on nothing: `value` (D), or zeros of `size`."""
        if (value is None) == (size is None):
            raise ModelFormatError("constant takes either a value or a size")
        length = np.shape(value)[0] if value is not None and np.ndim(value) == 1 else size
        weights = {} if value is None else {"value": value}
        return self._one("constant", {}, weights, {"size": length or 1}, name)

    def linear(
        self,
        x: Xs,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        activation: str = "identity",
        name: str | None = None,
    ) -> Value:
        """activation(W [x1; x2; ...] + b) with `weight` (O, I) and `bias` (O)."""
        weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
        return self._one("linear", {"x": _list(x)}, weights, {"activation": activation}, name)

    def concat(self, x: Sequence[X], *, name: str | None = None) -> Value:
        """The features of several values behind each other."""
        return self._one("concat", {"x": _list(x)}, {}, {}, name)

    def slice(self, x: X, start: int, stop: int, *, name: str | None = None) -> Value:
        """Features start ... stop-1 of x."""
        return self._one("slice", {"x": x}, {}, {"start": start, "stop": stop}, name)

    def add(self, *x: X, name: str | None = None) -> Value:
        """x1 + x2 + ..., from left to right; sizes equal or 1."""
        return self._one("add", {"x": list(x)}, {}, {}, name)

    def multiply(self, *x: X, name: str | None = None) -> Value:
        """x1 * x2 * ..., from left to right; sizes equal or 1."""
        return self._one("multiply", {"x": list(x)}, {}, {}, name)

    def interpolate(self, gate: X, a: X, b: X, *, name: str | None = None) -> Value:
        """gate a + (1 - gate) b."""
        return self._one("interpolate", {"gate": gate, "a": a, "b": b}, {}, {}, name)

    def activation(self, x: X, function: str, *, name: str | None = None) -> Value:
        """A function of each feature: tanh, sigmoid, relu, ... (docs/operations.md)."""
        return self._one("activation", {"x": x}, {}, {"function": function}, name)

    def softmax(self, x: X, *, name: str | None = None) -> Value:
        """Softmax over features."""
        return self._one("softmax", {"x": x}, {}, {}, name)

    def pool(self, x: X, how: str, *, name: str | None = None) -> Value:
        """A sequence made a vector: last, first, mean, max or sum over positions."""
        return self._one("pool", {"x": x}, {}, {"how": how}, name)

    def gru(
        self,
        x: Xs,
        cell: Cell,
        h: X | None = None,
        *,
        direction: str = "forward",
        reset: str = "after",
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        name: str | None = None,
    ) -> tuple[Value, Value]:
        """A GRU over the source, one direction: (sequence, h). Weights as in `gru_cell`."""
        attributes = {
            "direction": direction,
            "reset": reset,
            "activation": activation,
            "gate_activation": gate_activation,
        }
        sequence, last = self._call("gru", _cell_inputs(x, h=h), cell, attributes, name)
        return sequence, last

    def lstm(
        self,
        x: Xs,
        cell: Cell,
        h: X | None = None,
        c: X | None = None,
        *,
        direction: str = "forward",
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        clip: float = 0.0,
        name: str | None = None,
    ) -> tuple[Value, Value, Value]:
        """An LSTM over the source, one direction: (sequence, h, c). Weights as in `lstm_cell`."""
        attributes = {
            "direction": direction,
            "activation": activation,
            "gate_activation": gate_activation,
            "clip": clip,
        }
        inputs = _cell_inputs(x, h=h, c=c)
        sequence, last, memory = self._call("lstm", inputs, cell, attributes, name)
        return sequence, last, memory

    def gru_cell(
        self,
        x: Xs | None,
        h: X | None,
        cell: Cell,
        *,
        reset: str = "after",
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        name: str | None = None,
    ) -> Value:
        """One GRU step, h' = z h + (1-z) n (Cho et al. 2014, eqs. 5-8; z keeps the old state).

        `cell` maps weight_ih (3H, I), weight_hh (3H, H), bias_ih (3H), bias_hh (3H) to arrays with
        the gates r, z, n in this order. `reset`: 'after' the product with h (PyTorch) or 'before'.
        """
        attributes = {
            "reset": reset,
            "activation": activation,
            "gate_activation": gate_activation,
        }
        return self._one("gru_cell", _cell_inputs(x, h=h), cell, attributes, name)

    def lstm_cell(
        self,
        x: Xs | None,
        h: X | None,
        c: X | None,
        cell: Cell,
        *,
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        clip: float = 0.0,
        name: str | None = None,
    ) -> tuple[Value, Value]:
        """One LSTM step, (h', c') (Gers et al. 2000; gates i, f, g, o).

        `cell` maps weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H), bias_hh (4H) to arrays.
        """
        attributes = {
            "activation": activation,
            "gate_activation": gate_activation,
            "clip": clip,
        }
        h_next, c_next = self._call("lstm_cell", _cell_inputs(x, h=h, c=c), cell, attributes, name)
        return h_next, c_next

    def attention(
        self,
        *,
        values: X,
        query: X | None = None,
        keys: X | None = None,
        scores: X | None = None,
        v: ArrayLike | None = None,
        score: str | None = None,
        scale: float = 1.0,
        heads: int = 1,
        activation: str = "tanh",
        energy_activation: str = "identity",
        normaliser: str = "softmax",
        window: int = 0,
        gaussian: bool = False,
        name: str | None = None,
    ) -> tuple[Value, Value]:
        """(context, weights) over the source's positions.

        score 'dot': scale * query . key (Luong et al. 2015, eq. 8); 'additive':
        v . activation(query + key) (Bahdanau et al. 2015, appendix A.1.2, with both products done
        before); 'given': `scores`, a sequence[1]. Without `score`, what is given tells which.
        """
        if score is None:
            score = "given" if scores is not None else "dot" if v is None else "additive"
        given = {"query": query, "keys": keys, "scores": scores, "values": values}
        attributes: dict[str, AttributeValue] = {
            "score": score,
            "scale": scale,
            "heads": heads,
            "activation": activation,
            "energy_activation": energy_activation,
            "normaliser": normaliser,
            "window": window,
            "gaussian": gaussian,
        }
        inputs = {role: value for role, value in given.items() if value is not None}
        weights = {} if v is None else {"v": v}
        context, alignment = self._call("attention", inputs, weights, attributes, name)
        return context, alignment

    # --- writing ---

    def output(self, **outputs: X) -> None:
        """Names outputs of the graph."""
        for name, value in outputs.items():
            if not NAME.fullmatch(name):
                raise ModelFormatError(f"output {name!r} must match {NAME.pattern}")
            self._outputs[name] = self._resolve(value, f"output {name!r}").reference

    def graph(self) -> Graph:
        return Graph(dict(self._inputs), {}, list(self._nodes), dict(self._outputs))

    def output_types(self) -> dict[str, ValueType]:
        return {name: self._types[reference] for name, reference in self._outputs.items()}

    def _input(self, name: str, type_: ValueType) -> Value:
        if not NAME.fullmatch(name) or name in self._taken:
            raise ModelFormatError(f"input {name!r} must be new and match {NAME.pattern}")
        self._taken.add(name)
        self._inputs[name] = type_
        self._types[name] = type_
        return Value(self.role, name, type_)

    def _resolve(self, value: X, where: str) -> Value:
        if isinstance(value, Value):
            if value.graph != self.role:
                raise ModelFormatError(
                    f"{where}: {value} is of the {value.graph}; the {self.role} reads an "
                    "encoder's output by its name, a string"
                )
            return value
        raise ModelFormatError(f"{where}: {value!r} is not a value of the {self.role}")

    def _one(
        self,
        op: str,
        inputs: Mapping[str, Xs],
        weights: Mapping[str, ArrayLike],
        attributes: Mapping[str, Any],
        name: str | None,
    ) -> Value:
        (value,) = self._call(op, inputs, weights, attributes, name)
        return value

    def _call(
        self,
        op: str,
        inputs: Mapping[str, Xs],
        weights: Mapping[str, ArrayLike],
        attributes: Mapping[str, Any],
        name: str | None,
    ) -> list[Value]:
        name = self._new_name(op if name is None else name, fixed=name is not None)
        where = f"{self.role} node {name!r} ({op})"
        references = {
            role: [self._resolve(v, where).reference for v in value]
            if isinstance(value, list)
            else self._resolve(_single(value), where).reference
            for role, value in inputs.items()
        }
        tensors = {
            role: self._tensors.add(array, f"{self.role}.{name}.{role}")
            for role, array in weights.items()
        }
        # A float attribute is the float32 nearest to what the author wrote.
        rules = OPERATIONS[op].attributes
        exact = {
            key: _attribute(rules[key], value, f"{where}: attribute {key}")
            if key in rules
            else value
            for key, value in attributes.items()
        }
        node = Node(name, op, references, tensors, exact)
        shapes = {key: array.shape for key, array in self._tensors.arrays.items()}
        outputs = node_types(node, self._types, shapes, where)
        self._nodes.append(node)
        self._taken.add(name)
        values = []
        for role, type_ in outputs.items():
            reference = f"{name}.{role}" if role else name
            self._types[reference] = type_
            values.append(Value(self.role, reference, type_))
        return values

    def _new_name(self, name: str, *, fixed: bool) -> str:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ModelFormatError(f"node name {name!r} must match {NAME.pattern}")
        if name not in self._taken:
            return name
        if fixed:
            raise ModelFormatError(f"the {self.role} has a node or input {name!r} already")
        number = 2
        while f"{name}_{number}" in self._taken:
            number += 1
        return f"{name}_{number}"


class EncoderBuilder(GraphBuilder):
    """Writes the encoder; `tokens` is its first input."""

    role = "encoder"

    def __init__(self, tensors: Tensors, source: int | None) -> None:
        super().__init__(tensors)
        self._source = None if source is None else self._input("tokens", ValueType("ids", source))

    @property
    def tokens(self) -> Value:
        """The source's ids, one per position."""
        if self._source is None:
            raise ModelFormatError("this encoder has no tokens: ModelBuilder(source=...) is not set")
        return self._source

    def input(self, name: str, *, vector: int = 0, sequence: int = 0, ids: int = 0) -> Value:
        """Declares one more input: a vector or a sequence of features, or ids below `ids`."""
        given: dict[Kind, int] = {"vector": vector, "sequence": sequence, "ids": ids}
        kinds = [ValueType(kind, size) for kind, size in given.items() if size]
        if len(kinds) != 1:
            raise ModelFormatError(f"input {name!r} takes one of vector=, sequence=, ids=")
        if name in BUILT_IN[self.role]:
            raise ModelFormatError(f"input {name!r} is provided by the engine")
        return self._input(name, kinds[0])

    def position(self, bound: int) -> Value:
        """The ids 0 ... S-1 of the positions; sources of more than `bound` ids are refused."""
        return self._input("position", ValueType("ids", bound))

    def source_length(self) -> Value:
        """S as a vector[1]."""
        return self._input("source_length", ValueType("vector", 1))

    def bidirectional(
        self,
        layer: Callable[..., tuple[Value, ...]],
        x: Xs,
        forward: Cell,
        backward: Cell,
        **options: Any,
    ) -> tuple[Value, ...]:
        """Two layers, one in each direction: every output is [forward; backward]."""
        one = layer(x, forward, direction="forward", **options)
        other = layer(x, backward, direction="backward", **options)
        return tuple(self.concat([a, b]) for a, b in zip(one, other, strict=True))


class DecoderBuilder(GraphBuilder):
    """Writes one decoder step; a string names an output of the encoder."""

    role = "decoder"

    def __init__(self, tensors: Tensors, target: int, encoder: EncoderBuilder | None) -> None:
        super().__init__(tensors)
        self._encoder = encoder
        self._states: dict[str, tuple[ValueType, str | None]] = {}
        self._next: dict[str, str] = {}
        self.token = self._input("token", ValueType("id", target))

    def step(self, bound: int) -> Value:
        """The number of the step, 0, 1, ...; `max_length` may not be above `bound`."""
        return self._input("step", ValueType("id", bound))

    def source_length(self) -> Value:
        """S as a vector[1]."""
        return self._input("source_length", ValueType("vector", 1))

    def state(self, name: str, *, initial: str | None = None, size: int | None = None) -> Value:
        """A vector carried from step to step: starts as an encoder output, or as zeros of `size`."""
        if not NAME.fullmatch(name) or name in self._states:
            raise ModelFormatError(f"state {name!r} must be new and match {NAME.pattern}")
        reference = None
        if initial is not None:
            start = self._resolve(initial, f"state {name!r}, initial")
            reference, type_ = start.reference, start.type
            if size is not None and size != type_.size:
                raise ModelFormatError(f"state {name!r} has size {size}, but starts as {start}")
        elif size is not None:
            type_ = ValueType("vector", size)
        else:
            raise ModelFormatError(f"state {name!r} takes initial= (an encoder output) or size=")
        self._states[name] = (type_, reference)
        self._types[f"state.{name}"] = type_
        return Value(self.role, f"state.{name}", type_)

    def next(self, values: Mapping[str, X] | None = None, **named: X) -> None:
        """Gives states their next values."""
        for name, value in {**(values or {}), **named}.items():
            if name not in self._states:
                known = ", ".join(self._states) or "none"
                raise ModelFormatError(f"the decoder has no state {name!r}; it has {known}")
            given = self._resolve(value, f"next value of state {name!r}")
            if given.type != self._states[name][0]:
                raise ModelFormatError(
                    f"state {name!r} is {self._states[name][0]}, its next value is {given}"
                )
            self._next[name] = given.reference

    def graph(self) -> Graph:
        missing = [name for name in self._states if name not in self._next]
        if missing:
            raise ModelFormatError(
                f"state {missing[0]!r} has no next value: decoder.next({missing[0]}=...)"
            )
        if "logits" not in self._outputs:
            raise ModelFormatError("the decoder has no logits: decoder.output(logits=...)")
        states = {
            name: State(type_, initial, self._next[name])
            for name, (type_, initial) in self._states.items()
        }
        return Graph(dict(self._inputs), states, list(self._nodes), dict(self._outputs))

    def _resolve(self, value: X, where: str) -> Value:
        if isinstance(value, Value) or self._encoder is None:
            return super()._resolve(value, where)
        outputs = self._encoder.output_types()
        if value not in outputs:
            known = ", ".join(outputs) or "none"
            raise ModelFormatError(f"{where}: the encoder has no output {value!r}; it has {known}")
        reference = f"encoder.{value}"
        self._types.setdefault(reference, outputs[value])
        return Value(self.role, reference, outputs[value])


class ModelBuilder:
    """An encoder and a decoder step, written call by call.

    `source` is the size of the source vocabulary (None: an encoder of features, whose inputs are
    declared by `encoder.input`), `target` that of the target vocabulary (None: no decoder).
    """

    def __init__(self, source: int | None = None, target: int | None = None) -> None:
        self._tensors = Tensors()
        self.encoder = EncoderBuilder(self._tensors, source)
        self._decoder = (
            None if target is None else DecoderBuilder(self._tensors, target, self.encoder)
        )

    @property
    def decoder(self) -> DecoderBuilder:
        """The decoder step."""
        if self._decoder is None:
            raise ModelFormatError("this model has no decoder: ModelBuilder(target=...) is not set")
        return self._decoder

    def build(
        self,
        *,
        source: Mapping[str, Any] | None = None,
        start: int | None = None,
        end: Sequence[int] = (),
        vocabularies: Mapping[str, Sequence[str]] | None = None,
        characters: bool = False,
        generation: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        arrays: Mapping[str, ArrayLike] | None = None,
    ) -> Model:
        """The model, checked as a whole.

        `source` holds parts of the source rule (prepend, append, truncate, pad, reverse, unknown),
        `start` and `end` the ids that begin and end a target, `vocabularies` the strings by input
        name and for "target". With `arrays`, every one of them must have been used.
        """
        for name, array in (arrays or {}).items():
            if self._tensors.used_as(array) is None:
                raise ModelFormatError(f"array {name!r} is used by no node")
        graphs = {"encoder": self.encoder.graph()}
        if self._decoder is not None:
            graphs["decoder"] = self._decoder.graph()
        return Model.assemble(
            graphs=graphs,
            tensors=self._tensors.arrays,
            vocabularies=vocabularies or {},
            characters=characters,
            source=source or {},
            start=start,
            end=end,
            generation=generation or {},
            provenance=provenance or {},
        )


def _attribute(rule: Attribute, value: object, where: str) -> AttributeValue:
    try:
        return rule.check(value)
    except ValueError as error:
        raise ModelFormatError(f"{where} {error}") from None


def _list(x: Xs) -> list[X]:
    return [x] if isinstance(x, (Value, str)) else list(x)


def _single(value: Xs) -> X:
    if isinstance(value, (Value, str)):
        return value
    raise ModelFormatError(f"{value!r} must be one value")


def _cell_inputs(x: Xs | None, **states: X | None) -> dict[str, Xs]:
    inputs: dict[str, Xs] = {} if x is None else {"x": _list(x)}
    return inputs | {role: state for role, state in states.items() if state is not None}
