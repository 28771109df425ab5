"""What every importer's test does: a checkpoint is recognised, built and held against the program
it is from; and the same model with one thing wrong is not. Knows no toolkit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from damage import KINDS, damaged
from numpy.typing import NDArray

from s2s_engine.importers.checkpoint import Foreign
from s2s_engine.importers.importer import Peer
from s2s_engine.importers.loading import Imported, open_foreign
from s2s_engine.importers.verification import verify


def check(
    source: Foreign,
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    peer: Peer | None = None,
    recognised: bool = True,
    without: Collection[str] = (),
    **runs: Any,
) -> Imported:
    """Imports by fingerprint, verifies, and verifies that every damage is seen.

    peer: instead of the importer's own. recognised: the importer is not named. without: kinds of
    damage that this model has no place for. runs: sources and targets for `verify`.
    """
    imported = open_foreign(source, None if recognised else name, dict(options or {}))
    assert imported.importer.name == name
    peer = imported.peer() if peer is None else peer
    found = verify(imported.model, peer, **runs)
    assert found.passed, str(found)
    for kind in KINDS:
        models = list(damaged(imported.model, kind))
        assert bool(models) is (kind not in without), f"{kind}: {len(models)} places"
        for what, model in models:
            assert not verify(model, peer, **runs).passed, f"not seen: {what}"
    return imported


@dataclass(frozen=True)
class Recorded:
    """A program's values as a fixture holds them: arrays `<case>/<name>`, with `<case>/in/<input>`
    and `<case>/target`. A peer for the recorded inputs alone."""

    framework: str
    arrays: Mapping[str, NDArray[Any]]

    @property
    def cases(self) -> list[str]:
        return sorted({name.split("/")[0] for name in self.arrays if "/" in name})

    def inputs(self, case: str) -> dict[str, Any]:
        prefix = f"{case}/in/"
        found = {n[len(prefix) :]: a for n, a in self.arrays.items() if n.startswith(prefix)}
        return {n: a.tolist() if a.dtype.kind in "iu" else a for n, a in found.items()}

    def target(self, case: str) -> list[int]:
        ids: list[int] = self.arrays[f"{case}/target"].tolist()
        return ids

    @property
    def runs(self) -> dict[str, Any]:
        """Sources and targets for `verify`."""
        return {
            "sources": [self.inputs(case) for case in self.cases],
            "targets": [self.target(case) for case in self.cases],
        }

    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> dict[str, NDArray[Any]]:
        for case in self.cases:
            same = self.inputs(case)
            if self.target(case) == list(target) and all(
                np.array_equal(same[name], inputs[name]) for name in same
            ):
                prefix = f"{case}/"
                return {
                    name[len(prefix) :]: array
                    for name, array in self.arrays.items()
                    if name.startswith((f"{case}/encoder.", f"{case}/decoder."))
                }
        raise AssertionError("these inputs were not recorded")
