"""The time in which a machine could do what a decode must do at least. Knows the work of a model
(`s2s_engine/cost.py`), sizes of a decode and rates; never how the engine runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..cost import BYTES, Work, works
from ..model import Model

# Multiply-adds that one exp, tanh or sigmoid is counted as: a polynomial, a scale, a division.
ACTIVATION = 16
# Steps whose logits one product makes, where the output layer is screened.
DEFERRED = 32


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


def stages(
    model: Model,
    *,
    positions: float,
    steps: float,
    beam: int = 1,
    batch: int = 1,
    types: Mapping[str, str] | None = None,
    screened: Iterable[str] = (),
) -> list[Stage]:
    """The work of decoding `batch` sentences at once. Weights are read once for all rows of a
    product. The last stage is a step: it streams all weights, and nothing is read twice in it.

    screened: the weight of an output layer that a greedy decode of one sentence screens. Its steps
    read a byte a weight then, and one product for 32 steps makes their logits.
    """
    shapes = {name: array.shape for name, array in model.tensors.items()}
    narrow = exact_in_bfloat16(model)
    found = works(model.graphs, model.types(), shapes, compute_types=types, narrow=narrow)
    every = [work for graph in found.values() for work in graph]
    sentence = [_stage(w, positions, batch, batch) for w in every if w.when == "sentence"]
    parts = [_stage(w, positions, batch, batch * beam) for w in every if w.when == "step"]
    vocabulary = model.types()["decoder"][_scores(model)].size
    step = Stage(
        "a step of the decoder",
        steps,
        sum(part.times * part.bytes for part in parts),
        sum(part.times * part.multiply_adds for part in parts)
        + batch * beam * vocabulary * ACTIVATION,  # the sum of exp(logit)
        0,
        sum(part.times * part.int8_multiply_adds for part in parts),
    )
    all_ = [*(part for part in sentence if part.bytes), step]
    for name in screened if batch * beam == 1 else ():
        size = float(np.prod(shapes[name]))
        stored = BYTES["bfloat16" if name in narrow else "float32"] * size
        deferred = -(-steps // DEFERRED)
        all_.insert(-1, Stage(name, deferred, stored, size * steps / deferred, 0))
        all_[-1] = replace(
            step,
            bytes=step.bytes - stored + size,
            multiply_adds=step.multiply_adds - size,
            int8_multiply_adds=step.int8_multiply_adds + size,
        )
    whole = sum(part.bytes for part in all_)
    return [replace(p, working_set=p.bytes if p.times > 1 else whole) for p in all_]


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
