"""Every importer by name, and which of them a checkpoint is for. Knows names and modules; an
importer's module is loaded when it is first needed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ..errors import InputError
from . import toolkits
from .checkpoint import Checkpoint
from .importer import Importer

# Module `toolkits.<name>` holds `IMPORTER`; nothing else is in that folder.
IMPORTERS = tuple(sorted(module.name for module in iter_modules(toolkits.__path__)))
MAX_SHOWN = 12


@cache
def importer(name: str) -> Importer:
    """The importer of this name."""
    if name not in IMPORTERS:
        raise InputError(f"there is no importer {name!r}; importers are {', '.join(IMPORTERS)}")
    found: Importer = import_module(f".toolkits.{name}", __package__).IMPORTER
    return found


def recognised(checkpoint: Checkpoint) -> Importer:
    """The one importer that a checkpoint is for."""
    found = [one for one in map(importer, IMPORTERS) if one.recognises(checkpoint)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{checkpoint.where}: may be of {' or '.join(one.name for one in found)}: say "
            "importer='...'"
        )
    raise checkpoint.refuse(
        f"no importer knows these weights ({_outline(checkpoint)}). Say importer='...' (one of "
        f"{', '.join(IMPORTERS)}), or wire the model yourself: s2s-engine convert --map, or "
        "ModelBuilder"
    )


def _outline(checkpoint: Checkpoint) -> str:
    names = list(checkpoint.arrays)
    if not names:
        return f"{checkpoint.format} without arrays"
    shown = ", ".join(name[:80] for name in names[:MAX_SHOWN])
    return f"{checkpoint.format}: {shown}{', ...' if len(names) > MAX_SHOWN else ''}"
