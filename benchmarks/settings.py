"""Threads and memory settings of every contender, in one place. Imported before NumPy, because
BLAS and OpenMP read their environment when they are loaded."""

import os
from typing import Any

THREADS = 1
PRECISION = "float32"

for _name in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
):
    os.environ[_name] = str(THREADS)


def torch_settings() -> None:
    """One thread inside operators and between them."""
    import torch

    torch.set_num_threads(THREADS)
    torch.set_num_interop_threads(THREADS)


def onnx_options() -> Any:
    """Session options: every optimisation, the calling thread alone, no spinning."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def openvino_options() -> dict[str, Any]:
    """One thread, one stream, answers as early as possible, no lower precision."""
    return {
        "INFERENCE_NUM_THREADS": THREADS,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
