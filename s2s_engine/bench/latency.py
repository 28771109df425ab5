"""Latencies of words that come at a steady rate, by the door that decodes them: what is kept of
them, its file, its section of a report. Knows nanoseconds; `benchmarks/door.py` measures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pieces, svg
from .compare import Incomparable, difference

SCHEMA = "latency 1"
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
KINDS = ("predicted", "measured")  # colours, in the order of doors
WHAT = (
    "A latency begins when a word is due, whether the word before is done or not, so that a delay "
    "counts for every word that it delays."
)


def of_door(spent: NDArray[np.int64]) -> dict[str, Any]:
    """Of nanoseconds by word: microseconds at each percentile; tail: [n, microseconds], which one
    word in n exceeds."""
    parts = [m * 10**power for power in range(10) for m in (1, 2, 5)]
    parts = [n for n in parts if 2 <= n <= max(2, len(spent))]
    tail = np.percentile(spent, [100 - 100 / n for n in parts]) / 1e3
    figures = np.percentile(spent, list(PERCENTILES.values())) / 1e3
    return {
        "words": len(spent),
        "us": dict(zip(PERCENTILES, figures.tolist(), strict=True)),
        "tail": [[n, us] for n, us in zip(parts, tail.tolist(), strict=True)],
    }


def waits(door: Mapping[str, Any], rate: float) -> bool:
    """Whether half of the words wait for others: the rate is too high for the machine."""
    return bool(door["us"]["p50"] * rate > 1e6)


def read(path: str | Path, machine: Mapping[str, Any]) -> dict[str, Any]:
    """The file of `benchmarks.door --json`. Raises Incomparable where it is none, or of another
    machine than the given one."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        raise Incomparable(f"{path} is no JSON") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise Incomparable(
            f"{path} has schema {schema!r}, must be {SCHEMA!r}: measure again with "
            "python -m benchmarks.door --jitter --json"
        )
    other = difference(found["machine"], machine)
    if other is not None:
        raise Incomparable(
            f"{path}: {other}: latencies of another machine do not belong in this report"
        )
    return dict(found)


# --- as text ---


def _head(found: Mapping[str, Any]) -> str:
    return f"{found['what']}, {found['rate']:,.0f} words a second; busy beside it: {found['busy']}"


def _notes(found: Mapping[str, Any]) -> list[str]:
    late = [name for name, door in found["doors"].items() if waits(door, found["rate"])]
    notes = [
        f"{name}: half of the words wait for others: the rate is too high for this machine"
        for name in late
    ]
    if found["interrupted"]:
        notes.append(f"Interrupted: {found['words']:,} words were asked for")
    return notes


def text(found: Mapping[str, Any]) -> str:
    lines = [
        f"latency of a word: {_head(found)}",
        f"{'':12}{'words':>12}" + "".join(f"{name + ' us':>12}" for name in PERCENTILES),
    ]
    for name, door in found["doors"].items():
        figures = "".join(f"{us:12.1f}" for us in door["us"].values())
        lines.append(f"{name:12}{door['words']:12,}{figures}")
    return "\n".join([*lines, *_notes(found)])


def section(found: Mapping[str, Any]) -> str:
    """Of a page."""
    series = [
        svg.Series(name, [(n, us) for n, us in door["tail"]], kind)
        for (name, door), kind in zip(found["doors"].items(), KINDS, strict=False)
    ]
    plot = svg.lines("Latency of a word", series, x="one word in so many takes longer", y="us")
    rows = [
        [name, f"{door['words']:,}", *map(pieces.time, door["us"].values())]
        for name, door in found["doors"].items()
    ]
    notes = "".join(f"<p class=noisy>{escape(note)}.</p>" for note in _notes(found))
    return (
        f"<h2>Latency at a steady rate</h2><p>{escape(_head(found))}; {escape(found['date'])}. "
        f"{escape(WHAT)}</p>{notes}"
        + pieces.figure(plot, "By the door through which words are decoded.")
        + pieces.table(["", "words", *PERCENTILES], rows)
    )


def page(found: Mapping[str, Any]) -> str:
    """The section by itself."""
    machine = found["machine"]
    return pieces.document(
        "Latencies of s2s_engine",
        f"<h1>Latencies of s2s_engine</h1><p><b>{escape(machine['cpu'])}</b>, {machine['cpus']} "
        f"CPUs, instruction set {escape(machine['isa'])}.</p>{section(found)}",
    )
