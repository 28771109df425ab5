"""Marian's s2s, amun and Nematus: conditional GRUs of many cells, with their layer norms. Knows
Marian's parameter names and equations; never its containers, vocabularies or search.

Matrices are Marian's [in, out], vectors (1, n) or (n). V is a vocabulary, E an embedding, H a
state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..builder import Cell, EncoderBuilder, GraphBuilder, ModelBuilder, StepBuilder, Value, Xs
from ..model import Model
from .state_dict import Weights, joined, layer, size, step, transposed

__all__ = ["amun_names", "marian"]

States: TypeAlias = tuple[Value, ...]  # (h) of a GRU, (h, c) of an LSTM
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
LAYER_NORM_EPS, NEMATUS_EPS = 1e-9, 1e-5
_ALIASES = (
    (r"encoder(_r)?_(Ux?|b|bx)_drt_(\d{1,3})(_.*)?", r"encoder_bi\1_cell\3+1_\2\4"),
    (r"decoder_(Ux?|b|bx)_nl_drt_(\d{1,3})(_.*)?", r"decoder_cell\2+2_\1\3"),
    (r"encoder_r_((?:U|W|b)x?)(_.*|)", r"encoder_bi_r_\1\2"),
    (r"encoder_((?:U|W|b)x?)(_lns|_lnb|)", r"encoder_bi_\1\2"),
    (r"encoder(_r)?_(gamma[12])", r"encoder_bi\1_\2"),
    (r"decoder_((?:U|b)x?)_nl(_lns|_lnb|)", r"decoder_cell2_\1\2"),
    (r"decoder_Wc(x?)(_lns|_lnb|)", r"decoder_cell2_W\1\2"),
    (r"decoder_((?:U|W|b)x?)(_lns|_lnb|)", r"decoder_cell1_\1\2"),
    (r"decoder_(cell[12]_gamma[12])", r"decoder_\1"),
    (r"ff_state_(.*)", r"decoder_ff_state_\1"),
    (r"ff_logit_prev_(W|b|ln_s|ln_b)", r"decoder_ff_logit_l1_\g<1>0"),
    (r"ff_logit_lstm_(W|b|ln_s|ln_b)", r"decoder_ff_logit_l1_\g<1>1"),
    (r"ff_logit_ctx_(W|b|ln_s|ln_b)", r"decoder_ff_logit_l1_\g<1>2"),
    (r"ff_logit_l1_(gamma[012])", r"decoder_ff_logit_l1_\1"),
    (r"ff_logit_(W|b)", r"decoder_ff_logit_l2_\1"),
    (r"Wemb", "encoder_Wemb"),
    (r"Wemb_dec", "decoder_Wemb"),
)


def amun_names(w: Weights) -> dict[str, ArrayLike]:
    """The weights of a file of type amun or nematus under the names of type s2s."""
    renamed: dict[str, ArrayLike] = {}
    for name, array in w.items():
        for pattern, replacement in _ALIASES:
            found = re.fullmatch(pattern, name)
            if found and name != "decoder_Wc_att":
                name = re.sub(
                    r"(\d+)\+(\d)", lambda n: str(int(n[1]) + int(n[2])), found.expand(replacement)
                )
                break
        renamed[name] = array
    return renamed


def marian(
    weights: Weights,
    *,
    layer_norm: str | None = None,
    alternating: bool = False,
    skip: bool = False,
    rules: Mapping[str, Any] | None = None,
) -> Model:
    """A model of type s2s (`amun_names` for amun and nematus); the weights tell cells and depths.

    {encoder,decoder}_Wemb (V, E) or one Wemb; encoder_bi_*, encoder_bi_r_* and their _l{i},
    _cell{j}; encoder_l{i}_cell{j}_* behind one bidirectional layer; decoder_ff_state_{W,b};
    decoder_cell{j}_*, decoder_l{i}_cell{j}_*: W, U (., 2H), Wx, Ux (., H), b, bx of a GRU, W, U
    (., 4H), b of an LSTM; decoder_{W_comb_att (H, C), Wc_att (C, C), U_att (C, 1), b_att};
    decoder_ff_logit_l1_{W,b}{0,1,2}; decoder_ff_logit_l2_{W (E, V) or Wt (V, E), b}, or tied.
    layer_norm: None, "joint" (amun, s2s: gamma) or "nematus" (lns, lnb). skip: from the second
    layer of a stack on, its input is added; alternating: every layer turns around.
    """
    w: Arrays = {name: _flat(array) for name, array in weights.items()}
    source = w["encoder_Wemb"] if "encoder_Wemb" in w else w["Wemb"]
    target = w["decoder_Wemb"] if "decoder_Wemb" in w else w.get("Wemb", source)
    m = ModelBuilder(source=size(source), target=size(target))
    e, d, norm = m.encoder, m.decoder, Norm(w, layer_norm)
    memory = _encoder(e, e.embedding(e.tokens, source), norm, alternating=alternating, skip=skip)
    start = norm.dense(e, [e.pool(memory, "mean")], "decoder_ff_state", activation="tanh")
    e.output(memory=memory, keys=norm.keys(e, memory), start=start)

    emb = d.embedding(d.token, target)
    base = _prefixes(w, "decoder")
    state = [d.state("cell", initial="start")]
    if _is_lstm(w, base[0]):
        state.append(d.state("memory", initial="start"))
    between = norm.cell(d, emb, state, base[0])
    query = norm.query(d, between[0])
    context, alignment = d.attention(
        query=query, keys="keys", values="memory", v=w["decoder_U_att"].reshape(-1)
    )
    after = norm.cell(d, context, between, base[1], final=True)
    for prefix in base[2:]:
        after = norm.cell(d, None, after, prefix, final=True)
    d.next(dict(zip(("cell", "memory"), after, strict=False)))
    top, number = after[0], 2
    while prefixes := _prefixes(w, f"decoder_l{number}"):
        top = norm.upper_layer(m, top, prefixes, number, skip=skip)
        number += 1
    t = norm.dense(d, [emb, top, context], "decoder_ff_logit_l1", activation="tanh")
    d.output(logits=d.linear(t, *_output(w, target)), alignment=alignment)
    ids = {"source": {"append": [0], "unknown": 1}, "start": None, "end": [0]}
    return m.build(**{**ids, **(rules or {})})


class Norm:
    """The cells and dense layers of one model, with the layer norm of its kind."""

    def __init__(self, w: Arrays, kind: str | None) -> None:
        self.w, self.kind = w, kind

    def dense(self, g: GraphBuilder, xs: Sequence[Value], name: str, *, activation: str) -> Value:
        """activation(sum of x W + b), each term normalised by itself."""
        w, ends = self.w, [""] if len(xs) == 1 else [str(n) for n in range(len(xs))]
        matrices = [w[f"{name}_W{end}"].T for end in ends]
        biases = [w[f"{name}_b{end}"] for end in ends]
        if self.kind is None:
            return g.linear(xs, np.hstack(matrices), sum(biases), activation=activation)
        terms = []
        for x, matrix, bias, end in zip(xs, matrices, biases, ends, strict=True):
            if self.kind == "joint":
                gamma = w[f"{name}_gamma{end}"]
                terms.append(g.layer_norm(g.linear(x, matrix), gamma, bias, eps=LAYER_NORM_EPS))
            else:
                scale, shift = w[f"{name}_ln_s{end}"], w[f"{name}_ln_b{end}"]
                terms.append(g.layer_norm(g.linear(x, matrix, bias), scale, shift, eps=NEMATUS_EPS))
        return g.activation(terms[0] if len(terms) == 1 else g.add(*terms), activation)

    def keys(self, e: EncoderBuilder, memory: Value) -> Value:
        matrix, bias = self.w["decoder_Wc_att"].T, self.w["decoder_b_att"]
        if self.kind == "joint":
            gamma = self.w["decoder_att_gamma1"]
            return e.layer_norm(e.linear(memory, matrix), gamma, bias, eps=LAYER_NORM_EPS)
        return self._named(e, e.linear(memory, matrix, bias), "decoder_Wc_att")

    def query(self, g: GraphBuilder, h: Value) -> Value:
        query = g.linear(h, self.w["decoder_W_comb_att"].T)
        if self.kind == "joint":
            return g.layer_norm(query, self.w["decoder_att_gamma2"], eps=LAYER_NORM_EPS)
        return self._named(g, query, "decoder_W_comb_att")

    def cell(
        self,
        g: GraphBuilder,
        x: Xs | None,
        state: Sequence[Value],
        prefix: str,
        *,
        final: bool = False,
    ) -> States:
        """One cell; without x a transition. final: the candidate's bias is inside the reset."""
        if self.kind is None:
            return step(g, x, state, plain_cell(self.w, prefix, final=final))
        x_part, h_part = self._x_part(g, x, prefix, final), self._h_part(g, state[0], prefix, final)
        if len(state) == 2:
            return _lstm(g, x_part, h_part, state[1], self.w[f"{prefix}_b"])
        outside, inside = self._biases(prefix, final, transition=x is None)
        return (_gru(g, x_part, h_part, state[0], outside, inside),)

    def upper_layer(
        self, m: ModelBuilder, x: Value, prefixes: Sequence[str], number: int, *, skip: bool
    ) -> Value:
        """A layer of the decoder on top of the conditional one."""
        d, lstm = m.decoder, _is_lstm(self.w, prefixes[0])
        names = [f"cell_l{number}", f"memory_l{number}"][: 1 + lstm]
        states: Sequence[Value] = [d.state(name, initial="start") for name in names]
        for cell, prefix in enumerate(prefixes):
            states = self.cell(d, x if cell == 0 else None, states, prefix)
        d.next(dict(zip(names, states, strict=True)))
        return d.add(states[0], x) if skip else states[0]

    def _x_part(self, g: GraphBuilder, x: Xs | None, prefix: str, final: bool) -> Value | None:
        if x is None:
            return None
        if self.kind == "joint":
            product = g.linear(x, _both(self.w, prefix, "W"))
            return g.layer_norm(product, self.w[f"{prefix}_gamma1"], eps=LAYER_NORM_EPS)
        biases = (None, None) if final else (self.w[f"{prefix}_b"], self.w[f"{prefix}_bx"])
        return self._two(g, x, prefix, "W", biases)

    def _h_part(self, g: GraphBuilder, h: Value, prefix: str, final: bool) -> Value:
        if self.kind == "joint":
            product = g.linear(h, _both(self.w, prefix, "U"))
            return g.layer_norm(product, self.w[f"{prefix}_gamma2"], eps=LAYER_NORM_EPS)
        before = prefix.startswith("decoder") and (final or f"{prefix}_W" not in self.w)
        biases = (self.w[f"{prefix}_b"], self.w[f"{prefix}_bx"]) if before else (None, None)
        return self._two(g, h, prefix, "U", biases)

    def _two(
        self, g: GraphBuilder, x: Xs, prefix: str, kind: str, biases: tuple[Any, Any]
    ) -> Value:
        """[gates; candidate], each normalised by itself (type nematus)."""
        names = f"{prefix}_{kind}", f"{prefix}_{kind}x"
        return g.concat(
            [
                self._named(g, g.linear(x, self.w[name].T, bias), name)
                for name, bias in zip(names, biases, strict=True)
            ]
        )

    def _named(self, g: GraphBuilder, x: Value, name: str) -> Value:
        if self.kind is None:
            return x
        return g.layer_norm(x, self.w[f"{name}_lns"], self.w[f"{name}_lnb"], eps=NEMATUS_EPS)

    def _biases(self, prefix: str, final: bool, *, transition: bool) -> tuple[Any, Any]:
        """What is added behind the norms: (to the input part, inside the reset)."""
        b, bx = self.w[f"{prefix}_b"], self.w[f"{prefix}_bx"]
        if self.kind == "joint":
            return (_behind(b, 0 * bx), bx) if final else (_behind(b, bx), None)
        # Nematus: only an encoder's transition has not added them before.
        return (_behind(b, bx) if transition and prefix.startswith("encoder") else None), None


