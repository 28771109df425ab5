"""Marian's s2s, amun and Nematus against plain NumPy loops over Marian's own equations, with the
layer norms, deep transitions and stacks. Knows parameter names; never the builder."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest
from checks import Case, check_decoder, check_encoder, difference, double, random_weights, sources

from s2s_engine import ModelBuilder
from s2s_engine.architectures.nematus import amun_names, marian

Shapes: TypeAlias = dict[str, tuple[int, ...]]
S, T, E, H = 11, 9, 5, 6


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum()


def normed(x: Any, scale: Any, shift: Any, eps: float) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return scale * (x - mean) / np.sqrt(variance + np.float64(np.float32(eps))) + shift


class Marian:
    """One model's equations, a position and a step at a time."""

    def __init__(self, weights: Any, norm: str | None, layers: Any, **options: bool) -> None:
        self.w = {n: a.reshape(-1) if a.shape[0] == 1 else a for n, a in double(weights).items()}
        self.norm, self.layers = norm, layers
        self.skip = options.get("skip", False)
        self.alternating = options.get("alternating", False)

    def side(self, x: Any, prefix: str, kind: str, bias: bool) -> tuple[Any, Any]:
        """(gates, candidate) of one product, behind its norm."""
        w = self.w
        gates, candidate = x @ w[f"{prefix}_{kind}"], x @ w[f"{prefix}_{kind}x"]
        if self.norm == "joint":
            gamma = w[f"{prefix}_gamma{1 if kind == 'W' else 2}"]
            whole = normed(np.concatenate([gates, candidate]), gamma, 0.0, 1e-9)
            return whole[: 2 * H], whole[2 * H :]
        if self.norm == "nematus":
            found = []
            for value, x_, b in ((gates, "", "b"), (candidate, "x", "bx")):
                value = value + w[f"{prefix}_{b}"] if bias else value
                name = f"{prefix}_{kind}{x_}"
                found.append(normed(value, w[f"{name}_lns"], w[f"{name}_lnb"], 1e-5))
            return found[0], found[1]
        return gates, candidate

    def gru(self, x: Any, h: Any, prefix: str, final: bool) -> Any:
        w, nematus, encoder = self.w, self.norm == "nematus", prefix.startswith("encoder")
        transition = x is None
        b, bx = w[f"{prefix}_b"], w[f"{prefix}_bx"]
        if nematus:
            on_state = not encoder and (final or transition)
            h_gates, h_n = self.side(h, prefix, "U", on_state)
            if not (encoder and transition):
                b, bx = 0 * b, 0 * bx
        else:
            h_gates, h_n = self.side(h, prefix, "U", False)
        x_gates, x_n = (0.0, 0.0) if transition else self.side(x, prefix, "W", not final)
        r, z = np.split(sigmoid(x_gates + h_gates + b), 2)
        n = np.tanh(x_n + r * (h_n + bx)) if final else np.tanh(x_n + r * h_n + bx)
        return (1 - z) * n + z * h

    def lstm(self, x: Any, state: Any, prefix: str) -> Any:
        w, (h, c) = self.w, state
        u, x_w = h @ w[f"{prefix}_U"], 0.0 if x is None else x @ w[f"{prefix}_W"]
        if self.norm == "joint":
            u = normed(u, w[f"{prefix}_gamma2"], 0.0, 1e-9)
            x_w = 0.0 if x is None else normed(x_w, w[f"{prefix}_gamma1"], 0.0, 1e-9)
        f, i, g, o = np.split(x_w + u + w[f"{prefix}_b"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def cell(self, x: Any, state: Any, prefix: str, final: bool = False) -> Any:
        if isinstance(state, tuple):
            return self.lstm(x, state, prefix)
        return self.gru(x, state, prefix, final)

    def zero(self, prefix: str) -> Any:
        lstm = self.w[f"{prefix}_U"].shape[1] == 4 * H
        return (np.zeros(H), np.zeros(H)) if lstm else np.zeros(H)

    def run(self, xs: Any, prefixes: list[str], backward: bool) -> Any:
        state, out = self.zero(prefixes[0]), {}
        order = range(len(xs))
        for t in reversed(order) if backward else order:
            for number, prefix in enumerate(prefixes):
                state = self.cell(xs[t] if number == 0 else None, state, prefix)
            out[t] = state[0] if isinstance(state, tuple) else state
        return np.stack([out[t] for t in order])

    def memory(self, ids: list[int]) -> Any:
        source = self.w.get("encoder_Wemb", self.w.get("Wemb"))
        tops = []
        for stack, backward in (("forward", False), ("backward", True)):
            xs = source[ids]
            for number, prefixes in enumerate(self.layers[stack]):
                turned = self.alternating and number % 2 == 1
                out = self.run(xs, prefixes, backward != turned)
                xs = out + xs if self.skip and number > 0 else out
            tops.append(xs)
        memory = np.concatenate(tops, 1)
        for prefixes in self.layers.get("above", []):
            memory = self.run(memory, prefixes, False)
        return memory

    def term(self, x: Any, name: str, end: str = "") -> Any:
        w = self.w
        product, bias = x @ w[f"{name}_W{end}"], w[f"{name}_b{end}"]
        if self.norm == "joint":
            return normed(product, w[f"{name}_gamma{end}"], bias, 1e-9)
        if self.norm == "nematus":
            scale, shift = w[f"{name}_ln_s{end}"], w[f"{name}_ln_b{end}"]
            return normed(product + bias, scale, shift, 1e-5)
        return product + bias

    def scores(self, memory: Any, h: Any) -> Any:
        w = self.w
        keys, query = memory @ w["decoder_Wc_att"], h @ w["decoder_W_comb_att"]
        if self.norm == "joint":
            keys = normed(keys, w["decoder_att_gamma1"], w["decoder_b_att"], 1e-9)
            query = normed(query, w["decoder_att_gamma2"], 0.0, 1e-9)
        else:
            keys = keys + w["decoder_b_att"]
        if self.norm == "nematus":
            keys = normed(keys, w["decoder_Wc_att_lns"], w["decoder_Wc_att_lnb"], 1e-5)
            names = "decoder_W_comb_att_lns", "decoder_W_comb_att_lnb"
            query = normed(query, w[names[0]], w[names[1]], 1e-5)
        return np.tanh(keys + query) @ w["decoder_U_att"].reshape(-1)

    def __call__(self, case: Case, fed: list[int]) -> tuple[Any, Any]:
        w, layers = self.w, self.layers["decoder"]
        target = w.get("decoder_Wemb", w.get("Wemb"))
        memory = self.memory([*case["inputs"]["tokens"], 0])
        first = np.tanh(self.term(memory.mean(0), "decoder_ff_state"))
        states = [(first, first) if isinstance(self.zero(p[0]), tuple) else first for p in layers]
        logits, maps = [], []
        for token in fed:
            emb = np.zeros(E) if token < 0 else target[token]
            between = self.cell(emb, states[0], layers[0][0])
            h = between[0] if isinstance(between, tuple) else between
            alpha = softmax(self.scores(memory, h))
            context = alpha @ memory
            state = self.cell(context, between, layers[0][1], True)
            for prefix in layers[0][2:]:
                state = self.cell(None, state, prefix, True)
            states[0] = state
            top = state[0] if isinstance(state, tuple) else state
            for number, prefixes in enumerate(layers[1:], 1):
                for k, prefix in enumerate(prefixes):
                    states[number] = self.cell(top if k == 0 else None, states[number], prefix)
                new = states[number][0] if isinstance(states[number], tuple) else states[number]
                top = new + top if self.skip else new
            inputs = (emb, top, context)
            name = "decoder_ff_logit_l1"
            t = np.tanh(sum(self.term(x, name, str(n)) for n, x in enumerate(inputs)))
            matrix = w.get("decoder_ff_logit_l2_W")
            if matrix is None:
                matrix = w.get("decoder_ff_logit_l2_Wt", target).T
            logits.append(t @ matrix + w["decoder_ff_logit_l2_b"])
            maps.append(alpha)
        return np.stack(logits), np.stack(maps)


def cell_shapes(prefix: str, inputs: int, norm: str | None, lstm: bool) -> Shapes:
    """inputs 0: a transition."""
    if lstm:
        shapes: Shapes = {f"{prefix}_U": (H, 4 * H), f"{prefix}_b": (1, 4 * H)}
        shapes |= {f"{prefix}_W": (inputs, 4 * H)} if inputs else {}
        gamma = 4 * H
    else:
        shapes = {f"{prefix}_U": (H, 2 * H), f"{prefix}_Ux": (H, H)}
        shapes |= {f"{prefix}_b": (1, 2 * H), f"{prefix}_bx": (1, H)}
        shapes |= {f"{prefix}_W": (inputs, 2 * H), f"{prefix}_Wx": (inputs, H)} if inputs else {}
        gamma = 3 * H
    if norm == "joint":
        shapes |= {f"{prefix}_gamma2": (1, gamma)} | (
            {f"{prefix}_gamma1": (1, gamma)} if inputs else {}
        )
    if norm == "nematus":
        for kind in ("W", "Wx", "U", "Ux") if inputs else ("U", "Ux"):
            size = H if kind.endswith("x") else 2 * H
            shapes |= {f"{prefix}_{kind}_lns": (1, size), f"{prefix}_{kind}_lnb": (1, size)}
    return shapes


def model_shapes(
    layers: Any, norm: str | None, lstm: bool, output: str, context: int = 2 * H
) -> Shapes:
    shapes: Shapes = {"encoder_Wemb": (S, E), "decoder_Wemb": (T, E)}
    for stack in ("forward", "backward", "above"):
        for number, prefixes in enumerate(layers.get(stack, [])):
            inputs = (
                2 * H
                if stack == "above" and number == 0
                else H
                if number or stack == "above"
                else E
            )
            for k, prefix in enumerate(prefixes):
                shapes |= cell_shapes(prefix, 0 if k else inputs, norm, lstm)
    for number, prefixes in enumerate(layers["decoder"]):
        for k, prefix in enumerate(prefixes):
            wide = [E, context] if number == 0 else [H]
            shapes |= cell_shapes(prefix, wide[k] if k < len(wide) else 0, norm, lstm)
    shapes |= {"decoder_W_comb_att": (H, context), "decoder_Wc_att": (context, context)}
    shapes |= {"decoder_U_att": (context, 1), "decoder_b_att": (1, context)}
    for name, end, inputs, out in (
        ("decoder_ff_state", "", context, H),
        ("decoder_ff_logit_l1", "0", E, E),
        ("decoder_ff_logit_l1", "1", H, E),
        ("decoder_ff_logit_l1", "2", context, E),
    ):
        shapes |= {f"{name}_W{end}": (inputs, out), f"{name}_b{end}": (1, out)}
        shapes |= {f"{name}_gamma{end}": (1, out)} if norm == "joint" else {}
        if norm == "nematus":
            shapes |= {f"{name}_ln_s{end}": (1, out), f"{name}_ln_b{end}": (1, out)}
    if norm == "joint":
        shapes |= {"decoder_att_gamma1": (1, context), "decoder_att_gamma2": (1, context)}
    if norm == "nematus":
        for name in ("Wc_att", "W_comb_att"):
            shapes |= {f"decoder_{name}_{end}": (1, context) for end in ("lns", "lnb")}
    shapes |= {"decoder_ff_logit_l2_b": (1, T)}
    shapes |= {
        "W": {"decoder_ff_logit_l2_W": (E, T)},
        "Wt": {"decoder_ff_logit_l2_Wt": (T, E)},
    }.get(output, {})
    return shapes


PLAIN = {
    "forward": [["encoder_bi"]],
    "backward": [["encoder_bi_r"]],
    "decoder": [["decoder_cell1", "decoder_cell2"]],
}
DEEP = {
    "forward": [["encoder_bi", "encoder_bi_cell2"], ["encoder_bi_l2_cell1", "encoder_bi_l2_cell2"]],
    "backward": [
        ["encoder_bi_r", "encoder_bi_r_cell2"],
        ["encoder_bi_r_l2_cell1", "encoder_bi_r_l2_cell2"],
    ],
    "decoder": [
        ["decoder_cell1", "decoder_cell2", "decoder_cell3", "decoder_cell4"],
        ["decoder_l2_cell1", "decoder_l2_cell2"],
    ],
}
ABOVE = PLAIN | {"above": [["encoder_l2_cell1"]]}
CONFIGURATIONS = [
    # layers, norm, lstm, output, options
    pytest.param(PLAIN, None, False, "Wt", {}, id="gru"),
    pytest.param(PLAIN, None, True, "W", {}, id="lstm"),
    pytest.param(PLAIN, "joint", False, "tied", {}, id="gru-joint"),
    pytest.param(PLAIN, "joint", True, "W", {}, id="lstm-joint"),
    pytest.param(PLAIN, "nematus", False, "W", {}, id="gru-nematus"),
    pytest.param(DEEP, None, False, "W", {"skip": True}, id="deep-skip"),
    pytest.param(DEEP, None, True, "W", {"alternating": True}, id="deep-lstm-alternating"),
    pytest.param(DEEP, "joint", False, "W", {"alternating": True}, id="deep-joint"),
    pytest.param(DEEP, "joint", True, "W", {"skip": True}, id="deep-lstm-joint"),
    pytest.param(DEEP, "nematus", False, "Wt", {}, id="deep-nematus"),
    pytest.param(ABOVE, None, False, "W", {}, id="bi-unidirectional"),
]


@pytest.mark.variant("marian")
@pytest.mark.parametrize(("layers", "norm", "lstm", "output", "options"), CONFIGURATIONS)
def test_marian(layers: Any, norm: str | None, lstm: bool, output: str, options: Any) -> None:
    context = H if "above" in layers else 2 * H
    w = random_weights(11, model_shapes(layers, norm, lstm, output, context))
    model = marian(w, layer_norm=norm, **options)
    assert model.start is None and model.end == (0,)
    cases = [{"inputs": {"tokens": case["x"]}} for case in sources()]
    check_decoder(model, cases, Marian(w, norm, layers, **options))


@pytest.mark.variant("marian")
def test_the_names_of_amun_and_nematus_are_those_of_s2s() -> None:
    deep = {
        "forward": [["encoder_bi", "encoder_bi_cell2"]],
        "backward": [["encoder_bi_r", "encoder_bi_r_cell2"]],
        "decoder": [["decoder_cell1", "decoder_cell2", "decoder_cell3"]],
    }
    names = {
        "encoder_bi_r_cell2_": "encoder_r_{}_drt_1",
        "encoder_bi_cell2_": "encoder_{}_drt_1",
        "encoder_bi_r_": "encoder_r_{}",
        "encoder_bi_": "encoder_{}",
        "decoder_cell3_": "decoder_{}_nl_drt_1",
        "decoder_cell2_W": "decoder_Wc{}",
        "decoder_cell2_": "decoder_{}_nl",
        "decoder_cell1_": "decoder_{}",
        "decoder_ff_state_": "ff_state_{}",
        "decoder_ff_logit_l1_": "ff_logit_{}",
        "decoder_ff_logit_l2_": "ff_logit_{}",
        "encoder_Wemb": "Wemb",
        "decoder_Wemb": "Wemb_dec",
    }
    inputs = {"W0": "prev_W", "b0": "prev_b", "W1": "lstm_W", "b1": "lstm_b"}
    inputs |= {"W2": "ctx_W", "b2": "ctx_b"}

    def alias(name: str) -> str:
        for prefix, form in names.items():
            if name.startswith(prefix):
                rest = name.removeprefix(prefix)
                return form.format(inputs.get(rest, rest))
        return name

    w = random_weights(12, model_shapes(deep, None, False, "W"))
    old = {alias(name): array for name, array in w.items()}
    assert {"decoder_Ux_nl_drt_1", "decoder_Wcx", "encoder_r_b_drt_1", "Wemb"} < set(old)
    assert set(amun_names(old)) == set(w)
    assert all(amun_names(old)[name] is array for name, array in w.items())
    tokens = [4, 5, 6]
    found = marian(amun_names(old)).reference().forced_logits(tokens, [3, 2])
    expected, _ = Marian(w, None, deep)({"inputs": {"tokens": tokens}}, [-1, 3, 2])
    assert difference(found, expected) <= 1e-6


@pytest.mark.variant("C2''")
def test_bahdanaus_gru_is_the_engines_with_z_negated() -> None:
    """h = (1-z) h + z h~: sigmoid(-x) = 1 - sigmoid(x), so negated weights of z are exact."""
    w = random_weights(13, {"W": (3 * H, E), "U": (3 * H, H), "b": (3 * H,), "emb": (S, E)})
    turned = {name: array.copy() for name, array in w.items()}
    for name in "WUb":
        turned[name][H : 2 * H] *= -1
    m = ModelBuilder(source=S)
    e = m.encoder
    cell = {"weight_ih": turned["W"], "weight_hh": turned["U"], "bias_ih": turned["b"]}
    memory, h = e.gru(e.embedding(e.tokens, turned["emb"]), cell, reset="before")
    e.output(memory=memory, h=h)

    def oracle(case: Case) -> dict[str, Any]:
        v = double(w)
        h, found = np.zeros(H), []
        for token in case["x"]:
            a_r, a_z, a = np.split(v["W"] @ v["emb"][token] + v["b"], 3)
            u_r, u_z, u = np.split(v["U"], 3)
            r, z = sigmoid(a_r + u_r @ h), sigmoid(a_z + u_z @ h)
            h = (1 - z) * h + z * np.tanh(a + u @ (r * h))
            found.append(h)
        return {"memory": np.stack(found), "h": h}

    check_encoder(m.build(), sources(), oracle)
