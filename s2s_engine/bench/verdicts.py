"""What was measured beside the goals that were set. Knows reports and goals; never measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import goals
from .profile import most_left

HEAD = (
    "workload", "threads", "weights", "times as fast as", "measured (quartiles)", "floor", "goal",
    "verdict", "limit / time", "most of what is left",
)  # fmt: skip
LOADING = ("loading", "weights", "ms", "goal", "MB taken", "over the weights", "goal")


def verdict(ratio: float, goal: float, floor: float | None) -> str:
    if ratio >= goal:
        return "goal reached"
    if floor is None:
        return "below the goal"
    return "below the floor" if ratio < floor else "between floor and goal"


def table(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every goal for the numbers of threads that were measured, the ratio None where it was not;
    nothing where none was."""
    by_key = {(result["key"], result["threads"]): result for result in results}
    threads = sorted({count for _, count in by_key if count <= 2})
    found = [
        _row(by_key.get((key, count)), key, count, type_, rival)
        for key in goals.GOALS
        for count in threads
        for type_, rival in goals.COMPARED
    ]
    return found if any(row["ratio"] is not None for row in found) else []


def _row(
    result: Mapping[str, Any] | None, key: str, threads: int, type_: str, rival: str
) -> dict[str, Any]:
    goal, floor = goals.goal(key, type_, rival, threads), goals.floor(key, type_, rival, threads)
    name = f"s2s_engine {type_}"
    found: dict[str, Any] = {
        "key": key, "threads": threads, "type": type_, "rival": rival, "peer": None,
        "goal": goal, "floor": floor, "ratio": None, "quartiles": None, "quiet": None,
        "verdict": "not measured", "share": None, "left": "",
    }  # fmt: skip
    against = [] if result is None else result["against"].get(name, [])
    one = next((r for r in against if r["rival"] == rival), None)
    if result is None or one is None or goal is None:
        return found
    row = next(row for row in result["rows"] if row["name"] == name)
    return found | {
        "peer": one["name"],
        "ratio": one["ratio"],
        "quartiles": one["quartiles"],
        "quiet": result["quiet"],
        "verdict": verdict(one["ratio"], goal, floor),
        "share": None if row["limit_us"] is None else row["limit_us"] / row["p50_us"],
        "left": most_left(row["profile"]),
    }


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row under HEAD."""
    measured = "-"
    if row["ratio"] is not None:
        measured = "{:.2f} ({:.2f}-{:.2f})".format(row["ratio"], *row["quartiles"])
    peer = "" if row["peer"] is None else f": {row['peer']}"
    noisy = " (noisy)" if row["quiet"] is False else ""
    return [
        row["key"],
        str(row["threads"]),
        row["type"],
        row["rival"] + peer,
        measured,
        "-" if row["floor"] is None else f"{row['floor']:g}",
        f"{row['goal']:g}",
        row["verdict"] + noisy,
        "-" if row["share"] is None else f"{row['share']:.0%}",
        row["left"].removeprefix("most of what is left: ") or "-",
    ]


def loaded(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows under LOADING: by workload and compute type, what a load took."""
    return [
        [name, type_, f"{one['load_ms']:.1f}", _load(goals.LOAD_MS.get(name), one), *_memory(one)]
        for name, types in found.items()
        for type_, one in types.items()
    ]


def _load(goal: float | None, one: Mapping[str, Any]) -> str:
    return "-" if goal is None else f"below {goal:g}: {_reached(one['load_ms'] < goal)}"


def _memory(one: Mapping[str, Any]) -> list[str]:
    if one["resident_bytes"] is None:
        return ["-", "-", "-"]
    over = one["resident_bytes"] / one["weight_bytes"]
    goal = f"at most {goals.MEMORY:g}: {_reached(over <= goals.MEMORY)}"
    return [f"{one['resident_bytes'] / 1e6:.1f}", f"{over:.2f}", goal]


def _reached(good: bool) -> str:
    return "reached" if good else "not reached"
