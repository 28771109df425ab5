"""The workloads in NumPy: float32, weights prepared once, results into preallocated arrays.
Embeddings are folded into tables and input and state products merged, as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .models import Affine, Cell, G2PWeights, GruWeights

Array = NDArray[np.float32]
Decode = Callable[[Sequence[int], int], list[int]]


class Lstm:
    """One LSTM step as one product of [x; h] (or of h, with x from a table).

    Gates are stored i, f, o, g with i, f, o halved, since sigmoid(x) = (1 + tanh(x / 2)) / 2:
    one tanh does for all of them.
    """

    def __init__(self, cell: Cell) -> None:
        self.size = cell.size
        self.weight_ih, self.weight_hh = self._stored(cell.weight_ih), self._stored(cell.weight_hh)
        self.bias = self._stored(cell.bias_ih + cell.bias_hh)
        self.merged = np.ascontiguousarray(np.hstack([self.weight_ih, self.weight_hh]))
        self._gates = np.empty(4 * self.size, np.float32)
        self._fresh = np.empty(self.size, np.float32)

    def _stored(self, rows: Array) -> Array:
        i, f, g, o = np.split(rows, 4)
        half = np.float32(0.5)
        return np.ascontiguousarray(np.concatenate([i * half, f * half, o * half, g]))

    def inputs(self, x: Array) -> Array:
        """W x + b for every row of x: a table of embeddings, or all positions of a layer."""
        return np.ascontiguousarray(x @ self.weight_ih.T + self.bias)

    def step_from(self, inputs: Array, h: Array, c: Array, h_next: Array) -> None:
        """Where the product with x is done already; c is updated in place."""
        np.dot(self.weight_hh, h, out=self._gates)
        self._gates += inputs
        self._update(c, h_next)

    def step(self, x_h: Array, c: Array, h_next: Array) -> None:
        np.dot(self.merged, x_h, out=self._gates)
        self._gates += self.bias
        self._update(c, h_next)

    def _update(self, c: Array, h_next: Array) -> None:
        gates, n, fresh = self._gates, self.size, self._fresh
        np.tanh(gates, out=gates)
        sigmoids = gates[: 3 * n]
        sigmoids *= 0.5
        sigmoids += 0.5
        np.multiply(gates[:n], gates[3 * n :], out=fresh)
        c *= gates[n : 2 * n]
        c += fresh
        np.tanh(c, out=fresh)
        np.multiply(gates[2 * n : 3 * n], fresh, out=h_next)


class Gru:
    """One GRU step with the embedding in a table; r and z halved as in `Lstm`."""

    def __init__(self, cell: Cell, embedding: Array) -> None:
        n = self.size = cell.size
        scale = np.repeat(np.float32([0.5, 0.5, 1.0]), n)
        bias = cell.bias_ih.copy()
        bias[: 2 * n] += cell.bias_hh[: 2 * n]
        self.table = np.ascontiguousarray((embedding @ cell.weight_ih.T + bias) * scale)
        self.weight = np.ascontiguousarray(cell.weight_hh * scale[:, None])
        self.hidden_bias = cell.bias_hh[2 * n :].copy()
        self._product = np.empty(3 * n, np.float32)
        self._n = np.empty(n, np.float32)

    def step(self, token: int, h: Array) -> None:
        """Updates h in place."""
        size, product, n = self.size, self._product, self._n
        row = self.table[token]
        np.dot(self.weight, h, out=product)
        gates, hidden = product[: 2 * size], product[2 * size :]
        gates += row[: 2 * size]
        np.tanh(gates, out=gates)
        gates *= 0.5
        gates += 0.5
        hidden += self.hidden_bias
        hidden *= gates[:size]
        hidden += row[2 * size :]
        np.tanh(hidden, out=n)
        h -= n
        h *= gates[size:]
        h += n


def gru(weights: GruWeights) -> Decode:
    encoder = Gru(weights.encoder, weights.source_embedding)
    decoder = Gru(weights.decoder, weights.target_embedding)
    output, bias = weights.output.weight, weights.output.bias
    h, logits = np.empty(encoder.size, np.float32), np.empty(len(bias), np.float32)

    def decode(source: Sequence[int], steps: int) -> list[int]:
        h.fill(0)
        for token in source:
            encoder.step(token, h)
        token, ids = weights.start, []
        for _ in range(steps):
            decoder.step(token, h)
            np.dot(output, h, out=logits)
            np.add(logits, bias, out=logits)
            token = int(logits.argmax())
            ids.append(token)
        return ids

    return decode


def g2p(weights: G2PWeights) -> Decode:
    layers = [(Lstm(forward), Lstm(backward)) for forward, backward in weights.layers]
    tables = [lstm.inputs(weights.source_embedding) for lstm in layers[0]]
    first, second = Lstm(weights.decoder1), Lstm(weights.decoder2)
    target_table = first.inputs(weights.target_embedding)
    both, size = 2 * layers[0][0].size, first.size
    bridges = Affine(
        np.vstack([weights.bridge_h.weight, weights.bridge_c.weight]),
        np.concatenate([weights.bridge_h.bias, weights.bridge_c.bias]),
    )
    keys_weight = np.ascontiguousarray(weights.keys.weight.T)
    readout, output = weights.readout, weights.output
    # [h1; context; h2] is what the second LSTM reads; [h2; context] is what the readout reads:
    # its columns are reordered, so that both are one slice of one array.
    joined = np.empty(size + both + size, np.float32)
    h1, context, h2 = joined[:size], joined[size : size + both], joined[size + both :]
    context_h2 = joined[size:]
    readout_weight = np.hstack([readout.weight[:, size:], readout.weight[:, :size]]).copy()
    state, logits = np.empty(2 * size, np.float32), np.empty(len(output.bias), np.float32)
    t, c2 = np.empty(size, np.float32), np.empty(size, np.float32)

    def encode(source: Sequence[int]) -> tuple[Array, Array]:
        x = np.empty(0, np.float32)
        for number, pair in enumerate(layers):
            memory = np.empty((len(source), both), np.float32)
            last = np.empty(both, np.float32)
            for side, lstm in enumerate(pair):
                inputs = tables[side][source] if number == 0 else lstm.inputs(x)
                n = lstm.size
                h, c = np.zeros(n, np.float32), np.zeros(n, np.float32)
                out = memory[:, side * n : (side + 1) * n]
                for j in range(len(source)) if side == 0 else reversed(range(len(source))):
                    lstm.step_from(inputs[j], h, c, out[j])
                    h = out[j]
                last[side * n : (side + 1) * n] = h
            x = memory
        return x, last

    def decode(source: Sequence[int], steps: int) -> list[int]:
        memory, last = encode(list(source))
        keys = memory @ keys_weight + weights.keys.bias
        np.dot(bridges.weight, last, out=state)
        np.add(state, bridges.bias, out=state)
        np.tanh(state, out=state)
        h1[:], c1 = state[:size], state[size:]
        h2.fill(0)
        c2.fill(0)
        token, ids = weights.start, []
        for _ in range(steps):
            first.step_from(target_table[token], h1, c1, h1)
            alignment = keys @ h1
            alignment -= alignment.max()
            np.exp(alignment, out=alignment)
            alignment /= alignment.sum()
            np.dot(alignment, memory, out=context)
            second.step(joined, c2, h2)
            np.dot(readout_weight, context_h2, out=t)
            np.add(t, readout.bias, out=t)
            np.tanh(t, out=t)
            np.dot(output.weight, t, out=logits)
            np.add(logits, output.bias, out=logits)
            token = int(logits.argmax())
            ids.append(token)
        return ids

    return decode


def contenders(weights: GruWeights | G2PWeights) -> dict[str, Decode]:
    return {"numpy": gru(weights) if isinstance(weights, GruWeights) else g2p(weights)}
