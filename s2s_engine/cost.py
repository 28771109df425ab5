"""What a model takes to run: the bytes that it reads and the multiply-adds that it makes, node by
node, after what the plan folds. Knows graphs and shapes; never kernels, clocks or weights' values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from .folding import JOINING, Folds, folds, levels, padded, references
from .graph import Graph, Node, Shapes, Types

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
GATES = {"lstm": 5, "gru": 3, "rnn": 1}  # activations of a cell, per hidden unit


@dataclass(frozen=True)
class Work:
    """One product of a node, or its attention.

    when: how often it is done. over: its rows are items (sentences, or hypotheses), all positions
    of an item at once, or items position by position, its weights being read again at each.
    bytes: of weights. multiply_adds, activations (exp, tanh, sigmoid): of one row. memory: bytes
    of keys and values, which the hypotheses of a sentence share, of one position.
    first: done at the first position, too, where it goes position by position. int8: its products
    are of bytes.
    """

    node: str
    when: Literal["sentence", "step"]
    over: Literal["items", "positions", "each position"]
    bytes: float
    multiply_adds: int
    activations: int = 0
    memory: int = 0
    first: bool = True
    int8: bool = False


@dataclass(frozen=True)
class Total:
    """Once, and for each source position besides."""

    bytes: int = 0
    multiply_adds: int = 0
    position_bytes: int = 0
    position_multiply_adds: int = 0


def total(works: Iterable[Work]) -> Total:
    """Of one sentence, or of one hypothesis's step. Activations are not in it."""
    once, each = [0.0, 0], [0.0, 0]
    for work in works:
        (each if work.over == "each position" else once)[0] += work.bytes
        (once if work.over == "items" else each)[1] += work.multiply_adds
        each[0] += work.memory
    return Total(int(once[0]), int(once[1]), int(each[0]), int(each[1]))


def works(
    graphs: Mapping[str, Graph],
    types: Mapping[str, Types],
    shapes: Shapes,
    *,
    compute_types: Mapping[str, str] | None = None,
    narrow: Iterable[str] = (),
) -> dict[str, list[Work]]:
    """By graph. compute_types: by tensor, float32 where left out; narrow: tensors in float32 that
    take two bytes a weight, since bfloat16 holds them exactly."""
    chosen, exact = compute_types or {}, set(narrow)
    bytes_ = {}
    for name in shapes:
        type_ = chosen.get(name, "float32")
        bytes_[name] = 2 if type_ == "float32" and name in exact else BYTES[type_]
    return {
        role: list(
            _Count(
                role, graph, types[role], shapes, bytes_,
                folds(graphs, role, types[role], shapes, chosen),
            ).all()
        )
        for role, graph in graphs.items()
    }  # fmt: skip


