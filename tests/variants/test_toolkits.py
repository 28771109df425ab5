"""The wirings of PyTorch toolkits: the engine against float64 PyTorch modules put together as each
toolkit's equations say. Knows state-dict names; never the builder."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from checks import Case, Oracle, check_decoder, check_encoder, random_weights, sources

from s2s_engine import Engine
from s2s_engine.architectures.toolkits import (
    allennlp,
    fairseq,
    g2p_en,
    joeynmt,
    opennmt_py,
    stanza,
    thai2rom,
)

Shapes: TypeAlias = dict[str, tuple[int, ...]]
# What a step of an oracle gives: logits, attention weights, the next state.
Step: TypeAlias = Callable[[Any, Any], tuple[Any, Any, Any]]
S, T, E, F, H = 11, 9, 5, 4, 6
parity = pytest.mark.parity("torch")


@pytest.fixture(scope="module")
def torch() -> Any:
    pytest.importorskip("torch")
    module: Any = importlib.import_module("torch")
    threads, gradients = module.get_num_threads(), module.is_grad_enabled()
    module.set_num_threads(1)
    module.set_grad_enabled(False)
    yield module
    module.set_num_threads(threads)
    module.set_grad_enabled(gradients)


def rnn(
    name: str, gates: int, inputs: int, hidden: int, *, layers: int = 1, directions: int = 1
) -> Shapes:
    """The parameters of torch.nn.LSTM (4 gates) or GRU (3)."""
    shapes: Shapes = {}
    for k in range(layers):
        for end in (f"_l{k}", f"_l{k}_reverse")[:directions]:
            width = inputs if k == 0 else directions * hidden
            shapes |= cell(name, gates, width, hidden, end)
    return shapes


def cell(name: str, gates: int, inputs: int, hidden: int, end: str = "") -> Shapes:
    return {
        f"{name}.weight_ih{end}": (gates * hidden, inputs),
        f"{name}.weight_hh{end}": (gates * hidden, hidden),
        f"{name}.bias_ih{end}": (gates * hidden,),
        f"{name}.bias_hh{end}": (gates * hidden,),
    }


def dense(name: str, out: int, inputs: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, inputs)} | ({f"{name}.bias": (out,)} if bias else {})


class Net:
    """Weights by name as float64 tensors, and PyTorch's modules on them."""

    def __init__(self, torch: Any, w: Mapping[str, Any]) -> None:
        self.torch = torch
        self.w = {name: torch.from_numpy(np.array(array)).double() for name, array in w.items()}

    def __getitem__(self, name: str) -> Any:
        return self.w[name]

    def below(self, name: str) -> dict[str, Any]:
        return {n[len(name) + 1 :]: t for n, t in self.w.items() if n.startswith(f"{name}.")}

    def layers(self, name: str) -> Any:
        """torch.nn.LSTM or GRU with all parameters below a name."""
        found = self.below(name)
        rows, hidden = found["weight_hh_l0"].shape
        kind = {4: self.torch.nn.LSTM, 3: self.torch.nn.GRU}[rows // hidden]
        directions = 1 + ("weight_ih_l0_reverse" in found)
        module = kind(
            found["weight_ih_l0"].shape[1],
            hidden,
            num_layers=sum(n.startswith("weight_hh") for n in found) // directions,
            bidirectional=directions == 2,
        ).double()
        module.load_state_dict(found)
        return module

    def cell(self, name: str) -> Any:
        found = self.below(name)
        rows, hidden = found["weight_hh"].shape
        kind = {4: self.torch.nn.LSTMCell, 3: self.torch.nn.GRUCell}[rows // hidden]
        module = kind(found["weight_ih"].shape[1], hidden).double()
        module.load_state_dict(
            {role: t.reshape(module.state_dict()[role].shape) for role, t in found.items()}
        )
        return module

    def linear(self, name: str, *x: Any) -> Any:
        joined = self.torch.cat(x, -1)
        return self.torch.nn.functional.linear(
            joined, self.w[f"{name}.weight"], self.w.get(f"{name}.bias")
        )

    def attend(self, scores: Any, memory: Any) -> tuple[Any, Any]:
        weights = self.torch.softmax(scores, 0)
        return weights @ memory, weights

    def zeros(self, *shape: int) -> Any:
        return self.torch.zeros(*shape, dtype=self.torch.float64)

    def per_layer(self, states: Any, directions: int) -> Any:
        """(layers * directions, H) made (layers, directions * H): [forward; backward]."""
        return states.reshape(states.shape[0] // directions, -1)


def driven(encode: Callable[[Case], tuple[Step, Any]]) -> Oracle:
    """An oracle from what makes a step and a first state of a source."""

    def run(case: Case, fed: list[int]) -> tuple[Any, Any]:
        step, state = encode(case)
        logits, maps = [], []
        for token in fed:
            row, weights, state = step(token, state)
            logits.append(row.numpy())
            maps.append(None if weights is None else weights.numpy())
        return np.stack(logits), None if maps[0] is None else np.stack(maps)

    return run


def cells_step(net: Net, modules: Sequence[Any], x: Any, state: Any) -> tuple[Any, Any]:
    """One step of cells on top of one another: (h of the top, states)."""
    after = []
    for module, previous in zip(modules, state, strict=True):
        new = module(x, previous)
        x = new[0] if isinstance(new, tuple) else new
        after.append(new)
    return x, after


def texts() -> list[Case]:
    """By name: a source rule adds positions that the attention sees."""
    return [{"inputs": {"tokens": case["x"]}} for case in sources()]


def tokens(case: Case) -> list[int]:
    ids: list[int] = case["inputs"]["tokens"]
    return ids


# --- g2p_en, thai2rom ---


@parity
@pytest.mark.variant("g2p_en")
def test_g2p_en(torch: Any) -> None:
    shapes = {"enc_emb": (S, E), "dec_emb": (T, F), "fc_w": (T, H), "fc_b": (T,)}
    for side, inputs in (("enc", E), ("dec", F)):
        shapes |= {f"{side}_w_ih": (3 * H, inputs), f"{side}_w_hh": (3 * H, H)}
        shapes |= {f"{side}_b_ih": (3 * H,), f"{side}_b_hh": (3 * H,)}
    w = random_weights(1, shapes)
    roles = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
    gru = {f"{s}.{roles[r]}": w[f"{s}_{r}"] for s in ("enc", "dec") for r in roles}
    net = Net(torch, w | gru)

    def encode(case: Case) -> tuple[Step, Any]:
        h = net.zeros(H)
        for token in [*tokens(case), 2]:
            h = net.cell("enc")(net["enc_emb"][token], h)
        return step, h

    def step(token: int, h: Any) -> tuple[Any, Any, Any]:
        h = net.cell("dec")(net["dec_emb"][token], h)
        return net["fc_w"] @ h + net["fc_b"], None, h

    check_decoder(g2p_en(w), texts(), driven(encode))


@parity
@pytest.mark.variant("thai2rom")
def test_thai2rom(torch: Any) -> None:
    w = random_weights(
        2,
        {
            "encoder.character_embedding.weight": (S, E),
            "decoder.character_embedding.weight": (T, F),
            **rnn("encoder.rnn", 4, E, H // 2, directions=2),
            **rnn("decoder.rnn", 4, H + F, H),
            **dense("decoder.attn.attn", H, H),
            **dense("decoder.linear", T, H),
        },
    )
    net = Net(torch, w)

    def encode(case: Case) -> tuple[Step, Any]:
        x = net["encoder.character_embedding.weight"][tokens(case)]
        memory, (h, _) = net.layers("encoder.rnn")(x)

        def step(token: int, hidden: Any) -> tuple[Any, Any, Any]:
            energies = net.linear("decoder.attn.attn", memory) @ hidden
            context, weights = net.attend(energies, memory)
            embedded = net["decoder.character_embedding.weight"][token]
            x = torch.cat([context, embedded])[None]
            out, (h, _) = net.layers("decoder.rnn")(x)  # no state is handed in
            return net.linear("decoder.linear", out[0]), weights, h[0]

        return step, torch.cat([h[0], h[1]])

    check_decoder(thai2rom(w), texts(), driven(encode))


# --- stanza ---


def stanza_weights(*, tags: bool, copy: bool, edit: bool) -> Any:
    shapes = {
        "embedding.weight": (S, E),
        **rnn("encoder", 4, E, H // 2, directions=2),
        **cell("decoder.lstm_cell", 4, E, H),
        **dense("decoder.attention_layer.linear_in", H, H, bias=False),
        **dense("decoder.attention_layer.linear_out", H, 2 * H, bias=False),
        **dense("dec2vocab", S, H),
    }
    shapes |= {"pos_embedding.weight": (4, E)} if tags else {}
    shapes |= dense("copy_gate", 1, H) if copy else {}
    shapes |= dense("edit_clf.0", 3, H) | dense("edit_clf.2", 3, 3) if edit else {}
    return random_weights(3, shapes)


def stanza_cases(*, tags: bool) -> list[Case]:
    # 7 stands twice: its copied probability is a sum.
    words = [[7, 4, 7, 9, 7], [5], [10, 6, 8, 4, 4, 9, 5]]
    return [
        {"inputs": {"tokens": word} | ({"pos": n} if tags else {})} for n, word in enumerate(words)
    ]


@parity
@pytest.mark.variant("stanza")
@pytest.mark.parametrize("tags", [False, True])
@pytest.mark.parametrize("copy", [False, True])
def test_stanza(torch: Any, tags: bool, copy: bool) -> None:
    w = stanza_weights(tags=tags, copy=copy, edit=True)
    net = Net(torch, w)

    def encoded(case: Case) -> tuple[Any, Any, Any, list[int]]:
        ids = [2, *tokens(case), 3]
        x = net["embedding.weight"][ids]
        if tags:
            x = torch.cat([net["pos_embedding.weight"][case["inputs"]["pos"]][None], x])
        memory, (h, c) = net.layers("encoder")(x)
        return memory, torch.cat([h[1], h[0]]), torch.cat([c[1], c[0]]), ids

    def encode(case: Case) -> tuple[Step, Any]:
        memory, h, c, ids = encoded(case)

        def step(token: int, state: Any) -> tuple[Any, Any, Any]:
            h, c = net.cell("decoder.lstm_cell")(net["embedding.weight"][token], state)
            scores = memory @ net.linear("decoder.attention_layer.linear_in", h)
            context, weights = net.attend(scores, memory)
            out = torch.tanh(net.linear("decoder.attention_layer.linear_out", context, h))
            logits = net.linear("dec2vocab", out)
            if copy:
                gate = torch.sigmoid(net.linear("copy_gate", out))
                letters = weights[1:] / weights[1:].sum() if tags else weights
                copied = net.zeros(S).scatter_add(0, torch.tensor(ids), letters)
                logits = torch.log((1 - gate) * torch.softmax(logits, 0) + gate * copied)
            return logits, weights, (h, c)

        return step, (h, c)

    def edit(case: Case) -> Mapping[str, Any]:
        hidden = torch.relu(net.linear("edit_clf.0", encoded(case)[1]))
        return {"edit": net.linear("edit_clf.2", hidden).numpy()}

    model, cases = stanza(w), stanza_cases(tags=tags)
    assert ("log_probabilities" in model.graphs["decoder"].outputs) == copy
    check_decoder(model, cases, driven(encode))
    check_encoder(model, cases, edit)


@pytest.mark.variant("stanza")
def test_the_copy_mixture_sums_to_one_and_survives_extreme_gates() -> None:
    for bias in (-60.0, 0.0, 60.0):
        w = stanza_weights(tags=True, copy=True, edit=False)
        w["copy_gate.bias"] += np.float32(bias)
        model = stanza(w)
        inputs = {"tokens": [4, 7, 7], "pos": 1}
        expected = [
            v[model.graphs["decoder"].outputs["log_probabilities"]]
            for v in model.reference().trace(None, [4, 7], inputs=inputs).steps
        ]
        found = Engine.load(model).forced_logits(None, [4, 7], inputs=inputs)
        assert np.abs(found - expected).max() <= 1e-5 * max(1.0, abs(bias))
        assert np.abs(np.exp(np.array(expected)).sum(axis=1) - 1).max() < 1e-12


# --- OpenNMT-py ---

OPENNMT = [
    # gates, layers, directions, score, input feeding, bridge
    (4, 1, 1, "general", True, False),
    (4, 2, 2, "dot", True, True),
    (3, 2, 1, "mlp", True, True),
    (3, 1, 2, "general", False, False),
    (4, 2, 2, "mlp", False, False),
    (3, 2, 2, "none", True, True),
]


@parity
@pytest.mark.variant("opennmt_py")
@pytest.mark.parametrize(("gates", "layers", "directions", "score", "feed", "bridge"), OPENNMT)
def test_opennmt_py(
    torch: Any, gates: int, layers: int, directions: int, score: str, feed: bool, bridge: bool
) -> None:
    each, roles = H // directions, 2 if gates == 4 else 1
    table = "embeddings.make_embedding.emb_luts.0.weight"
    shapes = {
        f"encoder.{table}": (S, E),
        f"decoder.{table}": (T, F),
        **rnn("encoder.rnn", gates, E, each, layers=layers, directions=directions),
        **dense("generator", T, H),
    }
    if bridge:
        for n in range(roles):
            shapes |= dense(f"encoder.bridge.{n}", layers * each, layers * each)
    if feed:
        for k in range(layers):
            shapes |= cell(f"decoder.rnn.layers.{k}", gates, H if k else F + H, H)
    else:
        shapes |= rnn("decoder.rnn", gates, F, H, layers=layers)
    if score != "none":
        shapes |= dense("decoder.attn.linear_out", H, 2 * H, bias=score == "mlp")
    if score == "general":
        shapes |= dense("decoder.attn.linear_in", H, H, bias=False)
    if score == "mlp":
        shapes |= dense("decoder.attn.linear_query", H, H)
        shapes |= dense("decoder.attn.linear_context", H, H, bias=False)
        shapes |= dense("decoder.attn.v", 1, H, bias=False)
    w = random_weights(4, shapes)
    net = Net(torch, w)

    def first_states(final: Any) -> Any:
        """(layers, H) of one role, through its bridge."""
        states = final[0] if gates == 4 else final
        both = [final[0], final[1]] if gates == 4 else [states]
        for n in range(roles if bridge else 0):
            rows = both[n].reshape(-1, layers * each)
            both[n] = torch.relu(net.linear(f"encoder.bridge.{n}", rows)).reshape(both[n].shape)
        return [net.per_layer(one, directions) for one in both]

    def attention(h: Any, memory: Any) -> tuple[Any, Any]:
        if score == "none":
            return h, None
        if score == "mlp":
            query = net.linear("decoder.attn.linear_query", h)
            keys = net.linear("decoder.attn.linear_context", memory)
            scores = net.linear("decoder.attn.v", torch.tanh(query + keys))[:, 0]
        else:
            scores = memory @ (net.linear("decoder.attn.linear_in", h) if score == "general" else h)
        context, weights = net.attend(scores, memory)
        out = net.linear("decoder.attn.linear_out", context, h)
        return out if score == "mlp" else torch.tanh(out), weights

    def encode(case: Case) -> tuple[Step, Any]:
        memory, final = net.layers("encoder.rnn")(net[f"encoder.{table}"][tokens(case)])
        first = first_states(final)

        def fed(token: int, state: Any) -> tuple[Any, Any, Any]:
            states, previous = state
            x = torch.cat([net[f"decoder.{table}"][token], previous])
            modules = [net.cell(f"decoder.rnn.layers.{k}") for k in range(layers)]
            h, states = cells_step(net, modules, x, states)
            out, weights = attention(h, memory)
            return net.linear("generator", out), weights, (states, out)

        def standard(token: int, states: Any) -> tuple[Any, Any, Any]:
            x = net[f"decoder.{table}"][token][None]
            out, states = net.layers("decoder.rnn")(x, states)
            out, weights = attention(out[0], memory)
            return net.linear("generator", out), weights, states

        if not feed:
            return standard, tuple(first) if gates == 4 else first[0]
        by_layer = [
            tuple(one[k] for one in first) if gates == 4 else first[0][k] for k in range(layers)
        ]
        return fed, (by_layer, net.zeros(H))

    check_decoder(opennmt_py(w), texts(), driven(encode))


# --- Joey NMT ---

JOEY = [
    # gates, layers, attention, hidden, input feeding, scale
    (4, 1, "bahdanau", "bridge", True, False),
    (3, 2, "luong", "bridge", True, True),
    (4, 2, "luong", "last", False, False),
    (3, 1, "bahdanau", "zero", True, False),
]


@parity
@pytest.mark.variant("joeynmt")
@pytest.mark.parametrize(("gates", "layers", "score", "hidden", "feed", "scale"), JOEY)
def test_joeynmt(
    torch: Any, gates: int, layers: int, score: str, hidden: str, feed: bool, scale: bool
) -> None:
    each = H if hidden == "last" else H // 2
    wide = 2 * each
    shapes = {
        "src_embed.lut.weight": (S, E),
        "trg_embed.lut.weight": (T, F),
        **rnn("encoder.rnn", gates, E, each, layers=2, directions=2),
        **rnn("decoder.rnn", gates, F + H if feed else F, H, layers=layers),
        **dense("decoder.att_vector_layer", H, H + wide),
        **dense("decoder.output_layer", T, H, bias=False),
        **dense("decoder.attention.key_layer", H, wide, bias=False),
    }
    if score == "bahdanau":
        shapes |= dense("decoder.attention.query_layer", H, H, bias=False)
        shapes |= dense("decoder.attention.energy_layer", 1, H, bias=False)
    if hidden == "bridge":
        shapes |= dense("decoder.bridge_layer", H, wide)
    w = random_weights(5, shapes)
    net = Net(torch, w)
    factors = [size**0.5 if scale else 1.0 for size in (E, F)]

    def encode(case: Case) -> tuple[Step, Any]:
        x = net["src_embed.lut.weight"][[*tokens(case), 3]] * float(np.float32(factors[0]))
        memory, final = net.layers("encoder.rnn")(x)
        h_n = final[0] if gates == 4 else final
        top = torch.cat([h_n[-2], h_n[-1]])
        start = {
            "bridge": lambda: torch.tanh(net.linear("decoder.bridge_layer", top)),
            "last": lambda: top[:H],
            "zero": lambda: net.zeros(H),
        }[hidden]()
        start = start.repeat(layers, 1)
        keys = net.linear("decoder.attention.key_layer", memory)

        def step(token: int, state: Any) -> tuple[Any, Any, Any]:
            states, previous = state
            x = net["trg_embed.lut.weight"][token] * float(np.float32(factors[1]))
            out, states = net.layers("decoder.rnn")(
                (torch.cat([x, previous]) if feed else x)[None], states
            )
            h = out[0]
            if score == "bahdanau":
                query = net.linear("decoder.attention.query_layer", h)
                energies = net.linear("decoder.attention.energy_layer", torch.tanh(query + keys))
                context, weights = net.attend(energies[:, 0], memory)
            else:
                context, weights = net.attend(keys @ h, memory)
            vector = torch.tanh(net.linear("decoder.att_vector_layer", h, context))
            return net.linear("decoder.output_layer", vector), weights, (states, vector)

        return step, ((start, start) if gates == 4 else start, net.zeros(H))

    model = joeynmt(w, hidden=hidden, scale=scale)
    check_decoder(model, texts(), driven(encode))


# --- fairseq ---


@parity
@pytest.mark.variant("fairseq")
@pytest.mark.parametrize("projected", [False, True])
def test_fairseq(torch: Any, projected: bool) -> None:
    """Without projections: tied output, one direction; with them: both directions, two layers."""
    layers, directions = (2, 2) if projected else (1, 1)
    width = H * directions
    out = F if not projected else 8
    shapes = {
        "encoder.embed_tokens.weight": (S, E),
        "decoder.embed_tokens.weight": (T, F),
        **rnn("encoder.lstm", 4, E, H, layers=layers, directions=directions),
        **dense("decoder.attention.input_proj", width, H, bias=False),
        **dense("decoder.attention.output_proj", H, H + width, bias=False),
        **dense("decoder.additional_fc", out, H),
    }
    for k in range(layers):
        shapes |= cell(f"decoder.layers.{k}", 4, H if k else F + H, H)
    if projected:
        shapes |= dense("decoder.encoder_hidden_proj", H, width)
        shapes |= dense("decoder.encoder_cell_proj", H, width)
        shapes |= dense("decoder.fc_out", T, out)
    w = random_weights(6, shapes)
    net = Net(torch, w)

    def encode(case: Case) -> tuple[Step, Any]:
        memory, (h, c) = net.layers("encoder.lstm")(
            net["encoder.embed_tokens.weight"][[*tokens(case), 2]]
        )
        h, c = net.per_layer(h, directions), net.per_layer(c, directions)
        if projected:
            h = net.linear("decoder.encoder_hidden_proj", h)
            c = net.linear("decoder.encoder_cell_proj", c)

        def step(token: int, state: Any) -> tuple[Any, Any, Any]:
            states, feed = state
            x = torch.cat([net["decoder.embed_tokens.weight"][token], feed])
            modules = [net.cell(f"decoder.layers.{k}") for k in range(layers)]
            h, states = cells_step(net, modules, x, states)
            scores = memory @ net.linear("decoder.attention.input_proj", h)
            context, weights = net.attend(scores, memory)
            feed = torch.tanh(net.linear("decoder.attention.output_proj", context, h))
            y = net.linear("decoder.additional_fc", feed)
            logits = (
                net.linear("decoder.fc_out", y)
                if projected
                else net["decoder.embed_tokens.weight"] @ y
            )
            return logits, weights, (states, feed)

        return step, (list(zip(h, c, strict=True)), net.zeros(H))

    model = fairseq(w)
    assert model.start == 2 and model.end == (2,)
    check_decoder(model, texts(), driven(encode))


# --- AllenNLP ---


@parity
@pytest.mark.variant("allennlp")
@pytest.mark.parametrize(("layers", "score"), [(1, "dot"), (2, "dot"), (1, "additive")])
def test_allennlp(torch: Any, layers: int, score: str) -> None:
    shapes = {
        "_source_embedder.token_embedder_tokens.weight": (S, E),
        "_source_embedder.token_embedder_pos.weight": (4, 3),
        **rnn("_encoder._module", 4, E + 3, H // 2, directions=2),
        "_target_embedder.weight": (T, F),
        **dense("_output_projection_layer", T, H),
    }
    shapes |= (
        cell("_decoder_cell", 4, H + F, H)
        if layers == 1
        else rnn("_decoder_cell", 4, H + F, H, layers=layers)
    )
    if score == "additive":
        shapes |= {"_attention._w_matrix": (H, 7), "_attention._u_matrix": (H, 7)}
        shapes |= {"_attention._v_vector": (7, 1)}
    w = random_weights(7, shapes)
    net = Net(torch, w)

    def encode(case: Case) -> tuple[Step, Any]:
        given = case["inputs"]
        tables = [f"_source_embedder.token_embedder_{name}.weight" for name in ("pos", "tokens")]
        x = torch.cat([net[tables[0]][given["pos"]], net[tables[1]][given["tokens"]]], 1)
        memory, (h, _) = net.layers("_encoder._module")(x)

        def step(token: int, state: Any) -> tuple[Any, Any, Any]:
            query = state[0][0]
            if score == "dot":
                scores = memory @ query
            else:
                keys = memory @ net["_attention._u_matrix"]
                scores = torch.tanh(query @ net["_attention._w_matrix"] + keys)
                scores = (scores @ net["_attention._v_vector"])[:, 0]
            context, weights = net.attend(scores, memory)
            x = torch.cat([context, net["_target_embedder.weight"][token]])
            if layers == 1:
                h, c = net.cell("_decoder_cell")(x, (state[0][0], state[1][0]))
                top, state = h, (h[None], c[None])
            else:
                out, state = net.layers("_decoder_cell")(x[None], state)
                top = out[0]
            return net.linear("_output_projection_layer", top), weights, state

        return step, (torch.cat([h[0], h[1]]).repeat(layers, 1), net.zeros(layers, H))

    random = np.random.default_rng(0)
    cases = [
        {"inputs": {name: random.integers(0, high, n).tolist() for name, high in
                    (("tokens", S), ("pos", 4))}}
        for n in (1, 4, 8)
    ]  # fmt: skip
    model = allennlp(w, start=2, end=3, attention=score)
    check_decoder(model, cases, driven(encode))


# --- real checkpoints, where they are ---


@pytest.fixture(scope="module")
def shared() -> Path:
    """The folder of checkpoints; it is no part of the project."""
    folder = os.environ.get("S2S_SHARED_DATA")
    if folder is None:
        pytest.skip("S2S_SHARED_DATA names no folder")
    return Path(folder)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.variant("g2p_en")
def test_the_g2p_en_package_gives_its_recorded_outputs(shared: Path) -> None:
    folder = shared / "g2p_en"
    vocab = json.loads((folder / "vocab.json").read_text())
    rules = {"vocabularies": {"tokens": vocab["src"], "target": vocab["tgt"]}}
    with np.load(folder / "checkpoint20.npz") as w:
        engine = Engine.load(g2p_en(dict(w), rules=rules))
    records = lines(folder / "expected_cmudict1500.jsonl")[::10]
    words = [list(record["word"]) for record in records]
    greedy = [" ".join(result.tokens) for result in engine.decode_batch(words)]
    beams = engine.decode_batch(words, beam_size=5)
    assert greedy == [record["greedy"] for record in records]
    assert [" ".join(r.tokens) for r in beams] == [r["beam5"][0]["out"] for r in records]


@pytest.mark.variant("opennmt_py")
def test_an_opennmt_checkpoint_gives_its_recorded_outputs(shared: Path) -> None:
    folder = shared / "opennmt_g2p"
    vocab = json.loads((folder / "vocab.json").read_text())
    rules = {
        "vocabularies": {"tokens": vocab["src"], "target": vocab["tgt"]},
        "generation": {"max_length": 100},
    }
    with np.load(folder / "weights.npz") as w:
        engine = Engine.load(opennmt_py(dict(w), rules=rules))
    for record in lines(folder / "expected_scores.jsonl"):
        found = engine.decode(record["src"].split())
        assert " ".join(found.tokens) == record["greedy"]
        assert abs(found.score - record["greedy_score"]) <= 1e-3
        assert (
            " ".join(engine.decode(record["src"].split(), beam_size=10).tokens) == record["beam10"]
        )


@pytest.mark.variant("allennlp")
def test_an_allennlp_archive_gives_its_recorded_outputs(shared: Path) -> None:
    with np.load(shared / "allennlp" / "simple.npz") as w:
        model = allennlp(dict(w), start=2, end=3, rules={"generation": {"max_length": 20}})
    engine = Engine.load(model)
    names = {"tokens": "tokens", "pos_tags": "pos", "ner_tags": "ner", "dependency_label": "dep"}
    for record in lines(shared / "allennlp" / "expected_simple.jsonl"):
        inputs = {name: record[key] for name, key in names.items()}
        assert engine.decode(inputs=inputs).ids == record["greedy_ids"]
        logits = engine.forced_logits(None, record["greedy_ids"][:-1], inputs=inputs)
        log_probs = logits - np.log(np.exp(logits.astype(float)).sum(axis=1, keepdims=True))
        expected = np.array(record["greedy_logprobs"])
        assert np.abs(log_probs[: len(expected)] - expected).max() <= 1e-5
