"""Self-tests of model files: a source, a forced target and the log-probabilities that every engine
must give for them. Knows the reference and one model; never files or how an engine runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .graph import BUILT_IN
from .model import Model, SelfTest
from .operations import ValueType
from .results import Check

TOLERANCE = 1e-4
LENGTH = 8
NAMED_LENGTH = 3  # positions of a source with features: all of its numbers are in the file


def make(
    model: Model,
    source: Sequence[int] | Mapping[str, Any] | None = None,
    target: Sequence[int] | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> SelfTest:
    """What the reference gives for prepared source ids (or values by input name) and a target
    without its end.

    Without them, fixed ids spread over the vocabularies are taken, and fixed numbers. A model
    without a decoder has no target: its log-probabilities are those of each position's best label.
    """
    from .reference import Reference

    reference = Reference(model)
    ids: Any = default_source(model) if source is None else source
    ids = dict(ids) if isinstance(ids, Mapping) else list(ids)
    kept = ids if isinstance(ids, dict) else tuple(ids)
    if "decoder" not in model.graphs:
        labels = reference.decode(ids, prepared=True).hypotheses[0].token_log_probs
        return SelfTest(kept, (), tuple(float(p) for p in labels), tolerance)
    forced = list(default_target(model) if target is None else target)
    log_probs = reference.score(ids, forced, prepared=True).token_log_probs
    return SelfTest(kept, tuple(forced), tuple(float(p) for p in log_probs), tolerance)


def attach(
    model: Model,
    source: Sequence[int] | Mapping[str, Any] | None = None,
    target: Sequence[int] | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> Model:
    """The same model with the self-test that `make` gives."""
    return model.with_self_test(make(model, source, target, tolerance=tolerance))


def compare(test: SelfTest, token_log_probs: ArrayLike) -> Check:
    """How far an engine's log-probabilities of the self-test are from the expected ones."""
    given = np.asarray(token_log_probs, np.float64)
    if given.shape != (len(test.log_probs),) or not np.isfinite(given).all():
        return Check(float("inf"), test.tolerance, len(test.log_probs))
    difference = np.abs(given - np.array(test.log_probs)).max(initial=0.0)
    return Check(float(difference), test.tolerance, len(test.log_probs))


def default_source(model: Model) -> list[int] | dict[str, Any]:
    """Fixed prepared ids: the model's rule applied to ids spread over its vocabulary. Of a model
    without an encoder, a prompt; of one with other inputs than tokens, values by name."""
    if "encoder" not in model.graphs:
        return _spread(2, model.graphs["decoder"].inputs["token"].size, model.end)
    inputs = model.graphs["encoder"].inputs
    declared = {n: type_ for n, type_ in inputs.items() if n not in BUILT_IN["encoder"]}
    if declared.keys() != {"tokens"}:
        bound = inputs["position"].size if "position" in inputs else NAMED_LENGTH
        length = min(NAMED_LENGTH, bound)
        return {name: _value(type_, length) for name, type_ in declared.items()}
    ids = model.source.prepare(_spread(LENGTH, inputs["tokens"].size, ()))
    return ids[: inputs["position"].size] if "position" in inputs else ids


def default_target(model: Model) -> list[int]:
    """Fixed ids spread over the target vocabulary, the end ids left out."""
    inputs = model.graphs["decoder"].inputs
    steps = inputs["step"].size - 1 if "step" in inputs else LENGTH
    return _spread(min(LENGTH, steps), inputs["token"].size, model.end)


def _value(type_: ValueType, length: int) -> Any:
    if type_.kind == "id":
        return 1 % type_.size
    if type_.kind == "ids":
        return _spread(length, type_.size, ())
    rows = length if type_.kind == "sequence" else 1
    # Between -1 and 1, exact in float32: multiples of 1/64.
    values = [[((37 * (k + row) + 11) % 129 - 64) / 64 for k in range(type_.size)]
              for row in range(rows)]  # fmt: skip
    return values if type_.kind == "sequence" else values[0]


def _spread(count: int, size: int, without: Sequence[int]) -> list[int]:
    possible = [i for i in range(size) if i not in without]
    return [possible[(7 * k + 1) % len(possible)] for k in range(count if possible else 0)]
