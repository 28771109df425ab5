"""Language models made of tables, whose numbers are exact in float32: core and reference agree to
the last bit. Knows tables; never what a test asks of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from s2s_engine import Engine, Model, ModelBuilder, Result

STEPS = 8


def table_model(
    seed: int,
    *,
    vocabulary: int = 5,
    end: tuple[int, ...] = (0,),
    levels: int = 1 << 12,
    alignment: bool = False,
    **more: Any,
) -> Model:
    """A language model whose log-probabilities are sums of two table entries, by the last id and by
    the step: multiples of 1/256, so that float32 and float64 agree to the last bit. Few `levels`
    make ties. With `alignment` it has a source, and weights over it that are exact too."""
    rng = np.random.default_rng(seed)

    def numbers(rows: int) -> Any:
        return (-(1 + rng.integers(0, levels, (rows, vocabulary))) / 256).astype(np.float32)

    m = ModelBuilder(target=vocabulary, **({"source": 64} if alignment else {}))
    d = m.decoder
    by_id = d.embedding(d.token, numbers(vocabulary))
    by_step = d.embedding(d.step(2 * STEPS), numbers(2 * STEPS))
    outputs = {"log_probabilities": d.add(by_id, by_step)}
    if alignment:
        e = m.encoder
        weights = (rng.integers(0, 65, (64, 2)) / 64).astype(np.float32)
        e.output(memory=e.embedding(e.tokens, weights))
        scale = d.embedding(d.token, (rng.integers(0, 9, (vocabulary, 1)) / 8).astype(np.float32))
        outputs["alignment"] = d.multiply("memory", scale)
    d.output(**outputs)
    return m.build(start=None, end=list(end), generation={"max_length": STEPS, **more})


@cache
def loaded(seed: int, **options: Any) -> tuple[Engine, Any]:
    model = table_model(seed, **options)
    return Engine.load(model), model.reference()


def bits(result: Result) -> list[Any]:
    return [
        (h.ids, h.score.hex(), h.log_prob.hex(), h.token_log_probs.tobytes(), h.finish_reason)
        for h in result.hypotheses
    ]
