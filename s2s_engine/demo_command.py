"""The command `demo`: words through the shipped model, drawn as text. Knows the letters of a model
and what a terminal shows; never arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .engine import Engine
from .errors import InputError
from .format import read
from .model import Model
from .results import Hypothesis
from .terminal import LEGEND, attention_map

WORDS = ("phonograph", "sequence", "engine")
HYPOTHESES, BEAM = 3, 5


def show(words: list[str], path: str) -> int:
    """Prints the best outputs of each word and what the best one looked at; the exit code 0."""
    if not Path(path).exists():
        raise InputError(f"the demo model is not part of this installation: no file {path}")
    model = read(path)
    lowered = [word.lower() for word in words]
    _check_letters(lowered, model)
    has_map = "alignment" in model.graphs["decoder"].outputs
    with Engine.load(model) as engine:
        for number, word in enumerate(lowered):
            result = engine.decode(
                list(word),
                beam_size=BEAM,
                num_hypotheses=HYPOTHESES,
                return_attention=has_map,
            )
            print(f"{'' if number == 0 else chr(10)}{word}")
            for hypothesis in result.hypotheses:
                print(f"{hypothesis.score:10.4f}  {' '.join(hypothesis.tokens)}".rstrip())
            best = result.hypotheses[0]
            if best.attention is not None:
                rows = rows_of(best, model)
                print(f"\n{_indented(attention_map(best.attention, result.source, rows))}")
    if has_map:
        print(f"\nattention: {LEGEND}")
    return 0


def _check_letters(words: Sequence[str], model: Model) -> None:
    known = model.vocabularies.get("tokens")
    if known is None or "decoder" not in model.graphs:
        raise InputError("the demo needs a model from letters to tokens, with vocabularies")
    letters = " ".join(sorted(word for word in set(known) if len(word) == 1))
    for word in words:
        if not word:
            raise InputError("an empty word: give at least one letter")
        for letter in word:
            if letter not in known:
                raise InputError(
                    f"{letter!r} of {word!r} is unknown to the model; it knows {letters}"
                )


def rows_of(hypothesis: Hypothesis, model: Model) -> list[str]:
    """The labels of a map's rows: the tokens, and the end where it was reached."""
    if hypothesis.finish_reason != "eos":
        return hypothesis.tokens
    words = model.vocabularies.get("target")
    end = words[model.end[0]] if words is not None and len(model.end) == 1 else "(end)"
    return [*hypothesis.tokens, end]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.split("\n"))
