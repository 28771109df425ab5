"""Cells, topologies, start and stop, decoder states and outputs, against PyTorch's modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import peers
import pytest
from checks import (
    CLOSE,
    END,
    ISAS,
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
    difference,
    random_weights,
    row,
    sources,
)

from s2s_engine import Engine, ModelBuilder
from s2s_engine.architectures import patterns

pytestmark = pytest.mark.parity("torch")
EMBEDDINGS = {"encoder.embedding": (SOURCE, E), "decoder.embedding": (TARGET, E)}


def text() -> ModelBuilder:
    return ModelBuilder(source=SOURCE, target=TARGET)


def cell(w: Weights, name: str) -> Weights:
    return {k.removeprefix(f"{name}."): v for k, v in w.items() if k.startswith(f"{name}.")}


def features(*shapes: tuple[int, ...]) -> list[Case]:
    random = np.random.default_rng(1)
    return [{"features": random.standard_normal(shape).astype(np.float32)} for shape in shapes]


# --- cells ---


@pytest.mark.variant("C1")
@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("biases", [(), ("ih",), ("ih", "hh")])
def test_rnn(activation: str, biases: Any) -> None:
    w = random_weights(1, cell_shapes("cell", 1, E, H, biases=biases), scale=0.4)
    m = ModelBuilder()
    e = m.encoder
    memory, h = e.rnn(e.input("x", sequence=E), cell(w, "cell"), activation=activation)
    e.output(memory=memory, h=h)
    t, p = peers.torch(), peers.tensors(w)
    function = {"tanh": t.tanh, "relu": t.relu, "identity": lambda x: x}[activation]

    def oracle(case: Case) -> dict[str, Any]:
        h, states = t.zeros(H, dtype=t.float64), []
        for x in t.tensor(case["features"], dtype=t.float64):
            bias = sum(p[f"cell.bias_{which}"] for which in biases)
            h = function(p["cell.weight_hh"] @ h + p["cell.weight_ih"] @ x + bias)
            states.append(h)
        return {"memory": t.stack(states), "h": h}

    check_encoder(m.build(), features((1, E), (9, E)), oracle)


@pytest.mark.variant("C2")
@pytest.mark.variant("C2''")
@pytest.mark.parametrize("flipped", [False, True])
def test_gru_of_the_textbook(flipped: bool) -> None:
    """Reset before the product, no biases; Bahdanau's z is the other one: its rows negated."""
    w = random_weights(2, cell_shapes("cell", 3, E, H, biases=()))
    m = ModelBuilder()
    e = m.encoder
    memory, h = e.gru(e.input("x", sequence=E), cell(w, "cell"), reset="before")
    e.output(memory=memory, h=h)
    t, p = peers.torch(), peers.tensors(w)
    W_r, W_z, W = p["cell.weight_ih"].chunk(3)
    U_r, U_z, U = p["cell.weight_hh"].chunk(3)
    if flipped:
        W_z, U_z = -W_z, -U_z

    def oracle(case: Case) -> dict[str, Any]:
        h, states = t.zeros(H, dtype=t.float64), []
        for x in t.tensor(case["features"], dtype=t.float64):
            r, z = t.sigmoid(W_r @ x + U_r @ h), t.sigmoid(W_z @ x + U_z @ h)
            candidate = t.tanh(W @ x + U @ (r * h))
            h = (1 - z) * h + z * candidate if flipped else z * h + (1 - z) * candidate
            states.append(h)
        return {"memory": t.stack(states), "h": h}

    check_encoder(m.build(), features((1, E), (9, E)), oracle)


