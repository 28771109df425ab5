"""What a decode must do at least: the bytes that it reads and the multiply-adds that it makes, and
the time in which a machine could do that. Knows graphs and shapes; never how the engine runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node
from ..model import Model

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
# Multiply-adds that one exp, tanh or sigmoid is counted as: a polynomial, a scale, a division.
ACTIVATION = 16
# An embedding at the front is folded into a table where that has at most so many floats
# (csrc/ops/product.cpp): its columns are then neither read nor multiplied.
FOLD_LIMIT = 1 << 20
GATES = {"lstm": 5, "gru": 3, "rnn": 1}  # activations of a cell, per hidden unit


@dataclass(frozen=True)
class Stage:
    """Work done `times` times, one after the other; all numbers but `times` are of one time.

    working_set: bytes that pass by until the same weights are read again, which says from which
    cache they come.
    """

    name: str
    times: float
    bytes: float
    multiply_adds: float
    working_set: float


@dataclass(frozen=True)
class Machine:
    """What some threads together were measured to do at best. read: GB/s by working set in bytes;
    fma: GFLOP/s, an fma being two; int8: the same of 8-bit products, or None where unknown."""

    read: Mapping[int, float]
    fma: float
    int8: float | None = None

    def bandwidth(self, working_set: float) -> float:
        """GB/s at a working set, between two measured ones on a straight line over its logarithm,
        outside of them the nearest."""
        sizes = sorted(self.read)
        rates = [self.read[size] for size in sizes]
        return float(np.interp(np.log(max(working_set, 1.0)), np.log(sizes), rates))


def seconds(stage: Stage, machine: Machine, peak: float | None = None) -> float:
    """The roofline (Williams et al. 2009): the longer of reading and multiplying."""
    reading = stage.bytes / (machine.bandwidth(stage.working_set) * 1e9)
    multiplying = 2 * stage.multiply_adds / ((peak or machine.fma) * 1e9)
    return stage.times * max(reading, multiplying)


def limit(stages: list[Stage], machine: Machine, int8: bool = False) -> float:
    """Seconds that a decode takes at least; `machine`: of as many threads as share it."""
    peak = machine.int8 if int8 and machine.int8 else machine.fma
    return sum(seconds(stage, machine, peak) for stage in stages)


def weight_bytes(model: Model, types: Mapping[str, str]) -> dict[str, int]:
    """Bytes of each tensor in its compute type; two a weight where float32 weights are all exact in
    bfloat16, in which the engine then keeps them."""
    return {
        name: array.size * (2 if _narrow(types.get(name, "float32"), array) else
                            BYTES[types.get(name, "float32")])
        for name, array in model.tensors.items()
    }  # fmt: skip


def _narrow(type_: str, array: np.ndarray) -> bool:
    return type_ == "float32" and not (array.view(np.uint32) & np.uint32(0xFFFF)).any()


def stages(
    model: Model,
    *,
    positions: float,
    steps: float,
    beam: int = 1,
    batch: int = 1,
    types: Mapping[str, str] | None = None,
) -> list[Stage]:
    """The work of decoding `batch` sentences at once. Weights are read once for all rows of a
    product; an encoder's input products and linear layers run once for all positions."""
    count = _Count(model, weight_bytes(model, types or {}), positions, beam, batch)
    parts = [*count.encoder(), *count.decoder(steps)]
    whole = sum(part.bytes for part in parts)
    return [
        Stage(p.name, p.times, p.bytes, p.multiply_adds, p.bytes if p.times > 1 else whole)
        for p in parts
    ]


def total(stages: list[Stage], of: Callable[[Stage], float]) -> float:
    return sum(stage.times * of(stage) for stage in stages)


class _Count:
    def __init__(
        self, model: Model, sizes: Mapping[str, int], positions: float, beam: int, batch: int
    ) -> None:
        self._model, self._sizes, self._types = model, sizes, model.types()
        self._positions, self._beam, self._batch = positions, beam, batch

    def encoder(self) -> Iterator[Stage]:
        graph = self._model.graphs.get("encoder", Graph())
        for node in graph.nodes:
            x = self._types["encoder"].get(_front(node))
            sequence = x is not None and x.kind == "sequence"
            rows = self._batch * (self._positions if sequence else 1)
            once = self._product(graph, node, rows)
            if once.bytes:
                yield once
            if "weight_hh" in node.weights:
                again = self._positions if "h" in node.inputs else self._positions - 1
                yield self._recurrent(node, self._batch, again)

    def decoder(self, steps: float) -> Iterator[Stage]:
        """One stage: a step streams all weights, and nothing is read twice within it."""
        graph, rows = self._model.graphs["decoder"], self._batch * self._beam
        bytes_ = multiply_adds = 0.0
        for node in graph.nodes:
            parts = [self._product(graph, node, rows)]
            if "weight_hh" in node.weights:
                parts.append(self._recurrent(node, rows, 1))
            if node.op == "attention":
                parts.append(self._attention(node))
            bytes_ += sum(part.bytes for part in parts)
            multiply_adds += sum(part.multiply_adds for part in parts)
        vocabulary = self._types["decoder"][graph.outputs["logits"]].size
        multiply_adds += rows * vocabulary * ACTIVATION  # the sum of exp(logit)
        yield Stage("a step of the decoder", steps, bytes_, multiply_adds, bytes_)

    def _product(self, graph: Graph, node: Node, rows: float) -> Stage:
        name = node.weights.get("weight_ih") or node.weights.get("weight")
        if name is None or node.op == "embedding":
            return Stage(node.name, 1, 0, 0, 0)
        outputs, inputs = self._model.tensors[name].shape
        used = inputs - self._folded(graph, node, outputs)
        acts = outputs if node.attributes.get("activation", "identity") != "identity" else 0
        acts = acts if node.op == "linear" else 0
        work = rows * (outputs * used + ACTIVATION * acts)
        return Stage(node.name, 1, self._sizes[name] * used / inputs, work, 0)

    def _recurrent(self, node: Node, rows: float, times: float) -> Stage:
        name = node.weights["weight_hh"]
        outputs, hidden = self._model.tensors[name].shape
        cell = GATES[node.op.removesuffix("_cell")] * hidden * ACTIVATION
        work = rows * (outputs * hidden + cell)
        return Stage(f"{node.name}, recurrent", times, self._sizes[name], work, 0)

    def _attention(self, node: Node) -> Stage:
        """Keys and values are read once a sentence: its hypotheses share them."""
        types = self._types["decoder"]
        key, value = (
            types[str(node.inputs[role])].size if role in node.inputs else 0
            for role in ("keys", "values")
        )
        acts = 1 + (key if node.attributes.get("score") == "additive" else 0)
        rows = self._batch * self._beam * self._positions
        read = 4 * self._batch * self._positions * (key + value)
        return Stage(node.name, 1, read, rows * (key + value + acts * ACTIVATION), 0)

    def _folded(self, graph: Graph, node: Node, outputs: int) -> int:
        """The columns that a folded embedding takes out of a product."""
        front = _front(node).split(".")[0]
        maker = next((n for n in graph.nodes if n.name == front and n.op == "embedding"), None)
        if maker is None:
            return 0
        vocabulary, columns = self._model.tensors[maker.weights["weight"]].shape
        return columns if vocabulary * outputs <= FOLD_LIMIT else 0


def _front(node: Node) -> str:
    x = node.inputs.get("x", "")
    return x if isinstance(x, str) else x[0]
