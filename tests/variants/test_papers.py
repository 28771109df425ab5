"""The networks of the papers against PyTorch code written from the papers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import peers
import pytest
from checks import (
    END,
    SOURCE,
    START,
    TARGET,
    Case,
    E,
    H,
    Shapes,
    Weights,
    cell_shapes,
    check_decoder,
    check_encoder,
    random_weights,
    row,
    sources,
)

from s2s_engine import Model, ModelBuilder
from s2s_engine.architectures import papers

pytestmark = pytest.mark.parity("torch")
EMBEDDINGS = {"encoder.embedding": (SOURCE, E), "decoder.embedding": (TARGET, E)}


def built(m: ModelBuilder, w: Weights, *, start: int | None = START) -> Model:
    """Every array is used."""
    return m.build(start=start, end=[END], arrays=w)


def text() -> ModelBuilder:
    return ModelBuilder(source=SOURCE, target=TARGET)


def stack(name: str, layers: int, first: int, hidden: int = H) -> Shapes:
    shapes: Shapes = {}
    for k in range(layers):
        shapes |= cell_shapes(f"{name}.{k}", 4, first if k == 0 else hidden, hidden)
    return shapes


@pytest.mark.variant("L1")
@pytest.mark.variant("T6")
@pytest.mark.parametrize("layers", [1, 4])
def test_sutskever2014(layers: int) -> None:
    shapes: Shapes = {"output.weight": (TARGET, H), "output.bias": (TARGET,), **EMBEDDINGS}
    shapes |= stack("encoder", layers, E) | stack("decoder", layers, E)
    w = random_weights(layers, shapes, scale=0.9)
    m = text()
    papers.sutskever2014(m, w, layers=layers)

    p = peers.tensors(w)
    encoder = peers.layer("LSTM", w, *(f"encoder.{k}" for k in range(layers)))
    decoder = peers.layer("LSTM", w, *(f"decoder.{k}" for k in range(layers)))

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        _, state = encoder(p["encoder.embedding"][case["x"][::-1]])
        h, _ = decoder(p["decoder.embedding"][fed], state)
        return h @ p["output.weight"].T + p["output.bias"], None

    check_decoder(built(m, w), sources(), oracle)


@pytest.mark.variant("L2")
@pytest.mark.variant("O7")
def test_cho2014() -> None:
    context, pairs = 6, 4
    w = random_weights(
        2,
        {
            **EMBEDDINGS,
            **cell_shapes("encoder.cell", 3, E, H, biases=()),
            "summary.weight": (context, H),
            "initial.weight": (H, context),
            "update.weight": (H, E + H + context),
            "reset.weight": (H, E + H + context),
            "candidate.weight": (H, E),
            "recurrent.weight": (H, H + context),
            "deep.weight": (2 * pairs, H + TARGET + context),
            "output.weight": (TARGET, pairs),
        },
        scale=0.9,
    )
    m = text()
    papers.cho2014(m, w)

    t, p = peers.torch(), peers.tensors(w)
    sigmoid, tanh = t.sigmoid, t.tanh
    w_r, w_z, w_h = p["encoder.cell.weight_ih"].chunk(3)
    u_r, u_z, u_h = p["encoder.cell.weight_hh"].chunk(3)
    sizes = [E, H, context]
    W_z, U_z, C_z = p["update.weight"].split(sizes, 1)
    W_r, U_r, C_r = p["reset.weight"].split(sizes, 1)
    U, C = p["recurrent.weight"].split([H, context], 1)
    O_h, O_y, O_c = p["deep.weight"].split([H, TARGET, context], 1)

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        h = t.zeros(H, dtype=t.float64)
        for i in case["x"]:  # appendix A.1.1
            x = p["encoder.embedding"][i]
            r, z = sigmoid(w_r @ x + u_r @ h), sigmoid(w_z @ x + u_z @ h)
            h = z * h + (1 - z) * tanh(w_h @ x + u_h @ (r * h))
        c = tanh(p["summary.weight"] @ h)
        h, out = tanh(p["initial.weight"] @ c), []
        for i in fed:  # appendix A.1.2
            y, word = t.zeros(TARGET, dtype=t.float64), t.zeros(E, dtype=t.float64)
            if i >= 0:
                y[i], word = 1.0, p["decoder.embedding"][i]
            z = sigmoid(W_z @ word + U_z @ h + C_z @ c)
            r = sigmoid(W_r @ word + U_r @ h + C_r @ c)
            h = z * h + (1 - z) * tanh(p["candidate.weight"] @ word + r * (U @ h + C @ c))
            s = (O_h @ h + O_y @ y + O_c @ c).reshape(-1, 2).amax(1)
            out.append(p["output.weight"] @ s)
        return t.stack(out), None

    check_decoder(built(m, w, start=None), sources(), oracle)


@pytest.mark.variant("L7")
@pytest.mark.variant("C2''")
@pytest.mark.variant("A6")
@pytest.mark.parametrize("biases", [False, True])
def test_bahdanau2015(biases: bool) -> None:
    """The oracle has the paper's z, which keeps the new state: its rows have the other sign."""
    memory, score, pairs = 2 * H, 6, 4
    roles = ("ih",) if biases else ()
    shapes: Shapes = {
        **EMBEDDINGS,
        **cell_shapes("forward", 3, E, H, biases=roles),
        **cell_shapes("backward", 3, E, H, biases=roles),
        **cell_shapes("decoder.cell", 3, E + memory, H, biases=roles),
        "initial.weight": (H, H),
        "attention.query": (score, H),
        "attention.key": (score, memory),
        "attention.v": (score,),
        "deep.weight": (2 * pairs, H + E + memory),
        "output.weight": (TARGET, pairs),
    }
    if biases:
        shapes |= {"initial.bias": (H,), "attention.bias": (score,), "deep.bias": (2 * pairs,)}
        shapes |= {"output.bias": (TARGET,)}
    w = random_weights(7, shapes)
    m = text()
    papers.bahdanau2015(m, w)

    t, p = peers.torch(), peers.tensors(w)

    def bias(name: str) -> Any:
        return p.get(name, t.zeros(1, dtype=t.float64))

    def gru(name: str, x: Any, s: Any) -> Any:
        """z = sigmoid(-...) is the paper's: s = (1 - z) s + z s~ (appendix A.1.1)."""
        b = p.get(f"{name}.bias_ih", t.zeros(3 * H, dtype=t.float64))
        x_r, x_z, x_s = (p[f"{name}.weight_ih"] @ x + b).chunk(3)
        u_r, u_z, u_s = p[f"{name}.weight_hh"].chunk(3)
        r, z = t.sigmoid(x_r + u_r @ s), t.sigmoid(-(x_z + u_z @ s))
        return (1 - z) * s + z * t.tanh(x_s + u_s @ (r * s))

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        x = p["encoder.embedding"][case["x"]]
        forward, backward = [t.zeros(H, dtype=t.float64)], [t.zeros(H, dtype=t.float64)]
        for j in range(len(x)):
            forward.append(gru("forward", x[j], forward[-1]))
            backward.append(gru("backward", x[len(x) - 1 - j], backward[-1]))
        h = t.cat([t.stack(forward[1:]), t.stack(backward[:0:-1])], 1)
        s = t.tanh(p["initial.weight"] @ backward[-1] + bias("initial.bias"))
        out, maps = [], []
        for i in fed:
            y = p["decoder.embedding"][i]
            keys = h @ p["attention.key"].T + bias("attention.bias")
            e = t.tanh(p["attention.query"] @ s + keys) @ p["attention.v"]
            a = t.softmax(e, 0)
            c = a @ h
            deep = p["deep.weight"] @ t.cat([s, y, c]) + bias("deep.bias")
            out.append(p["output.weight"] @ deep.reshape(-1, 2).amax(1) + bias("output.bias"))
            s = gru("decoder.cell", t.cat([y, c]), s)
            maps.append(a)
        return t.stack(out), t.stack(maps)

    check_decoder(built(m, w), sources(), oracle)