@pytest.mark.parametrize(
    ("kind", "merge"),
    [
        row("C6", "C2'", case="concat", values=("GRU", "concat")),
        row("C6", "C3", case="concat", values=("LSTM", "concat")),
        row("C6", "C2'", case="sum", values=("GRU", "sum")),
        row("C6", "C3", case="sum", values=("LSTM", "sum")),
    ],
)
def test_bidirectional(kind: str, merge: str) -> None:
    gates = {"GRU": 3, "LSTM": 4}[kind]
    w = random_weights(
        3, cell_shapes("forward", gates, E, H) | cell_shapes("backward", gates, E, H)
    )
    m = ModelBuilder()
    e = m.encoder
    x, layer = e.input("x", sequence=E), e.gru if kind == "GRU" else e.lstm
    if merge == "concat":
        memory, *_ = e.bidirectional(layer, x, cell(w, "forward"), cell(w, "backward"))
    else:
        one, *_ = layer(x, cell(w, "forward"))
        other, *_ = layer(x, cell(w, "backward"), direction="backward")
        memory = e.add(one, other)
    e.output(memory=memory)
    peer, t = peers.layer(kind, w, "forward", backward=("backward",)), peers.torch()

    def oracle(case: Case) -> dict[str, Any]:
        found, _ = peer(t.tensor(case["features"], dtype=t.float64))
        return {"memory": found if merge == "concat" else found[:, :H] + found[:, H:]}

    check_encoder(m.build(), features((1, E), (9, E)), oracle)


@pytest.mark.variant("C6")
@pytest.mark.variant("T8")
@pytest.mark.variant("A8")
def test_a_memory_from_outside_is_attended_to() -> None:
    """The output of any other encoder, say a CNN over an image, handed in as an array."""
    size = 6
    shapes: Shapes = {"embedding": (TARGET, E), "keys": (H, size), "output": (TARGET, H + size)}
    w = random_weights(4, shapes | cell_shapes("cell", 3, E, H))
    m = ModelBuilder(target=TARGET)
    e, d = m.encoder, m.decoder
    image = e.input("image", sequence=size)
    e.output(memory=image, keys=e.linear(image, w["keys"]))
    h = d.gru_cell(d.embedding(d.token, w["embedding"]), d.state("h", size=H), cell(w, "cell"))
    context, weights = d.attention(query=h, keys="keys", values="memory")
    d.next(h=h)
    d.output(logits=d.linear([h, context], w["output"]), alignment=weights)
    gru, t, p = peers.layer("GRU", w, "cell"), peers.torch(), peers.tensors(w)

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        memory = t.tensor(case["features"], dtype=t.float64)
        h, _ = gru(p["embedding"][fed])
        a = t.softmax(h @ p["keys"] @ memory.T, 1)
        return t.cat([h, a @ memory], 1) @ p["output"].T, a

    model = m.build(start=START, end=[END])
    check_decoder(model, features((1, size), (4, size), (35, size)), oracle)


# --- topologies ---


@pytest.mark.variant("T1")
def test_tagger() -> None:
    shapes: Shapes = {"embedding": (SOURCE, E), "output.weight": (5, 2 * H), "output.bias": (5,)}
    shapes |= cell_shapes("forward", 4, E, H) | cell_shapes("backward", 4, E, H)
    w = random_weights(5, shapes)
    m = ModelBuilder(source=SOURCE)
    patterns.tagger(m, w)
    peer, p = peers.layer("LSTM", w, "forward", backward=("backward",)), peers.tensors(w)

    def oracle(case: Case) -> dict[str, Any]:
        memory, _ = peer(p["embedding"][case["x"]])
        return {"logits": memory @ p["output.weight"].T + p["output.bias"]}

    check_encoder(m.build(arrays=w), sources(), oracle)


@pytest.mark.parametrize(
    ("how", "dense"),
    [
        *(row("T2", "T5", case=how, values=(how, False))
          for how in ("last", "first", "mean", "max", "sum")),
        row("T2", "T5", case="dense", values=("last", True)),
    ],
)  # fmt: skip
def test_classifier(how: Any, dense: bool) -> None:
    shapes: Shapes = {
        "embedding": (SOURCE, E),
        "output.weight": (5, H),
        **cell_shapes("cell", 4, E, H),
    }
    if dense:
        shapes |= {"summary.weight": (H, H), "summary.bias": (H,)}
    w = random_weights(6, shapes)
    m = ModelBuilder(source=SOURCE)
    patterns.classifier(m, w, how=how)
    peer, p, t = peers.layer("LSTM", w, "cell"), peers.tensors(w), peers.torch()
    pools: Any = {
        "last": lambda x: x[-1],
        "first": lambda x: x[0],
        "mean": lambda x: x.mean(0),
        "max": lambda x: x.amax(0),
        "sum": lambda x: x.sum(0),
    }

    def oracle(case: Case) -> dict[str, Any]:
        c = pools[how](peer(p["embedding"][case["x"]])[0])
        if dense:
            c = t.tanh(p["summary.weight"] @ c + p["summary.bias"])
        return {"logits": p["output.weight"] @ c}

    check_encoder(m.build(arrays=w), sources(), oracle)


