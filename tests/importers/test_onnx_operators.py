"""Single operators of the ONNX importer, in graphs of a few nodes: read as onnxruntime reads them,
or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402
from onnx_models import write  # noqa: E402

from s2s_engine import Engine, ModelFormatError  # noqa: E402
from s2s_engine.importers.loading import open_foreign  # noqa: E402
from s2s_engine.importers.verification import verify  # noqa: E402

pytestmark = pytest.mark.parity("onnx", "onnxruntime")


def verified(path: Path) -> None:
    imported = open_foreign(path, None, {})
    found = verify(imported.model, imported.peer())
    assert found.passed, str(found)


def lookup(nodes: list[Any], folder: Path, opset: int = 17, **more: Any) -> Path:
    """source -> table -> x [1, S, 4]; the nodes make `logits` of it."""
    random = np.random.default_rng(0)
    weights = {
        "table": random.standard_normal((7, 4)).astype(np.float32),
        "matrix": random.standard_normal((4, 5)).astype(np.float32),
        "axis2": np.array([2]), "axis0": np.array([0]), "one": np.array([1]),
        "two": np.array([2]), "parts": np.array([1, 3]),
        **more.pop("weights", {}),
    }  # fmt: skip
    first = helper.make_node("Gather", ["table", "source"], ["x"])
    return write(
        folder / "graph.onnx", [first, *nodes], {"source": (1, "S")}, ["logits"], weights,
        ids={"source": TensorProto.INT64}, opset=opset, **more,
    )  # fmt: skip


node = helper.make_node
WRITTEN: dict[str, tuple[int, list[Any]]] = {
    "split, attribute": (11, [
        node("Split", ["x"], ["a", "b"], axis=2, split=[1, 3]),
        node("Concat", ["b", "a"], ["logits"], axis=2),
    ]),
    "split, input": (13, [
        node("Split", ["x", "parts"], ["a", "b"], axis=2),
        node("Concat", ["b", "a"], ["logits"], axis=-1),
    ]),
    "split, number": (18, [
        node("Split", ["x"], ["a", "b"], axis=-1, num_outputs=2),
        node("Sub", ["b", "a"], ["logits"]),
    ]),
    "sum, attribute": (11, [
        node("ReduceSum", ["x"], ["a"], axes=[2], keepdims=1),
        node("Add", ["x", "a"], ["logits"]),
    ]),
    "sum, input": (13, [
        node("ReduceSum", ["x", "axis2"], ["a"], keepdims=1),
        node("Mul", ["x", "a"], ["logits"]),
    ]),
    "mean over positions": (18, [
        node("ReduceMean", ["x", "one"], ["a"], keepdims=1),
        node("Add", ["x", "a"], ["logits"]),
    ]),
    "largest over positions": (17, [
        node("ReduceMax", ["x"], ["a"], axes=[1], keepdims=1),
        node("Sub", ["x", "a"], ["logits"]),
    ]),
    "squeeze, attribute": (11, [
        node("Unsqueeze", ["x"], ["a"], axes=[0]), node("Squeeze", ["a"], ["b"], axes=[1]),
        node("MatMul", ["b", "matrix"], ["logits"]),
    ]),
    "squeeze, input": (13, [
        node("Unsqueeze", ["x", "axis0"], ["a"]), node("Squeeze", ["a", "one"], ["b"]),
        node("MatMul", ["b", "matrix"], ["logits"]),
    ]),
    "softmax over features": (17, [
        node("Softmax", ["x"], ["a"], axis=-1), node("MatMul", ["a", "matrix"], ["logits"]),
    ]),
    "self attention of a vector": (17, [
        node("ReduceMean", ["x"], ["q"], axes=[1], keepdims=1),
        node("Transpose", ["x"], ["k"], perm=[0, 2, 1]), node("MatMul", ["q", "k"], ["e"]),
        node("Softmax", ["e"], ["w"], axis=-1), node("MatMul", ["w", "x"], ["c"]),
        node("Add", ["x", "c"], ["logits"]),
    ]),
    "scaled, and weights by position": (17, [
        node("ReduceMax", ["x"], ["q"], axes=[1], keepdims=1), node("Mul", ["q", "x"], ["p"]),
        node("ReduceSum", ["p", "axis2"], ["e"], keepdims=1), node("Div", ["e", "half"], ["s"]),
        node("Softmax", ["s"], ["w"], axis=1), node("Mul", ["w", "x"], ["v"]),
        node("ReduceSum", ["v", "one"], ["c"], keepdims=1), node("Add", ["x", "c"], ["logits"]),
    ]),
    "elementwise": (17, [
        node("Tanh", ["x"], ["a"]), node("Sigmoid", ["a"], ["b"]), node("Relu", ["b"], ["c"]),
        node("HardSigmoid", ["c"], ["d"]), node("Softplus", ["d"], ["e"]),
        node("Neg", ["e"], ["f"]),
        node("Dropout", ["f"], ["g"]), node("Sub", ["half", "g"], ["logits"]),
    ]),
    "first, last and backwards": (17, [
        node("Gather", ["x", "zero"], ["a"], axis=1), node("Gather", ["x", "minus"], ["b"], axis=1),
        node("Add", ["a", "b"], ["c"]), node("Unsqueeze", ["c", "one"], ["d"]),
        node("Slice", ["x", "minus1", "low", "one", "minus1"], ["e"]),
        node("Add", ["d", "e"], ["logits"]),
    ]),
}  # fmt: skip
NUMBERS = {
    "half": np.array([0.5], np.float32), "zero": np.array(0), "minus": np.array(-1),
    "minus1": np.array([-1]), "low": np.array([-(1 << 62)]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_operators(name: str, tmp_path: Path) -> None:
    opset, nodes = WRITTEN[name]
    verified(lookup(nodes, tmp_path, opset, weights=NUMBERS))


def test_functions_and_decided_branches_are_read_as_their_nodes(tmp_path: Path) -> None:
    body = [node("MatMul", ["a", "w"], ["b"]), node("HardSigmoid", ["b"], ["c"])]
    attribute = body[1].attribute.add()
    attribute.name, attribute.ref_attr_name = "alpha", "alpha"
    attribute.type = onnx.AttributeProto.FLOAT
    function = helper.make_function(
        "own", "Layer", ["a", "w"], ["c"], body, [helper.make_opsetid("", 17)], ["alpha"]
    )
    branches = [
        helper.make_graph([node("Identity", ["y"], [f"b{n}"])], "g", [], [
            helper.make_tensor_value_info(f"b{n}", TensorProto.FLOAT, None)
        ]) for n in range(2)
    ]  # fmt: skip
    nodes = [
        node("Layer", ["x", "matrix"], ["y"], domain="own", alpha=0.2),
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "axis0"], ["n"]),
        node("Equal", ["n", "one"], ["is"]),
        node("If", ["is"], ["logits"], then_branch=branches[0], else_branch=branches[1]),
    ]  # fmt: skip
    verified(lookup(nodes, tmp_path, functions=[function]))


# --- what is refused ---


REFUSED: dict[str, tuple[list[Any], str]] = {
    "Erf": ([node("Erf", ["x"], ["logits"], name="gelu")], "node 'gelu' .* no translation"),
    "Where": ([
        node("Equal", ["source", "one"], ["m"], name="mask"),
        node("Cast", ["m"], ["logits"], to=1),
    ], r"node 'mask' \(Equal\): .* masks are not read"),
    "unrolled": ([
        node("Gather", ["source", "zero"], ["t"], axis=1, name="step"),
        node("Gather", ["table", "t"], ["logits"]),
    ], "node 'step' .* unrolled"),
    "own": ([node("Own", ["x"], ["logits"], domain="own")], "operators of 'own' are not read"),
    "quantised": (
        [node("DynamicQuantizeLSTM", ["x"], ["logits"], domain="com.microsoft")],
        "operators of 'com.microsoft' are not read",
    ),
    "matrix": ([node("MatMul", ["x", "table"], ["logits"])], r"a matrix \(4, 7\) meets \[4\]"),
    "positions meet positions": ([
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["logits"]),
    ], "every position asks every position"),
    "over positions": ([node("Softmax", ["x"], ["logits"], axis=1)], "other than one score"),
    "nothing": ([node("Tanh", ["nothing"], ["logits"])], "reads 'nothing', which nothing before"),
    "one position": ([node("Gather", ["x", "two"], ["logits"], axis=1)], "unrolled"),
    "a shape": ([node("Reshape", ["x", "wrong"], ["logits"])], "becomes|cannot become"),
    "ids": ([node("Add", ["source", "one"], ["logits"])], "ids are computed with"),
    "training": (
        [node("Dropout", ["x", "half", "true"], ["logits"])], "is in training mode",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_node_without_translation_is_named(name: str, tmp_path: Path) -> None:
    nodes, message = REFUSED[name]
    weights = {**NUMBERS, "wrong": np.array([5, 4]), "true": np.array(True)}
    path = lookup(nodes, tmp_path, weights=weights)
    with pytest.raises(ModelFormatError, match=message) as error:
        Engine.load(path)
    assert "encoder graph, node" in str(error.value)
    assert nodes[0].op_type in str(error.value) or nodes[-1].op_type in str(error.value)


@pytest.mark.parametrize("op,copies", [("Add", 40), ("Add", 9000), ("Concat", 40)])
def test_long_chains_are_bounded(op: str, copies: int, tmp_path: Path) -> None:
    more = {"axis": 2} if op == "Concat" else {}
    nodes = [
        node(op, [f"a{n}" if n else "x", "x" if copies > 99 else f"a{n}" if n else "x"],
             [f"a{n + 1}"], **more)
        for n in range(copies)
    ]  # fmt: skip
    last = [
        node("Tanh", [f"a{copies}"], ["t"]), node("MatMul", ["t", "column"], ["e"]),
        node("Softmax", ["e"], ["w"], axis=1), node("Mul", ["w", "x"], ["v"]),
        node("ReduceSum", ["v", "one"], ["logits"], keepdims=1),
    ]  # fmt: skip
    column = np.ones((4, 1), np.float32)
    path = lookup([*nodes, *last], tmp_path, weights={"column": column})
    if (op, copies) == ("Add", 40):
        Engine.load(path).close()
        return
    with pytest.raises(ModelFormatError, match=r"more than|at most|4096"):
        Engine.load(path)


def test_external_data_is_refused(tmp_path: Path) -> None:
    path = lookup([node("Tanh", ["x"], ["logits"])], tmp_path)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ModelFormatError, match="stands in another file"):
        Engine.load(path)


@pytest.mark.parametrize("shape", [(1, "S", 0), (1, "S", 1 << 40), (1, "S", -2), ()])
def test_shapes_that_no_value_has_are_refused(shape: tuple[Any, ...], tmp_path: Path) -> None:
    path = write(
        tmp_path / "g.onnx", [node("Tanh", ["x"], ["logits"])], {"x": shape}, ["logits"], {}
    )
    with pytest.raises(ModelFormatError, match=r"must have sizes from 1|fixed length"):
        Engine.load(path)


def test_a_scalar_may_be_the_number_of_positions(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["table", "source"], ["x"]),
        node("Reshape", ["length", "one"], ["shape"]),
        node("Concat", ["shape", "sizes"], ["whole"], axis=0),
        node("Reshape", ["x", "whole"], ["logits"]),
    ]
    weights = {
        "table": np.ones((7, 4), np.float32), "one": np.array([1]), "sizes": np.array([1, 4])
    }  # fmt: skip
    inputs = {"source": (1, "S"), "length": ()}
    ids = dict.fromkeys(inputs, TensorProto.INT64)
    path = write(tmp_path / "g.onnx", nodes, inputs, ["logits"], weights, ids=ids)
    verified(path)
