"""The command `convert`: a checkpoint, or arrays with a map, to a model file, and a line for each
thing done. Knows importers, verification and files; never formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .errors import InputError, ModelFormatError
from .format import write
from .importers.checkpoint import Foreign
from .importers.loading import open_foreign, with_self_test
from .importers.mapping import map_model
from .importers.verification import record, verify
from .model import Model


def by_importer(
    source: Foreign,
    importer: str | None,
    options: Mapping[str, str],
    output: str,
    storage: str,
    verified: bool,
) -> int:
    """Writes the model of a checkpoint, verified beside its framework if that is wanted. The
    file is written only if verification passes."""
    imported = open_foreign(source, importer, options, as_text=True)
    model = imported.model
    print(f"importer  {imported.importer.name}: {imported.importer.title}")
    if verified:
        try:
            found = verify(model, imported.peer())
        except ImportError as error:
            raise InputError(
                f"--verify runs the network of {imported.importer.title} in its own framework, "
                f"which needs {error.name or 'a package'}: {error}"
            ) from None
        if not found.passed:
            raise ModelFormatError(f"{imported.checkpoint.where}: {found}; nothing was written")
        print(f"verified  {found}")
        model = record(model, found)
    return _written(model, output, storage)


def by_map(source: Foreign, map_file: str, output: str, storage: str) -> int:
    """Writes the model that a map makes of arrays."""
    model = map_model(source, map_file)
    print(f"map       {Path(map_file).name}")
    return _written(with_self_test(model), output, storage)


def _written(model: Model, output: str, storage: str) -> int:
    write(model, output, storage)
    test = "with a self-test" if model.self_test else "without a self-test (it gives no logits)"
    print(f"written   {output}: {Path(output).stat().st_size} bytes, {storage}, {test}")
    return 0
