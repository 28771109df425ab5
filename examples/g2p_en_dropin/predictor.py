"""g2p_en's `predict` by s2s_engine. Knows what the package does around its network; the network is
an importer's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s2s_engine import Engine

END = 2  # what the package puts behind the letters


class Predictor:
    """checkpoint: g2p_en's checkpoint20.npz, or its arrays by name."""

    def __init__(self, checkpoint: str | Path | Mapping[str, Any]) -> None:
        source = checkpoint if isinstance(checkpoint, Mapping) else str(checkpoint)
        self._engine = Engine.load(source, importer="g2p_en")

    def predict(self, word: str) -> list[str]:
        """The phonemes of a word; letters that are not a to z are unknown ones."""
        if not word:
            return self._engine.decode([END], prepared=True).tokens
        return self._engine.decode(list(word)).tokens
