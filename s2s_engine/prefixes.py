"""A prefix for each source of a call. Knows how callers give them and what the core makes of one;
never sources or results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, TypeAlias

from . import _core
from .errors import InputError
from .options import DecodeOptions, is_each

# A source's options, and its constraints in place of the call's: None for the same.
Own: TypeAlias = "tuple[DecodeOptions, _core.Constraints | None]"


def taken_out(
    options: DecodeOptions | None, keywords: dict[str, Any], sources: int | None
) -> tuple[Iterator[Any] | None, DecodeOptions | None, dict[str, Any]]:
    """The prefixes of the sources, None where all have the same; options and keywords without.

    sources: how many there are, None where nobody knows yet.
    """
    given = keywords.get("prefix")
    if "prefix" not in keywords and isinstance(options, DecodeOptions):
        given = options.prefix
    if isinstance(given, Iterator):
        prefixes = given
    elif not isinstance(given, (list, tuple)) or not is_each(given):
        return None, options, keywords
    elif sources is not None and len(given) != sources:
        raise InputError(
            f"prefix has {len(given)} lists, must have one for each of the {sources} sources, or "
            "be one list of tokens for all"
        )
    else:
        prefixes = iter(given)
    rest = {name: keywords[name] for name in keywords if name != "prefix"}
    if options is not None:
        rest["prefix"] = None
    return prefixes, options, rest


class Prefixes:
    """What each source in turn asks for."""

    def __init__(
        self,
        given: Iterator[Any],
        options: DecodeOptions,
        constraints: Callable[[DecodeOptions], _core.Constraints],
        ids: Callable[[DecodeOptions], tuple[int, ...]],
    ) -> None:
        """constraints: of options without a prefix; ids: those of a prefix."""
        self._given, self._options, self._ids = given, options, ids
        self._constraints = constraints
        self._base: _core.Constraints | None = None

    def next(self) -> Own:
        """InputError where there is none, or none that this model can take."""
        try:
            prefix = next(self._given)
        except StopIteration:
            raise InputError(
                "prefix has no list for it; give one for each source, None for none"
            ) from None
        checked = DecodeOptions(prefix=prefix, max_length=self._options.max_length)
        if not checked.prefix:
            return self._options, None
        options = copy(self._options)  # whose other fields, maybe large, were checked once
        object.__setattr__(options, "prefix", checked.prefix)
        if self._base is None:
            self._base = self._constraints(self._options)
        return options, self._base.with_prefix(self._ids(options))
