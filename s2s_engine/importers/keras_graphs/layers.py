"""What each Keras layer computes, written with the builder: source positions and vectors in the
encoder, steps in the decoder. Knows the layers' equations; never files, options or ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...builder import GraphBuilder, Value
from ...errors import ModelFormatError
from .. import keras
from .attention import additive_attention, attention, dot, normalised
from .graph import Call, Layer, LayerGraph, Tensor, inner, name_of
from .recurrent import bidirectional, recurrent
from .values import (
    PADDED,
    Energies,
    Features,
    Final,
    Found,
    Graphs,
    Ids,
    Mask,
    RoleError,
    axis_of,
    floats,
)

# What a layer gives, by index, from its inputs.
Run = Callable[["Translator", Layer, Call, list[Found]], list[Found]]


class Translator:
    """Writes layers call by call into two graphs; `logits` is the layer whose softmax is left
    out."""

    def __init__(self, graphs: Graphs, model: LayerGraph, logits: Layer) -> None:
        self.graphs, self.major, self.logits = graphs, model.major, logits
        self.kinds = {name: layer.kind for name, layer in model.layers.items()}
        self._version = model.version or None

    def function(self, config: Mapping[str, Any], key: str = "activation") -> str:
        """A configured activation's name in Keras."""
        value = config[key]
        if isinstance(value, Mapping) and value.get("class_name") == "function":
            value = value["config"]
        if value is None:
            return "linear"
        if not isinstance(value, str):
            raise ModelFormatError(f"{key} is {str(value)[:80]}: code of one's own is not read")
        return value

    def ours(self, config: Mapping[str, Any], key: str = "activation") -> str:
        """A configured activation's name here."""
        return keras.activation(self.function(config, key), keras_version=self._version)

    def activate(self, graph: GraphBuilder, value: Value, name: str) -> Value:
        """An activation over features that may be no function of the engine."""
        if name == "softmax":
            return graph.softmax(value)
        if name in ("swish", "silu"):
            return graph.multiply(value, graph.activation(value, "sigmoid"))
        ours = keras.activation(name, keras_version=self._version)
        return value if ours == "identity" else graph.activation(value, ours)

    def run(self, layer: Layer, node: int, inputs: list[Found], mask: Any) -> list[Found]:
        """The outputs of one call; ModelFormatError names the layer. mask: a Mask that the call
        was given, or a list of them, in place of what its inputs carry."""
        call = layer.calls[node]
        if layer.kind not in LAYERS:
            why = "is code" if layer.kind == "Lambda" else "is not known here"
            raise ModelFormatError(
                f"layer {layer.name!r} is a {layer.kind}, which {why}; layers are "
                f"{', '.join(sorted(name for name in LAYERS if name not in OPERATIONS))}"
            )
        for one in inputs:
            if isinstance(one, Final):
                raise RoleError(
                    f"layer {layer.name!r} reads what layer {one.layer!r} gives behind the last "
                    "position of the target"
                )
        if call.kwargs.get("use_causal_mask") or layer.config.get("causal"):
            raise ModelFormatError(f"layer {layer.name!r} has a causal mask, which is not read")
        if call.kwargs.get("training"):
            raise ModelFormatError(
                f"layer {layer.name!r} is called with training=True: it is random, or depends on "
                "the batch"
            )
        masks = mask if isinstance(mask, list) else [mask]
        for number, one in enumerate(masks[: len(inputs)]):
            x = inputs[number]
            if isinstance(one, Mask) and isinstance(x, Features):
                inputs[number] = replace(x, masked=one.parts == ("padding",))
        try:
            found = LAYERS[layer.kind](self, layer, call, inputs)
            for index, value in enumerate(found):
                if isinstance(value, Features) and value.value.graph == "encoder":
                    name = name_of(Tensor(layer.name, node, index))
                    self.graphs.names.setdefault(value.value.reference, name)
            return found
        except RoleError:
            raise
        except ModelFormatError as error:
            raise ModelFormatError(f"layer {layer.name!r} ({layer.kind}): {error}") from None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ModelFormatError(
                f"layer {layer.name!r} ({layer.kind}) is not configured as Keras does it: "
                f"{type(error).__name__}: {str(error)[:200]}"
            ) from None


def features(found: Sequence[Found]) -> list[Features]:
    """The inputs of a layer that takes numbers."""
    for one in found:
        if not isinstance(one, Features):
            raise ModelFormatError(f"takes no {type(one).__name__.lower()}")
    return [one for one in found if isinstance(one, Features)]


