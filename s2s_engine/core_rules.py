"""Rules of a search as the core takes them. Knows the core's constructors and one model's target;
never a source or a result."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from . import _core
from .constraints import Constraints, prefix_ids
from .model import Model
from .options import DecodeOptions
from .vocabulary import Inputs


class CoreRules:
    """The rules of every call on one model."""

    def __init__(self, model: Model, inputs: Inputs) -> None:
        self._end, self._inputs = model.end, inputs

    def of(self, options: DecodeOptions) -> _core.SearchRules:
        """The rules of one call: draws without a seed get a new one every time."""
        given = self._given(options)
        sampling = options.sampling(int.from_bytes(os.urandom(8), "little"))
        if sampling is None and given.are_none and given.end == self._end:
            return _shared(**options.rules())
        constraints = _core.Constraints(**given.core())
        return _core.SearchRules(**options.rules(), sampling=sampling, constraints=constraints)

    def constraints(self, options: DecodeOptions) -> _core.Constraints:
        """What an output may be, beside the rules."""
        return _core.Constraints(**self._given(options).core())

    def prefix(self, options: DecodeOptions) -> tuple[int, ...]:
        """The ids that every output begins with."""
        end = self._end
        if options.end_tokens is not None:
            end = self._given(DecodeOptions(end_tokens=options.end_tokens)).end
        return prefix_ids(options, end, self._inputs.target_ids)

    def _given(self, options: DecodeOptions) -> Constraints:
        return Constraints.of(options, self._end, self._inputs.target_ids)


@lru_cache(maxsize=64)
def _shared(**rules: Any) -> _core.SearchRules:
    return _core.SearchRules(**rules)
