"""Marian's recurrent models, and those of Amun and Nematus in the same container. Knows which
weights belong to a configuration, and the ids; never equations or formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...architectures.nematus import amun_names, marian
from ...model import Model
from ..checkpoint import Checkpoint
from ..configurations.marian_parameters import Settings, parameters, settings
from ..configurations.marian_settings import config_of, decoder_of, generation_of, vocabularies_of
from ..importer import Importer, Options, Peer

# By these a file without a configuration is one of Nematus or Amun.
NAMES = {"Wemb", "decoder_U_nl", "decoder_Wcx", "ff_logit_lstm_W"}
# What training leaves in a file.
LEFT = {"decoder_c_tt", "uidx", "history_errs"}
OUTPUT = {"decoder_ff_logit_l2_W", "decoder_ff_logit_l2_Wt"}
SHOWN = 5


def _recognises(checkpoint: Checkpoint) -> bool:
    if checkpoint.format == "marian" and checkpoint.content.config is not None:
        return "type" in checkpoint.content.config
    return checkpoint.format in ("marian", "npz", "arrays") and checkpoint.arrays.keys() >= NAMES


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    s, weights = _read(checkpoint)
    decoder = decoder_of(checkpoint)
    words = vocabularies_of(checkpoint, options, decoder, s["dim-vocabs"])
    rules: dict[str, Any] = {"generation": generation_of(decoder)}
    named = {"tokens": words["source"], "target": words["target"]}
    rules["vocabularies"] = {name: one.words for name, one in named.items() if one is not None}
    if (source := words["source"]) is not None:
        rules["source"] = {"append": [source.end], "unknown": source.unknown}
    if (target := words["target"]) is not None:
        rules["end"] = [target.end]
    model = marian(
        weights,
        layer_norm=s.norm,
        alternating=s["enc-type"] == "alternating",
        skip=s["skip"],
        rules=rules,
    )
    return replace(model, provenance={**model.provenance, "type": s["type"]})


def _read(checkpoint: Checkpoint) -> tuple[Settings, dict[str, NDArray[Any]]]:
    """The configuration, and the weights under the names of type s2s: exactly those it has."""
    stored = {name: array for name, array in checkpoint.arrays.items() if name not in LEFT}
    config = getattr(checkpoint.content, "config", None)
    old = config is None or config.get("type") in ("amun", "nematus")
    weights = {n: np.asarray(a) for n, a in (amun_names(stored) if old else stored).items()}
    s = settings(config_of(checkpoint, weights))
    if old and s.one_table and "Wemb" not in weights and "encoder_Wemb" in weights:
        weights["Wemb"] = weights.pop("encoder_Wemb")
    source, target = s["dim-vocabs"]
    _check(checkpoint, s, weights, source, target)
    return s, weights


def _check(
    checkpoint: Checkpoint,
    s: Settings,
    weights: Mapping[str, NDArray[Any]],
    source: int,
    target: int,
) -> None:
    expected = parameters(s, source, target)
    if not s.tied_output:
        found = sorted(OUTPUT & weights.keys())
        if len(found) != 1:
            raise checkpoint.refuse(
                f"has {' and '.join(found) or 'no matrix of the output'}, must have one of "
                f"{' and '.join(sorted(OUTPUT))}, unless the output is tied"
            )
        e = s["dim-emb"]
        expected[found[0]] = (target, e) if found[0].endswith("Wt") else (e, target)
    for what, names in (
        ("is without", expected.keys() - weights.keys()),
        ("has, beyond what its configuration says,", weights.keys() - expected.keys()),
    ):
        if names:
            shown = ", ".join(name[:80] for name in sorted(names)[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise checkpoint.refuse(
                f"{what} {shown}{more} (type {s['type']}, enc-cell {s['enc-cell']}, dec-cell "
                f"{s['dec-cell']}, enc-depth {s['enc-depth']}, dec-depth {s['dec-depth']}): not "
                "the weights of this configuration"
            )
    for name, shape in expected.items():
        array = weights[name]
        if array.dtype.kind != "f":
            raise checkpoint.refuse(f"{name} is of type {array.dtype}, must be of real numbers")
        has = array.shape if array.ndim != 1 else (1, *array.shape)
        if has != shape:
            raise checkpoint.refuse(f"{name} has the shape {has}, its configuration says {shape}")
    if s.one_table and source != target:
        raise checkpoint.refuse(f"dim-vocabs is {source}, {target}: tied embeddings need one size")


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.marian import MarianScorer

    config = _read(checkpoint)[0].config
    words = vocabularies_of(checkpoint, options, decoder_of(checkpoint), config["dim-vocabs"])
    target = words["target"]
    return MarianScorer(checkpoint, config, 0 if target is None else target.end)


IMPORTER = Importer(
    name="marian",
    title="Marian, Amun, Nematus",
    reads=(
        "recurrent models (types s2s, amun, nematus) in `.npz` and `.bin`: gru, gru-nematus and "
        "lstm cells, all encoder types and depths, both layer norms, tied embeddings; Theano "
        "Nematus and Amun files without a configuration. Search and vocabularies (YAML, JSON, "
        "text, pieces of SentencePiece) from `.decoder.yml` and the files it names, beside the "
        "model. Marian never writes `<unk>`, which this engine may"
    ),
    refuses=(
        "transformers and students (other networks); models of languages, characters and several "
        "sources; mlstm, mgru, tanh, relu, sru, ssru cells; right-left models; factored "
        "vocabularies; weights packed or quantised"
    ),
    recognises=_recognises,
    build=_build,
    peer=_peer,
)
