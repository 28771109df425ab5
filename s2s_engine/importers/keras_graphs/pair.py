"""An encoder model and a decoder step that were saved apart, as the example lstm_seq2seq makes them
for inference, joined to the one model they were trained as. Knows tensors; never layers' equations.

The decoder's inputs but for the target are the encoder's outputs, in order; what the step gives
behind the probabilities are its new states, in the order of the inputs that they replace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelFormatError
from .graph import CELLS, CUDNN, Call, Layer, LayerGraph, Tensor, ordered, tensors_in


def target_inputs(decoder: LayerGraph) -> list[str]:
    """The inputs of a decoder step that can be the target's: those that an Embedding reads, else
    those of rank 3."""
    names = [tensor.layer for tensor in decoder.inputs]
    embedded = [n for n in names if any(one.kind == "Embedding" for one in decoder.consumers(n))]
    if embedded:
        return embedded
    shapes = {name: _shape(decoder.layers[name]) for name in names}
    return [name for name in names if len(shapes[name]) == 3]


def joined(encoder: LayerGraph, decoder: LayerGraph, target: str) -> tuple[LayerGraph, str]:
    """One model over a whole target, and what its target input is called."""
    if encoder.version.split(".")[0] != decoder.version.split(".")[0]:
        raise ModelFormatError(
            f"the encoder is of Keras {encoder.version}, the decoder of {decoder.version}"
        )
    others = [tensor for tensor in decoder.inputs if tensor.layer != target]
    if len(others) != len(encoder.outputs):
        raise ModelFormatError(
            f"the decoder has {len(others)} inputs besides {target!r}, the encoder "
            f"{len(encoder.outputs)} outputs: they must be the same values in the same order"
        )
    _check_states(decoder, others)
    names = {name: f"decoder_{name}" if name in encoder.layers else name for name in decoder.layers}
    replaced = dict(zip(others, encoder.outputs, strict=True))
    layers = dict(encoder.layers)
    for layer in decoder.layers.values():
        if Tensor(layer.name, 0, 0) in replaced:
            continue
        calls = [
            Call(_moved(call.args, names, replaced), _moved(call.kwargs, names, replaced))
            for call in layer.calls
        ]
        config: Mapping[str, Any] = layer.config
        if layer.name == target:  # one step of any number
            shape = _shape(layer)
            config = {**config, "batch_shape": [shape[0], None, *shape[2:]]}
        name = names[layer.name]
        if name in layers:
            raise ModelFormatError(f"both models have a layer {name!r}")
        layers[name] = Layer(name, layer.kind, config, calls, layer.groups)
    inputs = [*encoder.inputs, Tensor(names[target], 0, 0)]
    outputs = [_moved(decoder.outputs[0], names, replaced)]
    order = ordered(layers, [*inputs, *outputs])
    told = decoder.from_logits
    return LayerGraph(layers, inputs, outputs, order, decoder.version, told), names[target]


def _check_states(decoder: LayerGraph, others: list[Tensor]) -> None:
    """Every initial state of a layer comes back as the layer's new one."""
    expected = []
    for tensor in others:
        found = [
            Tensor(layer.name, node, 1 + states.index(tensor))
            for layer in decoder.layers.values()
            if layer.kind in (*CELLS, *CUDNN)
            for node, call in enumerate(layer.calls)
            if tensor in (states := _states(call))
        ]
        if len(found) > 1:
            raise ModelFormatError(f"input {tensor.layer!r} starts more than one layer")
        expected += found
    if decoder.outputs[1:] != expected:
        raise ModelFormatError(
            "the decoder must give its layers' new states behind the probabilities, in the order "
            f"of the inputs that they replace: {[tuple(one) for one in expected]}, gives "
            f"{[tuple(one) for one in decoder.outputs[1:]]}"
        )


def _states(call: Call) -> list[Tensor]:
    given = [*tensors_in(call.args), *tensors_in(call.kwargs.get("initial_state"))]
    return given[1:]


def _moved(value: Any, names: Mapping[str, str], replaced: Mapping[Tensor, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return replaced.get(value) or value._replace(layer=names[value.layer])
    if isinstance(value, Mapping):
        return {key: _moved(item, names, replaced) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, names, replaced) for item in value)
    return value


def _shape(layer: Layer) -> list[Any]:
    shape = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
    if not isinstance(shape, (list, tuple)) or not 2 <= len(shape) <= 3:
        raise ModelFormatError(f"input {layer.name!r} has the shape {shape}")
    return list(shape)
