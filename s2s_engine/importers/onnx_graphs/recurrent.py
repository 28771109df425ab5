"""ONNX's RNN, GRU and LSTM: their weights in this engine's order, and their equations where the
engine's own recurrences have no place for them (a clip, two different functions). Knows one layer
or one step; never graphs around them.

ONNX, Operators, LSTM/GRU/RNN: gates i o f c and z r h; B = [Wb, Rb]; P = [p_i, p_o, p_f].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...builder import GraphBuilder, StepBuilder, Value
from ..readers.onnx_files import Node
from .expressions import (
    Array,
    Expr,
    S,
    Tensor,
    concat,
    constant,
    part,
    shape_text,
    sliced,
    tensor,
)

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ORDER = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}  # to r z n and i f g o
DEFAULTS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
STATES = {"RNN": ("h",), "GRU": ("h",), "LSTM": ("h", "c")}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
ATTRIBUTES = {
    "activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size",
    "input_forget", "layout", "linear_before_reset", "output_sequence",
}  # fmt: skip
PLAIN = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "softplus": "softplus"}
# Functions with parameters: their defaults (alpha, beta); None takes no such parameter.
PARAMETERS: dict[str, tuple[float | None, float | None]] = {
    "affine": (1.0, 0.0), "hardsigmoid": (0.2, 0.5), "scaledtanh": (1.0, 1.0),
    "leakyrelu": (0.01, None), "thresholdedrelu": (1.0, None), "elu": (1.0, None),
}  # fmt: skip


@dataclass(frozen=True)
class Recurrence:
    """One direction. functions: of the gates, of the candidate and, of an LSTM, of the cell state;
    clip: what the first two read is bounded to [-clip, clip], 0 not."""

    kind: str
    functions: tuple[str, ...]
    direction: str
    reset: str
    clip: float
    weights: Mapping[str, Array]

    @property
    def hidden(self) -> int:
        return int(self.weights["weight_hh"].shape[1])

    @property
    def native(self) -> bool:
        """Whether an operation of the engine is exactly this."""
        return not self.clip and (self.kind != "LSTM" or self.functions[1] == self.functions[2])


# --- from a node ---


def layer(node: Node, given: Sequence[Tensor | Array | None], source: object) -> list[Any]:
    """The outputs Y, Y_h and Y_c of a node. source: the S of whole sequences."""
    unknown = sorted(node.attributes.keys() - ATTRIBUTES)
    if unknown:
        raise ValueError(f"attribute {unknown[0]!r} is not known")
    read = dict(zip(INPUTS, given, strict=False))
    x, layout = read["X"], node.attributes.get("layout", 0)
    if not isinstance(x, Tensor) or len(x.axes) != 3 or layout not in (0, 1):
        raise ValueError("X must be a value with three axes, and layout 0 or 1")
    steps, batch = (x.axes[1], x.axes[0]) if layout else (x.axes[0], x.axes[1])
    if batch != 1 or steps not in (1, S):
        raise ValueError(f"X has {steps} steps of {batch} sentences: {_WAY_OUT}")
    if steps == S and x.expr.kind != "sequence":
        raise ValueError("X is one vector repeated over positions, which no layer reads here")
    _lengths(read.get("sequence_lens"), steps, source)
    recurrences = _recurrences(node, read)
    of_states = (len(recurrences), 1, recurrences[0].hidden)
    axes = (1, len(recurrences), of_states[2]) if layout else of_states
    starts = [_start(read.get(f"initial_{role}"), axes, role) for role in STATES[node.op_type]]
    results = [
        _run(one, x.expr, [_of(start, number, one.hidden) for start in starts], steps == S)
        for number, one in enumerate(recurrences)
    ]
    count, hidden = len(recurrences), recurrences[0].hidden
    y_axes = (1, steps, count, hidden) if layout else (steps, count, 1, hidden)
    last = (1, count, hidden) if layout else (count, 1, hidden)
    joined = [concat(of_role) for of_role in zip(*results, strict=True)]
    return [tensor(joined[0], y_axes), *(tensor(one, last) for one in joined[1:])]


_WAY_OUT = (
    "export with one sentence, and with the source's length as the one dynamic axis that is read "
    "step by step"
)


def _lengths(lengths: Tensor | Array | None, steps: object, source: object) -> None:
    """sequence_lens may only say that all positions are read."""
    if lengths is None:
        return
    if isinstance(lengths, Tensor) or lengths.shape != (1,):
        raise ValueError("sequence_lens must hold one length")
    if lengths[0] != (source if steps == S else steps):
        raise ValueError(f"sequence_lens is {lengths[0]}, not the length of X ({steps})")


def _recurrences(node: Node, read: Mapping[str, Tensor | Array | None]) -> list[Recurrence]:
    kind = node.op_type
    direction = node.attributes.get("direction", "forward")
    directions = {
        "forward": ["forward"], "reverse": ["backward"], "bidirectional": ["forward", "backward"]
    }.get(direction)  # fmt: skip
    if directions is None:
        raise ValueError(f"direction is {direction!r}")
    arrays: dict[str, Array] = {}
    for name in ("W", "R", "B", "P"):
        array = read.get(name)
        if isinstance(array, Tensor):
            raise ValueError(f"{name} is computed, must be an initializer")
        if array is not None:
            arrays[name] = np.asarray(array, np.float64)
    gates, functions = GATES[kind], _functions(node, len(directions))
    hidden: int = node.attributes.get("hidden_size") or int(arrays["R"].shape[-1])
    count, inputs = len(directions), arrays["W"].shape[-1]
    shapes = {
        "W": (count, gates * hidden, inputs), "R": (count, gates * hidden, hidden),
        "B": (count, 2 * gates * hidden), "P": (count, 3 * hidden),
    }  # fmt: skip
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise ValueError(f"{name} has shape {array.shape}, must have {shapes[name]}")
    before = kind == "GRU" and not node.attributes.get("linear_before_reset", 0)
    clip = float(node.attributes.get("clip", 0.0))
    if not (np.isfinite(clip) and clip >= 0) or (clip == 0 and "clip" in node.attributes):
        raise ValueError(f"clip is {clip}, must be a number above 0")
    forget = bool(node.attributes.get("input_forget", 0)) and kind == "LSTM"
    return [
        Recurrence(
            kind, functions[number], directions[number], "before" if before else "after", clip,
            _weights(kind, {n: a[number] for n, a in arrays.items()}, functions[number], forget),
        )
        for number in range(count)
    ]  # fmt: skip


def _weights(
    kind: str, arrays: Mapping[str, Array], functions: Sequence[str], forget: bool
) -> dict[str, Array]:
    gates = GATES[kind]

    def ordered(array: Array) -> Array:
        blocks = np.split(array, gates)
        if forget:  # f = 1 - i: what both gates' functions give for -x
            blocks[2] = -blocks[0]
        return np.concatenate([blocks[number] for number in ORDER[kind]])

    found = {"weight_ih": ordered(arrays["W"]), "weight_hh": ordered(arrays["R"])}
    if "B" in arrays:
        found["bias_ih"], found["bias_hh"] = map(ordered, np.split(arrays["B"], 2))
    if "P" in arrays:
        p_i, p_o, p_f = np.split(arrays["P"], 3)
        found["peephole"] = np.concatenate([p_i, -p_i if forget else p_f, p_o])
    if forget and functions[0] not in ("sigmoid", "hard_sigmoid", "hard_sigmoid_6"):
        raise ValueError(f"input_forget with gates of {functions[0]} is not read")
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def _functions(node: Node, count: int) -> list[tuple[str, ...]]:
    """The functions of each direction by this engine's names."""
    default = DEFAULTS[node.op_type]
    names = node.attributes.get("activations")
    if not names:
        return [default] * count
    if len(names) != count * len(default):
        raise ValueError(f"activations are {names}, must be {count * len(default)}")
    values = [iter(node.attributes.get(f"activation_{which}", ())) for which in ("alpha", "beta")]
    found = []
    for name in names:
        lower = str(name).lower()
        if lower in PLAIN:
            found.append(PLAIN[lower])
            continue
        parameters = tuple(
            None if usual is None else float(next(given, usual))
            for given, usual in zip(values, PARAMETERS.get(lower, ()), strict=False)
        )
        found.append(_with_parameters(lower, parameters, str(name)))
    return [tuple(found[i : i + len(default)]) for i in range(0, len(found), len(default))]


