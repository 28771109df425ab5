"""Other programs' checkpoints made into models: `read` opens a source, an `Importer` per toolkit
translates it, `verification` holds the result against the program itself. Nothing here executes
what a file says.
"""

from __future__ import annotations

from .importer import Importer, Option
from .loading import import_model
from .registry import IMPORTERS, importer

__all__ = ["IMPORTERS", "Importer", "Option", "import_model", "importer"]
