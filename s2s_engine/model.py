"""`Model`: two graphs, their weights, and what a file says about vocabularies, source, target and
search. Knows the whole document and its closed schema; never bytes, execution or frameworks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, ModelFormatError
from .graph import BUILT_IN, Graph, Types, closed, from_json, integer, named, to_json
from .graph_check import check
from .operations import ValueType
from .source import SourceRule, ids

if TYPE_CHECKING:
    from .options import DecodeOptions
    from .reference import Reference

FORMAT = 1
DOCUMENT_KEYS = {
    "format", "graphs", "vocabularies", "characters", "source", "target", "generation",
    "self_test", "provenance",
}  # fmt: skip


@dataclass(frozen=True)
class SelfTest:
    """A source as the encoder reads it (ids; the prompt of a model without an encoder; values by
    name where it has other inputs), a forced target, and the log-probabilities expected within
    `tolerance`; the end token's is the last where the model has one."""

    source: tuple[int, ...] | Mapping[str, Any]
    target: tuple[int, ...]
    log_probs: tuple[float, ...]
    tolerance: float

    @property
    def call(self) -> list[int] | dict[str, Any]:
        """The source as calls take it, with prepared=True."""
        source = self.source
        return dict(source) if isinstance(source, Mapping) else list(source)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.call,
            "target": list(self.target),
            "log_probs": list(self.log_probs),
            "tolerance": self.tolerance,
        }


