"""A foreign checkpoint to a model: opened, recognised, built, and given its origin and a self-test.
Knows the order of these steps; never a format or a toolkit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelFormatError
from ..model import Model
from ..self_test import attach
from .checkpoint import Checkpoint, Foreign, read
from .importer import Importer, Options, Peer
from .registry import importer, recognised


@dataclass(frozen=True)
class Imported:
    """A model and what it was made from."""

    model: Model
    importer: Importer
    checkpoint: Checkpoint
    options: Options

    def peer(self) -> Peer:
        """The program that the checkpoint is from; ImportError where it is not installed."""
        if self.importer.peer is None:
            raise InputError(f"importer {self.importer.name} has no program to run beside a model")
        return self.importer.peer(self.checkpoint, self.options)


def import_model(source: Foreign, importer: str | None = None, **options: Any) -> Model:
    """The model of a foreign checkpoint.

    source: a path (a file or a folder), bytes, arrays by name, or the paths of an encoder and a
    decoder. importer: its name, where the checkpoint does not tell. options: the importer's own,
    and source_vocabulary and target_vocabulary (a list of strings, or a file).
    Raises ModelFormatError for what is wrong in a file, InputError for options.
    """
    return open_foreign(source, importer, options).model


def open_foreign(
    source: Foreign, name: str | None, options: Mapping[str, Any], *, as_text: bool = False
) -> Imported:
    """As `import_model`; the checkpoint is kept, for verification. as_text: the options are those
    of a command line."""
    checkpoint = read(source)
    chosen = recognised(checkpoint) if name is None else importer(name)
    given = Options(chosen, options, checkpoint.where, as_text=as_text)
    try:
        model = chosen.build(checkpoint, given)
    except KeyError as error:
        raise checkpoint.refuse(
            f"is no checkpoint of {chosen.title} as importer {chosen.name} knows it: "
            f"{error.args[0] if error.args else error}"
        ) from None
    except InputError:
        raise
    except ModelFormatError as error:
        if str(error).startswith(checkpoint.where):
            raise
        raise checkpoint.refuse(str(error)) from None
    return Imported(_described(model, chosen, checkpoint), chosen, checkpoint, given)


def _described(model: Model, chosen: Importer, checkpoint: Checkpoint) -> Model:
    """The model with where it is from and, where one can be made, a self-test."""
    origin = {"importer": chosen.name, "format": checkpoint.format}
    for role, part in checkpoint.parts.items() or {"source": checkpoint}.items():
        if part.path is not None:
            origin[role] = part.path.name
            if part.path.is_file():
                origin[f"{role}_sha256"] = _sha256(part.path)
    return with_self_test(replace(model, provenance={**model.provenance, **origin}))


def with_self_test(model: Model) -> Model:
    """The model with a self-test, where it has none and gives logits."""
    gives = [name for graph in model.graphs.values() for name in graph.outputs]
    scored = "decoder" in model.graphs or "logits" in gives
    return attach(model) if model.self_test is None and scored else model


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
