"""PyTorch's recurrent layers and a whole PyTorch model against the engine. Knows both sides'
weight layouts; never the engine's inside."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from s2s_engine import Engine, Model, ModelBuilder

pytestmark = pytest.mark.parity("torch")

# Both sides round some hundred times to 2^-24 of numbers of order 1, in a different order.
CLOSE = 1e-5
SOURCE, TARGET, START, END = 23, 19, 1, 2


@pytest.fixture(scope="module")
def torch() -> Any:
    module: Any = importlib.import_module("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def array(tensor: Any) -> NDArray[np.float32]:
    result: NDArray[np.float32] = tensor.detach().numpy()
    return result


def cell(layer: Any, number: int = 0, reverse: bool = False) -> dict[str, NDArray[np.float32]]:
    """The weights of one direction of one layer of torch.nn.GRU or LSTM: the same gate order."""
    end = f"_l{number}" + ("_reverse" if reverse else "")
    roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {role: array(getattr(layer, role + end)) for role in roles if hasattr(layer, role + end)}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_layers(
    torch: Any, isa: str, kind: str, bidirectional: bool, layers: int, bias: bool
) -> None:
    for seed, (size, hidden) in enumerate([(5, 33), (40, 7), (1, 1)]):
        torch.manual_seed(seed)
        peer = getattr(torch.nn, kind)(
            size, hidden, num_layers=layers, bidirectional=bidirectional, bias=bias
        )
        m = ModelBuilder()
        e = m.encoder
        x: Any = e.input("x", sequence=size)
        layer = e.gru if kind == "GRU" else e.lstm
        last = []
        for number in range(layers):
            if bidirectional:
                x, *states = e.bidirectional(layer, x, cell(peer, number), cell(peer, number, True))
            else:
                x, *states = layer(x, cell(peer, number))
            last.append(states)
        outputs = {f"h{n}": states[0] for n, states in enumerate(last)}
        if kind == "LSTM":
            outputs |= {f"c{n}": states[1] for n, states in enumerate(last)}
        e.output(memory=x, **outputs)
        given = torch.randn(21, size)
        found = Engine.load(m.build(), isa=isa).encode(features=given.numpy())
        with torch.no_grad():
            memory, final = peer(given)
        assert np.abs(found["memory"] - memory.numpy()).max() <= CLOSE
        finals = {"h": final} if kind == "GRU" else {"h": final[0], "c": final[1]}
        for name, value in finals.items():
            by_layer = value.numpy().reshape(layers, -1)
            for number in range(layers):
                assert np.abs(found[f"{name}{number}"] - by_layer[number]).max() <= CLOSE


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell"])
def test_cells(torch: Any, isa: str, kind: str, bias: bool) -> None:
    torch.manual_seed(1)
    peer = getattr(torch.nn, kind)(33, 31, bias=bias)
    roles = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if bias else ()))
    weights = {role: array(getattr(peer, role)) for role in roles}
    m = ModelBuilder()
    e = m.encoder
    x, h, c = e.input("x", vector=33), e.input("h", vector=31), e.input("c", vector=31)
    given = {name: torch.randn(size) for name, size in (("x", 33), ("h", 31), ("c", 31))}
    if kind == "GRUCell":
        e.output(h=e.gru_cell(x, h, weights), c=c)
        expected = (peer(given["x"], given["h"]), given["c"])
    else:
        h_next, c_next = e.lstm_cell(x, h, c, weights)
        e.output(h=h_next, c=c_next)
        expected = peer(given["x"], (given["h"], given["c"]))
    found = Engine.load(m.build(), isa=isa).encode(inputs={n: v.numpy() for n, v in given.items()})
    for name, value in zip(("h", "c"), expected, strict=True):
        assert np.abs(found[name] - array(value)).max() <= CLOSE


class Peer:
    """A bidirectional LSTM encoder of two layers, Luong's general attention and input feeding,
    as a PyTorch user writes them."""

    def __init__(self, torch: Any, hidden: int = 32) -> None:
        nn = torch.nn
        self.torch, self.hidden = torch, hidden
        self.source, self.target = nn.Embedding(SOURCE, 24), nn.Embedding(TARGET, 20)
        self.encoder = nn.LSTM(24, hidden // 2, num_layers=2, bidirectional=True)
        self.cell = nn.LSTMCell(20 + hidden, hidden)
        self.general = nn.Linear(hidden, hidden, bias=False)
        self.attentional = nn.Linear(2 * hidden, hidden)
        self.logits = nn.Linear(hidden, TARGET)
        for embedding in (self.source, self.target):
            nn.init.normal_(embedding.weight, std=2.0)  # so that outputs depend on the source
        nn.init.normal_(self.logits.weight, std=1.5)

    def encode(self, ids: list[int]) -> Any:
        memory, (h, c) = self.encoder(self.source(self.torch.tensor(ids)))
        return memory, self.torch.cat([h[-2], h[-1]]), self.torch.cat([c[-2], c[-1]])

    def step(self, token: int, state: Any, memory: Any) -> Any:
        h, c, feed = state
        torch = self.torch
        x = torch.cat([self.target(torch.tensor(token)), feed])
        h, c = self.cell(x, (h, c))
        weights = torch.softmax(memory @ self.general(h), 0)
        feed = torch.tanh(self.attentional(torch.cat([weights @ memory, h])))
        return self.logits(feed), (h, c, feed), weights

    def greedy(self, ids: list[int], limit: int) -> tuple[list[int], Any, Any]:
        memory, h, c = self.encode(ids)
        state = (h, c, self.torch.zeros(self.hidden))
        token, out, rows, maps = START, [], [], []
        for _ in range(limit):
            logits, state, weights = self.step(token, state, memory)
            token = int(logits.argmax())
            rows.append(array(logits))
            maps.append(array(weights))
            if token == END:
                break
            out.append(token)
        return out, np.stack(rows), np.stack(maps)

    def model(self) -> Model:
        """The same network as the engine's graph."""
        m = ModelBuilder(source=SOURCE, target=TARGET)
        e, d = m.encoder, m.decoder
        x: Any = e.embedding(e.tokens, array(self.source.weight))
        for number in range(2):
            forward, backward = cell(self.encoder, number), cell(self.encoder, number, True)
            x, h, c = e.bidirectional(e.lstm, x, forward, backward)
        # h' W m = (W' m)' h: general attention is a linear on the memory, done once.
        e.output(memory=x, keys=e.linear(x, array(self.general.weight).T.copy()), h=h, c=c)
        h_prev, c_prev = d.state("h", initial="h"), d.state("c", initial="c")
        feed = d.state("feed", size=self.hidden)
        token = d.embedding(d.token, array(self.target.weight))
        roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = {role: array(getattr(self.cell, role)) for role in roles}
        h, c = d.lstm_cell([token, feed], h_prev, c_prev, weights)
        context, alignment = d.attention(query=h, keys="keys", values="memory")
        t = d.linear([context, h], *both(self.attentional), activation="tanh")
        d.next(h=h, c=c, feed=t)
        d.output(logits=d.linear(t, *both(self.logits)), alignment=alignment)
        return m.build(start=START, end=[END])


