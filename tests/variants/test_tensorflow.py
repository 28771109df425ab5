"""TensorFlow's decoders: AttentionWrapper with TensorFlow's own kernels in NumPy behind a Keras
memory, nmt_with_attention in Keras layers, and the cells of TensorFlow and Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras_peers
import numpy as np
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
    double,
    random_weights,
    row,
    sources,
)

from s2s_engine import ModelBuilder
from s2s_engine.architectures import tensorflow

pytestmark = pytest.mark.parity("keras", "torch")


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def tf_lstm_cell(kernel: Any, bias: Any, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """tf.nn.rnn_cell.LSTMCell: i, j, f, o from one kernel on [x; h], +1.0 on f."""
    i, j, f, o = np.split(np.concatenate([x, h]) @ kernel + bias, 4)
    c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
    return np.tanh(c) * sigmoid(o), c


@dataclass(frozen=True)
class Wrapper:
    """The options of one AttentionWrapper; size is its attention_layer_size, hard the gates of the
    Keras LSTM that makes the memory."""

    mechanism: Literal["bahdanau", "luong"] = "bahdanau"
    normalize: bool = False
    scale: bool = False
    size: int | None = None
    output_attention: bool = True
    clone: bool = False
    output: bool = True
    hard: bool = False


@pytest.mark.parametrize(
    "wrapper",
    [
        row("TF", "AttentionWrapper", case="the program", values=[Wrapper(output=False)]),
        row("TF", "C5", case="under TF1's Keras", values=[Wrapper(output=False, hard=True)]),
        row("TF", case="normalize", values=[Wrapper(normalize=True)]),
        row("TF", case="layer", values=[Wrapper(size=4)]),
        row("TF", case="normalize, layer", values=[Wrapper(normalize=True, size=2)]),
        row("TF", case="cell output", values=[Wrapper(size=3, output_attention=False)]),
        row("TF", case="cloned state", values=[Wrapper(size=2, clone=True, hard=True)]),
        row("TF", "A1", case="luong", values=[Wrapper("luong")]),
        row("TF", "A5", case="luong, scale", values=[Wrapper("luong", scale=True, size=6)]),
    ],
)
def test_attention_wrapper(wrapper: Wrapper) -> None:
    """LSTMCell(2), BahdanauAttention(3, memory), Keras LSTM(2)."""
    hidden = memory_size = 2
    score = 3 if wrapper.mechanism == "bahdanau" else hidden
    fed = wrapper.size or memory_size
    target = TARGET if wrapper.output else fed
    shapes: Shapes = {
        "encoder.embedding": (SOURCE, E),
        "decoder.embedding": (target, E),
        **cell_shapes("encoder.cell", 4, E, memory_size, biases=("ih",)),
        "memory_layer.weight": (score, memory_size),
        "kernel": (E + fed + hidden, 4 * hidden),
        "bias": (4 * hidden,),
    }
    if wrapper.mechanism == "bahdanau":
        shapes |= {"query_layer.weight": (score, hidden), "attention.v": (score,)}
    if wrapper.normalize:
        shapes |= {"attention.g": (1,), "attention.b": (score,)}
    if wrapper.scale:
        shapes |= {"attention.g": (1,)}
    if wrapper.size:
        shapes |= {"attention_layer.weight": (wrapper.size, hidden + memory_size)}
    if wrapper.output:
        shapes |= {"output.weight": (target, fed if wrapper.output_attention else hidden)}
    w = random_weights(4, shapes, scale=0.9)
    kernel, bias = w.pop("kernel"), w.pop("bias")
    cell = tensorflow.lstm_cell(kernel, bias, hidden=hidden)
    m = ModelBuilder(source=SOURCE, target=target)
    tensorflow.attention_wrapper(
        m,
        w | {f"decoder.cell.{role}": array for role, array in cell.items()},
        mechanism=wrapper.mechanism,
        normalize=wrapper.normalize,
        scale=wrapper.scale,
        output_attention=wrapper.output_attention,
        clone_encoder_state=wrapper.clone,
        gate_activation="hard_sigmoid" if wrapper.hard else "sigmoid",
    )
    keras, p = keras_peers.keras(), double(w)
    tf1 = {"recurrent_activation": lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)}
    options: Any = tf1 if wrapper.hard else {}
    encoder = keras_peers.lstm(
        w, "encoder.cell", return_sequences=True, return_state=True, **options
    )

    def oracle(case: Case, ids: list[int]) -> tuple[Any, Any]:
        memory, h, c = keras_peers.run(encoder, p["encoder.embedding"][case["x"]])
        keys = memory @ p["memory_layer.weight"].T
        if not wrapper.clone:
            h, c = np.zeros(hidden), np.zeros(hidden)
        attention = np.zeros(fed)
        out, maps = [], []
        for y in ids:
            x = np.concatenate([p["decoder.embedding"][y], attention])
            h, c = tf_lstm_cell(kernel.astype(float), bias.astype(float), x, h, c)
            if wrapper.mechanism == "luong":
                e = keys @ h * (p["attention.g"][0] if wrapper.scale else 1.0)
            else:
                query = p["query_layer.weight"] @ h
                v, b = p["attention.v"], np.zeros(1)
                if wrapper.normalize:
                    v, b = p["attention.g"][0] * v / np.sqrt((v * v).sum()), p["attention.b"]
                e = np.tanh(keys + query + b) @ v
            a = np.exp(e) / np.exp(e).sum()
            context = a @ memory
            attention = context
            if wrapper.size:
                attention = p["attention_layer.weight"] @ np.concatenate([h, context])
            given = attention if wrapper.output_attention else h
            out.append(p["output.weight"] @ given if wrapper.output else given)
            maps.append(a)
        return np.stack(out), np.stack(maps)

    start, end = (START, END) if wrapper.output else (0, 1)
    check_decoder(m.build(start=start, end=[end]), sources(), oracle, beam_size=min(5, target))


@pytest.mark.variant("O9")
@pytest.mark.variant("nmt_with_attention")
@pytest.mark.variant("A3")
def test_nmt_with_attention() -> None:
    """The tutorial's calls, in Keras layers: its GRU gets no initial_state."""
    score = 6
    w = random_weights(
        8,
        {
            "encoder.embedding": (SOURCE, E),
            "decoder.embedding": (TARGET, E),
            **cell_shapes("encoder.cell", 3, E, H),
            **cell_shapes("decoder.cell", 3, H + E, H),
            "attention.W1.weight": (score, H),
            "attention.W1.bias": (score,),
            "attention.W2.weight": (score, H),
            "attention.W2.bias": (score,),
            "attention.V.weight": (1, score),
            "attention.V.bias": (1,),
            "fc.weight": (TARGET, H),
            "fc.bias": (TARGET,),
        },
        scale=0.9,
    )
    m = ModelBuilder(source=SOURCE, target=TARGET)
    tensorflow.nmt_with_attention(m, w)
    p, run = double(w), keras_peers.run
    encoder, gru = (
        keras_peers.gru(w, f"{name}.cell", return_sequences=True, return_state=True)
        for name in ("encoder", "decoder")
    )
    W1, W2, V, fc = (
        keras_peers.dense(w, name) for name in ("attention.W1", "attention.W2", "attention.V", "fc")
    )

    def oracle(case: Case, ids: list[int]) -> tuple[Any, Any]:
        enc_output, hidden = run(encoder, p["encoder.embedding"][case["x"]])
        out, maps = [], []
        for y in ids:
            (query,), (keys,) = run(W1, hidden), run(W2, enc_output)
            (score,) = run(V, np.tanh(query + keys))
            a = np.exp(score) / np.exp(score).sum(axis=0)
            context = (a * enc_output).sum(axis=0)
            x = np.concatenate([context, p["decoder.embedding"][y]])
            output, hidden = run(gru, x[None])
            out.append(run(fc, output[0])[0])
            maps.append(a[:, 0])
        return np.stack(out), np.stack(maps)

    check_decoder(m.build(start=START, end=[END]), sources(), oracle)


