"""Attention heads of text recognisers against PyTorch's cells with the attention written out. Knows
equations and parameter names; never the builder."""

from __future__ import annotations

from typing import Any

import numpy as np
import peers
import pytest
from checks import Case, check_decoder, double, random_weights

from s2s_engine.architectures.ocr import paddleocr, sar

pytestmark = pytest.mark.parity("torch")

C, H, V, A, LENGTHS = 5, 6, 9, 7, (1, 4, 10)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum()


def lstm(w: Any, name: str, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """torch.nn.LSTMCell."""
    x, h, c = (peers.torch().tensor(value) for value in (x, h, c))
    h, c = peers.cell("LSTMCell", w, name)(x, (h, c))
    return h.numpy(), c.numpy()


def gru(w: Any, name: str, x: Any, h: Any) -> Any:
    """torch.nn.GRUCell."""
    x, h = (peers.torch().tensor(value) for value in (x, h))
    return peers.cell("GRUCell", w, name)(x, h).numpy()


def cell(name: str, gates: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.weight_ih": (gates * H, inputs),
        f"{name}.weight_hh": (gates * H, H),
        f"{name}.bias_ih": (gates * H,),
        f"{name}.bias_hh": (gates * H,),
    }


def one_hot(token: int) -> Any:
    """The zero vector for -1."""
    return (np.arange(V) == token).astype(float)


def floats(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.variant("paddleocr")
@pytest.mark.parametrize("gates", [3, 4])
def test_paddleocr(gates: int) -> None:
    shapes = {
        "attention_cell.i2h.weight": (C, H),
        "attention_cell.h2h.weight": (H, H),
        "attention_cell.h2h.bias": (H,),
        "attention_cell.score.weight": (H, 1),
        "generator.weight": (H, V),
        "generator.bias": (V,),
        **cell("attention_cell.rnn", gates, C + V),
    }
    weights = random_weights(1, shapes)
    w = double(weights)

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        features = case["features"].astype(float)
        h, c, logits, maps = np.zeros(H), np.zeros(H), [], []
        for token in fed:
            query = h @ w["attention_cell.h2h.weight"] + w["attention_cell.h2h.bias"]
            energy = np.tanh(features @ w["attention_cell.i2h.weight"] + query)
            alpha = softmax((energy @ w["attention_cell.score.weight"])[:, 0])
            x = np.concatenate([alpha @ features, one_hot(token)])
            if gates == 4:
                h, c = lstm(w, "attention_cell.rnn", x, h, c)
            else:
                h = gru(w, "attention_cell.rnn", x, h)
            logits.append(h @ w["generator.weight"] + w["generator.bias"])
            maps.append(alpha)
        return np.stack(logits), np.stack(maps)

    check_decoder(paddleocr(weights), [{"features": floats(n, n, C)} for n in LENGTHS], oracle)


@pytest.mark.variant("sar")
@pytest.mark.parametrize(
    ("kernel", "warm_up"), [(1, "none"), (3, "none"), (3, "holistic"), (1, "columns")]
)
def test_sar(kernel: int, warm_up: str) -> None:
    module = "decoder.attention_module"
    shapes = {
        "decoder.embed.weight": (H, V),
        "decoder.embed.bias": (H,),
        f"{module}.feat_conv.weight": (A, C, kernel, kernel),
        f"{module}.feat_conv.bias": (A,),
        f"{module}.state_conv.weight": (A, H, 1, 1),
        f"{module}.attention_projector.weight": (1, A, 1, 1),
        "decoder.output_dense.weight": (V, H + C),
        "decoder.output_dense.bias": (V,),
        **cell("decoder.lstm_cell", 4, H),
    }
    if warm_up == "columns":
        for layer, inputs in enumerate((C, H)):
            below = cell("encoder.rnn", 4, inputs)
            shapes |= {f"{name}_l{layer}": shape for name, shape in below.items()}
        shapes |= {"encoder.linear.weight": (H, H), "encoder.linear.bias": (H,)}
    weights = random_weights(2, shapes)
    w = double(weights)
    for layer in range(2 if warm_up == "columns" else 0):
        roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w |= {f"rnn{layer}.{role}": w[f"encoder.rnn.{role}_l{layer}"] for role in roles}

    def holistic(given: dict[str, Any]) -> Any:
        if warm_up == "holistic":
            return given["holistic"].astype(float)
        states = [(np.zeros(H), np.zeros(H))] * 2
        for x in given["columns"].astype(float):
            states[0] = lstm(w, "rnn0", x, *states[0])
            states[1] = lstm(w, "rnn1", states[0][0], *states[1])
        return w["encoder.linear.weight"] @ states[1][0] + w["encoder.linear.bias"]

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        given = case["inputs"]
        features = given["features"].astype(float)
        if kernel == 1:
            keys = features @ w[f"{module}.feat_conv.weight"][:, :, 0, 0].T
            keys = keys + w[f"{module}.feat_conv.bias"]
        else:
            keys = given["projected"].astype(float)
        zero = np.zeros(H)
        states, logits, maps = [(zero, zero), (zero, zero)], [], []

        def both_layers(x: Any) -> Any:
            states[0] = lstm(w, "decoder.lstm_cell", x, *states[0])
            states[1] = lstm(w, "decoder.lstm_cell", states[0][0], *states[1])
            return states[1][0]

        if warm_up != "none":
            both_layers(holistic(given))
        for token in fed:
            x = w["decoder.embed.weight"] @ one_hot(token) + w["decoder.embed.bias"]
            h = both_layers(x)
            query = w[f"{module}.state_conv.weight"][:, :, 0, 0] @ h
            energy = np.tanh(keys + query) @ w[f"{module}.attention_projector.weight"].ravel()
            alpha = softmax(energy)
            glimpse = alpha @ features
            dense = w["decoder.output_dense.weight"] @ np.concatenate([h, glimpse])
            logits.append(dense + w["decoder.output_dense.bias"])
            maps.append(alpha)
        return np.stack(logits), np.stack(maps)

    def case(n: int) -> Case:
        inputs = {"features": floats(n, n, C)}
        inputs |= {"projected": floats(n + 50, n, A)} if kernel == 3 else {}
        inputs |= {"holistic": floats(n + 60, H)} if warm_up == "holistic" else {}
        inputs |= {"columns": floats(n + 70, n, C)} if warm_up == "columns" else {}
        return {"inputs": inputs}

    model = sar(weights, warm_up=warm_up)
    assert model.start is None
    check_decoder(model, [case(n) for n in LENGTHS], oracle)
