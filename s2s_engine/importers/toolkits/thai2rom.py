"""PyThaiNLP's romanisation of Thai, `thai2rom-pytorch-attn.tar`. Knows the dictionaries and names
of that file; never equations."""

from __future__ import annotations

from typing import Any

from ...architectures import toolkits
from ...model import Model
from ..checkpoint import Checkpoint
from ..importer import Importer, Options, Peer, by_id

KEYS = {"model_state_dict", "encoder_params", "decoder_params", "char_to_ix", "target_char_to_ix"}
MAX_LENGTH = 100  # in the program, not in the file


def _recognises(checkpoint: Checkpoint) -> bool:
    return (
        checkpoint.format == "torch"
        and isinstance(checkpoint.content, dict)
        and checkpoint.content.keys() >= KEYS
    )


def state_dict(checkpoint: Checkpoint) -> dict[str, Any]:
    """The weights by the network's own names."""
    prefix = "model_state_dict."
    w = checkpoint.arrays
    return {name[len(prefix) :]: array for name, array in w.items() if name.startswith(prefix)}


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    if not isinstance(checkpoint.content, dict):
        raise KeyError("model_state_dict")
    w = state_dict(checkpoint)
    letters, target = (_ids(checkpoint, key) for key in ("char_to_ix", "target_char_to_ix"))
    if "decoder.attn.attn.weight" in w:
        size = w["decoder.attn.attn.weight"].shape
        if size[0] != size[1]:
            raise checkpoint.refuse(
                f"decoder.attn.attn.weight has shape {list(size)}: attention 'concat' is not read, "
                "only 'general', which every published file has"
            )
    sizes = [len(w[f"{side}.character_embedding.weight"]) for side in ("encoder", "decoder")]
    stored = {
        "source": by_id(letters, "char_to_ix"), "target": by_id(target, "target_char_to_ix")
    }  # fmt: skip
    rules = {
        "source": {"append": [letters["<end>"]], "unknown": letters["<UNK>"]},
        "start": target["<start>"],
        "end": [target["<end>"]],
        "vocabularies": options.vocabularies(sizes[0], sizes[1], stored),
        "characters": True,
        "generation": {"max_length": MAX_LENGTH},
    }
    return toolkits.thai2rom(w, rules=rules)


def _ids(checkpoint: Checkpoint, key: str) -> dict[str, int]:
    found = checkpoint.content.get(key)
    if not isinstance(found, dict) or not all(
        isinstance(word, str) and type(id_) is int for word, id_ in found.items()
    ):
        raise checkpoint.refuse(f"{key} must map characters to ids")
    return found


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.thai2rom import Thai2Rom

    start = checkpoint.content["target_char_to_ix"]["<start>"]
    return Thai2Rom(state_dict(checkpoint), start)


IMPORTER = Importer(
    name="thai2rom",
    title="PyThaiNLP thai2rom",
    reads="`thai2rom-pytorch-attn.tar` (written by torch.save), with its characters",
    refuses="attention of kind `concat`, which no published file has",
    recognises=_recognises,
    build=_build,
    peer=_peer,
)
