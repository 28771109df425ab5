"""A stored Keras configuration as layers and tensors, with each layer's arrays by role, from Keras
2 and 3, .h5 and .keras. Knows how configurations are written; never what a layer computes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFormatError
from ..readers.hdf5_files import KerasFile
from ..readers.hdf5_layers import TOP

MODELS = ("Functional", "Model", "Sequential")
MAX_CALLS = 4096
MAX_INPUTS = 64


class Tensor(NamedTuple):
    """Output number `output` of call `node` of a layer."""

    layer: str
    node: int
    output: int


def clean(name: str) -> str:
    """A layer's name as a name of ours."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return (name if re.match(r"[A-Za-z_]", name) else f"_{name}")[:48]


def name_of(tensor: Tensor) -> str:
    """What a model calls this tensor: the layer, then call and output where they are not 0."""
    call = f"_call{tensor.node}" if tensor.node else ""
    return clean(tensor.layer) + call + (f"_out{tensor.output}" if tensor.output else "")


@dataclass(frozen=True)
class Call:
    """One call of a layer: its arguments, with tensors in lists as they were given."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def tensors(self) -> list[Tensor]:
        return list(tensors_in([self.args, self.kwargs]))


@dataclass
class Layer:
    """kind: the class's name. groups: the arrays by role, of a Bidirectional two, forward first."""

    name: str
    kind: str
    config: Mapping[str, Any]
    calls: list[Call] = field(default_factory=list)
    groups: list[dict[str, NDArray[Any]]] = field(default_factory=list)


@dataclass(frozen=True)
class LayerGraph:
    """order: every call that an output needs, behind those that it needs itself. version: of
    Keras, as the file says, "" where it does not. from_logits: what the loss says, if anything."""

    layers: dict[str, Layer]
    inputs: list[Tensor]
    outputs: list[Tensor]
    order: list[tuple[str, int]]
    version: str
    from_logits: bool | None

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0]) if self.version else 2

    def call(self, tensor: Tensor) -> Call:
        return self.layers[tensor.layer].calls[tensor.node]

    def consumers(self, name: str) -> list[Layer]:
        """The layers that one of this layer's tensors goes into."""
        return [
            layer
            for layer in self.layers.values()
            if any(t.layer == name for call in layer.calls for t in call.tensors)
        ]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of nested arguments, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def has_model(file: KerasFile) -> bool:
    """Whether the file's configuration is a functional or sequential model."""
    config = file.config
    return config is not None and config.get("class_name") in MODELS


