"""How many threads a call asks for: the argument `threads`, and OMP_NUM_THREADS behind "auto".
Knows numbers and words; never what threads do."""

from __future__ import annotations

import os
from collections.abc import Mapping

from . import _core
from .errors import InputError

MAX_THREADS = 1024


def wanted(threads: object) -> int:
    """The number that `threads` stands for: itself, or "auto" (see `automatic`).

    Raises InputError for anything but an integer from 1 to MAX_THREADS or "auto".
    """
    if isinstance(threads, str) and threads == "auto":
        return automatic(os.environ, _core.usable_cpus())
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise InputError(f"threads is {threads!r}, must be an integer or 'auto'")
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads is {threads}, must be 1 to {MAX_THREADS}")
    return threads


def automatic(environment: Mapping[str, str], cpus: int) -> int:
    """The first number of OMP_NUM_THREADS, else `cpus`; never more than `cpus`."""
    first = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    valid = first.isascii() and first.isdecimal() and len(first) < 10
    return min((int(first) if valid else 0) or cpus, cpus, MAX_THREADS)
