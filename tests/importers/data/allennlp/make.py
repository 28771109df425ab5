"""Makes the archives of this folder and what AllenNLP computes with them.

allennlp 2.10.1 and allennlp-models 2.10.1 on PyTorch 2.13.0, seed 1: pip install --no-deps
allennlp==2.10.1 allennlp-models==2.10.1. What they import and these models do not need (spacy,
transformers, jsonnet, ...) is replaced by empty modules where it is not installed.

python make.py writes a model.tar.gz for each of MODELS, called <model>.tar.gz, and outputs.npz:
`<model>/<case>/...` as verified.Recorded reads them, and `<model>/<case>/beam` (the ids of the best
hypothesis with its end) with `.../score`, by its own beam search as its configuration says.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import io
import json
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

SIZE = 6
WORDS = {"source": "abcdefg", "pos": ["N", "V"], "target": "ABCDE"}
TOKENS = {"tokens": {"type": "embedding", "embedding_dim": 5, "vocab_namespace": "source"}}
TWO = {
    "tokens": {
        "type": "embedding", "embedding_dim": 4, "projection_dim": 3, "vocab_namespace": "source",
    },
    "pos": {"embedding_dim": 2, "vocab_namespace": "pos"},
}  # fmt: skip
BEAM = {"beam_size": 4, "max_steps": 12}


def lstm(**more: Any) -> dict[str, Any]:
    return {"type": "lstm", "input_size": 5, "hidden_size": SIZE, **more}


def simple(encoder: dict[str, Any], attention: Any, **more: Any) -> dict[str, Any]:
    tables = more.pop("tables", TOKENS)
    return {
        "type": "simple_seq2seq", "encoder": encoder, "attention": attention,
        "source_embedder": {"token_embedders": tables}, "target_namespace": "target",
        "target_embedding_dim": 4, "beam_search": BEAM, "use_bleu": False, **more,
    }  # fmt: skip


def dims(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "vector_dim": SIZE, "matrix_dim": SIZE, **more}


LINEAR = {"type": "linear", "tensor_1_dim": SIZE, "tensor_2_dim": SIZE, "activation": "tanh"}
COMPOSED = {
    "type": "composed_seq2seq",
    "encoder": {
        "type": "rnn", "input_size": 5, "hidden_size": 3, "bidirectional": True,
        "nonlinearity": "relu",
    },
    "source_text_embedder": {"token_embedders": TOKENS},
    "decoder": {
        "decoder_net": {
            "type": "lstm_cell", "decoding_dim": SIZE, "target_embedding_dim": 4,
            "attention": dims("additive"), "bidirectional_input": True,
        },
        "target_embedder": {"embedding_dim": 4, "vocab_namespace": "target"},
        "target_namespace": "target", "beam_search": BEAM,
    },
}  # fmt: skip
FEEDFORWARD = {
    "type": "feedforward",
    "feedforward": {
        "input_dim": 5, "num_layers": 2, "hidden_dims": [7, 5], "activations": ["relu", "tanh"],
    },
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "bilinear": simple(
        lstm(hidden_size=3, bidirectional=True), dims("bilinear", activation="tanh"),
        beam_search={
            **BEAM, "min_steps": 1,
            "final_sequence_scorer": {
                "type": "length-normalized-sequence-log-prob", "length_penalty": 0.5,
            },
        },
    ),
    "linear": simple(
        {
            "type": "compose",
            "encoders": [FEEDFORWARD, {"type": "gru", "input_size": 5, "hidden_size": SIZE}],
        },
        {**LINEAR, "combination": "x,y-x,y"}, tables=TWO, target_decoder_layers=2,
    ),
    "composed": COMPOSED,
}  # fmt: skip
# Checked where AllenNLP is installed, besides.
MORE: dict[str, dict[str, Any]] = {
    "dot": simple(lstm(num_layers=2), {"type": "dot_product"}),
    "scaled": simple(lstm(), {"type": "scaled_dot_product"}),
    "scaled by 3": simple(lstm(), {"type": "scaled_dot_product", "scaling_factor": 3}),
    "none": simple(lstm(bias=False), None, target_decoder_layers=3),
    "unnormalised": simple(lstm(), {"type": "dot_product", "normalize": False}),
    "x+y": simple(lstm(), {**LINEAR, "combination": "x+y"}),
    "x*y": simple(lstm(), {**LINEAR, "combination": "x*y"}),
    "pass_through": simple({"type": "pass_through", "input_dim": 5}, {"type": "dot_product"}),
    "feedforward": simple(FEEDFORWARD, {"type": "dot_product"}),
    "two directions": simple(
        {
            "type": "compose",
            "encoders": [
                lstm(hidden_size=4, bidirectional=True),
                lstm(input_size=8, hidden_size=3, bidirectional=True, num_layers=2),
            ],
        },
        dims("additive"),
    ),
    "one last position": {
        **COMPOSED,
        "decoder": {
            **COMPOSED["decoder"],
            "decoder_net": {**COMPOSED["decoder"]["decoder_net"], "bidirectional_input": False},
        },
    },
}
READER = {"type": "seq2seq", "source_token_indexers": {"tokens": {"namespace": "source"}}}
BOTH = {
    "type": "seq2seq",
    "source_token_indexers": {
        "tokens": {"namespace": "source"},
        "pos": {"namespace": "pos", "feature_name": "pos_"},
    },
}


class Nothing:
    """What an empty module's classes are."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


class Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module that nothing else finds, and makes it an empty one."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.split(".")[0] in ("allennlp", "allennlp_models", *sys.stdlib_module_names):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        class Module(ModuleType):
            def __getattr__(self, name: str) -> Any:
                if name.startswith("__"):
                    raise AttributeError(name)
                return type(name, (Nothing,), {}) if name[:1].isupper() else MagicMock()

        module = Module(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def load_allennlp() -> Any:
    finder = Empty()
    sys.meta_path.append(finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import allennlp

            importlib.import_module("allennlp_models.generation")  # registers its models
    finally:
        sys.meta_path.remove(finder)
    return allennlp


def vocabulary() -> Any:
    load_allennlp()
    from allennlp.data import Vocabulary

    return Vocabulary(
        tokens_to_add={
            space: [*([] if space == "pos" else ["@start@", "@end@"]), *words]
            for space, words in WORDS.items()
        }
    )


def built(config: dict[str, Any]) -> Any:
    """The model of a configuration with random weights."""
    words = vocabulary()
    from allennlp.common import Params
    from allennlp.models import Model

    model = Model.from_params(Params(json.loads(json.dumps(config))), vocab=words)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.9, 0.9)
    return model.eval()


def archive(model: Any, config: dict[str, Any]) -> bytes:
    """As archive_model packs it, with no times."""
    two = len(embedders(config)) > 1
    document = {"dataset_reader": BOTH if two else READER, "model": config}
    weights = io.BytesIO()
    torch.save(model.state_dict(), weights)
    members = {"config.json": json.dumps(document).encode(), "weights.th": weights.getvalue()}
    with tempfile.TemporaryDirectory() as folder:
        model.vocab.save_to_files(folder)
        for path in sorted(Path(folder).glob("*.txt")):
            members[f"vocabulary/{path.name}"] = path.read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


def embedders(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (config.get("source_embedder") or config["source_text_embedder"])[
        "token_embedders"
    ]
    return found


@torch.no_grad()
def record(model: Any, config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Values by `<case>/<name>` for two sources under teacher forcing, and the best of the beam."""
    random, found = np.random.default_rng(seed), dict[str, np.ndarray]()
    composed = config["type"] == "composed_seq2seq"
    for case, length in enumerate((2, 4)):  # of one position its LinearAttention fails
        inputs = {
            name: random.integers(2, 11 if name == "tokens" else 4, length)
            for name in embedders(config)
        }
        target = random.integers(4, 9, 4)
        for name, ids in inputs.items():
            found[f"{case}/in/{name}"] = ids
        found[f"{case}/target"] = target
        source = {name: {"tokens": torch.tensor(ids)[None]} for name, ids in inputs.items()}
        state = model._encode(source)
        first = model._decoder._decoder_net.init_decoder_state if composed else None
        state = {**state, **first(state)} if first else model._init_decoder_state(state)
        found[f"{case}/encoder.memory"] = state["encoder_outputs"][0].numpy()
        steps, stepper = [], model._decoder if composed else model
        for token in (2, *target.tolist()):
            logits, state = stepper._prepare_output_projections(torch.tensor([token]), state)
            steps.append(logits[0])
        found[f"{case}/decoder.logits"] = torch.stack(steps).numpy()
        result = model(source)
        ids = result["predictions"][0, 0].tolist()
        ids = ids[: ids.index(3) + 1] if 3 in ids else ids
        found[f"{case}/beam"] = np.array(ids, int)
        found[f"{case}/score"] = result["class_log_probabilities"][0, 0].numpy()
    return found


def make(folder: Path) -> None:
    torch.manual_seed(1)
    outputs = {}
    for name, config in MODELS.items():
        model = built(config)
        (folder / f"{name}.tar.gz").write_bytes(archive(model, config))
        outputs |= {f"{name}/{key}": array for key, array in record(model, config).items()}
    np.savez_compressed(folder / "outputs.npz", **outputs)
    digests = {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in sorted([*folder.glob("*.tar.gz"), folder / "outputs.npz"])
    }
    (folder / "sha256.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(__file__).parent)
