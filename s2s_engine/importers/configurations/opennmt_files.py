"""What an OpenNMT-py checkpoint of any era holds: weights, options and vocabularies, in one file or
two. Knows where they stand; never equations, and not what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checkpoint import Array, Checkpoint
from ..readers.arrays import read_safetensors
from ..readers.pickle_values import Placeholder
from ..readers.torch_files import read_torch, tensors_of, vocabularies_of

SIDES = {"source": "src", "target": "tgt"}
UNKNOWN, START, END = "<unk>", "<s>", "</s>"
KEYS = {"opt", "vocab"}
NAME = "decoder.embeddings.make_embedding.emb_luts.0.weight"


@dataclass(frozen=True)
class Parts:
    """weights: by the names of the model, the generator's behind `generator.`. opt: the options of
    training. words: "source", "target", and the features' in the order of their tables. start: the
    word that the decoder starts from. task: "seq2seq" or "lm". era: the version since which
    checkpoints look like this one: 0.2, 0.8.2, 2.3, 3.0 or 3.5."""

    weights: Mapping[str, Array]
    opt: Mapping[str, Any]
    words: Mapping[str, list[str]]
    features: list[list[str]]
    start: str
    task: str
    era: str


def recognises(checkpoint: Checkpoint) -> bool:
    """A file of torch.save with opt and vocab, or the safetensors file beside one."""
    if checkpoint.format == "safetensors":
        return {NAME, "generator.weight"} <= checkpoint.arrays.keys()
    content = checkpoint.content
    if checkpoint.format != "torch" or type(content) is not dict or not content.keys() >= KEYS:
        return False
    opt = content["opt"]
    return type(opt) is Placeholder and str(opt) == "argparse.Namespace"


def read_parts(checkpoint: Checkpoint) -> Parts:
    """The parts; ModelFormatError names what is missing."""
    content, weights = _content(checkpoint), dict[str, Array]()
    if checkpoint.format == "safetensors":
        weights = checkpoint.arrays
    elif "model" in content:
        weights = tensors_of(content["model"])
        if content.get("generator") is not None:
            generator = tensors_of(content["generator"])
            weights |= {f"generator.{name}": array for name, array in generator.items()}
    else:
        weights = read_safetensors(_other(checkpoint, ".safetensors", "the weights"))
    opt = content["opt"].state
    if type(opt) is not dict:
        raise checkpoint.refuse("its opt is empty, must hold the options of training")
    vocab = content["vocab"]
    found = vocabularies_of(vocab)
    words = {side: found[name] for side, name in SIDES.items() if name in found}
    lists = type(vocab) is dict and type(vocab.get("src")) is list
    facts = vocab if lists else {}
    return Parts(
        weights,
        opt,
        words,
        _features(vocab, found),
        _text(facts.get("decoder_start_token"), START),
        _text(facts.get("data_task"), _text(opt.get("model_task"), "seq2seq")),
        _era(vocab, opt, lists),
    )


def _era(vocab: Any, opt: Mapping[str, Any], lists: bool) -> str:
    """By how vocabularies are kept (pairs; fields by side; since 3.0 plain lists), and by options
    of training that came with a version."""
    if lists:
        return "3.5" if "num_experts" in opt else "3.0"
    if type(vocab) is not dict:
        return "0.2"
    return "2.3" if "train_metrics" in opt else "0.8.2"


def _content(checkpoint: Checkpoint) -> dict[str, Any]:
    """The dictionary of torch.save."""
    content = checkpoint.content
    if checkpoint.format == "safetensors":
        content = read_torch(_other(checkpoint, ".pt", "the options and vocabularies"))
    if type(content) is not dict or not content.keys() >= KEYS:
        raise checkpoint.refuse("holds no opt and vocab: no checkpoint of OpenNMT-py")
    if type(content["opt"]) is not Placeholder:
        raise checkpoint.refuse("its opt is no argparse.Namespace: no checkpoint of OpenNMT-py")
    return content


def _other(checkpoint: Checkpoint, suffix: str, what: str) -> Any:
    """The second file of a checkpoint that 3.x wrote as two."""
    name = None if checkpoint.path is None else checkpoint.path.with_suffix(suffix).name
    path = None if name is None else checkpoint.beside(name)
    if path is None:
        raise checkpoint.refuse(
            f"{what} are in the file {name or f'*{suffix}'} that OpenNMT-py wrote beside it: give "
            "a path, and keep both files in one folder"
        )
    return path


def _features(vocab: Any, found: Mapping[str, list[str]]) -> list[list[str]]:
    """Vocabularies of source features: a list since 3.0, before that fields sorted by name, inside
    that of the source where there is one by side; others beside it (corpus_id) are no input."""
    listed = vocab.get("src_feats") if type(vocab) is dict else None
    if type(listed) is list:
        return [words for words in listed if type(words) is list]
    inside = vocabularies_of(vocab["src"]) if type(vocab) is dict and "src" in vocab else found
    names = sorted(name for name in inside if name and name not in SIDES.values())
    return [inside[name] for name in names if not name.startswith("tgt_feat")]


def _text(value: Any, default: str) -> str:
    return value if type(value) is str else default
