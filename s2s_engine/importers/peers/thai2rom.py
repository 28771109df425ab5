"""thai2rom's network from PyTorch's own modules, in float64: the decoder's LSTM starts from zeros
at every step, and only attention sees the state of the step before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..importer import Trace
from .modules import Arrays, embedding, linear, numbers, part, stacked


class Thai2Rom:
    """The published network without its batches and masks."""

    def __init__(self, w: Arrays, start: int) -> None:
        self.framework, self.start = f"torch {torch.__version__}", start
        self.source = embedding(w["encoder.character_embedding.weight"])
        self.target = embedding(w["decoder.character_embedding.weight"])
        self.encoder = stacked(torch.nn.LSTM, part(w, "encoder.rnn."))
        self.decoder = stacked(torch.nn.LSTM, part(w, "decoder.rnn."))
        self.attention = linear(w["decoder.attn.attn.weight"], w["decoder.attn.attn.bias"])
        self.out = linear(w["decoder.linear.weight"], w["decoder.linear.bias"])

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        memory, (h, _) = self.encoder(self.source(torch.tensor([inputs["tokens"]])))
        keys, query = self.attention(memory[0]), torch.cat([h[0], h[1]], 1)[0]
        found: dict[str, list[torch.Tensor]] = {"query": [], "alignment": [], "logits": []}
        for token in (self.start, *target):
            weights = torch.softmax(keys @ query, 0)
            x = torch.cat([weights @ memory[0], self.target(torch.tensor(token))])
            _, (h, _) = self.decoder(x[None, None])
            query = h[0, 0]
            found["query"].append(query)
            found["alignment"].append(weights)
            found["logits"].append(self.out(query))
        steps = {f"decoder.{name}": torch.stack(values) for name, values in found.items()}
        return numbers({"encoder.memory": memory[0], "encoder.keys": keys, **steps})
