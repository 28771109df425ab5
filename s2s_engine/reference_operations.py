"""The specification of every operation in NumPy float64, one sentence and one hypothesis at a time,
as the equations stand. Knows each operation's meaning; never models, search, speed or the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Node

Float64: TypeAlias = NDArray[np.float64]
# An id (), ids (S), a vector (D), a sequence (S, D) or an alignment (query, S, N).
Value: TypeAlias = NDArray[Any]
Values: TypeAlias = dict[str, Value]
Cell: TypeAlias = Callable[["Arguments", Values], Values]
# What a scan visits at one position: (x, states) to (output, next states).
Step: TypeAlias = Callable[[Value, Values], tuple[Value, Values]]


@dataclass(frozen=True)
class Body:
    """The body of a scan, ready to run: its first states and one step."""

    initial: Values
    step: Step


@dataclass(frozen=True)
class Arguments:
    """What one node computes with: its inputs, weights and attributes by role, the decoder's step,
    the source length, and the body of a scan."""

    inputs: Mapping[str, list[Value]]
    weights: Mapping[str, Float64]
    attributes: Mapping[str, Any]
    step: int = 0
    length: int = 0
    body: Body | None = None

    def input(self, role: str) -> Value:
        return self.inputs[role][0]

    def joined(self) -> Float64:
        return join(self.inputs["x"])

    def activation(self, name: str, x: Float64) -> Float64:
        return activate(self.attributes[name], x)

    def number(self, name: str) -> float:
        """A float attribute: the float32 that both executors use."""
        return float(np.float32(self.attributes[name]))


# --- the operations, in the order of docs/operations.md ---


def sigmoid(x: Float64) -> Float64:
    return np.exp(-np.logaddexp(0.0, -x))


ACTIVATION: dict[str, Callable[[Float64], Float64]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "hard_sigmoid_6": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "relu": lambda x: np.maximum(x, 0.0),
    "softplus": lambda x: np.logaddexp(0.0, x),
}


def activate(name: str, x: Float64) -> Float64:
    return ACTIVATION[name](x)


def softmax(x: Float64) -> Float64:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def join(values: list[Value]) -> Float64:
    """[x1; x2; ...] along features, a vector being repeated over positions."""
    lengths = [len(value) for value in values if value.ndim == 2]
    if lengths:
        values = [np.broadcast_to(value, (lengths[0], value.shape[-1])) for value in values]
    return np.concatenate(values, axis=-1)


def embedding(a: Arguments) -> Values:
    x = np.asarray(a.input("x"))
    rows = a.weights["weight"][np.maximum(x, 0)] * a.number("scale")
    return {"": np.where((x < 0)[..., None], 0.0, rows)}


def one_hot(a: Arguments) -> Values:
    x = np.asarray(a.input("x"))
    return {"": (x[..., None] == np.arange(a.attributes["size"])).astype(np.float64)}


def constant(a: Arguments) -> Values:
    return {"": a.weights.get("value", np.zeros(a.attributes["size"]))}


def linear(a: Arguments) -> Values:
    product = a.joined() @ a.weights["weight"].T + a.weights.get("bias", 0.0)
    return {"": a.activation("activation", product)}


def concat(a: Arguments) -> Values:
    return {"": a.joined()}


def slice_(a: Arguments) -> Values:
    return {"": a.input("x")[..., a.attributes["start"] : a.attributes["stop"]]}


def join_positions(a: Arguments) -> Values:
    return {"": np.concatenate([np.atleast_2d(value) for value in a.inputs["x"]])}


def add(a: Arguments) -> Values:
    total, *others = a.inputs["x"]
    for x in others:
        total = total + x
    return {"": total}


def multiply(a: Arguments) -> Values:
    product, *others = a.inputs["x"]
    for x in others:
        product = product * x
    return {"": product}


def interpolate(a: Arguments) -> Values:
    gate = a.input("gate")
    return {"": gate * a.input("a") + (1.0 - gate) * a.input("b")}


def activation(a: Arguments) -> Values:
    return {"": a.activation("function", a.input("x"))}


def softmax_features(a: Arguments) -> Values:
    return {"": softmax(a.input("x"))}


def maxout(a: Arguments) -> Values:
    x = a.input("x")
    return {"": x.reshape(*x.shape[:-1], -1, a.attributes["pieces"]).max(axis=-1)}


def layer_norm(a: Arguments) -> Values:
    """Ba et al. 2016, eq. 4: the biased variance, eps inside the root."""
    x = a.input("x")
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # equal features and no eps: 0 / 0
        normal = centred / np.sqrt(variance + a.number("eps"))
    return {"": normal * a.weights.get("weight", 1.0) + a.weights.get("bias", 0.0)}


def pool(a: Arguments) -> Values:
    how: dict[str, Callable[[Float64], Float64]] = {
        "last": lambda x: x[-1],
        "first": lambda x: x[0],
        "mean": lambda x: x.mean(axis=0),
        "max": lambda x: x.max(axis=0),
        "sum": lambda x: x.sum(axis=0),
    }
    return {"": how[a.attributes["how"]](a.input("x"))}


def reverse(a: Arguments) -> Values:
    return {"": a.input("x")[::-1]}


def to_positions(a: Arguments) -> Values:
    x, out = a.input("x"), np.zeros((a.length, 1))
    count = min(len(x), a.length)
    out[:count, 0] = x[:count]
    return {"": out}


def scatter(a: Arguments) -> Values:
    out = np.zeros(a.attributes["size"])
    for weight, i in zip(a.input("weights")[:, 0], a.input("ids"), strict=True):
        if i >= 0:
            out[i] += weight
    return {"": out}


def first_step(a: Arguments) -> Values:
    return {"": a.input("first" if a.step == 0 else "otherwise")}


def rnn_cell(a: Arguments, state: Values) -> Values:
    recurrent = a.weights["weight_hh"] @ state["h"] + _bias(a, "bias_hh")
    return {"h": a.activation("activation", _input_part(a) + recurrent)}


def gru_cell(a: Arguments, state: Values) -> Values:
    """h' = z h + (1 - z) n: Cho et al. 2014, eqs. 5-8; reset after the product as in cuDNN."""
    h = state["h"]
    x_r, x_z, x_n = np.split(_input_part(a), 3)
    u_r, u_z, u_n = np.split(a.weights["weight_hh"], 3)
    b_r, b_z, b_n = np.split(_bias(a, "bias_hh"), 3)
    r = a.activation("gate_activation", x_r + u_r @ h + b_r)
    z = a.activation("gate_activation", x_z + u_z @ h + b_z)
    after = a.attributes["reset"] == "after"
    reset = r * (u_n @ h + b_n) if after else u_n @ (r * h) + b_n
    n = a.activation("activation", x_n + reset)
    return {"h": z * h + (1.0 - z) * n}


