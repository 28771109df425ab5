"""The parts of AllenNLP's sequence-to-sequence models: encoders, the state they hand over, and the
scores of attention. Knows their names and equations; never how they are composed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from ..builder import DecoderBuilder, EncoderBuilder, ModelBuilder, Value
from ..errors import ModelFormatError
from .state_dict import Weights, linear, stack, transposed

Kind = Literal["dot", "bilinear", "additive", "linear"]
# What a piece adds its weights to, and with which sign.
PIECES = {
    "x": {"x": 1}, "y": {"y": 1}, "x+y": {"x": 1, "y": 1}, "y+x": {"x": 1, "y": 1},
    "x-y": {"x": 1, "y": -1}, "y-x": {"x": -1, "y": 1}, "x*y": {"*": 1}, "y*x": {"*": 1},
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One encoder of a row of them. prefix: before its weights' names. activations: of a
    feedforward, for each layer; of torch.nn.RNN, its own."""

    kind: Literal["recurrent", "feedforward", "pass_through"]
    prefix: str = "_encoder"
    activations: tuple[str, ...] = ("tanh",)


@dataclass(frozen=True)
class Score:
    """kind, of a query x and a position y: "dot" x·y; "bilinear" x·(W y) + b; "additive"
    v·tanh(W x + U y); "linear" w·[pieces] + b, such as "x,y,x*y". The score is divided by
    sqrt(`divisor`) and goes through `activation`; without `normalised`, it is the weight."""

    kind: Kind = "dot"
    divisor: float = 1.0
    activation: str = "identity"
    combination: str = "x,y"
    normalised: bool = True


def named(kind: str) -> Score:
    """The plain score of this kind."""
    kinds: dict[str, Score] = {one: Score(one) for one in get_args(Kind)}
    return kinds[kind]


def encoded(e: EncoderBuilder, x: Value, w: Weights, stages: Sequence[Stage]) -> Value:
    """The sequence behind all stages."""
    for stage in stages:
        if stage.kind == "recurrent":
            x, _ = stack(e, x, w, f"{stage.prefix}._module", activation=stage.activations[0])
        elif stage.kind == "feedforward":
            for number, activation in enumerate(stage.activations):
                layer = f"{stage.prefix}._feedforward._linear_layers.{number}"
                x = linear(e, x, w, layer, activation=activation)
    return x


def final(e: EncoderBuilder, memory: Value, *, both: bool) -> Value:
    """The last position; of both directions, its first half and the first position's other half."""
    last = e.pool(memory, "last")
    if not both:
        return last
    half = memory.type.size // 2
    first = e.pool(memory, "first")
    return e.concat([e.slice(last, 0, half), e.slice(first, half, memory.type.size)])


def attention(
    m: ModelBuilder, memory: Value, query: Value, w: Weights, score: Score, prefix: str
) -> tuple[Value, Value]:
    """(context, weights) over the memory; `prefix` is before the names of its parameters."""
    e, d = m.encoder, m.decoder
    normaliser = "softmax" if score.normalised else "none"
    if score.kind == "additive":
        e.output(keys=e.linear(memory, transposed(w[f"{prefix}._u_matrix"])))
        query = d.linear(query, transposed(w[f"{prefix}._w_matrix"]))
        v = np.ravel(w[f"{prefix}._v_vector"])
        return d.attention(query=query, keys="keys", values="memory", v=v, normaliser=normaliser)
    if score.kind == "linear":
        scores = _linear_scores(d, query, memory, w[f"{prefix}._weight_vector"], score.combination)
        return d.attention(
            scores=scores,
            values="memory",
            energy_bias=w[f"{prefix}._bias"],
            energy_activation=score.activation,
            normaliser=normaliser,
        )
    keys, bias = "memory", None
    if score.kind == "bilinear":
        e.output(keys=e.linear(memory, w[f"{prefix}._weight_matrix"]))
        keys, bias = "keys", w[f"{prefix}._bias"]
    return d.attention(
        query=query,
        keys=keys,
        values="memory",
        scale=1 / sqrt(score.divisor),
        energy_bias=bias,
        energy_activation=score.activation,
        normaliser=normaliser,
    )


def _linear_scores(
    d: DecoderBuilder, query: Value, memory: Value, vector: ArrayLike, combination: str
) -> Value:
    """w·[pieces] as u·x + v·y + (p*x)·y: every piece adds its part of w to u, v and p."""
    w = np.ravel(vector)
    zero = np.zeros_like(w, shape=query.type.size)
    total = {"x": zero.copy(), "y": np.zeros_like(w, shape=memory.type.size), "*": zero}
    begin = 0
    for piece in combination.replace("1", "x").replace("2", "y").split(","):
        if piece not in PIECES:
            raise ModelFormatError(
                f"linear attention combines {piece!r}; of pieces only {', '.join(PIECES)} are read"
            )
        part = w[begin : begin + len(total["y" if piece == "y" else "x"])]
        begin += len(part)
        for term, sign in PIECES[piece].items():
            if part.shape != total[term].shape:
                raise ModelFormatError(
                    f"linear attention combines {combination!r} with {len(w)} weights: a query of "
                    f"{query.type.size} and a memory of {memory.type.size} features need others"
                )
            total[term] = total[term] + sign * part
    if begin != len(w):
        raise ModelFormatError(
            f"linear attention combines {combination!r}, which takes {begin} weights, not {len(w)}"
        )
    scores = d.linear([query, "memory"], np.concatenate([total["x"], total["y"]])[None])
    if "*" not in combination:
        return scores
    weighted = d.multiply(query, d.constant(total["*"]))
    _, energy = d.attention(query=weighted, keys="memory", values="memory", normaliser="none")
    return d.add(scores, energy)
