"""Exact search in plain Python, as a specification: the depth-first search of Stahlberg and Byrne
2019, "On NMT search errors and model errors", algorithm 1. Knows log-probabilities and tokens;
never beams, graphs or weights."""

from __future__ import annotations

from typing import Any

from .errors import InputError
from .reference_search import Path, Task, best_of, choices_of


def exact_search(task: Task, state: Any, max_nodes: int) -> list[Path]:
    """The `task.wanted` paths with the largest log-probabilities, best first.

    Nothing that is worse than what has been found can get better: a log-probability only falls.
    """
    found: list[Path] = []
    nodes = 0

    def visit(path: Path, length: int) -> None:
        nonlocal found, nodes
        nodes += 1
        if nodes > max_nodes:
            raise InputError(
                f"the exact search has no proof within {max_nodes} nodes; raise max_nodes, or "
                "lower max_length"
            )
        for choice in choices_of(task, path, length):
            if len(found) == task.wanted and choice.log_prob <= found[-1].log_prob:
                return
            if choice.reason == "eos" or length == task.max_length:
                found = best_of([*found, choice], task.wanted)
            else:
                visit(choice, length + 1)

    visit(Path((), (), 0.0, 0.0, (), state), 1)
    return found
