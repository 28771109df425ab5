"""What every translation of a model asks of its graphs: which nodes are the two directions of one
layer, what the decoder takes over from the encoder. Knows graphs; no runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graph import Node
from ..workloads import Workload

Array = NDArray[np.float32]
# Sources of equal length and how many steps to make, to the ids of each one's best hypothesis.
Decode = Callable[[Sequence[Sequence[int]], int], list[list[int]]]

ACTIVATIONS = ("identity", "tanh", "sigmoid", "relu")


class Unsupported(Exception):
    """A peer cannot do a workload; the message says why, and the report repeats it."""


@dataclass(frozen=True)
class Peer:
    """exact: float32, so that its ids must be the engine's."""

    name: str
    decode: Decode
    exact: bool = True
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class State:
    """initial: the encoder output it starts as, or None for zeros. next: a decoder reference."""

    name: str
    size: int
    initial: str | None
    next: str


@dataclass(frozen=True)
class Held:
    """An encoder output that attention reads: 'values', 'keys', or 'transposed' keys of a dot
    product; the same for all steps."""

    output: str
    form: str

    @property
    def name(self) -> str:
        return f"{self.output}_{self.form}"


class Wiring:
    """One model with one encoder of ids and a decoder."""

    def __init__(self, workload: Workload) -> None:
        model = self.model = workload.model
        if set(model.graphs) != {"encoder", "decoder"} or model.start is None:
            raise Unsupported("it needs an encoder, a decoder and a start token")
        if len(model.end) > 1 or (workload.batch > 1 and model.end):
            raise Unsupported("several end tokens, or one in a batch: not written for peers")
        self.encoder, self.decoder = model.graphs["encoder"], model.graphs["decoder"]
        if list(self.encoder.inputs) != ["tokens"] or "logits" not in self.decoder.outputs:
            raise Unsupported("it needs one input of ids, and logits")
        self.start = model.start
        self.end = model.end[0] if model.end else None
        self.logits = self.decoder.outputs["logits"]
        self.beam, self.batch = workload.beam, workload.batch
        self.types = model.types()
        self.vocabulary = self.types["decoder"][self.logits].size
        self.states = [
            State(
                name,
                state.type.size,
                state.initial.removeprefix("encoder.") if state.initial else None,
                state.next,
            )
            for name, state in self.decoder.states.items()
        ]
        self.held: list[Held] = []
        for node in self.decoder.nodes:
            if node.op == "attention":
                self.held += [held for held in held_by(node) if held not in self.held]

    def array(self, node: Node, role: str) -> Array:
        return self.model.tensors[node.weights[role]]

    def bias(self, node: Node, role: str, like: str) -> Array:
        """A bias, or zeros where the node has none."""
        if role in node.weights:
            return self.array(node, role)
        return np.zeros(len(self.array(node, like)), np.float32)

    def layers(self) -> Mapping[str, list[Node]]:
        """Encoder layers by the name of their first node: one node, or forward and backward."""
        layers: dict[str, list[Node]] = {}
        for node in self.encoder.nodes:
            if node.op not in ("lstm", "gru"):
                continue
            if set(node.inputs) != {"x"}:
                raise Unsupported("a layer that does not start at zero")
            partner = next(
                (
                    name
                    for name, (first, *rest) in layers.items()
                    if not rest and first.op == node.op and first.inputs == node.inputs
                    and _direction(first) == "forward" and _direction(node) == "backward"
                ),
                None,
            )  # fmt: skip
            if partner is not None:
                layers[partner].append(node)
            elif _direction(node) == "backward":
                raise Unsupported("a layer that runs backward alone")
            else:
                layers[node.name] = [node]
        return layers

    def folded_table(self, node: Node, matrix: Array) -> tuple[Node, Array] | None:
        """Where a product begins with an embedding of a small vocabulary: that node, and the table
        of its products. What the engine does, every peer may do."""
        front = references(node, "x")[0].split(".")[0]
        maker = next((n for n in self.decoder.nodes if n.name == front), None)
        if maker is None or maker.op != "embedding":
            return None
        embedding = self.array(maker, "weight") * np.float32(maker.attributes["scale"])
        if len(embedding) * len(matrix) > 1 << 20:
            return None
        table: Array = (embedding @ matrix[:, : embedding.shape[1]].T).astype(np.float32)
        return maker, table


def held_by(node: Node) -> list[Held]:
    """The keys and the values of an attention node, as it reads them."""
    plain = {"heads": 1, "normaliser": "softmax", "energy_activation": "identity", "window": 0}
    if any(node.attributes.get(name) != value for name, value in plain.items()):
        raise Unsupported("attention of another kind than softmax over one head")
    score = node.attributes["score"]
    if score not in ("dot", "additive") or "energy_bias" in node.weights:
        raise Unsupported(f"attention with score {score!r}")
    form = "transposed" if score == "dot" else "keys"
    names = [references(node, role)[0] for role in ("keys", "values")]
    if not all(name.startswith("encoder.") for name in names):
        raise Unsupported("attention over something else than an encoder output")
    keys, values = (name.removeprefix("encoder.") for name in names)
    return [Held(keys, form), Held(values, "values")]


def references(node: Node, role: str) -> list[str]:
    value = node.inputs[role]
    return [value] if isinstance(value, str) else list(value)


def check_cell(node: Node) -> None:
    """The cells that all runtimes have: tanh, sigmoid, no clip, GRUs that reset after."""
    plain = {
        "activation": "tanh",
        "gate_activation": "sigmoid",
        "clip": 0.0,
        "reset": "after",
    }
    for name, value in plain.items():
        if node.attributes.get(name, value) != value:
            raise Unsupported(f"a cell with {name} {node.attributes[name]!r}")
    if "bias_hh" not in node.weights and node.op.startswith("gru"):
        raise Unsupported("a GRU without a bias")
    if "peephole" in node.weights:
        raise Unsupported("a cell with peepholes")


def _direction(node: Node) -> str:
    return str(node.attributes["direction"])


# --- the search's bookkeeping, the same for all peers ---


def backtrack(tokens: NDArray[np.int64], parents: NDArray[np.int64], row: int) -> list[int]:
    """The ids on the way to `row` of the last step. tokens, parents: (steps, rows)."""
    ids = []
    for step in range(len(tokens) - 1, -1, -1):
        ids.append(int(tokens[step, row]))
        row = int(parents[step, row])
    return ids[::-1]