def luong_shapes(score: str, reach: str, layers: int, feeding: bool) -> Any:
    shapes: Shapes = {**EMBEDDINGS, "combine.weight": (H, 2 * H), "output.weight": (TARGET, H)}
    shapes |= stack("encoder", layers, E)
    shapes |= stack("decoder", layers, E + H if feeding else E)
    if score == "general":
        shapes |= {"attention.weight": (H, H)}
    if score == "location":
        shapes |= {"attention.weight": (6, H)}  # shorter than one of the sources
    if score == "concat":
        shapes |= {"attention.query": (5, H), "attention.key": (5, H), "attention.v": (5,)}
    if reach == "predictive":
        shapes |= {"position.weight": (4, H), "position.v": (1, 4)}
    return shapes


@pytest.mark.parametrize(
    ("score", "reach", "layers", "feeding"),
    [
        row("L3", "A1", "A7", "A8", "O1", "O8", "A13", values=("dot", "global", 2, True)),
        row("L3", "A1", case="without feeding", values=("dot", "global", 1, False)),
        row("L3", "A2", values=("general", "global", 1, True)),
        row("L3", "A4", values=("concat", "global", 1, True)),
        row("L3", "A11l", values=("location", "global", 2, True)),
        row("L3", "A11m", case="dot", values=("dot", "monotonic", 1, True)),
        row("L3", "A11m", case="general", values=("general", "monotonic", 2, False)),
        row("L3", "A11p", case="general", values=("general", "predictive", 2, True)),
        row("L3", "A11p", case="concat", values=("concat", "predictive", 1, False)),
    ],
)
def test_luong2015(score: Any, reach: Any, layers: int, feeding: bool) -> None:
    window = 2
    w = random_weights(3, luong_shapes(score, reach, layers, feeding), scale=0.8)
    m = text()
    papers.luong2015(
        m, w, layers=layers, score=score, reach=reach, window=window, input_feeding=feeding
    )
    t, p = peers.torch(), peers.tensors(w)
    encoder = peers.layer("LSTM", w, *(f"encoder.{k}" for k in range(layers)))
    cells = [peers.cell("LSTMCell", w, f"decoder.{k}") for k in range(layers)]

    def align(h: Any, memory: Any) -> Any:
        """Eq. 8, one source position at a time."""
        if score == "location":
            return (p["attention.weight"] @ h).softmax(0)
        if score == "dot":
            return t.stack([h @ one for one in memory])
        if score == "general":
            return t.stack([h @ p["attention.weight"] @ one for one in memory])
        W_a = t.cat([p["attention.query"], p["attention.key"]], 1)
        return t.stack(
            [p["attention.v"] @ t.tanh(W_a @ t.cat([h, one])) for one in memory]
        )  # fmt: skip

    def weights(h: Any, memory: Any, step: int) -> Any:
        score_of, length = align(h, memory), len(memory)
        if score == "location":
            rest = t.zeros(max(0, length - len(score_of)), dtype=t.float64)
            return t.cat([score_of[:length], rest])
        if reach == "global":
            return score_of.softmax(0)
        centre = float(step)
        if reach == "predictive":
            inner = p["position.v"][0] @ t.tanh(p["position.weight"] @ h)
            centre = length * float(t.sigmoid(inner))
        inside = [s for s in range(length) if centre - window <= s <= centre + window]
        a = t.zeros(length, dtype=t.float64)
        if inside:
            a[inside] = score_of[inside].softmax(0)
        if reach == "predictive":
            s = t.arange(length)
            a = a * t.exp(-((s - centre) ** 2) / (2 * (window / 2) ** 2))
        return a

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        memory, (h0, c0) = encoder(p["encoder.embedding"][case["x"]])
        state = [(h0[k], c0[k]) for k in range(layers)]
        feed = t.zeros(H, dtype=t.float64)
        out, maps = [], []
        for step, i in enumerate(fed):
            x = t.cat([p["decoder.embedding"][i], feed]) if feeding else p["decoder.embedding"][i]
            for k, cell in enumerate(cells):
                state[k] = cell(x, state[k])
                x = state[k][0]
            a = weights(x, memory, step)
            feed = t.tanh(p["combine.weight"] @ t.cat([a @ memory, x]))
            out.append(p["output.weight"] @ feed)
            maps.append(a)
        return t.stack(out), t.stack(maps)

    check_decoder(built(m, w), sources(1, 4, 9), oracle)


