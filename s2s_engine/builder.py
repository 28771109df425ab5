"""`ModelBuilder`: a model written as the equations of a paper, checked at the line that writes
them. Knows graphs and weights; never how they are executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .builder_operations import Cell, Operations, Value, X, Xs, as_list
from .errors import ModelFormatError
from .graph import BUILT_IN, NAME, Graph, Node, State
from .graph_check import SCORES, Scope, check_name, node_types
from .model import Model
from .operations import OPERATIONS, Attribute, AttributeValue, Call, Kind, ShapeError, ValueType
from .shapes import scanned

__all__ = [
    "Array", "Cell", "DecoderBuilder", "EncoderBuilder", "GraphBuilder", "ModelBuilder",
    "StepBuilder", "Tensors", "Value", "X", "Xs",
]  # fmt: skip

Array: TypeAlias = NDArray[np.float32]


class Tensors:
    """The weights of a model by name. The same array object twice is one tensor (tied)."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
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
        self.arrays[name], self.shapes[name] = stored, stored.shape
        self._names[id(array)] = (array, name)
        return name

    def used_as(self, array: ArrayLike) -> str | None:
        known = self._names.get(id(array))
        return known[1] if known else None


class GraphBuilder(Operations):
    """Writes one graph. Every operation is a method; shapes that do not fit raise at the call."""

    role = ""

    def __init__(self, tensors: Tensors, scope: Scope) -> None:
        self._tensors, self._scope = tensors, scope
        self._inputs: dict[str, ValueType] = {}
        self._nodes: list[Node] = []
        self._outputs: dict[str, str] = {}
        self._taken: set[str] = set()

    def scan(
        self,
        x: Xs,
        body: Callable[[StepBuilder, Value], X],
        *,
        direction: str = "forward",
        name: str | None = None,
    ) -> tuple[Value, dict[str, Value]]:
        """A recurrence of one's own: (sequence, states after the last position visited, by name).

        `body(step, x_t)` writes one step on the graph `step` and returns its output, a vector. x_t
        is the join of `x` at one position; values of this graph are read as they are;
        `step.state` declares what is carried on and `step.next` gives its next value.
        """
        name = self._new_name("scan" if name is None else name, fixed=name is not None)
        where = f"{self.role} node {name!r} (scan)"
        given = [self._resolve(value, where) for value in as_list(x)]
        try:
            size = scanned(Call({"x": [value.type for value in given]}, {}, {})).size
        except ShapeError as error:
            raise ModelFormatError(f"{where}: {error}") from None
        self._taken.add(name)  # the body may write nodes of this graph, which need other names
        step = StepBuilder(self._tensors, self._scope, self, name, size)
        step.output(sequence=body(step, step.x))
        self._taken.remove(name)
        graph = step.graph()
        inputs: dict[str, Xs] = {"x": given}
        sequence, *states = self._call("scan", inputs, {}, {"direction": direction}, name, graph)
        return sequence, dict(zip(graph.states, states, strict=True))

    def output(self, **outputs: X) -> None:
        """Names outputs of the graph."""
        for name, value in outputs.items():
            if not NAME.fullmatch(name):
                raise ModelFormatError(f"output {name!r} must match {NAME.pattern}")
            self._outputs[name] = self._resolve(value, f"output {name!r}").reference

    def graph(self) -> Graph:
        return Graph(dict(self._inputs), {}, list(self._nodes), dict(self._outputs))

    def output_types(self) -> dict[str, ValueType]:
        return {
            name: self._scope.known(reference, f"output {name!r}")
            for name, reference in self._outputs.items()
        }

    def _input(self, name: str, type_: ValueType) -> Value:
        if not NAME.fullmatch(name) or name in self._taken:
            raise ModelFormatError(f"input {name!r} must be new and match {NAME.pattern}")
        self._taken.add(name)
        self._inputs[name] = type_
        self._scope.types[name] = type_
        return Value(self.role, name, type_)

    def _resolve(self, value: X, where: str) -> Value:
        if not isinstance(value, Value):
            raise ModelFormatError(f"{where}: {value!r} is not a value of the {self.role}")
        if value.graph == self.role:
            return value
        if value.graph.startswith(f"{self.role}."):
            raise ModelFormatError(
                f"{where}: {value} is of one step of {value.graph}; only what its body returns and "
                "its states leave a scan"
            )
        raise ModelFormatError(
            f"{where}: {value} is of the {value.graph}; the {self.role} reads an encoder's output "
            "by its name, a string"
        )

    def _call(
        self,
        op: str,
        inputs: Mapping[str, Xs],
        weights: Mapping[str, ArrayLike],
        attributes: Mapping[str, Any],
        name: str | None,
        body: Graph | None = None,
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
        node = Node(name, op, references, tensors, exact, body)
        outputs = node_types(node, self._scope, where)
        self._nodes.append(node)
        self._taken.add(name)
        values = []
        for role, type_ in outputs.items():
            reference = f"{name}.{role}" if role else name
            self._scope.types[reference] = type_
            values.append(Value(self.role, reference, type_))
        return values

    def _new_name(self, name: str, *, fixed: bool) -> str:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ModelFormatError(f"node name {name!r} must match {NAME.pattern}")
        check_name(name, f"node name {name!r}")
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
        super().__init__(tensors, Scope("encoder", {}, tensors.shapes))
        self._source = None if source is None else self._input("tokens", ValueType("ids", source))

    @property
    def tokens(self) -> Value:
        """The source's ids, one per position."""
        if self._source is None:
            raise ModelFormatError(
                "this encoder has no tokens: ModelBuilder(source=...) is not set"
            )
        return self._source

    def input(
        self, name: str, *, vector: int = 0, sequence: int = 0, ids: int = 0, id: int = 0
    ) -> Value:
        """Declares one more input: a vector or a sequence of features, ids below `ids`, one per
        position, or one id below `id` for the whole source."""
        given: dict[Kind, int] = {"vector": vector, "sequence": sequence, "ids": ids, "id": id}
        kinds = [ValueType(kind, size) for kind, size in given.items() if size]
        if len(kinds) != 1:
            raise ModelFormatError(f"input {name!r} takes one of vector=, sequence=, ids=, id=")
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


class StatefulBuilder(GraphBuilder):
    """Writes a step: a graph with states, which `variable` names in messages."""

    variable = ""

    def __init__(self, tensors: Tensors, scope: Scope) -> None:
        super().__init__(tensors, scope)
        self._states: dict[str, tuple[ValueType, str | None]] = {}
        self._next: dict[str, str] = {}

    def next(self, values: Mapping[str, X] | None = None, **named: X) -> None:
        """Gives states their next values."""
        for name, value in {**(values or {}), **named}.items():
            if name not in self._states:
                known = ", ".join(self._states) or "none"
                raise ModelFormatError(f"the {self.role} has no state {name!r}; it has {known}")
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
                f"state {missing[0]!r} has no next value: {self.variable}.next({missing[0]}=...)"
            )
        states = {
            name: State(type_, initial, self._next[name])
            for name, (type_, initial) in self._states.items()
        }
        return Graph(dict(self._inputs), states, list(self._nodes), dict(self._outputs))

    def _state(
        self, name: str, kinds: Sequence[Kind], kind: Kind | None, start: Value | None, size: Any
    ) -> Value:
        """Declares a state that starts as `start`, or as zeros of `size` and `kind`."""
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in self._states:
            raise ModelFormatError(f"state {name!r} must be new and match {NAME.pattern}")
        if kind is None:
            kind = "vector" if start is None else start.type.kind
        if kind not in kinds:
            given = f"kind {kind!r}" if start is None else str(start)
            raise ModelFormatError(
                f"state {name!r} starts as {given}, must be a {' or a '.join(kinds)}"
            )
        if start is None:
            if size is None:
                raise ModelFormatError(
                    f"state {name!r} takes initial= ({self._initial_is()}) or size="
                )
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ModelFormatError(f"state {name!r} has size {size!r}, must be at least 1")
        elif size is not None and size != start.type.size:
            raise ModelFormatError(f"state {name!r} has size {size}, but starts as {start}")
        type_ = ValueType(kind, size if start is None else start.type.size)
        if start is not None and start.type != type_:
            raise ModelFormatError(
                f"state {name!r} is {type_.with_length()}, but starts as {start}"
            )
        self._states[name] = (type_, None if start is None else start.reference)
        self._scope.types[f"state.{name}"] = type_
        return Value(self.role, f"state.{name}", type_)

    def _initial_is(self) -> str:
        return "a value of the graph around the scan"