def lstm_cell(a: Arguments, state: Values) -> Values:
    """c' = f c + i g, h' = o act(c'): Gers et al. 2000; peepholes: Gers et al. 2002; projection:
    Sak et al. 2014, eq. 7."""
    recurrent = a.weights["weight_hh"] @ state["h"] + _bias(a, "bias_hh")
    i, f, g, o = np.split(_input_part(a) + recurrent, 4)
    p_i, p_f, p_o = np.split(a.weights.get("peephole", np.zeros(3 * len(o))), 3)
    i = a.activation("gate_activation", i + p_i * state["c"])
    f = a.activation("gate_activation", f + p_f * state["c"])
    c = f * state["c"] + i * a.activation("activation", g)
    clip = a.number("clip")
    c = np.clip(c, -clip, clip) if clip > 0 else c
    o = a.activation("gate_activation", o + p_o * c)
    h = o * a.activation("activation", c)
    return {"h": a.weights["projection"] @ h if "projection" in a.weights else h, "c": c}


def _input_part(a: Arguments) -> Float64:
    bias = _bias(a, "bias_ih")
    return np.asarray(a.weights["weight_ih"] @ a.joined() + bias) if "x" in a.inputs else bias


def _bias(a: Arguments, role: str) -> Float64:
    return a.weights.get(role, np.zeros(len(a.weights["weight_hh"])))


