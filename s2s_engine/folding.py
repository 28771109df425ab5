"""What the core's plan folds, told from graphs and shapes alone: embeddings into tables, contexts
and queries into products made once a sentence. Knows the rules of `csrc/ops/product.cpp` and
`csrc/graph/folding.cpp`, which a test holds it to; never weights' values or execution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .graph import Graph, Node, Shapes, Types

LANES = 32
TABLE_FLOATS = 1 << 20  # of an embedding that becomes a table, at most
FOLD_BYTES = 256  # of the weights of an output that are folded, at least
MAX_INT8_DEPTH = 1 << 17
# Operations that multiply what they join: the role of the matrix, and its blocks of outputs.
JOINING = {"linear": ("weight", 1)} | {
    name + kind: ("weight_ih", blocks)
    for name, blocks in (("rnn", 1), ("gru", 3), ("lstm", 4))
    for kind in ("", "_cell")
}


@dataclass(frozen=True)
class Folds:
    """By node of one graph, the references that it does not multiply.

    tables: its first value, an embedding. contexts: those of attentions. queries: of an attention
    that asks with the input of a product in place of the product.
    """

    tables: Mapping[str, str]
    contexts: Mapping[str, tuple[str, ...]]
    queries: Mapping[str, str]

    def of(self, node: str) -> tuple[str, ...]:
        """In the order in which the core tells them."""
        table, query = self.tables.get(node), self.queries.get(node)
        first = () if table is None else (table,)
        return (*first, *self.contexts.get(node, ()), *(() if query is None else (query,)))


def padded(size: int) -> int:
    return -(-size // LANES) * LANES


def references(node: Node, role: str) -> list[str]:
    """Of one role, in order."""
    value = node.inputs.get(role, [])
    return [value] if isinstance(value, str) else list(value)


def levels(graph: Graph) -> dict[str, str]:
    """By reference and by node, how often a value is computed: "fixed", "sentence" or "row", which
    is once for each live hypothesis and step."""
    found = {name: "row" if name in ("token", "step") else "sentence" for name in graph.inputs}
    found |= {f"state.{name}": "row" for name in graph.states}
    for node in graph.nodes:
        read = {found.get(_base(name, found), "sentence") for name in node.references()}
        if node.body is not None:
            read |= {found.get(_base(name, found), "sentence") for name in _captured(node.body)}
        level = "row" if "row" in read else "sentence"
        found[node.name] = "fixed" if node.op == "constant" else level
    return found


def _base(reference: str, known: Mapping[str, str]) -> str:
    """The node of `node.output`; the reference itself where it is known."""
    return reference if reference in known else reference.split(".")[0]


def level_of(reference: str, known: Mapping[str, str]) -> str:
    return known.get(_base(reference, known), "sentence")


def _captured(body: Graph) -> Iterator[str]:
    named = [state.next for state in body.states.values()] + list(body.outputs.values())
    named += [state.initial for state in body.states.values() if state.initial is not None]
    for node in body.nodes:
        named += node.references()
    yield from (name.removeprefix("outer.") for name in named if name.startswith("outer."))


def folds(
    graphs: Mapping[str, Graph],
    role: str,
    types: Types,
    shapes: Shapes,
    compute_types: Mapping[str, str] | None = None,
) -> Folds:
    """What the plan folds of one of the graphs; types and shapes: of its references and the
    tensors. compute_types: by tensor, float32 where left out."""
    encoder = graphs.get("encoder", Graph()) if role == "decoder" else Graph()
    return _Finder(graphs[role], encoder, types, shapes, compute_types or {}).find()


class _Finder:
    def __init__(
        self,
        graph: Graph,
        encoder: Graph,
        types: Types,
        shapes: Shapes,
        compute_types: Mapping[str, str],
    ) -> None:
        self._graph, self._types, self._shapes = graph, types, shapes
        self._compute_types, self._levels = compute_types, levels(graph)
        self._nodes = {node.name: node for node in graph.nodes}
        made = {node.name: node for node in encoder.nodes}
        self._encoded = {
            f"encoder.{name}": made[reference]
            for name, reference in encoder.outputs.items()
            if reference in made
        }
        self._contexts: dict[str, tuple[str, ...]] = {}
        # features (frames, columns of an image) are much longer than what is made of them
        self._short = all(type_.kind != "sequence" for type_ in encoder.inputs.values())

    def find(self) -> Folds:
        tables: dict[str, str] = {}
        queries: dict[str, str] = {}
        for node in self._graph.nodes:
            if node.op in JOINING and "x" in node.inputs:
                contexts = tuple(x for x in references(node, "x") if self._context(node, x))
                if contexts:
                    self._contexts[node.name] = contexts
                rest = [x for x in references(node, "x") if x not in contexts]
                if rest and self._table(node, rest):
                    tables[node.name] = rest[0]
            if node.op == "attention" and self._query(node):
                queries[node.name] = references(node, "query")[0]
        return Folds(tables, self._contexts, queries)

    def _table(self, node: Node, x: list[str]) -> bool:
        """An embedding that this node reads as it stands: an id of its own item or position."""
        maker = self._nodes.get(x[0]) or self._encoded.get(x[0])
        if maker is None or maker.op not in ("embedding", "one_hot"):
            return False
        role, blocks = JOINING[node.op]
        outputs = blocks * padded(self._shapes[node.weights[role]][0] // blocks)
        vocabulary = (
            maker.attributes["size"]
            if maker.op == "one_hot"
            else self._shapes[maker.weights["weight"]][0]
        )
        along = any(self._types[name].kind == "sequence" for name in x)
        return (
            level_of(x[0], self._levels) == self._level(node.name)
            and along == (self._types[x[0]].kind == "sequence")
            and int(vocabulary) * outputs <= TABLE_FLOATS
        )

    def _context(self, node: Node, x: str) -> bool:
        maker = self._nodes.get(x.removesuffix(".context"))
        if maker is None or maker.op != "attention" or not x.endswith(".context"):
            return False
        if node.op != "linear" and not node.op.endswith("_cell"):
            return False
        vectors = all(self._types[name].kind == "vector" for name in references(node, "x"))
        query = references(maker, "query")
        of_items = not query or self._types[query[0]].kind == "vector"
        return (
            self._short
            and vectors
            and of_items
            and maker.attributes["heads"] == 1
            and self._level(maker.name) == "row"
            and level_of(references(maker, "values")[0], self._levels) == "sentence"
            and self._pays(node.weights[JOINING[node.op][0]], self._types[x].size)
        )

    def _query(self, node: Node) -> bool:
        if node.attributes["score"] != "dot" or node.attributes["heads"] != 1:
            return False
        (query,), (keys,) = references(node, "query"), references(node, "keys")
        maker = self._nodes.get(query)
        if maker is None or maker.op != "linear" or "bias" in maker.weights:
            return False
        tensor, x = maker.weights["weight"], references(maker, "x")
        return (
            self._short
            and len(x) == 1
            and maker.name not in self._contexts
            and maker.attributes["activation"] == "identity"
            and self._types[x[0]].kind == "vector"
            and self._level(node.name) == self._level(maker.name) == "row"
            and level_of(keys, self._levels) == "sentence"
            and self._shapes[tensor][0] <= MAX_INT8_DEPTH
            and self._pays(tensor, self._shapes[tensor][0])
            and self._readers(query) == 1
        )

    def _pays(self, tensor: str, size: int) -> bool:
        """bfloat16 counts as float32, whose bits it has."""
        return size * (1 if self._compute_types.get(tensor) == "int8" else 4) >= FOLD_BYTES

    def _level(self, node: str) -> str:
        return self._levels[node]

    def _readers(self, reference: str) -> int:
        graph = self._graph
        named = [name for node in graph.nodes for name in node.references()]
        named += [state.next for state in graph.states.values()] + list(graph.outputs.values())
        for node in graph.nodes:
            named += [] if node.body is None else list(_captured(node.body))
        return named.count(reference)