class StepBuilder(StatefulBuilder):
    """Writes the body of a scan, one position; values of the graph around it are read as they are
    (and, in a decoder, an encoder output by its name)."""

    variable = "step"

    def __init__(
        self, tensors: Tensors, scope: Scope, outer: GraphBuilder, name: str, size: int
    ) -> None:
        super().__init__(tensors, Scope("body", {}, tensors.shapes, scope))
        self.role = f"{outer.role}.{name}"
        self._outer = outer
        self.x = self._input("x", ValueType("vector", size))

    def state(self, name: str, *, initial: X | None = None, size: int | None = None) -> Value:
        """A vector carried from position to position: starts as a vector of the graph around the
        scan, or as zeros of `size`."""
        if name == "sequence":
            raise ModelFormatError("a state of a scan may not be called 'sequence'")
        start = None
        if initial is not None:
            start = self._resolve(initial, f"state {name!r}, initial")
            if not start.reference.startswith("outer."):
                raise ModelFormatError(
                    f"state {name!r} starts as {start}, must start as {self._initial_is()}"
                )
        return self._state(name, ("vector",), None, start, size)

    def graph(self) -> Graph:
        graph = super().graph()
        out = self.output_types()["sequence"]
        if out.kind != "vector":
            raise ModelFormatError(f"the body of {self.role} returns {out}, must return a vector")
        return graph

    def _resolve(self, value: X, where: str) -> Value:
        if isinstance(value, Value) and value.graph == self.role:
            return value
        if not isinstance(value, (Value, str)):
            raise ModelFormatError(f"{where} of {self.role}: {value!r} is not a value")
        outer = self._outer._resolve(value, where)
        return Value(self.role, f"outer.{outer.reference}", outer.type)


