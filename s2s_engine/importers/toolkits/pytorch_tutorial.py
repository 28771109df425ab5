"""Checkpoints of PyTorch's tutorial on translation with attention, old and new: one file, or an
encoder's and a decoder's. Knows names, ids and the tutorial's constants; never equations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ...architectures import pytorch_tutorials
from ...architectures.weights import Weights
from ...builder import ModelBuilder
from ...model import Model
from ..checkpoint import PAIR, Checkpoint
from ..importer import Importer, Option, Options, Peer

START, END = 0, 1
MAX_LENGTH = 10  # the tutorial's constant; the old attention has it as its number of slots
ENCODER = {"embedding.weight", "gru.weight_ih_l0"}
DECODERS: dict[str, tuple[set[str], Callable[[ModelBuilder, Weights], None]]] = {
    "old": ({"attn.weight", "attn_combine.weight"}, pytorch_tutorials.attention_decoder_old),
    "new": (
        {"attention.Wa.weight", "attention.Ua.weight", "attention.Va.weight"},
        pytorch_tutorials.attention_decoder,
    ),
    "plain": (set(), pytorch_tutorials.decoder_rnn),
}
KNOWN = re.compile(
    r"encoder\.(embedding\.weight|gru\.(weight|bias)_[ih]h_l0)"
    r"|decoder\.(embedding\.weight|gru\.(weight|bias)_[ih]h_l0|out\.(weight|bias)"
    r"|attn\.(weight|bias)|attn_combine\.(weight|bias)|attention\.[WUV]a\.(weight|bias))"
)
OPTIMIZERS = re.compile(r"(^|[._])optim|^(iteration|loss)")


def weights(checkpoint: Checkpoint) -> dict[str, Any]:
    """The arrays as `encoder.*` and `decoder.*`, whatever the two were saved as: a pair of files,
    or one file whose names begin with something that says encoder or decoder."""
    arrays = {n: a for n, a in checkpoint.arrays.items() if not OPTIMIZERS.search(n)}
    found: dict[str, Any] = {}
    for role in PAIR:
        roots = {
            name.removesuffix("embedding.weight")
            for name in arrays
            if name.endswith("embedding.weight") and _role(name) == role
        }
        if len(roots) != 1:
            return {}
        root = roots.pop()
        found |= {
            f"{role}.{n[len(root) :]}": a for n, a in arrays.items() if root and n.startswith(root)
        }
    return found


def _role(name: str) -> str | None:
    root = name.removesuffix("embedding.weight").lower()
    told = [role for role in PAIR if root.startswith(role[:2]) or role in root]
    return told[0] if len(told) == 1 else None


def kind(w: dict[str, Any]) -> str | None:
    """ "old", "new" or "plain" (no attention); None for anything else."""
    if not ({f"{role}.{name}" for role in PAIR for name in ENCODER} | {"decoder.out.weight"}) <= (
        w.keys()
    ):
        return None
    for name, (needed, _) in DECODERS.items():
        if {f"decoder.{one}" for one in needed} <= w.keys():
            return name
    return None


def _recognises(checkpoint: Checkpoint) -> bool:
    if checkpoint.format not in ("torch", "pair", "npz", "arrays", "safetensors"):
        return False
    return kind(weights(checkpoint)) is not None


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    w = weights(checkpoint)
    which = kind(w)
    if which is None:
        raise checkpoint.refuse(
            "is no encoder and decoder of the tutorial: each needs embedding.weight and gru.*, the "
            "decoder out.weight; give one file with both, or the two files, the encoder's first"
        )
    for name in w:
        if not KNOWN.fullmatch(name):
            raise checkpoint.refuse(f"array {name!r} is not of the tutorial's network")
    named = {name.removesuffix("_l0"): array for name, array in w.items()}
    sizes = {"tokens": w["encoder.embedding.weight"], "target": w["decoder.embedding.weight"]}
    m = ModelBuilder(source=len(sizes["tokens"]), target=len(sizes["target"]))
    DECODERS[which][1](m, named)
    limit = len(w["decoder.attn.weight"]) if which == "old" else options.get("max_length")
    return m.build(
        source={"append": [END]},
        start=START,
        end=[END],
        vocabularies=options.vocabularies(len(sizes["tokens"]), len(sizes["target"])),
        generation={"max_length": limit or MAX_LENGTH},
    )


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.pytorch_tutorial import Tutorial

    return Tutorial(weights(checkpoint))


IMPORTER = Importer(
    name="pytorch_tutorial",
    title="PyTorch's tutorial on translation with attention",
    reads="one file with both modules or their state dicts, or an encoder's and a decoder's file: "
    "DecoderRNN, AttnDecoderRNN until 2023 (with its slots) and since; no vocabularies",
    refuses="modules that were changed: every array must be one of the tutorial's",
    recognises=_recognises,
    build=_build,
    options=(
        Option("max_length", int, "how many ids are generated at most (the tutorial's MAX_LENGTH)"),
    ),
    peer=_peer,
)
