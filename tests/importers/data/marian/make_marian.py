"""Makes `fixture.json.xz`, `s2s.npz` and `nematus.bin` with Marian itself; knows Marian's commands.

    python -m venv venv && venv/bin/pip install pymarian==1.12.42 numpy
    venv/bin/python tests/importers/data/marian/make_marian.py

Marian trains one update of every variant, which gives the names, the shapes and the configuration
it writes. The weights are then replaced by numbers that their names give (`weights`), and Marian
scores forced targets word by word (`score --word-scores`) and translates (`decode --n-best`). The
two model files are as Marian wrote them: trained for one update, the second one by `convert`.
Written by pymarian 1.12.42 (Marian v1.12.42 b7be0e964) with NumPy 2.4.6, seed 7.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SEED, SOURCE, TARGET = 7, 10, 11
CONFIG = "special:model.yml"
SIZES = "--dim-emb 5 --dim-rnn 6"
COMMON = "--cpu-threads 1 -w 32 --log-level warn"
DEEP = "--enc-depth 2 --enc-cell-depth 2 --dec-depth 2 --dec-cell-base-depth 4"
NEMATUS = "--type nematus --enc-cell gru-nematus --dec-cell gru-nematus"
VARIANTS = {
    "s2s": "--type s2s",
    "tied": "--type s2s --tied-embeddings",
    "tied_all": "--type s2s --tied-embeddings-all",
    "tied_src": "--type s2s --tied-embeddings-src --output-omit-bias",
    "lstm": "--type s2s --enc-cell lstm --dec-cell lstm",
    "mixed": "--type s2s --enc-cell lstm --dec-cell gru",
    "norm": "--type s2s --layer-normalization",
    "lstm_norm": "--type s2s --enc-cell lstm --dec-cell lstm --layer-normalization",
    "deep_skip": f"--type s2s {DEEP} --dec-cell-high-depth 2 --skip",
    "deep_lstm": f"--type s2s {DEEP} --dec-cell-high-depth 2 --enc-type alternating "
    "--enc-cell lstm --dec-cell lstm",
    "deep_norm": f"--type s2s {DEEP} --dec-cell-high-depth 2 --enc-type alternating --skip "
    "--layer-normalization",
    "uni": "--type s2s --enc-type bi-unidirectional --enc-depth 3 --enc-cell-depth 2 --skip",
    "cells": f"--type s2s {DEEP} --enc-cell gru-nematus --dec-cell gru-nematus",
    "amun": "--type amun",
    "amun_norm": "--type amun --layer-normalization --tied-embeddings-src",
    "nematus": NEMATUS,
    "nematus_deep": f"{NEMATUS} {DEEP}",
    "nematus_norm": f"{NEMATUS} {DEEP} --layer-normalization",
    "nematus_theano": f"{NEMATUS} --enc-cell-depth 3 --dec-cell-base-depth 4 --layer-normalization",
}
CASES = [
    ([4, 9, 1, 5, 2, 0], [3, 1, 10, 5, 5]),
    ([7, 0], [6, 2, 9]),
    ([3, 8, 8, 6, 0], [2, 4, 8, 7]),
]
SEARCHES = {"greedy": "-b 1", "beam": "-b 4", "normalized": "-b 4 -n 0.6"}


def marian(command: str, folder: Path) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "pymarian", *command.split()],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, f"{command}: {found.stderr[:600]}"
    return found.stdout


def words(ids: list[int]) -> str:
    """Ids as the toy vocabularies have them, without the end."""
    return " ".join("<unk>" if i == 1 else f"t{i}" for i in ids if i != 0)


def prepare(folder: Path) -> None:
    """Vocabularies, and a corpus to train on."""
    for side, size in (("source", SOURCE), ("target", TARGET)):
        listed = ["</s>", "<unk>", *(f"t{n}" for n in range(2, size))]
        # Both as one vocabulary would be: Marian ties tables of equal size alone.
        (folder / f"{side}.yml").write_text("".join(f"{w}: {n}\n" for n, w in enumerate(listed)))
    for side, at in (("source", 0), ("target", 1)):
        lines = [words(case[at]) for case in CASES]
        (folder / f"{side}.txt").write_text("\n".join(lines) + "\n")


def tied(flags: str) -> bool:
    return "tied-embeddings-all" in flags or "tied-embeddings-src" in flags


def vocabularies(flags: str) -> str:
    return "target.yml target.yml" if tied(flags) else "source.yml target.yml"


def train(flags: str, folder: Path, name: str, sizes: str = SIZES) -> None:
    marian(
        f"train {flags} {sizes} {COMMON} --model {name} --vocabs {vocabularies(flags)} "
        f"--train-sets source.txt target.txt --after 1u --seed {SEED} --mini-batch 3 "
        "--maxi-batch 1 --no-reload",
        folder,
    )


def measure(flags: str, folder: Path, name: str) -> dict[str, Any]:
    """What Marian gives for the cases: forced scores, and n-best lists as [score, ids]."""
    both = f"-m {name} {COMMON} --maxi-batch 1 --mini-batch 1"
    vocabs = f"-v {vocabularies(flags)}"
    scored = marian(f"score {both} {vocabs} -t source.txt target.txt --word-scores", folder)
    found: dict[str, Any] = {
        "scores": [
            [float(score) for score in line.split("WordScores=")[1].split()]
            for line in scored.splitlines()
        ]
    }
    for search, options in SEARCHES.items():
        found[search] = [[] for _ in CASES]
        text = marian(
            f"decode {both} {vocabs} {options} --n-best --allow-unk -i source.txt", folder
        )
        for line in text.splitlines():
            number, output, _, score = (part.strip() for part in line.split("|||"))
            ids = [1 if w == "<unk>" else int(w[1:]) for w in output.split()]
            found[search][int(number)].append([float(score), ids])
    return found


def weights(variant: str, shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Multiples of 1/128 below 1, the same everywhere."""
    found = {}
    for name, shape in shapes.items():
        raw = hashlib.shake_256(f"{variant} {name}".encode()).digest(math.prod(shape))
        found[name] = np.frombuffer(raw, np.int8).astype(np.float32).reshape(shape) / 128
    return found


