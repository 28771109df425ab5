"""Joey NMT's recurrent model from PyTorch's own modules, step by step, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..importer import Trace
from .modules import Arrays, embedding, linear, numbers, part, stacked

BOS = 2


def rnn(w: Arrays, prefix: str) -> torch.nn.Module:
    arrays = part(w, prefix)
    rows, hidden = arrays["weight_hh_l0"].shape
    return stacked(torch.nn.GRU if rows == 3 * hidden else torch.nn.LSTM, arrays)


class JoeyNmt:
    """A bidirectional encoder; a decoder that starts from its top states and asks it after every
    step, with what it made of the answer fed to the next one."""

    def __init__(self, w: Arrays, hidden: str, scale: tuple[bool, bool]) -> None:
        self.framework = f"torch {torch.__version__}"
        self.hidden = hidden
        tables = [w["src_embed.lut.weight"], w["trg_embed.lut.weight"]]
        self.source, self.target = (embedding(table) for table in tables)
        self.scale = [
            table.shape[1] ** 0.5 if yes else 1.0 for table, yes in zip(tables, scale, strict=True)
        ]
        self.encoder, self.decoder = rnn(w, "encoder.rnn."), rnn(w, "decoder.rnn.")
        self.layers = {
            name: linear(array, w.get(name.removesuffix("weight") + "bias"))
            for name, array in w.items()
            if name.endswith("layer.weight")
        }
        self.size = w["decoder.rnn.weight_hh_l0"].shape[1]
        self.count = sum(name.startswith("decoder.rnn.weight_hh_l") for name in w)
        self.fed = w["decoder.rnn.weight_ih_l0"].shape[1] > tables[1].shape[1]

    def layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers[f"decoder.{name}_layer.weight"](x)
        return y

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        x = self.source(torch.tensor([inputs["tokens"]])) * self.scale[0]
        memory, states = self.encoder(x)
        memory = memory[0]
        keys = self.layer("attention.key", memory)
        found: dict[str, list[torch.Tensor]] = {}
        begun = self._initial(states[0] if isinstance(states, tuple) else states)
        h = begun.repeat(self.count, 1)[:, None]
        state: Any = (h, h) if isinstance(self.decoder, torch.nn.LSTM) else h
        vector = torch.zeros(self.size, dtype=torch.float64)
        for token in [BOS, *target]:
            x = self.target(torch.tensor(token)) * self.scale[1]
            x = torch.cat([x, vector]) if self.fed else x
            out, state = self.decoder(x[None, None], state)
            query = out[0, 0]
            if "decoder.attention.energy_layer.weight" in self.layers:
                asked = torch.tanh(self.layer("attention.query", query) + keys)
                scores = self.layer("attention.energy", asked)[:, 0]
            else:
                scores = keys @ query
            weights = torch.softmax(scores, 0)
            mixed = torch.cat([query, weights @ memory])
            vector = torch.tanh(self.layer("att_vector", mixed))
            by_role = state if isinstance(state, tuple) else (state,)
            for role, values in zip("hc", by_role, strict=False):
                for k in range(self.count):
                    found.setdefault(f"decoder.{role}{k}", []).append(values[k, 0])
            found.setdefault("decoder.alignment", []).append(weights)
            if self.fed:
                found.setdefault("decoder.feed", []).append(vector)
            found.setdefault("decoder.logits", []).append(self.layer("output", vector))
        steps = {name: torch.stack(values) for name, values in found.items()}
        return numbers({"encoder.memory": memory, "encoder.keys": keys} | steps)

    def _initial(self, final: torch.Tensor) -> torch.Tensor:
        """One state for all layers, from the h of both directions of the encoder's top layer."""
        if self.hidden == "zero":
            return torch.zeros(self.size, dtype=torch.float64)
        top = torch.cat([final[-2, 0], final[-1, 0]])
        if self.hidden == "bridge":
            return torch.tanh(self.layer("bridge", top))
        return top[: self.size]
