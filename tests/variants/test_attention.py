"""Every kind of attention in one decoder: a GRU reads in both directions, a GRU writes, and the
output layer sees [s; c]. The scorers' oracles are loops over source positions in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
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
    cell_shapes,
    check_decoder,
    check_encoder,
    random_weights,
    row,
    sources,
)

from s2s_engine import ModelBuilder

pytestmark = pytest.mark.parity("torch")
M = 2 * 4  # the memory: another size than H


@dataclass(frozen=True)
class Kind:
    """One kind of attention three times: its arrays; what it is to the builder, from (decoder,
    encoder's memory, w, query) to (context, weights); and its energies or weights in PyTorch, from
    (p, query, memory, step), over positions."""

    shapes: Shapes
    write: Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]
    energies: Callable[[Any, Any, Any, int], Any]
    softmax: bool = True
    memory: int = M
    after: Callable[[Any, Any, Any], Any] = field(default=lambda a, p, q: a)


def each(function: Callable[[Any], Any], memory: Any) -> Any:
    return peers.torch().stack([function(h) for h in memory])


def dot(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    return d.attention(query=q, keys="memory", values="memory")


def general_on_keys(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    e.output(keys=e.linear(memory, w["W"], w.get("b")))
    return d.attention(query=q, keys="keys", values="memory")


def general_on_query(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    query = d.linear(q, w["W"], w.get("b"))
    return d.attention(query=query, keys="memory", values="memory")


def additive(d: Any, e: Any, memory: Any, w: Any, q: Any, **options: Any) -> Any:
    e.output(keys=e.linear(memory, w["V"], w.get("V_b")))
    query = d.linear(q, w["U"], w.get("U_b"))
    return d.attention(query=query, keys="keys", values="memory", v=w["v"], **options)


def additive_energies(function: str, energy: str = "identity") -> Any:
    def energies(p: Any, q: Any, memory: Any, step: int) -> Any:
        t = peers.torch()
        known: Any = {"tanh": t.tanh, "identity": lambda x: x, "relu": t.relu}

        def one(h: Any) -> Any:
            inner = p["U"] @ q + p["V"] @ h + p.get("U_b", 0.0) + p.get("V_b", 0.0)
            return known[energy](p["v"] @ known[function](inner) + p.get("e_b", t.zeros(1))[0])

        return each(one, memory)

    return energies


ADDITIVE: Shapes = {"U": (5, H), "V": (5, M), "v": (5,)}


def composed(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    """A scorer of two layers, from operations on the sequence alone."""
    inner = d.linear([q, "memory"], w["W1"], activation="relu")
    scores = d.linear(d.activation(d.linear(inner, w["W2"]), "sigmoid"), w["W3"])
    return d.attention(scores=scores, values="memory")


def composed_energies(p: Any, q: Any, memory: Any, step: int) -> Any:
    t = peers.torch()
    return each(
        lambda h: (p["W3"] @ t.sigmoid(p["W2"] @ t.relu(p["W1"] @ t.cat([q, h]))))[0], memory
    )


def projected(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    e.output(keys=e.linear(memory, w["K"]), values=e.linear(memory, w["V"]))
    scale = 1 / math.sqrt(5)
    return d.attention(query=d.linear(q, w["Q"]), keys="keys", values="values", scale=scale)


def not_summed(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    """a_j h_j is a sequence; here its largest features are kept."""
    _, weights = d.attention(query=q, keys="memory", values="memory")
    return d.pool(d.multiply(weights, "memory"), "max"), weights


def local(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    return d.attention(query=q, keys="memory", values="memory", centre=d.step(64), window=2)


def local_energies(p: Any, q: Any, memory: Any, step: int) -> Any:
    found = each(lambda h: q @ h, memory)
    outside = [j for j in range(len(memory)) if not step - 2 <= j <= step + 2]
    found[outside] = -math.inf
    return found


def predicted(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    p = d.linear(d.linear(q, w["W_p"], activation="tanh"), w["v_p"], activation="sigmoid")
    centre = d.multiply(d.source_length(), p)
    return d.attention(
        query=q, keys="memory", values="memory", centre=centre, window=3, gaussian=True
    )


def centre_of(p: Any, q: Any, length: int) -> float:
    t = peers.torch()
    return length * float(t.sigmoid(p["v_p"] @ t.tanh(p["W_p"] @ q)))


def predicted_energies(p: Any, q: Any, memory: Any, step: int) -> Any:
    found, centre = each(lambda h: q @ h, memory), centre_of(p, q, len(memory))
    found[[j for j in range(len(memory)) if abs(j - centre) > 3]] = -math.inf
    return found


def gaussian(a: Any, p: Any, q: Any) -> Any:
    t = peers.torch()
    distance = t.arange(len(a)) - centre_of(p, q, len(a))
    return a * t.exp(-(distance**2) / (2 * 1.5**2))


def location(d: Any, e: Any, memory: Any, w: Any, q: Any) -> Any:
    scores = d.to_positions(d.softmax(d.linear(q, w["W_a"])))
    return d.attention(scores=scores, values="memory", normaliser="none")


def location_weights(p: Any, q: Any, memory: Any, step: int) -> Any:
    t = peers.torch()
    a = t.cat([(p["W_a"] @ q).softmax(0), t.zeros(len(memory), dtype=t.float64)])
    return a[: len(memory)]


KINDS = [
    row("A1", "A8", values=(Kind({}, dot, lambda p, q, m, s: each(lambda h: q @ h, m), memory=H),)),
    row(
        "A2", case="on the keys",
        values=(Kind({"W": (H, M)}, general_on_keys,
                     lambda p, q, m, s: each(lambda h: q @ p["W"] @ h, m)),),
    ),
    row(
        "A2", case="on the keys, with bias",
        values=(Kind({"W": (H, M), "b": (H,)}, general_on_keys,
                     lambda p, q, m, s: each(lambda h: q @ (p["W"] @ h + p["b"]), m)),),
    ),
    row(
        "A2", case="on the query",
        values=(Kind({"W": (M, H)}, general_on_query,
                     lambda p, q, m, s: each(lambda h: (p["W"] @ q) @ h, m)),),
    ),
    row(
        "A2", case="on the query, with bias",
        values=(Kind({"W": (M, H), "b": (M,)}, general_on_query,
                     lambda p, q, m, s: each(lambda h: (p["W"] @ q + p["b"]) @ h, m)),),
    ),
    row("A3", values=(Kind(ADDITIVE, additive, additive_energies("tanh")),)),
    row(
        "A3", case="a bias on each term",
        values=(Kind(ADDITIVE | {"U_b": (5,), "V_b": (5,), "e_b": (1,)},
                     lambda d, e, m, w, q: additive(d, e, m, w, q, energy_bias=w["e_b"]),
                     additive_energies("tanh")),),
    ),
    row(
        "A4", case="without tanh",
        values=(Kind(ADDITIVE,
                     lambda d, e, m, w, q: additive(d, e, m, w, q, activation="identity"),
                     additive_energies("identity")),),
    ),
    row(
        "A4", case="relu on the energy",
        values=(Kind(ADDITIVE | {"e_b": (1,)},
                     lambda d, e, m, w, q: additive(d, e, m, w, q, energy_bias=w["e_b"],
                                                    energy_activation="relu"),
                     additive_energies("tanh", "relu")),),
    ),
    row(
        "A4'",
        values=(Kind({"W1": (6, H + M), "W2": (3, 6), "W3": (1, 3)}, composed,
                     composed_energies),),
    ),
    row(
        "A5", "A10",
        values=(Kind({"Q": (5, H), "K": (5, M), "V": (M, M)}, projected,
                     lambda p, q, m, s: each(
                         lambda h: (p["Q"] @ q) @ (p["K"] @ h) / math.sqrt(5), m)),),
    ),
    row("A9", values=(Kind({}, not_summed, lambda p, q, m, s: each(lambda h: q @ h, m),
                           memory=H),)),
    row("A11m", values=(Kind({}, local, local_energies, memory=H),)),
    row(
        "A11p",
        values=(Kind({"W_p": (4, H), "v_p": (1, 4)}, predicted, predicted_energies, memory=H,
                     after=gaussian),),
    ),
    row("A11l", values=(Kind({"W_a": (6, H)}, location, location_weights, softmax=False),)),
]  # fmt: skip


@pytest.mark.variant("A13")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "asks", [row("A6", values=("previous",)), row("A7", values=("new",)),
             row("A7'", values=("between",))]
)  # fmt: skip
def test_attention(kind: Kind, asks: str) -> None:
    half, memory_size = kind.memory // 2, kind.memory
    if kind.memory % 2:  # one direction, of the decoder's size
        encoders = cell_shapes("encoder", 3, E, memory_size)
    else:
        encoders = cell_shapes("encoder", 3, E, half) | cell_shapes("backward", 3, E, half)
    inputs = {"previous": E + memory_size, "new": E, "between": E}[asks]
    shapes: Shapes = {
        "source": (SOURCE, E),
        "target": (TARGET, E),
        "first": (H, memory_size),
        "output": (TARGET, H + memory_size),
        **encoders,
        **cell_shapes("decoder", 3, inputs, H),
        **{f"attention.{name}": shape for name, shape in kind.shapes.items()},
    }
    if asks == "between":
        shapes |= cell_shapes("second", 3, memory_size, H)
    w = random_weights(21, shapes)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    own = under(w, "attention")
    x = e.embedding(e.tokens, w["source"])
    if kind.memory % 2:
        memory, _ = e.gru(x, under(w, "encoder"))
    else:
        memory, _ = e.bidirectional(e.gru, x, under(w, "encoder"), under(w, "backward"))
    e.output(memory=memory, s=e.linear(e.pool(memory, "mean"), w["first"], activation="tanh"))
    s, y = d.state("s", initial="s"), d.embedding(d.token, w["target"])
    if asks == "previous":
        c, a = kind.write(d, e, memory, own, s)
        s = d.gru_cell([y, c], s, under(w, "decoder"))
    else:
        s = d.gru_cell(y, s, under(w, "decoder"))
        c, a = kind.write(d, e, memory, own, s)
        s = d.gru_cell(c, s, under(w, "second")) if asks == "between" else s
    d.next(s=s)
    d.output(logits=d.linear([s, c], w["output"]), alignment=a)

    t, p = peers.torch(), peers.tensors(w)
    backward = () if kind.memory % 2 else ("backward",)
    encoder = peers.layer("GRU", w, "encoder", backward=backward)
    cell = peers.cell("GRUCell", w, "decoder")
    second = peers.cell("GRUCell", w, "second") if asks == "between" else None
    arrays = under(p, "attention")

    def attend(q: Any, h: Any, step: int) -> tuple[Any, Any]:
        a = kind.energies(arrays, q, h, step)
        if kind.softmax:
            # nan where no position is in the window: nothing is attended to.
            a = t.nan_to_num(a.softmax(0))
        a = kind.after(a, arrays, q)
        if kind.write is not_summed:
            return (a[:, None] * h).amax(0), a
        return a @ (h @ arrays["V"].T if kind.write is projected else h), a

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        h, _ = encoder(p["source"][case["x"]])
        s, out, maps = t.tanh(p["first"] @ h.mean(0)), [], []
        for step, i in enumerate(fed):
            y = p["target"][i]
            if asks == "previous":
                c, a = attend(s, h, step)
                s = cell(t.cat([y, c]), s)
            else:
                s = cell(y, s)
                c, a = attend(s, h, step)
                s = second(c, s) if second else s
            out.append(p["output"] @ t.cat([s, c]))
            maps.append(a)
        return t.stack(out), t.stack(maps)

    check_decoder(m.build(start=START, end=[END], arrays=w), sources(1, 4, 9), oracle)


def under(w: Any, name: str) -> dict[str, Any]:
    return {k.removeprefix(f"{name}."): v for k, v in w.items() if k.startswith(f"{name}.")}


@pytest.mark.parametrize("heads", [row("A12", "A13", case=f"{n} heads", values=(n,))
                                   for n in (1, 2, 4)])  # fmt: skip
@pytest.mark.parametrize("score", ["dot", "additive"])
def test_self_attention(heads: int, score: str) -> None:
    """softmax(Q K' / sqrt(d_k)) V over the source itself: scaled_dot_product_attention."""
    size, width = 8, 12
    shapes: Shapes = {
        "Q": (size, E), "K": (size, E), "V": (width, E), "v": (size,)
    }  # fmt: skip
    w = random_weights(31, shapes)
    m = ModelBuilder()
    e = m.encoder
    x = e.input("x", sequence=E)
    q, k, v = (e.linear(x, w[name]) for name in "QKV")
    options: Any = {"v": w["v"]} if score == "additive" else {"scale": math.sqrt(heads / size)}
    context, weights = e.attention(query=q, keys=k, values=v, heads=heads, **options)
    e.output(context=context, weights=weights)
    t, p = peers.torch(), peers.tensors(w)

    def oracle(case: Case) -> dict[str, Any]:
        x = t.tensor(case["features"], dtype=t.float64)
        # (heads, S, size of a head)
        q, k, v = ((x @ p[name].T).unflatten(1, (heads, -1)).transpose(0, 1) for name in "QKV")
        if score == "dot":
            context = t.nn.functional.scaled_dot_product_attention(q, k, v)
            energies = q @ k.transpose(1, 2) / math.sqrt(size // heads)
        else:
            blocks = p["v"].unflatten(0, (heads, 1, 1, -1))
            energies = (t.tanh(q[:, :, None] + k[:, None]) * blocks).sum(-1)
            context = energies.softmax(-1) @ v
        a = energies.softmax(-1)
        joined = context.transpose(0, 1).flatten(1)
        return {"context": joined, "weights": a[0] if heads == 1 else a}

    random = np.random.default_rng(2)
    cases = [{"features": random.standard_normal((n, E)).astype(np.float32)} for n in (1, 5, 33)]
    check_encoder(m.build(), cases, oracle)
