"""What stands beside the weights of a Marian model: its configuration or Nematus's, how its decoder
searches, and its vocabularies. Knows files and keys; never equations or formats."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...errors import ModelFormatError
from ..checkpoint import Checkpoint
from ..importer import Options
from ..readers.marian_vocabularies import END, UNKNOWN, Vocabulary, read_vocabulary
from ..readers.yaml import read_yaml, text_of

MAX_NAME = 255
BEAM_SIZE, MAX_LENGTH_FACTOR = 12, 3  # Marian's decoder, where nothing else is said
# Keys of Nematus (Theano) that must have one value, and what Nematus calls it by default.
NEMATUS = {
    "encoder": "gru", "decoder": "gru_cond", "enc_depth": 1, "dec_depth": 1, "factors": 1,
    "weight_normalisation": False, "dec_deep_context": False, "output_hidden_activation": "tanh",
}  # fmt: skip


def config_of(checkpoint: Checkpoint, weights: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What the file's configuration says; for a file of Nematus or Amun, which has none, what its
    weights say, under Marian's keys."""
    config: dict[str, Any] | None = getattr(checkpoint.content, "config", None)
    if config is not None:
        return config
    _check_nematus(checkpoint)
    norm = any(name.endswith("_lns") for name in weights)
    source, target = weights["encoder_Wemb"], weights.get("decoder_Wemb", weights["encoder_Wemb"])
    for table in (source, target, weights["decoder_cell1_U"]):
        if table.ndim != 2:
            raise ModelFormatError(f"a matrix has the shape {table.shape}, must have two axes")
    depths = {
        "enc-cell-depth": _count(weights, r"encoder_bi_cell(\d+)_U", 1),
        "dec-cell-base-depth": _count(weights, r"decoder_cell(\d+)_U", 2),
    }
    nematus = norm or sum(depths.values()) > 3  # Amun has no transitions
    cell = "gru-nematus" if nematus else "gru"
    output = weights.keys() & {"decoder_ff_logit_l2_W", "decoder_ff_logit_l2_Wt"}
    return {
        "type": "nematus" if nematus else "amun",
        "dim-vocabs": [source.shape[0], target.shape[0]],
        "dim-emb": source.shape[-1],
        "dim-rnn": weights["decoder_cell1_U"].shape[0],
        "enc-cell": cell,
        "dec-cell": cell,
        **depths,
        "layer-normalization": norm or any("gamma" in name for name in weights),
        "tied-embeddings": not output,
        "tied-embeddings-src": "decoder_Wemb" not in weights,
    }


def _count(weights: Mapping[str, Any], pattern: str, least: int) -> int:
    found = [re.fullmatch(pattern, name) for name in weights]
    return max([least, *(int(one[1][:3]) for one in found if one)])


def _check_nematus(checkpoint: Checkpoint) -> None:
    """The configuration that Nematus writes beside its weights says what these do not."""
    path = _beside(checkpoint, ".json")
    if path is None:
        return
    try:
        config = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: no JSON: {str(error)[:200]}") from None
    if not isinstance(config, dict):
        raise ModelFormatError(f"{path} must hold an object")
    for key, value in NEMATUS.items():
        if config.get(key, value) != value:
            raise ModelFormatError(f"{path}: {key} is {config[key]!r}; only {value!r} is read")
    version = config.get("model_version", 0)
    if config.get("use_dropout") and not (type(version) in (int, float) and version >= 0.1):
        raise ModelFormatError(
            f"{path}: use_dropout with model_version {version!r}, below 0.1: Nematus scales its "
            "states when it translates, which is not read"
        )


def generation_of(decoder: Mapping[str, Any]) -> dict[str, Any]:
    """Marian's search, as its defaults and the decoder's configuration say."""
    beam, alpha = decoder.get("beam-size", BEAM_SIZE), decoder.get("normalize") or 0
    factor = decoder.get("max-length-factor", MAX_LENGTH_FACTOR)
    for key, value in (("beam-size", beam), ("max-length-factor", factor)):
        if type(value) not in (int, float) or value != int(value) or value < 1:
            raise ModelFormatError(f"the decoder's {key} is {value!r}, must be a whole number")
    if not isinstance(alpha, (int, float)):
        raise ModelFormatError(f"the decoder's normalize is {alpha!r}, must be a number")
    if decoder.get("word-penalty"):
        raise ModelFormatError(
            f"the decoder's word-penalty is {decoder['word-penalty']!r}: only 0 is read"
        )
    rule = {"beam_size": int(beam), "max_length": [int(factor), 0], "early_stop": "marian"}
    return {**rule, **({"length_penalty": float(alpha)} if alpha else {})}


def decoder_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The decoder's configuration beside a model, of its name or naming it; empty without one."""
    own = _beside(checkpoint, ".decoder.yml")
    shared = checkpoint.beside("decoder.yml")
    if own is not None:
        return read_yaml(own)
    if shared is None or checkpoint.path is None:
        return {}
    found = read_yaml(shared)
    names = [Path(str(name)).name for name in _listed(found, "models")]
    return found if checkpoint.path.name in names else {}


def vocabularies_of(
    checkpoint: Checkpoint, options: Options, decoder: Mapping[str, Any], sizes: Sequence[int]
) -> dict[str, Vocabulary | None]:
    """Of "source" and "target": as options say, else the files of these names beside the model."""
    names = _listed(decoder, "vocabs")
    if not names and (training := _beside(checkpoint, ".yml")) is not None:
        names = _listed(read_yaml(training), "vocabs")
    found: dict[str, Vocabulary | None] = {}
    for number, (side, size) in enumerate(zip(("source", "target"), sizes, strict=True)):
        stored = None
        if f"{side}_vocabulary" not in options.given and len(names) == len(sizes):
            name = Path(str(names[number])).name
            path = checkpoint.beside(name) if len(name.encode()) <= MAX_NAME else None
            stored = None if path is None else read_vocabulary(path, size)
        words = options.vocabulary(side, size, None if stored is None else stored.words)
        if stored is None and words is not None:
            stored = Vocabulary(words, *(_place(words, w, n) for w, n in ((END, 0), (UNKNOWN, 1))))
        found[side] = stored
    return found


def _place(words: list[str], word: str, default: int) -> int:
    return words.index(word) if word in words else default


def _listed(config: Mapping[str, Any], key: str) -> list[Any]:
    value = config.get(key)
    return value if isinstance(value, list) else []


def _beside(checkpoint: Checkpoint, ending: str) -> Path | None:
    if checkpoint.path is None:
        return None
    return checkpoint.beside(checkpoint.path.name + ending)
