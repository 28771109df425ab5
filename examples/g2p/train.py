"""Trains the grapheme-to-phoneme network on a CMU-format dictionary, resumably.
The result, model.pt, holds averaged weights rounded to bfloat16 with the vocabularies."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from data import (
    TARGET_END,
    TARGET_PAD,
    TARGET_START,
    Entries,
    Vocabulary,
    batches_by_length,
    build_vocabulary,
    encode_pairs,
    read_dictionary,
    select,
)
from model import G2P, Config
from scoring import rate
from search import decode_words, greedy
from torch import Tensor, nn
from torch.nn import functional

Pair = tuple[list[int], list[int]]


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("output", type=Path, help="folder for checkpoint.pt and model.pt")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--start", type=Path, help="begin with the averaged weights of this model.pt, not at random"
    )
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="also end the schedule after this much training"
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=1000, help="steps")
    parser.add_argument("--decay", type=float, default=0.02, help="AdamW weight decay")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument(
        "--score-penalty",
        type=float,
        default=0.0,
        help="times the squared gradient of the attention's scores, added to the loss",
    )
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--exact", type=float, default=0.15, help="float32 part at the end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def rounded(tensor: Tensor) -> Tensor:
    """Rounds to the nearest bfloat16, kept as float32."""
    return tensor.to(torch.bfloat16).to(torch.float32)


def collate(pairs: list[Pair]) -> tuple[Tensor, Tensor, Tensor]:
    """Makes source, decoder input and wanted output of one batch."""
    width = max(len(target) for _, target in pairs) + 1
    previous = torch.full((len(pairs), width), TARGET_PAD)
    wanted = torch.full((len(pairs), width), TARGET_PAD)
    for i, (_, target) in enumerate(pairs):
        previous[i, : len(target) + 1] = torch.tensor([TARGET_START, *target])
        wanted[i, : len(target) + 1] = torch.tensor([*target, TARGET_END])
    return torch.tensor([source for source, _ in pairs]), previous, wanted


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint so that an interruption never leaves half of one."""
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


