"""ONNX files read without the onnx package: against the package, and every broken one refused."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2s_engine import ModelFormatError
from s2s_engine.importers.readers.onnx_files import (
    MAX_DEPTH,
    Graph,
    OnnxFile,
    Reference,
    read_onnx,
    read_onnx_tensor,
)

SHARED = os.environ.get("S2S_SHARED_DATA")
CASES = sorted(Path(SHARED, "onnx_node_tests").glob("test_*")) if SHARED else []


# --- files made here, field by field ---


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value & (1 << 64) - 1)


def part(field: int, *values: bytes | str) -> bytes:
    data = b"".join(v.encode() if isinstance(v, str) else v for v in values)
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, code: int, dims: tuple[int, ...], *data: bytes) -> bytes:
    sizes = b"".join(number(1, size) for size in dims)
    return sizes + number(2, code) + part(8, name) + b"".join(data)


def model(*graph: bytes) -> bytes:
    return number(1, 8) + part(8, number(2, 17)) + part(7, *graph)


def node(*attributes: bytes) -> bytes:
    return part(1, part(1, "x"), part(2, "y"), part(4, "Op"), *attributes)


RAW = part(9, np.array([1.5, -2], "<f4").tobytes())
SMALL = model(
    part(5, tensor("w", 1, (2,), RAW)),
    part(5, tensor("i", 7, (3,), part(7, b"\x01\x02", varint((1 << 64) - 1)))),
    node(part(5, part(1, "a"), part(8, b"\x01\x7f"), number(20, 7))),
    part(11, part(1, "x"), part(2, part(1, number(1, 1), part(2, part(1, part(2, "T")))))),
    part(12, part(1, "y")),
)


def initializer(*data: bytes, code: int = 1, dims: tuple[int, ...] = (2,)) -> bytes:
    return model(part(5, tensor("w", code, dims, *data)))


def nested(depth: int) -> bytes:
    graph = b""
    for _ in range(depth):
        graph = node(part(5, part(1, "body"), part(6, graph), number(20, 5)))
    return model(graph)


def test_a_small_file_by_hand() -> None:
    file = read_onnx(SMALL)
    np.testing.assert_array_equal(file.initializers["w"], np.array([1.5, -2], np.float32))
    np.testing.assert_array_equal(file.initializers["i"], np.array([1, 2, -1]))
    assert file.nodes[0].attributes == {"a": (1, 127)} and file.nodes[0].inputs == ("x",)
    assert (file.inputs[0].name, file.inputs[0].dtype, file.inputs[0].shape) == (
        "x", "float32", ("T",)
    )  # fmt: skip
    assert file.outputs[0].shape is None and file.opset == {"": 17} and file.ir_version == 8


def test_attributes_without_their_type_and_references() -> None:
    untyped = (
        part(5, part(1, "a"), b"\x15\x00\x00\x80\x3f"),
        part(5, part(1, "b"), part(4, b"\xff")),
    )
    reference = part(5, part(1, "c"), part(21, "outer"), number(20, 1))
    zero = part(5, part(1, "d"), number(20, 2))
    assert read_onnx(model(node(*untyped, reference, zero))).nodes[0].attributes == {
        "a": 1.0, "b": b"\xff", "c": Reference("outer"), "d": 0,
    }  # fmt: skip


def test_subgraphs_are_read_to_a_depth() -> None:
    graph: Any = read_onnx(nested(MAX_DEPTH)).graph
    for _ in range(MAX_DEPTH):
        graph = graph.nodes[0].attributes["body"]
    assert isinstance(graph, Graph) and graph.nodes == ()
    with pytest.raises(ModelFormatError, match="nested deeper"):
        read_onnx(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no ir_version, or no graph"),
        (b"\x08\x08", "no ir_version, or no graph"),
        (number(1, 5000) + part(7), "ir_version is 5000"),
        (SMALL + part(7), "field 7 at byte .* stands twice"),
        (initializer(part(13, "x")), "initializer 'w': stands in another file"),
        (initializer(number(14, 1)), "'w': stands in another file"),
        (initializer(part(3)), "segments are not read"),
        (initializer(RAW, code=8), "is of type string"),
        (initializer(RAW, code=17), "is of type float8e4m3fn"),
        (initializer(RAW, code=99), "is of type 99"),
        (initializer(RAW, dims=(3,)), r"shape \(3\).*needs 12 bytes, has 8"),
        (initializer(RAW, dims=(1 << 40, 1 << 40)), "too large"),
        (initializer(RAW, dims=(-1,)), "must be integers from 0"),
        (initializer(RAW, part(4, bytes(8))), "has its numbers in fields"),
        (initializer(part(4, bytes(7))), "holds no <f4"),
        (initializer(part(5, b"\x02\x01"), code=9), "holds a number outside of 0 to 1"),
        (initializer(part(5, varint(300), b"\x01"), code=3), "outside of -128 to 127"),
        (initializer(part(5, b"\x80\x80"), code=6), "does not end"),
        (initializer(part(9, b"aa"), code=22), "2 numbers of 4 bits need 1 bytes"),
        (model(part(5, tensor("", 1, (2,), RAW))), "has no name"),
        (model(*[part(5, tensor("w", 1, (2,), RAW))] * 2), "or another's"),
        (model(part(15)), "sparse"),
        (model(node(part(5, part(1, "a")))), r"node 0 \(Op\): attribute 'a': a value of type 0"),
        (model(node(*[part(5, part(1, "a"), number(3, 1))] * 2)), "'a' stands twice"),
        (model(b"\x0a\x7f"), "graph: field 1 at byte 0 has 127 bytes, 0 are left"),
        (model(b"\x0b"), "wire type 3"),
        (model(b"\x02\x00"), "field number 0"),
        (model(part(2, b"\xff")), "is not UTF-8"),
        (model(b"\x0a\x00" * (1 << 18)), "more than 262144 nodes"),
    ],
)
def test_a_broken_file_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        read_onnx(data)


def test_the_message_begins_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\xff")
    with pytest.raises(ModelFormatError, match=f"^{path}: model: the integer at byte 0"):
        read_onnx(path)


def test_every_truncation_is_read_or_refused() -> None:
    """A message has no end mark: a file cut behind the graph is a whole one."""
    for size in range(len(SMALL)):
        with pytest.raises(ModelFormatError):
            read_onnx(SMALL[:size])


def bytes_of(graph: Graph) -> int:
    return sum(array.nbytes for array in graph.initializers.values())


def test_mutations_are_read_or_refused() -> None:
    random_ = random.Random(1)
    for _ in range(5000):
        changed = bytearray(SMALL)
        for _ in range(random_.randint(1, 4)):
            changed[random_.randrange(len(SMALL))] = random_.choice([0, 1, 2, 127, 128, 255])
        try:
            file = read_onnx(bytes(changed))
        except ModelFormatError:
            continue
        assert bytes_of(file.graph) <= 8 * len(SMALL)  # a packed integer of a byte becomes eight


# --- against the onnx package ---


def compare(ours: OnnxFile, data: bytes) -> None:
    import onnx

    proto = onnx.load_model_from_string(data)
    assert ours.ir_version == proto.ir_version
    assert ours.opset == {item.domain: item.version for item in proto.opset_import}
    assert len(ours.functions) == len(proto.functions)
    compare_graph(ours.graph, proto.graph)


def compare_graph(ours: Graph, proto: Any) -> None:
    from onnx import helper, numpy_helper

    assert [v.name for v in ours.inputs] == [v.name for v in proto.input]
    assert [v.name for v in ours.outputs] == [v.name for v in proto.output]
    assert list(ours.initializers) == [t.name for t in proto.initializer]
    for item in proto.initializer:
        theirs = numpy_helper.to_array(item)
        assert ours.initializers[item.name].shape == theirs.shape
        assert ours.initializers[item.name].tolist() == theirs.tolist()
    assert len(ours.nodes) == len(proto.node)
    for node, other in zip(ours.nodes, proto.node, strict=True):
        assert (node.op_type, node.domain, node.name) == (other.op_type, other.domain, other.name)
        assert node.inputs == tuple(other.input) and node.outputs == tuple(other.output)
        assert list(node.attributes) == [a.name for a in other.attribute]
        for attribute in other.attribute:
            value, theirs = node.attributes[attribute.name], helper.get_attribute_value(attribute)
            if isinstance(value, Graph):
                compare_graph(value, theirs)
            elif isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, numpy_helper.to_array(theirs))
            elif isinstance(value, str):
                assert value.encode() == theirs
            elif isinstance(value, tuple):
                assert [v.encode() if isinstance(v, str) else v for v in value] == list(theirs)
            else:
                assert value == theirs


@pytest.mark.parity("torch", "onnx")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_exported_modules_read_as_the_package_reads_them(kind: str, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(1)
    module = getattr(torch.nn, kind)(3, 4, num_layers=2, bidirectional=True)
    path = tmp_path / "m.onnx"
    torch.onnx.export(module, (torch.zeros(5, 1, 3),), path, dynamo=False)
    ours = read_onnx(path)
    compare(ours, path.read_bytes())
    nodes = [node for node in ours.nodes if node.op_type == kind]
    assert [node.attributes["hidden_size"] for node in nodes] == [4, 4]
    weight = ours.initializers[nodes[0].inputs[1]]
    order = [0, 3, 1, 2] if kind == "LSTM" else [1, 0, 2]  # ONNX: iofc, zrh
    blocks = module.weight_ih_l0.detach().numpy().reshape(len(order), 4, 3)[order]
    np.testing.assert_array_equal(weight[0], blocks.reshape(-1, 3))


@pytest.mark.parity("onnx")
def test_every_numeric_type_in_both_forms() -> None:
    from onnx import TensorProto, helper, numpy_helper

    kinds = "FLOAT DOUBLE FLOAT16 BFLOAT16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL"
    for kind in [*kinds.split(), "COMPLEX64", "COMPLEX128", "INT4", "UINT4"]:
        code = getattr(TensorProto, kind)
        for values in ([1, 0, 1], [1, 0, 1, 1], []):
            typed = helper.make_tensor("t", code, [len(values)], values)
            theirs = numpy_helper.to_array(typed)
            raw = numpy_helper.from_array(theirs, "t")
            for item in (typed, raw):
                name, ours = read_onnx_tensor(item.SerializeToString())
                assert name == "t" and ours.tolist() == theirs.tolist() == values, kind
    extreme = helper.make_tensor("t", TensorProto.INT4, [3], [-8, 7, -1])
    assert read_onnx_tensor(extreme.SerializeToString())[1].tolist() == [-8, 7, -1]


@pytest.mark.parity("onnx")
def test_bodies_functions_and_other_domains() -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Custom", ["p"], ["q"], domain="org.example", mode="x", axes=[1, -2])],
        "body", [], [value("q", TensorProto.FLOAT, [2, "n", None])],
        [helper.make_tensor("k", TensorProto.FLOAT, [2], [1, 2])],
    )  # fmt: skip
    branch = helper.make_node("If", ["c"], ["q"], then_branch=body, else_branch=body)
    graph = helper.make_graph([branch], "g", [value("c", TensorProto.BOOL, [])], [])
    inner = helper.make_node("Relu", ["a"], ["b"])
    function = helper.make_function("f", "Fun", ["a"], ["b"], [inner], [], ["alpha"])
    made = helper.make_model(graph, functions=[function])
    made.metadata_props.add(key="k", value="v")
    ours = read_onnx(made.SerializeToString())
    compare(ours, made.SerializeToString())
    assert ours.nodes[0].attributes["then_branch"].outputs[0].shape == (2, "n", None)
    assert ours.metadata == {"k": "v"} and ours.functions[0].attributes == ("alpha",)


@pytest.mark.parity("onnx")
@pytest.mark.skipif(not CASES, reason="S2S_SHARED_DATA names no folder with onnx_node_tests")
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_conformance_cases_read_as_the_package_reads_them(case: Path) -> None:
    import onnx

    compare(read_onnx(case / "model.onnx"), (case / "model.onnx").read_bytes())
    for path in case.glob("test_data_set_0/*.pb"):
        name, array = read_onnx_tensor(path)
        proto = onnx.TensorProto.FromString(path.read_bytes())
        assert name == proto.name
        np.testing.assert_array_equal(array, onnx.numpy_helper.to_array(proto))