def write(path: Path, arrays: dict[str, np.ndarray], config: str, amun: bool) -> None:
    extra = {CONFIG: np.frombuffer(config.encode() + b"\0", np.int8)}
    if amun:  # by which Marian knows that names are to be translated
        extra["decoder_c_tt"] = np.zeros((1, 0), np.float32)
    np.savez(path, **arrays, **extra)


def is_amun(flags: str) -> bool:
    return "--type s2s" not in flags


def main() -> None:
    variants: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for variant, flags in VARIANTS.items():
            train(flags, folder, "m.npz")
            with np.load(folder / "m.npz") as loaded:
                file = dict(loaded)
            config = file[CONFIG].tobytes().rstrip(b"\0").decode()
            shapes = {
                name: list(array.shape)
                for name, array in file.items()
                if name not in (CONFIG, "decoder_c_tt")
            }
            write(folder / "m.npz", weights(variant, shapes), config, is_amun(flags))
            found = measure(flags, folder, "m.npz")
            variants[variant] = {"flags": flags, "config": config, "shapes": shapes} | found
        small = "--dim-emb 3 --dim-rnn 2"
        train("--type s2s", folder, "s2s.npz", small)
        train(NEMATUS, folder, "nematus.npz", small)
        marian("convert -f nematus.npz -t nematus.bin", folder)
        for copied in ("s2s.npz", "s2s.npz.decoder.yml", "nematus.bin", "source.yml", "target.yml"):
            (HERE / copied).write_bytes((folder / copied).read_bytes())
        for model, flags in (("s2s.npz", "--type s2s"), ("nematus.bin", NEMATUS)):
            variants[model] = {"flags": flags} | measure(flags, folder, model)
    document = {"version": "pymarian 1.12.42", "cases": CASES, "variants": variants}
    (HERE / "fixture.json.xz").write_bytes(lzma.compress(json.dumps(document).encode()))
    files = sorted(
        path for path in HERE.iterdir() if path.suffix in (".xz", ".npz", ".bin", ".yml")
    )
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (HERE / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
