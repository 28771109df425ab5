"""The time in which a machine could do what a decode must do at least. Knows the work of a model
(`s2s_engine/cost.py`), sizes of a decode and rates; never how the engine runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..cost import Work, works
from ..model import Model

# Multiply-adds that one exp, tanh or sigmoid is counted as: a polynomial, a scale, a division.
ACTIVATION = 16
# Steps whose logits one product makes, where the output layer is screened.
DEFERRED = 32
RANK = "rank"  # log-softmax and candidates, which are no node's


@dataclass(frozen=True)
class Stage:
    """Work done `times` times, one after the other; all numbers but `times` are of one time.

    int8_multiply_adds: those of bytes, which are not among the others.
    working_set: bytes that pass by until the same weights are read again, which says from which
    cache they come.
    """

    name: str
    times: float
    bytes: float
    multiply_adds: float
    working_set: float
    int8_multiply_adds: float = 0


@dataclass(frozen=True)
class Machine:
    """What some threads together were measured to do at best. read: GB/s by working set in bytes;
    fma: GFLOP/s, an fma being two; int8: the same of 8-bit products, or None where unknown."""

    read: Mapping[int, float]
    fma: float
    int8: float | None = None

    def bandwidth(self, working_set: float) -> float:
        """GB/s at a working set, between two measured ones on a straight line over its logarithm,
        outside of them the nearest."""
        sizes = sorted(self.read)
        rates = [self.read[size] for size in sizes]
        return float(np.interp(np.log(max(working_set, 1.0)), np.log(sizes), rates))


def seconds(stage: Stage, machine: Machine) -> float | None:
    """The roofline (Williams et al. 2009): the longer of reading and multiplying. None where bytes
    are multiplied, and how fast the machine could do that is not known."""
    if stage.int8_multiply_adds and machine.int8 is None:
        return None
    reading = stage.bytes / (machine.bandwidth(stage.working_set) * 1e9)
    multiplying = 2 * stage.multiply_adds / (machine.fma * 1e9)
    multiplying += 2 * stage.int8_multiply_adds / ((machine.int8 or machine.fma) * 1e9)
    return stage.times * max(reading, multiplying)


def limit(stages: list[Stage], machine: Machine) -> float | None:
    """Seconds that a decode takes at least; `machine`: of as many threads as share it."""
    found = [seconds(stage, machine) for stage in stages]
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def exact_in_bfloat16(model: Model) -> set[str]:
    """Tensors whose float32 weights are all exact in bfloat16, in which the engine keeps them."""
    return {
        name
        for name, array in model.tensors.items()
        if not (array.view(np.uint32) & np.uint32(0xFFFF)).any()
    }


@dataclass(frozen=True)
class Part:
    """A stage of one node, named as in a profile: `graph.node`, or RANK. deferred: made for many
    steps at once."""

    node: str
    when: Literal["sentence", "step", "deferred"]
    stage: Stage


def parts(
    model: Model,
    *,
    positions: float,
    steps: float,
    beam: int = 1,
    batch: int = 1,
    types: Mapping[str, str] | None = None,
    screened: Iterable[str] = (),
) -> list[Part]:
    """The work of decoding `batch` sentences at once, node by node. Weights are read once for all
    rows of a product. A step streams all weights, and nothing is read twice in it: that is the
    working set of all its parts.

    screened: the weight of an output layer that a greedy decode of one sentence screens. Its steps
    read a byte a weight then, and one product for 32 steps makes their logits.
    """
    shapes = {name: array.shape for name, array in model.tensors.items()}
    narrow = exact_in_bfloat16(model)
    works_ = works(model.graphs, model.types(), shapes, compute_types=types, narrow=narrow)
    found: list[Part] = []
    for role, graph in works_.items():
        for work in graph:
            rows = batch * (beam if work.when == "step" else 1)
            stage = _stage(work, positions, batch, rows)
            often = steps if work.when == "step" else 1
            stage = replace(stage, times=stage.times * often)
            found.append(Part(f"{role}.{work.node}", work.when, stage))
    ranking = RANK
    for name in screened if batch * beam == 1 else ():
        at = next(n for n, part in enumerate(found) if _multiplies(model, part, name))
        whole, size = found[at], float(np.prod(shapes[name]))
        ranking, deferred = whole.node, -(-steps // DEFERRED)
        together = Stage(name, deferred, whole.stage.bytes, size * steps / deferred, 0)
        multiply_adds = whole.stage.multiply_adds - size
        step = replace(
            whole.stage, bytes=size, multiply_adds=multiply_adds, int8_multiply_adds=size
        )
        found[at] = replace(whole, stage=step)
        found.append(Part(whole.node, "deferred", together))
    vocabulary = model.types()["decoder"][_scores(model)].size
    exponentials = batch * beam * vocabulary * ACTIVATION  # their sum, for log-softmax
    found.append(Part(ranking, "step", Stage(RANK, steps, 0, exponentials, 0)))
    return _with_working_sets(found, steps)


def _multiplies(model: Model, part: Part, weight: str) -> bool:
    role, _, name = part.node.partition(".")
    node = next(node for node in model.graphs[role].nodes if node.name == name)
    return part.when == "step" and weight in node.weights.values()


def _with_working_sets(found: list[Part], steps: float) -> list[Part]:
    step = _of_a_step(found, steps, lambda stage: stage.bytes)
    whole = step + sum(part.stage.bytes for part in found if part.when != "step")

    def working_set(part: Part) -> float:
        if part.when == "step":
            return step if steps > 1 else whole
        return part.stage.bytes if part.stage.times > 1 else whole

    return [replace(p, stage=replace(p.stage, working_set=working_set(p))) for p in found]


def _of_a_step(found: list[Part], steps: float, of: Callable[[Stage], float]) -> float:
    return total([part.stage for part in found if part.when == "step"], of) / steps


def stages(model: Model, *, steps: float, **sizes: Any) -> list[Stage]:
    """The same, with all parts of a step in one stage, which is the last."""
    found = parts(model, steps=steps, **sizes)
    step = Stage(
        "a step of the decoder",
        steps,
        _of_a_step(found, steps, lambda stage: stage.bytes),
        _of_a_step(found, steps, lambda stage: stage.multiply_adds),
        found[-1].stage.working_set,
        _of_a_step(found, steps, lambda stage: stage.int8_multiply_adds),
    )
    return [*(part.stage for part in found if part.when != "step" and part.stage.bytes), step]


def node_limits(found: list[Part], machine: Machine) -> dict[tuple[str, str], float | None]:
    """Seconds that each node takes at least, once a sentence and in all steps; None where that is
    not known. Their sum is somewhat above `limit`: one reads while another multiplies there."""
    times: dict[tuple[str, str], float | None] = {}
    for part in found:
        key = part.node, "sentence" if part.when == "sentence" else "step"
        before, more = times.get(key, 0.0), seconds(part.stage, machine)
        times[key] = None if before is None or more is None else before + more
    return times


def _scores(model: Model) -> str:
    outputs = model.graphs["decoder"].outputs
    return outputs["logits" if "logits" in outputs else "log_probabilities"]


def _stage(work: Work, positions: float, sentences: float, rows: float) -> Stage:
    rows *= positions if work.over == "positions" else 1
    again = positions - (not work.first)
    return Stage(
        work.node,
        again if work.over == "each position" else 1,
        work.bytes + work.memory * positions * sentences,
        rows * (ACTIVATION * work.activations + (0 if work.int8 else work.multiply_adds)),
        0,
        rows * work.multiply_adds if work.int8 else 0,
    )


def total(stages: list[Stage], of: Callable[[Stage], float]) -> float:
    return sum(stage.times * of(stage) for stage in stages)