def _initial(a: Arguments, states: tuple[str, ...]) -> Values:
    rows, size = a.weights["weight_hh"].shape
    zeros = {"h": np.zeros(size), "c": np.zeros(rows // 4)}
    return {name: a.input(name) if name in a.inputs else zeros[name] for name in states}


def one_step(cell: Cell, states: tuple[str, ...]) -> Callable[[Arguments], Values]:
    """The cell as an operation: missing states are zero, a single output has no role."""

    def run(a: Arguments) -> Values:
        state = cell(a, _initial(a, states))
        return state if len(states) > 1 else {"": state[states[0]]}

    return run


def layer(cell: Cell, states: tuple[str, ...]) -> Callable[[Arguments], Values]:
    """The cell over all positions."""

    def run(a: Arguments) -> Values:
        def step(x: Value, state: Values) -> tuple[Value, Values]:
            after = cell(Arguments({"x": [x]}, a.weights, a.attributes), state)
            return after["h"], after

        return _over_positions(a, step, _initial(a, states))

    return run


def scan(a: Arguments) -> Values:
    assert a.body is not None
    return _over_positions(a, a.body.step, a.body.initial)


def _over_positions(a: Arguments, step: Step, state: Values) -> Values:
    """Outputs in source order, states after the last position visited."""
    x = a.joined()
    outputs: dict[int, Value] = {}
    backward = a.attributes["direction"] == "backward"
    for t in reversed(range(len(x))) if backward else range(len(x)):
        outputs[t], state = step(x[t], state)
    return {"sequence": np.stack([outputs[t] for t in range(len(x))]), **state}


def attention(a: Arguments) -> Values:
    """dot: Luong et al. 2015, eq. 8; additive: Bahdanau et al. 2015, appendix A.1.2.

    A query that is a sequence asks at each of its positions: contexts (Q, D), weights (Q, S, N).
    """
    query = a.input("query") if "query" in a.inputs else None
    centre = a.input("centre") if "centre" in a.inputs else None
    if query is None or query.ndim == 1:
        context, weights = _attend(a, query, centre)
        return {"context": context, "weights": weights}
    centres = [None] * len(query) if centre is None else list(centre)
    pairs = [_attend(a, q, p) for q, p in zip(query, centres, strict=True)]
    return {
        "context": np.stack([context for context, _ in pairs]),
        "weights": np.stack([weights for _, weights in pairs]),
    }


def _attend(a: Arguments, query: Float64 | None, centre: Value | None) -> tuple[Float64, Float64]:
    """Context (D) and weights (S, N) of one query; head h sees block h of every operand."""
    values, heads = a.input("values"), a.attributes["heads"]
    energy = _energy(a, query)
    weights = np.zeros_like(energy)
    distance = np.arange(len(values)) - (0.0 if centre is None else float(np.reshape(centre, ())))
    inside = np.full(len(values), True)
    if centre is not None:
        inside = np.abs(distance) <= a.attributes["window"]
    if inside.any():
        softened = a.attributes["normaliser"] == "softmax"
        weights[inside] = softmax(energy[inside].T).T if softened else energy[inside]
    if a.attributes["gaussian"]:
        sigma = a.attributes["window"] / 2.0
        weights *= np.exp(-(distance**2) / (2.0 * sigma**2))[:, None]
    blocks = np.split(values, heads, axis=1)
    return np.concatenate([weights[:, h] @ blocks[h] for h in range(heads)]), weights


def _energy(a: Arguments, query: Float64 | None) -> Float64:
    """(S, N)."""
    heads = a.attributes["heads"]
    if query is None:
        score = a.input("scores")
    else:
        if a.attributes["score"] == "dot":
            product = a.input("keys") * query
        else:
            product = a.activation("activation", query + a.input("keys")) * a.weights["v"]
        score = np.stack([part.sum(axis=1) for part in np.split(product, heads, axis=1)], axis=1)
    bias = a.weights.get("energy_bias", 0.0)
    return a.activation("energy_activation", a.number("scale") * score + bias)


EXECUTE: dict[str, Callable[[Arguments], Values]] = {
    "embedding": embedding,
    "one_hot": one_hot,
    "constant": constant,
    "linear": linear,
    "concat": concat,
    "slice": slice_,
    "join": join_positions,
    "add": add,
    "multiply": multiply,
    "interpolate": interpolate,
    "activation": activation,
    "softmax": softmax_features,
    "maxout": maxout,
    "layer_norm": layer_norm,
    "pool": pool,
    "reverse": reverse,
    "to_positions": to_positions,
    "scatter": scatter,
    "first_step": first_step,
    "rnn": layer(rnn_cell, ("h",)),
    "gru": layer(gru_cell, ("h",)),
    "lstm": layer(lstm_cell, ("h", "c")),
    "rnn_cell": one_step(rnn_cell, ("h",)),
    "gru_cell": one_step(gru_cell, ("h",)),
    "lstm_cell": one_step(lstm_cell, ("h", "c")),
    "scan": scan,
    "attention": attention,
}


# --- graphs ---


def execute(
    graph: Graph,
    values: Mapping[str, Value],
    tensors: Mapping[str, Float64],
    *,
    step: int = 0,
    length: int = 0,
) -> Values:
    """All values of a graph by reference, `values` (its inputs) among them."""
    known = dict(values)
    for node in graph.nodes:
        inputs = {
            role: [known[r] for r in ([references] if isinstance(references, str) else references)]
            for role, references in node.inputs.items()
        }
        weights = {role: tensors[name] for role, name in node.weights.items()}
        body = _body(node, known, tensors)
        arguments = Arguments(inputs, weights, node.attributes, step, length, body)
        for role, value in EXECUTE[node.op](arguments).items():
            known[f"{node.name}.{role}" if role else node.name] = value
    return known


def _body(node: Node, known: Values, tensors: Mapping[str, Float64]) -> Body | None:
    """The body of a scan, which reads the values known before it as `outer.<reference>`."""
    if node.body is None:
        return None
    graph = node.body
    outer = {f"outer.{reference}": value for reference, value in known.items()}

    def step(x: Value, state: Values) -> tuple[Value, Values]:
        states = {f"state.{name}": value for name, value in state.items()}
        values = execute(graph, {"x": x, **states, **outer}, tensors)
        after = {name: values[state.next] for name, state in graph.states.items()}
        return values[graph.outputs["sequence"]], after

    initial = {
        name: np.zeros(state.type.size) if state.initial is None else outer[state.initial]
        for name, state in graph.states.items()
    }
    return Body(initial, step)