def plain_cell(w: Arrays, prefix: str, *, final: bool = False) -> Cell:
    """The canonical weights of a cell without layer norm: [in, out] turned, f i g o to i f g o."""
    b = w[f"{prefix}_b"]
    if _is_lstm(w, prefix):
        parts = {"weight_ih": w.get(f"{prefix}_W"), "weight_hh": w[f"{prefix}_U"], "bias_ih": b}
        return {
            role: np.concatenate([np.split(part.T, 4)[gate] for gate in (1, 0, 2, 3)])
            for role, part in parts.items()
            if part is not None
        }
    bx, zero = w[f"{prefix}_bx"], np.zeros_like(w[f"{prefix}_bx"])
    cell = {
        "weight_hh": _both(w, prefix, "U"),
        "bias_ih": _behind(b, zero if final else bx),
        "bias_hh": _behind(0 * b, bx if final else zero),
    }
    return {"weight_ih": _both(w, prefix, "W"), **cell} if f"{prefix}_W" in w else cell


def _gru(g: GraphBuilder, x: Value | None, u: Value, h: Value, outside: Any, inside: Any) -> Value:
    """h' = z h + (1-z) tanh(x_n + r (u_n + inside)), with `outside` on all of x."""
    size = h.type.size
    parts = [part for part in (x, None if outside is None else g.constant(outside)) if part]
    gates = [g.slice(part, 0, 2 * size) for part in (*parts, u)]
    r_z = g.activation(gates[0] if len(gates) == 1 else g.add(*gates), "sigmoid")
    u_n = g.slice(u, 2 * size, 3 * size)
    if inside is not None:
        u_n = g.add(u_n, g.constant(inside))
    reset = g.multiply(g.slice(r_z, 0, size), u_n)
    candidate = [g.slice(part, 2 * size, 3 * size) for part in parts]
    n = g.activation(g.add(*candidate, reset) if candidate else reset, "tanh")
    return g.interpolate(g.slice(r_z, size, 2 * size), h, n)


