"""The workloads in ONNX Runtime: step by step (an encoder and a decoder session, IO binding) and as
one graph with a `Loop` over the decoder's steps. One thread, no spinning, zero-copy buffers.

Both are made twice: of ONNX's GRU and LSTM operators, and with decoder cells written out, so that
embeddings are folded into tables and products merged; ONNX Runtime is what is faster of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from .models import Affine, Cell, G2PWeights, GruWeights
from .settings import onnx_options

Array = NDArray[np.float32]
Decode = Callable[[Sequence[int], int], list[int]]
Weights = GruWeights | G2PWeights
OPSET, IR_VERSION = 20, 10
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


class Writer:
    """Nodes and initializers of one graph; every call returns the name of a value."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._prefix = prefix
        self._names: dict[tuple[int, ...], str] = {}
        self._count = 0

    def weight(self, array: np.ndarray) -> str:
        name = f"{self._prefix}w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def ids(self, *values: int) -> str:
        """A small integer constant, once."""
        if values not in self._names:
            self._names[values] = self.weight(np.array(values, np.int64))
        return self._names[values]

    def __call__(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        return self.many(op, *inputs, outputs=outputs, **attributes)[0]

    def many(self, op: str, *inputs: str, outputs: int, **attributes: object) -> list[str]:
        self._count += 1
        names = [f"{self._prefix}v{self._count}_{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def name(self, value: str, name: str) -> None:
        """Gives a value the name of a graph output."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def affine(self, x: str, affine: Affine) -> str:
        return self("Gemm", x, self.weight(affine.weight.T), self.weight(affine.bias))


# --- cells: ONNX orders gates z, r, h (GRU) and i, o, f, c (LSTM) ---


def _gates(array: Array, order: Sequence[int], count: int) -> Array:
    parts = np.split(array, count)
    return np.concatenate([parts[n] for n in order])


def _onnx_cell(cell: Cell, gates: int) -> tuple[Array, Array, Array]:
    order = (1, 0, 2) if gates == 3 else (0, 3, 1, 2)
    bias = [_gates(b, order, gates) for b in (cell.bias_ih, cell.bias_hh)]
    return (
        _gates(cell.weight_ih, order, gates),
        _gates(cell.weight_hh, order, gates),
        np.concatenate(bias),
    )


def _operator(
    w: Writer, op: str, x: str, cells: Sequence[Cell], *states: str
) -> tuple[str, str, str]:
    """(Y, Y_h, Y_c) of ONNX's GRU or LSTM; two cells are the two directions."""
    stored = [_onnx_cell(cell, 3 if op == "GRU" else 4) for cell in cells]
    weights = [w.weight(np.stack([s[n] for s in stored])) for n in range(3)]
    inputs = [x, *weights, "", *states] if states else [x, *weights]
    attributes: dict[str, object] = {"hidden_size": cells[0].size}
    if len(cells) == 2:
        attributes["direction"] = "bidirectional"
    if op == "GRU":
        attributes["linear_before_reset"] = 1
    outputs = w.many(op, *inputs, outputs=2 if op == "GRU" else 3, **attributes)
    return outputs[0], outputs[1], outputs[-1]


def _gru_written_out(w: Writer, cell: Cell, embedding: Array, token: str, h: str) -> str:
    """One step: h is [1, H], the product with the embedding comes from a table."""
    n = cell.size
    bias = cell.bias_ih.copy()
    bias[: 2 * n] += cell.bias_hh[: 2 * n]
    hidden_bias = np.concatenate([np.zeros(2 * n, np.float32), cell.bias_hh[2 * n :]])
    row = w("Gather", w.weight(embedding @ cell.weight_ih.T + bias), token, axis=0)
    product = w("Gemm", h, w.weight(cell.weight_hh.T), w.weight(hidden_bias))
    split = w.ids(2 * n, n)
    row_gates, row_n = w.many("Split", row, split, outputs=2, axis=1)
    gates, hidden = w.many("Split", product, split, outputs=2, axis=1)
    both = w("Sigmoid", w("Add", row_gates, gates))
    r, z = w.many("Split", both, w.ids(n, n), outputs=2, axis=1)
    new = w("Tanh", w("Add", row_n, w("Mul", r, hidden)))
    return w("Add", new, w("Mul", z, w("Sub", h, new)))


def _lstm_written_out(w: Writer, gates: str, c: str, size: int) -> tuple[str, str]:
    """(h', c') from the gate sums [1, 4H] in the order i, f, o, g."""
    three, g = w.many("Split", gates, w.ids(3 * size, size), outputs=2, axis=1)
    sizes = w.ids(size, size, size)
    i, f, o = w.many("Split", w("Sigmoid", three), sizes, outputs=3, axis=1)
    c_next = w("Add", w("Mul", f, c), w("Mul", i, w("Tanh", g)))
    return w("Mul", o, w("Tanh", c_next)), c_next


def _merged_order(array: Array) -> Array:
    return _gates(array, (0, 1, 3, 2), 4)


def _embedded(
    w: Writer, ids: str, embedding: Array, cells: Sequence[Cell], folded: bool
) -> tuple[str, list[Cell]]:
    """The first layer's input [S, 1, .] and its cells. Folded: one-hot rows, and input weights
    that hold the product with every embedding, a third of the numbers."""
    if folded:
        cells = [replace(cell, weight_ih=cell.weight_ih @ embedding.T) for cell in cells]
        embedding = np.eye(len(embedding), dtype=np.float32)
    x = w("Gather", w.weight(embedding), ids, axis=0)
    return w("Unsqueeze", x, w.ids(1)), list(cells)


# --- the two architectures: encoder(w, source) -> states; step(w, token, states) ---
# Values that stay the same for all steps (keys, memory) are "held", the others are "states".


class GruParts:
    held: tuple[tuple[str, tuple[object, ...]], ...] = ()

    def __init__(self, weights: GruWeights, written_out: bool) -> None:
        self.weights, self._written_out = weights, written_out
        self.states = (("h", (1, weights.decoder.size)),)

    def encoder(self, w: Writer, source: str) -> list[str]:
        weights = self.weights
        x, cells = _embedded(
            w, source, weights.source_embedding, [weights.encoder], self._written_out
        )
        _, h, _ = _operator(w, "GRU", x, cells)
        return [w("Squeeze", h, w.ids(0))]

    def step(self, w: Writer, token: str, values: Sequence[str]) -> tuple[str, list[str]]:
        weights, (h,) = self.weights, values
        if self._written_out:
            h = _gru_written_out(w, weights.decoder, weights.target_embedding, token, h)
        else:
            x = w("Gather", w.weight(weights.target_embedding), token, axis=0)
            state = w("Unsqueeze", h, w.ids(0))
            _, state, _ = _operator(w, "GRU", w("Unsqueeze", x, w.ids(0)), [weights.decoder], state)
            h = w("Squeeze", state, w.ids(0))
        return w("ArgMax", w.affine(h, weights.output), axis=1, keepdims=0), [h]


class G2PParts:
    def __init__(self, weights: G2PWeights, written_out: bool) -> None:
        self.weights, self._written_out = weights, written_out
        size, both = weights.decoder1.size, 2 * weights.layers[0][0].size
        self.states = tuple((name, (1, size)) for name in ("h1", "c1", "h2", "c2"))
        self.held = (("keys", (size, "S")), ("memory", ("S", both)))

    def encoder(self, w: Writer, source: str) -> list[str]:
        weights = self.weights
        both = 2 * weights.layers[0][0].size
        x, cells = _embedded(
            w, source, weights.source_embedding, weights.layers[0], self._written_out
        )
        last = ""
        for pair in (cells, *weights.layers[1:]):
            y, last, _ = _operator(w, "LSTM", x, pair)  # [S, 2, 1, H]
            x = w("Reshape", y, w.ids(-1, 1, both))
        final = w("Reshape", last, w.ids(1, both))
        memory = w("Reshape", x, w.ids(-1, both))
        keys = w("Transpose", w.affine(memory, weights.keys), perm=(1, 0))
        h1 = w("Tanh", w.affine(final, weights.bridge_h))
        c1 = w("Tanh", w.affine(final, weights.bridge_c))
        zero = w.weight(np.zeros((1, weights.decoder1.size), np.float32))
        return [h1, c1, w("Identity", zero), w("Identity", zero), keys, memory]

    def step(self, w: Writer, token: str, values: Sequence[str]) -> tuple[str, list[str]]:
        h1, c1, h2, c2, keys, memory = values
        weights = self.weights
        if self._written_out:
            h1, c1 = self._first(w, token, h1, c1)
        else:
            x = w("Gather", w.weight(weights.target_embedding), token, axis=0)
            h1, c1 = self._cell(w, x, weights.decoder1, h1, c1)
        alignment = w("Softmax", w("MatMul", h1, keys), axis=1)
        context = w("MatMul", alignment, memory)
        if self._written_out:
            h2, c2 = self._second(w, w("Concat", h1, context, h2, axis=1), c2)
        else:
            h2, c2 = self._cell(w, w("Concat", h1, context, axis=1), weights.decoder2, h2, c2)
        t = w("Tanh", w.affine(w("Concat", h2, context, axis=1), weights.readout))
        token = w("ArgMax", w.affine(t, weights.output), axis=1, keepdims=0)
        return token, [h1, c1, h2, c2]

    def _cell(self, w: Writer, x: str, cell: Cell, h: str, c: str) -> tuple[str, str]:
        states = [w("Unsqueeze", state, w.ids(0)) for state in (h, c)]
        _, h, c = _operator(w, "LSTM", w("Unsqueeze", x, w.ids(0)), [cell], *states)
        return w("Squeeze", h, w.ids(0)), w("Squeeze", c, w.ids(0))

    def _first(self, w: Writer, token: str, h: str, c: str) -> tuple[str, str]:
        cell = self.weights.decoder1
        bias = cell.bias_ih + cell.bias_hh
        table = _merged_order((self.weights.target_embedding @ cell.weight_ih.T + bias).T).T
        row = w("Gather", w.weight(table), token, axis=0)
        gates = w("Gemm", h, w.weight(_merged_order(cell.weight_hh).T), row)
        return _lstm_written_out(w, gates, c, cell.size)

    def _second(self, w: Writer, joined: str, c: str) -> tuple[str, str]:
        cell = self.weights.decoder2
        weight = _merged_order(np.hstack([cell.weight_ih, cell.weight_hh]))
        merged = Affine(weight, _merged_order(cell.bias_ih + cell.bias_hh))
        return _lstm_written_out(w, w.affine(joined, merged), c, cell.size)


Parts = GruParts | G2PParts


# --- graphs ---


def _info(name: str, type_: int, shape: Sequence[object]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, type_, shape)


def _model(w: Writer, inputs: Sequence[object], outputs: Sequence[object]) -> bytes:
    graph = helper.make_graph(w.nodes, "g", inputs, outputs, w.initializers)
    model: ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _values(parts: Parts) -> list[tuple[str, tuple[object, ...]]]:
    return [*parts.states, *parts.held]


def encoder_model(parts: Parts) -> bytes:
    w = Writer()
    for (name, _), value in zip(_values(parts), parts.encoder(w, "source"), strict=True):
        w.name(value, name)
    outputs = [_info(name, FLOAT, shape) for name, shape in _values(parts)]
    return _model(w, [_info("source", INT64, ["S"])], outputs)


def step_model(parts: Parts) -> bytes:
    w = Writer()
    token, states = parts.step(w, "token", [name for name, _ in _values(parts)])
    w.name(token, "next_token")
    for (name, _), value in zip(parts.states, states, strict=True):
        w.name(value, f"next_{name}")
    inputs = [_info("token", INT64, [1]), *(_info(n, FLOAT, s) for n, s in _values(parts))]
    outputs = [_info(f"next_{n}", FLOAT, s) for n, s in parts.states]
    return _model(w, inputs, [_info("next_token", INT64, [1]), *outputs])


def sentence_model(parts: Parts) -> bytes:
    """source [S], steps [] -> ids [steps, 1]."""
    w, body = Writer(), Writer("step_")
    encoded = parts.encoder(w, "source")
    count = len(parts.states)
    states = [name for name, _ in parts.states]
    # Values of the outer graph that no step changes are read from inside by their name.
    token, after = parts.step(body, "token", [*states, *encoded[count:]])
    body.name("condition", "condition_out")
    body.name(token, "token_out")
    body.name(token, "token_scan")
    for name, value in zip(states, after, strict=True):
        body.name(value, f"{name}_out")
    inner = helper.make_graph(
        body.nodes,
        "step",
        [
            _info("iteration", INT64, []),
            _info("condition", BOOL, []),
            _info("token", INT64, [1]),
            *(_info(name, FLOAT, shape) for name, shape in parts.states),
        ],
        [
            _info("condition_out", BOOL, []),
            _info("token_out", INT64, [1]),
            *(_info(f"{name}_out", FLOAT, shape) for name, shape in parts.states),
            _info("token_scan", INT64, [1]),
        ],
        body.initializers,
    )
    start = w.ids(parts.weights.start)
    outputs = w.many("Loop", "steps", "", start, *encoded[:count], outputs=2 + count, body=inner)
    w.name(outputs[-1], "ids")
    return _model(
        w,
        [_info("source", INT64, ["S"]), _info("steps", INT64, [])],
        [_info("ids", INT64, ["T", 1])],
    )


# --- decoding ---


def _session(model: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model, sess_options=onnx_options(), providers=["CPUExecutionProvider"]
    )


def _shared(array: np.ndarray) -> onnxruntime.OrtValue:
    """An OrtValue over the array's own memory."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


class StepByStep:
    """Two sessions. States go to and fro between two sets of buffers, bound once per length."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._encoder = _session(encoder_model(parts))
        self._step = _session(step_model(parts))
        self._bound: dict[int, tuple[np.ndarray, object, list[tuple[object, np.ndarray]]]] = {}
        self._keep: list[object] = []

    def __call__(self, source: Sequence[int], steps: int) -> list[int]:
        known = self._bound.get(len(source))
        if known is None:
            known = self._bound[len(source)] = self._bind(len(source))
        ids, encoder, bindings = known
        ids[:] = source
        tokens = bindings[1][1]  # what the first step reads is what the second one writes
        tokens[0] = self._parts.weights.start
        self._encoder.run_with_iobinding(encoder)
        found = []
        for step in range(steps):
            binding, token = bindings[step & 1]
            self._step.run_with_iobinding(binding)
            found.append(int(token[0]))
        return found

    def _bind(self, length: int) -> tuple[np.ndarray, object, list[tuple[object, np.ndarray]]]:
        parts = self._parts

        def floats(shape: tuple[object, ...]) -> np.ndarray:
            return np.zeros([length if n == "S" else n for n in shape], np.float32)

        ids = np.zeros(length, np.int64)
        held = {name: floats(shape) for name, shape in parts.held}
        sets = [{name: floats(shape) for name, shape in parts.states} for _ in range(2)]
        tokens = [np.zeros(1, np.int64) for _ in range(2)]
        values: dict[int, object] = {}
        for array in (ids, *held.values(), *sets[0].values(), *sets[1].values(), *tokens):
            values[id(array)] = _shared(array)
        self._keep.append((ids, held, sets, tokens, values))
        encoder = self._encoder.io_binding()
        encoder.bind_ortvalue_input("source", values[id(ids)])
        for name, array in {**sets[0], **held}.items():
            encoder.bind_ortvalue_output(name, values[id(array)])
        bindings = []
        for now, after in ((0, 1), (1, 0)):
            binding = self._step.io_binding()
            binding.bind_ortvalue_input("token", values[id(tokens[now])])
            for name, array in {**sets[now], **held}.items():
                binding.bind_ortvalue_input(name, values[id(array)])
            binding.bind_ortvalue_output("next_token", values[id(tokens[after])])
            for name, array in sets[after].items():
                binding.bind_ortvalue_output(f"next_{name}", values[id(array)])
            bindings.append((binding, tokens[after]))
        return ids, encoder, bindings


class WholeSentence:
    """One session and one call per sentence; buffers are bound once per (length, steps)."""

    def __init__(self, parts: Parts) -> None:
        self._session = _session(sentence_model(parts))
        self._bound: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, object]] = {}
        self._keep: list[object] = []

    def __call__(self, source: Sequence[int], steps: int) -> list[int]:
        key = len(source), steps
        known = self._bound.get(key)
        if known is None:
            known = self._bound[key] = self._bind(*key)
        ids, found, binding = known
        ids[:] = source
        self._session.run_with_iobinding(binding)
        answer: list[int] = found[:, 0].tolist()
        return answer

    def _bind(self, length: int, steps: int) -> tuple[np.ndarray, np.ndarray, object]:
        ids, found = np.zeros(length, np.int64), np.zeros((steps, 1), np.int64)
        values = [_shared(ids), _shared(np.array(steps, np.int64)), _shared(found)]
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("source", values[0])
        binding.bind_ortvalue_input("steps", values[1])
        binding.bind_ortvalue_output("ids", values[2])
        self._keep.append(values)
        return ids, found, binding


def contenders(weights: Weights) -> dict[str, Decode]:
    made: dict[str, Decode] = {}
    for suffix, written_out in (("", False), (", cells written out", True)):
        parts = (
            GruParts(weights, written_out)
            if isinstance(weights, GruWeights)
            else G2PParts(weights, written_out)
        )
        made[f"onnxruntime steps{suffix}"] = StepByStep(parts)
        made[f"onnxruntime one graph{suffix}"] = WholeSentence(parts)
    return made
