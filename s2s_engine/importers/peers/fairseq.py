"""fairseq's lstm and lstm_lm from PyTorch's own modules, step by step, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..importer import Trace
from .modules import Arrays, embedding, filled, linear, numbers, part, stacked

EOS = 2


def cells(w: Arrays) -> list[torch.nn.Module]:
    """A torch.nn.LSTMCell for every decoder.layers.k."""
    found: list[torch.nn.Module] = []
    while f"decoder.layers.{len(found)}.weight_ih" in w:
        arrays = part(w, f"decoder.layers.{len(found)}.")
        inputs, hidden = arrays["weight_ih"].shape[1], arrays["weight_hh"].shape[1]
        found.append(filled(torch.nn.LSTMCell(inputs, hidden), arrays))
    return found


def dense(w: Arrays, name: str) -> torch.nn.Module | None:
    if f"decoder.{name}.weight" not in w:
        return None
    return linear(w[f"decoder.{name}.weight"], w.get(f"decoder.{name}.bias"))


class _Output:
    """additional_fc, then fc_out or the embeddings again."""

    def __init__(self, w: Arrays) -> None:
        self.additional = dense(w, "additional_fc")
        self.out = dense(w, "fc_out") or linear(w["decoder.embed_tokens.weight"])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(x if self.additional is None else self.additional(x))
        return logits


class Fairseq:
    """An LSTM reads; LSTM cells read [token; the last vector], attention mixes what leaves."""

    def __init__(self, w: Arrays) -> None:
        self.framework = f"torch {torch.__version__}"
        self.source = embedding(w["encoder.embed_tokens.weight"])
        self.target = embedding(w["decoder.embed_tokens.weight"])
        self.encoder = stacked(torch.nn.LSTM, part(w, "encoder.lstm."))
        self.cells = cells(w)
        self.hidden_proj, self.cell_proj = (
            dense(w, f"encoder_{role}_proj") for role in ("hidden", "cell")
        )
        self.query, self.mix = dense(w, "attention.input_proj"), dense(w, "attention.output_proj")
        self.output = _Output(w)

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        memory, states = self.encoder(self.source(torch.tensor([inputs["tokens"]])))
        memory = memory[0]
        first_h, first_c = (self._by_layer(of_role) for of_role in states)
        if self.hidden_proj is not None and self.cell_proj is not None:
            first_h, first_c = self.hidden_proj(first_h), self.cell_proj(first_c)
        h, c = list(first_h), list(first_c)
        found: dict[str, list[torch.Tensor]] = {}
        first = {f"encoder.h{k}": x for k, x in enumerate(h)}
        first |= {f"encoder.c{k}": x for k, x in enumerate(c)}
        feed = torch.zeros_like(h[0])
        for token in [EOS, *target]:
            x = torch.cat([self.target(torch.tensor(token)), feed])
            for k, one in enumerate(self.cells):
                h[k], c[k] = one(x, (h[k], c[k]))
                x = h[k]
                found.setdefault(f"decoder.h{k}", []).append(h[k])
                found.setdefault(f"decoder.c{k}", []).append(c[k])
            feed = x
            if self.query is not None and self.mix is not None:
                weights = torch.softmax(memory @ self.query(x), 0)
                feed = torch.tanh(self.mix(torch.cat([weights @ memory, x])))
                found.setdefault("decoder.alignment", []).append(weights)
            found.setdefault("decoder.feed", []).append(feed)
            found.setdefault("decoder.logits", []).append(self.output(feed))
        steps = {name: torch.stack(values) for name, values in found.items()}
        if "decoder.alignment" in steps:
            first["encoder.memory"] = memory
        return numbers(first | steps)

    def _by_layer(self, states: torch.Tensor) -> torch.Tensor:
        """(layers, directions * H) of (layers * directions, 1, H)."""
        directions = states.shape[0] // len(self.cells)
        return states.reshape(len(self.cells), directions * states.shape[2])


class FairseqLanguageModel:
    """LSTM cells from zeros; residuals: the last step's state is added to a layer's input."""

    def __init__(self, w: Arrays, start: int, *, residuals: bool) -> None:
        self.framework = f"torch {torch.__version__}"
        self.target = embedding(w["decoder.embed_tokens.weight"])
        self.cells, self.output = cells(w), _Output(w)
        self.start, self.residuals = start, residuals

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        prompt = [int(token) for ids in inputs.values() for token in ids]
        zeros = [torch.zeros(int(one.hidden_size), dtype=torch.float64) for one in self.cells]  # type: ignore[arg-type]
        h, c = list(zeros), list(zeros)
        logits = []
        for token in [self.start, *prompt, *target]:
            x = self.target(torch.tensor(token))
            for k, one in enumerate(self.cells):
                before = h[k]
                h[k], c[k] = one(x, (h[k], c[k]))
                x = h[k] + before if self.residuals else h[k]
            logits.append(self.output(h[-1]))
        return numbers({"decoder.logits": torch.stack(logits[len(prompt) :])})
