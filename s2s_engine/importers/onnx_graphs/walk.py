"""Reads a graph's nodes in their order and gives every value a meaning. Knows scopes, functions and
branches; never a single operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from ...errors import ModelFormatError
from ..readers.onnx_files import Function, Graph, Node, OnnxFile, Reference
from .expressions import Array, Tensor, refused
from .folding import folded, number_of
from .nodes import HANDLERS, Call

Known: TypeAlias = "Tensor | Array | None"
MAX_CALLS, MAX_NUMBERS = 1 << 16, 1 << 27
MAX_DEPTH = 16
STANDARD = ("", "ai.onnx")
BROKEN = (
    ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError, OverflowError,
    ZeroDivisionError, MemoryError,
)  # fmt: skip
_MASK = "masks are not read: export one sentence, without padding and its mask"
WAYS_OUT = {
    **dict.fromkeys(("Equal", "Not", "Where", "Greater", "Less", "And", "GreaterOrEqual"), _MASK),
    "Loop": "export one step of the decoder, and no loop",
    "Scan": "export one step of the decoder, and no loop",
    "QuantizeLinear": "export the network before it is quantised",
    "DynamicQuantizeLSTM": "export the network before it is quantised",
    "MatMulInteger": "export the network before it is quantised",
    "DequantizeLinear": "export the network before it is quantised",
}
WAY_OUT = (
    "import the state dict (weights by name) with another importer, or write the network with "
    "ModelBuilder"
)


@dataclass
class Walk:
    """The values of one graph by name. source: the S of the graph's sources, an open length;
    example: the length that stands for it in the file."""

    file: OnnxFile
    role: str
    source: object
    example: int = 0
    values: dict[str, Known] = field(default_factory=dict)
    calls: int = 0
    numbers: int = 0

    def run(self) -> None:
        """All nodes; ModelFormatError names the one that has no translation."""
        self._graph(self.file.graph, self.values, 0)

    def _graph(self, graph: Graph, values: dict[str, Known], depth: int) -> None:
        for name, array in graph.initializers.items():
            values.setdefault(name, array)
        self._nodes(graph.nodes, values, {}, self.file.opset, depth)

    def _nodes(
        self,
        nodes: Sequence[Node],
        values: dict[str, Known],
        attributes: Mapping[str, Any],
        opset: Mapping[str, int],
        depth: int,
    ) -> None:
        for number, node in enumerate(nodes):
            where = (
                f"{self.role} graph, node {(node.name or f'number {number}')[:200]!r} "
                f"({node.op_type[:100]})"
            )
            self.calls += 1
            if self.calls > MAX_CALLS or depth > MAX_DEPTH:
                raise refused(where, "the graph has more nodes than are read")
            bound = {
                name: attributes.get(value.name) if isinstance(value, Reference) else value
                for name, value in node.attributes.items()
            }
            node = replace(
                node, attributes={n: value for n, value in bound.items() if value is not None}
            )
            given = []
            for name in node.inputs:
                if name and name not in values:
                    raise refused(where, f"reads {name[:200]!r}, which nothing before it gives")
                given.append(values[name] if name else None)
            try:
                results = self._node(node, given, values, opset, depth, where)
            except ModelFormatError as error:
                if str(error).startswith(f"{self.role} graph"):
                    raise
                raise refused(where, f"{error}; {WAY_OUT}") from None
            except BROKEN as error:
                text = error.args[0] if error.args else type(error).__name__
                raise refused(where, f"{text}; {WAY_OUT}") from None
            for name, result in zip(node.outputs, results, strict=False):
                if name:
                    values[name] = result

    def _node(
        self,
        node: Node,
        given: list[Known],
        values: dict[str, Known],
        opset: Mapping[str, int],
        depth: int,
        where: str,
    ) -> Sequence[Known]:
        function = self._functions.get((node.domain, node.op_type))
        if function is not None:
            return self._call(function, node, given, depth)
        if node.domain not in STANDARD:
            raise refused(where, f"operators of {node.domain[:100]!r} are not read; {WAY_OUT}")
        version = opset.get("", opset.get("ai.onnx", 1))
        if node.op_type == "If":
            return self._branch(node, given, values, depth)
        if node.op_type == "Constant":
            return [number_of(node)]
        numbers = [one for one in given if not isinstance(one, Tensor)]
        if len(numbers) == len(given):
            result = folded(node, numbers, version)
            if result is not None:
                self.numbers += result.size
                if self.numbers > MAX_NUMBERS:
                    raise refused(where, "more numbers are computed from the file than are read")
                return [result]
        handler = HANDLERS.get(node.op_type)
        if handler is None:
            way = WAYS_OUT.get(node.op_type, WAY_OUT)
            raise refused(where, f"this operator has no translation here; {way}")
        return handler(Call(node, given, version, self.source, self.example))

    @cached_property
    def _functions(self) -> dict[tuple[str, str], Function]:
        return {(one.domain, one.name): one for one in self.file.functions}

    def _call(
        self, function: Function, node: Node, given: list[Known], depth: int
    ) -> Sequence[Known]:
        inner: dict[str, Known] = dict.fromkeys(function.inputs)
        inner.update(zip(function.inputs, given, strict=False))
        self._nodes(function.nodes, inner, node.attributes, self.file.opset, depth + 1)
        return [inner[name] for name in function.outputs]

    def _branch(
        self, node: Node, given: list[Known], values: dict[str, Known], depth: int
    ) -> Sequence[Known]:
        """The branch that is taken for every source."""
        (condition,) = given
        if not isinstance(condition, np.ndarray) or condition.size != 1:
            raise ValueError("its condition depends on the source")
        branch = node.attributes["then_branch" if condition.item() else "else_branch"]
        inner = dict(values)
        self._graph(branch, inner, depth + 1)
        return [inner[value.name] for value in branch.outputs]