def both(linear: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return array(linear.weight), array(linear.bias)


def test_a_whole_model_decodes_greedily_as_its_pytorch_loop(torch: Any, isa: str) -> None:
    random = np.random.default_rng(0)
    lengths = set()
    with torch.no_grad():
        for seed in range(3):
            torch.manual_seed(seed)
            peer = Peer(torch)
            engine = Engine.load(peer.model(), isa=isa)
            for _ in range(15):
                ids = random.integers(0, SOURCE, int(random.integers(1, 15))).tolist()
                expected, logits, maps = peer.greedy(ids, limit=25)
                found = engine.decode(ids, max_length=25, return_attention=True)
                assert found.ids == expected
                assert found.attention is not None
                assert np.abs(found.attention - maps).max() <= CLOSE
                forced = engine.forced_logits(ids, expected)[: len(logits)]
                # The logits are of order 10, ten times the numbers that CLOSE is meant for.
                assert np.abs(forced - logits).max() <= CLOSE * max(1.0, np.abs(logits).max())
                lengths.add(len(expected))
    assert len(lengths) > 3, "the models stop at once: they test little"


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "softplus"])
def test_activations(torch: Any, isa: str, name: str) -> None:
    m = ModelBuilder()
    m.encoder.output(y=m.encoder.activation(m.encoder.input("x", vector=2001), name))
    x = np.linspace(-15, 15, 2001, dtype=np.float32)
    expected = getattr(torch.nn.functional, name)(torch.from_numpy(x)).numpy()
    found = Engine.load(m.build(), isa=isa).encode(features=x)["y"]
    assert np.abs(found - expected).max() <= 2e-6  # some ulps of numbers up to 15