class Trainer:
    """Holds all that changes during training."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        entries, dropped = read_dictionary(options.dictionary)
        self.vocabulary: Vocabulary = build_vocabulary(entries)
        self.pairs = encode_pairs(select(entries, "train"), self.vocabulary)
        self.dev: Entries = select(entries, "dev")
        torch.manual_seed(options.seed)
        config = Config(
            len(self.vocabulary.source), len(self.vocabulary.target), dropout=options.dropout
        )
        self.model = G2P(config)
        self.average = G2P(config).eval()
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), options.rate, (0.9, 0.98), weight_decay=options.decay
        )
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []
        self.stages: list[dict[str, Any]] = []
        per_epoch = len(batches_by_length([len(s) for s, _ in self.pairs], options.batch, 0))
        self.total_steps = options.epochs * per_epoch
        if options.start:
            self.begin_with(options.start)
        count = sum(p.numel() for p in self.model.parameters())
        print(f"{len(entries)} words kept, {dropped} dropped; {len(self.pairs)} training pairs,")
        print(f"{len(self.dev)} dev words; {count} parameters, {per_epoch} steps an epoch")

    def progress(self) -> float:
        """Gives the finished part of the schedule, by steps or by time if that is further."""
        done: float = self.step / self.total_steps
        if self.options.minutes > 0:
            done = max(done, self.seconds / (60 * self.options.minutes))
        return min(done, 1.0)

    def train_epoch(self) -> None:
        """Runs one epoch, or less when the schedule ends within it."""
        lengths = [len(source) for source, _ in self.pairs]
        seed = self.options.seed * 1000 + self.epoch
        torch.manual_seed(seed)
        self.model.train()
        shown, losses, seconds = time.monotonic(), 0.0, self.seconds
        start = time.monotonic()
        batches = batches_by_length(lengths, self.options.batch, seed)
        for number, batch in enumerate(batches, 1):
            losses += self.train_step([self.pairs[i] for i in batch])
            self.seconds = seconds + time.monotonic() - start
            done = self.progress()
            if time.monotonic() - shown > 30 or number == len(batches) or done >= 1:
                shown = time.monotonic()
                left = self.seconds * (1 / max(done, 1e-9) - 1) / 60
                print(
                    f"epoch {self.epoch + 1} batch {number}/{len(batches)} "
                    f"loss {losses / number:.4f} rate {self.optimizer.param_groups[0]['lr']:.2e} "
                    f"done {100 * done:.1f}% spent {self.seconds / 60:.1f} min "
                    f"left {left:.1f} min",
                    flush=True,
                )
            if done >= 1:
                break
        self.epoch += 1

    def train_step(self, pairs: list[Pair]) -> float:
        """Makes one optimizer step; the weights act rounded to bfloat16 (straight-through)."""
        source, previous, wanted = collate(pairs)
        done = self.progress()
        warm = min(1.0, (self.step + 1) / self.options.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * warm * 0.5 * (1 + math.cos(math.pi * done))
        exact = done >= 1 - self.options.exact
        masters: list[Tensor] = []
        if exact:
            for parameter in self.model.parameters():
                masters.append(parameter.data)
                parameter.data = rounded(parameter.data)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not exact):
            logits, sensitivity = self.model.with_sensitivity(source, previous)
        loss = functional.cross_entropy(
            logits.float().flatten(0, 1),
            wanted.flatten(),
            ignore_index=TARGET_PAD,
            label_smoothing=self.options.smoothing,
        )
        loss = loss + self.options.score_penalty * sensitivity
        loss.backward()
        for parameter, master in zip(self.model.parameters(), masters, strict=False):
            parameter.data = master
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        if norm.isfinite():
            self.optimizer.step()
        self.step += 1
        keep = min(self.options.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), 1 - keep
            )
        return float(loss.item())

    def measure(self) -> None:
        """Reports greedy dev rates of the averaged, rounded weights."""
        model = G2P(self.average.config).eval()
        model.load_state_dict(self.exported())
        decoded = decode_words(model, self.vocabulary, list(self.dev), greedy, 256)
        plain = rate(decoded, list(self.dev.values()), stress=False)
        full = rate(decoded, list(self.dev.values()), stress=True)
        self.curve.append(
            {
                "epoch": self.epoch,
                "minutes": self.seconds / 60,
                "word_error": plain.word_error,
                "phoneme_error": plain.phoneme_error,
                "stressed_word_error": full.word_error,
                "stressed_phoneme_error": full.phoneme_error,
            }
        )
        print(
            f"dev epoch {self.epoch}: word {plain.word_error:.2f} phoneme "
            f"{plain.phoneme_error:.2f}; with stress {full.word_error:.2f} "
            f"{full.phoneme_error:.2f}",
            flush=True,
        )

    def exported(self) -> dict[str, Tensor]:
        """Gives the averaged weights rounded to bfloat16."""
        return {name: rounded(value) for name, value in self.average.state_dict().items()}

    def result(self) -> dict[str, Any]:
        """Gives what a user of the model needs, as plain values and tensors."""
        options = {
            name: value
            for name, value in vars(self.options).items()
            if not isinstance(value, Path) and name != "resume"
        }
        return {
            "model": self.exported(),
            "config": asdict(self.model.config),
            "source_vocabulary": list(self.vocabulary.source),
            "target_vocabulary": list(self.vocabulary.target),
            "options": options,
            "seed": self.options.seed,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "stages": self.stages,
        }

    def store(self, path: Path) -> None:
        """Writes a checkpoint from which training can go on."""
        state = {
            "raw": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save(path, self.result() | state)

    def begin_with(self, path: Path) -> None:
        """Takes the averaged weights of an earlier stage, and remembers how that was trained."""
        stored = torch.load(path, weights_only=True)
        self.check(stored)
        self.model.load_state_dict(stored["model"])
        self.average.load_state_dict(stored["model"])
        last = {name: stored[name] for name in ("options", "epoch", "step", "seconds", "curve")}
        self.stages = [*stored.get("stages", []), last]

    def check(self, stored: dict[str, Any]) -> None:
        """Refuses weights that name other letters or phonemes."""
        if stored["target_vocabulary"] != list(self.vocabulary.target):
            raise ValueError("the checkpoint was made from another dictionary")

    def restore(self, path: Path) -> None:
        """Takes up training from a checkpoint; this run's options hold from here on."""
        stored = torch.load(path, weights_only=True)
        self.check(stored)
        self.model.load_state_dict(stored["raw"])
        self.average.load_state_dict(stored["average"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.epoch, self.step = stored["epoch"], stored["step"]
        self.seconds, self.curve = stored["seconds"], stored["curve"]
        self.stages = stored.get("stages", [])


def main() -> None:
    """Trains until the schedule ends."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    checkpoint = options.output / "checkpoint.pt"
    trainer = Trainer(options)
    if options.resume and checkpoint.exists():
        trainer.restore(checkpoint)
        print(f"resumed after epoch {trainer.epoch}")
    while trainer.progress() < 1 and trainer.epoch < options.epochs:
        trainer.train_epoch()
        trainer.measure()
        trainer.store(checkpoint)
    save(options.output / "model.pt", trainer.result())
    print("finished", flush=True)


if __name__ == "__main__":
    main()
