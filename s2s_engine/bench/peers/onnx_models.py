"""The three models of a workload: encoder, search step, and the whole sentence as one `Loop`. Knows
what a search carries from step to step; never how cells are written, nor who runs the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from .onnx_graph import BOOL, FLOAT, INT64, Translation, Writer, info, serialised
from .wiring import Wiring


class Models:
    """Values that a step changes are *carried*: the token, the parents and scores of a beam, the
    best ended score where there is an end token, the states. Others are *held*. A step also gives
    what is *found*: tokens, parents, and who ended."""

    def __init__(self, wiring: Wiring, precision: str) -> None:
        self.wiring, self.precision = wiring, precision
        rows = wiring.batch * wiring.beam
        self.carried: list[tuple[str, int, tuple[int, ...]]] = [("token", INT64, (rows,))]
        self.found: list[tuple[str, int, tuple[int, ...]]] = [("tokens", INT64, (rows,))]
        if wiring.beam > 1:
            self.carried += [("parents", INT64, (rows,)), ("scores", FLOAT, (rows, 1))]
            self.found += [("rows", INT64, (rows,))]
            if wiring.end is not None:
                self.carried += [("best_ended", FLOAT, (1,))]
                self.found += [("ended_score", FLOAT, (1,)), ("ended_parent", INT64, (1,))]
        self.states = [(state.name, FLOAT, (rows, state.size)) for state in wiring.states]
        self.carried += self.states

    def first(self) -> dict[str, NDArray[Any]]:
        """The carried values before the first step, but for the states."""
        wiring = self.wiring
        rows = wiring.batch * wiring.beam
        scores = np.full((wiring.batch, wiring.beam), -np.inf, np.float32)
        scores[:, 0] = 0
        every: dict[str, NDArray[Any]] = {
            "token": np.full(rows, wiring.start, np.int64),
            "parents": np.arange(rows, dtype=np.int64),
            "scores": scores.reshape(rows, 1),
            "best_ended": np.array([-np.inf], np.float32),
        }
        return {name: every[name] for name, *_ in self.carried if name in every}

    # --- parts ---

    def _encode(self, w: Writer) -> tuple[list[str], list[str]]:
        """(states, held) from `source` [S, batch]; each hypothesis has a row of its own."""
        wiring = self.wiring
        encoder = Translation(wiring, wiring.encoder, w)
        encoder.values["tokens"] = "source"
        encoder.write()
        outputs = {
            name: encoder.values.get(ref, "") for name, ref in wiring.encoder.outputs.items()
        }
        states = []
        repeated = np.repeat(np.arange(wiring.batch), wiring.beam)
        for state in wiring.states:
            if state.initial is None:
                zeros = np.zeros((len(repeated), state.size), np.float32)
                states.append(w("Identity", w.weight(zeros)))
            else:
                states.append(w("Gather", outputs[state.initial], w.weight(repeated), axis=0))
        one = wiring.batch == 1
        held = []
        for name in wiring.held:
            x = outputs[name.output]
            if one:
                x = w("Squeeze", x, w.ids(1))
                x = w("Transpose", x, perm=(1, 0)) if name.form == "transposed" else x
            else:
                x = w("Transpose", x, perm=(1, 2, 0) if name.form == "transposed" else (1, 0, 2))
            held.append(x)
        return states, held

    def _step(self, w: Writer) -> tuple[list[str], list[str], str]:
        """(carried after, found, whether to go on) from carried and held values by their names."""
        wiring = self.wiring
        decoder = Translation(wiring, wiring.decoder, w)
        decoder.values["token"] = "token"
        for state in wiring.states:
            value = state.name
            if wiring.beam > 1:
                value = w("Gather", value, "parents", axis=0)
            decoder.values[f"state.{state.name}"] = value
        decoder.write()
        logits = decoder.values[wiring.logits]
        states = [decoder.values[state.next] for state in wiring.states]
        if wiring.beam == 1:
            token = w("ArgMax", logits, axis=1, keepdims=0)
            return [token, *states], [token], "condition"
        token, rows, scores, ended = self._beam(w, logits)
        if not ended:
            return [token, rows, scores, *states], [token, rows], "condition"
        score, parent = ended
        best = w("Max", "best_ended", score)
        leader = w("Reshape", w("Slice", scores, w.ids(0), w.ids(1), w.ids(0)), w.ids(1))
        go_on = w("Reshape", w("Greater", leader, best), w.weight(np.array([], np.int64)))
        return [token, rows, scores, best, *states], [token, rows, score, parent], go_on

    def _beam(self, w: Writer, logits: str) -> tuple[str, str, str, list[str]]:
        """(tokens, rows of their parents, scores, [best ended score, its row])."""
        wiring, size, batch = self.wiring, self.wiring.beam, self.wiring.batch
        total = w("Add", w("LogSoftmax", logits, axis=1), "scores")
        total = w("Reshape", total, w.ids(batch, size * wiring.vocabulary))
        width = size if wiring.end is None else 2 * size
        scores, index = w.many("TopK", total, w.ids(width), outputs=2, axis=1)
        vocabulary = w.ids(wiring.vocabulary)
        token, parent = w("Mod", index, vocabulary), w("Div", index, vocabulary)
        ended: list[str] = []
        if wiring.end is not None:
            ends = w("Equal", token, w.ids(wiring.end))
            none = w.weight(np.array([-np.inf], np.float32))
            best, at = w.many("TopK", w("Where", ends, scores, none), w.ids(1), outputs=2, axis=1)
            ended = [
                w("Reshape", best, w.ids(1)),
                w("Reshape", w("GatherElements", parent, at, axis=1), w.ids(1)),
            ]
            live = w("Where", ends, none, scores)
            scores, at = w.many("TopK", live, w.ids(size), outputs=2, axis=1)
            token = w("GatherElements", token, at, axis=1)
            parent = w("GatherElements", parent, at, axis=1)
        first = w.weight(np.arange(batch, dtype=np.int64)[:, None] * size)
        rows = w("Reshape", w("Add", parent, first), w.ids(-1))
        return w("Reshape", token, w.ids(-1)), rows, w("Reshape", scores, w.ids(-1, 1)), ended

    def held_shapes(self) -> list[tuple[str, tuple[Any, ...]]]:
        batch = () if self.wiring.batch == 1 else (self.wiring.batch,)
        shapes: list[tuple[str, tuple[object, ...]]] = []
        for held in self.wiring.held:
            size = self.wiring.types["decoder"][f"encoder.{held.output}"].size
            form: tuple[object, ...] = (size, "S") if held.form == "transposed" else ("S", size)
            shapes.append((held.name, (*batch, *form)))
        return shapes

    # --- models ---

    def encoder(self) -> bytes:
        w = Writer("", self.precision)
        states, held = self._encode(w)
        shapes: list[tuple[str, Sequence[object]]] = [
            *((name, shape) for name, _, shape in self.states),
            *self.held_shapes(),
        ]
        for (name, _), value in zip(shapes, [*states, *held], strict=True):
            w.name(value, name)
        outputs = [info(name, FLOAT, shape) for name, shape in shapes]
        return serialised(w, [info("source", INT64, ["S", self.wiring.batch])], outputs)

    def step(self) -> bytes:
        w = Writer("", self.precision)
        carried, found, _ = self._step(w)
        inputs = [info(*one) for one in self.carried]
        inputs += [info(name, FLOAT, shape) for name, shape in self.held_shapes()]
        outputs = []
        for (name, type_, shape), value in zip(self.carried, carried, strict=True):
            w.name(value, f"next_{name}")
            outputs.append(info(f"next_{name}", type_, shape))
        for (name, type_, shape), value in zip(self.found, found, strict=True):
            if name.startswith("ended"):
                w.name(value, name)
                outputs.append(info(name, type_, shape))
        return serialised(w, inputs, outputs)

    def sentence(self) -> bytes:
        """source [S, batch], steps [] -> what is found, with a first axis of steps."""
        w, body = Writer("", self.precision), Writer("step_", self.precision)
        states, held = self._encode(w)
        # Values of the outer graph that no step changes are read from inside by their name.
        for one, value in zip(self.wiring.held, held, strict=True):
            w.name(value, one.name)
        carried, found, go_on = self._step(body)
        body.name(go_on, "condition_out")
        outputs = [info("condition_out", BOOL, [])]
        for (name, type_, shape), value in zip(self.carried, carried, strict=True):
            body.name(value, f"{name}_out")
            outputs.append(info(f"{name}_out", type_, shape))
        for (name, type_, shape), value in zip(self.found, found, strict=True):
            body.name(value, f"{name}_found")
            outputs.append(info(f"{name}_found", type_, shape))
        inputs = [
            info("iteration", INT64, []),
            info("condition", BOOL, []),
            *(info(*one) for one in self.carried),
        ]
        inner = helper.make_graph(body.nodes, "step", inputs, outputs, body.initializers)
        first = [w.weight(array) for array in self.first().values()]
        count = len(self.carried) + len(self.found)
        results = w.many("Loop", "steps", "", *first, *states, outputs=count, body=inner)
        for (name, *_), value in zip(self.found, results[len(self.carried) :], strict=True):
            w.name(value, name)
        return serialised(
            w,
            [info("source", INT64, ["S", self.wiring.batch]), info("steps", INT64, [])],
            [info(name, type_, ["T", *shape]) for name, type_, shape in self.found],
        )