def _with_parameters(name: str, parameters: tuple[float | None, ...], shown: str) -> str:
    rounded = tuple(None if p is None else round(p, 6) for p in parameters)
    known: dict[tuple[str, tuple[float | None, ...]], str] = {
        ("hardsigmoid", (0.2, 0.5)): "hard_sigmoid",
        ("hardsigmoid", (round(1 / 6, 6), 0.5)): "hard_sigmoid_6",
        ("affine", (1.0, 0.0)): "identity",
        ("scaledtanh", (1.0, 1.0)): "tanh",
        ("leakyrelu", (0.0, None)): "relu",
        ("thresholdedrelu", (0.0, None)): "relu",
    }
    if (name, rounded) not in known:
        raise ValueError(f"the activation {shown} {list(parameters)} is not there in this engine")
    return known[name, rounded]


def _start(given: Tensor | Array | None, axes: tuple[int, ...], role: str) -> Expr | None:
    """An initial state, its directions behind each other; None of zeros."""
    if given is None:
        return None
    shape = given.axes if isinstance(given, Tensor) else given.shape
    if shape != axes:
        raise ValueError(
            f"initial_{role} is {shape_text(shape)}, must be {shape_text(axes)} (exporters that do "
            "not know projections, proj_size, write this, with a part of the weights)"
        )
    if isinstance(given, Tensor):
        return given.expr
    return constant(given) if np.any(given) else None


