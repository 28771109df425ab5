"""The ONNX importer's sources, options, versions of operators, and what it refuses by name."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

sys.path.append(str(Path(__file__).parent / "data" / "onnx"))
import make  # noqa: E402
import onnx_networks as networks  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_models import write  # noqa: E402
from test_onnx import DATA, IDS, stored  # noqa: E402
from verified import check  # noqa: E402

from s2s_engine import Engine, InputError, ModelFormatError  # noqa: E402
from s2s_engine.importers.loading import Imported, open_foreign  # noqa: E402
from s2s_engine.importers.verification import verify  # noqa: E402

pytestmark = pytest.mark.parity("torch", "onnx", "onnxruntime")


def script(pair: tuple[networks.Graph, ...], folder: Path, **options: Any) -> list[Path]:
    names = ("encoder", "decoder")
    return [
        g.export(folder / f"{n}.onnx", False, **options) for n, g in zip(names, pair, strict=False)
    ]


def verified(source: Any, **options: Any) -> Imported:
    imported = open_foreign(source, None, options)
    found = verify(imported.model, imported.peer())
    assert found.passed, str(found)
    return imported


# --- an encoder alone ---


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_tagger_is_an_encoder_alone(kind: Any, layers: int, tmp_path: Path) -> None:
    path = networks.tagger(kind, num_layers=layers).export(tmp_path / "tagger.onnx", False)
    imported = check(path, "onnx", without=("gates",) if kind is torch.nn.RNN else ())
    with Engine.load(imported.model) as engine:
        assert len(engine.decode([1, 2, 3]).ids) == 3


def test_a_tagger_of_the_other_exporter(tmp_path: Path) -> None:
    check(stored("tagger/encoder", tmp_path), "onnx")


def test_lengths_of_packed_sequences_are_the_sources(tmp_path: Path) -> None:
    path = networks.packed().export(tmp_path / "packed.onnx", False)
    check(path, "onnx")


BATCH: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "additive": ({"source": 0, "memory": 0, "hidden": 1}, {"token": 0, "hidden": 1, "memory": 0}),
    "concat": (
        {"src": 1, "memory": 1, "h_n": 0, "c_n": 0},
        {"token": 0, "h": 0, "c": 0, "memory": 1},
    ),
    "example": (
        {"source": 0, "memory": 0, "keys": 0},
        {"previous": 0, "memory": 0, "keys": 0, "h1": 1, "c1": 1, "h2": 1, "c2": 1},
    ),
}


@pytest.mark.parametrize("name", BATCH)
def test_a_batch_axis_may_be_open(name: str, tmp_path: Path) -> None:
    pair = [
        dataclasses.replace(graph, batch=axes)
        for graph, axes in zip(getattr(networks, name)(), BATCH[name], strict=True)
    ]
    files = script(tuple(pair), tmp_path)
    assert "batch" in str(onnx.load(files[1]).graph.input)
    verified(files, **IDS)


def test_an_encoder_may_read_features(tmp_path: Path) -> None:
    files = script(networks.features(), tmp_path)
    imported = check(files, "onnx", IDS)
    with Engine.load(imported.model) as engine:
        assert engine.decode(inputs={"frames": np.zeros((4, 3), np.float32)}, max_length=3).ids


# --- versions of operators ---


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 15, 18])
@pytest.mark.parametrize("name", ["additive", "concat", "example"])
def test_every_version_of_the_operators(name: str, opset: int, tmp_path: Path) -> None:
    files = script(getattr(networks, name)(), tmp_path, opset_version=opset)
    verified(files, **IDS)


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


# --- sources and options ---


def test_a_folder_and_its_options(tmp_path: Path) -> None:
    script(networks.additive(), tmp_path)
    options = {**IDS, "source_append": [2], "max_length": 7, "characters": True}
    words = {"source_vocabulary": list("abcdefghijk"), "target_vocabulary": list("ABCDEFGHI")}
    imported = verified(tmp_path, **options, **words)
    model = imported.model
    assert (model.start, model.end, model.generation) == (1, (2,), {"max_length": 7})
    assert model.source.append == (2,) and model.characters
    assert "alignment" in model.graphs["decoder"].outputs
    with Engine.load(model) as engine:
        assert engine.decode("abc").ids == engine.decode([0, 1, 2]).ids
    shutil.copy(tmp_path / "encoder.onnx", tmp_path / "encoder_2.onnx")
    with pytest.raises(InputError, match=r"2 files are called encoder\*\.onnx"):
        Engine.load(tmp_path, **IDS)


@pytest.mark.parametrize("name,kind", [("start", "an integer"), ("end", "a list of ids")])
def test_ids_that_no_file_holds_are_asked_for(name: str, kind: str, tmp_path: Path) -> None:
    files = script(networks.plain(), tmp_path)
    options = {key: value for key, value in IDS.items() if key != name}
    with pytest.raises(InputError, match=rf"needs the option {name} \({kind}\)"):
        Engine.load(files, **options)


def renamed(path: Path, names: dict[str, str]) -> None:
    model = onnx.load(path)
    for one in [*model.graph.input, *model.graph.output]:
        one.name = names.get(one.name, one.name)
    for one in model.graph.node:
        one.input[:] = [names.get(n, n) for n in one.input]
        one.output[:] = [names.get(n, n) for n in one.output]
    onnx.save(model, path)


def test_names_that_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    files = script(networks.additive(), tmp_path)
    renamed(files[1], {"hidden": "s", "hidden_out": "t", "memory": "m", "weights": "w"})
    with pytest.raises(
        InputError, match=r"decoder input 's' is neither .* encoder outputs: memory"
    ):
        Engine.load(files, **IDS)
    options = {**IDS, "states": "s=t", "hand_over": "s=hidden, m=memory", "logits": "logits"}
    verified(files, **options)
    verified(files, **{**options, "hand_over": "s=zeros,m=memory"})
    with pytest.raises(InputError, match=r"option states says s=u; inputs are s, m, outputs"):
        Engine.load(files, **{**options, "states": "s=u"})
    with pytest.raises(InputError, match=r"option hand_over: 's' must be 'decoder input=output'"):
        Engine.load(files, **{**options, "hand_over": "s"})
    with pytest.raises(InputError, match="option logits is 'x'"):
        Engine.load(files, **{**options, "logits": "x"})


@pytest.mark.parametrize(
    "before,after,other",
    [
        ("hidden", "hidden_out", "encoder_hidden"), ("h", "h_next", "h_n"), ("h0", "hn", "hidden"),
        ("decoder_hidden", "next_hidden", "h0"), ("hidden_state", "new_hidden_state", "hidden"),
        ("h_1", "h_1_next", "h_1"), ("past_h", "present_h", "h"),
    ],
)  # fmt: skip
def test_names_of_one_state_are_known(before: str, after: str, other: str, tmp_path: Path) -> None:
    files = script(networks.additive(), tmp_path)
    renamed(files[0], {"hidden": other, "memory": "outputs"})
    names = {"hidden": before, "hidden_out": after, "memory": "encoder_outputs"}
    renamed(files[1], {**names, "logits": "outputs"})
    verified(files, logits="outputs", **IDS)


def test_a_memory_of_fixed_length_needs_to_be_told(tmp_path: Path) -> None:
    files = script(networks.slots(), tmp_path)
    with pytest.raises(InputError, match="needs the option padding"):
        Engine.load(files, **IDS)
    with Engine.load(files, padding="zeros", **IDS) as engine:
        engine.decode([1] * 7)
        with pytest.raises(InputError, match="8"):
            engine.decode([1] * 8)


# --- what is refused ---


def test_other_sources_are_not_onnx(tmp_path: Path) -> None:
    files = script(networks.plain(), tmp_path)
    np.savez(tmp_path / "decoder.npz", w=np.zeros(2))
    with pytest.raises(ModelFormatError, match=r"decoder\.npz: the decoder is no ONNX file"):
        Engine.load([files[0], tmp_path / "decoder.npz"], importer="onnx", **IDS)
    with pytest.raises(InputError, match="has no option 'layers'"):
        Engine.load(files, layers=2)
    swapped = files[::-1]
    with pytest.raises((ModelFormatError, InputError), match="decoder"):
        Engine.load(swapped, **IDS)


def test_a_recurrence_unrolled_for_one_length_is_refused(tmp_path: Path) -> None:
    path = stored("unrolled/encoder", tmp_path)
    with pytest.raises(ModelFormatError) as error:
        Engine.load(path, example_length=networks.LENGTH)
    assert "unrolled for the length of an example" in str(error.value)
    assert "export with dynamo=False" in str(error.value)


def test_a_fixed_length_is_refused_and_may_be_told(tmp_path: Path) -> None:
    graph = networks.tagger()
    fixed = networks.Graph(graph.module, graph.arguments, graph.inputs, graph.outputs)
    path = fixed.export(tmp_path / "tagger.onnx", False)
    with pytest.raises(ModelFormatError, match=r"one fixed length \(source \[1, 6\]\): export"):
        Engine.load(path)
    open_ = graph.export(tmp_path / "open.onnx", False)
    with Engine.load(path, example_length=6) as one, Engine.load(open_) as other:
        ours, theirs = (engine.encode([1, 2, 3])["logits"] for engine in (one, other))
    assert np.array_equal(ours, theirs)


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
def test_long_chains_are_refused_in_no_time(op: str, copies: int, tmp_path: Path) -> None:
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


def test_broken_graphs_are_named_or_read(tmp_path: Path) -> None:
    """Attributes, weights and edges changed at random: never another exception."""
    files = script(
        networks.example() if networks.EXAMPLE.is_file() else networks.concat(), tmp_path
    )
    random = np.random.default_rng(0)
    whole = [onnx.load(path) for path in files]
    refused = 0
    for number in range(150):
        model = onnx.ModelProto()
        side = number % 2
        model.CopyFrom(whole[side])
        one = model.graph.node[random.integers(len(model.graph.node))]
        kind = random.integers(4)
        if kind == 0 and one.attribute:
            attribute = one.attribute[random.integers(len(one.attribute))]
            if attribute.type == onnx.AttributeProto.INT:
                attribute.i = int(random.integers(-3, 9))
            elif attribute.type == onnx.AttributeProto.INTS:
                attribute.ints[:] = random.integers(-3, 5, len(attribute.ints))
            elif attribute.type == onnx.AttributeProto.TENSOR:
                value = random.integers(-3, 9, random.integers(4)).astype(np.int64)
                attribute.t.CopyFrom(numpy_helper.from_array(value))
        elif kind == 1 and one.input:
            names = [name for other in model.graph.node for name in other.input]
            one.input[random.integers(len(one.input))] = names[random.integers(len(names))]
        elif kind == 2:
            one.op_type = model.graph.node[random.integers(len(model.graph.node))].op_type
        else:
            tensor = model.graph.initializer[random.integers(len(model.graph.initializer))]
            shape = random.integers(0, 5, random.integers(4))
            tensor.CopyFrom(numpy_helper.from_array(np.ones(shape, np.float32), tensor.name))
        path = tmp_path / "broken.onnx"
        onnx.save(model, path)
        pair = [path, files[1]] if side == 0 else [files[0], path]
        try:
            Engine.load(pair, **IDS).close()
        except (ModelFormatError, InputError):
            refused += 1
    assert refused > 60


# --- the stored files ---


def test_the_stored_files_are_what_was_written() -> None:
    digest, name = (DATA / "SHA256").read_text().split()
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest


def test_the_exporter_still_writes_them(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "graph.onnx"
    make.graph(make.NETWORKS["plain"], 0, path)
    (tmp_path / "stored").mkdir()
    kept, written = onnx.load(stored("plain/encoder", tmp_path / "stored")), onnx.load(path)
    assert [n.op_type for n in kept.graph.node] == [n.op_type for n in written.graph.node]
    arrays = [
        {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        for model in (kept, written)
    ]
    assert arrays[0].keys() == arrays[1].keys()
    assert all(np.array_equal(array, arrays[1][name]) for name, array in arrays[0].items())
