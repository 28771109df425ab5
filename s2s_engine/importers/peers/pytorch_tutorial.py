"""The tutorial's networks from PyTorch's own modules, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..importer import Trace
from .modules import Arrays, embedding, linear, numbers, part, stacked


class Tutorial:
    """EncoderRNN and one of the three decoders, a token at a time."""

    def __init__(self, w: Arrays) -> None:
        self.framework = f"torch {torch.__version__}"
        self.source = embedding(w["encoder.embedding.weight"])
        self.target = embedding(w["decoder.embedding.weight"])
        self.encoder = stacked(torch.nn.GRU, part(w, "encoder.gru."))
        self.decoder = stacked(torch.nn.GRU, part(w, "decoder.gru."))

        def dense(name: str) -> torch.nn.Module | None:
            weight = w.get(f"decoder.{name}.weight")
            return None if weight is None else linear(weight, w.get(f"decoder.{name}.bias"))

        self.layers = {
            name: dense(name)
            for name in ("out", "attn", "attn_combine", "attention.Wa", "attention.Ua",
                         "attention.Va")
        }  # fmt: skip

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        memory, h = self.encoder(self.source(torch.tensor([inputs["tokens"]])))
        found: dict[str, list[torch.Tensor]] = {"h": [], "logits": []}
        first = h[0, 0]
        for token in (0, *target):
            y = self.target(torch.tensor([token]))
            x, weights = self._read(y, h[0], memory[0])
            _, h = self.decoder(x[None], h)
            found["h"].append(h[0, 0])
            out = self.layers["out"]
            assert out is not None
            found["logits"].append(out(h[0, 0]))
            if weights is not None:
                found.setdefault("alignment", []).append(weights)
        steps = {f"decoder.{name}": torch.stack(values) for name, values in found.items()}
        return numbers({"encoder.memory": memory[0], "encoder.h": first, **steps})

    def _read(
        self, y: torch.Tensor, h: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the decoder's GRU reads (1, I), and weights (S)."""
        attn, combine = self.layers["attn"], self.layers["attn_combine"]
        if attn is not None and combine is not None:
            slots = torch.softmax(attn(torch.cat([y, h], 1)), 1)[0]
            # Outputs of the encoder are written into as many rows of zeros as there are slots.
            rows = torch.zeros(max(len(slots), len(memory)), memory.shape[1], dtype=memory.dtype)
            rows[: len(memory)] = memory
            padded = torch.zeros(len(rows), dtype=memory.dtype)
            padded[: len(slots)] = slots
            context = (padded @ rows)[None]
            return torch.relu(combine(torch.cat([y, context], 1))), padded[: len(memory)]
        wa, ua, va = (self.layers[f"attention.{name}a"] for name in "WUV")
        if wa is not None and ua is not None and va is not None:
            weights = torch.softmax(va(torch.tanh(wa(h) + ua(memory)))[:, 0], 0)
            return torch.cat([y, (weights @ memory)[None]], 1), weights
        return torch.relu(y), None
