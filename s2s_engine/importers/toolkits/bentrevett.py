"""Checkpoints of bentrevett's notebooks "pytorch-seq2seq", 1 to 4, old and new. Knows names, ids
and what the notebooks' code has as constants; never equations."""

from __future__ import annotations

from typing import Any

from ...architectures import notebooks
from ...model import Model
from ..checkpoint import Checkpoint
from ..importer import Importer, Option, Options, Peer

NEEDED = (
    "encoder.embedding.weight", "encoder.rnn.weight_ih_l0", "decoder.embedding.weight",
    "decoder.rnn.weight_ih_l0", "decoder.fc_out.weight",
)  # fmt: skip
OPTIONAL = ("encoder.rnn.", "encoder.fc.", "decoder.rnn.", "decoder.fc_out.", "decoder.attention.")
# translate_sentence's limits, in the old notebooks and in the new ones.
OLD_LIMIT, NEW_LIMIT = 50, 25
REVERSED = Option(
    "reverse_source",
    bool,
    "the order in which the source is read: the old notebook 1 trained on reversed sentences "
    "(True), the new one does not (False)",
)


def weights(checkpoint: Checkpoint) -> dict[str, Any]:
    """The arrays by the network's own names, whatever they were saved inside of."""
    found = [n for n in checkpoint.arrays if n.endswith(NEEDED[0])]
    prefix = found[0].removesuffix(NEEDED[0]) if len(found) == 1 else ""
    return {n[len(prefix) :]: a for n, a in checkpoint.arrays.items() if n.startswith(prefix)}


def _recognises(checkpoint: Checkpoint) -> bool:
    return weights(checkpoint).keys() >= set(NEEDED)


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    w = weights(checkpoint)
    for name in w:
        if name not in NEEDED and not name.startswith(OPTIONAL):
            raise checkpoint.refuse(f"array {name!r} is of none of the notebooks 1 to 4")
    source: dict[str, Any] = {"prepend": [2], "append": [3], "unknown": 0}
    if w["encoder.rnn.weight_ih_l0"].shape[0] == 4 * w["encoder.rnn.weight_hh_l0"].shape[1]:
        if options.require("reverse_source"):
            # <sos>, the words reversed, <eos>: the rule reverses what it has put together.
            source |= {"prepend": [3], "append": [2], "reverse": True}
    elif options.get("reverse_source"):
        source |= {"prepend": [3], "append": [2], "reverse": True}
    limit = NEW_LIMIT if "decoder.attention.attn_fc.weight" in w else OLD_LIMIT
    rules = {
        "source": source,
        "vocabularies": options.vocabularies(
            len(w["encoder.embedding.weight"]), len(w["decoder.embedding.weight"])
        ),
        "generation": {"max_length": limit},
    }
    return notebooks.bentrevett(w, rules=rules)


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.bentrevett import Notebook

    return Notebook(weights(checkpoint))


IMPORTER = Importer(
    name="bentrevett",
    title="bentrevett's notebooks (pytorch-seq2seq)",
    reads="state dicts and whole models of notebooks 1 to 4, old and new; the notebooks do not "
    "save vocabularies",
    refuses="notebooks 5 and 6, which are not recurrent",
    recognises=_recognises,
    build=_build,
    options=(REVERSED,),
    peer=_peer,
)
