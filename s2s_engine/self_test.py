"""Self-tests of model files: a source, a forced target and the log-probabilities that every engine
must give for them. Knows the reference and one model; never files or how an engine runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .errors import InputError
from .graph import BUILT_IN
from .model import Model, SelfTest
from .results import Check

TOLERANCE = 1e-4
LENGTH = 8


def make(
    model: Model,
    source: Sequence[int] | None = None,
    target: Sequence[int] | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> SelfTest:
    """What the reference gives for prepared source ids and a target without its end.

    Without them, fixed ids spread over the vocabularies are taken. A model without a decoder has
    no target: its log-probabilities are those of the best label of each position.
    """
    from .reference import Reference

    encoder = model.graphs.get("encoder")
    declared = set() if encoder is None else set(encoder.inputs) - set(BUILT_IN["encoder"])
    if encoder is not None and declared != {"tokens"}:
        raise InputError(
            f"a self-test needs a model that reads tokens only, not {sorted(declared)}"
        )
    reference = Reference(model)
    ids = list(default_source(model) if source is None else source)
    if "decoder" not in model.graphs:
        labels = reference.decode(ids, prepared=True).hypotheses[0].token_log_probs
        return SelfTest(tuple(ids), (), tuple(float(p) for p in labels), tolerance)
    forced = list(default_target(model) if target is None else target)
    log_probs = reference.score(ids, forced, prepared=True).token_log_probs
    return SelfTest(tuple(ids), tuple(forced), tuple(float(p) for p in log_probs), tolerance)


def attach(
    model: Model,
    source: Sequence[int] | None = None,
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


def default_source(model: Model) -> list[int]:
    """Fixed prepared ids: the model's rule applied to ids spread over its vocabulary. Of a model
    without an encoder, a prompt."""
    if "encoder" not in model.graphs:
        return _spread(2, model.graphs["decoder"].inputs["token"].size, model.end)
    inputs = model.graphs["encoder"].inputs
    ids = model.source.prepare(_spread(LENGTH, inputs["tokens"].size, ()))
    return ids[: inputs["position"].size] if "position" in inputs else ids


def default_target(model: Model) -> list[int]:
    """Fixed ids spread over the target vocabulary, the end ids left out."""
    inputs = model.graphs["decoder"].inputs
    steps = inputs["step"].size - 1 if "step" in inputs else LENGTH
    return _spread(min(LENGTH, steps), inputs["token"].size, model.end)


def _spread(count: int, size: int, without: Sequence[int]) -> list[int]:
    possible = [i for i in range(size) if i not in without]
    return [possible[(7 * k + 1) % len(possible)] for k in range(count if possible else 0)]