# --- cells ---


@pytest.mark.variant("C4")
@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_lstm_cell_of_tensorflow_1(forget_bias: float) -> None:
    kernel, bias = random_weights(1, {"k": (E + H, 4 * H), "b": (4 * H,)}).values()
    m = ModelBuilder()
    e = m.encoder
    cell = tensorflow.lstm_cell(kernel, bias, hidden=H, forget_bias=forget_bias)
    memory, h, c = e.lstm(e.input("x", sequence=E), cell)
    e.output(memory=memory, h=h, c=c)

    def oracle(case: Case) -> dict[str, Any]:
        shift = np.repeat([0.0, 0.0, forget_bias - 1.0, 0.0], H)  # the function below adds 1.0
        h, c, states = np.zeros(H), np.zeros(H), []
        for x in case["features"].astype(float):
            h, c = tf_lstm_cell(kernel.astype(float), bias + shift, x, h, c)
            states.append(h)
        return {"memory": np.stack(states), "h": h, "c": c}

    check_encoder(m.build(), features(E), oracle)


@pytest.mark.parametrize(
    ("ours", "slope"),
    [
        row("C3", case="Keras, sigmoid", values=("sigmoid", 0.0)),
        row("C5", case="Keras 1 and 2", values=("hard_sigmoid", 0.2)),
        row("C5", case="Keras 3", values=("hard_sigmoid_6", 1 / 6)),
    ],
)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_lstm_of_keras(ours: str, slope: float, go_backwards: bool) -> None:
    w = random_weights(2, cell_shapes("cell", 4, E, H, biases=("ih",)), scale=1.5)
    m = ModelBuilder()
    e = m.encoder
    weights = {name.removeprefix("cell."): array for name, array in w.items()}
    direction = "backward" if go_backwards else "forward"
    memory, h, c = e.lstm(
        e.input("x", sequence=E), weights, gate_activation=ours, direction=direction
    )
    e.output(memory=memory, h=h, c=c)
    keras = keras_peers.keras()

    def hard(x: Any) -> Any:
        return keras.ops.clip(slope * x + 0.5, 0.0, 1.0)

    given: Any = {"sigmoid": "sigmoid", "hard_sigmoid": hard, "hard_sigmoid_6": "hard_sigmoid"}
    peer = keras_peers.lstm(
        w,
        "cell",
        recurrent_activation=given[ours],
        return_sequences=True,
        return_state=True,
        go_backwards=go_backwards,
    )

    def oracle(case: Case) -> dict[str, Any]:
        memory, h, c = keras_peers.run(peer, case["features"])
        # Keras gives the outputs in the order of processing.
        return {"memory": memory[::-1] if go_backwards else memory, "h": h, "c": c}

    check_encoder(m.build(), features(E), oracle)


@pytest.mark.parametrize(
    ("reset", "biases"),
    [
        row("C2", case="textbook", values=("before", ())),
        row("C2", case="one bias", values=("before", ("ih",))),
        row("C2'", case="two biases", values=("after", ("ih", "hh"))),
        row("C2'", case="none", values=("after", ())),
    ],
)
def test_gru_of_keras(reset: str, biases: Any) -> None:
    w = random_weights(3, cell_shapes("cell", 3, E, H, biases=biases), scale=0.9)
    m = ModelBuilder()
    e = m.encoder
    weights = {name.removeprefix("cell."): array for name, array in w.items()}
    memory, h = e.gru(e.input("x", sequence=E), weights, reset=reset)
    e.output(memory=memory, h=h)
    peer = keras_peers.gru(
        w, "cell", reset_after=reset == "after", return_sequences=True, return_state=True
    )

    def oracle(case: Case) -> dict[str, Any]:
        return dict(zip(("memory", "h"), keras_peers.run(peer, case["features"]), strict=True))

    check_encoder(m.build(), features(E), oracle)


def features(size: int) -> list[Case]:
    random = np.random.default_rng(1)
    return [{"features": random.standard_normal((n, size)).astype(np.float32)} for n in (1, 5, 17)]
