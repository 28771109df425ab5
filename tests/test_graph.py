"""Graphs as data: their JSON, and the message of every rule that one can break. Knows documents;
never execution."""

from __future__ import annotations

import copy
import json
from typing import Any

import models
import pytest

from s2s_engine.errors import ModelFormatError
from s2s_engine.graph import Graph, from_json, to_json
from s2s_engine.graph_check import check
from s2s_engine.model import check_graphs
from s2s_engine.operations import ValueType

LSTM = models.lstm_luong()
SHAPES = {name: array.shape for name, array in LSTM.tensors.items()}
ENCODER = {
    name: LSTM.types()["encoder"][reference]
    for name, reference in LSTM.graphs["encoder"].outputs.items()
}


def documents() -> dict[str, Any]:
    """Fresh documents of both graphs."""
    return {role: json.loads(json.dumps(to_json(g, role))) for role, g in LSTM.graphs.items()}


def checked(document: Any, role: str) -> Any:
    return check(from_json(document, role), role, SHAPES, ENCODER if role == "decoder" else {})


def node(document: Any, name: str) -> Any:
    return next(n for n in document["nodes"] if n["name"] == name)


@pytest.mark.parametrize("name", models.DECODERS | models.LABELLERS)
def test_graph_survives_json(name: str) -> None:
    model = (models.DECODERS | models.LABELLERS)[name]()
    for role, graph in model.graphs.items():
        document = json.loads(json.dumps(to_json(graph, role)))
        again = from_json(document, role)
        assert to_json(again, role) == document
        assert again == graph


def test_types_of_every_reference_are_known() -> None:
    types = check_graphs(LSTM.graphs, LSTM.tensors)
    assert types["encoder"]["lstm.sequence"] == ValueType("sequence", 6)
    assert types["encoder"]["concat"] == ValueType("sequence", 12)
    assert types["decoder"]["token"] == ValueType("id", 9)
    assert types["decoder"]["encoder.memory"] == ValueType("sequence", 12)
    assert types["decoder"]["state.feed"] == ValueType("vector", 6)
    assert types["decoder"]["attention.context"] == ValueType("vector", 12)
    assert types["decoder"]["attention.weights"] == ValueType("sequence", 1)
    assert types["decoder"]["linear_2"] == ValueType("vector", 9)


def test_documents_as_they_are_pass() -> None:
    for role, document in documents().items():
        assert checked(document, role)


