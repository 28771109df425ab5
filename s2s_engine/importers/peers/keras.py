"""Keras 3 itself on PyTorch: the stored model is loaded by Keras, rebuilt in float64 without its
last softmax, and run over a whole target."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..checkpoint import Checkpoint
from ..importer import Trace
from ..keras_graphs.graph import CELLS, Layer, LayerGraph, Tensor, clean, inner, name_of
from ..keras_graphs.model import Plan

PASSING = ("Dropout", "SpatialDropout1D", "RepeatVector", "Masking")


def keras() -> Any:
    """Keras on PyTorch, unless another backend is set."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("keras")


class KerasModel:
    """The model of a file; `start` begins a target, `zeros` is the id of a one-hot row of zeros."""

    def __init__(
        self, checkpoint: Checkpoint, graph: LayerGraph, plan: Plan, *, start: int | None
    ) -> None:
        k = keras()
        self.framework = f"keras {k.__version__} on {k.backend.backend()}"
        self.graph, self.plan, self.start = graph, plan, start
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = _loaded(checkpoint) if graph.major >= 3 else _rebuilt(graph)
            self.shifted = {one.name: self._is_shifted(one) for one in graph.layers.values()}
            self.open = {one.name for one in plan.inputs if one.has_positions}
            self.model = type(stored).from_config(self._changed(stored.get_config()))
            self._fill(stored)
            self._open_activations()
            self._wanted = self._named()
            self._all = k.Model(self.model.inputs, list(self._wanted.values()))

    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        steps = [self.start, *target]
        given = [self._input(one, inputs, steps)[None] for one in self.plan.inputs]
        for layer in self.model.layers:
            if layer.__class__.__name__ == "RepeatVector":
                layer.n = len(steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = self._all(given)
            found = found if isinstance(found, (list, tuple)) else [found]
        values = {
            name: one.detach().numpy()[0] for name, one in zip(self._wanted, found, strict=True)
        }
        values |= self._alignment(values)
        return {name: array for name, array in values.items() if not name.startswith("_")}

    # --- the model ---

    def _changed(self, value: Any) -> Any:
        """A configuration in float64, of any length; what reads the source's ids behind a mask
        reads those plus one, so that none is padding."""
        if isinstance(value, dict):
            changed = {key: self._changed(item) for key, item in value.items()}
            kind, config = changed.get("class_name"), changed.get("config") or {}
            if kind == "Embedding" and self.shifted.get(config["name"]):
                config["input_dim"] += 1
            if kind == "InputLayer" and config["name"] in self.open:
                config["batch_shape"] = [None, None, *config["batch_shape"][2:]]
            return changed
        if isinstance(value, (list, tuple)):
            return type(value)(self._changed(item) for item in value)
        return "float64" if value == "float32" else value

    def _is_shifted(self, layer: Layer) -> bool:
        if layer.kind != "Embedding" or not layer.config.get("mask_zero"):
            return False
        target = self.plan.target
        return all(t.layer != (target and target.name) for c in layer.calls for t in c.tensors)

    def _fill(self, stored: Any) -> None:
        for layer in stored.layers:
            arrays = layer.get_weights()
            if self.shifted.get(layer.name):
                arrays = [np.concatenate([arrays[0][:1], arrays[0]])]
            if arrays:
                self.model.get_layer(layer.name).set_weights(arrays)

    def _open_activations(self) -> None:
        """The last softmax becomes nothing; hard_sigmoid is that of the Keras which wrote."""
        k = keras()
        last = self.model.layers[[one.name for one in self.model.layers].index(self.plan.last.name)]
        last = getattr(last, "layer", last)
        if hasattr(last, "activation"):
            last.activation = k.activations.linear
        if self.graph.major >= 3:
            return
        for layer in self.model.layers:
            parts = [layer, *(getattr(layer, f"{one}_layer", None) for one in DIRECTIONS)]
            for part in [*parts, getattr(layer, "layer", None)]:
                owner = getattr(part, "cell", part)
                for name in ("activation", "recurrent_activation"):
                    if getattr(owner, name, None) is k.activations.hard_sigmoid:
                        setattr(owner, name, _old_hard_sigmoid)

    # --- values by name ---

    def _named(self) -> dict[str, Any]:
        """Tensors of the model by our names; those that begin with _ are for `_alignment`."""
        graph, plan = self.graph, self.plan
        role = "decoder" if plan.decodes else "encoder"
        out = graph.outputs[0]
        if graph.layers[out.layer].kind == "Softmax":
            out = graph.call(out).tensors[0]
        found = {f"{role}.logits": self._tensor(out)}
        if plan.target is None:
            return found
        steps = self._depending(plan.target.name)
        for place in sorted(steps):
            layer, call = graph.layers[place[0]], graph.layers[place[0]].calls[place[1]]
            for tensor in call.tensors if _counts(layer) else []:
                while graph.layers[tensor.layer].kind in PASSING:
                    tensor = graph.call(tensor).tensors[0]
                source = graph.layers[tensor.layer]
                kind = source.kind
                if kind in CELLS and not source.config["return_sequences"] and tensor.output == 1:
                    tensor = tensor._replace(output=0)  # the output is the state
                unnamed = kind in ("InputLayer", "NotEqual", "ConvertToTensor")
                if tensor[:2] not in steps and not unnamed:
                    found[f"encoder.{name_of(tensor)}"] = self._tensor(tensor)
            if layer.kind in CELLS and layer.config["return_sequences"] and not self._masks():
                found[f"decoder.{clean(layer.name)}_h"] = self._tensor(Tensor(*place, 0))
        attentions = [one for one in graph.layers.values() if "Attention" in one.kind]
        dots = [one for one in graph.layers.values() if one.kind == "Dot"]
        if len(attentions) == 1 and not dots and (attentions[0].name, 0) in steps:
            for number, tensor in enumerate(attentions[0].calls[0].tensors):
                found[f"_{attentions[0].name}/{number}"] = self._tensor(tensor)
        return found

    def _alignment(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The weights of a model's only attention, from Keras's own call for them."""
        given = {name: value for name, value in values.items() if name.startswith("_")}
        if not given:
            return {}
        name = next(iter(given))[1:].rpartition("/")[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inputs = [one[None] for one in given.values()]
            _, weights = self.model.get_layer(name)(inputs, return_attention_scores=True)
        return {"decoder.alignment": weights.detach().numpy()[0]}

    def _masks(self) -> bool:
        """Whether an Embedding of the target leaves out id 0: then a state is not the output."""
        assert self.plan.target is not None
        readers = self.graph.consumers(self.plan.target.name)
        return any(one.config.get("mask_zero") for one in readers)

    def _depending(self, name: str) -> set[tuple[str, int]]:
        steps = {(name, 0)}
        for place in self.graph.order:
            call = self.graph.layers[place[0]].calls[place[1]]
            if any(one[:2] in steps for one in call.tensors):
                steps.add(place)
        return steps

    def _tensor(self, tensor: Tensor) -> Any:
        if self.model.__class__.__name__ == "Sequential":
            return self.model.get_layer(tensor.layer).output
        layer = next(one for one in self.model.operations if one.name == tensor.layer)
        return layer._inbound_nodes[tensor.node].output_tensors[tensor.output]

    def _input(self, one: Any, inputs: Mapping[str, Any], steps: list[Any]) -> Any:
        target = one is self.plan.target
        name = "tokens" if one is self.plan.source and self.plan.has_tokens else clean(one.name)
        value = np.asarray(steps if target else inputs[name])
        if one.kind == "one_hot":
            return np.eye(one.size + 1, one.size)[value]
        if one.kind == "ids":
            shifted = any(self.shifted[layer.name] for layer in self.graph.consumers(one.name))
            return value + int(shifted)
        return value.astype(np.float64)


class KerasPair:
    """The encoder and the step of two files, in float64, in the loop of the example."""

    def __init__(
        self, checkpoint: Checkpoint, graph: LayerGraph, plan: Plan, *, start: int | None
    ) -> None:
        k = keras()
        self.framework = f"keras {k.__version__} on {k.backend.backend()}"
        self.plan, self.start = plan, start
        if graph.major < 3:
            raise InputError("two files of Keras 2 are not loaded by Keras 3: no program is run")
        if any(one.config.get("mask_zero") for one in graph.layers.values()):
            raise InputError("masks of ids 0 in two files: no program is run beside them")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.encoder, self.step = (_double(_loaded(part)) for part in checkpoint.parts.values())
        name = plan.last.name.removeprefix("decoder_")
        names = [layer.name for layer in self.step.layers]
        last = self.step.get_layer(plan.last.name if plan.last.name in names else name)
        getattr(last, "layer", last).activation = k.activations.linear

    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        plan = self.plan
        assert plan.target is not None
        given = [
            _fed(
                one, inputs["tokens" if one is plan.source and plan.has_tokens else clean(one.name)]
            )
            for one in plan.inputs
            if one is not plan.target
        ]
        count, logits = len(self.step.outputs) - 1, []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = _numbers(self.encoder(given))
            at = next(
                number
                for number, one in enumerate(self.step.inputs)
                if one.name == plan.target.name.removeprefix("decoder_")
                or one.name == plan.target.name
            )
            for token in [self.start, *target]:
                read = [*values[:at], _fed(plan.target, [token]), *values[at:]]
                out, *states = _numbers(self.step(read))
                logits.append(out[0, 0])
                # The states are the last inputs: what attention reads stands in front of them.
                values[len(values) - count :] = states
        return {"decoder.logits": np.stack(logits)}


def _fed(one: Any, value: Any) -> Any:
    array = np.asarray(value)
    return (np.eye(one.size + 1, one.size)[array] if one.kind == "one_hot" else array)[None]


def _numbers(found: Any) -> list[Any]:
    listed = found if isinstance(found, (list, tuple)) else [found]
    return [one.detach().numpy() for one in listed]


def _double(stored: Any) -> Any:
    """The same model in float64."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(changed(item) for item in value)
        return "float64" if value == "float32" else value

    model = type(stored).from_config(changed(stored.get_config()))
    model.set_weights(stored.get_weights())
    return model


DIRECTIONS = ("forward", "backward")


def _loaded(checkpoint: Checkpoint) -> Any:
    """The file as Keras 3 loads it; code in it is not run."""
    k = keras()
    if checkpoint.path is None:
        raise InputError(f"{checkpoint.where}: Keras reads files alone: verify a path")
    data = Path(checkpoint.path).read_bytes()
    suffix = ".keras" if data[:2] == b"PK" else ".h5"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"model{suffix}")
        path.write_bytes(data)
        return k.models.load_model(path, compile=False, safe_mode=True)


# Settings of Keras 2 that Keras 3 does not take; time_major alone would change what is computed.
GONE = ("time_major", "implementation", "batch_input_shape", "input_length", "input_dtype")


def _rebuilt(graph: LayerGraph) -> Any:
    """A model of Keras 2, which Keras 3 does not load, from Keras 3's layers and the same arrays.
    Keras hands on the masks itself."""
    k = keras()
    made: dict[str, Any] = {}
    found: dict[tuple[str, int], list[Any]] = {}
    for name, node in graph.order:
        layer = graph.layers[name]
        call = layer.calls[node]
        if layer.kind == "InputLayer":
            found[name, node] = [k.Input(layer.config["batch_input_shape"][1:], name=name)]
            continue
        given = [found[one[:2]][one.output] for one in call.tensors]
        if name not in made:
            made[name] = _layer(layer.kind, {"name": name, **layer.config})
        if layer.kind in (*CELLS, "Bidirectional") and len(given) > 1:
            given = [given[0]]
            states = [found[one[:2]][one.output] for one in call.tensors[1:]]
            result = made[name](given[0], initial_state=states)
        else:
            result = made[name](given if len(given) > 1 else given[0])
        found[name, node] = list(result) if isinstance(result, (list, tuple)) else [result]
    for name, layer_ in made.items():
        if arrays := [array for group in graph.layers[name].groups for array in group.values()]:
            layer_.set_weights(arrays)
    inputs = [found[one[:2]][one.output] for one in graph.inputs]
    return k.Model(inputs, [found[one[:2]][one.output] for one in graph.outputs])


def _layer(kind: str, config: Mapping[str, Any]) -> Any:
    layers = keras().layers
    kept = {key: value for key, value in config.items() if key not in GONE}
    if kind in PASSING[:2]:  # does nothing here
        return layers.Dropout(0.0, name=config["name"])
    if isinstance(kept.get("axis"), list) and len(kept["axis"]) == 1:
        kept["axis"] = kept["axis"][0]
    for role in ("layer", "backward_layer"):
        if kept.get(role) is not None:
            kept[role] = _layer(*inner(kept, role))
    if not hasattr(layers, kind):
        raise InputError(f"Keras 3 has no layer {kind}: this model cannot be verified with it")
    if "layer" in kept:
        return getattr(layers, kind)(**kept)
    return getattr(layers, kind).from_config(kept)


def _old_hard_sigmoid(x: Any) -> Any:
    k = keras()
    return k.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def _counts(layer: Layer) -> bool:
    """Whether a layer reads values, not shapes of masks."""
    return layer.kind not in ("ZerosLike", "OnesLike", "ExpandDims", "LogicalOr", "Any", "Concat")
