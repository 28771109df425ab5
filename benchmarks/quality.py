"""What narrower weights cost in quality: words right and words changed, in each compute type beside
float32, on a dictionary with known pronunciations: `python -m benchmarks.quality cmudict.dict`.

Ends with 1 where a bound is passed: int8 may lose 0.2 points of word accuracy and change 2 % of the
words, bfloat16 0.1 points and 0.5 %, auto as much as int8; of few words, one may always differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2s_engine import Engine, Model
from s2s_engine.importers import import_model

from .models import LETTERS, shipped_model

# The dictionary is read and split as the training of the shipped model does it.
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "g2p"))
from data import Entries, read_dictionary, select  # type: ignore[import-not-found]

# Points of word accuracy that may be lost, and percent of words that may change.
BOUNDS = {"bfloat16": (0.1, 0.5), "int8": (0.2, 2.0), "auto": (0.2, 2.0)}
Choice = Callable[[Model], str | Mapping[str, str]]


@dataclass(frozen=True)
class Quality:
    """Words decoded by one model in one compute type, beside the same in float32; in percent."""

    model: str
    search: str
    type: str
    words: int
    accuracy: float
    lost: float
    changed: float

    @property
    def passed(self) -> bool:
        """Within the bounds, or a single word off: of 198 words, one is half a percent."""
        one = 100.5 / self.words
        lost, changed = BOUNDS.get(self.type, (0.0, 0.0))
        return self.lost <= max(lost, one) and self.changed <= max(changed, one)

    def __str__(self) -> str:
        bound = "" if self.passed else "  bound passed"
        return (
            f"{self.model:<10}{self.search:<8}{self.type:<10}{self.words:>8}"
            f"{self.accuracy:>11.3f}{self.lost:>9.3f}{self.changed:>10.3f}{bound}"
        )


HEADER = (
    f"{'model':<10}{'search':<8}{'type':<10}{'words':>8}{'accuracy':>11}{'lost':>9}{'changed':>10}"
)


def decoded(model: Model, choice: str, words: Sequence[str], beam: int) -> list[list[str]]:
    with Engine.load(model, compute_type=choice, threads=2) as engine:
        results = engine.decode_batch([list(word) for word in words], beam_size=beam)
    return [result.tokens for result in results]


def qualities(
    name: str, model: Model, entries: Entries, beams: Sequence[int], types: Sequence[str]
) -> Iterator[Quality]:
    """float32 first, then each type. A word is right when it equals a listed pronunciation."""
    words = list(entries)
    said = [{tuple(one) for one in entries[word]} for word in words]
    for beam in beams:
        wide = decoded(model, "float32", words, beam)
        right = sum(tuple(tokens) in known for tokens, known in zip(wide, said, strict=True))
        for type_ in ("float32", *types):
            given = wide if type_ == "float32" else decoded(model, type_, words, beam)
            hits = sum(tuple(tokens) in known for tokens, known in zip(given, said, strict=True))
            differ = sum(a != b for a, b in zip(given, wide, strict=True))
            percent = 100 / len(words)
            yield Quality(
                name, "greedy" if beam == 1 else f"beam {beam}", type_, len(words),
                hits * percent, (right - hits) * percent, differ * percent,
            )  # fmt: skip


def every(entries: Entries, count: int | None) -> Entries:
    """At most `count` entries, spread over the whole dictionary."""
    step = 1 if count is None else -(-len(entries) // count)
    return dict(list(entries.items())[::step])


def valid_lines(folder: Path) -> Entries:
    """The 198 words of OpenNMT-py's model of pronunciations, letters and references by line."""
    source = (folder / "morph_valid.src").read_text(encoding="utf-8").splitlines()
    reference = (folder / "morph_valid.ref").read_text(encoding="utf-8").splitlines()
    entries: Entries = {}
    for letters, said in zip(source, reference, strict=True):
        entries.setdefault(letters.replace(" ", ""), []).append(tuple(said.split()))
    return entries


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each model, search and type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("--g2p-en", type=Path, help="the checkpoint of g2p_en, .npz")
    parser.add_argument("--opennmt-g2p", type=Path, help="the folder with test_model2.pt")
    parser.add_argument("--split", choices=("train", "dev", "test"), default="test")
    parser.add_argument("--words", type=int, help="at most so many of each model, spread evenly")
    parser.add_argument("--beam", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--types", nargs="+", default=["bfloat16", "int8"], choices=BOUNDS)
    options = parser.parse_args(arguments)
    whole, _ = read_dictionary(options.dictionary)
    cases = [("shipped", shipped_model()[0], every(select(whole, options.split), options.words))]
    if options.g2p_en is not None:
        plain = {word: said for word, said in whole.items() if set(word) <= set(LETTERS)}
        model = import_model(options.g2p_en, None)
        cases.append(("g2p_en", model, every(plain, options.words)))
    if options.opennmt_g2p is not None:
        model = import_model(options.opennmt_g2p / "test_model2.pt", "opennmt_py")
        cases.append(("opennmt", model, valid_lines(options.opennmt_g2p)))
    print(HEADER)
    passed = True
    for name, model, entries in cases:
        for quality in qualities(name, model, entries, options.beam, options.types):
            print(quality, flush=True)
            passed &= quality.passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
