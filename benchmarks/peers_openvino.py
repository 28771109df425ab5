"""The workloads in OpenVINO's CPU plugin: the whole-sentence graphs of `peers_onnx`, read from
their ONNX form. One thread, one stream, float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import openvino

from .models import GruWeights
from .peers_onnx import G2PParts, GruParts, Weights, sentence_model
from .settings import openvino_options

Decode = Callable[[Sequence[int], int], list[int]]


def whole_sentence(model: bytes) -> Decode:
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", openvino_options())
    request = compiled.create_infer_request()
    bound: dict[tuple[int, int], tuple[np.ndarray, openvino.Tensor, openvino.Tensor]] = {}

    def decode(source: Sequence[int], steps: int) -> list[int]:
        key = len(source), steps
        if key not in bound:
            ids = np.zeros(len(source), np.int64)
            count = np.array(steps, np.int64)
            tensors = [openvino.Tensor(array, shared_memory=True) for array in (ids, count)]
            bound[key] = ids, tensors[0], tensors[1]
        ids, source_tensor, steps_tensor = bound[key]
        ids[:] = source
        request.set_tensor("source", source_tensor)
        request.set_tensor("steps", steps_tensor)
        request.infer()
        answer: list[int] = request.get_output_tensor().data.reshape(-1).tolist()
        return answer

    return decode


def contenders(weights: Weights) -> dict[str, Decode]:
    made: dict[str, Decode] = {}
    for suffix, written_out in (("", False), (", cells written out", True)):
        parts = (
            GruParts(weights, written_out)
            if isinstance(weights, GruWeights)
            else G2PParts(weights, written_out)
        )
        made[f"openvino one graph{suffix}"] = whole_sentence(sentence_model(parts))
    return made
