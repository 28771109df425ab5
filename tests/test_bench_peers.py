"""Peers of the benchmark suite give the engine's ids: the architectures of the workloads, in small,
greedy, with beams, in batches, with and without an end token."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

from s2s_engine import Engine, Model, ModelBuilder
from s2s_engine.bench import contenders, options
from s2s_engine.bench.workloads import (
    Random,
    Workload,
    bahdanau_model,
    gru_model,
    luong_model,
    random_ids,
    workload,
)

SIZES = {"hidden": 16, "embedding": 8}
MODELS = {
    "gru": lambda: gru_model(12, 14, hidden=16, steps=6),
    "luong": lambda: luong_model(**SIZES, layers=2, vocabulary=20, steps=7),
    "bahdanau": lambda: bahdanau_model(**SIZES, readout=8, vocabulary=20, steps=7),
}
PACKAGES = {name: maker.packages for name, maker in options.PEERS.items()}
# Compiling takes long and passes through the same code as eager.
EXACT = ["numpy", "torch", "onnx", "openvino"]
QUANTISED = ["torch-int8", "onnx-int8", "onnx-nbits", "openvino-bfloat16"]


def made(model: Model, beam: int = 1, batch: int = 1) -> Workload:
    vocabulary = model.graphs["encoder"].inputs["tokens"].size
    sources = random_ids(vocabulary, 6, 5)
    return workload("small", "", model, sources, beam=beam, batch=batch)


def line_up(given: Workload, peer: str) -> contenders.Field:
    for package in PACKAGES[peer]:
        pytest.importorskip(package)
    return contenders.line_up(given, 1, [peer])


@pytest.mark.parametrize("peer", EXACT)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("beam", "batch"), [(1, 1), (1, 3), (4, 1), (4, 3)])
def test_peer_gives_the_ids_of_the_engine(peer: str, name: str, beam: int, batch: int) -> None:
    given = made(MODELS[name](), beam, batch)
    field = line_up(given, peer)
    peers = [one for one in field.all if one.peer]
    if peer == "numpy" and (beam, batch) != (1, 1):
        assert not peers and "one sentence, greedy" in field.left_out["numpy"]
        return
    assert peers
    assert set(contenders.check(given, field).values()) >= {1.0}
    assert all(one.exact for one in peers)


@pytest.mark.parametrize("peer", ["torch", "onnx", "openvino"])
@pytest.mark.parametrize("end", range(4))
@pytest.mark.parametrize("beam", [1, 4])
def test_peer_ends_where_the_engine_ends(peer: str, end: int, beam: int) -> None:
    model = MODELS["luong"]()
    logits = next(n for n in model.graphs["decoder"].nodes if n.name == "linear_2")
    bias = model.tensors[logits.weights["bias"]].copy()
    bias[end] += 2.0  # an end within a few steps, at different ones
    tensors = {**model.tensors, logits.weights["bias"]: bias}
    given = made(replace(model, end=(end,), tensors=tensors), beam)
    field = line_up(given, peer)
    assert len(set(field.steps)) > 1 or beam > 1
    contenders.check(given, field)
    assert any(one.peer for one in field.all)


@pytest.mark.parametrize("peer", QUANTISED)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("beam", [1, 4])
def test_peer_of_lower_precision_answers_nearly_the_same(peer: str, name: str, beam: int) -> None:
    given = made(MODELS[name](), beam)
    field = line_up(given, peer)
    shares = contenders.check(given, field)
    peers = [one for one in field.all if one.peer]
    assert peers and not any(one.exact for one in peers)
    # Random weights part for good at the first different id; chance alone would give 1 of 14.
    assert all(shares[one.contender.name] > 0.3 for one in peers)


def test_quantised_rows_are_within_half_a_step() -> None:
    pytest.importorskip("onnx")
    quantised = importlib.import_module("s2s_engine.bench.peers.onnx_graph").quantised
    rows = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    rows[3] = 0
    bytes_, scale = quantised(rows)
    assert bytes_.dtype == np.int8 and np.abs(bytes_).max() == 127
    error = np.abs(bytes_ * scale[:, None] - rows)
    assert (error <= scale[:, None] * 0.5001).all()


def test_what_a_peer_cannot_say_is_left_out_with_the_reason() -> None:
    pytest.importorskip("torch")
    w = Random(1)
    m = ModelBuilder(source=9, target=9)
    e, d = m.encoder, m.decoder
    h = e.pool(e.embedding(e.tokens, w(9, 4)), "mean")
    e.output(h=h)
    state = d.state("h", initial="h")
    after = d.gru_cell(d.embedding(d.token, w(9, 4)), state, w.cell(3, 4, 4))
    d.next(h=after)
    d.output(logits=d.linear(after, w(9, 4)))
    given = made(m.build(start=1, generation={"max_length": 3}))
    field = contenders.line_up(given, 1, ["torch"])
    assert field.left_out["torch"] == "the operation pool is not written for PyTorch"
    assert Engine.load(given.model).decode([1, 2]).ids
