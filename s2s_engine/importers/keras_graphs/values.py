"""What a Keras tensor is while its model becomes two graphs: which time it runs over, in which
graph it is computed, whether Keras would hold it at padding. Knows no layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...builder import DecoderBuilder, GraphBuilder, ModelBuilder, Value, X
from ...errors import ModelFormatError
from .graph import clean

Axis: TypeAlias = Literal["none", "source", "target"]

PADDED = (
    "reads padding that other layers leave out: a source of a fixed length with mask_zero and this "
    "layer cannot be imported; train without mask_zero, or with length None"
)


class RoleError(ModelFormatError):
    """The model is no decoder step of the input that was taken for the target."""


@dataclass(frozen=True)
class Ids:
    """An input of ids, which an Embedding reads."""

    axis: Axis
    value: Value


@dataclass(frozen=True)
class Features:
    """axis: what the positions are, "none" of a vector; a vector that RepeatVector repeats has the
    target's. value: of a graph. masked: Keras leaves out positions of padding."""

    axis: Axis
    value: Value
    masked: bool = False


@dataclass(frozen=True)
class Final:
    """A value after the last position of the target: no step has it."""

    layer: str


@dataclass(frozen=True)
class Mask:
    """A tensor of masks among the operations that Keras 3 writes down: "padding", "ones" or
    "zeros"; several behind each other before they are reduced."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Energies:
    """Products of steps and source positions, (steps, source) or turned round; normal: behind the
    softmax over source positions."""

    query: Features
    keys: Features
    query_first: bool
    normal: bool = False


Found: TypeAlias = Ids | Features | Final | Mask | Energies


@dataclass
class Graphs:
    """Where values are written: vectors and source positions in the encoder, steps in the decoder.

    padded: sources are filled up to one length. names: of the encoder's values, by reference;
    crossing: of those among them that the decoder reads.
    """

    builder: ModelBuilder
    decodes: bool
    padded: bool
    names: dict[str, str] = field(default_factory=dict)
    states: dict[str, X] = field(default_factory=dict)
    crossing: dict[str, str] = field(default_factory=dict)
    alignments: list[Value] = field(default_factory=list)
    _gate: Value | None = None

    @property
    def decoder(self) -> DecoderBuilder:
        return self.builder.decoder

    def of(self, *found: Features) -> GraphBuilder:
        """The graph that can read all of these."""
        steps = self.decodes and any(one.value.graph == "decoder" for one in found)
        return self.builder.decoder if steps else self.builder.encoder

    def read(self, graph: GraphBuilder, found: Features) -> X:
        """The value in this graph; what the decoder reads of the encoder becomes its output."""
        return found.value if found.value.graph == graph.role else self.cross(found.value)

    def cross(self, value: Value) -> str:
        """The encoder's output that is this value."""
        if value.reference not in self.crossing:
            name = self.names.get(value.reference, clean(value.reference))
            name = unique(name, set(self.crossing.values()))
            self.builder.encoder.output(**{name: value})
            self.crossing[value.reference] = name
        return self.crossing[value.reference]

    def not_padding(self) -> Value:
        """1 where the target's id is not 0, the padding of mask_zero."""
        if self._gate is None:
            token = self.decoder.token
            table = np.ones((token.type.size, 1), np.float32)
            table[0] = 0
            self._gate = self.decoder.embedding(token, table, name="not_padding")
        return self._gate

    def finish(self) -> None:
        if self.decodes:
            self.decoder.next(self.states)
            if len(self.alignments) == 1:
                self.decoder.output(alignment=self.alignments[0])


def axis_of(found: Sequence[Features]) -> Axis:
    """The axis of a layer that takes its inputs position by position."""
    axes = {one.axis for one in found} - {"none"}
    if len(axes) > 1:
        raise RoleError("joins source positions and steps of the target position by position")
    return axes.pop() if axes else "none"


def unique(name: str, taken: set[str]) -> str:
    number, found = 2, name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def floats(value: float) -> NDArray[Any]:
    return np.array([value], np.float32)
