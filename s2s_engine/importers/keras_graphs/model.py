"""A layer graph of Keras as a model: its inputs are told apart, the decoder that ran over a whole
target becomes a step. Knows inputs and outputs; never options' meaning or files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...builder import ModelBuilder, Value
from ...errors import ModelFormatError
from .graph import Layer, LayerGraph, Tensor, clean, inner, tensors_in
from .layers import IDENTITIES, OPERATIONS, Translator
from .values import Features, Final, Found, Graphs, Ids, RoleError


@dataclass(frozen=True)
class Input:
    """An input of a model: ids, one-hot rows or features, of `size`, or a vector; length: of its
    shape, None if any."""

    name: str
    kind: str
    size: int
    length: int | None

    @property
    def has_positions(self) -> bool:
        return self.kind != "vector"


@dataclass(frozen=True)
class Plan:
    """What the inputs are. source: the input that becomes the tokens, else the first one with
    positions. masked: what reads it knows its padding. size: of the logits. steps: of the
    target's shape."""

    inputs: list[Input]
    target: Input | None
    source: Input | None
    decodes: bool
    masked: bool
    steps: int | None
    size: int
    last: Layer

    @property
    def has_tokens(self) -> bool:
        return self.source is not None and self.source.kind in ("ids", "one_hot")


def inputs_of(graph: LayerGraph, target: str | None, *, features: bool) -> list[Input]:
    """The model's inputs; features: those of rank 3, but for the target's, hold numbers, not
    one-hot rows."""
    found = []
    for tensor in graph.inputs:
        layer = graph.layers[tensor.layer]
        shape = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
        where = f"input {layer.name!r}"
        if not isinstance(shape, (list, tuple)) or not 2 <= len(shape) <= 3:
            raise ModelFormatError(f"{where} has the shape {shape}; two or three axes are read")
        if any(size is not None and (type(size) is not int or size < 1) for size in shape):
            raise ModelFormatError(f"{where} has the shape {shape}")
        length = shape[1]
        readers = [one for one in graph.consumers(layer.name) if one.kind not in OPERATIONS]
        tables = [one for one in readers if one.kind == "Embedding"]
        if len(shape) == 3:
            if shape[2] is None:
                raise ModelFormatError(f"{where} has any number of features")
            numbers = features and layer.name != target
            kind, size = "features" if numbers else "one_hot", shape[2]
        elif tables:
            if len(tables) != len(readers):
                raise ModelFormatError(f"{where} is read as ids and as numbers")
            kind, size = "ids", min(one.groups[0]["embeddings"].shape[0] for one in tables)
        elif length is None:
            raise ModelFormatError(f"{where} is read by no Embedding and has no size")
        else:
            kind, size, length = "vector", length, None
        found.append(Input(layer.name, kind, size, length))
    return found


def candidates(graph: LayerGraph, *, features: bool) -> list[str]:
    """The inputs that can be a decoder's as far as their calls tell: those from which the output
    is a sequence of steps, each of which reads the steps before it alone."""
    found: list[str] = []
    errors: list[str] = []
    for one in inputs_of(graph, None, features=False):
        if one.kind in ("ids", "one_hot"):
            try:
                write(graph, plan(graph, one.name, features=features))
                found.append(one.name)
            except RoleError as error:
                errors.append(f"{one.name!r} is not: {error}")
    if not found:
        raise ModelFormatError(f"no input is a decoder's: {'; '.join(errors) or 'none has ids'}")
    return found


def plan(graph: LayerGraph, target: str | None, *, features: bool) -> Plan:
    """The inputs' parts with `target` as the decoder's input; None: the model has none."""
    if len(graph.outputs) != 1:
        raise ModelFormatError(
            f"the model has {len(graph.outputs)} outputs, must have one: save a model of the "
            "probabilities alone"
        )
    inputs = inputs_of(graph, target, features=features)
    goal = next((one for one in inputs if one.name == target), None)
    repeats = [one for one in graph.layers.values() if one.kind == "RepeatVector"]
    sources = [one for one in inputs if one is not goal]
    ids = [one for one in sources if one.kind in ("ids", "one_hot")]
    source = next(iter([*ids, *(one for one in sources if one.has_positions)]), None)
    last, size = _last_layer(graph)
    if goal is not None and goal.size < size:
        raise ModelFormatError(f"the target's input has {goal.size} ids, the output {size} logits")
    steps = goal.length if goal is not None else _steps(repeats) if repeats else None
    decodes = goal is not None or bool(repeats)
    masked = _masked(graph, source)
    return Plan(inputs, goal, source, decodes, masked, steps, size, last)


def write(
    graph: LayerGraph, what: Plan, *, zeros: bool = False, padded: bool | None = None
) -> ModelBuilder:
    """Both graphs; RoleError where the plan's target is no decoder's input.

    zeros: the tokens have one id more, whose row is zeros. padded: sources are filled up to one
    length; None: where the shape says so.
    """
    source = what.source
    if padded is None:
        padded = source is not None and source.length is not None
    builder = ModelBuilder(
        source=source.size + zeros if source is not None and what.has_tokens else None,
        target=what.size if what.decodes else None,
    )
    graphs = Graphs(builder, what.decodes, padded)
    translator = Translator(graphs, graph, what.last)
    found: dict[tuple[str, int], list[Found]] = {}
    for one in what.inputs:
        found[one.name, 0] = [_declared(graphs, one, one is what.target, one is source, zeros)]
    for name, node in graph.order:
        if (name, node) not in found:
            found[name, node] = _run(translator, graph.layers[name], node, found)
    _output(graphs, _pick(found, graph.outputs[0]), what.decodes)
    return builder


