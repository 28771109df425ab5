"""AllenNLP's SimpleSeq2Seq from PyTorch's own modules, in float64, one sentence at a time. Its
configuration says which; a ComposedSeq2Seq comes under the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import torch

from ..importer import Trace
from .modules import Arrays, embedding, filled, linear, numbers, part, stacked, tensor

KINDS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
ACTIVATIONS: Mapping[str, Any] = {
    "linear": torch.nn.Identity(),
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": torch.nn.functional.softplus,
}
TABLE = "_source_embedder.token_embedder_"


class SimpleSeq2Seq:
    """w: by the names of SimpleSeq2Seq. model: the configuration's object of that name. words: the
    embedder that the engine's input `tokens` goes to."""

    def __init__(self, w: Arrays, model: Mapping[str, Any], start: int, words: str) -> None:
        self.framework = f"torch {torch.__version__}"
        self.w, self.model, self.start, self.words = w, model, start, words
        net = model.get("decoder", {}).get("decoder_net", {})
        self.attention = model.get("attention") or net.get("attention")
        self.composed = model["type"] == "composed_seq2seq"
        self.bidirectional_input = bool(net.get("bidirectional_input"))
        self.tables = {
            name.removeprefix(TABLE).removesuffix(".weight"): embedding(array)
            for name, array in sorted(w.items())
            if name.startswith(TABLE) and name.count(".") == 2
        }
        self.target = embedding(w["_target_embedder.weight"])
        arrays = part(w, "_decoder_cell.")
        self.layers = 0
        if "weight_ih" in arrays:
            hidden, inputs = arrays["weight_hh"].shape[1], arrays["weight_ih"].shape[1]
            self.decoder: Any = filled(torch.nn.LSTMCell(inputs, hidden), arrays)
        else:
            self.decoder = stacked(torch.nn.LSTM, arrays)
            self.layers = int(self.decoder.num_layers)
        self.out = linear(w["_output_projection_layer.weight"], w["_output_projection_layer.bias"])

    @torch.no_grad()
    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        given = {self.words if name == "tokens" else name: ids for name, ids in inputs.items()}
        pieces = []
        for name, table in sorted(self.tables.items()):
            piece = table(torch.tensor(given[name]))
            if f"{TABLE}{name}._projection.weight" in self.w:
                projection = part(self.w, f"{TABLE}{name}._projection.")
                piece = linear(projection["weight"], projection["bias"])(piece)
            pieces.append(piece)
        memory, both = self._encode(self.model["encoder"], "_encoder", torch.cat(pieces, 1))
        if self.composed:
            both = self.bidirectional_input
        h = memory[-1]
        if both:
            half = memory.shape[1] // 2
            h = torch.cat([memory[-1, :half], memory[0, half:]])
        found = {"encoder.memory": memory, "encoder.h": h}
        states = torch.stack([h] * max(1, self.layers))
        cells = torch.zeros_like(states)
        steps: dict[str, list[torch.Tensor]] = {}
        for token in (self.start, *target):
            x = self.target(torch.tensor(token))
            seen: dict[str, torch.Tensor] = {}
            if self.attention is not None:
                weights = self._weights(states[0], memory)
                x, seen["alignment"] = torch.cat([weights @ memory, x]), weights
            if self.layers:
                _, (states, cells) = self.decoder(x[None], (states, cells))
            else:
                states, cells = (one[None] for one in self.decoder(x, (states[0], cells[0])))
            seen |= {f"h{n}": one for n, one in enumerate(states)}
            seen |= {f"c{n}": one for n, one in enumerate(cells)}
            seen["logits"] = self.out(states[-1])
            for name, value in seen.items():
                steps.setdefault(f"decoder.{name}", []).append(value)
        return numbers(found | {name: torch.stack(values) for name, values in steps.items()})

    def _encode(
        self, config: Mapping[str, Any], prefix: str, x: torch.Tensor
    ) -> tuple[torch.Tensor, bool]:
        """What an encoder makes of (S, D), and whether it is bidirectional."""
        kind = config["type"]
        if kind == "compose":
            directions = []
            for number, one in enumerate(config["encoders"]):
                x, both = self._encode(one, f"{prefix}.encoder{number}", x)
                directions.append(both)
            return x, all(directions)
        if kind == "pass_through":
            return x, False
        if kind == "feedforward":
            inner = config["feedforward"]
            names = inner["activations"]
            names = names if isinstance(names, list) else [names] * inner["num_layers"]
            for number, name in enumerate(names):
                layer = part(self.w, f"{prefix}._feedforward._linear_layers.{number}.")
                x = ACTIVATIONS[_name(name)](linear(layer["weight"], layer["bias"])(x))
            return x, False
        module: Any = stacked(KINDS[kind], part(self.w, f"{prefix}._module."))
        if config.get("nonlinearity") == "relu":
            module = _relu(module)
        return module(x[None])[0][0], module.bidirectional

    def _weights(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The attention of a state x on the positions of y (S, D)."""
        config = {"type": self.attention} if isinstance(self.attention, str) else self.attention
        w = {name: tensor(array) for name, array in part(self.w, "_attention.").items()}
        kind, activation = config["type"], ACTIVATIONS[_name(config.get("activation") or "linear")]
        if kind == "additive":
            scores = (torch.tanh(x @ w["_w_matrix"] + y @ w["_u_matrix"]) @ w["_v_vector"])[:, 0]
        elif kind == "bilinear":
            scores = activation(y @ (x @ w["_weight_matrix"]) + w["_bias"])
        elif kind == "linear":
            both = x.expand(y.shape[0], -1), y
            pieces = [_piece(one, *both) for one in config.get("combination", "x,y").split(",")]
            scores = activation(torch.cat(pieces, 1) @ w["_weight_vector"] + w["_bias"])
        else:
            scores = y @ x
            if kind == "scaled_dot_product":
                scores = scores / sqrt(float(config.get("scaling_factor") or y.shape[1]))
        return torch.softmax(scores, 0) if config.get("normalize", True) else scores


def _piece(piece: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    values = {"x": x, "y": y}
    if len(piece) == 1:
        return values[piece]
    a, b = values[piece[0]], values[piece[2]]
    return {"*": a * b, "+": a + b, "-": a - b}[piece[1]]


def _relu(module: torch.nn.RNN) -> torch.nn.RNN:
    """The same RNN with relu."""
    new = torch.nn.RNN(
        module.input_size,
        module.hidden_size,
        num_layers=module.num_layers,
        nonlinearity="relu",
        bias=module.bias,
        batch_first=True,
        bidirectional=module.bidirectional,
    )
    new = new.double().eval()
    new.load_state_dict(module.state_dict())
    return new


def _name(activation: Any) -> str:
    return str(activation["type"] if isinstance(activation, dict) else activation)
