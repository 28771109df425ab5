"""OpenVINO's CPU plugin on the whole-sentence graphs of `onnx_models`, in float32 and in bfloat16.
Knows OpenVINO's settings; nothing of what is in the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from ..workloads import Workload
from .onnx import answers
from .onnx_models import Models
from .wiring import Decode, Peer, Wiring


def whole_sentence(models: Models, threads: int, precision: str) -> Decode:
    """One stream, answers as early as possible."""
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(core.read_model(models.sentence()), "CPU", options)
    request = compiled.create_infer_request()
    bound: dict[tuple[int, int], tuple[NDArray[np.int64], Any, Any]] = {}

    def decode(sources: Sequence[Sequence[int]], steps: int) -> list[list[int]]:
        key = len(sources[0]), steps
        if key not in bound:
            ids = np.zeros((len(sources[0]), models.wiring.batch), np.int64)
            count = np.array(steps, np.int64)
            tensors = [openvino.Tensor(array, shared_memory=True) for array in (ids, count)]
            bound[key] = ids, tensors[0], tensors[1]
        ids, source, count = bound[key]
        for column, one in enumerate(sources):
            ids[:, column] = one
        request.set_tensor("source", source)
        request.set_tensor("steps", count)
        request.infer()
        return answers(
            models.wiring, {name: request.get_tensor(name).data for name, *_ in models.found}
        )

    return decode


def float32(workload: Workload, threads: int) -> list[Peer]:
    models = Models(Wiring(workload), "float32")
    return [Peer("openvino Loop", whole_sentence(models, threads, "f32"))]


def bfloat16(workload: Workload, threads: int) -> list[Peer]:
    models = Models(Wiring(workload), "float32")
    decode = whole_sentence(models, threads, "bf16")
    return [Peer("openvino Loop bfloat16", decode, exact=False)]
