"""Options as the core takes them, kept for the next call with the same options. Knows the core's
constructors and one model's target; never a source or a result."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from . import _core
from .constraints import Constraints
from .model import Model
from .options import DecodeOptions
from .vocabulary import Inputs


class CoreRules:
    """The rules of every call on one model; `defaults` are made at once and stay."""

    def __init__(self, model: Model, inputs: Inputs, defaults: DecodeOptions) -> None:
        self._end, self._inputs = model.end, inputs
        self._last: tuple[DecodeOptions, _core.SearchRules] | None = None
        self._defaults = (defaults, self._made(defaults))

    def of(self, options: DecodeOptions) -> _core.SearchRules:
        """The same options object gives the same rules; draws without a seed get a new one."""
        if not options.samples or options.seed is not None:
            for kept in (self._defaults, self._last):
                if kept is not None and kept[0] is options:
                    return kept[1]
        made = self._made(options)
        self._last = (options, made)
        return made

    def _made(self, options: DecodeOptions) -> _core.SearchRules:
        given = Constraints.of(options, self._end, self._inputs.target_ids)
        sampling = options.sampling(int.from_bytes(os.urandom(8), "little"))
        if sampling is None and given.are_none and given.end == self._end:
            return _shared(**options.rules())
        constraints = _core.Constraints(**given.core())
        return _core.SearchRules(**options.rules(), sampling=sampling, constraints=constraints)


@lru_cache(maxsize=64)
def _shared(**rules: Any) -> _core.SearchRules:
    return _core.SearchRules(**rules)