Path = tuple[Any, ...]
DECODER_FAULTS: list[tuple[Path, Any, str]] = [
    (("nodes", 0, "name"), "a b", "graph decoder, node 'a b' .embedding.: a name must match"),
    (("nodes", 0, "name"), "x" * 65, "a name must match"),
    (("nodes", 1, "name"), "embedding", "node 'embedding' .lstm_cell.: the name is taken already"),
    (("nodes", 0, "name"), "token", "node 'token' .embedding.: the name is taken already"),
    (("nodes", 0, "op"), "pickle", "is not an operation of format 1 .embedding, one_hot, constant"),
    (("nodes", 0, "op"), None, "node 0 'embedding', op must be a string, is NoneType"),
    (("nodes", 0, "weights", "weight"), "none", "weight names tensor 'none', which is not there"),
    (("nodes", 0, "weights", "weight"), "encoder.embedding.weight",
     "node 'lstm_cell' .lstm_cell.: weight_ih is 24x10, must be 24x11"),
    (("nodes", 0, "weights"), {}, "node 'embedding' .embedding.: lacks the weight 'weight'"),
    (("nodes", 0, "weights", "v"), "x", "v names tensor 'x', which is not there"),
    (("nodes", 0, "inputs"), {}, "lacks the input 'x'"),
    (("nodes", 0, "inputs", "y"), "token", "has no input 'y'; it has x"),
    (("nodes", 0, "inputs", "x"), ["token"], "x must be one reference"),
    (("nodes", 0, "inputs", "x"), "later", "'later' is not a value known here .the latest known: "),
    (("nodes", 0, "inputs", "x"), "state.h", "x is vector.6., must be a id or a ids"),
    (("nodes", 0, "inputs", "x"), 5, "node 0 'embedding', input 'x' must be a string, is int"),
    (("nodes", 0, "attributes"), {}, "lacks the attribute 'scale'"),
    (("nodes", 0, "attributes", "scale"), "1", "attribute scale must be a number, is '1'"),
    (("nodes", 0, "attributes", "scale"), True, "attribute scale must be a number, is True"),
    (("nodes", 0, "attributes", "scale"), 1e39, "attribute scale must be finite in float32"),
    (("nodes", 0, "attributes", "bias"), 1, "has no attribute 'bias'; it has scale"),
    (("nodes", 1, "inputs", "x"), "embedding", "x must be a list"),
    (("nodes", 1, "inputs", "x"), [], "x is an empty list, must name at least one value"),
    (("nodes", 1, "inputs", "x"), ["embedding"], "weight_ih is 24x10, must be 24x4"),
    (("nodes", 1, "inputs", "x"), ["encoder.memory"], "weight_ih is 24x10, must be 24x12"),
    (("nodes", 1, "inputs", "x"), ["token"], "x holds id.9., must hold vectors and sequences"),
    (("nodes", 1, "inputs", "h"), "embedding", "h is vector.4., must be vector.6."),
    (("nodes", 1, "inputs", "h"), "linear", "'linear' is not a value known here"),
    (("nodes", 1, "attributes", "activation"), "exec", "activation must be one of identity, tanh"),
    (("nodes", 2, "inputs", "keys"), "encoder.memory", "query is vector.6. and keys is sequence"),
    (("nodes", 2, "inputs", "values"), "state.h", "values is vector.6., must be a sequence"),
    (("nodes", 2, "attributes", "score"), "additive", "score 'additive' needs v"),
    (("nodes", 2, "attributes", "score"), "given", "score 'given' does not take query"),
    (("nodes", 2, "attributes", "heads"), 0, "attribute heads must be 1 to 16777216, is 0"),
    (("nodes", 2, "attributes", "heads"), 1.0, "attribute heads must be an integer, is 1.0"),
    (("nodes", 2, "attributes", "gaussian"), 0, "attribute gaussian must be true or false, is 0"),
    (("nodes",), {}, "graph decoder: nodes must be a list, is dict"),
    (("nodes", 0), [], "graph decoder, node 0 must be an object, is list"),
    (("nodes", 0, "comment"), "x", "graph decoder, node 0: key 'comment' is unknown"),
    (("inputs", "token", "size"), 10, "weight has 9 rows, fewer than the 10 ids of x"),
    (("inputs", "token", "size"), 0, "input 'token': size must be 1 to 16777216, is 0"),
    (("inputs", "token", "size"), 2**24 + 1, "size must be 1 to 16777216, is 16777217"),
    (("inputs", "token", "kind"), "token", "kind is 'token', must be one of"),
    (("inputs", "token", "kind"), "vector", "input 'token' is vector.9., must be id"),
    (("inputs", "image"), {"kind": "id", "size": 1}, "a decoder's inputs are token, step, source_"),
    (("inputs", "source_length"), {"kind": "vector", "size": 2}, "must be vector.1."),
    (("states", "h", "size"), 5, "state 'h', initial: 'encoder.h' is vector.6., must be vec|"
     "h is vector.5., must be vector.6."),
    (("states", "feed", "next"), "embedding", "state 'feed', next: 'embedding' is vector.4., must"),
    (("states", "feed", "next"), "gone", "state 'feed', next: 'gone' is not a value known here"),
    (("states", "h", "initial"), "state.c", "initial is 'state.c', must be an encoder output"),
    (("states", "h", "initial"), "encoder.x", "state 'h', initial: 'encoder.x' is not a value kno"),
    (("states", "h", "kind"), "id", "state 'h' is id.6., must be a vector or a sequence"),
    (("states", "h x"), {}, "states: 'h x' must match"),
    (("outputs", "logits"), "linear", "output 'logits' is vector.6., must be vector.9., one"),
    (("outputs", "logits"), "gone", "output 'logits': 'gone' is not a value known here"),
    (("outputs", "logits"), "token", "output 'logits' is id.9., must be vector or sequence"),
    (("outputs",), {}, "graph decoder: the output 'logits' is missing"),
    (("outputs", "extra"), "linear", "output 'extra' is neither logits nor log_probabilities nor"),
    (("outputs", "log_probabilities"), "linear_2", "it has logits and log_probabilities, must have"),
    (("nodes", 0, "name"), "state", "state, encoder, outer are no names of nodes"),
    (("outputs", "alignment"), "linear", "output 'alignment' is vector.6., must be a sequence"),
    (("more",), 1, "graph decoder: key 'more' is unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), DECODER_FAULTS)
def test_fault_of_a_decoder_is_named(path: Path, value: Any, message: str) -> None:
    document = documents()["decoder"]
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ModelFormatError, match=message):
        checked(document, "decoder")


@pytest.mark.parametrize("key", ["inputs", "states", "nodes", "outputs"])
def test_every_key_of_a_graph_is_required(key: str) -> None:
    document = documents()["decoder"]
    del document[key]
    with pytest.raises(ModelFormatError, match=f"graph decoder: key '{key}' is missing"):
        from_json(document, "decoder")


def test_encoder_has_no_states() -> None:
    with pytest.raises(ModelFormatError, match="graph encoder: key 'states' is unknown"):
        from_json({**documents()["encoder"], "states": {}}, "encoder")


def test_decoder_without_token_is_refused() -> None:
    document = documents()["decoder"]
    document["inputs"] = {}
    document["nodes"] = []
    document["outputs"] = {}
    document["states"] = {}
    with pytest.raises(ModelFormatError, match="the input 'token' is missing"):
        checked(document, "decoder")


def test_input_along_the_source_says_so() -> None:
    document = documents()["encoder"]
    document["inputs"]["tokens"]["length"] = "target"
    with pytest.raises(ModelFormatError, match="length is 'target', must be 'source'"):
        from_json(document, "encoder")


def test_alignment_is_no_input() -> None:
    document: Any = {"inputs": {"a": {"kind": "alignment", "size": 1}}, "nodes": [], "outputs": {}}
    with pytest.raises(ModelFormatError, match=r"input 'a' is alignment.1., must be a value"):
        checked(document, "encoder")


def test_layer_takes_sequences_and_a_cell_vectors() -> None:
    document = documents()["decoder"]
    cell = node(document, "lstm_cell")
    layer = copy.deepcopy(cell)
    layer["op"], layer["attributes"]["direction"] = "lstm", "forward"
    document["nodes"][1] = layer
    with pytest.raises(ModelFormatError, match="a layer takes sequences, a cell takes vectors"):
        checked(document, "decoder")
    document["nodes"][1] = cell
    cell["inputs"]["x"] = ["embedding", "encoder.sequence"]
    shapes = {**SHAPES}
    with pytest.raises(ModelFormatError, match="a cell takes vectors, a layer takes sequences"):
        check(from_json(document, "decoder"), "decoder", shapes,
              {**ENCODER, "sequence": ValueType("sequence", 6)})  # fmt: skip


def test_state_may_be_a_sequence_as_long_as_the_source() -> None:
    document = documents()["decoder"]
    document["states"]["seen"] = {"kind": "sequence", "size": 12, "initial": "encoder.memory",
                                  "next": "state.seen"}  # fmt: skip
    assert checked(document, "decoder")["state.seen"] == ValueType("sequence", 12)
    document["states"]["seen"]["size"] = 11
    with pytest.raises(ModelFormatError, match=r"is sequence\[12\], must be sequence\[11\]"):
        checked(document, "decoder")


def test_nodes_are_at_most_4096() -> None:
    document: Any = {"inputs": {}, "nodes": [{}] * 4097, "outputs": {}}
    with pytest.raises(ModelFormatError, match="4097 nodes; at most 4096"):
        from_json(document, "encoder")


def test_join_of_too_many_features_is_refused() -> None:
    wide = {"name": "n0", "op": "constant", "inputs": {}, "weights": {},
            "attributes": {"size": 2**24}}  # fmt: skip
    join = {"name": "n1", "op": "concat", "inputs": {"x": ["n0", "n0"]}, "weights": {},
            "attributes": {}}  # fmt: skip
    document: Any = {"inputs": {}, "nodes": [wide, join], "outputs": {}}
    with pytest.raises(ModelFormatError, match="x joins to 33554432 features, at most 16777216"):
        checked(document, "encoder")


def test_empty_encoder_is_a_graph() -> None:
    assert check(Graph(), "encoder", {}, {}) == {}
