"""The g2p_en package's checkpoint: English letters to phonemes by a GRU encoder-decoder. Knows its
arrays, ids and symbols; never equations."""

from __future__ import annotations

from ...architectures import toolkits
from ...model import Model
from ..checkpoint import Checkpoint
from ..importer import Importer, Options, Peer

NAMES = {"enc_emb", "enc_w_ih", "dec_emb", "dec_w_ih", "fc_w"}
# The package has its symbols in its code: 29 graphemes and 74 phonemes of the CMU dictionary.
GRAPHEMES = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
_PHONEMES = (
    "<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 "
    "B CH D DH EH0 EH1 EH2 ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG "
    "OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH"
)
PHONEMES = _PHONEMES.split()


def _recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.arrays.keys() >= NAMES


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    w = checkpoint.arrays
    sizes = {"source": w["enc_emb"].shape[0], "target": w["dec_emb"].shape[0]}
    lists = {"source": GRAPHEMES, "target": PHONEMES}
    stored = {side: lists[side] for side, size in sizes.items() if len(lists[side]) == size}
    words = options.vocabularies(**sizes, stored=stored)
    return toolkits.g2p_en(w, rules={"vocabularies": words, "characters": "tokens" in words})


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.g2p_en import G2pEn

    return G2pEn(checkpoint.arrays)


IMPORTER = Importer(
    name="g2p_en",
    title="g2p_en",
    reads="`checkpoint20.npz` of the package, and arrays of the same names of any size",
    refuses="",
    recognises=_recognises,
    build=_build,
    peer=_peer,
)
