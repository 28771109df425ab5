"""A model beside the program its weights are from: every value that both name, in the order of the
graphs. Knows traces and differences; never a framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Engine
from ..model import Model
from ..reference import Reference
from ..verify import as_call, random_sources, random_target
from .importer import Peer, Trace

TOLERANCE = 1e-5
# The logit of an id that a program never writes is below this, whatever number it has for it.
NEVER = -1e4
TOKENS, ENGINE_TOKENS = "decoder.token_log_probs", "engine.token_log_probs"


@dataclass(frozen=True)
class Verification:
    """largest_difference: of a value, relative to values above 1. first: the first value in the
    order of the graphs that differs by more than `tolerance` with where it does, None if none."""

    framework: str
    inputs: int
    values: int
    largest_difference: float
    tolerance: float
    first: str | None

    @property
    def passed(self) -> bool:
        return self.first is None

    def __str__(self) -> str:
        head = f"{self.framework}: {self.inputs} inputs, {self.values} values by name"
        if self.passed:
            return f"{head}, largest difference {self.largest_difference:.1e}"
        return f"{head}; differ first at {self.first}, allowed {self.tolerance:.1e}"


def verify(
    model: Model,
    peer: Peer,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    sources: Sequence[Mapping[str, Any]] | None = None,
    targets: Sequence[Sequence[int]] | None = None,
) -> Verification:
    """Runs both on random prepared inputs under teacher forcing: the reference for every value
    that the peer names, the engine for the logits."""
    sources = random_sources(model, seed) if sources is None else sources
    reference, largest, values = Reference(model), 0.0, 0
    with Engine.load(model) as engine:
        for number, source in enumerate(sources):
            if targets is not None:
                target = list(targets[number])
            else:
                target = random_target(model, seed + number) if "decoder" in model.graphs else []
            theirs = peer.trace(source, target)
            ours = _trace(reference, engine, source, target)
            if TOKENS in theirs:
                ids = [*target, model.end[0]]
                ours[TOKENS] = _token_log_probs(ours["decoder.logits"], ids)
                ours[ENGINE_TOKENS] = _token_log_probs(ours["engine.logits"], ids)
            for name, want in _in_order(model, theirs):
                values += 1
                at, difference = _difference(ours[name], want)
                if not difference <= tolerance:
                    first = f"{name}{at} of input {number}, by {difference:.1e}"
                    return Verification(
                        peer.framework, len(sources), values, difference, tolerance, first
                    )
                largest = max(largest, difference)
    return Verification(peer.framework, len(sources), values, largest, tolerance, None)


def record(model: Model, found: Verification) -> Model:
    """The model with what verification found in its provenance."""
    assert found.passed
    facts = {
        "verified_with": found.framework,
        "verified_difference": found.largest_difference,
        "verified_inputs": found.inputs,
        "verified_weights": "float32",
    }
    return replace(model, provenance={**model.provenance, **facts})


def _trace(
    reference: Reference, engine: Engine, source: Mapping[str, Any], target: list[int]
) -> dict[str, NDArray[Any]]:
    """Our values under every name that a peer may use, the engine's logits as `engine.logits`."""
    model = reference.model
    found: dict[str, NDArray[Any]] = {}
    call = as_call(source)
    traced = reference.trace(target=target, **call)
    encoder = model.graphs.get("encoder")
    if encoder is not None:
        for name, node in encoder.outputs.items():
            found[f"encoder.{name}"] = traced.encoder[node]
    decoder = model.graphs.get("decoder")
    if decoder is None:
        found["engine.logits"] = engine.encode(**call)["logits"]
        return found
    named = {name: state.next for name, state in decoder.states.items()} | dict(decoder.outputs)
    for name, node in named.items():
        if all(node in step for step in traced.steps):
            found[f"decoder.{name}"] = np.stack([step[node] for step in traced.steps])
    if "decoder.alignment" in found:  # (steps, S, heads) as results have it: one head is no axis
        heads = np.moveaxis(found["decoder.alignment"], -1, 1)
        found["decoder.alignment"] = heads[:, 0] if heads.shape[1] == 1 else heads
    found["engine.logits"] = engine.forced_logits(target=target, **call)
    return found


def _token_log_probs(logits: NDArray[Any], ids: Sequence[int]) -> NDArray[Any]:
    """log softmax at one id of each row."""
    shifted = np.asarray(logits, np.float64) - logits.max(-1, keepdims=True)
    found: NDArray[Any] = shifted[np.arange(len(ids)), ids] - np.log(np.exp(shifted).sum(-1))
    return found


def _in_order(model: Model, theirs: Trace) -> Iterator[tuple[str, NDArray[Any]]]:
    """The peer's values as the graphs compute them; the engine's logits are held against the
    peer's at the end."""
    places: dict[str, int] = {}
    for role in ("encoder", "decoder"):
        graph = model.graphs.get(role)
        if graph is None:
            continue
        order = {node.name: len(places) + n for n, node in enumerate(graph.nodes)}
        named = {n: s.next for n, s in getattr(graph, "states", {}).items()} | dict(graph.outputs)
        for name, node in named.items():
            key = f"{role}.{name}"
            places[key] = order.get(node.split(".")[0], -1) + (0 if role == "encoder" else 1 << 20)
    places[TOKENS] = 1 << 21  # behind the logits
    unknown = sorted(theirs.keys() - places.keys())
    assert not unknown, f"a peer names values that the model has not: {unknown}"
    logits = [
        n for n in ("decoder.logits", "decoder.log_probabilities", "encoder.logits") if n in theirs
    ]
    assert logits or TOKENS in theirs, "a peer must give the logits"
    yield from sorted(theirs.items(), key=lambda item: places[item[0]])
    if logits:
        yield "engine.logits", theirs[logits[0]]
    else:
        yield ENGINE_TOKENS, theirs[TOKENS]


def _difference(ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[str, float]:
    """Where the largest difference is, and how large it is relative to values above 1."""
    theirs = np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return f" (shape {ours.shape}, not {theirs.shape})", float("inf")
    if not ours.size:
        return "", 0.0
    scale = np.abs(theirs).max(initial=1.0, where=~(theirs <= NEVER))
    apart = np.abs(np.maximum(ours, NEVER) - np.maximum(theirs, NEVER)) / scale
    if np.isnan(apart).any():
        return " (NaN)", float("inf")
    at = np.unravel_index(int(apart.argmax()), apart.shape)
    return f"[{', '.join(map(str, at))}]", float(apart.max())