# --- Vaswani et al. 2017 ---

D, F = 8, 12


def transformer_shapes(layers: int, biases: bool) -> Shapes:
    shapes: Shapes = {"encoder.embedding": (SOURCE, D)}
    for k in range(layers):
        for name in ("query", "key", "value", "out"):
            shapes[f"encoder.{k}.attention.{name}.weight"] = (D, D)
            if biases:
                shapes[f"encoder.{k}.attention.{name}.bias"] = (D,)
        for name, out, size in (("inner", F, D), ("outer", D, F)):
            shapes[f"encoder.{k}.{name}.weight"] = (out, size)
            shapes[f"encoder.{k}.{name}.bias"] = (out,)
        for name in ("norm1", "norm2"):
            shapes |= {f"encoder.{k}.{name}.weight": (D,), f"encoder.{k}.{name}.bias": (D,)}
    return shapes


def attention_peer(p: Any, name: str, heads: int, size: int = D, memory: int = D) -> Any:
    """torch.nn.MultiheadAttention."""
    t = peers.torch()
    biases = f"{name}.query.bias" in p
    module = t.nn.MultiheadAttention(size, heads, bias=biases, dtype=t.float64)
    with t.no_grad():
        module.in_proj_weight.copy_(
            t.cat([p[f"{name}.{one}.weight"] for one in ("query", "key", "value")])
        )
        module.out_proj.weight.copy_(p[f"{name}.out.weight"])
        if biases:
            module.in_proj_bias.copy_(
                t.cat([p[f"{name}.{one}.bias"] for one in ("query", "key", "value")])
            )
            module.out_proj.bias.copy_(p[f"{name}.out.bias"])
    return module.requires_grad_(False).eval()


