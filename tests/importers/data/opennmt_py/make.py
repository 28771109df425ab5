"""Makes the checkpoints of this folder and what OpenNMT-py computes with them.

OpenNMT-py 3.5.1 on PyTorch 2.13.0, seed 1. To install it beside a PyTorch that is newer than it
asks for: pip install --no-deps OpenNMT-py==3.5.1, and pip install pyonmttok configargparse pyyaml
six flask waitress sacrebleu tensorboard rapidfuzz. Modules that its transforms import and nothing
here needs (spacy, ahocorasick, fasttext) are replaced by empty ones.

python make.py writes a .pt file for each of MODELS, and outputs.npz: `<model>/<case>/...` as
verified.Recorded reads them, and `<model>/<case>/beam` (the ids) with `.../score`, by its own beam
search of 4 without a length penalty, at most 12 ids. searches.json.xz: what its Translator gives
for SEARCHED sources of each model, with the defaults of translate.py but for what SETTINGS say, in
float64.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
import warnings
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

SPECIALS = ["<unk>", "<blank>", "<s>", "</s>"]
VOCAB = {
    "src": [*SPECIALS, *"abcdefg"],
    "tgt": [*SPECIALS, *"ABCDE"],
    "data_task": "seq2seq",
    "decoder_start_token": "<s>",
}
FEATURES = [[*SPECIALS, "x", "y"], [*SPECIALS, "0"]]
SIZE, BEAM, STEPS = 6, 4, 12
# What the repository holds; everything else is checked where OpenNMT-py is installed.
MODELS: dict[str, dict[str, Any]] = {
    "general": {"brnn": True, "layers": 2, "bridge": True, "context_gate": "both"},
    "mlp": {"rnn_type": "GRU", "global_attention": "mlp", "input_feed": 0, "features": 2},
    "coverage": {"global_attention": "dot", "coverage_attn": True},
    "none": {"rnn_type": "RNN", "global_attention": "none", "share_decoder_embeddings": True},
}


def load_onmt() -> Any:
    """OpenNMT-py's modules that are needed here, without what its transforms want."""
    for name in ("spacy", "ahocorasick", "fasttext"):
        if find_spec(name) is None:
            sys.modules[name] = MagicMock(spec=ModuleType(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onmt
        import onmt.inputters.inputter
        import onmt.model_builder
        import onmt.opts
        import onmt.translate
        import onmt.utils.parse
    return onmt


def options(**given: Any) -> Namespace:
    """The options of training that build a model; `layers` and `brnn` as the parser sets them."""
    return Namespace(
        **{
            "model_type": "text", "model_task": "seq2seq", "rnn_type": "LSTM",
            "encoder_type": "brnn" if given.get("brnn") else "rnn", "decoder_type": "rnn",
            "brnn": False, "layers": 1, "enc_layers": given.get("layers", 1),
            "dec_layers": given.get("layers", 1), "enc_hid_size": SIZE, "dec_hid_size": SIZE,
            "src_word_vec_size": 5, "tgt_word_vec_size": SIZE, "bridge": False, "input_feed": 1,
            "global_attention": "general", "global_attention_function": "softmax",
            "generator_function": "softmax", "context_gate": None, "coverage_attn": False,
            "copy_attn": False, "copy_attn_type": None, "reuse_copy_attn": False,
            "share_embeddings": False, "share_decoder_embeddings": False, "feat_merge": "concat",
            "feat_vec_size": -1, "feat_vec_exponent": 0.7, "position_encoding": False,
            "position_encoding_type": "SinusoidalInterleaved", "freeze_word_vecs_enc": False,
            "freeze_word_vecs_dec": False, "dropout": [0.3], "attention_dropout": [0.1],
            "optim": "adam", "quant_layers": [], "lora_layers": [], "lora_embedding": False,
            "num_experts": 0, "num_experts_per_tok": 2,
        } | given
    )  # fmt: skip


def checkpoint(features: int = 0, **given: Any) -> dict[str, Any]:
    """A model of random weights as ModelSaver writes it."""
    onmt = load_onmt()
    opt = options(**given)
    if features and opt.feat_merge == "concat" and opt.feat_vec_size < 0:
        opt.feat_vec_size = 2
    vocab = {**VOCAB, **({"src_feats": FEATURES[:features]} if features else {})}
    vocabs = onmt.inputters.inputter.dict_to_vocabs(vocab)
    model = onmt.model_builder.build_base_model(opt, vocabs)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.8, 0.8)
    state = model.state_dict()
    return {
        "model": {name: t for name, t in state.items() if "generator" not in name},
        "generator": model.generator.state_dict(),
        "vocab": onmt.inputters.inputter.vocabs_to_dict(vocabs),
        "opt": opt,
        "optim": {"training_step": 1, "state": {}},
    }


def rebuilt(saved: dict[str, Any]) -> Any:
    """The model of a checkpoint in float64."""
    onmt = load_onmt()
    vocabs = onmt.inputters.inputter.dict_to_vocabs(saved["vocab"])
    model = onmt.model_builder.build_base_model(saved["opt"], vocabs)
    weights = {
        **saved["model"],
        **{f"generator.{name}": t for name, t in saved["generator"].items()},
    }
    missing, unexpected = torch.nn.Module.load_state_dict(model, weights)
    assert not missing and not unexpected
    return model.double().eval()


@torch.no_grad()
def record(saved: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Values by `<case>/<name>` for two sources under teacher forcing, and beams."""
    model, random = rebuilt(saved), np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    features = saved["vocab"].get("src_feats", [])
    for case, length in enumerate((1, 4)):
        inputs = {"tokens": random.integers(4, 11, length)}
        for number, words in enumerate(features):
            inputs[f"src_feat_{number}"] = random.integers(0, len(words), length)
        target = random.integers(4, 9, 4)
        for name, ids in inputs.items():
            found[f"{case}/in/{name}"] = ids
        found[f"{case}/target"] = target
        source = torch.tensor(np.stack(list(inputs.values()), 1))[None]
        for name, value in forced(model, source, [2, *target.tolist()]).items():
            found[f"{case}/{name}"] = value.float().numpy()
        ids, score = beam(model, source)
        found[f"{case}/beam"], found[f"{case}/score"] = np.array(ids, int), np.array(score)
    return found


def forced(model: Any, source: Any, fed: list[int]) -> dict[str, Any]:
    lengths = torch.tensor([source.shape[1]])
    memory, final, lengths = model.encoder(source, lengths)
    model.decoder.init_state(source, memory, final)
    found = {"encoder.memory": memory[0].clone()}
    for role, one in zip("hc", model.decoder.state["hidden"], strict=False):
        found |= {f"encoder.{role}{n}": one[n, 0] for n in range(one.shape[0])}
    steps: dict[str, list[Any]] = {}
    for token in fed:
        out, attention = model.decoder(torch.tensor([[[token]]]), memory, src_len=lengths)
        steps.setdefault("logits", []).append(model.generator(out[0, 0]))
        for role, one in zip("hc", model.decoder.state["hidden"], strict=False):
            for n in range(one.shape[0]):
                steps.setdefault(f"{role}{n}", []).append(one[n, 0])
        if "std" in attention:
            steps.setdefault("alignment", []).append(attention["std"].reshape(-1))
        if type(model.decoder).__name__ == "InputFeedRNNDecoder":
            steps.setdefault("feed", []).append(out[0, 0])
    return found | {f"decoder.{name}": torch.stack(values) for name, values in steps.items()}


def beam(model: Any, source: Any) -> tuple[list[int], float]:
    """The best hypothesis with its end, as Inference._translate_batch_with_strategy finds it."""
    search = load_onmt().translate.beam_search
    strategy = search.BeamSearch(
        beam_size=BEAM, batch_size=1, pad=1, bos=2, eos=3, unk=0, start=2, n_best=1,
        global_scorer=search.GNMTGlobalScorer(0.0, -0.0, None, None), min_length=0,
        max_length=STEPS, return_attention=False, block_ngram_repeat=0, exclusion_tokens=set(),
        stepwise_penalty=False, ratio=-0.0, ban_unk_token=False,
    )  # fmt: skip
    memory, final, lengths = model.encoder(source, torch.tensor([source.shape[1]]))
    model.decoder.init_state(source, memory, final)
    tile, memory, _ = strategy.initialize(memory, lengths, None, target_prefix=None)
    model.decoder.map_state(tile)
    for _ in range(strategy.max_length):
        tokens = strategy.current_predictions.view(-1, 1, 1)
        out, _ = model.decoder(tokens, memory, src_len=strategy.src_len)
        log_probs = torch.log_softmax(model.generator(out.squeeze(1)), -1)
        strategy.advance(log_probs, None)
        ended = any(map(any, strategy.is_finished_list))
        if ended:
            strategy.update_finished()
            if strategy.done:
                break
        chosen = strategy.select_indices
        if ended:
            memory = memory[chosen]
        model.decoder.map_state(lambda state, _, chosen=chosen: state[chosen])
    return strategy.predictions[0][0].tolist(), strategy.scores[0][0]


SEARCHED = 12
SETTINGS: list[list[str]] = [
    [],
    ["--length_penalty", "wu", "--alpha", "0.7"],
    ["--n_best", "4", "--min_length", "2", "--max_length_ratio", "0", "--max_length", "9"],
]


@torch.no_grad()
def searches(saved: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Hypotheses of every setting for random sources, by the program's own Translator."""
    onmt, model, random = load_onmt(), rebuilt(saved), np.random.default_rng(seed)
    vocabs = onmt.inputters.inputter.dict_to_vocabs(saved["vocab"])
    features = saved["vocab"].get("src_feats", [])
    found = []
    for _ in range(SEARCHED):
        length = int(random.integers(1, 8))
        inputs = {"tokens": random.integers(4, 11, length).tolist()}
        for number, words in enumerate(features):
            inputs[f"src_feat_{number}"] = random.integers(0, len(words), length).tolist()
        source = torch.tensor(np.stack(list(inputs.values()), 1))[None]
        batch = {"src": source, "srclen": torch.tensor([length])}
        for number, given in enumerate(SETTINGS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = translator(onmt, model, vocabs, saved["opt"], given)
                result = made.translate_batch(batch, False)
            hypotheses = [
                [ids.tolist(), round(float(score), 6)]
                for ids, score in zip(result["predictions"][0], result["scores"][0], strict=True)
            ]
            found.append({"inputs": inputs, "setting": number, "found": hypotheses})
    return found


def translator(onmt: Any, model: Any, vocabs: Any, options: Namespace, given: list[str]) -> Any:
    parser = onmt.utils.parse.ArgumentParser()
    onmt.opts.translate_opts(parser)
    opt = parser.parse_args(["--model", "none", "--src", "none", *given])
    scorer = onmt.translate.GNMTGlobalScorer.from_opt(opt)
    return onmt.translate.Translator.from_opt(
        model, vocabs, opt, options, global_scorer=scorer, report_score=False
    )


def make(folder: Path) -> None:
    torch.manual_seed(1)
    outputs, made = {}, {}
    for name, given in MODELS.items():
        made[name] = saved = checkpoint(**given)
        torch.save(saved, folder / f"{name}.pt")
        outputs |= {f"{name}/{key}": array for key, array in record(saved).items()}
    searched = {name: searches(saved, seed) for seed, (name, saved) in enumerate(made.items())}
    np.savez_compressed(folder / "outputs.npz", **outputs)
    text = json.dumps({"settings": SETTINGS, **searched}).encode()
    (folder / "searches.json.xz").write_bytes(lzma.compress(text, preset=9))
    files = [*folder.glob("*.pt"), folder / "outputs.npz", folder / "searches.json.xz"]
    digests = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted(files)}
    (folder / "sha256.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(__file__).parent)
