"""Weights that remember which of them were taken, so that none is ignored in silence. Knows names;
never equations."""

from __future__ import annotations

from typing import Any

from .checkpoint import Array


class Used(dict[str, Array]):
    """Arrays by name. `left` are those that nobody has read."""

    def __init__(self, arrays: Any) -> None:
        super().__init__(arrays)
        self._taken: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        self._taken.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._taken.add(name)
        return super().get(name, default)

    @property
    def left(self) -> list[str]:
        return sorted(self.keys() - self._taken)
