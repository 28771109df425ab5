"""Small ONNX files for the tests: single nodes, with weights as initializers. Knows the onnx
package; never the importer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def write(
    path: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[Any, ...]],
    outputs: Sequence[str],
    initializers: Mapping[str, np.ndarray],
    *,
    ids: Mapping[str, int] = {},
    opset: int = 17,
    functions: Sequence[Any] = (),
) -> Path:
    """A model file; shapes of inputs may hold names, outputs have no shape. ids: the types of
    inputs that are no floats."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [
            helper.make_tensor_value_info(name, ids.get(name, TensorProto.FLOAT), shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    domains = {function.domain for function in functions}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)
    save(model, path)
    return path


def recurrent(
    path: Path,
    kind: str,
    *,
    hidden: int = 3,
    inputs: int = 2,
    direction: str = "forward",
    bias: bool = True,
    peepholes: bool = False,
    initial: bool = True,
    lengths: bool = False,
    seed: int = 0,
    **attributes: Any,
) -> Path:
    """One recurrent node over X [S, 1, I] (layout 1: [1, S, I]) with random weights."""
    random = np.random.default_rng(seed)
    count, gates = 2 if direction == "bidirectional" else 1, GATES[kind]
    states = ["h", "c"] if kind == "LSTM" else ["h"]

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    weights = {
        "W": normal(count, gates * hidden, inputs), "R": normal(count, gates * hidden, hidden)
    }  # fmt: skip
    if bias:
        weights["B"] = normal(count, 2 * gates * hidden)
    if peepholes:
        weights["P"] = normal(count, 3 * hidden)
    layout = attributes.get("layout", 0)
    given = {"X": (1, "S", inputs) if layout else ("S", 1, inputs)}
    if lengths:
        given["lengths"] = (1,)
    if initial:
        shape = (1, count, hidden) if layout else (count, 1, hidden)
        given |= {f"initial_{state}": shape for state in states}
    starts = [f"initial_{state}" if initial else "" for state in states]
    names = ["X", "W", "R", "B" if bias else "", "lengths" if lengths else "", *starts]
    names += ["P"] if peepholes else []
    outputs = ["Y", *(f"Y_{state}" for state in states)]
    node = helper.make_node(
        kind, names, outputs, "node", hidden_size=hidden, direction=direction, **attributes
    )
    ids = {"lengths": TensorProto.INT32} if lengths else {}
    return write(path, [node], given, outputs, weights, ids=ids)
