"""Writes `model_1` with the modules and searches of Joey NMT's releases before 2.0.

    releases as tests/nbest/record_joeynmt.py wants them   (torch 2.13.0)
    python make_1.py <the folder of all these>

A model of 1.4, as its TrainManager writes one, with weights drawn with seed 11. `found.json`: what
every release of RELEASES finds with these weights for a few sources and each of SETTINGS: the head
of what it sorts, with scores (of a greedy search the ids alone).
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[2]))
from scripts import loaded  # noqa: E402

MODEL = FOLDER / "model_1"
NBEST = FOLDER.parents[2] / "nbest" / "record_joeynmt.py"
RELEASES = ("0.9", "1.2", "1.3", "1.4")
SEED, SOURCE, TARGET, LIMIT = 11, 8, 10, 9
BOS, EOS, PAD = 2, 3, 1
# Beam size, alpha and n_best.
SETTINGS = [(1, -1, 1), (3, 0.0, 3), (4, 1.0, 4), (5, 2.0, 4)]
CONFIG = """\
name: "fixture"

data:
    src: "de"
    trg: "en"
    level: "word"
    lowercase: False
    max_sent_length: 20

testing:
    beam_size: 4
    alpha: 1.0

training:
    model_dir: "models/fixture"
    max_output_length: 9
    keep_last_ckpts: 3

model:
    initializer: "xavier"
    encoder:
        rnn_type: "lstm"
        embeddings:
            embedding_dim: 5
            scale: False
        hidden_size: 4
        bidirectional: True
        num_layers: 1
    decoder:
        rnn_type: "lstm"
        embeddings:
            embedding_dim: 4
            scale: False
        hidden_size: 6
        num_layers: 1
        attention: "luong"
        init_hidden: "bridge"
        input_feeding: True
"""
SIDE = {"rnn_type": "lstm", "num_layers": 1}
ENCODER = {"embeddings": {"embedding_dim": 5, "scale": False}, "hidden_size": 4}
DECODER = {"embeddings": {"embedding_dim": 4, "scale": False}, "hidden_size": 6}
SETUP = {
    "initializer": "xavier",
    "encoder": SIDE | ENCODER | {"bidirectional": True},
    "decoder": SIDE
    | DECODER
    | {"attention": "luong", "init_hidden": "bridge", "input_feeding": True},
}


def words(letter: str, count: int) -> list[str]:
    return [f"{letter}{n}" for n in range(count)]


def built() -> Any:
    model = importlib.import_module("joeynmt.model")
    vocabulary = importlib.import_module("joeynmt.vocabulary").Vocabulary
    made = model.build_model(SETUP, vocabulary(words("s", SOURCE)), vocabulary(words("t", TARGET)))
    random = np.random.default_rng(SEED)
    for parameter in made.parameters():
        drawn = (0.6 * random.standard_normal(tuple(parameter.shape))).astype(np.float16)
        parameter.data = torch.from_numpy(drawn.astype(np.float32))
    # As in a trained model: padding and the beginning are never given, the end often is.
    made.decoder.att_vector_layer.bias.data[0] = 8
    made.decoder.output_layer.weight.data[1:4, 0] = torch.tensor([-12.0, -12.0, 3.0])
    return made.eval()


@torch.no_grad()
def found(release: str) -> list[dict[str, Any]]:
    model, search = built(), importlib.import_module("joeynmt.search")
    caught: list[Any] = []

    def sort(values: Any, **rule: Any) -> Any:
        caught.append(builtins.sorted(values, **rule))
        return caught[-1]

    search.sorted = sort
    random = np.random.default_rng(SEED)
    listed = []
    for length in (1, 2, 4, 6, 7):
        plain = [int(n) for n in random.integers(4, 4 + SOURCE, length)]
        src, lengths = torch.tensor([[*plain, EOS]]), torch.tensor([length + 1])
        mask = (src != PAD).unsqueeze(1)
        source = {"src": src, "src_length": lengths, "src_mask": mask}
        batch = SimpleNamespace(**source, **({"src_lengths": lengths} if release == "0.9" else {}))
        for beam, alpha, n_best in SETTINGS:
            caught.clear()
            if release == "0.9":
                best, _ = model.run_batch(batch, LIMIT, 0 if beam == 1 else beam, alpha)
            else:
                more = (n_best,) if release >= "1.3" else ()
                best, _ = search.run_batch(model, batch, LIMIT, beam, alpha, *more)
            ids: Any = best[0].tolist()
            if beam > 1:
                ids = [[float(score), one.tolist()] for score, one in caught[0][:n_best]]
            listed.append({"source": plain, "beam": beam, "alpha": alpha, "found": ids})
    return listed


def load(folder: Path, release: str) -> Any:
    record = loaded(NBEST)
    sys.meta_path.insert(0, record.Stubs)
    sys.path.insert(0, str(folder / release))
    torch.set_num_threads(1)
    return record


def one(folder: Path, release: str) -> None:
    record = load(folder, release)
    with mock.patch.object(torch.Tensor, "div", record.whole_division):
        print(json.dumps(found(release)))


def main(folder: Path) -> None:
    lists = {}
    for release in RELEASES:
        command = [sys.executable, __file__, str(folder), release]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        lists[release] = json.loads(done.stdout)
    load(folder, "1.4")
    state = {
        "steps": 10,
        "total_tokens": 100,
        "best_ckpt_score": 1.0,
        "best_ckpt_iteration": 10,
        "model_state": built().state_dict(),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.001, "params": [0]}]},
        "scheduler_state": None,
        "amp_state": None,
        "train_iter_state": None,
    }
    MODEL.mkdir(exist_ok=True)
    torch.save(state, MODEL / "best.ckpt")
    (MODEL / "config.yaml").write_text(CONFIG)
    (MODEL / "found.json").write_text(json.dumps(lists) + "\n")
    specials = ["<unk>", "<pad>", "<s>", "</s>"]
    for side, letter, count in (("src", "s", SOURCE), ("trg", "t", TARGET)):
        listed = [*specials, *words(letter, count)]
        (MODEL / f"{side}_vocab.txt").write_text("\n".join(listed) + "\n")
    sums = json.loads((FOLDER / "sha256.json").read_text())
    for path in sorted(MODEL.iterdir()):
        sums[f"model_1/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (FOLDER / "sha256.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    given = sys.argv[1:]
    one(Path(given[0]), given[1]) if given[1:] else main(Path(given[0]))
