"""Writes this folder's fixtures with Joey NMT's own modules and search.

    git clone https://github.com/joeynmt/joeynmt     (cdc4d03d430a, 2.3.0 of 2024-01)
    pip install torch pyyaml numpy sacrebleu sentencepiece subword-nmt importlib_metadata packaging
        matplotlib tensorboard tqdm                  (torch 2.13.0)
    python make.py <the clone>

Weights are drawn with seed 11 and rounded to float16, so that the file is small; logits are
computed in float64. `found` of a case: what the toolkit's search gives for its inputs, by beam size
and alpha. `searched`: n-best lists for other sources, each with every setting of SETTINGS, where
the model would write padding and beginnings if the search let it. Two settings that it accepts and
cannot run are kept with what it says of them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1]))
from packed import pack  # noqa: E402

SEED, LIMIT = 11, 9
SOURCE, TARGET = 8, 10  # words besides the four specials
SPECIALS = {"unk_id": 0, "pad_id": 1, "bos_id": 2, "eos_id": 3}
TOKENS = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
# Beam size, alpha, n_best and the longest output; -1 is 1.5 times the source with its end.
SETTINGS = [(1, -1, 1, -1), (4, -1, 1, -1), (4, 1.0, 1, -1), (5, 0.6, 3, -1), (3, 2.0, 3, 9)]
SEARCHED = 6
# Encoder and decoder settings, and the model's own.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "gru_bahdanau": ({}, {}, {}),
    "lstm_luong": ({"rnn_type": "lstm"}, {"rnn_type": "lstm", "attention": "luong"}, {}),
    "gru_luong_last": ({}, {"attention": "luong", "init_hidden": "last", "hidden_size": 4}, {}),
    "lstm_last_whole": (
        {"rnn_type": "lstm", "hidden_size": 3},
        {"rnn_type": "lstm", "init_hidden": "last", "num_layers": 2},
        {},
    ),
    "gru_zero": ({"num_layers": 2}, {"init_hidden": "zero", "num_layers": 2}, {}),
    "lstm_zero": ({"rnn_type": "lstm"}, {"rnn_type": "lstm", "init_hidden": "zero"}, {}),
    "gru_no_feeding": ({}, {"input_feeding": False, "num_layers": 2}, {}),
    "lstm_no_feeding": (
        {"rnn_type": "lstm", "num_layers": 2},
        {"rnn_type": "lstm", "input_feeding": False, "attention": "luong", "num_layers": 2},
        {},
    ),
    "mixed_cells": ({"rnn_type": "lstm"}, {"rnn_type": "gru"}, {}),
    "mixed_cells_last": (
        {"rnn_type": "gru", "hidden_size": 6},
        {"rnn_type": "lstm", "init_hidden": "last", "attention": "luong"},
        {},
    ),
    "scaled_source": ({"embeddings": {"embedding_dim": 5, "scale": True}}, {}, {}),
    "scaled_target": ({}, {"embeddings": {"embedding_dim": 5, "scale": True}}, {}),
    "tied_embeddings": (
        {"embeddings": {"embedding_dim": 5, "scale": True}},
        {"embeddings": {"embedding_dim": 5, "scale": False}},
        {"tied_embeddings": True},
    ),
    "tied_softmax": ({}, {"embeddings": {"embedding_dim": 6}}, {"tied_softmax": True}),
    "tied_both": (
        {"embeddings": {"embedding_dim": 6}},
        {"embeddings": {"embedding_dim": 6}},
        {"tied_embeddings": True, "tied_softmax": True},
    ),
}


def config(encoder: dict[str, Any], decoder: dict[str, Any], model: dict[str, Any]) -> Any:
    recurrent: dict[str, Any] = {"type": "recurrent", "rnn_type": "gru", "dropout": 0.1}
    both = {
        "encoder": recurrent
        | {"embeddings": {"embedding_dim": 5}, "hidden_size": 4, "bidirectional": True}
        | encoder,
        "decoder": recurrent
        | {"embeddings": {"embedding_dim": 4}, "hidden_size": 6, "attention": "bahdanau"}
        | decoder,
    }
    return copy.deepcopy(both | model)


@torch.no_grad()
def run(joeynmt: Any, name: str, out: dict[str, Any]) -> dict[str, Any]:
    random = np.random.default_rng(SEED)
    made = config(*CASES[name])
    symbols = SimpleNamespace(**SPECIALS, **TOKENS, sep_id=None, sep_token=None, lang_tags=[])
    source = joeynmt.Vocabulary([f"s{n}" for n in range(SOURCE)], symbols)
    joint = made.get("tied_embeddings", False)
    words = [f"t{n}" for n in range(TARGET)]
    target = source if joint else joeynmt.Vocabulary(words, symbols)
    model = joeynmt.build_model(copy.deepcopy(made), source, target)
    for parameter in model.parameters():
        drawn = (0.6 * random.standard_normal(tuple(parameter.shape))).astype(np.float16)
        parameter.data = torch.from_numpy(drawn.astype(np.float64))
    # As in a trained model: padding and the beginning are never given, the end sometimes is.
    model.decoder.att_vector_layer.bias.data[0] = 8
    model.decoder.output_layer.weight.data[1:4, 0] = torch.tensor([-12.0, -12.0, 1.5])
    model.double().eval()
    for parameter, array in model.state_dict().items():
        out[f"{name}/weights/{parameter}"] = array.numpy().astype(np.float16)
    found = []
    for number, length in enumerate((1, 4, 7)):
        plain = [f"s{n}" for n in random.integers(0, SOURCE, length)]
        ids, lengths, _ = source.sentences_to_ids([plain], bos=False, eos=True)
        forced = random.integers(4, len(target), 6).tolist()
        src = torch.tensor(ids)
        batch = joeynmt.Batch(
            src, torch.tensor(lengths), None, None, None, torch.tensor([0]), torch.device("cpu"),
            symbols.pad_id, symbols.eos_id, is_train=False,
        )  # fmt: skip
        memory, hidden, _, _ = model(return_type="encode", **vars(batch))
        logits, _, _, _ = model(
            return_type="decode",
            trg_input=torch.tensor([[symbols.bos_id, *forced]]),
            encoder_output=memory,
            encoder_hidden=hidden,
            src_mask=batch.src_mask,
            unroll_steps=len(forced) + 1,
        )
        case = f"{name}/{number}"
        out[f"{case}/in/tokens"] = np.array(ids[0], np.int32)
        out[f"{case}/target"] = np.array(forced, np.int32)
        out[f"{case}/decoder.logits"] = logits[0].numpy().astype(np.float32)
        for beam, alpha in ((1, -1), (4, -1), (4, 1.0)):
            best, scores, _ = joeynmt.search(
                model.float(), batch, LIMIT, beam, alpha, return_prob="hyp"
            )
            model.double()
            total = scores.sum() if beam == 1 else scores[0]
            found.append(
                {
                    "source": plain,
                    "beam": beam,
                    "alpha": alpha,
                    "ids": best[0].tolist(),
                    "score": round(float(np.sum(total)), 5),
                }
            )
    return {"model": made, "found": found, "searched": searched(joeynmt, model, source, random)}


def searched(joeynmt: Any, model: Any, source: Any, random: Any) -> list[dict[str, Any]]:
    """Of each hypothesis the ids and the score; those that fill up a list are left out."""
    model.decoder.output_layer.weight.data[1:3, 0] = 0
    found = []
    for _ in range(SEARCHED):
        plain = [f"s{n}" for n in random.integers(0, SOURCE, random.integers(1, 7))]
        ids, lengths, _ = source.sentences_to_ids([plain], bos=False, eos=True)
        batch = joeynmt.Batch(
            torch.tensor(ids), torch.tensor(lengths), None, None, None, torch.tensor([0]),
            torch.device("cpu"), SPECIALS["pad_id"], SPECIALS["eos_id"], is_train=False,
        )  # fmt: skip
        for number, (beam, alpha, n_best, longest) in enumerate(SETTINGS):
            best, scores, _ = joeynmt.search(
                model, batch, longest, beam, alpha, n_best, return_prob="hyp"
            )
            listed = []
            for one, score in zip(best, np.asarray(scores), strict=True):
                kept = [int(n) for n in one if n != SPECIALS["pad_id"]]
                if len(kept) > 1:
                    listed.append([kept, round(float(np.sum(score)), 5)])
            found.append({"source": plain, "setting": number, "found": listed})
    return found


def fails(joeynmt: Any, encoder: dict[str, Any], decoder: dict[str, Any]) -> str:
    """What Joey NMT itself says of a setting that it accepts and cannot run."""
    CASES["failing"] = (encoder, decoder, {})
    try:
        run(joeynmt, "failing", {})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        del CASES["failing"]
    raise SystemExit("this setting runs now: the importer refuses it")


def main(clone: Path) -> None:
    sys.path.insert(0, str(clone))
    torch.set_num_threads(1)
    from joeynmt.batch import Batch
    from joeynmt.model import build_model
    from joeynmt.search import search
    from joeynmt.vocabulary import Vocabulary

    joeynmt = SimpleNamespace(
        Batch=Batch, build_model=build_model, search=search, Vocabulary=Vocabulary
    )
    out: dict[str, Any] = {}
    facts: dict[str, Any] = {name: run(joeynmt, name, out) for name in CASES}
    facts["one direction"] = fails(joeynmt, {"bidirectional": False}, {})
    facts["relu"] = fails(joeynmt, {}, {"activation": "relu"})
    pack(FOLDER / "joeynmt.npz", out, facts)
    folder(facts["lstm_luong"]["model"], out)
    names = ["joeynmt.npz", *(f"model/{name}" for name in FILES)]
    path = FOLDER / "sha256.json"
    sums = json.loads(path.read_text()) if path.exists() else {}
    sums |= {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in names}
    path.write_text(json.dumps(sums, indent=1) + "\n")


FILES = ("best.ckpt", "config.yaml", "src_vocab.txt", "trg_vocab.txt")


def folder(model: dict[str, Any], out: dict[str, Any]) -> None:
    """One whole model folder, as TrainManager writes it."""
    where = FOLDER / "model"
    where.mkdir(exist_ok=True)
    prefix = "lstm_luong/weights/"
    state = {
        "model_state": {
            name.removeprefix(prefix): torch.from_numpy(array.astype(np.float32))
            for name, array in out.items()
            if name.startswith(prefix)
        },
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.001, "params": [0]}]},
        "scaler_state": None,
        "scheduler_state": None,
        "train_iter_state": None,
        "stats_state": {"steps": 10, "best_ckpt_iter": 10},
    }
    torch.save(state, where / "best.ckpt")
    sides = {
        side: {"lang": lang, "level": "word", "lowercase": False}
        for side, lang in (("src", "de"), ("trg", "en"))
    }
    written = {
        "name": "fixture",
        "joeynmt_version": "2.3.0",
        "model_dir": "models/fixture",
        "data": {"dataset_type": "plain", **sides, "special_symbols": SPECIALS | TOKENS},
        "testing": {"beam_size": 4, "beam_alpha": 1.0, "max_output_length": LIMIT},
        "training": {"batch_size": 2, "adam_betas": [0.9, 0.98]},
        "model": model,
    }
    (where / "config.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    for side, letter, count in (("src", "s", SOURCE), ("trg", "t", TARGET)):
        words = [*TOKENS.values(), *(f"{letter}{n}" for n in range(count))]
        (where / f"{side}_vocab.txt").write_text("\n".join(words) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
