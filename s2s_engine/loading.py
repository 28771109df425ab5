"""What `Engine.load` takes, to a model: a file of this engine, its bytes, a `Model`, or another
program's checkpoint. Knows which of them a source is; never what is in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

from .format import from_bytes_with_digest, read_with_digest
from .magic import format_of, is_foreign
from .model import Model

Path_: TypeAlias = "str | os.PathLike[str]"
Source: TypeAlias = "Path_ | bytes | Model | Mapping[str, NDArray[Any]] | Sequence[Path_]"


class Opened(NamedTuple):
    """A model, the digest of its file, and what to load again from (None: the model itself)."""

    model: Model
    digest: str = ""
    origin: str | bytes | None = None


def opened(source: Source, importer: str | None, options: Mapping[str, Any]) -> Opened:
    """The model of a source. ModelFormatError, FileNotFoundError, InputError."""
    if isinstance(source, Model):
        return Opened(source)
    if importer is None and not options:
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            if format_of(data) in ("model", ""):
                return Opened(*from_bytes_with_digest(data), data)
        elif isinstance(source, (str, os.PathLike)) and not is_foreign(source):
            return Opened(*read_with_digest(source), str(Path(source).resolve()))
    from .importers import import_model

    return Opened(import_model(source, importer, **options))