class DecoderBuilder(StatefulBuilder):
    """Writes one decoder step; a string names an output of the encoder."""

    role = variable = "decoder"

    def __init__(self, tensors: Tensors, target: int, encoder: EncoderBuilder | None) -> None:
        super().__init__(tensors, Scope("decoder", {}, tensors.shapes))
        self._encoder = encoder
        self.token = self._input("token", ValueType("id", target))

    def step(self, bound: int) -> Value:
        """The number of the step, 0, 1, ...; `max_length` may not be above `bound`."""
        return self._input("step", ValueType("id", bound))

    def source_length(self) -> Value:
        """S as a vector[1]."""
        return self._input("source_length", ValueType("vector", 1))

    def state(
        self,
        name: str,
        *,
        initial: str | None = None,
        size: int | None = None,
        kind: Kind | None = None,
    ) -> Value:
        """A value carried from step to step: starts as an encoder output, or as zeros of `size`.

        kind: "vector", or "sequence" for `size` features at every source position; without it,
        that of the encoder output.
        """
        start = None if initial is None else self._resolve(initial, f"state {name!r}, initial")
        return self._state(name, ("vector", "sequence"), kind, start, size)

    def graph(self) -> Graph:
        graph = super().graph()
        if not set(SCORES) & set(self._outputs):
            raise ModelFormatError("the decoder has no logits: decoder.output(logits=...)")
        return graph

    def _initial_is(self) -> str:
        return "an encoder output"

    def _resolve(self, value: X, where: str) -> Value:
        if not isinstance(value, str) or self._encoder is None:
            return super()._resolve(value, where)
        outputs = self._encoder.output_types()
        if value not in outputs:
            known = ", ".join(outputs) or "none"
            raise ModelFormatError(f"{where}: the encoder has no output {value!r}; it has {known}")
        reference = f"encoder.{value}"
        self._scope.types.setdefault(reference, outputs[value])
        return Value(self.role, reference, outputs[value])


class ModelBuilder:
    """An encoder and a decoder step, written call by call.

    `source` is the size of the source vocabulary (None: an encoder of features, whose inputs are
    declared by `encoder.input`), `target` that of the target vocabulary (None: no decoder). An
    encoder without inputs and outputs is left out: the model continues a prompt.
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
        encoder = self.encoder.graph()
        graphs = {}
        if self._decoder is None or encoder.inputs or encoder.outputs:
            graphs["encoder"] = encoder
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


def _single(value: Xs) -> X:
    if isinstance(value, (Value, str)):
        return value
    raise ModelFormatError(f"{value!r} must be one value")
