"""Models as ONNX graphs: an encoder, one search step, and the whole sentence as one `Loop` over
such steps, in float32 or with products in 8 bits. Knows ONNX; never a session or a clock.

Cells are written out as one product and elementwise operators, embeddings of small vocabularies are
folded into tables: a step of ONNX's own GRU and LSTM operators is slower in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from ...graph import Graph, Node
from .wiring import ACTIVATIONS, Array, Unsupported, Wiring, check_cell, references

OPSET, IR_VERSION = 20, 10
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
MICROSOFT = "com.microsoft"
PRECISIONS = ("float32", "int8", "nbits")
BLOCK = 128  # inputs that share a scale in MatMulNBits: of 16 to 256 the fastest for one row
GATE_ORDER = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}  # ONNX: z r h, i o f c


class Writer:
    """Nodes and initializers of one graph; every call returns the name of a value.

    precision: of products: 'float32'; 'int8', weights by output and inputs by row, quantised
    dynamically; 'nbits', 8-bit weights by blocks (MatMulNBits with int8 arithmetic).
    """

    def __init__(self, prefix: str = "", precision: str = "float32") -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.precision = precision
        self._prefix, self._count = prefix, 0
        self._ids: dict[tuple[int, ...], str] = {}

    def weight(self, array: NDArray[Any]) -> str:
        name = f"{self._prefix}w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def ids(self, *values: int) -> str:
        """A small integer constant, once."""
        if values not in self._ids:
            self._ids[values] = self.weight(np.array(values, np.int64))
        return self._ids[values]

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.many(op, *inputs, outputs=1, **attributes)[0]

    def many(
        self, op: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        self._count += 1
        names = [f"{self._prefix}v{self._count}_{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names

    def name(self, value: str, name: str) -> None:
        """Gives a value the name of a graph output."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def product(self, x: str, weight: Array, start: str = "", rank: int = 2) -> str:
        """x W^T, plus `start` where that is named: a bias, or a row for each row of x."""
        if self.precision == "int8":
            bytes_, scale = quantised(weight)
            zero = self.weight(np.zeros(len(weight), np.int8))
            inputs = [x, self.weight(bytes_.T), self.weight(scale), zero]
            y = self("DynamicQuantizeMatMul", *inputs, domain=MICROSOFT)
        elif self.precision == "nbits":
            y = self._nbits(x, weight)
        elif rank == 2:
            return self("Gemm", x, self.weight(weight.T), *([start] if start else []))
        else:
            y = self("MatMul", x, self.weight(weight.T))
        return self("Add", y, start) if start else y

    def _nbits(self, x: str, weight: Array) -> str:
        outputs, inputs = weight.shape
        blocks = -(-inputs // BLOCK)
        shape = outputs, blocks, BLOCK
        filled = np.zeros((outputs, blocks * BLOCK), np.float32)
        filled[:, :inputs] = weight
        bytes_, scale = quantised(filled.reshape(-1, BLOCK))
        return self(
            "MatMulNBits",
            x,
            self.weight((bytes_.astype(np.int16) + 128).astype(np.uint8).reshape(shape)),
            self.weight(scale),
            domain=MICROSOFT,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=BLOCK,
            accuracy_level=4,
        )  # fmt: skip


def quantised(rows: Array) -> tuple[NDArray[np.int8], Array]:
    """Each row in -127 ... 127, and its scale."""
    scale = np.maximum(np.abs(rows).max(1), np.float32(1e-30)) / np.float32(127)
    return np.rint(rows / scale[:, None]).astype(np.int8), scale


def reordered(array: Array, order: Sequence[int]) -> Array:
    parts = np.split(array, len(order))
    return np.concatenate([parts[n] for n in order])


class Translation:
    """One of the two graphs in a writer. Vectors are [rows, size], sequences [S, batch, size]."""

    def __init__(self, wiring: Wiring, graph: Graph, w: Writer) -> None:
        self.wiring, self.graph, self.w = wiring, graph, w
        self.values: dict[str, str] = {}
        self._layers = wiring.layers() if graph is wiring.encoder else {}
        self._wholes: dict[tuple[str, ...], str] = {}  # both directions of a layer side by side
        self._folded: set[str] = set()

    def write(self) -> None:
        for node in self.graph.nodes:
            writer = getattr(self, f"_{node.op}", None)
            if writer is None:
                raise Unsupported(f"the operation {node.op} is not written for ONNX")
            writer(node)

    def read(self, node: Node, role: str) -> str:
        return self.values[references(node, role)[0]]

    def _joined(self, names: Sequence[str]) -> str:
        return names[0] if len(names) == 1 else self.w("Concat", *names, axis=-1)

    def _embedding(self, node: Node) -> None:
        weight = self.wiring.array(node, "weight") * np.float32(node.attributes["scale"])
        table = self.w.weight(weight)
        self.values[node.name] = self.w("Gather", table, self.read(node, "x"), axis=0)

    def _linear(self, node: Node) -> None:
        activation = str(node.attributes["activation"])
        if activation not in ACTIVATIONS:
            raise Unsupported(f"the activation {activation}")
        names = [self.values[reference] for reference in references(node, "x")]
        role = "encoder" if self.graph is self.wiring.encoder else "decoder"
        rank = 3 if self.wiring.types[role][node.name].kind == "sequence" else 2
        bias = self.w.weight(self.wiring.array(node, "bias")) if "bias" in node.weights else ""
        weight = self.wiring.array(node, "weight")
        y = self.w.product(self._joined(names), weight, bias, rank)
        self.values[node.name] = self._activated(activation, y)

    def _activated(self, activation: str, x: str) -> str:
        return x if activation == "identity" else self.w(activation.capitalize(), x)

    def _concat(self, node: Node) -> None:
        names = tuple(references(node, "x"))
        self.values[node.name] = self._wholes.get(names) or self._joined(
            [self.values[name] for name in names]
        )

    # --- encoder layers ---

    def _lstm(self, node: Node) -> None:
        self._layer(node)

    def _gru(self, node: Node) -> None:
        self._layer(node)

    def _layer(self, node: Node) -> None:
        nodes = self._layers.get(node.name)
        if nodes is None:
            return  # the backward half of a layer
        for one in nodes:
            check_cell(one)
        if self.w.precision != "float32" and node.op == "gru":
            return self._scanned(nodes)
        w, hidden = self.w, self.wiring.array(node, "weight_hh").shape[1]
        outputs = self._operator(nodes, hidden)
        if len(nodes) == 2:
            y = w("Transpose", outputs[0], perm=(0, 2, 1, 3))
            y = w("Reshape", y, w.ids(0, 0, 2 * hidden))
            self._wholes[tuple(f"{one.name}.sequence" for one in nodes)] = y
        else:
            self.values[f"{node.name}.sequence"] = w("Squeeze", outputs[0], w.ids(1))
        for number, one in enumerate(nodes):
            for part, last in zip("hc", outputs[1:], strict=False):
                index = w.weight(np.array(number, np.int64))
                self.values[f"{one.name}.{part}"] = w("Gather", last, index, axis=0)

    def _operator(self, nodes: Sequence[Node], hidden: int) -> list[str]:
        """Y, Y_h and, of an LSTM, Y_c of ONNX's operator, or of its dynamically quantised form."""
        w, op = self.w, nodes[0].op
        x, front = self._layer_input(nodes[0])
        order = GATE_ORDER[op]
        inputs = [
            np.stack([reordered(self._input_weight(n, front), order) for n in nodes]),
            np.stack([reordered(self.wiring.array(n, "weight_hh"), order) for n in nodes]),
        ]
        biases = [
            np.concatenate(
                [
                    reordered(self.wiring.bias(n, role, "weight_ih"), order)
                    for role in ("bias_ih", "bias_hh")
                ]
            )
            for n in nodes
        ]
        bias = w.weight(np.stack(biases))
        attributes: dict[str, Any] = {"hidden_size": hidden}
        if len(nodes) == 2:
            attributes["direction"] = "bidirectional"
        if op == "gru":
            attributes["linear_before_reset"] = 1
            return w.many("GRU", x, *map(w.weight, inputs), bias, outputs=2, **attributes)
        if w.precision == "float32":
            return w.many("LSTM", x, *map(w.weight, inputs), bias, outputs=3, **attributes)
        stored, scales = [], []
        for matrix in inputs:
            pairs = [quantised(one) for one in matrix]
            stored.append(w.weight(np.stack([bytes_.T for bytes_, _ in pairs])))
            zero = w.weight(np.zeros(matrix.shape[:2], np.int8))
            scales += [w.weight(np.stack([scale for _, scale in pairs])), zero]
        names = [x, *stored, bias, "", "", "", "", *scales]
        return w.many("DynamicQuantizeLSTM", *names, outputs=3, domain=MICROSOFT, **attributes)

    def _layer_input(self, node: Node) -> tuple[str, Array | None]:
        """x of a layer, and the embedding to multiply into its weights: where a vocabulary is
        smaller than an embedding, one-hot rows make the product smaller."""
        names = references(node, "x")
        maker = next((n for n in self.graph.nodes if n.name == names[0]), None)
        if len(names) == 1 and maker is not None and maker.op == "embedding":
            embedding = self.wiring.array(maker, "weight") * np.float32(maker.attributes["scale"])
            if embedding.shape[0] < embedding.shape[1]:
                one_hot = self.w.weight(np.eye(len(embedding), dtype=np.float32))
                return self.w("Gather", one_hot, self.read(maker, "x"), axis=0), embedding
        return self._joined([self.values[name] for name in names]), None

    def _input_weight(self, node: Node, front: Array | None) -> Array:
        weight = self.wiring.array(node, "weight_ih")
        return weight if front is None else weight @ front.T

    def _scanned(self, nodes: Sequence[Node]) -> None:
        """A GRU layer as a `Scan` of its written-out cell: ONNX has no quantised GRU."""
        w, sequences = self.w, []
        for number, node in enumerate(nodes):
            bias = self.wiring.bias(node, "bias_ih", "weight_ih")
            x = self._joined([self.values[name] for name in references(node, "x")])
            inputs = w.product(x, self.wiring.array(node, "weight_ih"), w.weight(bias), rank=3)
            hidden = self.wiring.array(node, "weight_hh").shape[1]
            body = Writer(f"{node.name}_", w.precision)
            after = self._gru_update(body, node, "row", "h")
            body.name(after, "h_out")
            body.name(after, "y")
            floats = [self.wiring.batch, hidden]
            inner = helper.make_graph(
                body.nodes,
                node.name,
                [info("h", FLOAT, floats), info("row", FLOAT, [self.wiring.batch, 3 * hidden])],
                [info("h_out", FLOAT, floats), info("y", FLOAT, floats)],
                body.initializers,
            )
            zero = w.weight(np.zeros(floats, np.float32))
            last, sequence = w.many(
                "Scan", zero, inputs, outputs=2, body=inner, num_scan_inputs=1,
                scan_input_directions=[number], scan_output_directions=[number],
            )  # fmt: skip
            sequences.append(sequence)
            self.values[f"{node.name}.sequence"], self.values[f"{node.name}.h"] = sequence, last

    # --- decoder cells, written out ---

    def _start(self, node: Node, weight: Array, bias: Array) -> tuple[str, Array, list[str]]:
        """What the product of a cell's inputs starts from, and what is left to multiply: a row of
        a folded table, or the bias and all inputs."""
        names = [self.values.get(reference, "") for reference in references(node, "x")]
        folded = self.wiring.folded_table(node, weight)
        if folded is None:
            return self.w.weight(bias), weight, names
        maker, table = folded
        token = self.read(maker, "x")
        row = self.w("Gather", self.w.weight(table + bias), token, axis=0)
        used = self.wiring.array(maker, "weight").shape[1]
        return row, weight[:, used:], names[1:]

    def _lstm_cell(self, node: Node) -> None:
        check_cell(node)
        w, order = self.w, (0, 1, 3, 2)  # i f o g: the sigmoids side by side
        bias = self.wiring.bias(node, "bias_ih", "weight_ih") + self.wiring.bias(
            node, "bias_hh", "weight_ih"
        )
        weight_ih = reordered(self.wiring.array(node, "weight_ih"), order)
        weight_hh = reordered(self.wiring.array(node, "weight_hh"), order)
        start, rest, names = self._start(node, weight_ih, reordered(bias, order))
        size = weight_hh.shape[1]
        joined = self._joined([*names, self.read(node, "h")])
        gates = w.product(joined, np.hstack([rest, weight_hh]), start)
        three, g = w.many("Split", gates, w.ids(3 * size, size), outputs=2, axis=1)
        sizes = w.ids(size, size, size)
        i, f, o = w.many("Split", w("Sigmoid", three), sizes, outputs=3, axis=1)
        kept = w("Mul", f, self.read(node, "c"))
        c = w("Add", kept, w("Mul", i, w("Tanh", g)))
        self.values[f"{node.name}.c"] = c
        self.values[f"{node.name}.h"] = w("Mul", o, w("Tanh", c))

    def _gru_cell(self, node: Node) -> None:
        check_cell(node)
        weight, bias = self.wiring.array(node, "weight_ih"), self.wiring.array(node, "bias_ih")
        start, rest, names = self._start(node, weight, bias)
        row = self.w.product(self._joined(names), rest, start) if names else start
        self.values[node.name] = self._gru_update(self.w, node, row, self.read(node, "h"))

    def _gru_update(self, w: Writer, node: Node, row: str, h: str) -> str:
        """h' = z h + (1 - z) n from the input's part of the gates, which holds bias_ih."""
        weight = self.wiring.array(node, "weight_hh")
        size = weight.shape[1]
        product = w.product(h, weight, w.weight(self.wiring.bias(node, "bias_hh", "weight_hh")))
        split = w.ids(2 * size, size)
        row_gates, row_n = w.many("Split", row, split, outputs=2, axis=1)
        gates, hidden = w.many("Split", product, split, outputs=2, axis=1)
        both = w("Sigmoid", w("Add", row_gates, gates))
        r, z = w.many("Split", both, w.ids(size, size), outputs=2, axis=1)
        new = w("Tanh", w("Add", row_n, w("Mul", r, hidden)))
        return w("Add", new, w("Mul", z, w("Sub", h, new)))

    # --- attention: hypotheses of a sentence share its keys and values ---

    def _attention(self, node: Node) -> None:
        w, batch = self.w, self.wiring.batch
        query = self.read(node, "query")
        size = self.wiring.types["decoder"][references(node, "query")[0]].size
        keys, values = (
            references(node, role)[0].removeprefix("encoder.") for role in ("keys", "values")
        )
        if node.attributes["score"] == "dot":
            if batch > 1:
                query = w("Reshape", query, w.ids(batch, -1, size))
            energy = w("MatMul", query, f"{keys}_transposed")
        else:
            shape = (batch, -1, 1, size) if batch > 1 else (-1, 1, size)
            held = f"{keys}_keys"
            if batch > 1:
                held = w("Unsqueeze", held, w.ids(1))
            both = w("Add", w("Reshape", query, w.ids(*shape)), held)
            active = self._activated(str(node.attributes["activation"]), both)
            energy = w("MatMul", active, w.weight(self.wiring.array(node, "v")))
        if node.attributes["scale"] != 1.0:
            energy = w("Mul", energy, w.weight(np.array([node.attributes["scale"]], np.float32)))
        weights = w("Softmax", energy, axis=-1)
        context = w("MatMul", weights, f"{values}_values")
        if batch > 1:
            width = self.wiring.types["decoder"][references(node, "values")[0]].size
            context = w("Reshape", context, w.ids(-1, width))
        self.values[f"{node.name}.context"] = context


def info(name: str, type_: int, shape: Sequence[Any]) -> Any:
    return helper.make_tensor_value_info(name, type_, shape)


def serialised(w: Writer, inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
    graph = helper.make_graph(w.nodes, "g", inputs, outputs, w.initializers)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model: ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    if w.precision == "float32":
        checker.check_model(model, full_check=True)
    serial: bytes = model.SerializeToString()
    return serial