@pytest.mark.variant("T5")
def test_a_summary_may_be_the_first_backward_state() -> None:
    w = random_weights(7, {"embedding": (SOURCE, E), **cell_shapes("cell", 3, E, H)})
    m = ModelBuilder(source=SOURCE)
    e = m.encoder
    x = e.embedding(e.tokens, w["embedding"])
    memory, h = e.gru(x, cell(w, "cell"), direction="backward")
    e.output(first=e.pool(memory, "first"), h=h)
    peer, p = peers.layer("GRU", w, "cell"), peers.tensors(w)

    def oracle(case: Case) -> dict[str, Any]:
        _, last = peer(p["embedding"][case["x"][::-1]])
        return {"first": last[0], "h": last[0]}

    check_encoder(m.build(), sources(), oracle)


@pytest.mark.parametrize(
    ("reads", "size", "project"),
    [
        row("T3a", "D4", "T8", case="state, copied", values=("initial", H, False)),
        row("T3a", "D4", case="state, projected", values=("initial", 4, True)),
        row("T3a", "D2", case="first input", values=("first", E, False)),
        row("D3", case="first input through a dense layer", values=("first", 9, True)),
        row("T3b", "D4", "T8", case="every step", values=("every", 4, False)),
        row("T3b", case="every step through a dense layer", values=("every", 9, True)),
    ],
)
def test_vector_to_sequence(reads: Any, size: int, project: bool) -> None:
    width = {"initial": H, "first": E, "every": 4}[reads]
    inputs = E + width if reads == "every" else E
    shapes: Shapes = {
        "decoder.embedding": (TARGET, E),
        "output.weight": (TARGET, H),
        **cell_shapes("decoder.cell", 3, inputs, H),
    }
    if project:
        shapes |= {"project.weight": (width, size), "project.bias": (width,)}
    w = random_weights(8, shapes)
    m = ModelBuilder(target=TARGET)
    patterns.vector_to_sequence(m, w, size=size, reads=reads)
    gru, p, t = peers.layer("GRU", w, "decoder.cell"), peers.tensors(w), peers.torch()

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        vector = t.tensor(case["features"], dtype=t.float64)
        if project:
            vector = p["project.weight"] @ vector + p["project.bias"]
        x, first = peers.embed(p["decoder.embedding"], np.array(fed)), None
        if reads == "initial":
            first = vector[None]
        elif reads == "first":
            x[0] = vector
        else:
            x = t.cat([x, vector.expand(len(x), -1)], 1)
        return gru(x, first)[0] @ p["output.weight"].T, None

    start = None if reads == "first" else START
    model = m.build(start=start, end=[END], arrays=w)
    check_decoder(model, features((size,), (size,)), oracle)


