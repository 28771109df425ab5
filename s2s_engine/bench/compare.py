"""Two reports beside each other: what has become slower. Knows reports; never measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What must be the same for times of two runs to be compared.
MACHINE = ("cpu", "cpus", "isa")


class Incomparable(Exception):
    """The reports have nothing to compare; the message says why."""


@dataclass(frozen=True)
class Change:
    """loss: 0.1 is ten percent slower, negative is faster."""

    key: str
    name: str
    old_us: float
    new_us: float

    @property
    def loss(self) -> float:
        return self.new_us / self.old_us - 1


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[Change], list[str]]:
    """The engine's median times that both reports have, and what was left out because a run was
    noisy. Peers are not compared: they are not ours. Raises Incomparable."""
    if old.get("schema") != new["schema"]:
        raise Incomparable(f"schema {old.get('schema')!r} is not {new['schema']!r}: measure again")
    other = difference(old["machine"], new["machine"])
    if other is not None:
        raise Incomparable(f"{other}: times of two machines are not compared")
    before, noisy = _times(old)
    after, noisy_too = _times(new)
    both = [key for key in after if key in before]
    if not both:
        raise Incomparable("no workload, search, threads and compute type is quiet in both reports")
    found = [Change(key[0], key[1], before[key], after[key]) for key in both]
    return found, sorted(noisy | noisy_too)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """What says that two runs were on two machines; None on one."""
    for name in MACHINE:
        if old[name] != new[name]:
            return f"{name} was {old[name]!r}, is {new[name]!r}"
    return None


def too_slow(found: list[Change], loss: float) -> list[Change]:
    return [change for change in found if change.loss > loss]


def parse_loss(text: str) -> float:
    """'10%' or '0.1' to 0.1. Raises ValueError."""
    number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0 <= number < 10:
        raise ValueError(text)
    return number


def _times(report: dict[str, Any]) -> tuple[dict[tuple[str, str], float], set[str]]:
    times, noisy = {}, set()
    for result in report["results"]:
        key = f"{result['key']}, threads {result['threads']}"
        if not result["quiet"]:
            noisy.add(key)
            continue
        for row in result["rows"]:
            if not row["peer"]:
                times[key, row["name"]] = row["p50_us"]
    return times, noisy
