"""The specification: executes a model's graphs in NumPy float64, one sentence and one hypothesis
at a time, as the equations stand. Knows each operation's meaning; never speed or the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .graph import Graph, Node
from .model import Model
from .options import DEFAULTS, DecodeOptions
from .reference_search import Float64, Path, log_softmax, search
from .results import Hypothesis, Result, Score
from .vocabulary import Input, Inputs

# An id (), ids (S), a vector (D) or a sequence (S, D).
Value: TypeAlias = NDArray[Any]
Values: TypeAlias = dict[str, Value]
Cell: TypeAlias = Callable[["Arguments", Values], Values]


@dataclass(frozen=True)
class Arguments:
    """What one node computes with: its inputs, weights and attributes by role."""

    inputs: Mapping[str, list[Value]]
    weights: Mapping[str, Float64]
    attributes: Mapping[str, Any]

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


def constant(a: Arguments) -> Values:
    return {"": a.weights.get("value", np.zeros(a.attributes["size"]))}


def linear(a: Arguments) -> Values:
    product = a.joined() @ a.weights["weight"].T + a.weights.get("bias", 0.0)
    return {"": a.activation("activation", product)}


def concat(a: Arguments) -> Values:
    return {"": a.joined()}


def slice_(a: Arguments) -> Values:
    return {"": a.input("x")[..., a.attributes["start"] : a.attributes["stop"]]}


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


def pool(a: Arguments) -> Values:
    how: dict[str, Callable[[Float64], Float64]] = {
        "last": lambda x: x[-1],
        "first": lambda x: x[0],
        "mean": lambda x: x.mean(axis=0),
        "max": lambda x: x.max(axis=0),
        "sum": lambda x: x.sum(axis=0),
    }
    return {"": how[a.attributes["how"]](a.input("x"))}


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
    """c' = f c + i g, h' = o act(c'): Gers et al. 2000, without peepholes."""
    recurrent = a.weights["weight_hh"] @ state["h"] + _bias(a, "bias_hh")
    i, f, g, o = np.split(_input_part(a) + recurrent, 4)
    i, f, o = (a.activation("gate_activation", gate) for gate in (i, f, o))
    c = f * state["c"] + i * a.activation("activation", g)
    return {"h": o * a.activation("activation", c), "c": c}


def _input_part(a: Arguments) -> Float64:
    bias = _bias(a, "bias_ih")
    return np.asarray(a.weights["weight_ih"] @ a.joined() + bias) if "x" in a.inputs else bias


def _bias(a: Arguments, role: str) -> Float64:
    return a.weights.get(role, np.zeros(len(a.weights["weight_hh"])))


def _initial(a: Arguments, states: tuple[str, ...]) -> Values:
    zeros = np.zeros(a.weights["weight_hh"].shape[1])
    return {name: a.input(name) if name in a.inputs else zeros for name in states}


def one_step(cell: Cell, states: tuple[str, ...]) -> Callable[[Arguments], Values]:
    """The cell as an operation: missing states are zero, a single output has no role."""

    def run(a: Arguments) -> Values:
        state = cell(a, _initial(a, states))
        return state if len(states) > 1 else {"": state[states[0]]}

    return run


def layer(cell: Cell, states: tuple[str, ...]) -> Callable[[Arguments], Values]:
    """The cell over all positions: outputs in source order, states after the last one visited."""

    def run(a: Arguments) -> Values:
        x = a.joined()
        state = _initial(a, states)
        outputs: list[Value] = [state["h"]] * len(x)
        backward = a.attributes["direction"] == "backward"
        for t in reversed(range(len(x))) if backward else range(len(x)):
            state = cell(Arguments({"x": [x[t]]}, a.weights, a.attributes), state)
            outputs[t] = state["h"]
        return {"sequence": np.stack(outputs), **state}

    return run


def attention(a: Arguments) -> Values:
    """dot: Luong et al. 2015, eq. 8; additive: Bahdanau et al. 2015, appendix A.1.2."""
    values = a.input("values")
    kind = a.attributes["score"]
    if kind == "dot":
        score = a.input("keys") @ a.input("query")
    elif kind == "additive":
        score = a.activation("activation", a.input("query") + a.input("keys")) @ a.weights["v"]
    else:
        score = a.input("scores")[:, 0]
    energy = a.activation("energy_activation", a.number("scale") * score)
    weights = softmax(energy) if a.attributes["normaliser"] == "softmax" else energy
    return {"context": weights @ values, "weights": weights[:, None]}


EXECUTE: dict[str, Callable[[Arguments], Values]] = {
    "embedding": embedding,
    "constant": constant,
    "linear": linear,
    "concat": concat,
    "slice": slice_,
    "add": add,
    "multiply": multiply,
    "interpolate": interpolate,
    "activation": activation,
    "softmax": softmax_features,
    "pool": pool,
    "gru": layer(gru_cell, ("h",)),
    "lstm": layer(lstm_cell, ("h", "c")),
    "gru_cell": one_step(gru_cell, ("h",)),
    "lstm_cell": one_step(lstm_cell, ("h", "c")),
    "attention": attention,
}


def execute_node(node: Node, values: Mapping[str, Value], tensors: Mapping[str, Float64]) -> Values:
    """The outputs of one node by role."""
    inputs = {
        role: [values[r] for r in ([references] if isinstance(references, str) else references)]
        for role, references in node.inputs.items()
    }
    weights = {role: tensors[name] for role, name in node.weights.items()}
    return EXECUTE[node.op](Arguments(inputs, weights, node.attributes))


def execute(graph: Graph, values: Values, tensors: Mapping[str, Float64]) -> Values:
    """All values of a graph by reference, `values` (its inputs) among them."""
    values = dict(values)
    for node in graph.nodes:
        for role, value in execute_node(node, values, tensors).items():
            values[f"{node.name}.{role}" if role else node.name] = value
    return values


# --- a model ---


@dataclass(frozen=True)
class Trace:
    """Every value of a forced decode by reference: the encoder's, and the decoder's by step."""

    encoder: Values
    steps: list[Values]


@dataclass(frozen=True)
class _Encoded:
    values: Values
    outputs: Values
    read: Mapping[str, Input]
    length: int | None


class Reference:
    """Decodes, scores and encodes one source as the engine does, in float64."""

    def __init__(self, model: Model) -> None:
        if "encoder" not in model.graphs:
            raise NotImplementedError("models without an encoder are not built yet")
        self.model = model
        self._inputs = Inputs(model)
        self._tensors = {name: np.asarray(w, np.float64) for name, w in model.tensors.items()}

    def decode(
        self,
        x: object = None,
        *,
        prepared: bool = False,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        options: DecodeOptions | None = None,
        **keywords: Any,
    ) -> Result:
        """The best hypotheses of one source; keywords are the fields of DecodeOptions."""
        chosen = DecodeOptions.of(self.model.generation, options, keywords)
        encoded = self._encode(x, prepared, inputs, features)
        best = (
            self._searched(encoded, chosen)
            if "decoder" in self.model.graphs
            else [self._labelled(encoded, chosen)]
        )
        main = encoded.read.get(self._inputs.main or "")
        return Result(best, self._inputs.source_tokens(main) if isinstance(main, list) else [])

    def score(
        self,
        x: object,
        target: object,
        *,
        prepared: bool = False,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
    ) -> Score:
        """A target under teacher forcing; the first end id is scored behind it."""
        ids = self._inputs.target(target)
        encoded = self._encode(x, prepared, inputs, features)
        if "decoder" in self.model.graphs:
            scored = ids + list(self.model.end[:1])
            steps = self._forced(encoded, scored[:-1])
            logits = np.stack([self._logits(values) for values in steps])
        else:
            scored, logits = ids, np.atleast_2d(self._encoder_logits(encoded))
            if len(scored) != len(logits):
                raise InputError(
                    f"the target has {len(scored)} tokens, must have {len(logits)}, one for each "
                    "that this model labels"
                )
        log_probs = log_softmax(logits, "score")[np.arange(len(scored)), np.array(scored, int)]
        total = _sum(log_probs)
        return Score(log_prob=total, token_log_probs=log_probs, score=total)

    def encode(
        self,
        x: object = None,
        *,
        prepared: bool = False,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
    ) -> dict[str, Float64]:
        """The named outputs of the encoder."""
        return self._encode(x, prepared, inputs, features).outputs

    def forced_logits(self, x: object, target: object, *, prepared: bool = False) -> Float64:
        """(len(target) + 1, V): the logits of every step under teacher forcing."""
        steps = self.trace(x, target, prepared=prepared).steps
        return np.stack([self._logits(values) for values in steps])

    def trace(
        self,
        x: object = None,
        target: object = (),
        *,
        prepared: bool = False,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
    ) -> Trace:
        """Every value of both graphs under teacher forcing, len(target) + 1 steps."""
        encoded = self._encode(x, prepared, inputs, features)
        if "decoder" not in self.model.graphs:
            return Trace(encoded.values, [])
        return Trace(encoded.values, self._forced(encoded, self._inputs.target(target)))

    def _encode(
        self,
        x: object,
        prepared: bool,
        inputs: Mapping[str, object] | None,
        features: object,
    ) -> _Encoded:
        graph = self.model.graphs["encoder"]
        read = self._inputs.encoder(x, inputs=inputs, features=features, prepared=prepared)
        length = self._inputs.length(read)
        values: Values = {name: np.asarray(value) for name, value in read.items()}
        values = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in values.items()}
        if length is None and {"position", "source_length"} & set(graph.inputs):
            raise InputError("this model reads no sequence, so it has no positions to number")
        if "position" in graph.inputs:
            values["position"] = np.arange(length or 0)
        if "source_length" in graph.inputs:
            values["source_length"] = np.array([float(length or 0)])
        values = execute(graph, values, self._tensors)
        outputs = {name: values[reference] for name, reference in graph.outputs.items()}
        return _Encoded(values, outputs, read, length)

    # --- decoding ---

    def _first_state(self, encoded: _Encoded) -> Values:
        return {
            name: np.zeros(state.type.size)
            if state.initial is None
            else encoded.outputs[state.initial.removeprefix("encoder.")]
            for name, state in self.model.graphs["decoder"].states.items()
        }

    def _step(self, encoded: _Encoded, state: Values, token: int, step: int) -> Values:
        """All values of one decoder step."""
        graph = self.model.graphs["decoder"]
        values: Values = {"token": np.asarray(token)}
        if "step" in graph.inputs:
            if step >= graph.inputs["step"].size:
                raise InputError(
                    f"step {step} is outside the {graph.inputs['step'].size} steps of this model"
                )
            values["step"] = np.asarray(step)
        if "source_length" in graph.inputs:
            values["source_length"] = np.array([float(encoded.length or 0)])
        values |= {f"encoder.{name}": value for name, value in encoded.outputs.items()}
        values |= {f"state.{name}": value for name, value in state.items()}
        return execute(graph, values, self._tensors)

    def _next_state(self, values: Values) -> Values:
        states = self.model.graphs["decoder"].states
        return {name: values[state.next] for name, state in states.items()}

    def _logits(self, values: Values) -> Float64:
        return values[self.model.graphs["decoder"].outputs["logits"]]

    def _forced(self, encoded: _Encoded, target: list[int]) -> list[Values]:
        state = self._first_state(encoded)
        steps: list[Values] = []
        for number, token in enumerate([self._start(), *target]):
            steps.append(self._step(encoded, state, token, number))
            state = self._next_state(steps[-1])
        return steps

    def _start(self) -> int:
        return -1 if self.model.start is None else self.model.start

    def _searched(self, encoded: _Encoded, options: DecodeOptions) -> list[Hypothesis]:
        graph = self.model.graphs["decoder"]
        limit = self.model.limit(options, encoded.length)

        def step(state: Values, token: int, number: int) -> tuple[Values, Float64, Float64 | None]:
            values = self._step(encoded, state, token, number)
            alignment = values[graph.outputs["alignment"]] if options.return_attention else None
            return self._next_state(values), self._logits(values), alignment

        paths = search(
            step,
            self._first_state(encoded),
            start=self._start(),
            end=self.model.end,
            beam_size=options.beam_size,
            num_hypotheses=options.num_hypotheses,
            max_length=limit,
        )
        return [self._hypothesis(path) for path in paths]

    def _hypothesis(self, path: Path) -> Hypothesis:
        ids = list(path.ids[:-1] if path.reason == "eos" else path.ids)
        return Hypothesis(
            ids=ids,
            tokens=self._inputs.target_tokens(ids),
            score=path.score,
            log_prob=path.score,
            token_log_probs=np.array(path.log_probs, np.float32),
            attention=_attention_map(path) if path.alignments else None,
            finish_reason=path.reason,
        )

    # --- models without a decoder ---

    def _encoder_logits(self, encoded: _Encoded) -> Float64:
        if "logits" not in encoded.outputs:
            raise InputError("this model has neither a decoder nor logits: use encode")
        return encoded.outputs["logits"]

    def _labelled(self, encoded: _Encoded, options: DecodeOptions) -> Hypothesis:
        for name, default in DEFAULTS.items():
            if getattr(options, name) != default:
                raise InputError(
                    f"{name} is {getattr(options, name)!r}, but this model has no decoder: it "
                    "labels its input without a search"
                )
        logits = np.atleast_2d(self._encoder_logits(encoded))
        log_probs = log_softmax(logits, "logits")
        # argmax takes the first of equal ones: the lower id.
        ids = [int(i) for i in log_probs.argmax(axis=-1)]
        best = log_probs.max(axis=-1)
        total = _sum(best)
        return Hypothesis(ids, self._inputs.target_tokens(ids), total, total, best, None, "length")


def _sum(log_probs: NDArray[np.float32]) -> float:
    """float64, in order."""
    total = 0.0
    for value in log_probs:
        total += float(value)
    return total


def _attention_map(path: Path) -> NDArray[np.float32]:
    """(target, source), or (heads, target, source) where there are several heads."""
    weights = np.stack(path.alignments).astype(np.float32)
    return weights[:, :, 0] if weights.shape[2] == 1 else np.moveaxis(weights, 2, 0)
