"""What options ask of hypotheses that a search has found: logits, and source tokens in place of
unknown ones. Knows tokens and attention; never how they came about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .options import DecodeOptions
from .results import Hypothesis
from .vocabulary import Inputs


def finished(
    hypotheses: Sequence[Hypothesis],
    options: DecodeOptions,
    *,
    unknown: int | None,
    words: Callable[[], list[str]],
    logits: Callable[[list[int]], NDArray[Any]],
) -> list[Hypothesis]:
    """The hypotheses as the options want them.

    unknown: the target's unknown id, where it is to be replaced. words: the source by prepared
    position. logits: (len(ids) + 1, V) of a given output, of which a cut hypothesis has no last.
    """
    made = list(hypotheses)
    if unknown is not None:
        source = words()
        made = [replace(h, tokens=_replaced(h, source, unknown)) for h in made]
    if not options.return_attention:
        made = [h if h.attention is None else replace(h, attention=None) for h in made]
    if options.return_logits:
        made = [replace(h, logits=_of_steps(logits, h)) for h in made]
    return made


def _of_steps(
    logits: Callable[[list[int]], NDArray[Any]], hypothesis: Hypothesis
) -> NDArray[np.float32]:
    """A row for each scored token; an interrupted decode may have none."""
    steps = len(hypothesis.token_log_probs)
    return logits(hypothesis.ids[: max(steps - 1, 0)])[:steps].astype(np.float32)


def unknown_id(option: object, inputs: Inputs) -> int | None:
    """The target's unknown id that `replace_unknowns` means: a token's, or with True the one that
    is written as the source's unknown token. None where nothing is to be replaced."""
    if option is False:
        return None
    if option is not True:
        return inputs.target_ids("option replace_unknowns", [option])[0]
    found = inputs.unknown_target()
    if found is None:
        raise InputError(
            "replace_unknowns is True, but this model does not tell which token is unknown; give "
            "the token, as replace_unknowns='<unk>'"
        )
    return found


def _replaced(hypothesis: Hypothesis, source: Sequence[str], unknown: int) -> list[str]:
    weights = hypothesis.attention
    if weights is None or weights.shape[-1] != len(source):
        columns = 0 if weights is None else weights.shape[-1]
        raise InputError(
            f"replace_unknowns needs one column of attention for each token of the source, here "
            f"are {columns} for {len(source)}"
        )
    if weights.ndim == 3:
        weights = weights.mean(axis=0)
    return [
        source[int(weights[step].argmax())] if id_ == unknown else token
        for step, (id_, token) in enumerate(zip(hypothesis.ids, hypothesis.tokens, strict=True))
    ]
