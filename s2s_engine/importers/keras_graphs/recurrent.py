"""Keras's recurrent layers: over source positions a layer of the encoder, over the target a cell of
the decoder step with its states. Knows gates, states, directions and masks; never files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...builder import Array, GraphBuilder, Value, X
from ...errors import ModelFormatError
from .. import keras
from .graph import CELLS, CUDNN, Call, Layer, clean, inner
from .values import PADDED, Features, Final, Found, RoleError, floats, unique

if TYPE_CHECKING:
    from .layers import Translator


@dataclass(frozen=True)
class _Cell:
    """kind: "lstm", "gru" or "rnn". options: what the builder's methods of this kind take."""

    kind: str
    weights: Mapping[str, Any]
    options: Mapping[str, str]
    states: tuple[str, ...]

    @property
    def size(self) -> int:
        return int(self.weights["weight_hh"].shape[1])

    def layer(
        self, graph: GraphBuilder, x: Value, states: Sequence[X], direction: str
    ) -> list[Value]:
        """[sequence, final states ...] over the source."""
        method: Any = getattr(graph, self.kind)
        given = dict(zip(self.states, states, strict=False))
        return list(method(x, self.weights, **given, direction=direction, **self.options))

    def step(self, graph: GraphBuilder, x: X, states: Sequence[X]) -> list[Value]:
        """The states after one step; the first one is the output."""
        method: Any = getattr(graph, f"{self.kind}_cell")
        found = method(x, *states, self.weights, **self.options)
        return list(found) if isinstance(found, tuple) else [found]


def _cell(t: Translator, kind: str, config: Mapping[str, Any], group: Mapping[str, Array]) -> _Cell:
    """A layer's weights and functions."""
    if config.get("stateful"):
        raise ModelFormatError("is stateful: one source would change the next one")
    if config.get("time_major"):
        raise ModelFormatError("is time_major, which is not read")
    if kind not in (*CELLS, *CUDNN):
        raise ModelFormatError(f"wraps a {kind}; {', '.join((*CELLS, *CUDNN))} are read")
    if kind == "CuDNNLSTM":
        return _Cell("lstm", keras.cudnn_lstm(group), {}, ("h", "c"))
    if kind == "CuDNNGRU":
        return _Cell("gru", keras.cudnn_gru(group), {"reset": "after"}, ("h",))
    options = {"activation": t.ours(config)}
    if kind == "SimpleRNN":
        return _Cell("rnn", keras.simple_rnn(group), options, ("h",))
    options["gate_activation"] = t.ours(config, "recurrent_activation")
    if kind == "LSTM":
        return _Cell("lstm", keras.lstm(group), options, ("h", "c"))
    # The key is missing in files of Keras before it had the choice.
    weights, reset = keras.gru(group, reset_after=bool(config.get("reset_after", False)))
    return _Cell("gru", weights, {**options, "reset": reset}, ("h",))


