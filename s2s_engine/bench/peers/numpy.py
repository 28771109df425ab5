"""NumPy: float32, one sentence, greedy; weights prepared once, results into preallocated arrays,
embeddings folded into tables, input and state products merged: what good NumPy code does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...graph import Graph, Node
from ..workloads import Workload
from .wiring import Array, Peer, Unsupported, Wiring, check_cell, references

# A node's function: reads and writes values by reference.
Values = dict[str, Array]
Function = Callable[[Values], None]


class Lstm:
    """One LSTM step. Gates are stored i, f, o, g with i, f, o halved, since sigmoid(x) =
    (1 + tanh(x / 2)) / 2: one tanh does for all of them."""

    parts = ("h", "c")

    def __init__(self, wiring: Wiring, node: Node) -> None:
        check_cell(node)
        self.weight_ih = self._stored(wiring.array(node, "weight_ih"))
        self.weight_hh = self._stored(wiring.array(node, "weight_hh"))
        biases = [wiring.bias(node, role, "weight_ih") for role in ("bias_ih", "bias_hh")]
        self.bias = self._stored(biases[0] + biases[1])
        self.size = self.weight_hh.shape[1]
        self._gates = np.empty(4 * self.size, np.float32)
        self._fresh = np.empty(self.size, np.float32)

    def _stored(self, rows: Array) -> Array:
        i, f, g, o = np.split(rows, 4)
        half = np.float32(0.5)
        return np.ascontiguousarray(np.concatenate([i * half, f * half, o * half, g]))

    def step(self, inputs: Array, state: list[Array]) -> list[Array]:
        """(h', c') from W_ih x + b and (h, c)."""
        gates, n, fresh = self._gates, self.size, self._fresh
        np.dot(self.weight_hh, state[0], out=gates)
        gates += inputs
        np.tanh(gates, out=gates)
        sigmoids = gates[: 3 * n]
        sigmoids *= 0.5
        sigmoids += 0.5
        np.multiply(gates[:n], gates[3 * n :], out=fresh)
        c = state[1] * gates[n : 2 * n]
        c += fresh
        return [gates[2 * n : 3 * n] * np.tanh(c, out=fresh), c]


class Gru:
    """One GRU step; r and z halved as in `Lstm`, and the bias of the input holds what it can of the
    state's."""

    parts = ("h",)

    def __init__(self, wiring: Wiring, node: Node) -> None:
        check_cell(node)
        n = self.size = wiring.array(node, "weight_hh").shape[1]
        scale = np.repeat(np.array([0.5, 0.5, 1.0], np.float32), n)
        bias, hidden = wiring.array(node, "bias_ih").copy(), wiring.array(node, "bias_hh")
        bias[: 2 * n] += hidden[: 2 * n]
        self.weight_ih = np.ascontiguousarray(wiring.array(node, "weight_ih") * scale[:, None])
        self.weight_hh = np.ascontiguousarray(wiring.array(node, "weight_hh") * scale[:, None])
        self.bias, self._hidden_bias = bias * scale, hidden[2 * n :].copy()
        self._product = np.empty(3 * n, np.float32)

    def step(self, inputs: Array, state: list[Array]) -> list[Array]:
        size, product, h = self.size, self._product, state[0]
        np.dot(self.weight_hh, h, out=product)
        gates, hidden = product[: 2 * size], product[2 * size :]
        gates += inputs[: 2 * size]
        np.tanh(gates, out=gates)
        gates *= 0.5
        gates += 0.5
        hidden += self._hidden_bias
        hidden *= gates[:size]
        hidden += inputs[2 * size :]
        np.tanh(hidden, out=hidden)
        after = h - hidden
        after *= gates[size:]
        after += hidden
        return [after]


