"""The object graph of a TensorFlow checkpoint: which variable belongs to which attribute of which
object, whatever key it is stored under. Knows nodes and their names; never a variable's numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .pickle_values import RefusedError
from .protobuf import Field, fields

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "VARIABLE_VALUE"
MAX_NODES = 200_000
MAX_PATH = 512


@dataclass(frozen=True)
class Node:
    """One object: its attributes that are objects, by name; the key of its value if it has one."""

    children: Mapping[str, int]
    key: str | None


@dataclass(frozen=True)
class Objects:
    """All objects that were saved; the first is the one that `save` was called on."""

    nodes: tuple[Node, ...]

    def holders(self, *names: str) -> Iterator[int]:
        """The objects that have all these attributes, the nearest to the first one in front."""
        for number, node in enumerate(self.nodes):
            if all(name in node.children for name in names):
                yield number

    def child(self, node: int, name: str) -> int:
        return self.nodes[node].children[name]

    def key(self, start: int, path: str) -> str | None:
        """The key of the variable at a path of attributes below an object."""
        node = self.nodes[start]
        for name in path.split("/"):
            if name not in node.children:
                return None
            node = self.nodes[node.children[name]]
        return node.key

    def variables(self, start: int) -> dict[str, str]:
        """The keys of all variables below an object, by the shortest path of attributes to each."""
        found: dict[str, str] = {}
        seen, todo = {start}, deque([(start, "")])
        while todo:
            number, path = todo.popleft()
            node = self.nodes[number]
            if node.key is not None:
                found[path] = node.key
            for name, child in node.children.items():
                if child not in seen and len(path) + len(name) < MAX_PATH:
                    seen.add(child)
                    todo.append((child, f"{path}/{name}" if path else name))
        return found


def read_objects(data: memoryview) -> Objects:
    """A TrackableObjectGraph, every reference checked."""
    nodes = []
    for field in fields(data):
        if field.number == 1:
            nodes.append(_node(field))
            if len(nodes) > MAX_NODES:
                raise RefusedError(f"has more than {MAX_NODES} objects")
    if not nodes:
        raise RefusedError("holds no object")
    for node in nodes:
        for name, child in node.children.items():
            if not 0 <= child < len(nodes):
                raise RefusedError(f"attribute {name[:200]!r} is object {child} of {len(nodes)}")
    return Objects(tuple(nodes))


def _node(field: Field) -> Node:
    children: dict[str, int] = {}
    key = None
    for part in fields(field.message()):
        if part.number == 1:  # a reference: its object and its name
            number, name = 0, ""
            for one in fields(part.message()):
                if one.number == 1:
                    number = one.integer()
                elif one.number == 2:
                    name = one.text()
            children.setdefault(name, number)
        elif part.number == 2:  # what is stored of it: VARIABLE_VALUE, or a table, and the key
            texts = {
                one.number: one.text() for one in fields(part.message()) if one.number in (1, 3)
            }
            if texts.get(1) == VALUE:
                key = texts.get(3)
    return Node(children, key)