def _lstm(g: GraphBuilder, x: Value | None, u: Value, c: Value, bias: Any) -> States:
    """Marian's order of gates: f, i, g, o."""
    a, size = g.add(*(part for part in (x, u) if part), g.constant(bias)), c.type.size
    f, i, n, o = (
        g.activation(g.slice(a, k * size, (k + 1) * size), "tanh" if k == 2 else "sigmoid")
        for k in range(4)
    )
    c = g.add(g.multiply(f, c), g.multiply(i, n))
    return g.multiply(o, g.activation(c, "tanh")), c


def _encoder(e: EncoderBuilder, x: Value, norm: Norm, *, alternating: bool, skip: bool) -> Value:
    """Two independent stacks, [forward; backward], then layers of one direction where there are."""
    tops = []
    for name, direction in (("encoder_bi", "forward"), ("encoder_bi_r", "backward")):
        top, number = x, 1
        while prefixes := _prefixes(norm.w, name if number == 1 else f"{name}_l{number}"):
            turned = alternating and number % 2 == 0
            other = "backward" if direction == "forward" else "forward"
            out = _layer(e, top, norm, prefixes, other if turned else direction)
            top = e.add(out, top) if skip and number > 1 else out
            number += 1
        tops.append(top)
    memory, number = joined(e, tops), 2
    while prefixes := _prefixes(norm.w, f"encoder_l{number}"):
        out = _layer(e, memory, norm, prefixes, "forward")
        memory = e.add(out, memory) if skip and out.type == memory.type else out
        number += 1
    return memory


