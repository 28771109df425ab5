"""JSON of model files: UTF-8 only, no doubled keys, no NaN, no overlong numbers. Knows text and the
values that it holds; never what they are for."""

from __future__ import annotations

import json
import math
from typing import Any

from .errors import ModelFormatError

# More than any size or offset has: longer numbers are an attack on int().
MAX_DIGITS = 20


class _BrokenError(ValueError):
    """What a hook refuses."""


def loads(data: bytes, what: str) -> dict[str, Any]:
    """The object that `data` holds; ModelFormatError says what of `what` is wrong."""
    try:
        value = json.loads(
            data.decode("utf-8", "strict"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{what} is not UTF-8: {error}") from None
    except RecursionError:
        raise ModelFormatError(f"{what}: JSON is nested too deeply") from None
    except ValueError as error:
        raise ModelFormatError(f"{what} is not the JSON of a model file: {error}") from None
    if not isinstance(value, dict):
        raise ModelFormatError(f"{what} must be a JSON object, is {type(value).__name__}")
    return value


def dumps(value: object) -> str:
    """The shortest ASCII JSON of a document, keys in their order."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"the model's document cannot be written as JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _BrokenError(f"the key {key[:100]!r} stands twice")
        result[key] = value
    return result


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _BrokenError(f"an integer has {len(digits)} digits, at most {MAX_DIGITS}")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > 400 or not math.isfinite(value := float(digits)):
        raise _BrokenError(f"the number {digits[:40]} is out of range")
    return value


def _constant(word: str) -> float:
    raise _BrokenError(f"{word} is not a number of JSON")
