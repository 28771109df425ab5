"""Models with one thing wrong, as importers get it wrong: gates in another order, a matrix not
transposed, a concatenation the other way round, a bias forgotten. Verification must see each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from s2s_engine import Model
from s2s_engine.graph import Graph, Node

GATES = {"gru": 3, "gru_cell": 3, "lstm": 4, "lstm_cell": 4}
KINDS = ("gates", "transposed", "concatenation", "bias")


def damaged(model: Model, kind: str) -> Iterator[tuple[str, Model]]:
    """Every model with one damage of this kind, and what was done."""
    return {
        "gates": _gates, "transposed": _transposed, "concatenation": _concatenations,
        "bias": _biases,
    }[kind](model)  # fmt: skip


def _used(graph: Graph) -> set[str]:
    """The names of the nodes that an output or a state reads, through others or not."""
    todo = [*graph.outputs.values(), *(state.next for state in graph.states.values())]
    nodes, found = {node.name: node for node in graph.nodes}, set[str]()
    while todo:
        name = todo.pop().removeprefix("outer.").split(".")[0]
        if name in nodes and name not in found:
            found.add(name)
            for inner in (nodes[name], *(nodes[name].body.all_nodes() if nodes[name].body else ())):
                todo.extend(inner.references())
    return found


def _nodes(model: Model) -> Iterator[tuple[str, Node]]:
    for role, graph in model.graphs.items():
        used = _used(graph)
        for node in graph.nodes:
            if node.name in used:
                yield role, node
                if node.body is not None:
                    yield from ((role, inner) for inner in node.body.all_nodes())


def _with_tensor(model: Model, name: str, array: NDArray[np.float32]) -> Model:
    return replace(
        model, tensors={**model.tensors, name: np.ascontiguousarray(array)}, self_test=None
    )


def _gates(model: Model) -> Iterator[tuple[str, Model]]:
    for role, node in _nodes(model):
        count = GATES.get(node.op)
        if count is None:
            continue
        changed = model
        for tensor in node.weights.values():
            array = model.tensors[tensor]
            if array.shape[0] % count or array.shape[0] < count:
                continue
            blocks = np.split(array, count)
            changed = _with_tensor(
                changed, tensor, np.concatenate([blocks[1], blocks[0], *blocks[2:]])
            )
        yield f"{role}.{node.name}: first two gates swapped", changed


def _transposed(model: Model) -> Iterator[tuple[str, Model]]:
    """Every square matrix, and every square gate block of a recurrent one."""
    for role, node in _nodes(model):
        for where, tensor in node.weights.items():
            array = model.tensors[tensor]
            # A cell that starts from zeros at every step never uses its recurrent weights.
            stateless = node.op.endswith("_cell") and "h" not in node.inputs
            if array.ndim != 2 or (stateless and where == "weight_hh"):
                continue
            blocks = np.split(array, GATES.get(node.op, 1))
            if blocks[0].shape[0] != blocks[0].shape[1] or blocks[0].shape[0] == 1:
                continue
            turned = np.concatenate([*blocks[:-1], blocks[-1].T])
            yield f"{role}.{node.name}.{where} transposed", _with_tensor(model, tensor, turned)


def _concatenations(model: Model) -> Iterator[tuple[str, Model]]:
    for role, graph in model.graphs.items():
        used = _used(graph)
        for number, node in enumerate(graph.nodes):
            if node.name not in used:
                continue
            for where, references in node.inputs.items():
                if isinstance(references, str) or len(set(references)) < 2:
                    continue
                if node.op in ("add", "multiply"):  # the same either way
                    continue
                turned = replace(node, inputs={**node.inputs, where: references[::-1]})
                nodes = [*graph.nodes[:number], turned, *graph.nodes[number + 1 :]]
                graphs: dict[str, Graph] = {**model.graphs, role: replace(graph, nodes=nodes)}
                yield (
                    f"{role}.{node.name}.{where} the other way round",
                    replace(model, graphs=graphs, self_test=None),
                )


def _biases(model: Model) -> Iterator[tuple[str, Model]]:
    for role, node in _nodes(model):
        for where, tensor in node.weights.items():
            array = model.tensors[tensor]
            if "bias" in where and where != "energy_bias" and array.any():
                changed = _with_tensor(model, tensor, np.zeros_like(array))
                yield f"{role}.{node.name}.{where} dropped", changed
