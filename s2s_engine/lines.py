"""Lines of a file to tokens, through an engine in chunks, and to lines again. Knows one model's
tokens and the forms of output; never the command line, files or terminals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .engine import Engine
from .errors import InputError, S2SError
from .graph import BUILT_IN, Graph
from .model import Model
from .results import Hypothesis, Result


class LineError(Exception):
    """What is wrong with one line; lines count from 1."""

    def __init__(self, number: int, error: Exception) -> None:
        super().__init__(f"line {number}: {error}")


@dataclass(frozen=True)
class LineForm:
    """How lines are read and written.

    characters: every character of a line is a token; else spaces separate tokens. identifiers:
    tokens are ids. ranked: a hypothesis per line, `score<TAB>tokens`. as_json: an object per line.
    """

    characters: bool = False
    identifiers: bool = False
    ranked: bool = False
    as_json: bool = False

    @staticmethod
    def of(model: Model, *, ranked: bool = False, as_json: bool = False) -> LineForm:
        """The form of a model's lines; InputError where it does not read tokens alone."""
        encoder = model.graphs.get("encoder", Graph())
        inputs = {n: t for n, t in encoder.inputs.items() if n not in BUILT_IN["encoder"]}
        if len(inputs) != 1 or any(type_.kind != "ids" for type_ in inputs.values()):
            listed = ", ".join(f"{name} ({type_})" for name, type_ in inputs.items()) or "none"
            raise InputError(
                f"lines are for models with one input of tokens; this one's inputs are {listed}: "
                "use s2s_engine.Engine in Python"
            )
        words = set(inputs) <= set(model.vocabularies)
        return LineForm(model.characters and words, not words, ranked, as_json)

    def read(self, line: bytes) -> list[str] | list[int]:
        """The tokens of one line, its end left out; none where it is empty."""
        try:
            text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"is not UTF-8: {error}") from None
        if self.characters:
            return list(text)
        words = [word for word in text.split(" ") if word]
        return (
            [_id(number, word) for number, word in enumerate(words)] if self.identifiers else words
        )

    def write(self, number: int, result: Result | None) -> str:
        """The output of line `number`; None is the result of an empty line."""
        if self.as_json:
            return json.dumps(_record(number, result), ensure_ascii=False) + "\n"
        if result is None:
            return "\n"
        if not self.ranked:
            return " ".join(result.tokens) + "\n"
        return "".join(f"{h.score:.6f}\t{' '.join(h.tokens)}\n" for h in result.hypotheses)


def decode_lines(
    engine: Engine,
    form: LineForm,
    lines: Iterable[bytes],
    write: Callable[[str], object],
    *,
    chunk: int,
    batch_size: int,
    options: Mapping[str, Any],
    advance: Callable[[int, int], object] = lambda lines, size: None,
) -> None:
    """Decodes `chunk` lines at a time and writes them in order; LineError where one cannot be
    decoded, once the lines before it are written. `advance` is told lines and bytes done."""
    numbered = enumerate(lines, 1)
    while part := list(islice(numbered, chunk)):
        for text in _decoded(engine, form, part, batch_size, options):
            write(text)
        advance(len(part), sum(len(line) for _, line in part))


def _decoded(
    engine: Engine,
    form: LineForm,
    part: list[tuple[int, bytes]],
    batch_size: int,
    options: Mapping[str, Any],
) -> Iterator[str]:
    try:
        sources = [form.read(line) for _, line in part]
        full = [source for source in sources if source]
        results = iter(engine.decode_batch(full, batch_size=batch_size, **options))
        texts = [
            form.write(number, next(results) if source else None)
            for (number, _), source in zip(part, sources, strict=True)
        ]
    except S2SError:
        # One by one: the same bits, and the line that fails is known.
        yield from _one_by_one(engine, form, part, options)
    else:
        yield from texts


def _one_by_one(
    engine: Engine, form: LineForm, part: list[tuple[int, bytes]], options: Mapping[str, Any]
) -> Iterator[str]:
    for number, line in part:
        try:
            source = form.read(line)
            result = engine.decode(source, **options) if source else None
        except S2SError as error:
            raise LineError(number, error) from None
        yield form.write(number, result)


def _id(number: int, word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 18):
        raise InputError(
            f"token {number} of the input is {word!r}, must be an id: the model has no source "
            "vocabulary"
        )
    return int(word)


def _record(number: int, result: Result | None) -> dict[str, Any]:
    return {
        "line": number,
        "source": [] if result is None else result.source,
        "hypotheses": [] if result is None else [_fields(h) for h in result.hypotheses],
    }


def _fields(hypothesis: Hypothesis) -> dict[str, Any]:
    attention = hypothesis.attention
    return {
        "tokens": hypothesis.tokens,
        "ids": hypothesis.ids,
        "score": hypothesis.score,
        "log_prob": hypothesis.log_prob,
        "token_log_probs": hypothesis.token_log_probs.tolist(),
        "finish_reason": hypothesis.finish_reason,
    } | ({} if attention is None else {"attention": attention.tolist()})
