"""`python -m g2p_stage words.txt phonemes.txt`. Knows files and a clock; words are the stage's."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from s2s_engine import Engine, demo_model

from .stage import Stage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", type=Path)
    parser.add_argument("phonemes", type=Path)
    parser.add_argument("--model", type=Path, default=Path(demo_model()))
    parser.add_argument("--check", action="store_true", help="compare with Python's decodes")
    arguments = parser.parse_args()
    engine = Engine.load(str(arguments.model))
    stage = Stage(engine)
    start = time.perf_counter()
    count = stage.convert(arguments.words, arguments.phonemes)
    seconds = time.perf_counter() - start
    print(f"{count} words, {count / seconds:.0f} words per second")
    if not arguments.check:
        return 0
    known = set(engine.info.vocabularies["tokens"])
    words = arguments.words.read_text().splitlines()
    expected = [
        " ".join(engine.decode(list(word)).tokens) if word and known >= set(word) else ""
        for word in words
    ]
    found = arguments.phonemes.read_text().splitlines()
    differing = sum(a != b for a, b in zip(found, expected, strict=True))
    print(f"{differing} of {len(expected)} lines differ from Python's")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
