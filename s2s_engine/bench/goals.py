"""What the engine wants to reach: times as fast as others on the same workload and threads, in one
interleaved run, and what it may take to load. Knows numbers that were set in advance; never what
was measured."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[float, float]  # with one thread, with two
EAGER, FLOAT32, ANY = "PyTorch eager", "the fastest float32 peer", "the fastest peer"
# Compute types of the engine, and whom each is held against.
COMPARED = (("int8", ANY), ("float32", FLOAT32), ("int8", EAGER))


@dataclass(frozen=True)
class Goal:
    """int8: int8 beside the fastest peer of any precision; float32: float32 beside the fastest
    float32 peer; eager: int8 beside PyTorch eager."""

    int8: Pair
    float32: Pair
    eager: Pair


GOALS = {
    "w1, greedy": Goal((9, 12), (2.6, 3.3), (35, 50)),
    "w2, greedy": Goal((4.5, 8), (1.9, 2.5), (24, 24)),
    "w2, beam 5": Goal((3.5, 6), (1.7, 2.3), (23, 23)),
    "w3, greedy": Goal((2, 2.4), (1.4, 1.2), (26, 52)),
    "w3, beam 5": Goal((2.6, 3.4), (1.7, 1.5), (30, 52)),
    "w3, batch 32, beam 5": Goal((1.4, 1.75), (1.15, 1.25), (7, 7)),
    "w4, greedy": Goal((2.4, 2.2), (1.35, 1.0), (20, 34)),
    "w4, beam 5": Goal((3.2, 4.5), (1.7, 1.3), (26, 46)),
}

# Resident bytes over those of the weights in the types that they are computed in, at most.
MEMORY = 1.3
# Milliseconds of a load, fewer than these, by workload.
LOAD_MS = {"w1": 5.0, "w3": 1000.0}

# What a prototype reached before there was an engine: less is a defect.
FLOORS: dict[str, dict[tuple[str, str], Pair]] = {
    "w1, greedy": {("int8", ANY): (8, 9), ("float32", FLOAT32): (2.4, 3)},
    "w3, greedy": {("int8", ANY): (1.5, 1.9), ("float32", FLOAT32): (1.25, 1.1)},
    "w3, beam 5": {("int8", ANY): (2.1, 2.6)},
}


def goal(key: str, compute_type: str, rival: str, threads: int) -> float | None:
    """The ratio to reach, or None where none was set."""
    found = GOALS.get(key)
    if found is None or threads > 2:
        return None
    pairs = dict(zip(COMPARED, (found.int8, found.float32, found.eager), strict=True))
    pair = pairs.get((compute_type, rival))
    return None if pair is None else pair[threads - 1]


def floor(key: str, compute_type: str, rival: str, threads: int) -> float | None:
    """The ratio that the engine must not fall below, or None where none was set."""
    pair = FLOORS.get(key, {}).get((compute_type, rival))
    return None if pair is None or threads > 2 else pair[threads - 1]
