"""The networks of bentrevett's notebooks from PyTorch's own modules, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..importer import Trace
from .modules import Arrays, embedding, linear, numbers, part, stacked, tensor

START = 2


class Notebook:
    """Encoder, attention where there is one, and decoder, run a token at a time."""

    def __init__(self, w: Arrays) -> None:
        self.framework = f"torch {torch.__version__}"
        self.source = embedding(w["encoder.embedding.weight"])
        self.target = embedding(w["decoder.embedding.weight"])
        lstm = w["encoder.rnn.weight_ih_l0"].shape[0] == 4 * w["encoder.rnn.weight_hh_l0"].shape[1]
        kind = torch.nn.LSTM if lstm else torch.nn.GRU
        self.encoder = stacked(kind, part(w, "encoder.rnn."))
        self.decoder = stacked(kind, part(w, "decoder.rnn."))
        self.out = linear(w["decoder.fc_out.weight"], w["decoder.fc_out.bias"])
        self.bridge = (
            linear(w["encoder.fc.weight"], w["encoder.fc.bias"])
            if "encoder.fc.weight" in w
            else None
        )
        attention = part(w, "decoder.attention.")
        if self.bridge is not None:
            name = "attn_fc" if "attn_fc.weight" in attention else "attn"
            self.score = linear(attention[f"{name}.weight"], attention[f"{name}.bias"])
            v = next(attention[n] for n in ("v_fc.weight", "v.weight", "v") if n in attention)
            self.v = tensor(v).reshape(-1)
        self.lstm = lstm

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        memory, last = self.encoder(self.source(torch.tensor([inputs["tokens"]])))
        tokens = self.target(torch.tensor([START, *target]))
        if self.lstm:
            states, _ = self.decoder(tokens[None], last)
            return numbers({"decoder.logits": self.out(states[0])})
        if self.bridge is None:
            return self._with_context(last, tokens)
        return self._with_attention(memory[0], last, tokens)

    def _with_context(self, last: torch.Tensor, tokens: torch.Tensor) -> Trace:
        z = last[0].expand(len(tokens), -1)
        states, _ = self.decoder(torch.cat([tokens, z], 1)[None], last)
        logits = self.out(torch.cat([tokens, states[0], z], 1))
        return numbers({"encoder.h": last[0, 0], "decoder.h": states[0], "decoder.logits": logits})

    def _with_attention(
        self, memory: torch.Tensor, last: torch.Tensor, tokens: torch.Tensor
    ) -> Trace:
        assert self.bridge is not None
        h = first = torch.tanh(self.bridge(torch.cat([last[-2], last[-1]], 1)))
        found: dict[str, list[torch.Tensor]] = {"h": [], "alignment": [], "logits": []}
        for y in tokens:
            both = torch.cat([h.expand(len(memory), -1), memory], 1)
            weights = torch.softmax(torch.tanh(self.score(both)) @ self.v, 0)
            context = weights @ memory
            _, h = self.decoder(torch.cat([y, context])[None, None], h[None])
            h = h[0]
            found["h"].append(h[0])
            found["alignment"].append(weights)
            found["logits"].append(self.out(torch.cat([h[0], context, y])))
        steps = {f"decoder.{name}": torch.stack(values) for name, values in found.items()}
        return numbers({"encoder.memory": memory, "encoder.h": first[0], **steps})
