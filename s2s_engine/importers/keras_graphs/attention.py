"""Keras's attention: the layers Attention and AdditiveAttention, and the same written with Dot,
Activation and Dot. Knows scores and axes; never files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...builder import GraphBuilder, X
from ...errors import ModelFormatError
from .graph import Call, Layer
from .values import PADDED, Energies, Features, Found, RoleError, floats

if TYPE_CHECKING:
    from .layers import Translator


def attention(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    """Attention: softmax(scale query . key), or with score_mode "concat"
    softmax(w sum(tanh(scale (query + key)))); scale and w are scalars, both may be missing."""
    mode = layer.config.get("score_mode", "dot")
    group = layer.groups[0] if layer.groups else {}
    scale = float(np.reshape(group["scale"], ())) if "scale" in group else 1.0
    if mode == "dot":
        return _attend(t, layer, inputs, scale=scale)
    if mode != "concat":
        raise ModelFormatError(f"score_mode is {mode!r}, must be 'dot' or 'concat'")
    w = float(np.reshape(group["concat_score_weight"], ()))
    return _attend(t, layer, inputs, scale=scale, v=np.float32(w))


def additive_attention(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    """AdditiveAttention: softmax(scale . tanh(query + key)), scale (D) or without it ones."""
    group = layer.groups[0] if layer.groups else {}
    return _attend(t, layer, inputs, v=group.get("scale", np.float32(1)))


def _attend(
    t: Translator, layer: Layer, inputs: list[Found], *, scale: float = 1.0, v: Any = None
) -> list[Found]:
    query, values, keys = _roles(inputs)
    graph = t.graphs.of(query)
    asked = t.graphs.read(graph, query)
    if v is None:
        options: dict[str, Any] = {"score": "dot", "scale": scale}
        read = t.graphs.read(graph, keys)
    else:
        if scale != 1.0:
            asked = _scaled(graph, asked, scale)
            encoder = t.graphs.builder.encoder
            keys = Features(keys.axis, _scaled(encoder, keys.value, scale))
        read = t.graphs.read(graph, keys)
        v = np.broadcast_to(v, (keys.value.type.size,)).astype(np.float32)
        options = {"score": "additive", "v": v}
    memory = t.graphs.read(graph, values)
    context, weights = graph.attention(query=asked, keys=read, values=memory, **options)
    if graph is not t.graphs.builder.encoder:
        t.graphs.alignments.append(weights)
    if query.masked and query.axis == "target":
        context = graph.multiply(context, t.graphs.not_padding())
    return [Features(query.axis, context, query.masked)]


def _roles(inputs: list[Found]) -> tuple[Features, Features, Features]:
    """Query, value and key, which is the value where it is not given."""
    found = [one for one in inputs if isinstance(one, Features)]
    if len(found) != len(inputs) or len(found) not in (2, 3):
        raise ModelFormatError("reads something else than query, value and key")
    query, values, keys = found[0], found[1], found[-1]
    if "target" in (values.axis, keys.axis):
        raise RoleError("attends to positions of the target")
    if values.axis != "source" or keys.axis != "source" or query.axis == "none":
        raise ModelFormatError("query, value and key must have positions")
    return query, values, keys


def _scaled(graph: GraphBuilder, value: X, scale: float) -> Any:
    return graph.multiply(value, graph.constant(floats(scale)))


def dot(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    """Dot of (steps, D) and (positions, D) over D, and of the softmax of that, (steps, positions),
    and (positions, C) over positions."""
    if layer.config.get("normalize"):
        raise ModelFormatError("normalize=True (cosine) is not read")
    axes = layer.config["axes"]
    first, second = (
        _axis(axis) for axis in (axes if isinstance(axes, (list, tuple)) else [axes] * 2)
    )
    a, b = inputs
    if isinstance(a, Features) and isinstance(b, Features):
        if (first, second) != (2, 2) or {a.axis, b.axis} != {"source", "target"}:
            raise ModelFormatError(
                f"axes {axes}: the features of steps and of source positions are multiplied"
            )
        if t.graphs.padded and (a if a.axis == "source" else b).masked:
            raise ModelFormatError(PADDED)
        return [Energies(a, b, True) if a.axis == "target" else Energies(b, a, False)]
    energies, values = (a, b) if isinstance(a, Energies) else (b, a)
    if not isinstance(energies, Energies) or not isinstance(values, Features):
        raise ModelFormatError("multiplies neither features nor weights and features")
    over = (first, second) if energies is a else (second, first)
    if not energies.normal or over != (2, 1) or values.axis != "source" or energies is b:
        raise ModelFormatError(
            f"axes {axes}: softmax weights (steps, positions) times values (positions, features) "
            "over positions are read, axes=[2, 1]"
        )
    graph = t.graphs.of(energies.query)
    context, weights = graph.attention(
        query=t.graphs.read(graph, energies.query),
        keys=t.graphs.read(graph, energies.keys),
        values=t.graphs.read(graph, values),
        score="dot",
    )
    if graph is not t.graphs.builder.encoder:
        t.graphs.alignments.append(weights)
    return [Features(energies.query.axis, context)]


def normalised(energies: Energies) -> Energies:
    """Behind a softmax over the last axis, which must be that of source positions."""
    if not energies.query_first:
        raise ModelFormatError("the softmax is over steps of the target, not source positions")
    return Energies(energies.query, energies.keys, True, normal=True)


def _axis(axis: Any) -> int:
    return int(axis) + 3 if axis < 0 else int(axis)
