"""Writes a checkpoint and translations of an older OpenNMT-py by its own programs: preprocess or
build_vocab, train (two steps, seed 7, weights between -1.2 and 1.2) and translate.

    python3.7 -m venv old
    old/bin/pip install --no-deps OpenNMT-py==1.2.0 torchtext==0.4.0 torch==1.12.1
    old/bin/pip install six tqdm==4.64.1 future configargparse==1.5.3 numpy==1.21.6 requests
    old/bin/python make.py [folder]

and the same with OpenNMT-py==2.3.0 torchtext==0.5.0 and, besides, pyyaml pyonmttok sacrebleu
sentencepiece. <version>.pt.xz is the checkpoint, <version>.json.xz what translate gives for sources
with each of SETTINGS: words and scores of n-best lists. sha256.json has the sums of all files.
"""

# mypy: ignore-errors
from __future__ import annotations

import hashlib
import json
import lzma
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import onmt
import torch

VERSION = onmt.__version__
FIRST = VERSION < "2"
NETWORKS = {
    "1.2.0": ["-encoder_type", "brnn", "-bridge", "-layers", "1", "-global_attention", "mlp"],
    "2.3.0": ["-rnn_type", "GRU", "-layers", "1", "-input_feed", "1"],
}
SETTINGS = [
    ["-max_length", "15"],
    ["-n_best", "4", "-beam_size", "4", "-min_length", "1", "-max_length", "9"],
    ["-n_best", "2", "-max_length", "12", "-length_penalty", "wu", "-alpha", "0.8"],
]
SHAPE = ["-rnn_size", "6", "-src_word_vec_size", "5", "-tgt_word_vec_size", "4"]
TRAINING = [
    "-train_steps", "2", "-save_checkpoint_steps", "2", "-valid_steps", "1000", "-batch_size", "8",
    "-optim", "sgd", "-learning_rate", "0.01", "-param_init", "1.2", "-seed", "7", "-dropout", "0",
]  # fmt: skip


def texts(folder: Path) -> None:
    chance = random.Random(3)
    lines = [" ".join(chance.choices("abcdefg", k=chance.randint(1, 7))) for _ in range(40)]
    words = [line.translate(str.maketrans("abcdefg", "ABCDEAB")) for line in lines]
    for name, listed in (("src", lines), ("tgt", words)):
        (folder / f"{name}.txt").write_text("\n".join(listed) + "\n")
    sources = [chance.choices("abcdefgz", k=chance.randint(1, 7)) for _ in range(12)]
    (folder / "sources.json").write_text(json.dumps(sources))


def run(program: str, *options: object, folder: Path) -> None:
    code = f"from onmt.bin.{program} import main; main()"
    command = [sys.executable, "-c", code, *map(str, options)]
    subprocess.run(command, cwd=str(folder), check=True, stdout=subprocess.DEVNULL)


def train(folder: Path) -> Path:
    if FIRST:
        sides = [f"-{part}_{side}={side}.txt" for part in ("train", "valid") for side in SIDES]
        run("preprocess", *sides, "-save_data", "data", folder=folder)
        run("train", "-data", "data", "-save_model", "m", *SHAPE, *TRAINING, *NETWORKS[VERSION],
            folder=folder)  # fmt: skip
    else:
        corpus = {"path_src": "src.txt", "path_tgt": "tgt.txt"}
        config = {"data": {"corpus": corpus, "valid": corpus}, "save_data": "./data",
                  "src_vocab": "./v.src", "tgt_vocab": "./v.tgt", "overwrite": True}  # fmt: skip
        (folder / "config.yaml").write_text(json.dumps(config))
        run("build_vocab", "-config", "config.yaml", "-n_sample", "-1", folder=folder)
        run("train", "-config", "config.yaml", "-save_model", "m", *SHAPE, *TRAINING,
            *NETWORKS[VERSION], folder=folder)  # fmt: skip
    return folder / "m_step_2.pt"


SIDES = ("src", "tgt")


def translated(model: Path, sources: list[list[str]], given: list[str]) -> list[object]:
    """The n-best lists of all sources: pairs of words and score."""
    from onmt.translate.translator import build_translator
    from onmt.utils.parse import ArgumentParser

    parser = ArgumentParser()
    onmt.opts.config_opts(parser)
    onmt.opts.translate_opts(parser)
    opt = parser.parse_args(
        ["-model", str(model), "-src", "-", "-output", str(model.with_suffix(".out")), *given]
    )
    ArgumentParser.validate_translate_opts(opt)
    made = build_translator(opt, report_score=False)
    lines = [" ".join(words) for words in sources]
    with torch.no_grad():
        scores, predictions = made.translate([f"{x}\n" for x in lines] if FIRST else lines,
                                             batch_size=1)  # fmt: skip
    return [
        [[text.split(), round(float(score), 5)] for text, score in zip(*lists)]  # noqa: B905
        for lists in zip(predictions, scores)  # noqa: B905
    ]


def make(folder: Path) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        texts(work)
        model = train(work)
        sources = json.loads((work / "sources.json").read_text())
        lists = [translated(model, sources, given) for given in SETTINGS]
        checkpoint = model.read_bytes()
    text = json.dumps({"sources": sources, "settings": SETTINGS, "found": lists}).encode()
    for name, data in ((f"{VERSION}.pt.xz", checkpoint), (f"{VERSION}.json.xz", text)):
        (folder / name).write_bytes(lzma.compress(data, preset=9))
    sums = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("[12].*"))
    }
    (folder / "sha256.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