@pytest.mark.parametrize(
    ("context", "layers"),
    [
        row("T4a", "D1", "D4", "O6", values=("start", 1)),
        row("T4a", "T6", values=("start", 3)),
        row("T4b", "D4", values=("every", 1)),
        row("T4b", "T6", values=("every", 2)),
        row("T4b'", values=("all states", 2)),
    ],
)
def test_encoder_decoder(context: Any, layers: int) -> None:
    first = E + {"start": 0, "every": H, "all states": 2 * layers * H}[context]
    shapes: Shapes = {**EMBEDDINGS, "output.weight": (TARGET, H), "output.bias": (TARGET,)}
    for k in range(layers):
        shapes |= cell_shapes(f"encoder.{k}", 4, H if k else E, H)
        shapes |= cell_shapes(f"decoder.{k}", 4, H if k else first, H)
    w = random_weights(9, shapes, scale=0.8)
    m = text()
    patterns.encoder_decoder(m, w, layers=layers, context=context)
    encoder, decoder = (
        peers.layer("LSTM", w, *(f"{side}.{k}" for k in range(layers)))
        for side in ("encoder", "decoder")
    )
    p, t = peers.tensors(w), peers.torch()

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        _, (h, c) = encoder(p["encoder.embedding"][case["x"]])
        x, state = p["decoder.embedding"][fed], None
        if context == "start":
            state = (h, c)
        elif context == "every":
            x = t.cat([x, h[-1].expand(len(x), -1)], 1)
        else:  # h_1, c_1, h_2, c_2, ...
            x = t.cat([x, t.stack([h, c], 1).flatten().expand(len(x), -1)], 1)
        return decoder(x, state)[0] @ p["output.weight"].T + p["output.bias"], None

    # EOS used as START (D1) where there is one layer.
    start = END if layers == 1 else START
    check_decoder(m.build(start=start, end=[END], arrays=w), sources(), oracle)


# --- start, feed, stop ---


def couplets(seed: int = 10) -> tuple[ModelBuilder, Weights]:
    shapes: Shapes = {**EMBEDDINGS, "output.weight": (TARGET, H)}
    shapes |= cell_shapes("encoder.0", 4, E, H) | cell_shapes("decoder.0", 4, E, H)
    w = random_weights(seed, shapes)
    m = text()
    patterns.encoder_decoder(m, w)
    return m, w


def couplets_of_torch(w: Weights) -> Any:
    """The same model in PyTorch: ids fed so far to the logits of every step."""
    encoder, decoder = (peers.layer("LSTM", w, f"{side}.0") for side in ("encoder", "decoder"))
    p = peers.tensors(w)

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        _, state = encoder(p["encoder.embedding"][case["x"]])
        hidden = decoder(p["decoder.embedding"][fed], state)[0]
        return hidden @ p["output.weight"].T, None

    return oracle


def greedy_of_torch(oracle: Any, case: Case, limit: int, end: list[int]) -> list[int]:
    """Softmax, best, fed back (D5, D9); until an end token or `limit` ids (D8)."""
    fed = [START]
    while len(fed) <= limit:
        logits = oracle(case, fed)[0][-1]
        fed.append(int(logits.softmax(dim=-1).argmax()))
        if fed[-1] in end:
            return fed[1:-1]
    return fed[1:]


@pytest.mark.parametrize(
    ("end", "max_length", "lengths"),
    [
        row("T7", "D8", case="at the source's length", values=([], "source", {1: 1, 4: 4, 9: 9})),
        row("D8", case="after a fixed length", values=([], 6, {1: 6, 4: 6, 9: 6})),
        row("D8", case="after 2 S + 3", values=([], (2, 3), {1: 5, 4: 11, 9: 21})),
    ],
)
def test_where_decoding_stops(end: list[int], max_length: Any, lengths: dict[int, int]) -> None:
    m, w = couplets()
    oracle = couplets_of_torch(w)
    model = m.build(start=START, end=end, generation={"max_length": max_length})
    check_decoder(model, sources(*lengths), oracle, max_length=max_length)
    for isa in ISAS:
        engine = Engine.load(model, isa=isa)
        for case in sources(*lengths):
            found = engine.decode(**case)
            assert len(found.ids) == lengths[len(case["x"])]
            assert found.ids == greedy_of_torch(oracle, case, len(found.ids), end)
            assert found.hypotheses[0].finish_reason == "length"


