"""A progress bar on the standard error, by rich. Knows how many there are; never what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def tracked(items: Iterable[T], total: int) -> Iterator[T]:
    """The same items, counted on a bar. ImportError where rich is missing."""
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        raise ImportError(
            "show_progress needs rich, which is not installed: pip install rich"
        ) from None
    console = Console(stderr=True)
    return iter(track(items, "decoding", total=total, console=console))
