"""g2p_en's network from PyTorch's own modules, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..importer import Trace
from .modules import Arrays, embedding, linear, numbers, recurrent


class G2pEn:
    """A torch.nn.GRU reads the letters, another one writes phonemes from its last state."""

    def __init__(self, w: Arrays) -> None:
        self.framework = f"torch {torch.__version__}"
        self.source, self.target = embedding(w["enc_emb"]), embedding(w["dec_emb"])
        names = ("w_ih", "w_hh", "b_ih", "b_hh")
        self.encoder = recurrent(torch.nn.GRU, [[w[f"enc_{name}"] for name in names]])
        self.decoder = recurrent(torch.nn.GRU, [[w[f"dec_{name}"] for name in names]])
        self.out = linear(w["fc_w"], w["fc_b"])

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        _, h = self.encoder(self.source(torch.tensor([inputs["tokens"]])))
        states, _ = self.decoder(self.target(torch.tensor([[2, *target]])), h)
        return numbers(
            {"encoder.h": h[0, 0], "decoder.h": states[0], "decoder.logits": self.out(states[0])}
        )