@pytest.mark.variant("D8")
def test_decoding_stops_at_the_end_token() -> None:
    reasons = set()
    for seed in range(6):
        m, w = couplets(seed)
        oracle = couplets_of_torch(w)
        model = m.build(start=START, end=[END, 5])
        check_decoder(model, sources(), oracle, max_length=20)
        engine = Engine.load(model)
        for case in sources():
            best = engine.decode(**case, max_length=20).hypotheses[0]
            assert not {END, 5} & set(best.ids)
            assert best.ids == greedy_of_torch(oracle, case, 20, [END, 5])
            assert (best.finish_reason == "length") == (len(best.ids) == 20)
            reasons.add(best.finish_reason)
    assert "eos" in reasons


@pytest.mark.variant("D5")
@pytest.mark.variant("D9")
def test_feeding_the_prediction_is_teacher_forcing_with_it(isa: str) -> None:
    """The best id is that of the logits; softmax does not change which."""
    m, w = couplets()
    oracle = couplets_of_torch(w)
    engine = Engine.load(m.build(start=START, end=[END]), isa=isa)
    for case in sources(1, 4, 9):
        best = engine.decode(**case, max_length=8).hypotheses[0]
        assert best.ids == greedy_of_torch(oracle, case, 8, [END])
        logits = engine.forced_logits(case["x"], best.ids)
        steps = len(best.token_log_probs)
        path = [int(i) for i in logits[:steps].argmax(axis=1)]
        assert [i for i in path if i != END] == best.ids
        softmax = np.exp(logits[:steps]) / np.exp(logits[:steps]).sum(axis=1, keepdims=True)
        assert [int(i) for i in softmax.argmax(axis=1)] == path
        assert difference(np.log(softmax.max(axis=1)), best.token_log_probs) <= CLOSE
        if best.finish_reason == "eos":
            assert engine.score(case["x"], best.ids).log_prob == best.log_prob


@pytest.mark.parametrize(
    "how",
    [
        row("D7", case="a pretrained table", values=("table",)),
        row("D6", case="one-hot into an embedding", values=("linear",)),
        row("D6", case="one-hot into the cell", values=("cell",)),
    ],
)
def test_how_a_token_is_read(how: str) -> None:
    width = TARGET if how == "cell" else E
    shapes: Shapes = {"source": (SOURCE, E), "table": (TARGET, E), "output": (TARGET, H)}
    shapes |= cell_shapes("encoder", 3, E, H) | cell_shapes("decoder", 3, width, H)
    w = random_weights(12, shapes)
    m = text()
    e, d = m.encoder, m.decoder
    e.output(h=e.gru(e.linear(e.one_hot(e.tokens, SOURCE), w["source"].T), cell(w, "encoder"))[1])
    if how == "table":
        x = d.embedding(d.token, w["table"])
    else:
        x = d.one_hot(d.token, TARGET)
        x = d.linear(x, w["table"].T) if how == "linear" else x
    h = d.gru_cell(x, d.state("h", initial="h"), cell(w, "decoder"))
    d.next(h=h)
    d.output(logits=d.linear(h, w["output"]))
    t, p = peers.torch(), peers.tensors(w)
    encoder, decoder = (peers.layer("GRU", w, name) for name in ("encoder", "decoder"))
    look_up = t.nn.Embedding.from_pretrained(p["table"])

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        _, last = encoder(p["source"][case["x"]])
        ids = t.tensor(fed)
        x = t.nn.functional.one_hot(ids, TARGET).double() if how == "cell" else look_up(ids)
        return decoder(x, last)[0] @ p["output"].T, None

    check_decoder(m.build(start=START, end=[END]), sources(), oracle)


# --- decoder state and output ---

SIZES = {"token": E, "context": H, "state": H, "previous": H}


