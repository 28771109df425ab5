"""Writes this folder's fixtures with fairseq's own lstm and lstm_lm modules and SequenceGenerator.

    git clone https://github.com/facebookresearch/fairseq     (3d262bb25690, of 2025-01)
    pip install torch omegaconf regex sacrebleu bitarray      (torch 2.13.0, omegaconf 2.4.0)
    python make.py <the clone>

Only the modules named in `load` are imported: fairseq's packages pull in hydra 1.0, which no
longer installs. Weights are drawn with seed 7 and rounded to float16, so that the file is small;
logits and scores are computed in float64. `beams` of a case: the ids and scores that the generator
with its defaults (beam 5, length penalty 1, no end at the first step) gives with max_len_b = `b`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1]))
from packed import pack  # noqa: E402

SEED = 7
SOURCE, TARGET = 7, 9  # words besides the four specials; the target is padded to a multiple of 8
BASE = {"encoder_embed_dim": 4, "decoder_embed_dim": 4, "decoder_out_embed_dim": 6}
BASE |= {"encoder_hidden_size": 6, "decoder_hidden_size": 6}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "two_layers": {"encoder_layers": 2, "decoder_layers": 2},
    "bidirectional": {"encoder_bidirectional": True},
    "bidirectional_two": {"encoder_bidirectional": True, "encoder_layers": 2, "decoder_layers": 2},
    "no_attention": {"decoder_attention": "0"},
    "projected": {"decoder_hidden_size": 5},
    "no_attention_projected": {"decoder_attention": "False", "encoder_bidirectional": True},
    "tied": {"share_decoder_input_output_embed": True, "decoder_out_embed_dim": 4},
    "all_tied": {"share_all_embeddings": True, "decoder_out_embed_dim": 4},
    "wiseman": {"arch": "lstm_wiseman_iwslt_de_en"},
}
MODELS = {
    "lm": {"decoder_layers": 2, "residuals": False},
    "lm_residuals": {"decoder_layers": 3, "residuals": True, "decoder_out_embed_dim": 5},
    "lm_tied": {"share_decoder_input_output_embed": True, "decoder_out_embed_dim": 4},
}


def load(clone: Path) -> types.SimpleNamespace:
    """fairseq's modules without its packages' __init__."""

    def package(name: str) -> types.ModuleType:
        module = types.ModuleType(name)
        module.__path__ = [str(clone.joinpath(*name.split(".")))]
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
        return module

    def unchanged(*_: Any) -> Any:
        return lambda cls: cls

    for name in ("fairseq", "fairseq.dataclass", "fairseq.distributed"):
        package(name)
    modules, data, models = (package(f"fairseq.{n}") for n in ("modules", "data", "models"))
    utils: Any = package("fairseq.dataclass.utils")
    utils.convert_namespace_to_omegaconf = utils.gen_parser_from_dataclass = None
    get = importlib.import_module
    sys.modules["fairseq"].utils = get("fairseq.utils")  # type: ignore[attr-defined]
    modules.FairseqDropout = get("fairseq.modules.fairseq_dropout").FairseqDropout  # type: ignore
    modules.AdaptiveSoftmax = get("fairseq.modules.adaptive_softmax").AdaptiveSoftmax  # type: ignore
    dictionary = get("fairseq.data.dictionary").Dictionary
    data.Dictionary = dictionary  # type: ignore[attr-defined]
    models.register_model = models.register_model_architecture = unchanged  # type: ignore
    for file in ("fairseq_decoder", "fairseq_encoder", "fairseq_incremental_decoder"):
        name = "".join(word.capitalize() for word in file.split("_"))
        setattr(models, name, getattr(get(f"fairseq.models.{file}"), name))
    model = get("fairseq.models.fairseq_model")
    models.FairseqEncoderDecoderModel = model.FairseqEncoderDecoderModel  # type: ignore
    models.FairseqLanguageModel = model.FairseqLanguageModel  # type: ignore[attr-defined]
    return types.SimpleNamespace(
        Dictionary=dictionary,
        lstm=get("fairseq.models.lstm"),
        lstm_lm=get("fairseq.models.lstm_lm"),
        SequenceGenerator=get("fairseq.sequence_generator").SequenceGenerator,
    )


def words(fairseq: Any, letter: str, count: int, factor: int) -> Any:
    """A dictionary as fairseq-preprocess finalises and loads it."""
    made = fairseq.Dictionary()
    for n in range(count):
        made.add_symbol(f"{letter}{n}", n=100 - n)
    made.finalize(padding_factor=factor)
    return made


def randomise(model: Any, random: np.random.Generator) -> None:
    for parameter in model.parameters():
        drawn = (0.6 * random.standard_normal(tuple(parameter.shape))).astype(np.float16)
        parameter.data = torch.from_numpy(drawn.astype(np.float64))
    for name, parameter in model.named_parameters():
        if name == "decoder.fc_out.bias":
            parameter.data[1] = -12  # padding is never a target: a trained model does not give it
    model.double().eval()


def options(arch: str, given: dict[str, Any]) -> argparse.Namespace:
    known = {"arch": arch, "criterion": "cross_entropy"} | BASE | given
    if known["arch"] == "lstm_wiseman_iwslt_de_en":
        known["decoder_out_embed_dim"] = 6
    return argparse.Namespace(**known)


def record(values: dict[str, Any], case: str, source: Any, target: list[int]) -> None:
    values |= {f"{case}/in/tokens": np.array(source, np.int32)} if source is not None else {}
    values[f"{case}/target"] = np.array(target, np.int32)


@torch.no_grad()
def translation(fairseq: Any, name: str, given: dict[str, Any], out: dict[str, Any]) -> Any:
    random = np.random.default_rng(SEED)
    args = options("lstm", given | {"task": "translation", "source_lang": "de"})
    args.target_lang = "en"
    source = words(fairseq, "s", SOURCE, 1)
    joint = getattr(args, "share_all_embeddings", False)
    target = source if joint else words(fairseq, "t", TARGET, 8)
    task = types.SimpleNamespace(source_dictionary=source, target_dictionary=target)
    if args.arch != "lstm":
        getattr(fairseq.lstm, args.arch)(args)
    model = fairseq.lstm.LSTMModel.build_model(args, task)
    randomise(model, random)
    for parameter, array in model.state_dict().items():
        out[f"{name}/weights/{parameter}"] = array.numpy().astype(np.float16)
    beams = []
    for number, length in enumerate((1, 4, 7)):
        tokens = [*random.integers(3, len(source), length).tolist(), 2]
        forced = random.integers(3, len(target), 6).tolist()
        src = torch.tensor([tokens])
        logits, _ = model(src, torch.tensor([len(tokens)]), torch.tensor([[2, *forced]]))
        case = f"{name}/{number}"
        record(out, case, tokens, forced)
        out[f"{case}/decoder.logits"] = logits[0].numpy().astype(np.float32)
        for limit in (25, 8):
            generator = fairseq.SequenceGenerator([model], target, beam_size=5, max_len_b=limit)
            net = {"src_tokens": src, "src_lengths": torch.tensor([len(tokens)])}
            for best in generator.generate([model], {"net_input": net}):
                found = [[one["tokens"].tolist(), round(float(one["score"]), 5)] for one in best]
                beams.append({"source": tokens, "b": limit, "beams": found})
    return {"args": vars(args), "beams": beams}


@torch.no_grad()
def language_model(fairseq: Any, name: str, given: dict[str, Any], out: dict[str, Any]) -> Any:
    random = np.random.default_rng(SEED)
    args = options("lstm_lm", given | {"task": "language_modeling"})
    target = words(fairseq, "t", TARGET, 8)
    task = types.SimpleNamespace(
        dictionary=target, source_dictionary=target, target_dictionary=target
    )
    model = fairseq.lstm_lm.LSTMLanguageModel.build_model(args, task)
    randomise(model, random)
    for parameter, array in model.state_dict().items():
        out[f"{name}/weights/{parameter}"] = array.numpy().astype(np.float16)
    for number in range(2):
        forced = random.integers(3, len(target), 6).tolist()
        logits, _ = model(torch.tensor([[2, *forced]]))
        record(out, f"{name}/{number}", None, forced)
        out[f"{name}/{number}/decoder.logits"] = logits[0].numpy().astype(np.float32)
    beams = []
    for limit in (25, 8):
        generator = fairseq.SequenceGenerator([model], target, beam_size=5, max_len_b=limit)
        net = {"src_tokens": torch.tensor([[2]]), "src_lengths": torch.tensor([1])}
        for best in generator.generate([model], {"net_input": net}, bos_token=2):
            found = [[one["tokens"].tolist(), round(float(one["score"]), 5)] for one in best]
            beams.append({"source": [], "b": limit, "beams": found})
    return {"args": vars(args), "beams": beams}


def main(clone: Path) -> None:
    sys.path.insert(0, str(clone))
    torch.set_num_threads(1)
    fairseq = load(clone)
    out: dict[str, Any] = {}
    facts = {name: translation(fairseq, name, given, out) for name, given in CASES.items()}
    facts |= {name: language_model(fairseq, name, given, out) for name, given in MODELS.items()}
    pack(FOLDER / "fairseq.npz", out, facts)
    # One whole checkpoint, as Trainer.state_dict has it in releases 0.9 and 0.10.
    weights = {
        parameter.split("/")[2]: torch.from_numpy(array.astype(np.float32))
        for parameter, array in out.items()
        if parameter.startswith("bidirectional/weights/")
    }
    state = {
        "args": argparse.Namespace(**facts["bidirectional"]["args"]),
        "cfg": None,
        "model": weights,
        "optimizer_history": [{"criterion_name": "CrossEntropyCriterion", "num_updates": 1}],
        "extra_state": {"train_iterator": {"epoch": 1}},
        "last_optimizer_state": {"state": {}, "param_groups": []},
    }
    torch.save(state, FOLDER / "checkpoint_best.pt")
    # Releases between may hold omegaconf's own objects.
    prefix = "lm_residuals/weights/"
    config = {"_name": "lstm_lm", "residuals": True, "decoder_layers": 3}
    state |= {
        "args": None,
        "cfg": OmegaConf.create({"model": config, "task": {"_name": "language_modeling"}}),
        "model": {
            name.removeprefix(prefix): torch.from_numpy(array.astype(np.float32))
            for name, array in out.items()
            if name.startswith(prefix)
        },
    }
    torch.save(state, FOLDER / "checkpoint_cfg.pt")
    words(fairseq, "s", SOURCE, 1).save(str(FOLDER / "dict.de.txt"))
    words(fairseq, "t", TARGET, 8).save(str(FOLDER / "dict.en.txt"))
    names = ("fairseq.npz", "checkpoint_best.pt", "checkpoint_cfg.pt", "dict.de.txt", "dict.en.txt")
    sums = {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in names}
    (FOLDER / "sha256.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
