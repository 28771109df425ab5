"""Recurrent ONNX nodes, one to a file: against onnxruntime, and the format's own test cases."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_models import recurrent, write  # noqa: E402

from s2s_engine import Engine, ModelFormatError  # noqa: E402
from s2s_engine.importers.loading import open_foreign  # noqa: E402
from s2s_engine.importers.readers.onnx_files import read_onnx_tensor  # noqa: E402
from s2s_engine.importers.verification import verify  # noqa: E402

SHARED = os.environ.get("S2S_SHARED_DATA")
CASES = sorted(Path(SHARED, "onnx_node_tests").glob("test_*")) if SHARED else []
pytestmark = [pytest.mark.parity("onnx"), pytest.mark.parity("onnxruntime")]

DIRECTIONS = ("forward", "reverse", "bidirectional")
FUNCTIONS = {
    "RNN": (["Relu"], ["HardSigmoid"], ["Affine"]),
    "GRU": (["HardSigmoid", "Softplus"], ["Sigmoid", "Relu"]),
    "LSTM": (["HardSigmoid", "Tanh", "Relu"], ["Sigmoid", "Softplus", "Tanh"]),
}


def verified(path: Path) -> None:
    """The node is onnxruntime's."""
    imported = open_foreign(path, None, {"logits": "Y"})
    found = verify(imported.model, imported.peer())
    assert found.passed, str(found)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_node_is_onnxruntimes(kind: str, direction: str, bias: bool, tmp_path: Path) -> None:
    path = tmp_path / "node.onnx"
    for number, (initial, lengths) in enumerate(product((True, False), repeat=2)):
        more = {"linear_before_reset": number % 2} if kind == "GRU" else {}
        recurrent(
            path, kind, direction=direction, bias=bias, initial=initial, lengths=lengths,
            seed=number, **more,
        )  # fmt: skip
        verified(path)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("forget", [0, 1])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_every_branch_of_an_lstm(
    direction: str, peepholes: bool, forget: int, clip: float | None, tmp_path: Path
) -> None:
    more = {} if clip is None else {"clip": clip}
    path = recurrent(
        tmp_path / "node.onnx", "LSTM", direction=direction, peepholes=peepholes,
        input_forget=forget, **more,
    )  # fmt: skip
    verified(path)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind,reset", [("GRU", 0), ("GRU", 1), ("RNN", None)])
def test_a_clip_bounds_what_functions_read(
    direction: str, kind: str, reset: int | None, tmp_path: Path
) -> None:
    more = {} if reset is None else {"linear_before_reset": reset}
    verified(recurrent(tmp_path / "node.onnx", kind, direction=direction, clip=0.5, **more))


@pytest.mark.parametrize(
    "kind,functions", [(kind, names) for kind, listed in FUNCTIONS.items() for names in listed]
)
def test_functions(kind: str, functions: list[str], tmp_path: Path) -> None:
    alphas = [1.0 for name in functions if name == "Affine"]
    more = {"activation_alpha": alphas} if alphas else {}
    verified(recurrent(tmp_path / "node.onnx", kind, activations=functions, **more))
    if alphas:
        more = {"activation_alpha": alphas * 2}
    path = tmp_path / "both.onnx"
    verified(recurrent(path, kind, direction="bidirectional", activations=functions * 2, **more))


def test_a_function_of_its_own_in_each_direction(tmp_path: Path) -> None:
    names = ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Relu", "Tanh"]
    verified(
        recurrent(tmp_path / "node.onnx", "LSTM", direction="bidirectional", activations=names)
    )


