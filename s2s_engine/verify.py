"""Checks of a model on this machine: its self-test, and the core beside the float64 reference on
random inputs, on every instruction set. Knows both executors; never files or terminals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _core
from .engine import Engine
from .graph import BUILT_IN
from .model import Model, SelfTest
from .options import DecodeOptions
from .reference import Reference
from .results import Hypothesis
from .self_test import compare
from .shapes import ValueType

LENGTHS = (1, 2, 3, 5, 8, 13, 21)
PROMPT = "the prompt"  # the source of a model without an encoder
TARGET_LENGTH = 8
MAX_LENGTH = 24
BEAM_SIZE = 4
# float32 rounding through a few dozen recurrent steps stays below this; a wrong operation does not.
TOLERANCE = 1e-4

Source: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One line of a report: what was checked, where, what came out."""

    check: str
    where: str
    text: str
    passed: bool


def verify(model: Model, *, seed: int = 0) -> Iterator[Finding]:
    """All checks of a model, each as it ends."""
    isas = _core.available_isas()
    test = model.self_test
    if test is None:
        yield Finding("self-test", "-", "the file has none", True)
    else:
        yield from (self_test(model, test, isa) for isa in isas)
    reference, sources = Reference(model), random_sources(model, seed)
    for isa in isas:
        yield against_reference(model, reference, sources, isa, seed)
    yield equal_bits(model, sources, isas, seed)


def self_test(model: Model, test: SelfTest, isa: str) -> Finding:
    """The log-probabilities of a self-test beside the expected ones."""
    with Engine.load(model, isa=isa) as engine:
        source, target = test.call, list(test.target)
        if "decoder" in model.graphs:
            log_probs = engine.score(source, target, prepared=True).token_log_probs
        else:
            log_probs = engine.decode(source, prepared=True).hypotheses[0].token_log_probs
    check = compare(test, log_probs)
    text = (
        f"log-probabilities differ by {check.largest_difference:.1e}, allowed {check.tolerance:.1e}"
    )
    return Finding("self-test", isa, text, check.passed)


def against_reference(
    model: Model, reference: Reference, sources: Sequence[Source], isa: str, seed: int = 0
) -> Finding:
    """The core beside the reference: encoder outputs, forced logits, greedy and beam outputs."""
    largest, ties = 0.0, 0
    with Engine.load(model, isa=isa) as engine:
        for number, source in enumerate(sources):
            try:
                largest = max(largest, _encoded(engine, reference, source))
                if "decoder" in model.graphs:
                    target = random_target(model, seed + number)
                    largest = max(largest, _forced(engine, reference, source, target))
                ties += _searched(engine, reference, source)
            except _DifferentError as error:
                text = f"input {number} ({_sizes(source)}): {error}"
                return Finding("reference", isa, text, False)
    searches = f"greedy and beam {BEAM_SIZE} outputs" if "decoder" in model.graphs else "labels"
    text = (
        f"{len(sources)} inputs: values differ by {largest:.1e}, allowed {TOLERANCE:.1e}; "
        f"{searches} equal{f' but for {ties} ties' if ties else ''}"
    )
    return Finding("reference", isa, text, True)


def equal_bits(
    model: Model, sources: Sequence[Source], isas: Sequence[str], seed: int = 0
) -> Finding:
    """Encoder outputs and forced logits, bit for bit the same on every instruction set."""
    first: list[bytes] = []
    for isa in isas:
        with Engine.load(model, isa=isa) as engine:
            for number, source in enumerate(sources):
                encoded = {} if PROMPT in source else engine.encode(**as_call(source))
                bits = b"".join(encoded[name].tobytes() for name in sorted(encoded))
                if "decoder" in model.graphs:
                    target = random_target(model, seed + number)
                    bits += engine.forced_logits(target=target, **as_call(source)).tobytes()
                if isa == isas[0]:
                    first.append(bits)
                elif bits != first[number]:
                    text = f"input {number} ({_sizes(source)}): not the bits of {isas[0]}"
                    return Finding("equal bits", isa, text, False)
    return Finding("equal bits", "all", ", ".join(isas), True)


# --- random inputs ---


def random_sources(model: Model, seed: int) -> list[Source]:
    """Prepared inputs of growing length, all of the model's by name."""
    random = np.random.default_rng(seed)
    if "encoder" not in model.graphs:
        token = ValueType("ids", model.graphs["decoder"].inputs["token"].size)
        return [{PROMPT: _random(random, token, length)} for length in LENGTHS]
    inputs = model.graphs["encoder"].inputs
    bound = inputs["position"].size if "position" in inputs else LENGTHS[-1]
    lengths = [length for length in LENGTHS if length <= bound]
    declared = {n: type_ for n, type_ in inputs.items() if n not in BUILT_IN["encoder"]}
    return [
        {name: _random(random, type_, length) for name, type_ in declared.items()}
        for length in lengths
    ]