@pytest.mark.parametrize(
    ("reads", "emits", "deep"),
    [
        row("O1", case="[c; s]", values=(("token",), ("context", "state"), "tanh")),
        row("O1", case="[s; c]", values=(("token",), ("state", "context"), "tanh")),
        row("O1", case="no activation", values=(("token",), ("context", "state"), "none")),
        row("O2", values=(("context",), ("state",), "none")),
        row("O3", case="token first", values=(("token", "context"), ("state",), "none")),
        row("O3", case="context first", values=(("context", "token"), ("state",), "none")),
        row("O4", values=(("context",), ("token", "state"), "none")),
        row("O5", values=(("token", "context"), ("context", "previous"), "none")),
        row("O6", values=(("token", "context"), ("state",), "none")),
        row("O7", case="tanh",
            values=(("token", "context"), ("token", "state", "context"), "tanh")),
        row("O7", case="maxout",
            values=(("token", "context"), ("token", "state", "context"), "maxout")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bias", [False, True])
def test_attentive_decoder(reads: Any, emits: Any, deep: Any, bias: bool) -> None:
    inputs, outputs, score = (sum(SIZES[n] for n in reads), sum(SIZES[n] for n in emits), 4)
    shapes: Shapes = {"encoder.embedding": (SOURCE, E), **cell_shapes("encoder.cell", 3, E, H)}
    shapes |= cell_shapes("decoder.cell", 3, inputs, H)
    shapes |= {"attention.query": (score, H), "attention.key": (score, H), "attention.v": (score,)}
    if "token" in (*reads, *emits):
        shapes["decoder.embedding"] = (TARGET, E)
    if deep != "none":
        shapes["deep.weight"] = (6, outputs)
        outputs = 6 if deep == "tanh" else 3
        if bias:
            shapes["deep.bias"] = (6,)
    shapes["output.weight"] = (TARGET, outputs)
    if bias:
        shapes["output.bias"] = (TARGET,)
    w = random_weights(13, shapes)
    m = text()
    patterns.attentive_decoder(m, w, reads=reads, emits=emits, deep=deep)
    t, p = peers.torch(), peers.tensors(w)
    encoder, gru = peers.layer("GRU", w, "encoder.cell"), peers.cell("GRUCell", w, "decoder.cell")

    def linear(name: str, x: Any) -> Any:
        return t.nn.functional.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        memory, last = encoder(p["encoder.embedding"][case["x"]])
        s, out, maps = last[0], [], []
        for i in fed:
            e = t.tanh(p["attention.query"] @ s + memory @ p["attention.key"].T) @ p["attention.v"]
            a = e.softmax(0)
            known = {"context": a @ memory, "previous": s}
            if "decoder.embedding" in p:
                known["token"] = p["decoder.embedding"][i]
            s = gru(t.cat([known[name] for name in reads]), s)
            known["state"] = s
            x = t.cat([known[name] for name in emits])
            if deep == "tanh":
                x = t.tanh(linear("deep", x))
            elif deep == "maxout":
                x = linear("deep", x).reshape(-1, 2).amax(1)
            out.append(linear("output", x))
            maps.append(a)
        return t.stack(out), t.stack(maps)

    check_decoder(m.build(start=START, end=[END], arrays=w), sources(), oracle)


@pytest.mark.variant("O10")
@pytest.mark.parametrize("bias", [False, True])
def test_a_tied_output_embedding_is_one_tensor(bias: bool) -> None:
    shapes: Shapes = {"embedding": (TARGET, H), "source": (SOURCE, E), "bias": (TARGET,)}
    shapes |= cell_shapes("encoder", 3, E, H) | cell_shapes("decoder", 3, H, H)
    w = random_weights(14, shapes)
    m = text()
    e, d = m.encoder, m.decoder
    e.output(h=e.gru(e.embedding(e.tokens, w["source"]), cell(w, "encoder"))[1])
    y = d.embedding(d.token, w["embedding"])
    h = d.gru_cell(y, d.state("h", initial="h"), cell(w, "decoder"))
    d.next(h=h)
    d.output(logits=d.linear(h, w["embedding"], w["bias"] if bias else None))
    model = m.build(start=START, end=[END])
    assert sum(array.shape == (TARGET, H) for array in model.tensors.values()) == 1
    p = peers.tensors(w)
    encoder, decoder = (peers.layer("GRU", w, name) for name in ("encoder", "decoder"))

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        _, last = encoder(p["source"][case["x"]])
        h, _ = decoder(p["embedding"][fed], last)
        return h @ p["embedding"].T + (p["bias"] if bias else 0.0), None

    check_decoder(model, sources(), oracle)
