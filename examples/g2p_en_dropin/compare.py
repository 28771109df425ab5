"""The drop-in beside what it stands for: the same phonemes on every word, and how much sooner.
Knows words and clocks."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy_predict import NumpyPredictor
from predictor import Predictor

WORDS = ["phonograph", "latency", "keyboard", "it's", "a", "queue", "onomatopoeia", "x-ray"]
Predict = Callable[[str], list[str]]


def random_checkpoint(hidden: int = 256) -> dict[str, Any]:
    """Arrays of g2p_en's names and shapes."""
    random = np.random.default_rng(2)
    shapes: dict[str, tuple[int, ...]] = {
        "enc_emb": (29, hidden), "dec_emb": (74, hidden), "fc_w": (74, hidden), "fc_b": (74,)
    }  # fmt: skip
    for side in ("enc", "dec"):
        shapes |= {f"{side}_{name}": (3 * hidden, hidden) for name in ("w_ih", "w_hh")}
        shapes |= {f"{side}_{name}": (3 * hidden,) for name in ("b_ih", "b_hh")}
    return {name: (0.15 * random.standard_normal(shape)).astype(np.float32)
            for name, shape in shapes.items()}  # fmt: skip


def original(arrays: Any, package: bool) -> tuple[str, Predict]:
    """The package's own predict, or its equations."""
    if package and importlib.util.find_spec("g2p_en") is not None:
        from g2p_en import G2p  # type: ignore[import-not-found,unused-ignore]

        return "g2p_en", G2p().predict
    return "g2p_en's equations in NumPy", NumpyPredictor(arrays).predict


def seconds(predict: Predict, words: list[str]) -> float:
    start = time.perf_counter()
    for word in words:
        predict(word)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("words", nargs="?", type=Path, help="a word a line")
    parser.add_argument("--random", action="store_true", help="random weights, no checkpoint")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) != arguments.random:
        parser.error("give a checkpoint, or --random")
    arrays = random_checkpoint() if arguments.random else dict(np.load(arguments.checkpoint))
    words = WORDS if arguments.words is None else arguments.words.read_text().split()
    ours = Predictor(arrays).predict
    name, theirs = original(arrays, package=not arguments.random)
    differing = [word for word in ["", *words] if ours(word) != theirs(word)]
    print(f"{len(words) + 1 - len(differing)} of {len(words) + 1} words have the same phonemes")
    ratios = [seconds(theirs, words) / seconds(ours, words) for _ in range(5)]
    print(f"{statistics.median(ratios):.1f} times as fast as {name}, in turns")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
