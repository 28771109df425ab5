"""ONNX Runtime: step by step (an encoder and a step session, IO binding over buffers bound once)
and the whole sentence as one `Loop`. Knows sessions and buffers; nothing of the graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..workloads import Workload
from .onnx_graph import INT64
from .onnx_models import Models
from .wiring import Peer, Wiring, backtrack

Found = Mapping[str, NDArray[Any]]


def session(model: bytes, threads: int) -> Any:
    """Every optimisation, no spinning: sessions of one process would spin against each other."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model, sess_options=options, providers=["CPUExecutionProvider"]
    )


def shared(array: NDArray[Any]) -> Any:
    """An OrtValue over the array's own memory."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


class WholeSentence:
    """One session and one call per turn; buffers are bound once per length and steps."""

    def __init__(self, models: Models, threads: int) -> None:
        self._models = models
        self._session = session(models.sentence(), threads)
        self._bound: dict[tuple[int, int], tuple[NDArray[np.int64], Any, dict[str, Any], Any]] = {}

    def __call__(self, sources: Sequence[Sequence[int]], steps: int) -> list[list[int]]:
        key = len(sources[0]), steps
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._bind(*key)
        ids, binding, found, _ = bound
        for column, source in enumerate(sources):
            ids[:, column] = source
        if found:
            self._session.run_with_iobinding(binding)
            return answers(self._models.wiring, found)
        names = [name for name, *_ in self._models.found]
        for name in names:
            binding.bind_output(name, "cpu")  # of as many steps as this search takes
        self._session.run_with_iobinding(binding)
        outputs = dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))
        return answers(self._models.wiring, outputs)

    def _bind(self, length: int, steps: int) -> tuple[NDArray[np.int64], Any, dict[str, Any], Any]:
        ids = np.zeros((length, self._models.wiring.batch), np.int64)
        values = [shared(ids), shared(np.array(steps, np.int64))]
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("source", values[0])
        binding.bind_ortvalue_input("steps", values[1])
        found = {}
        for name, type_, shape in self._models.found:
            if self._models.wiring.end is not None and self._models.wiring.beam > 1:
                continue  # a search that may end early
            found[name] = np.zeros((steps, *shape), np.int64 if type_ == INT64 else np.float32)
            values.append(shared(found[name]))
            binding.bind_ortvalue_output(name, values[-1])
        return ids, binding, found, values


class StepByStep:
    """Two sessions. Carried values go to and fro between two sets of buffers."""

    def __init__(self, models: Models, threads: int) -> None:
        self._models = models
        self._encoder = session(models.encoder(), threads)
        self._step = session(models.step(), threads)
        self._bound: dict[int, Any] = {}

    def __call__(self, sources: Sequence[Sequence[int]], steps: int) -> list[list[int]]:
        length = len(sources[0])
        if length not in self._bound:
            self._bound[length] = self._bind(length)
        ids, encoder, sets, ended, bindings, _ = self._bound[length]
        for column, source in enumerate(sources):
            ids[:, column] = source
        for name, value in self._models.first().items():
            sets[0][name][:] = value
        self._encoder.run_with_iobinding(encoder)
        found: dict[str, list[NDArray[Any]]] = {name: [] for name, *_ in self._models.found}
        for step in range(steps):
            self._step.run_with_iobinding(bindings[step & 1])
            after = sets[(step + 1) & 1]
            found["tokens"].append(after["token"].copy())
            if "rows" in found:
                found["rows"].append(after["parents"].copy())
            for name, value in ended.items():
                found[name].append(value.copy())
            if ended and after["scores"][0, 0] <= after["best_ended"][0]:
                break
        return answers(self._models.wiring, {name: np.stack(v) for name, v in found.items()})

    def _bind(self, length: int) -> Any:
        models = self._models

        def zeros(type_: int, shape: Sequence[object]) -> NDArray[Any]:
            sizes = [length if n == "S" else n for n in shape]
            return np.zeros(sizes, np.int64 if type_ == INT64 else np.float32)  # type: ignore[arg-type]

        ids = np.zeros((length, models.wiring.batch), np.int64)
        held = {name: zeros(0, shape) for name, shape in models.held_shapes()}
        sets = [{name: zeros(type_, shape) for name, type_, shape in models.carried} for _ in "ab"]
        ended = {
            name: zeros(type_, shape)
            for name, type_, shape in models.found
            if name.startswith("ended")
        }
        values = {
            id(array): shared(array)
            for array in (
                ids,
                *held.values(),
                *sets[0].values(),
                *sets[1].values(),
                *ended.values(),
            )
        }
        encoder = self._encoder.io_binding()
        encoder.bind_ortvalue_input("source", values[id(ids)])
        states = {name: sets[0][name] for name, *_ in models.states}
        for name, array in {**states, **held}.items():
            encoder.bind_ortvalue_output(name, values[id(array)])
        used = {one.name for one in self._step.get_inputs()}
        bindings = []
        for now, after in ((0, 1), (1, 0)):
            binding = self._step.io_binding()
            for name, array in {**sets[now], **held}.items():
                if name in used:
                    binding.bind_ortvalue_input(name, values[id(array)])
            for name, array in sets[after].items():
                binding.bind_ortvalue_output(f"next_{name}", values[id(array)])
            for name, array in ended.items():
                binding.bind_ortvalue_output(name, values[id(array)])
            bindings.append(binding)
        return ids, encoder, sets, ended, bindings, values


def answers(wiring: Wiring, found: Found) -> list[list[int]]:
    tokens = found["tokens"]
    if wiring.beam == 1:
        ids: list[list[int]] = tokens.T.tolist()
        return ids
    rows = found["rows"]
    if "ended_score" in found and np.isfinite(found["ended_score"]).any():
        last = int(found["ended_score"][:, 0].argmax())
        return [backtrack(tokens[:last], rows[:last], int(found["ended_parent"][last, 0]))]
    return [backtrack(tokens, rows, sentence * wiring.beam) for sentence in range(wiring.batch)]


NAMES = {"float32": "", "int8": " dynamic int8", "nbits": " MatMulNBits"}


def _peers(workload: Workload, threads: int, precision: str) -> list[Peer]:
    models, suffix = Models(Wiring(workload), precision), NAMES[precision]
    exact = precision == "float32"
    return [
        Peer(f"onnxruntime steps{suffix}", StepByStep(models, threads), exact),
        Peer(f"onnxruntime Loop{suffix}", WholeSentence(models, threads), exact),
    ]


def float32(workload: Workload, threads: int) -> list[Peer]:
    return _peers(workload, threads, "float32")


def int8(workload: Workload, threads: int) -> list[Peer]:
    return _peers(workload, threads, "int8")


def nbits(workload: Workload, threads: int) -> list[Peer]:
    return _peers(workload, threads, "nbits")