# --- onnxruntime's CPU kernels have no layout 1: the onnx package's evaluator has ---


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_one_sentence_may_stand_first(kind: str, tmp_path: Path) -> None:
    path = recurrent(tmp_path / "node.onnx", kind, layout=1, initial=False)
    x = np.random.default_rng(1).standard_normal((1, 4, 2)).astype(np.float32)
    want = ReferenceEvaluator(onnx.load(path)).run(["Y", "Y_h"], {"X": x})
    with Engine.load(path) as engine:
        ours = engine.encode(inputs={"X": x[0]})
    np.testing.assert_allclose(ours["Y"], want[0].reshape(4, 3), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours["Y_h"], want[1].reshape(3), rtol=1e-5, atol=1e-6)


# --- the format's own cases ---


@pytest.mark.skipif(not CASES, reason="S2S_SHARED_DATA is not set")
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_conformance(case: Path, tmp_path: Path) -> None:
    model = onnx.load(case / "model.onnx")
    (node,) = model.graph.node
    data = case / "test_data_set_0"
    given = {
        value.name: read_onnx_tensor(data / f"input_{number}.pb")[1]
        for number, value in enumerate(model.graph.input)
    }
    expected = {
        value.name: read_onnx_tensor(data / f"output_{number}.pb")[1]
        for number, value in enumerate(model.graph.output)
    }
    layout = next((a.i for a in node.attribute if a.name == "layout"), 0)
    batch = 0 if layout else 1
    sentences = {n: a for n, a in given.items() if n not in ("W", "R", "B", "P")}
    shapes: dict[str, tuple[Any, ...]] = {}
    for name, array in sentences.items():
        shape: list[Any] = list(array.shape)
        shape[0 if array.ndim == 1 else batch] = 1
        if name == "X":
            shape[1 - batch] = "S"
        shapes[name] = tuple(shape)
    weights = {n: a for n, a in given.items() if n not in sentences}
    ids = {name: onnx.TensorProto.INT32 for name in sentences if name == "sequence_lens"}
    path = write(tmp_path / "node.onnx", [node], shapes, list(expected), weights, ids=ids)
    with Engine.load(path) as engine:
        count = given["X"].shape[batch]
        for number in range(count):
            inputs = {
                name: array.take(number, batch).reshape(-1)
                for name, array in sentences.items()
                if name not in ("X", "sequence_lens")
            }
            x = given["X"].take(number, batch)
            ours = engine.encode(inputs={"X": x, **inputs})
            for name, array in expected.items():
                want = array.take(number, axis=_batch_axis(name, layout))
                got = ours[name].reshape(want.shape)
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert count >= 1


def _batch_axis(name: str, layout: int) -> int:
    return 0 if layout else 2 if name == "Y" else 1


# --- what is refused ---


@pytest.mark.parametrize(
    "attributes,message",
    [
        ({"activations": ["Sigmoid", "Elu", "Tanh"]}, "the activation Elu .* is not there"),
        ({"activations": ["Sigmoid"]}, "activations are .* must be 3"),
        ({"direction": "sideways"}, "direction is 'sideways'"),
        ({"clip": -1.0}, "clip is -1.0, must be a number above 0"),
        ({"layout": 2}, "X must be a value with three axes, and layout 0 or 1"),
        ({"colour": 1}, "attribute 'colour' is not known"),
    ],
)
def test_what_a_node_says_wrong_is_named(
    attributes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = recurrent(tmp_path / "node.onnx", "LSTM", **attributes)
    with pytest.raises(ModelFormatError, match=rf"node 'node' \(LSTM\): {message}"):
        Engine.load(path)


def test_a_projection_that_an_exporter_cropped_is_refused(tmp_path: Path) -> None:
    path = recurrent(tmp_path / "node.onnx", "LSTM", hidden=3, initial=False)
    model = onnx.load(path)
    for name, hidden in (("h", 3), ("c", 5)):
        zeros = np.zeros((1, 1, hidden), np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, name))
    model.graph.node[0].input[5:] = ["h", "c"]
    onnx.save(model, path)
    with pytest.raises(ModelFormatError, match=r"initial_c is \[1, 1, 5\], must be .* proj_size"):
        Engine.load(path)