class _Count:
    def __init__(
        self,
        role: str,
        graph: Graph,
        types: Types,
        shapes: Shapes,
        bytes_: Mapping[str, int],
        found: Folds,
    ) -> None:
        self._graph, self._types, self._shapes = graph, types, shapes
        self._bytes, self._folds, self._levels = bytes_, found, levels(graph)
        self._steps = role == "decoder"
        self._read = self._live()

    def all(self) -> Iterator[Work]:
        """In the order of the nodes; those that nobody reads are left out."""
        for node in self._graph.nodes:
            if node.name in self._read:
                yield from self._node(node)

    def _when(self, node: Node) -> Literal["sentence", "step"]:
        return "step" if self._steps and self._levels[node.name] == "row" else "sentence"

    def _node(self, node: Node) -> Iterator[Work]:
        when = self._when(node)
        if node.op == "attention":
            yield from self._attention(node)
        elif node.op in JOINING:
            sequence = any(self._types[x].kind == "sequence" for x in references(node, "x"))
            yield from self._product(node, "positions" if sequence else "items")
            if node.op != "linear":
                yield from self._recurrent(node)
        elif node.body is not None:
            body = _Count("", node.body, {}, self._shapes, self._bytes, Folds({}, {}, {}))
            for part in node.body.nodes:
                for work in body._of_body(part):
                    yield replace(work, node=node.name, when=when)

    def _of_body(self, node: Node) -> Iterator[Work]:
        if node.op in JOINING:
            yield from (replace(w, over="each position") for w in self._product(node, "items"))
            if node.op != "linear":
                yield from (replace(w, over="each position") for w in self._recurrent(node))

    def _product(self, node: Node, over: Literal["items", "positions"]) -> Iterator[Work]:
        tensor = node.weights.get(JOINING[node.op][0])
        if tensor is None:
            return
        outputs, columns = self._shapes[tensor]
        size, when = self._bytes[tensor], self._when(node)
        for context in self._folds.contexts.get(node.name, ()):
            folded = self._types[context].size
            columns -= folded
            work = outputs * folded
            yield Work(node.name, "sentence", "positions", size * work, work, int8=size == 1)
        table = self._folds.tables.get(node.name)
        columns -= 0 if table is None else self._types[table].size
        linear = node.op == "linear" and node.attributes["activation"] != "identity"
        bent = outputs if linear else 0
        if columns or bent:
            work = outputs * columns
            yield Work(node.name, when, over, size * work, work, bent, int8=size == 1)

    def _recurrent(self, node: Node) -> Iterator[Work]:
        """A state that is zero is not multiplied."""
        tensor = node.weights["weight_hh"]
        outputs, hidden = self._shapes[tensor]
        kind, cell, _ = node.op.partition("_cell")
        bent = GATES[kind] * (outputs // JOINING[node.op][1])
        work = outputs * hidden if not cell or "h" in node.inputs else 0
        size, first = self._bytes[tensor], "h" in node.inputs
        over: Literal["items", "each position"] = "items" if cell else "each position"
        yield Work(
            node.name, self._when(node), over, size * work, work, bent,
            first=first, int8=size == 1,
        )  # fmt: skip
        if "projection" in node.weights:
            rows, columns = self._shapes[node.weights["projection"]]
            size = self._bytes[node.weights["projection"]] * rows * columns
            yield Work(node.name, self._when(node), over, size, rows * columns)

    def _attention(self, node: Node) -> Iterator[Work]:
        """Keys and values are read once a sentence: its hypotheses share them."""
        when, query = self._when(node), self._folds.queries.get(node.name)
        key = self._types[references(node, "keys")[0]].size if "keys" in node.inputs else 0
        if query is not None:
            maker = next(n for n in self._graph.nodes if n.name == query)
            tensor = maker.weights["weight"]
            work, size = self._shapes[tensor][0] * self._shapes[tensor][1], self._bytes[tensor]
            yield Work(node.name, "sentence", "positions", size * work, work, int8=size == 1)
            key = self._shapes[tensor][1]
        context = f"{node.name}.context"
        value = self._types[context].size if context in self._read else 0
        for name, contexts in self._folds.contexts.items():
            if context in contexts and name in self._read:
                reader = next(n for n in self._graph.nodes if n.name == name)
                role, blocks = JOINING[reader.op]
                outputs = self._shapes[reader.weights[role]][0]
                outputs = outputs if blocks == 1 else blocks * padded(outputs // blocks)
                value += contexts.count(context) * outputs
        bent = 1 + (key if node.attributes["score"] == "additive" else 0)
        yield Work(node.name, when, "positions", 0, key + value, bent, 4 * (key + value))

    def _live(self) -> set[str]:
        """Names of the nodes that run, and the references that something reads as they stand."""
        graph = self._graph
        read = set(graph.outputs.values()) | {state.next for state in graph.states.values()}
        read |= {name.split(".")[0] for name in read}
        makers = {node.name: node for node in graph.nodes}
        for node in reversed(graph.nodes):
            if node.name not in read:
                continue
            folded = {*self._folds.contexts.get(node.name, ())}
            query = self._folds.queries.get(node.name)
            named = [name for name in node.references() if name not in folded and name != query]
            if query is not None:
                named += references(makers[query], "x")
            if node.body is not None:
                named += [n.removeprefix("outer.") for n in _named(node.body) if "outer." in n]
            read |= {*named, *(name.split(".")[0] for name in (*named, *folded))}
        return read


def _named(body: Graph) -> Iterator[str]:
    yield from body.outputs.values()
    for state in body.states.values():
        yield from (state.next, state.initial or "")
    for node in body.nodes:
        yield from node.references()
