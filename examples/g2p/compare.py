"""Compares the engine with the PyTorch network on every word of a split: the same tokens, greedy
and with a beam, and the same logits under teacher forcing. Exits with 1 where they differ."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from data import TARGET_START, batches_by_length, read_dictionary, select
from evaluate import first_of_beam, load
from scoring import rate
from search import Decoder, decode_words, greedy

from s2s_engine import Engine

LOGITS_BOUND = 1e-5


@torch.inference_mode()
def largest_logit_difference(checkpoint: Path, engine: Engine, words: list[str]) -> float:
    """Over all steps of the first listed words, fed the engine's own greedy output."""
    network, vocabulary = load(checkpoint)
    largest = 0.0
    for numbers in batches_by_length([len(word) for word in words], 1, None):
        word = words[numbers[0]]
        ids = engine.decode(word).ids
        ours = torch.from_numpy(engine.forced_logits(list(word), ids))
        source = torch.tensor([vocabulary.encode_word(word)])
        theirs = network(source, torch.tensor([[TARGET_START, *ids]]))[0]
        largest = max(largest, float((ours - theirs).abs().max()))
    return largest


def main() -> None:
    """Prints differences and rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network, vocabulary = load(options.checkpoint)
    engine = Engine.load(options.model)
    entries = select(read_dictionary(options.dictionary)[0], options.split)
    words = list(entries)
    failed = False
    decoders: dict[int, Decoder] = {1: greedy, 5: first_of_beam(5)}
    for width, decoder in decoders.items():
        theirs = decode_words(network, vocabulary, words, decoder, options.batch)
        results = engine.decode_batch(words, beam_size=width)
        ours = [tuple(result.tokens) for result in results]
        different = [w for w, a, b in zip(words, ours, theirs, strict=True) if a != b]
        failed = failed or bool(different)
        print(f"beam {width}: {len(different)} of {len(words)} words differ {different[:5]}")
        for stress in (False, True):
            rates = rate(ours, list(entries.values()), stress).as_dict()
            print(f"  {'with' if stress else 'without'} stress: {rates}")
    largest = largest_logit_difference(options.checkpoint, engine, words)
    print(f"largest difference of a logit: {largest:.2e} (bound {LOGITS_BOUND})")
    sys.exit(1 if failed or largest > LOGITS_BOUND else 0)


if __name__ == "__main__":
    main()