def _of(start: Expr | None, number: int, hidden: int) -> Expr | None:
    return None if start is None else sliced(start, number * hidden, (number + 1) * hidden)


def _run(one: Recurrence, x: Expr, starts: list[Expr | None], over_positions: bool) -> list[Expr]:
    """(outputs, h[, c]) of one direction; of one step, the outputs are h."""
    if x.size != one.weights["weight_ih"].shape[1]:
        raise ValueError(f"X has {x.size} features, W {one.weights['weight_ih'].shape[1]}")
    for start in starts:
        if start is not None and start.size != one.hidden:
            raise ValueError(f"an initial state has {start.size} features, not {one.hidden}")
    roles = STATES[one.kind]
    given = [start for start in starts if start is not None]
    present = tuple(r for r, start in zip(roles, starts, strict=True) if start is not None)
    attributes = {"recurrence": one, "starts": present, "layer": over_positions}
    states = Expr("recurrence", (x, *given), attributes, one.weights, "states", one.hidden)
    parts = [part(states, role, "vector", one.hidden) for role in roles]
    first = part(states, "sequence", "sequence", one.hidden) if over_positions else parts[0]
    return [first, *parts]


# --- into a builder ---


def write(g: GraphBuilder, expr: Expr, inputs: Sequence[Any]) -> dict[str, Any]:
    """The node, or its equations; its values by role. inputs: x and the initial states."""
    one: Recurrence = expr["recurrence"]
    x, starts = inputs[0], dict(zip(expr["starts"], inputs[1:], strict=True))
    roles = STATES[one.kind]
    if one.native:
        return dict(
            zip(
                (*(["sequence"] if expr["layer"] else []), *roles),
                _native(g, one, x, starts, expr["layer"]),
                strict=True,
            )
        )
    if not expr["layer"]:
        previous = [starts.get(role) or g.constant(size=one.hidden) for role in roles]
        return dict(zip(roles, _equations(g, one, x, previous), strict=True))

    def body(step: StepBuilder, x_t: Value) -> Value:
        previous = [
            step.state(role, initial=starts[role])
            if role in starts
            else step.state(role, size=one.hidden)
            for role in roles
        ]
        following = _equations(step, one, x_t, previous)
        step.next(dict(zip(roles, following, strict=True)))
        return following[0]

    sequence, states = g.scan(x, body, direction=one.direction)
    return {"sequence": sequence, **states}


