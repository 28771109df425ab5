"""PyTorch's sequence-to-sequence tutorial, old and new: its modules with the tutorial's `forward`,
in float64, against the architectures."""

from __future__ import annotations

from typing import Any

import peers
import pytest
from checks import (
    END,
    SOURCE,
    START,
    TARGET,
    Case,
    H,
    Shapes,
    cell_shapes,
    check_decoder,
    random_weights,
    row,
    sources,
)

from s2s_engine import ModelBuilder
from s2s_engine.architectures import pytorch_tutorials

pytestmark = pytest.mark.parity("torch")
MAX_LENGTH = 10


def shapes(inputs: int) -> Shapes:
    return {
        "encoder.embedding.weight": (SOURCE, H),
        "decoder.embedding.weight": (TARGET, H),
        **cell_shapes("encoder.gru", 3, H, H),
        **cell_shapes("decoder.gru", 3, inputs, H),
        "decoder.out.weight": (TARGET, H),
        "decoder.out.bias": (TARGET,),
    }


def linear(p: Any, name: str, x: Any) -> Any:
    return peers.torch().nn.functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


@pytest.mark.variant("PyTorch tutorial, simple")
def test_decoder_rnn() -> None:
    w = random_weights(1, shapes(H))
    m = ModelBuilder(source=SOURCE, target=TARGET)
    pytorch_tutorials.decoder_rnn(m, w)
    t, p = peers.torch(), peers.tensors(w)
    encoder, gru = peers.layer("GRU", w, "encoder.gru"), peers.layer("GRU", w, "decoder.gru")

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        _, hidden = encoder(p["encoder.embedding.weight"][case["x"]])
        output, _ = gru(t.relu(p["decoder.embedding.weight"][fed]), hidden)
        return linear(p, "decoder.out", output), None

    check_decoder(m.build(start=START, end=[END], arrays=w), sources(), oracle)


@pytest.mark.parametrize("length", [row("A11l", "PyTorch tutorial, old", values=(MAX_LENGTH,))])
def test_attention_decoder_old(length: int) -> None:
    """No mask: what falls on the zeros behind the source is lost."""
    extra: Shapes = {"decoder.attn.weight": (length, 2 * H)}
    extra |= {"decoder.attn.bias": (length,), "decoder.attn_combine.bias": (H,)}
    extra |= {"decoder.attn_combine.weight": (H, 2 * H)}
    w = random_weights(2, shapes(H) | extra)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    pytorch_tutorials.attention_decoder_old(m, w)
    t, p = peers.torch(), peers.tensors(w)
    encoder, gru = peers.layer("GRU", w, "encoder.gru"), peers.layer("GRU", w, "decoder.gru")

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        found, hidden = encoder(p["encoder.embedding.weight"][case["x"]])
        encoder_outputs = t.zeros(length, H, dtype=t.float64)
        encoder_outputs[: len(found)] = found
        out, maps = [], []
        for i in fed:
            embedded = p["decoder.embedding.weight"][i]
            joined = t.cat([embedded, hidden[0]])
            attn_weights = t.softmax(linear(p, "decoder.attn", joined), -1)
            applied = attn_weights @ encoder_outputs
            combined = linear(p, "decoder.attn_combine", t.cat([embedded, applied]))
            output, hidden = gru(t.relu(combined)[None], hidden)
            out.append(linear(p, "decoder.out", output[0]))
            maps.append(attn_weights[: len(found)])
        return t.stack(out), t.stack(maps)

    check_decoder(m.build(start=START, end=[END], arrays=w), sources(1, 4, length), oracle)


@pytest.mark.variant("PyTorch tutorial, new")
@pytest.mark.variant("A3")
@pytest.mark.variant("A6")
def test_attention_decoder() -> None:
    extra: Shapes = {}
    for name, rows in (("Wa", H), ("Ua", H), ("Va", 1)):
        extra |= {f"decoder.attention.{name}.weight": (rows, H)}
        extra |= {f"decoder.attention.{name}.bias": (rows,)}
    w = random_weights(3, shapes(2 * H) | extra)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    pytorch_tutorials.attention_decoder(m, w)
    t, p = peers.torch(), peers.tensors(w)
    encoder, gru = peers.layer("GRU", w, "encoder.gru"), peers.layer("GRU", w, "decoder.gru")

    def attention(query: Any, keys: Any) -> tuple[Any, Any]:
        energies = t.tanh(
            linear(p, "decoder.attention.Wa", query) + linear(p, "decoder.attention.Ua", keys)
        )
        weights = t.softmax(linear(p, "decoder.attention.Va", energies)[:, 0], 0)
        return weights @ keys, weights

    def oracle(case: Case, fed: list[int]) -> tuple[Any, Any]:
        keys, hidden = encoder(p["encoder.embedding.weight"][case["x"]])
        out, maps = [], []
        for i in fed:
            context, weights = attention(hidden, keys)
            x = t.cat([p["decoder.embedding.weight"][i], context])
            output, hidden = gru(x[None], hidden)
            out.append(linear(p, "decoder.out", output[0]))
            maps.append(weights)
        return t.stack(out), t.stack(maps)

    check_decoder(m.build(start=START, end=[END]), sources(), oracle)
