"""OpenNMT-py's network from PyTorch's own modules, in float64, one sentence at a time: what its
RNNEncoder, StdRNNDecoder, InputFeedRNNDecoder, GlobalAttention and ContextGate compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..importer import Trace
from .modules import Arrays, embedding, filled, linear, numbers, part, stacked

KINDS = {4: torch.nn.LSTM, 3: torch.nn.GRU, 1: torch.nn.RNN}
CELLS = {4: torch.nn.LSTMCell, 3: torch.nn.GRUCell, 1: torch.nn.RNNCell}


class OpenNmt:
    """One model by its weights' names; `opt` are the options of training."""

    def __init__(self, w: Arrays, opt: Mapping[str, Any], start: int) -> None:
        self.framework = f"torch {torch.__version__}"
        self.opt, self.start = opt, start
        self.source = [embedding(table) for table in _tables(w, "encoder")]
        self.target = embedding(_tables(w, "decoder")[0])
        self.mlp = _affine(w, "encoder.embeddings.make_embedding.mlp.0")
        self.encoder = _layers(part(w, "encoder.rnn."))
        self.bridges = [
            one for one in (_affine(w, f"encoder.bridge.{n}") for n in (0, 1)) if one is not None
        ]
        self.attention = {
            name: _affine(w, f"decoder.attn.{name}")
            for name in (
                "linear_in", "linear_query", "linear_context", "v", "linear_out",
            )
        }  # fmt: skip
        self.gate = {
            name: _affine(w, f"decoder.context_gate.context_gate.{name}")
            for name in ("gate", "source_proj", "target_proj")
        }
        self.cells: list[Any] = []
        self.decoder: Any = None
        while f"decoder.rnn.layers.{len(self.cells)}.weight_ih" in w:
            self.cells.append(_cell(part(w, f"decoder.rnn.layers.{len(self.cells)}.")))
        if not self.cells:
            self.decoder = _layers(part(w, "decoder.rnn."))
        generator = _affine(w, "generator") or _affine(w, "generator.0")
        assert generator is not None
        self.generator = generator

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        memory, states = self._encode(inputs)
        found = {"encoder.memory": memory}
        for layer, one in enumerate(states[0]):
            found[f"encoder.h{layer}"] = one
            if len(states) == 2:
                found[f"encoder.c{layer}"] = states[1][layer]
        steps: dict[str, list[torch.Tensor]] = {}
        feed = memory.new_zeros(memory.shape[1])
        for token in (self.start, *target):
            y = self.target(torch.tensor(token))
            x = torch.cat([y, feed]) if self.cells else y
            h, states = self._cells(x, states)
            out, alignment = self._attend(h, memory)
            if self.gate["gate"] is not None:
                out = self._gated(x, h, out)
            feed = out
            seen = {f"h{n}": one for n, one in enumerate(states[0])}
            if len(states) == 2:
                seen |= {f"c{n}": one for n, one in enumerate(states[1])}
            if self.cells:
                seen["feed"] = out
            if alignment is not None:
                seen["alignment"] = alignment
            for name, value in (seen | {"logits": self.generator(out)}).items():
                steps.setdefault(f"decoder.{name}", []).append(value)
        return numbers(found | {name: torch.stack(values) for name, values in steps.items()})

    def _encode(self, inputs: Mapping[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The memory (S, H), and the decoder's first states, (layers, H) each."""
        ids = [inputs["tokens"], *(inputs[f"src_feat_{n}"] for n in range(len(self.source) - 1))]
        tables = [table(torch.tensor(one)) for table, one in zip(self.source, ids, strict=True)]
        if len(tables) > 1 and self.opt.get("feat_merge") == "sum":
            x = torch.stack(tables).sum(0)
        else:
            x = torch.cat(tables, 1)
            x = x if self.mlp is None else torch.relu(self.mlp(x))
        memory, last = self.encoder(x[None])
        finals = [one[:, 0] for one in (last if isinstance(last, tuple) else (last,))]
        if self.bridges:
            finals = [
                torch.relu(one(final.reshape(-1, one.in_features))).reshape(final.shape)
                for one, final in zip(self.bridges, finals, strict=True)
            ]
        if self.encoder.bidirectional:
            finals = [torch.cat([final[0::2], final[1::2]], 1) for final in finals]
        return memory[0], finals

    def _cells(
        self, x: torch.Tensor, states: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """h of the top layer, and the states of all."""
        if self.decoder is not None:
            given = [one[:, None] for one in states]
            out, last = self.decoder(x[None, None], tuple(given) if len(given) == 2 else given[0])
            new = last if isinstance(last, tuple) else (last,)
            return out[0, 0], [one[:, 0] for one in new]
        after = []
        for layer, cell in enumerate(self.cells):
            before = [one[layer] for one in states]
            result = cell(x, tuple(before) if len(before) == 2 else before[0])
            after.append(result if isinstance(result, tuple) else (result,))
            x = after[-1][0]
        return x, [torch.stack(one) for one in zip(*after, strict=True)]

    def _attend(
        self, h: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        a = self.attention
        if a["linear_out"] is None:
            return h, None
        if a["linear_context"] is None:
            query = h if a["linear_in"] is None else a["linear_in"](h)
            scores = memory @ query
        else:
            mixed = torch.tanh(a["linear_query"](h) + a["linear_context"](memory))
            scores = a["v"](mixed)[:, 0]
        weights = torch.softmax(scores, 0)
        out = a["linear_out"](torch.cat([weights @ memory, h]))
        return out if a["linear_context"] is not None else torch.tanh(out), weights

    def _gated(self, x: torch.Tensor, h: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        z = torch.sigmoid(self.gate["gate"](torch.cat([x, h, out])))
        source = self.gate["source_proj"](out)
        target = self.gate["target_proj"](torch.cat([x, h]))
        kind = self.opt["context_gate"]
        if kind == "both":
            return torch.tanh((1 - z) * target + z * source)
        return torch.tanh(target + z * source if kind == "source" else z * target + source)


def _tables(w: Arrays, side: str) -> list[Any]:
    found: list[Any] = []
    for prefix in (f"{side}.embeddings.make_embedding", f"{side}.embeddings"):
        while f"{prefix}.emb_luts.{len(found)}.weight" in w:
            found.append(w[f"{prefix}.emb_luts.{len(found)}.weight"])
    return found


def _affine(w: Arrays, name: str) -> Any:
    return linear(w[f"{name}.weight"], w.get(f"{name}.bias")) if f"{name}.weight" in w else None


def _layers(arrays: Arrays) -> Any:
    weight = arrays["weight_hh_l0"]
    return stacked(KINDS[weight.shape[0] // weight.shape[1]], arrays)


def _cell(arrays: Arrays) -> Any:
    """Biases may be (1, 4H): PyTorch 0.2 wrote them so."""
    gates, hidden = arrays["weight_hh"].shape
    module = CELLS[gates // hidden](arrays["weight_ih"].shape[1], hidden)
    return filled(module, {n: a.reshape(-1) if "bias" in n else a for n, a in arrays.items()})