def _embedding(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    (ids,) = inputs
    if not isinstance(ids, Ids):
        raise ModelFormatError("reads something else than an input of ids")
    table = keras.embedding(layer.groups[0])
    graph = t.graphs.decoder if ids.axis == "target" else t.graphs.builder.encoder
    return [Features(ids.axis, graph.embedding(ids.value, table), bool(layer.config["mask_zero"]))]


def _dense(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    return _product(t, layer, layer.config, inputs)


def _product(
    t: Translator, layer: Layer, config: Mapping[str, Any], inputs: list[Found]
) -> list[Found]:
    (x,) = features(inputs)
    weight, bias = keras.dense(layer.groups[0])
    graph, name = t.graphs.of(x), t.function(config)
    if layer is t.logits and name == "softmax":
        name = "linear"
    if name in keras.ACTIVATIONS or name == "hard_sigmoid":
        value = graph.linear(x.value, weight, bias, activation=t.ours({"activation": name}))
    else:
        value = t.activate(graph, graph.linear(x.value, weight, bias), name)
    return [Features(x.axis, value, x.masked)]


def _time_distributed(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    kind, config = inner(layer.config)
    (x,) = features(inputs)
    if x.axis == "none":
        raise ModelFormatError("reads a vector: it has no positions")
    if kind == "Dense":
        return _product(t, layer, config, inputs)
    if kind == "Activation":
        return _activation(t, Layer(layer.name, kind, config), call, inputs)
    if kind in IDENTITIES:
        return list(inputs)
    raise ModelFormatError(f"wraps a {kind}; a Dense, an Activation or a Dropout is read")


def _activation(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    name = "softmax" if layer.kind == "Softmax" else t.function(layer.config)
    (x,) = inputs
    if isinstance(x, Energies):
        if name != "softmax" or not _last(layer.config.get("axis", -1), 3):
            raise ModelFormatError("scores of steps and positions take a softmax, on the last axis")
        return [normalised(x)]
    (x,) = features(inputs)
    if layer.kind == "Softmax" and not _last(layer.config.get("axis", -1), _rank(x)):
        raise ModelFormatError(f"axis {layer.config['axis']} is not that of features")
    if layer.name == t.logits.name and name == "softmax":
        return [x]
    return [Features(x.axis, t.activate(t.graphs.of(x), x.value, name), x.masked)]


def _relu(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    config = layer.config
    if config.get("max_value") is not None or config.get("negative_slope") or config["threshold"]:
        raise ModelFormatError("max_value, negative_slope and threshold are not read")
    (x,) = features(inputs)
    return [Features(x.axis, t.activate(t.graphs.of(x), x.value, "relu"), x.masked)]


def _identity(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    return [inputs[0]]


def _masking(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    """Behind an input alone: one-hot rows are never all zeros, and padding is not given."""
    if t.kinds.get(next(iter(call.tensors)).layer) != "InputLayer":
        raise ModelFormatError("reads something else than an input")
    if layer.config["mask_value"] != 0:
        raise ModelFormatError(f"mask_value is {layer.config['mask_value']}, must be 0")
    (x,) = features(inputs)
    return [Features(x.axis, x.value, x.axis == "source")]


def _merge(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    if layer.kind == "Concatenate" and any(isinstance(one, Mask) for one in inputs):
        masks = [one for one in inputs if isinstance(one, Mask)]
        return [Mask(tuple(part for one in masks for part in one.parts))]
    found = features(inputs)
    axis = axis_of(found)
    if layer.kind == "Concatenate" and not _last(layer.config["axis"], 2 + (axis != "none")):
        raise ModelFormatError(f"axis {layer.config['axis']} is not that of features")
    graph = t.graphs.of(*found)
    values = [t.graphs.read(graph, one) for one in found]
    if layer.kind == "Concatenate":
        value = graph.concat(values)
    elif layer.kind == "Multiply":
        value = graph.multiply(*values)
    else:
        value = graph.add(*values)
    if layer.kind == "Average":
        value = graph.multiply(value, graph.constant(floats(1 / len(values))))
    # Keras 3 leaves out a position where every input does, Keras 2 where one does; to Keras 3 an
    # input without a mask is never padding.
    masks_ = [one.masked for one in found]
    masked = all(masks_) if t.major >= 3 else any(masks_)
    return [Features(axis, value, masked)]


def _repeat(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    (x,) = features(inputs)
    if x.axis != "none":
        raise ModelFormatError("repeats something else than a vector")
    return [Features("target" if t.graphs.decodes else "source", x.value)]


def _layer_norm(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    (x,) = features(inputs)
    config = layer.config
    if not _last(config["axis"], _rank(x)) or config.get("rms_scaling"):
        raise ModelFormatError("axis must be that of features, without rms_scaling")
    weight, bias = keras.layer_norm(layer.groups[0] if layer.groups else {})
    graph = t.graphs.of(x)
    value = graph.layer_norm(x.value, weight, bias, eps=float(config["epsilon"]))
    return [Features(x.axis, value, x.masked)]


def _batch_norm(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    (x,) = features(inputs)
    if not _last(layer.config["axis"], _rank(x)):
        raise ModelFormatError(f"axis {layer.config['axis']} is not that of features")
    factor, summand = keras.batch_norm(layer.groups[0], epsilon=float(layer.config["epsilon"]))
    graph = t.graphs.of(x)
    scaled = graph.multiply(x.value, graph.constant(factor))
    return [Features(x.axis, graph.add(scaled, graph.constant(summand)), x.masked)]


def _pool(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    (x,) = features(inputs)
    if x.axis == "target":
        raise RoleError(f"layer {layer.name!r} reads all positions of the target at once")
    if layer.config.get("data_format") == "channels_first" or layer.config.get("keepdims"):
        raise ModelFormatError("data_format channels_first and keepdims are not read")
    how = "max" if layer.kind == "GlobalMaxPooling1D" else "mean"
    if how == "max" and x.masked and t.graphs.padded:
        raise ModelFormatError(PADDED)
    return [Features("none", t.graphs.builder.encoder.pool(x.value, how))]


def _last(axis: Any, rank: int) -> bool:
    """Whether an axis, or a list of one, is that of features."""
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        axis = axis[0]
    return axis in (-1, rank - 1)


def _rank(x: Features) -> int:
    return 2 if x.axis == "none" else 3


# --- operations on masks, which Keras 3 writes among the layers ---


def _not_equal(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    """Of ids in front of an Embedding, of features in front of a Masking."""
    if not isinstance(inputs[0], (Ids, Features)) or list(call.args[1:]) != [0]:
        raise ModelFormatError("compares something else than an input with the padding 0")
    return [Mask(("padding",))]


def _same_mask(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    if not isinstance(inputs[0], Mask):
        raise ModelFormatError("is read for masks alone")
    return [inputs[0]]


def _ones(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    return [Mask(("ones",))]


def _zeros(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    return [Mask(("zeros",))]


def _either(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    parts = {part for one in inputs if isinstance(one, Mask) for part in one.parts}
    for part in ("ones", "padding", "zeros"):
        if part in parts:
            return [Mask((part,))]
    raise ModelFormatError("is read for masks alone")


def _both(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    parts = {part for one in inputs if isinstance(one, Mask) for part in one.parts}
    for part in ("zeros", "padding", "ones"):
        if part in parts:
            return [Mask((part,))]
    raise ModelFormatError("is read for masks alone")


IDENTITIES = (
    "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization",
)  # fmt: skip
OPERATIONS: dict[str, Run] = {
    "NotEqual": _not_equal, "ConvertToTensor": _same_mask, "ExpandDims": _same_mask,
    "Cast": _same_mask, "ZerosLike": _zeros, "OnesLike": _ones, "LogicalOr": _either,
    "LogicalAnd": _both, "Any": _either, "All": _both,
}  # fmt: skip
LAYERS: dict[str, Run] = {
    "Embedding": _embedding, "Dense": _dense, "TimeDistributed": _time_distributed,
    "Activation": _activation, "Softmax": _activation, "ReLU": _relu, "Masking": _masking,
    "Concatenate": _merge, "Add": _merge, "Multiply": _merge, "Average": _merge,
    "RepeatVector": _repeat, "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm, "GlobalMaxPooling1D": _pool,
    "GlobalAveragePooling1D": _pool, "LSTM": recurrent, "GRU": recurrent,
    "SimpleRNN": recurrent, "CuDNNLSTM": recurrent, "CuDNNGRU": recurrent,
    "Bidirectional": bidirectional, "Attention": attention,
    "AdditiveAttention": additive_attention, "Dot": dot,
    **dict.fromkeys(IDENTITIES, _identity), **OPERATIONS,
}  # fmt: skip
