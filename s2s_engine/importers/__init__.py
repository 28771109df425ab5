"""Other programs' checkpoints made into models: `read` opens a source, an `Importer` per toolkit
translates it, `verification` holds the result against the program itself. Nothing here executes
what a file says.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from . import keras, pytorch
from .checkpoint import Foreign, read
from .importer import Importer, Option
from .loading import import_model
from .mapping import map_model
from .registry import IMPORTERS, importer

__all__ = [
    "IMPORTERS", "Importer", "Option", "arrays_of", "import_model", "importer", "keras",
    "map_model", "pytorch",
]  # fmt: skip


def arrays_of(source: Foreign) -> dict[str, NDArray[Any]]:
    """Every array of a checkpoint of any format by its dotted name, for a wiring of one's own.

    Raises ModelFormatError for what is wrong in a file; nothing in it is executed.
    """
    return read(source).arrays
