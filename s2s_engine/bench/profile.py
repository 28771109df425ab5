"""Where the time of a decode goes, node by node, beside what the machine could do it in. Knows the
core's own clock and the work of nodes; never what else was timed, nor how a node runs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import Engine
from .workloads import Workload

ROUNDS, FEWEST, SECONDS = 48, 5, 6.0
LONG = 0.05  # seconds of a decode beside which the caches before it are nothing
# What a decode does beside its nodes, as the core names it, and all that is not the core's.
PARTS = ("begin", "states", "rank", "search")
SIDE_BY_SIDE = " + "  # between the names of nodes that threads may run at once
OUTSIDE, OTHERS = "outside the core", "outside the core, and other threads"
Clock = time.perf_counter

Limits = Mapping[tuple[str, str], float | None]


def measured(
    workload: Workload, engine: Engine, turn: Callable[[int], object], limits: Limits | None
) -> dict[str, Any] | None:
    """Medians over some tens of decodes; None for a model that takes more than ids of tokens.

    turn: decodes through the engine; the core's share is taken off pair by pair. Of a batch on
    several threads the core's part is one thread's sentences, decoded alone, and the limits must be
    theirs. limits: seconds by node (`cost.node_limits`), or None where the machine's are unknown.
    """
    if engine._core.inputs != ["tokens"]:
        return None
    size = 1 if workload.batch == 1 else -(-workload.batch // engine.info.threads)
    threads = engine.info.threads if workload.batch == 1 else 1
    ready = engine._calls.ready(None, {"beam_size": workload.beam, **workload.options})
    assert ready.request is not None
    taken, decodes = list[dict[str, Any]](), list[float]()
    until = time.monotonic() + SECONDS
    gc.collect()
    gc.disable()
    try:
        for number in range(-2, ROUNDS):
            if number >= FEWEST and time.monotonic() > until:
                break
            at = number % workload.turns
            sources = workload.sources[at * workload.batch :][:size]
            lengths = [engine._model.limit(ready.options, len(source)) for source in sources]
            # What one of the two leaves in the caches is for neither's account.
            for _ in range(1 if decodes and decodes[-1] >= LONG else 2):
                begin = Clock()
                turn(at)
                decode = Clock() - begin
            for _ in range(1 if decodes and decodes[-1] >= LONG else 2):
                session = engine._session(threads)
                found = session.profile([[source] for source in sources], ready.request, lengths)
                engine._give(session)
            if number >= 0:
                taken.append(found)
                decodes.append(decode)
    finally:
        gc.enable()
    return summary(taken, decodes, limits, OUTSIDE if size == workload.batch else OTHERS)


def summary(
    taken: Sequence[Mapping[str, Any]],
    decodes: Sequence[float],
    limits: Limits | None,
    rest: str = OUTSIDE,
) -> dict[str, Any]:
    """Of profiles as the core gives them and the seconds of decodes beside them; rest: what those
    are above these. Nodes are in the order of their time above their limit, or of their time where
    that is not known."""
    names = [(name, when) for name, when, _ in taken[0]["nodes"]]
    times = np.array(
        [[*(node[2] for node in one["nodes"]), *(one[p] for p in PARTS)] for one in taken]
    )
    outside = np.array(decodes) - times.sum(1)
    medians = np.median(np.column_stack([times, outside]), 0) * 1e6
    whole = float(np.median(decodes)) * 1e6
    nodes = []
    for (name, when), us in zip(
        [*names, *((part, "") for part in (*PARTS, rest))], medians.tolist(), strict=True
    ):
        least = None if limits is None else least_of(name, when or "step", limits)
        limit = None if least is None else least * 1e6
        nodes.append(
            {
                "node": name,
                "when": when,
                "us": us,
                "share": us / whole,
                "limit_us": limit,
                "above_us": None if limit is None else us - limit,
            }
        )
    nodes.sort(key=left_of, reverse=True)
    clock = float(np.median([one["clock"] for one in taken])) * 1e9
    return {"decodes": len(taken), "decode_us": whole, "clock_ns": clock, "nodes": nodes}


def least_of(name: str, when: str, limits: Limits) -> float | None:
    """Seconds that the machine takes for a node, or for nodes that run side by side."""
    known = [limits.get((node, when), 0.0) for node in name.split(SIDE_BY_SIDE)]
    return sum(one for one in known if one is not None) if None not in known else None


def left_of(node: Mapping[str, Any]) -> float:
    """Microseconds above the limit, or all of them where that is not known."""
    return float(node["us"] if node["above_us"] is None else node["above_us"])


def label(node: Mapping[str, Any]) -> str:
    """The decoder's nodes run at each step, but for what is made once a sentence."""
    once = node["when"] == "sentence" and node["node"].startswith("decoder")
    return f"{node['node']} (once a sentence)" if once else str(node["node"])


def most_left(profile: Mapping[str, Any] | None, count: int = 2) -> str:
    """The first nodes of a profile in words; empty without one."""
    if profile is None:
        return ""
    first = profile["nodes"][:count]
    known = any(node["above_us"] is not None for node in first)
    parts = ", ".join(
        f"{label(node)} ({left_of(node):.1f} us"
        + (")" if node["above_us"] is None else " above its limit)")
        for node in first
    )
    if known:
        return f"most of what is left: {parts}"
    return f"most of the time: {parts}; how much of it must be is not known"
