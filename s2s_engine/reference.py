"""The specification of a model: encodes, decodes, scores and traces one source in NumPy float64.
Knows graphs, states and the order of steps; never an operation's meaning, speed or the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constraints import Constraints
from .errors import InputError
from .finishing import finished, unknown_id
from .model import Model
from .options import DEFAULTS, DecodeOptions
from .reference_filter import Sampling
from .reference_operations import (
    ACTIVATION,
    EXECUTE,
    Arguments,
    Body,
    Float64,
    Value,
    Values,
    execute,
)
from .reference_search import Path, checked_log_probs, log_softmax, search
from .reference_types import typed
from .results import Hypothesis, Result, Score
from .search_rules import coverage_of, score_of
from .vocabulary import Input, Inputs

__all__ = ["ACTIVATION", "EXECUTE", "Arguments", "Body", "Reference", "Trace", "Value", "Values"]


@dataclass(frozen=True)
class Trace:
    """Every value of a forced decode by reference: the encoder's, and the decoder's by step (the
    steps that read a prompt are left out)."""

    encoder: Values
    steps: list[Values]


@dataclass(frozen=True)
class _Encoded:
    """What decoding starts from; `fed` are the ids that the decoder reads before it gives one."""

    fed: list[int]
    values: Values = field(default_factory=dict)
    outputs: Values = field(default_factory=dict)
    read: Mapping[str, Input] = field(default_factory=dict)
    length: int | None = None


class Reference:
    """Decodes, scores and encodes one source as the engine does, in float64."""

    def __init__(
        self,
        model: Model,
        compute_types: Mapping[str, str] | None = None,
        float_columns: Mapping[str, int] | None = None,
    ) -> None:
        """compute_types: of weights that are not float32, as `Engine.info` gives them.
        float_columns: how many first columns of a weight are float32 all the same, because they
        multiply an embedding that the engine folds into a table."""
        self.model = model
        self._inputs = Inputs(model)
        decoder = model.graphs.get("decoder")
        self._normalised = decoder is not None and "log_probabilities" in decoder.outputs
        self._tensors = {name: np.asarray(w, np.float64) for name, w in model.tensors.items()}
        for name, type_ in (compute_types or {}).items():
            columns = (float_columns or {}).get(name, 0)
            self._tensors[name] = typed(model.tensors[name], type_, columns)

    def decode(
        self,
        x: object = None,
        *,
        prepared: bool = False,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        options: DecodeOptions | None = None,
        **keywords: Any,
    ) -> Result:
        """The best hypotheses of one source; keywords are the fields of DecodeOptions.

        Of a model without an encoder, x is the prompt that they continue.
        """
        chosen = DecodeOptions.of(self.model.generation, options, keywords)
        encoded = self._encode(x, prepared, inputs, features)
        best = (
            self._searched(encoded, chosen)
            if "decoder" in self.model.graphs
            else [self._labelled(encoded, chosen)]
        )
        main = encoded.read.get(self._inputs.main or "")
        ids = main if isinstance(main, list) else []
        given = inputs if x is None else x
        if "decoder" in self.model.graphs:
            best = finished(
                best,
                chosen,
                unknown=unknown_id(chosen.replace_unknowns, self._inputs),
                words=lambda: self._inputs.source_words(given, ids, prepared),
                logits=lambda target: np.stack(
                    [self._logits(values) for values in self._forced(encoded, target)]
                ),
            )
        return Result(best, self._inputs.source_tokens(ids))

    def score(
        self,
        x: object,
        target: object,
        *,
        prepared: bool = False,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
        length_penalty: float | None = None,
        length_penalty_kind: str | None = None,
        length_penalty_offset: int | None = None,
        coverage_penalty: float | None = None,
        end_tokens: object = None,
    ) -> Score:
        """A target under teacher forcing; the first end id is scored behind it. The options are
        those of DecodeOptions, by default the model's."""
        chosen = DecodeOptions.of(self.model.generation, None, {}).for_score(
            length_penalty=length_penalty,
            length_penalty_kind=length_penalty_kind,
            length_penalty_offset=length_penalty_offset,
            coverage_penalty=coverage_penalty,
            end_tokens=end_tokens,
        )
        ids = self._inputs.target(target)
        encoded = self._encode(x, prepared, inputs, features)
        coverage = 0.0
        if "decoder" in self.model.graphs:
            end = Constraints.of(chosen, self.model.end, self._inputs.target_ids).end
            scored = ids + list(end[:1])
            self.model.check_alignment(chosen)
            steps = self._forced(encoded, scored[:-1])
            if chosen.coverage_penalty and scored:
                coverage = chosen.coverage_penalty * coverage_of(self._alignments(steps))
            logits = np.stack([self._logits(values) for values in steps])
        else:
            scored, logits = ids, np.atleast_2d(self._encoder_logits(encoded))
            if len(scored) != len(logits):
                raise InputError(
                    f"the target has {len(scored)} tokens, must have {len(logits)}, one for each "
                    "that this model labels"
                )
        log_probs = self._log_probs(logits, "score")[np.arange(len(scored)), np.array(scored, int)]
        total = _sum(log_probs)
        score = score_of(total, len(scored), *chosen.penalty)
        return Score(log_prob=total, token_log_probs=log_probs, score=score + coverage)

    def encode(
        self,
        x: object = None,
        *,
        prepared: bool = False,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
    ) -> dict[str, Float64]:
        """The named outputs of the encoder, but for ids, which are for the decoder alone.

        An alignment is (query, memory), or (heads, query, memory) where there are several heads.
        """
        if "encoder" not in self.model.graphs:
            raise InputError("this model has no encoder: there is nothing to encode")
        outputs = self._encode(x, prepared, inputs, features).outputs
        return {
            name: _heads_first(value) if value.ndim == 3 else value
            for name, value in outputs.items()
            if value.dtype.kind == "f"
        }

    def forced_logits(self, x: object, target: object, *, prepared: bool = False) -> Float64:
        """(len(target) + 1, V): the logits (or log-probabilities, where the decoder gives them)
        of every step under teacher forcing."""
        steps = self.trace(x, target, prepared=prepared).steps
        return np.stack([self._logits(values) for values in steps])

    def trace(
        self,
        x: object = None,
        target: object = (),
        *,
        prepared: bool = False,
        inputs: Mapping[str, object] | None = None,
        features: object = None,
    ) -> Trace:
        """Every value of both graphs under teacher forcing, len(target) + 1 steps."""
        encoded = self._encode(x, prepared, inputs, features)
        if "decoder" not in self.model.graphs:
            return Trace(encoded.values, [])
        return Trace(encoded.values, self._forced(encoded, self._inputs.target(target)))

    def _encode(
        self,
        x: object,
        prepared: bool,
        inputs: Mapping[str, object] | None,
        features: object,
    ) -> _Encoded:
        if "encoder" not in self.model.graphs:
            prompt = self._inputs.prompt(x, inputs=inputs, features=features)
            return _Encoded(([] if self.model.start is None else [self.model.start]) + prompt)
        graph = self.model.graphs["encoder"]
        read = self._inputs.encoder(x, inputs=inputs, features=features, prepared=prepared)
        length = self._inputs.length(read)
        values: Values = {name: np.asarray(value) for name, value in read.items()}
        values = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in values.items()}
        if length is None and {"position", "source_length"} & set(graph.inputs):
            raise InputError("this model reads no sequence, so it has no positions to number")
        if "position" in graph.inputs:
            values["position"] = np.arange(length or 0)
        if "source_length" in graph.inputs:
            values["source_length"] = np.array([float(length or 0)])
        values = execute(graph, values, self._tensors, length=length or 0)
        outputs = {name: values[reference] for name, reference in graph.outputs.items()}
        fed = [-1 if self.model.start is None else self.model.start]
        return _Encoded(fed, values, outputs, read, length)

    # --- decoding ---

    def _first_state(self, encoded: _Encoded) -> Values:
        first: Values = {}
        for name, state in self.model.graphs["decoder"].states.items():
            size = state.type.size
            shape = (encoded.length or 0, size) if state.type.kind == "sequence" else (size,)
            first[name] = (
                np.zeros(shape)
                if state.initial is None
                else encoded.outputs[state.initial.removeprefix("encoder.")]
            )
        return first

    def _step(self, encoded: _Encoded, state: Values, token: int, step: int) -> Values:
        """All values of one decoder step."""
        graph = self.model.graphs["decoder"]
        values: Values = {"token": np.asarray(token)}
        if "step" in graph.inputs:
            if step >= graph.inputs["step"].size:
                raise InputError(
                    f"step {step} is outside the {graph.inputs['step'].size} steps of this model"
                )
            values["step"] = np.asarray(step)
        if "source_length" in graph.inputs:
            values["source_length"] = np.array([float(encoded.length or 0)])
        values |= {f"encoder.{name}": value for name, value in encoded.outputs.items()}
        values |= {f"state.{name}": value for name, value in state.items()}
        return execute(graph, values, self._tensors, step=step, length=encoded.length or 0)

    def _next_state(self, values: Values) -> Values:
        states = self.model.graphs["decoder"].states
        return {name: values[state.next] for name, state in states.items()}

    def _logits(self, values: Values) -> Float64:
        outputs = self.model.graphs["decoder"].outputs
        return values[outputs["log_probabilities" if self._normalised else "logits"]]

    def _alignments(self, steps: list[Values]) -> list[Float64]:
        name = self.model.graphs["decoder"].outputs["alignment"]
        return [values[name] for values in steps]

    def _log_probs(self, logits: Float64, where: str) -> NDArray[np.float32]:
        return (checked_log_probs if self._normalised else log_softmax)(logits, where)

    def _forced(self, encoded: _Encoded, target: list[int]) -> list[Values]:
        """The values of the steps that give target and one more id."""
        state = self._first_state(encoded)
        steps: list[Values] = []
        for number, token in enumerate([*encoded.fed, *target]):
            steps.append(self._step(encoded, state, token, number))
            state = self._next_state(steps[-1])
        return steps[len(encoded.fed) - 1 :]

    def _searched(self, encoded: _Encoded, options: DecodeOptions) -> list[Hypothesis]:
        graph = self.model.graphs["decoder"]
        before = len(encoded.fed) - 1
        limit = self.model.limit(options, encoded.length, steps_before=before)
        first = self._first_state(encoded)
        for number, token in enumerate(encoded.fed[:-1]):
            first = self._next_state(self._step(encoded, first, token, number))

        def step(state: Values, token: int, number: int) -> tuple[Values, Float64, Float64 | None]:
            values = self._step(encoded, state, token, number + before)
            reads = options.reads_alignment is not None
            alignment = values[graph.outputs["alignment"]] if reads else None
            return self._next_state(values), self._logits(values), alignment

        constraints = Constraints.of(options, self.model.end, self._inputs.target_ids)
        drawn = options.sampling(seed=0)
        paths = search(
            step,
            first,
            start=encoded.fed[-1],
            end=constraints.end,
            constraints=constraints,
            sampling=None if drawn is None else Sampling(*drawn),
            beam_size=options.beam_size,
            num_hypotheses=options.num_hypotheses,
            max_length=limit,
            log_probs=self._log_probs,
            min_length=options.min_length,
            rule=options.rule,
            finished_limit=options.finished_limit,
            length_penalty=options.length_penalty,
            length_penalty_kind=options.length_penalty_kind,
            length_penalty_offset=options.length_penalty_offset,
            coverage_penalty=options.coverage_penalty,
            beam_groups=options.beam_groups,
            diversity_penalty=options.diversity_penalty,
            max_nodes=options.rules()["max_nodes"],
        )
        return [self._hypothesis(path) for path in paths]

    def _hypothesis(self, path: Path) -> Hypothesis:
        ids = list(path.ids[:-1] if path.reason == "eos" else path.ids)
        return Hypothesis(
            ids=ids,
            tokens=self._inputs.target_tokens(ids),
            score=path.score,
            log_prob=path.log_prob,
            token_log_probs=np.array(path.log_probs, np.float32),
            attention=_attention_map(path) if path.alignments else None,
            finish_reason=path.reason,
        )

    # --- models without a decoder ---

    def _encoder_logits(self, encoded: _Encoded) -> Float64:
        if "logits" not in encoded.outputs:
            raise InputError("this model has neither a decoder nor logits: use encode")
        return encoded.outputs["logits"]

    def _labelled(self, encoded: _Encoded, options: DecodeOptions) -> Hypothesis:
        for name, default in DEFAULTS.items():
            if getattr(options, name) != default:
                raise InputError(
                    f"{name} is {getattr(options, name)!r}, but this model has no decoder: it "
                    "labels its input without a search"
                )
        logits = np.atleast_2d(self._encoder_logits(encoded))
        log_probs = log_softmax(logits, "logits")
        # argmax takes the first of equal ones: the lower id.
        ids = [int(i) for i in log_probs.argmax(axis=-1)]
        best = log_probs.max(axis=-1)
        total = _sum(best)
        return Hypothesis(ids, self._inputs.target_tokens(ids), total, total, best, None, "length")


def _sum(log_probs: NDArray[np.float32]) -> float:
    """float64, in order."""
    total = 0.0
    for value in log_probs:
        total += float(value)
    return total


def _attention_map(path: Path) -> NDArray[np.float32]:
    return _heads_first(np.stack(path.alignments)).astype(np.float32)


def _heads_first(weights: Float64) -> Float64:
    """(target, source, heads) as (target, source), or (heads, target, source) for several heads."""
    return weights[:, :, 0] if weights.shape[2] == 1 else np.moveaxis(weights, 2, 0)
