"""A model file as a listing to read next to a paper, and as JSON. Knows headers: documents, shapes
and sizes; never weights' numbers, execution or terminals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .cost import Total, Work, total, works
from .format import Header
from .graph import Graph, Node, Types
from .operations import OPERATIONS, ValueType

FIRST_WORDS = 8
# What a reader looks for even where it is the default.
SHOWN = {("gru", "direction"), ("lstm", "direction"), ("attention", "score")}


def listing(header: Header, name: str) -> str:
    """The whole text of `inspect`, lines joined."""
    return "\n".join(line.rstrip() for line in _lines(header, name))


def as_json(header: Header) -> dict[str, Any]:
    """The document of the file, with what is counted from it beside."""
    return {
        **header.document,
        "sha256": header.digest,
        "file_size": header.file_size,
        "parameters": _parameters(header),
        "tensor_bytes": _tensor_bytes(header),
        "tensors": {t.name: {"dtype": t.dtype, "shape": list(t.shape)} for t in header.tensors},
        "work": {
            role: {
                f"per_{when}": asdict(total(w for w in found if w.when == when))
                for when in ("sentence", "step")
            }
            | {"nodes": {name: asdict(total(part)) for name, part in _by_node(found).items()}}
            for role, found in _works(header).items()
        },
    }


# --- the parts of a listing ---


def _lines(header: Header, name: str) -> Iterator[str]:
    model, types = header.outline, header.outline.types()
    dtypes = ", ".join(sorted({tensor.dtype for tensor in header.tensors}))
    yield f"{name}: format {header.document['format']}, {header.file_size:,} bytes"
    yield (
        f"  weights     {_parameters(header):,} parameters, {len(header.tensors)} tensors, "
        f"{_tensor_bytes(header):,} bytes ({dtypes})"
    )
    yield f"  sha256      {header.digest} (as the file says; `verify` checks it)"
    for vocabulary, words in model.vocabularies.items():
        first = " ".join(map(repr, words[:FIRST_WORDS]))
        more = " ..." if len(words) > FIRST_WORDS else ""
        yield f"  vocabulary  {vocabulary}: {len(words):,} strings: {first}{more}"
    yield f"  tokens      {'characters of a text' if model.characters else 'separated by spaces'}"
    yield f"  source      {_source(header)}"
    yield f"  target      {_target(header)}"
    yield f"  generation  {_mapping(model.generation)}"
    yield f"  self-test   {_self_test(header)}"
    yield f"  provenance  {_mapping(model.provenance)}"
    users, found = _users(model.graphs), _works(header)
    for role, graph in model.graphs.items():
        yield ""
        yield f"{role}: {_counted(found[role])}"
        yield from _graph(graph, types[role], header, users, _by_node(found[role]))


def _graph(
    graph: Graph,
    types: Types,
    header: Header,
    users: Mapping[str, list[str]],
    found: Mapping[str, list[Work]],
) -> Iterator[str]:
    if graph.inputs:
        yield "  inputs"
        for name, type_ in graph.inputs.items():
            yield f"    {name}: {type_}"
    if graph.states:
        yield "  states"
        for name, state in graph.states.items():
            initial = "zeros" if state.initial is None else state.initial
            yield f"    {name}[{state.type.size}]: initial {initial}, next {state.next}"
    shapes = _shapes(header)
    yield "  nodes"
    for node in graph.nodes:
        yield f"    {_node(node, types)}{_weights(node, shapes, users)}"
        if node.name in found:
            yield f"      {_counted(found[node.name])}"
        if node.body is not None:
            yield from _body(node.body, shapes, users)
    yield "  outputs"
    for name, reference in graph.outputs.items():
        yield f"    {name} = {_sized(reference, types[reference])}"


def _body(
    body: Graph, shapes: Mapping[str, tuple[int, ...]], users: Mapping[str, list[str]]
) -> Iterator[str]:
    """What a scan does at each position."""
    for name, state in body.states.items():
        initial = "zeros" if state.initial is None else state.initial
        yield f"      | {name}[{state.type.size}]: initial {initial}, next {state.next}"
    for node in body.nodes:
        yield f"      | {_node(node, {})}{_weights(node, shapes, users)}"
    yield f"      | sequence = {body.outputs['sequence']}"


def _node(node: Node, types: Types) -> str:
    results = ", ".join(_sized(name, type_) for name, type_ in _outputs(node, types).items())
    results = results or node.name  # in a body
    arguments = [f"{role}={_references(value)}" for role, value in node.inputs.items()]
    rules = OPERATIONS[node.op].attributes
    arguments += [
        f"{name}={value}"
        for name, value in node.attributes.items()
        if value != rules[name].default or (node.op, name) in SHOWN
    ]
    return f"{results} = {node.op}({', '.join(arguments)})"


def _weights(
    node: Node, shapes: Mapping[str, tuple[int, ...]], users: Mapping[str, list[str]]
) -> str:
    parts = []
    for role, tensor in node.weights.items():
        size = "x".join(map(str, shapes[tensor]))
        tied = f" (tied: {tensor})" if len(users[tensor]) > 1 else ""
        parts.append(f"{role} {size}{tied}")
    return "   " + ", ".join(parts)


def _outputs(node: Node, types: Types) -> dict[str, ValueType]:
    """The references that a node defines, in their order."""
    return {
        name: type_
        for name, type_ in types.items()
        if name == node.name or name.startswith(f"{node.name}.")
    }


def _sized(name: str, type_: ValueType) -> str:
    """`h[256]`, or `memory[S, 512]` for a value per source position."""
    if type_.kind in ("id", "ids"):
        return f"{name}: {type_}"
    lead = {"vector": "", "sequence": "S, ", "alignment": "S, S, "}[type_.kind]
    return f"{name}[{lead}{type_.size}]"


def _references(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else f"[{'; '.join(value)}]"


def _source(header: Header) -> str:
    rule, words = header.outline.source, header.outline.vocabularies.get("tokens")
    parts = []
    if rule.prepend:
        parts.append(f"prepend {_ids(rule.prepend, words)}")
    if rule.append:
        parts.append(f"append {_ids(rule.append, words)}")
    if rule.truncate is not None:
        parts.append(f"cut at {rule.truncate}")
    if rule.pad is not None:
        to = ", ".join(map(str, rule.pad.to))
        parts.append(f"pad on the {rule.pad.side} to {to} with {_ids([rule.pad.id], words)}")
    if rule.reverse:
        parts.append("reverse")
    unknown = rule.unknown
    parts.append(f"unknown is {'refused' if unknown is None else _ids([unknown], words)}")
    return ", ".join(parts)


def _target(header: Header) -> str:
    model = header.outline
    if "decoder" not in model.graphs:
        return "labels (no decoder)"
    words = model.vocabularies.get("target")
    start = "nothing" if model.start is None else _ids([model.start], words)
    return f"start {start}, end {_ids(model.end, words) if model.end else 'none'}"


def _ids(ids: Sequence[int], words: Sequence[str] | None) -> str:
    return " ".join(str(i) if words is None else f"{i} {words[i]!r}" for i in ids)


def _self_test(header: Header) -> str:
    test = header.outline.self_test
    if test is None:
        return "none"
    call = test.call
    source = ", ".join(call) if isinstance(call, dict) else f"{len(call)} source ids"
    return f"{source}, {len(test.target)} target ids, tolerance {test.tolerance:g}"


def _mapping(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in fields.items()) or "none"


def _counted(found: Sequence[Work]) -> str:
    parts = [
        _total(total(work for work in found if work.when == when), when)
        for when in ("step", "sentence")
        if any(work.when == when for work in found)
    ]
    return "; ".join(parts) or "no products"


def _total(count: Total, when: str) -> str:
    """Numbers of a step or sentence, and those of every position besides."""
    once = f"{count.multiply_adds:,} multiply-adds and {count.bytes:,} bytes"
    if not (count.position_bytes or count.position_multiply_adds):
        return f"{once} per {when}"
    each = f"{count.position_multiply_adds:,} and {count.position_bytes:,}"
    return f"{once} per {when}, {each} per source position"


# --- counting ---


def _works(header: Header) -> dict[str, list[Work]]:
    narrow = {tensor.name for tensor in header.tensors if tensor.dtype == "BF16"}
    model = header.outline
    return works(model.graphs, model.types(), _shapes(header), narrow=narrow)


def _by_node(found: Sequence[Work]) -> dict[str, list[Work]]:
    nodes: dict[str, list[Work]] = {}
    for work in found:
        nodes.setdefault(work.node, []).append(work)
    return nodes


def _shapes(header: Header) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in header.tensors}


def _parameters(header: Header) -> int:
    return sum(array.size for array in header.outline.tensors.values())


def _tensor_bytes(header: Header) -> int:
    return sum(tensor.stop - tensor.start for tensor in header.tensors)


def _users(graphs: Mapping[str, Graph]) -> dict[str, list[str]]:
    """The nodes that name each tensor."""
    users: dict[str, list[str]] = {}
    for role, graph in graphs.items():
        for node in graph.nodes:
            inner = () if node.body is None else node.body.nodes
            for part in (node, *inner):
                for tensor in part.weights.values():
                    users.setdefault(tensor, []).append(f"{role}.{part.name}")
    return users