@dataclass(frozen=True)
class Model:
    """An immutable model in memory: what a file holds and what `Engine.load` takes.

    `graphs` maps "encoder" and "decoder" to graphs, `tensors` names to float32 arrays,
    `vocabularies` input names and "target" to lists of strings.
    """

    graphs: Mapping[str, Graph]
    tensors: Mapping[str, NDArray[np.float32]]
    vocabularies: Mapping[str, tuple[str, ...]]
    characters: bool
    source: SourceRule
    start: int | None
    end: tuple[int, ...]
    generation: Mapping[str, Any]
    self_test: SelfTest | None
    provenance: Mapping[str, Any]

    @staticmethod
    def assemble(
        *,
        graphs: Mapping[str, Graph],
        tensors: Mapping[str, NDArray[np.float32]],
        vocabularies: Mapping[str, Sequence[str]],
        characters: bool,
        source: Mapping[str, Any],
        start: int | None,
        end: Sequence[int],
        generation: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> Model:
        """A checked model from its parts."""
        encoder = graphs.get("encoder", Graph())
        size = _source_size(encoder)
        document = {
            "format": FORMAT,
            "graphs": {role: to_json(graph, role) for role, graph in graphs.items()},
            "vocabularies": {name: list(words) for name, words in vocabularies.items()},
            "characters": characters,
            "source": SourceRule.partial(source, size).to_json(),
            "target": {"start": start, "end": list(end)},
            "generation": dict(generation),
            "self_test": None,
            "provenance": dict(provenance),
        }
        return Model.from_document(document, tensors)

    @staticmethod
    def from_document(document: object, tensors: Mapping[str, NDArray[np.float32]]) -> Model:
        """Reads and checks the document of a model; ModelFormatError names what breaks a rule."""
        version = document.get("format") if isinstance(document, dict) else None
        if type(version) is not int or version != FORMAT:
            raise ModelFormatError(
                f"the model's format is {version!r}; this version reads format {FORMAT}"
            )
        fields = closed(document, DOCUMENT_KEYS, "model")
        graphs = {
            role: from_json(graph, role)
            for role, graph in closed_graphs(fields["graphs"], "graphs").items()
        }
        types = check_graphs(graphs, tensors)
        _check_tensors_used(graphs, tensors)
        target = closed(fields["target"], {"start", "end"}, "target")
        token = graphs["decoder"].inputs["token"].size if "decoder" in graphs else 0
        size = _source_size(graphs.get("encoder", Graph()))
        source = SourceRule.from_json(fields["source"], size)
        if "encoder" not in graphs and source != SourceRule():
            raise ModelFormatError("source: a model without an encoder prepares no source")
        start = target["start"]
        characters = fields["characters"]
        if not isinstance(characters, bool):
            raise ModelFormatError(f"characters must be true or false, is {characters!r}")
        model = Model(
            graphs=graphs,
            tensors=dict(tensors),
            vocabularies=_vocabularies(fields["vocabularies"], graphs, types),
            characters=characters,
            source=source,
            start=None if start is None else integer(start, 0, token - 1, "target: start"),
            end=ids(target["end"], token, "target: end"),
            generation=_generation(fields["generation"]),
            self_test=_self_test(
                fields["self_test"],
                token,
                size if "encoder" in graphs else token,
                graphs.get("encoder", Graph()).inputs,
                may_be_empty="encoder" not in graphs and start is not None,
            ),
            provenance=_provenance(fields["provenance"]),
        )
        if model.generation.get("max_length") == "source" and not _has_sequence(graphs):
            raise ModelFormatError("max_length 'source' needs an encoder that reads a sequence")
        return model

    def to_document(self) -> dict[str, Any]:
        """The JSON document that a file holds beside the tensors."""
        return {
            "format": FORMAT,
            "graphs": {role: to_json(graph, role) for role, graph in self.graphs.items()},
            "vocabularies": {name: list(words) for name, words in self.vocabularies.items()},
            "characters": self.characters,
            "source": self.source.to_json(),
            "target": {"start": self.start, "end": list(self.end)},
            "generation": dict(self.generation),
            "self_test": self.self_test and self.self_test.to_json(),
            "provenance": dict(self.provenance),
        }

    def types(self) -> dict[str, Types]:
        """The type of every reference, by graph."""
        return check_graphs(self.graphs, self.tensors)

    def limit(
        self, options: DecodeOptions, source_length: int | None, *, steps_before: int = 0
    ) -> int:
        """The most ids that a source of this prepared length may generate.

        steps_before: those that read a prompt before the first id is generated. Raises InputError
        where this model cannot do what the options ask for.
        """
        decoder = self.graphs["decoder"]
        self.check_alignment(options)
        limit = options.limit(source_length)
        if len(options.prefix or ()) >= limit:
            raise InputError(
                f"prefix has {len(options.prefix)} tokens, must have fewer than the {limit} that "
                "max_length allows here"
            )
        if "step" in decoder.inputs and limit + steps_before > decoder.inputs["step"].size:
            behind = f" behind {steps_before} of the prompt" if steps_before else ""
            raise InputError(
                f"max_length allows {limit} ids here{behind}, more than the "
                f"{decoder.inputs['step'].size} steps of this model"
            )
        return limit

    def check_alignment(self, options: DecodeOptions) -> None:
        """InputError where an option reads attention that this model does not give."""
        name = options.reads_alignment
        if name is not None and "alignment" not in self.graphs["decoder"].outputs:
            raise InputError(
                f"{name} is {getattr(options, name)!r}, but this model gives no alignment"
            )

    def with_self_test(self, test: SelfTest) -> Model:
        """The same model with another self-test."""
        return replace(self, self_test=test)

    def reference(self) -> Reference:
        """The NumPy float64 executor of this model: slow, and the specification."""
        from .reference import Reference

        return Reference(self)

    def save(self, path: str | Path, *, storage: str = "float32") -> None:
        """Writes a model file, whole or not at all; storage 'bfloat16' rounds the weights."""
        from .format import write

        write(self, Path(path), storage=storage)


def check_graphs(
    graphs: Mapping[str, Graph], tensors: Mapping[str, NDArray[np.float32]]
) -> dict[str, Types]:
    """The types of both graphs; ModelFormatError where one of them does not fit."""
    shapes = {name: tuple(array.shape) for name, array in tensors.items()}
    types: dict[str, Types] = {}
    outputs: dict[str, ValueType] = {}
    if "encoder" in graphs:
        encoder = graphs["encoder"]
        types["encoder"] = check(encoder, "encoder", shapes, {})
        outputs = {name: types["encoder"][r] for name, r in encoder.outputs.items()}
    if "decoder" in graphs:
        types["decoder"] = check(graphs["decoder"], "decoder", shapes, outputs)
    if "decoder" not in graphs:
        for name, type_ in outputs.items():
            if type_.kind == "ids":
                raise ModelFormatError(
                    f"graph encoder, output {name!r} is {type_}: ids are an output for a decoder, "
                    "and this model has none"
                )
    if not _has_sequence(graphs):
        for role, graph in graphs.items():
            for what in _needs_positions(graph):
                raise ModelFormatError(
                    f"graph {role}: {what} needs an encoder with a sequence among its inputs"
                )
    return types


def closed_graphs(value: object, where: str) -> dict[str, Any]:
    """An object with an encoder, a decoder, or both."""
    graphs = named(value, where)
    for role in graphs:
        if role not in ("encoder", "decoder"):
            raise ModelFormatError(f"{where}: {role!r} is neither encoder nor decoder")
    if not graphs:
        raise ModelFormatError(f"{where} is empty: a model has an encoder, a decoder, or both")
    return graphs


def _source_size(encoder: Graph) -> int:
    return encoder.inputs["tokens"].size if "tokens" in encoder.inputs else 1


def _has_sequence(graphs: Mapping[str, Graph]) -> bool:
    inputs = graphs.get("encoder", Graph()).inputs
    return any(
        type_.kind in ("ids", "sequence") and name not in BUILT_IN["encoder"]
        for name, type_ in inputs.items()
    )


def _needs_positions(graph: Graph) -> Iterator[str]:
    """What in a graph has no meaning without a source length."""
    yield from (name for name in graph.inputs if name in ("source_length", "position"))
    for name, state in graph.states.items():
        if state.type.kind == "sequence":
            yield f"state {name!r} ({state.type})"
    yield from (f"node {n.name!r} (to_positions)" for n in graph.nodes if n.op == "to_positions")


def _check_tensors_used(graphs: Mapping[str, Graph], tensors: Mapping[str, Any]) -> None:
    used = {
        tensor
        for graph in graphs.values()
        for node in graph.all_nodes()
        for tensor in node.weights.values()
    }
    unused = sorted(set(tensors) - used)
    if unused:
        raise ModelFormatError(f"tensor {unused[0]!r} is named by no node ({len(unused)} such)")


def _vocabularies(
    value: object, graphs: Mapping[str, Graph], types: Mapping[str, Types]
) -> dict[str, tuple[str, ...]]:
    sizes = {
        name: type_.size
        for name, type_ in graphs.get("encoder", Graph()).inputs.items()
        if type_.kind == "ids"
    }
    if "decoder" in graphs:
        sizes["target"] = graphs["decoder"].inputs["token"].size
    else:
        outputs = graphs["encoder"].outputs
        if "logits" in outputs:
            sizes["target"] = types["encoder"][outputs["logits"]].size
    vocabularies: dict[str, tuple[str, ...]] = {}
    for name, words in named(value, "vocabularies").items():
        where = f"vocabulary {name!r}"
        if name not in sizes:
            raise ModelFormatError(f"{where} belongs to no input; there are {', '.join(sizes)}")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ModelFormatError(f"{where} must be a list of strings")
        for number, word in enumerate(words):
            if any("\ud800" <= letter <= "\udfff" for letter in word):
                raise ModelFormatError(f"{where}, string {number} is {word!r}: no valid Unicode")
        if len(words) != sizes[name]:
            raise ModelFormatError(f"{where} has {len(words)} strings, must have {sizes[name]}")
        vocabularies[name] = tuple(words)
    return vocabularies


def _generation(value: object) -> dict[str, Any]:
    from .options import DecodeOptions

    options = named(value, "generation")
    try:
        DecodeOptions(**options)
    except TypeError as error:
        raise ModelFormatError(f"generation: {error}") from None
    except ValueError as error:
        raise ModelFormatError(f"generation: {error}") from None
    return options


def _self_test(
    value: object,
    token: int,
    size: int,
    inputs: Mapping[str, ValueType],
    *,
    may_be_empty: bool,
) -> SelfTest | None:
    if value is None:
        return None
    fields = closed(value, {"source", "target", "log_probs", "tolerance"}, "self_test")
    numbers = fields["log_probs"]
    if not (fields["source"] or may_be_empty) or not numbers:
        raise ModelFormatError("self_test: source and log_probs must not be empty")
    tolerance = fields["tolerance"]
    if not isinstance(numbers, list) or not all(_finite(number) for number in numbers):
        raise ModelFormatError("self_test: log_probs must be a list of finite numbers")
    if not _finite(tolerance) or tolerance < 0:
        raise ModelFormatError(f"self_test: tolerance is {tolerance!r}, must be at least 0")
    source = fields["source"]
    return SelfTest(
        source=_named_source(source, inputs)
        if isinstance(source, dict)
        else ids(source, size, "self_test: source"),
        target=ids(fields["target"], token, "self_test: target"),
        log_probs=tuple(float(number) for number in numbers),
        tolerance=float(tolerance),
    )


def _named_source(source: dict[str, Any], inputs: Mapping[str, ValueType]) -> dict[str, Any]:
    """Prepared values by input name: ids, an id, numbers (D), or numbers (S, D)."""
    declared = {n: type_ for n, type_ in inputs.items() if n not in BUILT_IN["encoder"]}
    if source.keys() != declared.keys():
        raise ModelFormatError(
            f"self_test: source names {sorted(source)}, must name the inputs {sorted(declared)}"
        )
    found: dict[str, Any] = {}
    for name, type_ in declared.items():
        where, value = f"self_test: source {name!r}", source[name]
        if type_.kind == "id":
            found[name] = integer(value, 0, type_.size - 1, where)
        elif type_.kind == "ids":
            found[name] = list(ids(value, type_.size, where))
        else:
            rows = [value] if type_.kind == "vector" else value
            if not isinstance(rows, list) or not all(
                isinstance(row, list) and len(row) == type_.size and all(map(_finite, row))
                for row in rows
            ):
                raise ModelFormatError(f"{where} must be finite numbers for a {type_}")
            found[name] = value
    return found


def _finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def _provenance(value: object) -> dict[str, Any]:
    fields = named(value, "provenance")
    for name, item in fields.items():
        if not isinstance(item, str) and not _finite(item):
            raise ModelFormatError(f"provenance, {name} is {item!r}, must be text or a number")
    return fields
