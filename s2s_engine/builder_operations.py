"""The operations as methods, in the order of docs/operations.md: what every graph builder offers.
Knows roles, attributes and their defaults; never shapes, names or states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .errors import ModelFormatError
from .graph import Graph
from .operations import AttributeValue, ValueType

Cell: TypeAlias = Mapping[str, ArrayLike]


@dataclass(frozen=True)
class Value:
    """A handle on a value of one graph: what its calls return and take."""

    graph: str
    reference: str
    type: ValueType

    def __str__(self) -> str:
        return f"{self.reference} ({self.type})"


X: TypeAlias = "Value | str"
Xs: TypeAlias = "Value | str | Sequence[Value | str]"


class Operations(ABC):
    """Every operation is a method; shapes that do not fit raise ModelFormatError at the call.

    `name` sets the node's name; a string in place of a value names an encoder output, in a
    decoder.
    """

    def embedding(
        self, x: X, weight: ArrayLike, *, scale: float = 1.0, name: str | None = None
    ) -> Value:
        """Row x of `weight` (V, D), times `scale`; the id -1 gives zeros."""
        return self._one("embedding", {"x": x}, {"weight": weight}, {"scale": scale}, name)

    def one_hot(self, x: X, size: int, *, name: str | None = None) -> Value:
        """1 at feature x of `size`, 0 elsewhere; the id -1 gives zeros."""
        return self._one("one_hot", {"x": x}, {}, {"size": size}, name)

    def constant(
        self, value: ArrayLike | None = None, *, size: int | None = None, name: str | None = None
    ) -> Value:
        """A vector that depends on nothing: `value` (D), or zeros of `size`."""
        if (value is None) == (size is None):
            raise ModelFormatError("constant takes either a value or a size")
        length = np.shape(value)[0] if value is not None and np.ndim(value) == 1 else size
        attributes = {"size": 1 if length is None else length}
        return self._one("constant", {}, _given(value=value), attributes, name)

    def linear(
        self,
        x: Xs,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        activation: str = "identity",
        name: str | None = None,
    ) -> Value:
        """activation(W [x1; x2; ...] + b) with `weight` (O, I) and `bias` (O)."""
        weights = _given(weight=weight, bias=bias)
        return self._one("linear", {"x": as_list(x)}, weights, {"activation": activation}, name)

    def concat(self, x: Sequence[X], *, name: str | None = None) -> Value:
        """The features of several values behind each other."""
        return self._one("concat", {"x": as_list(x)}, {}, {}, name)

    def slice(self, x: X, start: int, stop: int, *, name: str | None = None) -> Value:
        """Features start ... stop-1 of x."""
        return self._one("slice", {"x": x}, {}, {"start": start, "stop": stop}, name)

    def join(self, x: Sequence[X], *, name: str | None = None) -> Value:
        """The positions of several sequences behind each other; a vector is one position."""
        return self._one("join", {"x": as_list(x)}, {}, {}, name)

    def add(self, *x: X, name: str | None = None) -> Value:
        """x1 + x2 + ..., from left to right; sizes equal or 1."""
        return self._one("add", {"x": list(x)}, {}, {}, name)

    def multiply(self, *x: X, name: str | None = None) -> Value:
        """x1 * x2 * ..., from left to right; sizes equal or 1."""
        return self._one("multiply", {"x": list(x)}, {}, {}, name)

    def interpolate(self, gate: X, a: X, b: X, *, name: str | None = None) -> Value:
        """gate a + (1 - gate) b."""
        return self._one("interpolate", {"gate": gate, "a": a, "b": b}, {}, {}, name)

    def activation(self, x: X, function: str, *, name: str | None = None) -> Value:
        """A function of each feature: tanh, sigmoid, relu, ... (docs/operations.md)."""
        return self._one("activation", {"x": x}, {}, {"function": function}, name)

    def softmax(self, x: X, *, name: str | None = None) -> Value:
        """Softmax over features."""
        return self._one("softmax", {"x": x}, {}, {}, name)

    def maxout(self, x: X, pieces: int, *, name: str | None = None) -> Value:
        """The largest of each `pieces` consecutive features (Goodfellow et al. 2013, section 3)."""
        return self._one("maxout", {"x": x}, {}, {"pieces": pieces}, name)

    def layer_norm(
        self,
        x: X,
        weight: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        *,
        eps: float = 1e-5,
        name: str | None = None,
    ) -> Value:
        """weight (x - mean) / sqrt(variance + eps) + bias over features (Ba et al. 2016, eq. 4).

        The variance is the biased one; `weight` (D) and `bias` (D) may be left out.
        """
        weights = _given(weight=weight, bias=bias)
        return self._one("layer_norm", {"x": x}, weights, {"eps": eps}, name)

    def pool(self, x: X, how: str, *, name: str | None = None) -> Value:
        """A sequence made a vector: last, first, mean, max or sum over positions."""
        return self._one("pool", {"x": x}, {}, {"how": how}, name)

    def reverse(self, x: X, *, name: str | None = None) -> Value:
        """A sequence, or ids, with the last position first."""
        return self._one("reverse", {"x": x}, {}, {}, name)

    def to_positions(self, x: X, *, name: str | None = None) -> Value:
        """A vector (L) as a sequence[1]: feature j at source position j, 0 beyond L."""
        return self._one("to_positions", {"x": x}, {}, {}, name)

    def scatter(self, weights: X, ids: X, size: int, *, name: str | None = None) -> Value:
        """A vector of `size`: at each id the sum of the weights (a sequence[1]) of its positions.

        The copy distribution of See et al. 2017, eq. 9; positions of the id -1 are dropped.
        """
        inputs = {"weights": weights, "ids": ids}
        return self._one("scatter", inputs, {}, {"size": size}, name)

    def first_step(self, first: X, otherwise: X, *, name: str | None = None) -> Value:
        """In a decoder: `first` at step 0, `otherwise` later."""
        return self._one("first_step", {"first": first, "otherwise": otherwise}, {}, {}, name)

    def rnn(
        self,
        x: Xs,
        cell: Cell,
        h: X | None = None,
        *,
        direction: str = "forward",
        activation: str = "tanh",
        name: str | None = None,
    ) -> tuple[Value, Value]:
        """A plain RNN over the source, one direction: (sequence, h). Weights as in `rnn_cell`."""
        attributes = {"direction": direction, "activation": activation}
        sequence, last = self._call("rnn", _cell_inputs(x, h=h), cell, attributes, name)
        return sequence, last

    def gru(
        self,
        x: Xs,
        cell: Cell,
        h: X | None = None,
        *,
        direction: str = "forward",
        reset: str = "after",
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        name: str | None = None,
    ) -> tuple[Value, Value]:
        """A GRU over the source, one direction: (sequence, h). Weights as in `gru_cell`."""
        attributes = {
            "direction": direction,
            "reset": reset,
            "activation": activation,
            "gate_activation": gate_activation,
        }
        sequence, last = self._call("gru", _cell_inputs(x, h=h), cell, attributes, name)
        return sequence, last

    def lstm(
        self,
        x: Xs,
        cell: Cell,
        h: X | None = None,
        c: X | None = None,
        *,
        direction: str = "forward",
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        clip: float = 0.0,
        name: str | None = None,
    ) -> tuple[Value, Value, Value]:
        """An LSTM over the source, one direction: (sequence, h, c). Weights as in `lstm_cell`."""
        attributes = {
            "direction": direction,
            "activation": activation,
            "gate_activation": gate_activation,
            "clip": clip,
        }
        inputs = _cell_inputs(x, h=h, c=c)
        sequence, last, memory = self._call("lstm", inputs, cell, attributes, name)
        return sequence, last, memory

    def rnn_cell(
        self,
        x: Xs | None,
        h: X | None,
        cell: Cell,
        *,
        activation: str = "tanh",
        name: str | None = None,
    ) -> Value:
        """One RNN step, h' = activation(W x + b_ih + U h + b_hh) (Elman 1990).

        `cell` maps weight_ih (H, I), weight_hh (H, H), bias_ih (H), bias_hh (H) to arrays.
        """
        inputs = _cell_inputs(x, h=h)
        return self._one("rnn_cell", inputs, cell, {"activation": activation}, name)

    def gru_cell(
        self,
        x: Xs | None,
        h: X | None,
        cell: Cell,
        *,
        reset: str = "after",
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        name: str | None = None,
    ) -> Value:
        """One GRU step, h' = z h + (1-z) n (Cho et al. 2014, eqs. 5-8; z keeps the old state).

        `cell` maps weight_ih (3H, I), weight_hh (3H, H), bias_ih (3H), bias_hh (3H) to arrays with
        the gates r, z, n in this order. `reset`: 'after' the product with h (PyTorch) or 'before'.
        """
        attributes = {
            "reset": reset,
            "activation": activation,
            "gate_activation": gate_activation,
        }
        return self._one("gru_cell", _cell_inputs(x, h=h), cell, attributes, name)

    def lstm_cell(
        self,
        x: Xs | None,
        h: X | None,
        c: X | None,
        cell: Cell,
        *,
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        clip: float = 0.0,
        name: str | None = None,
    ) -> tuple[Value, Value]:
        """One LSTM step, (h', c') (Gers et al. 2000; gates i, f, g, o).

        `cell` maps weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H), bias_hh (4H) to arrays;
        peephole (3H: p_i, p_f see the old c, p_o the new one; Gers et al. 2002) and projection
        (P, H) may be there: with it h has the size P, and weight_hh is (4H, P) (Sak et al. 2014).
        `clip` bounds the new c to [-clip, clip]; 0 does not.
        """
        attributes = {
            "activation": activation,
            "gate_activation": gate_activation,
            "clip": clip,
        }
        h_next, c_next = self._call("lstm_cell", _cell_inputs(x, h=h, c=c), cell, attributes, name)
        return h_next, c_next

    def attention(
        self,
        *,
        values: X,
        query: X | None = None,
        keys: X | None = None,
        scores: X | None = None,
        centre: X | None = None,
        v: ArrayLike | None = None,
        energy_bias: ArrayLike | None = None,
        score: str | None = None,
        scale: float = 1.0,
        heads: int = 1,
        activation: str = "tanh",
        energy_activation: str = "identity",
        normaliser: str = "softmax",
        window: int = 0,
        gaussian: bool = False,
        name: str | None = None,
    ) -> tuple[Value, Value]:
        """(context, weights) over the positions of `values`.

        score 'dot': query . key (Luong et al. 2015, eq. 8); 'additive': v . activation(query +
        key) (Bahdanau et al. 2015, appendix A.1.2, with both products done before); 'given':
        `scores`, a sequence[heads]. Without `score`, what is given tells which.
        The energy is energy_activation(scale * score + energy_bias).

        With `centre`, an id or a vector[1], only positions |j - centre| <= window have weight
        (Luong et al. 2015, section 3.2); gaussian: times exp(-(j - centre)^2 / (2 (window/2)^2))
        behind the softmax (eq. 10). A sequence as the query gives a context for each of its
        positions and weights that are an alignment (Vaswani et al. 2017, eq. 1); its centre is a
        sequence[1] or ids.
        """
        if score is None:
            score = "given" if scores is not None else "dot" if v is None else "additive"
        roles = {
            "query": query, "keys": keys, "scores": scores, "values": values, "centre": centre
        }  # fmt: skip
        attributes: dict[str, AttributeValue] = {
            "score": score,
            "scale": scale,
            "heads": heads,
            "activation": activation,
            "energy_activation": energy_activation,
            "normaliser": normaliser,
            "window": window,
            "gaussian": gaussian,
        }
        inputs = {role: value for role, value in roles.items() if value is not None}
        weights = _given(v=v, energy_bias=energy_bias)
        context, alignment = self._call("attention", inputs, weights, attributes, name)
        return context, alignment

    @abstractmethod
    def _call(
        self,
        op: str,
        inputs: Mapping[str, Xs],
        weights: Mapping[str, ArrayLike],
        attributes: Mapping[str, Any],
        name: str | None,
        body: Graph | None = None,
    ) -> list[Value]:
        """Writes one node and returns its outputs."""

    def _one(
        self,
        op: str,
        inputs: Mapping[str, Xs],
        weights: Mapping[str, ArrayLike],
        attributes: Mapping[str, Any],
        name: str | None,
    ) -> Value:
        (value,) = self._call(op, inputs, weights, attributes, name)
        return value


def as_list(x: Xs) -> list[X]:
    return [x] if isinstance(x, (Value, str)) else list(x)


def _given(**weights: ArrayLike | None) -> dict[str, ArrayLike]:
    return {role: array for role, array in weights.items() if array is not None}


def _cell_inputs(x: Xs | None, **states: X | None) -> dict[str, Xs]:
    inputs: dict[str, Xs] = {} if x is None else {"x": as_list(x)}
    return inputs | {role: state for role, state in states.items() if state is not None}