def _native(
    g: GraphBuilder, one: Recurrence, x: Any, starts: Mapping[str, Any], layer: bool
) -> tuple[Value, ...]:
    options: dict[str, Any] = {"activation": one.functions[-1]}
    if one.kind != "RNN":
        options["gate_activation"] = one.functions[0]
    if one.kind == "GRU":
        options["reset"] = one.reset
    if layer:
        run: Any = getattr(g, one.kind.lower())
        result: tuple[Value, ...] = run(
            x, one.weights, **starts, direction=one.direction, **options
        )
        return result
    run = getattr(g, f"{one.kind.lower()}_cell")
    previous = [starts.get(role) for role in STATES[one.kind]]
    found = run(x, *previous, one.weights, **options)
    return (found,) if isinstance(found, Value) else found


def _equations(
    g: GraphBuilder, one: Recurrence, x: Any, previous: Sequence[Any]
) -> tuple[Value, ...]:
    """One step as the operator's definition has it."""
    w, hidden, functions = one.weights, one.hidden, one.functions

    def apply(value: Value, function: str) -> Value:
        return g.activation(_clipped(g, value, one.clip), function)

    def rows(name: str, number: int) -> Array | None:
        return w[name][number * hidden : (number + 1) * hidden] if name in w else None

    def product(value: Any, of: str, number: int) -> Value:
        block = rows(f"weight_{of}", number)
        assert block is not None
        return g.linear(value, np.array(block), rows(f"bias_{of}", number))

    def both(number: int, state: Any) -> Value:
        return g.add(product(x, "ih", number), product(state, "hh", number))

    h = previous[0]
    if one.kind == "RNN":
        return (apply(both(0, h), functions[0]),)
    if one.kind == "GRU":
        r, z = apply(both(0, h), functions[0]), apply(both(1, h), functions[0])
        if one.reset == "before":
            candidate = both(2, g.multiply(r, h))
        else:
            candidate = g.add(product(x, "ih", 2), g.multiply(r, product(h, "hh", 2)))
        return (g.interpolate(z, h, apply(candidate, functions[1])),)
    c = previous[1]
    peephole = [None] * 3 if "peephole" not in w else [rows("peephole", n) for n in range(3)]

    def gate(number: int, look: int, state: Any) -> Value:
        summed, looked = both(number, h), peephole[look]
        if looked is not None:
            summed = g.add(summed, g.multiply(state, g.constant(np.array(looked))))
        return apply(summed, functions[0])

    i, f = gate(0, 0, c), gate(1, 1, c)
    new = g.add(g.multiply(f, c), g.multiply(i, apply(both(2, h), functions[1])))
    o = gate(3, 2, new)
    # onnxruntime bounds what the gates' functions read, and not the cell state.
    return g.multiply(o, g.activation(new, functions[2])), new


def _clipped(g: GraphBuilder, x: Value, clip: float) -> Value:
    """x - relu(x - clip), then the other side: exactly x between the bounds."""
    if not clip:
        return x
    minus, bound = g.constant(np.array([-1.0])), g.constant(np.array([-clip]))
    above = g.activation(g.add(x, bound), "relu")
    x = g.add(x, g.multiply(above, minus))
    below = g.activation(g.add(g.multiply(x, minus), bound), "relu")
    return g.add(x, below)