def encoder_peer(p: Any, layers: int, heads: int) -> Any:
    """ids -> (memory, the weights of each layer by head): torch.nn.TransformerEncoderLayer."""
    t = peers.torch()
    stack = []
    for k in range(layers):
        module = t.nn.TransformerEncoderLayer(D, heads, F, dropout=0.0, dtype=t.float64).eval()
        module.requires_grad_(False)
        module.self_attn = attention_peer(p, f"encoder.{k}.attention", heads)
        names = {"linear1": "inner", "linear2": "outer", "norm1": "norm1", "norm2": "norm2"}
        for theirs, ours in names.items():
            getattr(module, theirs).weight.copy_(p[f"encoder.{k}.{ours}.weight"])
            getattr(module, theirs).bias.copy_(p[f"encoder.{k}.{ours}.bias"])
        stack.append(module)

    def run(ids: list[int]) -> tuple[Any, list[Any]]:
        angles = np.array(
            [
                [
                    (math.sin if i % 2 == 0 else math.cos)(pos / 10000 ** (2 * (i // 2) / D))
                    for i in range(D)
                ]
                for pos in range(len(ids))
            ],
            np.float32,
        )
        x = p["encoder.embedding"][ids] * float(np.float32(math.sqrt(D))) + t.tensor(angles)
        maps = []
        for module in stack:
            _, a = module.self_attn(x, x, x, average_attn_weights=False)
            maps.append(a[0] if heads == 1 else a)
            x = module(x[:, None])[:, 0]
        return x, maps

    return run


@pytest.mark.variant("L9")
@pytest.mark.variant("A12")
@pytest.mark.variant("A13")
@pytest.mark.variant("A5")
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("layers", [1, 2])
def test_vaswani2017_classifier(layers: int, heads: int) -> None:
    """Maps of self-attention: (source, source), or (heads, source, source)."""
    w = random_weights(9, transformer_shapes(layers, True) | {"output.weight": (5, D)})
    m = ModelBuilder(source=SOURCE)
    papers.vaswani2017_classifier(m, w, layers=layers, heads=heads, positions=64)
    p = peers.tensors(w)
    encoder = encoder_peer(p, layers, heads)

    def oracle(case: Case) -> dict[str, Any]:
        memory, maps = encoder(case["x"])
        logits = p["output.weight"] @ memory.mean(0)
        found = {f"self_attention_{k}": a for k, a in enumerate(maps)}
        return {"memory": memory, "logits": logits, **found}

    model = m.build(arrays=w)
    check_encoder(model, sources(1, 4, 9), oracle)
    shape = model.reference().encode([3, 4, 5])["self_attention_0"].shape
    assert shape == ((3, 3) if heads == 1 else (heads, 3, 3))


@pytest.mark.variant("L9")
@pytest.mark.variant("A10")
@pytest.mark.variant("A13")
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("biases", [False, True])
def test_vaswani2017_recurrent(heads: int, biases: bool) -> None:
    """Multi-head attention of a recurrent decoder's state on the encoder's output."""
    shapes: Shapes = transformer_shapes(2, biases) | cell_shapes("decoder.cell", 3, E, D)
    shapes |= {"decoder.embedding": (TARGET, E), "initial.weight": (D, D)}
    for name in ("query", "key", "value", "out"):
        shapes[f"decoder.attention.{name}.weight"] = (D, D)
        if biases:
            shapes[f"decoder.attention.{name}.bias"] = (D,)
    w = random_weights(11, shapes | {"output.weight": (TARGET, 2 * D)})
    m = text()
    papers.vaswani2017_recurrent(m, w, layers=2, heads=heads, positions=64)
    t, p = peers.torch(), peers.tensors(w)
    encoder, cell = encoder_peer(p, 2, heads), peers.layer("GRU", w, "decoder.cell")
    attention = attention_peer(p, "decoder.attention", heads)

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        memory, _ = encoder(case["x"])
        first = t.tanh(p["initial.weight"] @ memory.mean(0))
        h, _ = cell(p["decoder.embedding"][fed], first[None])
        context, a = attention(h, memory, memory, average_attn_weights=False)
        return t.cat([h, context], 1) @ p["output.weight"].T, a[0] if heads == 1 else a

    check_decoder(built(m, w), sources(1, 4, 9), oracle, heads=heads)