def _layer(
    e: EncoderBuilder, x: Value, norm: Norm, prefixes: Sequence[str], direction: str
) -> Value:
    """One layer of the encoder; a scan where an operation of the engine is not enough."""
    lstm = _is_lstm(norm.w, prefixes[0])
    if norm.kind is None and len(prefixes) == 1:
        return layer(e, x, plain_cell(norm.w, prefixes[0]), direction=direction)[0]
    hidden = norm.w[f"{prefixes[0]}_U"].shape[0]

    def body(s: StepBuilder, x_t: Value) -> Value:
        states: Sequence[Value] = [s.state(name, size=hidden) for name in "hc"[: 1 + lstm]]
        for number, prefix in enumerate(prefixes):
            states = norm.cell(s, x_t if number == 0 else None, states, prefix)
        s.next(dict(zip("hc", states, strict=False)))
        return states[0]

    sequence, _ = e.scan(x, body, direction=direction)
    return sequence


def _prefixes(w: Mapping[str, Any], layer: str) -> list[str]:
    """The cells of a layer: `<layer>` or `<layer>_cell1`, then `<layer>_cell2`, ..."""
    found = [name for name in (layer, f"{layer}_cell1") if f"{name}_U" in w]
    while found and f"{layer}_cell{len(found) + 1}_U" in w:
        found.append(f"{layer}_cell{len(found) + 1}")
    return found


def _is_lstm(w: Arrays, prefix: str) -> bool:
    hidden, columns = w[f"{prefix}_U"].shape
    return bool(columns == 4 * hidden)


def _both(w: Arrays, prefix: str, kind: str) -> NDArray[Any]:
    """[r; z; n] rows of W and Wx, or of U and Ux; an LSTM has one matrix."""
    parts = [w[f"{prefix}_{kind}{x}"] for x in ("", "x") if f"{prefix}_{kind}{x}" in w]
    return np.hstack(parts).T


def _behind(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([a, b])


def _flat(array: ArrayLike) -> NDArray[Any]:
    """Vectors are (1, n) or (n) in Marian's files."""
    found = np.asarray(array)
    return found.reshape(-1) if found.ndim == 2 and found.shape[0] == 1 else found


def _output(w: Arrays, target: NDArray[Any]) -> tuple[ArrayLike, Any]:
    """The matrix (V, E) of the logits, tied to the embedding where there is none, and its bias."""
    bias = w.get("decoder_ff_logit_l2_b")
    if "decoder_ff_logit_l2_W" in w:
        return transposed(w["decoder_ff_logit_l2_W"]), bias
    return w.get("decoder_ff_logit_l2_Wt", target), bias