def recurrent(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    """LSTM, GRU, SimpleRNN, CuDNNLSTM and CuDNNGRU."""
    config = layer.config
    cell = _cell(t, layer.kind, config, layer.groups[0])
    x, *states = _features(inputs)
    if states and len(states) != len(cell.states):
        raise ModelFormatError(f"has {len(states)} initial states, must have {len(cell.states)}")
    # Keras 3 hands a mask on to a call with one tensor alone: a layer that is given its initial
    # state reads padding like anything else, unless it is given the mask, too.
    held = x.masked and (t.major < 3 or not states or call.kwargs.get("mask") is not None)
    if x.axis == "target":
        return _steps(t, layer, cell, x, states, held=held)
    if x.axis == "none":
        raise ModelFormatError("reads a vector: it has no positions")
    if x.masked and not held and t.graphs.padded:
        raise ModelFormatError(PADDED)
    given = _initial(t, states)
    direction = "backward" if config["go_backwards"] else "forward"
    encoder = t.graphs.builder.encoder
    sequence, *last = cell.layer(encoder, x.value, given, direction)
    if config["return_sequences"]:
        # Keras gives what a layer that goes backwards computes in the order of computing.
        value = encoder.reverse(sequence) if config["go_backwards"] else sequence
        out = Features("source", value, x.masked)
    else:
        out = Features("none", last[0])
    return [out, *(Features("none", one) for one in last if config["return_state"])]


def _steps(
    t: Translator, layer: Layer, cell: _Cell, x: Features, states: list[Features], *, held: bool
) -> list[Found]:
    """One step of a layer over the target; held: at padding Keras keeps states and output, or
    gives zeros."""
    config, d = layer.config, t.graphs.decoder
    if config["go_backwards"]:
        raise RoleError(f"layer {layer.name!r} reads the target from its end")
    if any(one.value.graph == "decoder" or one.axis != "none" for one in states):
        raise RoleError(f"layer {layer.name!r} starts from values of the target")
    name = unique(clean(layer.name), {key[:-2] for key in t.graphs.states})
    olds: dict[str, Value] = {}
    for number, role in enumerate(cell.states):
        key = f"{name}_{role}"
        if states:
            initial = t.graphs.cross(states[number].value)
            olds[key] = d.state(key, initial=initial)
        else:
            olds[key] = d.state(key, size=cell.size)
    read = t.graphs.read(d, x)
    news = dict(zip(olds, cell.step(d, read, list(olds.values())), strict=True))
    out = news[f"{name}_h"]
    if held:
        gate = t.graphs.not_padding()
        if config.get("zero_output_for_mask"):
            out = d.multiply(out, gate)
        else:
            before = d.state(f"{name}_y", size=cell.size)
            out = d.interpolate(gate, out, before)
            t.graphs.states[f"{name}_y"] = out
        news = {key: d.interpolate(gate, new, olds[key]) for key, new in news.items()}
    t.graphs.states.update(news)
    if not config["return_sequences"]:
        return [Final(layer.name)] * (1 + len(news))
    found: list[Found] = [Features("target", out, x.masked)]
    return found + [Final(layer.name)] * len(news)


def bidirectional(t: Translator, layer: Layer, call: Call, inputs: list[Found]) -> list[Found]:
    """Two layers, one in each direction; their outputs are merged, their states are not."""
    x, *states = _features(inputs)
    if x.axis == "target":
        raise RoleError(f"layer {layer.name!r} reads the target in both directions")
    if x.axis == "none":
        raise ModelFormatError("reads a vector: it has no positions")
    kind, config = inner(layer.config)
    other_kind: str = kind
    other: Mapping[str, Any] = {**config, "go_backwards": not config["go_backwards"]}
    if layer.config.get("backward_layer") is not None:
        other_kind, other = inner(layer.config, "backward_layer")
    if other_kind != kind or config["go_backwards"] or not other["go_backwards"]:
        raise ModelFormatError("its layers must be of one kind, one forward and one backward")
    cells = [
        _cell(t, one, settings, group)
        for one, settings, group in zip(
            (kind, other_kind), (config, other), layer.groups, strict=True
        )
    ]
    count = len(cells[0].states)
    if states and len(states) != 2 * count:
        raise ModelFormatError(f"has {len(states)} initial states, must have {2 * count}")
    given = _initial(t, states)
    e = t.graphs.builder.encoder
    sequences, lasts = [], []
    for number, (cell, direction) in enumerate(zip(cells, ("forward", "backward"), strict=True)):
        own = given[number * count : (number + 1) * count]
        sequence, *last = cell.layer(e, x.value, own, direction)
        sequences.append(sequence)
        lasts.append(last)
    every = bool(config["return_sequences"])
    axis, masked = ("source", x.masked) if every else ("none", False)
    outs = sequences if every else [last[0] for last in lasts]
    merged = _merged(e, layer.config["merge_mode"], outs)
    found: list[Found] = [Features(axis, one, masked) for one in merged]  # type: ignore[arg-type]
    if config["return_state"]:
        found += [Features("none", one) for last in lasts for one in last]
    return found


def _merged(e: GraphBuilder, mode: Any, outs: list[Value]) -> list[Value]:
    if mode is None:
        return outs
    if mode == "concat":
        return [e.concat(outs)]
    if mode == "mul":
        return [e.multiply(*outs)]
    if mode == "sum":
        return [e.add(*outs)]
    if mode == "ave":
        return [e.multiply(e.add(*outs), e.constant(floats(0.5)))]
    raise ModelFormatError(f"merge_mode is {mode!r}, must be concat, sum, ave, mul or None")


def _features(inputs: list[Found]) -> list[Features]:
    found = [one for one in inputs if isinstance(one, Features)]
    if len(found) != len(inputs) or not found:
        raise ModelFormatError("reads something else than features")
    return found


def _initial(t: Translator, states: list[Features]) -> list[Value]:
    """Initial states of a layer over the source."""
    for one in states:
        if one.value.graph == "decoder" or one.axis != "none":
            raise RoleError("an initial state over the source is no vector of the source")
    return [one.value for one in states]