def layer_graph(file: KerasFile) -> LayerGraph:
    """The model of a file; ModelFormatError names the layer that is not as Keras writes it."""
    if not has_model(file):
        raise ModelFormatError(
            "holds weights without a functional or sequential model's configuration: save the "
            "whole model with model.save"
        )
    assert file.config is not None
    root = file.attributes.get("model_weights", {}) | file.attributes.get("", {})
    version = str(file.metadata.get("keras_version") or root.get("keras_version") or "")
    if version and not re.fullmatch(r"\d{1,3}(\.\w{1,20}){0,6}(-\w+)?", version):
        raise ModelFormatError(f"keras_version is {version[:40]!r}, must be like 2.15.0")
    if version.startswith("1."):
        raise ModelFormatError(
            f"is of Keras {version}: files of Keras 1 are not read; load and save it with Keras 2"
        )
    try:
        parse = _sequential if file.config["class_name"] == "Sequential" else _functional
        layers, inputs, outputs = parse(file.config["config"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ModelFormatError(
            f"the configuration is not as Keras writes it: {type(error).__name__}: "
            f"{str(error)[:200]}"
        ) from None
    calls = sum(len(layer.calls) for layer in layers.values())
    if max(calls, len(layers)) > MAX_CALLS or len(inputs) > MAX_INPUTS:
        raise ModelFormatError(
            f"the model has {len(layers)} layers, {calls} calls and {len(inputs)} inputs; at most "
            f"{MAX_CALLS} layers and calls and {MAX_INPUTS} inputs are read"
        )
    order = ordered(layers, [*inputs, *outputs])
    _attach(file, layers)
    return LayerGraph(layers, inputs, outputs, order, version, _from_logits(file))


def inner(config: Mapping[str, Any], role: str = "layer") -> tuple[str, Mapping[str, Any]]:
    """Class and configuration of a wrapper's layer."""
    wrapped = config.get(role)
    settings = wrapped.get("config") if isinstance(wrapped, dict) else None
    if not isinstance(wrapped, dict) or not isinstance(settings, dict):
        raise ModelFormatError(f"the configuration holds no {role}")
    return str(wrapped.get("class_name")), settings


# --- configurations ---


def _functional(config: Any) -> tuple[dict[str, Layer], list[Tensor], list[Tensor]]:
    layers: dict[str, Layer] = {}
    for entry in config["layers"]:
        name = entry.get("name", entry["config"].get("name"))
        layer = Layer(str(name), str(entry["class_name"]), dict(entry["config"]))
        for node in entry["inbound_nodes"]:
            layer.calls.append(_call(node))
        if layer.kind == "InputLayer":
            layer.calls = [Call((), {})]
        if layer.name in layers:
            raise ModelFormatError(f"layer {layer.name!r} is listed twice")
        layers[layer.name] = layer
    return layers, _ends(config["input_layers"]), _ends(config["output_layers"])


def _ends(listed: Any) -> list[Tensor]:
    if isinstance(listed, dict):
        listed = list(listed.values())
    if listed and isinstance(listed[0], str):
        listed = [listed]
    return [_tensor(one) for one in listed]


def _tensor(listed: Any) -> Tensor:
    layer, node, index = listed[:3]
    if not isinstance(layer, str) or type(node) is not int or type(index) is not int:
        raise ValueError(f"{listed!r} is no tensor")
    return Tensor(layer, node, index)


def _call(node: Any) -> Call:
    if isinstance(node, dict):  # Keras 3
        args, kwargs = _arguments(node["args"]), _arguments(node["kwargs"])
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ValueError("a call has no arguments")
        return Call(tuple(args), kwargs)
    if node and isinstance(node[0], str):
        node = [node]
    # Keras 2: the first list's tensors, each with the keywords of the whole call.
    kwargs = dict(node[0][3]) if len(node[0]) > 3 else {}
    inputs = [_tensor(one) for one in node]
    found = {name: _keyword(value) for name, value in kwargs.items()}
    return Call((inputs if len(inputs) > 1 else inputs[0],), found)


def _arguments(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return _tensor(value["config"]["keras_history"])
        return {name: _arguments(item) for name, item in value.items()}
    return [_arguments(item) for item in value] if isinstance(value, list) else value


def _keyword(value: Any) -> Any:
    """Keras 2 writes a tensor among keywords as [layer, node, index]."""
    if isinstance(value, list):
        if len(value) in (3, 4) and isinstance(value[0], str) and type(value[1]) is int:
            return _tensor(value)
        return [_keyword(item) for item in value]
    return value


def _sequential(config: Any) -> tuple[dict[str, Layer], list[Tensor], list[Tensor]]:
    listed = config["layers"] if isinstance(config, dict) else config
    layers: dict[str, Layer] = {}
    last: Tensor | None = None
    for entry in listed:
        settings = dict(entry["config"])
        layer = Layer(str(settings["name"]), str(entry["class_name"]), settings)
        if last is None and layer.kind != "InputLayer":
            first = Layer("input", "InputLayer", {**_first_shape(settings), "name": "input"})
            first.calls.append(Call((), {}))
            layers["input"], last = first, Tensor("input", 0, 0)
        layer.calls.append(Call((), {}) if last is None else Call((last,), {}))
        if layer.name in layers:
            raise ModelFormatError(f"layer {layer.name!r} is listed twice")
        layers[layer.name] = layer
        last = Tensor(layer.name, 0, 0)
    if last is None:
        raise ModelFormatError("the model has no layers")
    return layers, [Tensor(next(iter(layers)), 0, 0)], [last]


def _first_shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    wrapped = settings.get("layer", {}).get("config", {}) if "layer" in settings else {}
    shape = settings.get("batch_input_shape", wrapped.get("batch_input_shape"))
    if shape is None:
        raise ModelFormatError("the first layer has no batch_input_shape: the input is unknown")
    return {"batch_input_shape": shape}


def ordered(layers: Mapping[str, Layer], ends: list[Tensor]) -> list[tuple[str, int]]:
    """The calls behind what they need; every tensor must be one that a layer gives."""
    for tensor in ends:
        _known(layers, tensor)
    done: dict[tuple[str, int], None] = {}
    for start in ends:
        path: set[tuple[str, int]] = set()
        todo = [(start[:2], False)]
        while todo:
            place, left = todo.pop()
            if left:
                path.discard(place)
                done[place] = None
                continue
            if place in done:
                continue
            if place in path:
                raise ModelFormatError(f"layer {place[0]!r} needs its own output")
            path.add(place)
            todo.append((place, True))
            for tensor in layers[place[0]].calls[place[1]].tensors:
                _known(layers, tensor)
                todo.append((tensor[:2], False))
    return list(done)


def _known(layers: Mapping[str, Layer], tensor: Tensor) -> None:
    layer = layers.get(tensor.layer)
    if layer is None or not 0 <= tensor.node < len(layer.calls) or tensor.output < 0:
        raise ModelFormatError(f"the configuration names a tensor that is not there: {tensor}")


def _from_logits(file: KerasFile) -> bool | None:
    """Whether the loss says so; None where it does not."""
    text = repr([(file.config or {}).get("compile_config"), file.attributes[""]])
    found = re.search(r"""['"]from_logits\\?['"]: ?(true|false)""", text, re.IGNORECASE)
    return None if found is None else found[1].lower() == "true"


# --- arrays ---

CELLS = ("LSTM", "GRU", "SimpleRNN")
CUDNN = ("CuDNNLSTM", "CuDNNGRU")
WEIGHTED = (
    *CELLS, *CUDNN, "Dense", "Embedding", "Attention", "AdditiveAttention", "LayerNormalization",
    "BatchNormalization", "Bidirectional", "TimeDistributed",
)  # fmt: skip


def roles(kind: str, config: Mapping[str, Any]) -> list[str]:
    """The arrays that a layer of this configuration has, in Keras's order."""
    if kind in (*CELLS, *CUDNN):
        bias = kind in CUDNN or config["use_bias"]
        return ["kernel", "recurrent_kernel"] + (["bias"] if bias else [])
    if kind == "Dense":
        return ["kernel"] + (["bias"] if config["use_bias"] else [])
    if kind == "Embedding":
        return ["embeddings"]
    if kind == "Attention":
        concat = config.get("score_mode", "dot") == "concat"
        return ["scale"] * bool(config["use_scale"]) + ["concat_score_weight"] * concat
    if kind == "AdditiveAttention":
        return ["scale"] * bool(config["use_scale"])
    affine = ["gamma"] * bool(config.get("scale")) + ["beta"] * bool(config.get("center"))
    if kind == "LayerNormalization":
        return affine
    if kind == "BatchNormalization":
        return [*affine, "moving_mean", "moving_variance"]
    return []


def _attach(file: KerasFile, layers: Mapping[str, Layer]) -> None:
    """Gives each layer its arrays, and refuses arrays that no layer takes."""
    used: set[str] = set()
    others: list[str] = ["metrics/", TOP]
    counts: dict[str, int] = {}
    for layer in layers.values():
        snake = _snake(layer.kind)
        number = counts.get(snake, 0)
        counts[snake] = number + 1
        wanted = _wanted(layer)
        folder = f"layers/{snake}" + (f"_{number}" if number else "")
        if layer.kind not in WEIGHTED:  # refused by its name when it is called, or has none
            others += [f"{layer.name}/", f"{folder}/"]
            continue
        if file.layers:
            found = list(file.layers.get(layer.name, ()))
            paths = iter(found)
        else:
            named = file.attributes.get(f"{folder}/vars", {}).get("name", layer.name)
            if named != layer.name:
                raise ModelFormatError(
                    f"layer {layer.name!r} should be {folder}, which is of {named!r}"
                )
            found = [f"{folder}/{at}{n}" for at, names in wanted for n in range(len(names))]
            found = [path for path in found if path in file.arrays]
            paths = iter(found)
        count = sum(len(names) for _, names in wanted)
        if len(found) != count:
            raise ModelFormatError(
                f"layer {layer.name!r} ({layer.kind}) has {len(found)} arrays, must have {count}: "
                f"{', '.join(name for _, names in wanted for name in names)}"
            )
        used.update(found)
        layer.groups = [
            {name: _numbers(file.arrays[next(paths)]) for name in names} for _, names in wanted
        ]
    for name in file.arrays:
        random = "/seed_generator/" in name  # of dropout
        if name not in used and not random and not name.startswith(tuple(others)):
            raise ModelFormatError(f"array {name!r} belongs to no layer whose weights are known")


def _wanted(layer: Layer) -> list[tuple[str, list[str]]]:
    """Where a .keras file has the arrays below the layer's folder, and their roles."""
    try:
        kind, config, at = layer.kind, layer.config, ""
        if kind == "Bidirectional":
            kind, config = inner(config)
            names = roles(kind, config)
            return [(f"{side}_layer/{_place(kind)}", names) for side in ("forward", "backward")]
        if kind == "TimeDistributed":
            kind, config = inner(config)
            at = "layer/"
        return [(at + _place(kind), roles(kind, config))]
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelFormatError(
            f"layer {layer.name!r} ({layer.kind}): its configuration has no {error}"
        ) from None


def _place(kind: str) -> str:
    return "cell/vars/" if kind in CELLS else "vars/"


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype.kind == "f" else np.asarray(array, np.float32)


def _snake(name: str) -> str:
    """Keras's names of folders: TimeDistributed is time_distributed, LSTM lstm."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