def random_target(model: Model, seed: int) -> list[int]:
    """Target ids without the ends, as many as are forced."""
    inputs = model.graphs["decoder"].inputs
    steps = inputs["step"].size if "step" in inputs else TARGET_LENGTH + 1
    possible = [i for i in range(inputs["token"].size) if i not in model.end]
    length = min(TARGET_LENGTH, steps - 1) if possible else 0
    random = np.random.default_rng(seed)
    return [possible[int(i)] for i in random.integers(len(possible) or 1, size=length)]


def _random(random: np.random.Generator, type_: ValueType, length: int) -> Any:
    if type_.kind == "id":
        return int(random.integers(type_.size))
    if type_.kind == "ids":
        return random.integers(type_.size, size=length).tolist()
    shape = (length, type_.size) if type_.kind == "sequence" else (type_.size,)
    return random.standard_normal(shape).astype(np.float32)


# --- comparing ---


class _DifferentError(Exception):
    """What differs, and by how much."""


def _encoded(engine: Engine, reference: Reference, source: Source) -> float:
    """The largest difference of an encoder output."""
    if PROMPT in source:
        return 0.0
    want, largest = reference.encode(**as_call(source)), 0.0
    for name, given in engine.encode(**as_call(source)).items():
        difference = _difference(given, want[name])
        if not difference <= TOLERANCE:
            raise _DifferentError(
                f"encoder output {name!r} differs by {difference:.1e}, allowed {TOLERANCE:.1e}"
            )
        largest = max(largest, difference)
    return largest


def _forced(engine: Engine, reference: Reference, source: Source, target: list[int]) -> float:
    """The largest difference of a step's logits under teacher forcing."""
    model, largest = reference.model, 0.0
    logits = engine.forced_logits(target=target, **as_call(source))
    outputs = model.graphs["decoder"].outputs
    expected = outputs.get("logits") or outputs["log_probabilities"]
    # The steps that read a prompt give nothing that is scored.
    steps = reference.trace(target=target, **as_call(source)).steps[-len(logits) :]
    for step, values in enumerate(steps):
        difference = _difference(logits[step], values[expected])
        if not difference <= TOLERANCE:
            raise _DifferentError(
                f"the encoder agrees, but the decoder's logits differ from step {step} on, by "
                f"{difference:.1e}, allowed {TOLERANCE:.1e}"
            )
        largest = max(largest, difference)
    return largest


def as_call(source: Source) -> dict[str, Any]:
    """A random source as arguments of a call."""
    if PROMPT in source:
        return {"x": source[PROMPT]}
    return {"x": None, "inputs": source, "prepared": True}


def _searched(engine: Engine, reference: Reference, source: Source) -> int:
    """How many outputs differ by a tie only; a real difference is an error."""
    ties = 0
    for options in _searches(reference.model):
        given = engine.decode(**as_call(source), **options).hypotheses[0]
        want = reference.decode(**as_call(source), **options).hypotheses[0]
        greedy = options.get("beam_size", 1) == 1
        scores_agree = abs(given.score - want.score) <= TOLERANCE * max(1.0, abs(want.score))
        if given.ids == want.ids and given.finish_reason == want.finish_reason and scores_agree:
            continue
        ended = set(reference.model.end) & set(given.ids)
        if ended or not (scores_agree or (greedy and _part_at_a_tie(given, want))):
            raise _DifferentError(
                f"with beam {options.get('beam_size', 1)} the core gives {given.ids} "
                f"({given.score:.6f}, {given.finish_reason}), the reference {want.ids} "
                f"({want.score:.6f}, {want.finish_reason})"
            )
        ties += 1
    return ties


def _searches(model: Model) -> list[dict[str, Any]]:
    if "decoder" not in model.graphs:
        return [{}] if "logits" in model.graphs["encoder"].outputs else []
    inputs = model.graphs["decoder"].inputs
    limit = DecodeOptions.of(model.generation, None, {}).max_length
    most = min(
        limit if isinstance(limit, int) else MAX_LENGTH,
        inputs["step"].size if "step" in inputs else MAX_LENGTH,
        MAX_LENGTH,
    )
    common = {"num_hypotheses": 1, "max_length": most}
    return [{"beam_size": 1, **common}, {"beam_size": BEAM_SIZE, **common}]


def _part_at_a_tie(given: Hypothesis, want: Hypothesis) -> bool:
    """Whether two greedy outputs first differ where float32 cannot decide between two tokens."""
    pairs = enumerate(zip(given.ids, want.ids, strict=False))
    shorter = min(len(given.ids), len(want.ids))
    at = next((at for at, (a, b) in pairs if a != b), shorter)
    if at >= min(len(given.token_log_probs), len(want.token_log_probs)):
        return False
    difference = float(given.token_log_probs[at]) - float(want.token_log_probs[at])
    return abs(difference) <= TOLERANCE


def _difference(given: NDArray[np.float32], want: NDArray[np.float64]) -> float:
    """The largest difference, relative to values above 1; infinite where shapes differ."""
    if given.shape != want.shape:
        return float("inf")
    scale = max(1.0, float(np.abs(want).max(initial=0.0)))
    return float(np.abs(given - want).max(initial=0.0)) / scale


def _sizes(source: Source) -> str:
    return ", ".join(f"{name} {np.shape(value)}" for name, value in source.items())
