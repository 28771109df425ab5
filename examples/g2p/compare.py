"""Compares the engine with the PyTorch network on every word of a split: the same tokens, greedy
and with a beam, and under teacher forcing the same logits to 1e-5, as PyTorch gives them in float32
and in float64. Exits with 1 where they differ."""

from __future__ import annotations

import argparse
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from data import TARGET_START, read_dictionary, select
from evaluate import first_of_beam, load
from scoring import rate
from search import Decoder, decode_words, greedy

from s2s_engine import Engine

LOGITS_BOUND = 1e-5  # absolute, from the network in float64 and from PyTorch in float32


@dataclass(frozen=True)
class LogitDifferences:
    """The largest absolute ones over all steps; `exact` is the network in float64, `pytorch` the
    same in float32. `relative` is to the step's largest logit."""

    engine_from_exact: float = 0.0
    relative: float = 0.0
    pytorch_from_exact: float = 0.0
    engine_from_pytorch: float = 0.0


@torch.inference_mode()
def logit_differences(checkpoint: Path, engine: Engine, words: list[str]) -> LogitDifferences:
    """Over all steps of all words, each fed the engine's own greedy output."""
    network, vocabulary = load(checkpoint)
    exact = load(checkpoint)[0].double()
    largest = LogitDifferences()
    for word in words:
        ids = engine.decode(word).ids
        source = torch.tensor([vocabulary.encode_word(word)])
        previous = torch.tensor([[TARGET_START, *ids]])
        ours = torch.from_numpy(engine.forced_logits(list(word), ids))
        theirs, true = network(source, previous)[0], exact(source, previous)[0]
        scale = true.abs().amax(dim=-1, keepdim=True).clamp(min=1.0)
        found = (
            float((ours - true).abs().max()),
            float(((ours - true).abs() / scale).max()),
            float((theirs - true).abs().max()),
            float((ours - theirs).abs().max()),
        )
        largest = LogitDifferences(*map(max, found, astuple(largest)))
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
    largest = logit_differences(options.checkpoint, engine, words)
    print(
        f"largest difference of a logit from PyTorch in float64: {largest.engine_from_exact:.1e} "
        f"(bound {LOGITS_BOUND}), {largest.relative:.1e} of the step's largest one; PyTorch in "
        f"float32 is {largest.pytorch_from_exact:.1e} from its own float64, and the engine "
        f"{largest.engine_from_pytorch:.1e} from PyTorch in float32"
    )
    apart = max(largest.engine_from_exact, largest.engine_from_pytorch) > LOGITS_BOUND
    sys.exit(1 if failed or apart else 0)


if __name__ == "__main__":
    main()