def _declared(graphs: Graphs, one: Input, target: bool, tokens: bool, zeros: bool) -> Found:
    encoder = graphs.builder.encoder
    if target:
        token = graphs.decoder.token
        if one.kind == "ids":
            return Ids("target", token)
        return Features("target", graphs.decoder.one_hot(token, one.size))
    name = clean(one.name)
    if one.kind == "vector":
        return Features("none", encoder.input(name, vector=one.size))
    if one.kind == "features":
        return Features("source", encoder.input(name, sequence=one.size))
    ids = encoder.tokens if tokens else encoder.input(name, ids=one.size)
    if one.kind == "ids":
        return Ids("source", ids)
    if tokens and zeros:
        return Features("source", encoder.embedding(ids, np.eye(one.size + 1, one.size)))
    return Features("source", encoder.one_hot(ids, one.size))


def _run(
    translator: Translator, layer: Layer, node: int, found: Mapping[tuple[str, int], list[Found]]
) -> list[Found]:
    call = layer.calls[node]
    known = {"training", "mask", "initial_state", "use_causal_mask", "return_attention_scores"}
    if set(call.kwargs) - known:
        raise ModelFormatError(
            f"layer {layer.name!r} is called with {', '.join(sorted(set(call.kwargs) - known))}"
        )
    given = [*tensors_in(call.args), *tensors_in(call.kwargs.get("initial_state"))]
    mask = call.kwargs.get("mask")
    masks = (
        [_pick(found, one) if isinstance(one, Tensor) else None for one in mask]
        if isinstance(mask, (list, tuple)) and not isinstance(mask, Tensor)
        else _pick(found, mask)
        if isinstance(mask, Tensor)
        else None
    )
    return translator.run(layer, node, [_pick(found, one) for one in given], masks)


def _pick(found: Mapping[tuple[str, int], list[Found]], tensor: Tensor) -> Found:
    values = found[tensor.layer, tensor.node]
    if tensor.output >= len(values):
        raise ModelFormatError(
            f"layer {tensor.layer!r} gives {len(values)} tensors that are read here, not number "
            f"{tensor.output}"
        )
    return values[tensor.output]


def _output(graphs: Graphs, result: Found, decodes: bool) -> None:
    if isinstance(result, Final):
        raise RoleError("the output is one value for the whole target")
    if not isinstance(result, Features):
        raise ModelFormatError("the output holds no features")
    if not decodes:
        graphs.builder.encoder.output(logits=result.value)
        return
    if result.axis != "target":
        raise RoleError("the output does not run over the target")
    if result.value.graph == "encoder":
        logits: Value = graphs.decoder.concat([graphs.cross(result.value)])
    else:
        logits = result.value
    graphs.finish()
    graphs.decoder.output(logits=logits)


def _last_layer(graph: LayerGraph) -> tuple[Layer, int]:
    """The layer with the last softmax, and the number of logits."""
    tensor = graph.outputs[0]
    last = graph.layers[tensor.layer]
    layer = last
    while layer.kind in (*IDENTITIES, "Activation", "Softmax"):
        tensor = graph.layers[layer.name].calls[tensor.node].tensors[0]
        layer = graph.layers[tensor.layer]
    kind = inner(layer.config)[0] if layer.kind == "TimeDistributed" else layer.kind
    if kind != "Dense" or not layer.groups:
        raise ModelFormatError(
            f"the output comes from layer {layer.name!r}, a {kind}: it must be a Dense with a unit "
            "for each id"
        )
    return last, int(layer.groups[0]["kernel"].shape[-1])


def last_activation(graph: LayerGraph) -> str:
    """The activation of the output's layer, as it is stored."""
    layer = graph.layers[graph.outputs[0].layer]
    kind, config = layer.kind, layer.config
    if kind == "TimeDistributed":
        kind, config = inner(config)
    if kind == "Softmax":
        return "softmax"
    value = config.get("activation", "linear")
    if isinstance(value, Mapping):
        value = value.get("config")
    return str(value)


def _masked(graph: LayerGraph, source: Input | None) -> bool:
    """Whether what reads the source knows its padding."""
    if source is None:
        return False
    readers = [one for one in graph.consumers(source.name) if one.kind not in OPERATIONS]
    return bool(readers) and all(
        one.kind == "Masking" or (one.kind == "Embedding" and bool(one.config.get("mask_zero")))
        for one in readers
    )


def _steps(repeats: list[Layer]) -> int:
    counts = [layer.config.get("n") for layer in repeats]
    n = counts[0]
    if type(n) is not int or n < 1 or any(one != n for one in counts):
        raise ModelFormatError("the model's RepeatVector layers must have one number of steps")
    return n