class Translation:
    """One graph as a list of functions. Sequences are [S, size], vectors [size]."""

    def __init__(self, wiring: Wiring, graph: Graph) -> None:
        self._wiring, self._graph = wiring, graph
        self.functions: list[Function] = []
        for node in graph.nodes:
            maker = getattr(self, f"_{node.op}", None)
            if maker is None:
                raise Unsupported(f"the operation {node.op} is not written for NumPy")
            self.functions.append(maker(node))

    def _embedding(self, node: Node) -> Function:
        weight = self._wiring.array(node, "weight") * np.float32(node.attributes["scale"])
        (x,) = references(node, "x")

        def run(values: Values) -> None:
            values[node.name] = weight[values[x]]

        return run

    def _linear(self, node: Node) -> Function:
        weight = np.ascontiguousarray(self._wiring.array(node, "weight"))
        turned, bias = weight.T, self._wiring.bias(node, "bias", "weight")
        out, x = np.empty(len(weight), np.float32), self._joined(node)
        if node.attributes["activation"] not in ("identity", "tanh"):
            raise Unsupported(f"the activation {node.attributes['activation']}")
        tanh = node.attributes["activation"] == "tanh"

        def run(values: Values) -> None:
            given = x(values)
            y = np.dot(weight, given, out=out) if given.ndim == 1 else given @ turned
            y += bias
            values[node.name] = np.tanh(y, out=y) if tanh else y

        return run

    def _concat(self, node: Node) -> Function:
        x = self._joined(node)

        def run(values: Values) -> None:
            values[node.name] = x(values)

        return run

    def _lstm(self, node: Node) -> Function:
        return self._layer(node, Lstm(self._wiring, node))

    def _gru(self, node: Node) -> Function:
        return self._layer(node, Gru(self._wiring, node))

    def _lstm_cell(self, node: Node) -> Function:
        return self._cell(node, Lstm(self._wiring, node), ("h", "c"))

    def _gru_cell(self, node: Node) -> Function:
        return self._cell(node, Gru(self._wiring, node), ("",))

    def _layer(self, node: Node, cell: Lstm | Gru) -> Function:
        inputs, backward = self._inputs(node, cell), node.attributes["direction"] == "backward"

        def run(values: Values) -> None:
            rows = inputs(values)
            out = np.empty((len(rows), cell.size), np.float32)
            state = [np.zeros(cell.size, np.float32) for _ in cell.parts]
            for j in range(len(rows) - 1, -1, -1) if backward else range(len(rows)):
                state = cell.step(rows[j], state)
                out[j] = state[0]
            values[f"{node.name}.sequence"] = out
            for part, value in zip(cell.parts, state, strict=True):
                values[f"{node.name}.{part}"] = value

        return run

    def _cell(self, node: Node, cell: Lstm | Gru, names: Sequence[str]) -> Function:
        inputs = self._inputs(node, cell)
        before = [references(node, part)[0] for part in cell.parts]
        after = [f"{node.name}.{name}" if name else node.name for name in names]

        def run(values: Values) -> None:
            state = cell.step(inputs(values), [values[name] for name in before])
            values.update(zip(after, state, strict=True))

        return run

    def _inputs(self, node: Node, cell: Lstm | Gru) -> Callable[[Values], Array]:
        """W_ih x + b: of rows of a table, of one vector, or of all positions at once."""
        weight, bias = cell.weight_ih, cell.bias
        front = references(node, "x")[0].split(".")[0]
        maker = next((n for n in self._graph.nodes if n.name == front), None)
        if maker is not None and maker.op == "embedding" and len(references(node, "x")) == 1:
            embedding = self._wiring.array(maker, "weight")
            embedding = embedding * np.float32(maker.attributes["scale"])
            if len(embedding) * len(weight) <= 1 << 20:
                table, (ids,) = embedding @ weight.T + bias, references(maker, "x")
                return lambda values: table[values[ids]]
        x, turned = self._joined(node), weight.T

        def run(values: Values) -> Array:
            given = x(values)
            y: Array = np.dot(weight, given) if given.ndim == 1 else given @ turned
            y += bias
            return y

        return run

    def _joined(self, node: Node) -> Callable[[Values], Array]:
        names = references(node, "x")
        if len(names) == 1:
            return lambda values: values[names[0]]
        return lambda values: np.concatenate([values[name] for name in names], -1)

    def _attention(self, node: Node) -> Function:
        query, keys, memory = (references(node, role)[0] for role in ("query", "keys", "values"))
        scale = np.float32(node.attributes["scale"])
        if node.attributes["score"] != "dot":
            v = self._wiring.array(node, "v")
            if node.attributes["activation"] != "tanh":
                raise Unsupported(f"the activation {node.attributes['activation']}")

        def run(values: Values) -> None:
            energy: Array
            if node.attributes["score"] == "dot":
                energy = values[keys] @ values[query]
            else:
                both = values[keys] + values[query]
                energy = np.tanh(both, out=both) @ v
            energy = np.asarray(energy * scale, np.float32)
            energy -= energy.max()
            np.exp(energy, out=energy)
            energy /= energy.sum()
            values[f"{node.name}.context"] = energy @ values[memory]

        return run


def float32(workload: Workload, threads: int) -> list[Peer]:
    """threads: those of the BLAS, which the environment has set before NumPy was loaded."""
    wiring = Wiring(workload)
    if workload.beam > 1 or workload.batch > 1:
        raise Unsupported("NumPy is written for one sentence, greedy")
    encoder, decoder = (Translation(wiring, g).functions for g in (wiring.encoder, wiring.decoder))

    def decode(sources: Sequence[Sequence[int]], steps: int) -> list[list[int]]:
        values: Values = {"tokens": np.array(sources[0])}
        for function in encoder:
            function(values)
        outputs = {f"encoder.{name}": values[ref] for name, ref in wiring.encoder.outputs.items()}
        for state in wiring.states:
            zeros = np.zeros(state.size, np.float32)
            outputs[f"state.{state.name}"] = outputs.get(f"encoder.{state.initial}", zeros)
        token, ids = wiring.start, []
        for _ in range(steps):
            outputs["token"] = token  # type: ignore[assignment]
            for function in decoder:
                function(outputs)
            token = int(outputs[wiring.logits].argmax())
            ids.append(token)
            after = [outputs[state.next] for state in wiring.states]
            for state, value in zip(wiring.states, after, strict=True):
                outputs[f"state.{state.name}"] = value
        return [ids]

    return [Peer("numpy", decode)]
