"""Writes a trained checkpoint as a model file of the engine, equation by equation.
The weights are already rounded to bfloat16, so that the file stores them without a change."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from data import SOURCE_END, TARGET_END, TARGET_START
from numpy.typing import NDArray
from search import MAX_TOKENS

from s2s_engine import Model, ModelBuilder
from s2s_engine.self_test import attach

Weights = Mapping[str, NDArray[np.float32]]


def cell(w: Weights, name: str, layer: str) -> dict[str, NDArray[np.float32]]:
    """One direction of one layer of a torch.nn.LSTM: its gates are in our order already."""
    roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {role: w[f"{name}.{role}_{layer}"] for role in roles}


def build(stored: Mapping[str, object], provenance: Mapping[str, object]) -> Model:
    """The network of model.py as two graphs."""
    state = stored["model"]
    assert isinstance(state, dict)
    w: Weights = {name: tensor.numpy() for name, tensor in state.items()}
    source, target = stored["source_vocabulary"], stored["target_vocabulary"]
    assert isinstance(source, (list, tuple)) and isinstance(target, (list, tuple))
    m = ModelBuilder(source=len(source), target=len(target))
    e, d = m.encoder, m.decoder

    x = e.embedding(e.tokens, w["source_embedding.weight"], name="letters")
    for layer in ("l0", "l1"):
        forward, backward = cell(w, "encoder", layer), cell(w, "encoder", f"{layer}_reverse")
        x, final, _ = e.bidirectional(e.lstm, x, forward, backward)
    bridge_h, bridge_c = (
        e.linear(final, w[f"{name}.weight"], w[f"{name}.bias"], activation="tanh", name=name)
        for name in ("bridge_h", "bridge_c")
    )
    e.output(memory=x, keys=e.linear(x, w["keys.weight"], name="keys"), h=bridge_h, c=bridge_c)

    h1, c1 = d.state("h1", initial="h"), d.state("c1", initial="c")
    size = h1.type.size
    h2, c2 = d.state("h2", size=size), d.state("c2", size=size)
    y = d.embedding(d.token, w["target_embedding.weight"], name="phoneme")
    h1, c1 = d.lstm_cell(y, h1, c1, cell(w, "decoder1", "l0"), name="cell1")
    context, weights = d.attention(query=h1, keys="keys", values="memory")
    h2, c2 = d.lstm_cell([h1, context], h2, c2, cell(w, "decoder2", "l0"), name="cell2")
    readout = d.linear(
        [h2, context],
        w["readout.weight"],
        w["readout.bias"],
        activation="tanh",
        name="readout",
    )
    d.next(h1=h1, c1=c1, h2=h2, c2=c2)
    logits = d.linear(readout, w["output.weight"], w["output.bias"], name="logits")
    d.output(logits=logits, alignment=weights)
    return m.build(
        source={"append": [SOURCE_END]},
        start=TARGET_START,
        end=[TARGET_END],
        vocabularies={"tokens": list(source), "target": list(target)},
        characters=True,
        generation={"max_length": MAX_TOKENS},
        provenance=provenance,
        arrays=w,
    )


def main() -> None:
    """Reads model.pt and writes the model file, with a self-test on a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    stored = torch.load(options.checkpoint, weights_only=True)
    provenance = {
        "name": "English spelling to phonemes",
        "data": "CMU Pronouncing Dictionary (cmusphinx/cmudict), training part of the split",
        "license": "weights Apache-2.0; dictionary BSD-style, see NOTICE",
        "framework": f"PyTorch {torch.__version__.split('+')[0]}",
        "script": "examples/g2p/train.py, examples/g2p/export.py",
        "epochs": sum(int(stage["epoch"]) for stage in (*stored.get("stages", []), stored)),
        "seed": int(stored["seed"]),
    }
    model = build(stored, provenance)
    letters, phonemes = stored["source_vocabulary"], stored["target_vocabulary"]
    source = [letters.index(letter) for letter in "phonograph"] + [SOURCE_END]
    target = [phonemes.index(phoneme) for phoneme in ["F", "OW1", "N", "AH0", "G", "R", "AE2", "F"]]
    options.model.parent.mkdir(parents=True, exist_ok=True)
    attach(model, source, target).save(options.model, storage="bfloat16")
    print(f"{options.model}: {options.model.stat().st_size} bytes")


if __name__ == "__main__":
    main()
