"""Measures a checkpoint's word and phoneme error on one part of the dictionary.
It decodes greedily and with a beam, and scores both with and without stress."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from data import Entries, Vocabulary, read_dictionary, select
from model import G2P, Config
from scoring import rate
from search import Decoder, beam, decode_words, greedy


def load(path: Path) -> tuple[G2P, Vocabulary]:
    """Loads the network and its vocabularies from model.pt or checkpoint.pt."""
    stored = torch.load(path, weights_only=True)
    model = G2P(Config(**stored["config"])).eval()
    model.load_state_dict(stored["model"])
    vocabulary = Vocabulary(tuple(stored["source_vocabulary"]), tuple(stored["target_vocabulary"]))
    return model, vocabulary


def first_of_beam(width: int) -> Decoder:
    """Makes a decoder that takes the best hypothesis of a beam, or nothing if none ended."""

    def run(model: G2P, sources: list[list[int]]) -> list[tuple[int, ...]]:
        return [found[0].tokens if found else () for found in beam(model, sources, width)]

    return run


def main() -> None:
    """Prints the rates of one split as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--split", choices=("train", "dev", "test"), default="dev")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, vocabulary = load(options.checkpoint)
    entries: Entries = select(read_dictionary(options.dictionary)[0], options.split)
    decoders = {"greedy": greedy, f"beam {options.beam}": first_of_beam(options.beam)}
    rows: list[dict[str, float | str]] = []
    for name, decoder in decoders.items():
        start = time.monotonic()
        decoded = decode_words(model, vocabulary, list(entries), decoder, options.batch)
        seconds = round(time.monotonic() - start, 2)
        for stress in (False, True):
            rates = rate(decoded, list(entries.values()), stress)
            label = "with" if stress else "without"
            rows.append({"search": name, "stress": label, "seconds": seconds, **rates.as_dict()})
    if options.json:
        print(json.dumps({"split": options.split, "rows": rows}, indent=1))
        return
    print(f"{options.split}: {len(entries)} words")
    print(f"{'search':<10}{'stress':<10}{'word %':>8}{'phoneme %':>11}{'seconds':>9}")
    for row in rows:
        print(
            f"{row['search']:<10}{row['stress']:<10}{row['word_error']:>8.2f}"
            f"{row['phoneme_error']:>11.2f}{row['seconds']:>9.1f}"
        )


if __name__ == "__main__":
    main()
