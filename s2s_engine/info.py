"""`Info`: what an engine is made of. Knows models and what the core has made of them; never
options, nor how anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import _core
from .graph import Graph
from .model import Model


@dataclass(frozen=True)
class Info:
    """What an engine is made of.

    threads: the most that a call works on. parameters: numbers among the weights.
    compute_types: the type each weight is computed in. folded: by graph and node, the inputs that
    no step multiplies (docs/architecture.md, Folding). screened: the weight of an output layer that
    greedy decodes screen in int8, and the bytes that this takes beside it. screening: of the
    sessions that exist now, steps that were screened, those that took all outputs in float32 after
    all, and panels of 32 outputs that float32 decided among.
    source_vocabularies: ids by input name. workspace_bytes: of the sessions that exist now.
    """

    isa: str
    reference_speed: bool
    threads: int
    format: int
    digest: str
    parameters: int
    compute_types: dict[str, str]
    folded: dict[str, list[str]]
    screened: dict[str, int]
    screening: dict[str, int]
    source_vocabularies: dict[str, int]
    target_vocabulary: int | None
    vocabularies: Mapping[str, tuple[str, ...]]
    generation: Mapping[str, Any]
    provenance: Mapping[str, Any]
    workspace_bytes: int


def info_of(
    model: Model,
    core: _core.Model,
    sessions: Sequence[_core.Session],
    threads: int,
    digest: str,
    parameters: int,
) -> Info:
    """sessions: those that exist now, at least one."""
    isa = sessions[0].isa
    decoder = model.graphs.get("decoder")
    screened = ("steps", "fallbacks", "panels")
    return Info(
        isa=isa,
        reference_speed=isa == "portable",
        threads=threads,
        format=1,
        digest=digest,
        parameters=parameters,
        compute_types=core.compute_types,
        folded=core.folded,
        screened=core.screened,
        screening={
            name: sum(session.screened[n] for session in sessions)
            for n, name in enumerate(screened)
        },
        source_vocabularies={
            name: type_.size
            for name, type_ in model.graphs.get("encoder", Graph()).inputs.items()
            if type_.kind in ("id", "ids")
        },
        target_vocabulary=None if decoder is None else decoder.inputs["token"].size,
        vocabularies=model.vocabularies,
        generation=model.generation,
        provenance=model.provenance,
        workspace_bytes=sum(session.workspace_bytes for session in sessions),
    )
