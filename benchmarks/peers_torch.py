"""The workloads in PyTorch eager: modules for the encoder, cells for the decoder, inference mode,
one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .models import Affine, Cell, G2PWeights, GruWeights

Decode = Callable[[Sequence[int], int], list[int]]


def _fill(parameter: Tensor, array: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(array)))


def _embedding(weight: np.ndarray) -> nn.Embedding:
    module = nn.Embedding(*weight.shape)
    _fill(module.weight, weight)
    return module.eval()


def _linear(affine: Affine) -> nn.Linear:
    outputs, inputs = affine.weight.shape
    module = nn.Linear(inputs, outputs)
    _fill(module.weight, affine.weight)
    _fill(module.bias, affine.bias)
    return module.eval()


def _fill_cell(module: nn.Module, cell: Cell, suffix: str) -> None:
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        _fill(getattr(module, name + suffix), getattr(cell, name))


def gru(weights: GruWeights) -> Decode:
    source, target = _embedding(weights.source_embedding), _embedding(weights.target_embedding)
    encoder = nn.GRU(weights.encoder.weight_ih.shape[1], weights.encoder.size).eval()
    _fill_cell(encoder, weights.encoder, "_l0")
    decoder = nn.GRUCell(weights.decoder.weight_ih.shape[1], weights.decoder.size).eval()
    _fill_cell(decoder, weights.decoder, "")
    output = _linear(weights.output)
    start = torch.tensor([weights.start])

    @torch.inference_mode()
    def decode(ids: Sequence[int], steps: int) -> list[int]:
        _, h = encoder(source(torch.tensor(ids)).unsqueeze(1))
        h, token, found = h[0], start, []
        for _ in range(steps):
            h = decoder(target(token), h)
            token = output(h).argmax(-1)
            found.append(token)
        answer: list[int] = torch.cat(found).tolist()
        return answer

    return decode


def g2p(weights: G2PWeights) -> Decode:
    source, target = _embedding(weights.source_embedding), _embedding(weights.target_embedding)
    inputs, hidden = weights.layers[0][0].weight_ih.shape[1], weights.layers[0][0].size
    encoder = nn.LSTM(inputs, hidden, num_layers=len(weights.layers), bidirectional=True).eval()
    for number, (forward, backward) in enumerate(weights.layers):
        _fill_cell(encoder, forward, f"_l{number}")
        _fill_cell(encoder, backward, f"_l{number}_reverse")
    keys = _linear(weights.keys)
    bridge_h, bridge_c = _linear(weights.bridge_h), _linear(weights.bridge_c)
    size = weights.decoder1.size
    first = nn.LSTMCell(weights.decoder1.weight_ih.shape[1], size).eval()
    second = nn.LSTMCell(weights.decoder2.weight_ih.shape[1], size).eval()
    _fill_cell(first, weights.decoder1, "")
    _fill_cell(second, weights.decoder2, "")
    readout, output = _linear(weights.readout), _linear(weights.output)
    start, zero = torch.tensor([weights.start]), torch.zeros(1, size)

    @torch.inference_mode()
    def decode(ids: Sequence[int], steps: int) -> list[int]:
        memory, (last, _) = encoder(source(torch.tensor(ids)).unsqueeze(1))
        memory = memory[:, 0]
        final = torch.cat((last[-2], last[-1]), dim=-1)
        key = keys(memory).t()
        h1, c1 = torch.tanh(bridge_h(final)), torch.tanh(bridge_c(final))
        h2, c2 = zero, zero
        token, found = start, []
        for _ in range(steps):
            h1, c1 = first(target(token), (h1, c1))
            context = torch.softmax(h1 @ key, dim=-1) @ memory
            h2, c2 = second(torch.cat((h1, context), dim=-1), (h2, c2))
            t = torch.tanh(readout(torch.cat((h2, context), dim=-1)))
            token = output(t).argmax(-1)
            found.append(token)
        answer: list[int] = torch.cat(found).tolist()
        return answer

    return decode


def contenders(weights: GruWeights | G2PWeights) -> dict[str, Decode]:
    decode = gru(weights) if isinstance(weights, GruWeights) else g2p(weights)
    return {"pytorch eager": decode}
