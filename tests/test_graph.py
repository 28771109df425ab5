"""Graphs as data: their JSON, and the message of every rule that one can break. Knows documents;
never execution."""

from __future__ import annotations

import copy
import json
from typing import Any

import models
import numpy as np
import pytest

from s2s_engine.errors import ModelFormatError
from s2s_engine.graph import Graph, from_json, to_json
from s2s_engine.graph_check import check
from s2s_engine.model import check_graphs
from s2s_engine.operations import OPERATIONS, ValueType

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
    (("outputs", "log_probabilities"), "linear_2", "it has logits and log_probabilities, mu"),
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


# --- the operations beyond cells and attention: each in a small encoder ---

SMALL_SHAPES = {"w6": (6,), "w5": (5,), "m66": (6, 6), "m46": (4, 6), "m243": (24, 3),
                "m36": (3, 6), "m18": (18,), "m2466": (24, 6)}  # fmt: skip


def small(node: Any, role: str = "encoder") -> Any:
    """A graph of vector v[6], sequences s[6] and t[1], ids i[5], long (s of S+1), and a node."""
    kinds = {"v": ("vector", 6), "s": ("sequence", 6), "t": ("sequence", 1), "i": ("ids", 5)}
    inputs: Any = {name: {"kind": kind, "size": size} | ({} if kind == "vector" else
                   {"length": "source"}) for name, (kind, size) in kinds.items()}  # fmt: skip
    join = written("join", x=["v", "s"], name="long")
    if role == "encoder":
        return {"inputs": inputs, "nodes": [join, node], "outputs": {}}
    logits = written("embedding", x="token", weights={"weight": "m66"}, name="logits", scale=1.0)
    return {"inputs": {"token": {"kind": "id", "size": 6}}, "states": {}, "nodes": [node, logits],
            "outputs": {"logits": "logits"}}  # fmt: skip


def written(op: str, *, name: str = "n", weights: Any = None, body: Any = None, **rest: Any) -> Any:
    """A node's document: keywords are attributes where the operation has them, else inputs."""
    rules = OPERATIONS[op].attributes
    attributes = {key: rest.pop(key, rule.default) for key, rule in rules.items()}
    node = {"name": name, "op": op, "inputs": rest, "weights": weights or {},
            "attributes": attributes}  # fmt: skip
    return node if body is None else node | {"body": body}


def small_checked(node: Any) -> Any:
    return check(from_json(small(node), "encoder"), "encoder", SMALL_SHAPES, {})


def attention(**rest: Any) -> Any:
    return written("attention", **({"query": "v", "keys": "s", "values": "s"} | rest))


def lstm_cell(**rest: Any) -> Any:
    return written("lstm_cell", **rest)


BODY: Any = {
    "inputs": {"x": {"kind": "vector", "size": 6}},
    "states": {"h": {"kind": "vector", "size": 6, "initial": "outer.v", "next": "new"}},
    "nodes": [written("add", x=["x", "state.h"], name="new")],
    "outputs": {"sequence": "new"},
}


def scanning(*path: Any, value: Any = None, **rest: Any) -> Any:
    """A scan over s whose body has `value` at `path`."""
    body = copy.deepcopy(BODY)
    if path:
        place = body
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return written("scan", **({"x": ["s"], "body": body} | rest))


def test_small_nodes_as_they_are_pass() -> None:
    peep = lstm_cell(h="v", weights={"weight_hh": "m2466", "peephole": "m18"})
    projected = lstm_cell(c="v", weights={"weight_hh": "m243", "projection": "m36"})
    assert small_checked(peep)["n.c"] == ValueType("vector", 6)
    types = small_checked(projected)
    assert (types["n.h"], types["n.c"]) == (ValueType("vector", 3), ValueType("vector", 6))
    assert small_checked(scanning())["n.h"] == ValueType("vector", 6)
    assert small_checked(scanning(x=["long"]))["n.sequence"] == ValueType("sequence", 6, (1, 1))
    types = small_checked(attention(query="long", heads=3))
    assert types["n.weights"] == ValueType("alignment", 3, (1, 1))
    assert types["n.context"] == ValueType("sequence", 6, (1, 1))
    assert small_checked(written("reverse", x="i"))["n"] == ValueType("ids", 5)


NODE_FAULTS: dict[str, tuple[Any, str]] = {
    "one_hot size": (written("one_hot", x="i", size=4), "size is 4, fewer than the 5 ids of x"),
    "one_hot of zero": (written("one_hot", x="i", size=0), "size must be 1 to 16777216, is 0"),
    "one_hot of a vector": (written("one_hot", x="v", size=9), r"x is vector\[6\], must be a id o"),
    "maxout pieces": (written("maxout", x="v", pieces=4),
                      r"x is vector\[6\], its size must be a multiple of pieces, which is 4"),
    "maxout of zero": (written("maxout", x="v", pieces=0), "pieces must be 1 to 16777216, is 0"),
    "maxout of a float": (written("maxout", x="v", pieces=2.0), "pieces must be an integer, is 2."),
    "layer_norm eps": (written("layer_norm", x="v", eps=-1e-5), "eps must be at least 0, is -1e-0"),
    "layer_norm nan": (written("layer_norm", x="v", eps=float("nan")), "eps must be finite in flo"),
    "layer_norm weight": (written("layer_norm", x="v", weights={"weight": "w5"}),
                          "weight is 5, must be 6"),
    "layer_norm of ids": (written("layer_norm", x="i"), r"x is ids\[5\], must be a vector or a se"),
    "reverse of a vector": (written("reverse", x="v"), r"x is vector\[6\], must be a sequence or"),
    "join of one": (written("join", x=["s"]), r"needs at least two values in x, got sequence\[6\]"),
    "join of vectors": (written("join", x=["v", "v"]), r"x holds no sequence, got vector\[6\], ve"),
    "join sizes": (written("join", x=["s", "t"]),
                   r"sizes must be equal, got sequence\[6\], sequence\[1\]"),
    "join of ids": (written("join", x=["i", "i"]), r"x holds ids\[5\], must hold vectors and sequ"),
    "join of many": (written("join", x=["s"] * 17), r"sequence\[6\] of 17S positions, at most 16S"),
    "join of many vectors": (written("join", x=["s"] + ["v"] * 4097),
                             r"makes sequence\[6\] of S\+4097 positions, at most 16S\+4096"),
    "lengths of linear": (written("linear", x=["s", "long"], weights={"weight": "m66"}),
                          r"x holds sequence\[6\] of S positions and sequence\[6\] of S\+1 pos"),
    "lengths of concat": (written("concat", x=["v", "long", "s"]), r"of S\+1 positions and seque"),
    "lengths of add": (written("add", x=["long", "s"]), r"of S\+1 positions and sequence\[6\] of"),
    "lengths of interpolate": (written("interpolate", gate="long", a="v", b="s"), r"of S\+1 posit"),
    "lengths of a layer": (written("rnn", x=["s", "long"], weights={"weight_ih": "m66",
                           "weight_hh": "m66"}), r"of S positions and sequence\[6\] of S\+1"),
    "lengths of keys": (attention(keys="long"),
                        r"keys is sequence\[6\] of S\+1 positions and values is sequence\[6\] of S "
                        "positions: lengths must be equal"),
    "lengths of scores": (written("attention", scores="t", values="long", score="given"),
                          r"scores is sequence\[1\] of S positions and values is sequence\[6\] of"),
    "lengths of a centre": (attention(query="long", centre="t", window=1),
                            r"centre is sequence\[1\] of S positions and query is sequence\[6\] o"),
    "to_positions": (written("to_positions", x="s"), r"x is sequence\[6\], must be a vector"),
    "first_step in an encoder": (written("first_step", first="v", otherwise="v"),
                                 r"node 'n' \(first_step\): may not stand in an encoder"),
    "rnn gate": (written("rnn_cell", h="v", weights={"weight_hh": "m46"}), "weight_hh is 4x6, mus"),
    "rnn state": (written("rnn_cell", h="t", weights={"weight_hh": "m66"}),
                  r"h is sequence\[1\], must be a vector"),
    "peephole": (lstm_cell(h="v", weights={"weight_hh": "m2466", "peephole": "w6"}),
                 "peephole is 6, must be 18"),
    "peephole of a gru": (written("gru_cell", h="v",
                          weights={"weight_hh": "m66", "peephole": "w6"}),
                          "has no weight 'peephole'"),
    "projection": (lstm_cell(weights={"weight_hh": "m2466", "projection": "m36"}),
                   "weight_hh is 24x6, must be 24x3"),
    "projected h": (lstm_cell(h="v", weights={"weight_hh": "m243", "projection": "m36"}),
                    r"h is vector\[6\], must be vector\[3\]"),
    "clip below zero": (lstm_cell(h="v", clip=-1.0, weights={"weight_hh": "m2466"}),
                        "clip must be at least 0, is -1.0"),
    "heads": (attention(heads=4), r"values is sequence\[6\], its size must be a multiple of the 4"),
    "heads of keys": (attention(query="t", keys="t", heads=2), r"keys is sequence\[1\], its size"),
    "heads of scores": (written("attention", scores="t", values="s", score="given", heads=2),
                        r"scores is sequence\[1\], must be sequence\[2\]"),
    "energy_bias": (attention(weights={"energy_bias": "w6"}), "energy_bias is 6, must be 1"),
    "window without a centre": (attention(window=2), "window is 2, must be 0 without a centre"),
    "centre without a window": (attention(centre="v"), "window is 0, must be at least 1 with a ce"),
    "window below zero": (attention(centre="v", window=-1), "window must be 0 to 16777216, is -1"),
    "window of a float": (attention(centre="v", window=1.0), "window must be an integer, is 1.0"),
    "gaussian without a centre": (attention(gaussian=True), "gaussian needs a centre"),
    "gaussian of a number": (attention(gaussian=1), "gaussian must be true or false, is 1"),
    "centre size": (attention(centre="v", window=1), r"centre is vector\[6\], must be vector\[1\]"),
    "centre of a vector query": (attention(centre="t", window=1),
                                 r"centre is sequence\[1\], must be a vector or a id"),
    "centre of a sequence query": (attention(query="s", centre="v", window=1),
                                   r"centre is vector\[6\], must be a sequence or a ids"),
    "energy_activation": (attention(energy_activation="exp"), "energy_activation must be one of i"),
    "scan of a vector": (scanning(x=["v"]), r"x holds no sequence, it joins to vector\[6\]"),
    "scan direction": (scanning(direction="both"), "direction must be one of forward, backward"),
    "scan lengths": (scanning(x=["t", "long"]), r"of S positions and sequence\[6\] of S\+1 posit"),
    "scan without a body": ({**written("scan", x=["s"])}, "key 'body' is missing"),
    "body of another node": (written("reverse", x="s", body=BODY), "key 'body' is unknown"),
    "body that is none": (written("scan", x=["s"], body=[]), "body must be an object, is list"),
    "body inputs": (scanning("inputs", "x", "size", value=5),
                    r"\(scan\), body: its inputs are x \(vector\[5\]\); must be x \(vector\[6\]\)"),
    "body input names": (scanning("inputs", "y", value={"kind": "vector", "size": 6}),
                         r"its inputs are x \(vector\[6\]\), y \(vector\[6\]\); must be x"),
    "body without inputs": (scanning("inputs", value={}), "its inputs are none; must be x"),
    "body outputs": (scanning("outputs", "other", value="new"),
                     "its outputs are sequence, other; must be sequence alone"),
    "body without output": (scanning("outputs", value={}), "its outputs are none; must be sequenc"),
    "body of a sequence": (scanning("outputs", "sequence", value="outer.s"),
                           r"output 'sequence' is sequence\[6\], must be a vector"),
    "body of an unknown output": (scanning("outputs", "sequence", value="old"), "'old' is not a v"),
    "body reference": (scanning("nodes", 0, "inputs", "x", value=["x", "v"]),
                       r"body, node 'new' \(add\): 'v' is not a value known here .*: x, state.h"),
    "outer reference": (scanning("nodes", 0, "inputs", "x", value=["x", "outer.later"]),
                        "'outer.later' is not a value known here"),
    "outer reference to itself": (scanning("nodes", 0, "inputs", "x", value=["x", "outer.n.h"]),
                                  "'outer.n.h' is not a value known here"),
    "outer of the outer": (scanning("nodes", 0, "inputs", "x", value=["x", "outer.outer.v"]),
                           "'outer.outer.v' is not a value known here"),
    "body shapes": (scanning("nodes", 0, "inputs", "x", value=["x", "outer.w"]), "'outer.w' is no"),
    "body tensor": (scanning("nodes", 0, value=written("linear", x=["x"], weights={"weight": "m46"},
                    name="new")), r"state 'h', next: 'new' is vector\[4\], must be vector\[6\]"),
    "body tensor name": (scanning("nodes", 0, value=written("linear", x=["x"], name="new",
                         weights={"weight": "none"})), "weight names tensor 'none', which is not"),
    "body node called x": (scanning("nodes", 0, "name", value="x"), "node 'x' .*: the name is tak"),
    "body node called outer": (scanning("nodes", 0, "name", value="outer"), "are no names of node"),
    "body state called sequence": (scanning("states", "sequence", value={"kind": "vector",
                                   "size": 6, "initial": None, "next": "new"}),
                                   "body: a state may not be called 'sequence'"),
    "body state of a sequence": (scanning("states", "h", "kind", value="sequence"),
                                 r"state 'h' is sequence\[6\], must be a vector"),
    "body state initial": (scanning("states", "h", "initial", value="x"),
                           "initial is 'x', must be a value of the graph around it or null"),
    "body state initial kind": (scanning("states", "h", "initial", value="outer.s"),
                                r"initial: 'outer.s' is sequence\[6\], must be vector\[6\]"),
    "body state next": (scanning("states", "h", "next", value="gone"), "next: 'gone' is not a val"),
    "body states missing": (scanning("states", value=[]), "body, states must be an object, is lis"),
    "scan in a scan": (scanning("nodes", 0, value=scanning()), "may not stand in the body of a sc"),
    "to_positions in a scan": (scanning("nodes", 0, value=written("to_positions", x="x")),
                               "may not stand in the body of a scan"),
    "first_step in a scan": (scanning("nodes", 0, value=written("first_step", first="x",
                             otherwise="x", name="new")), "may not stand in the body of a scan"),
    "nodes of a body": (scanning("nodes", value=[{}] * 4097), "body has 4097 nodes; at most 4096"),
}  # fmt: skip


@pytest.mark.parametrize("name", NODE_FAULTS)
def test_fault_of_a_node_is_named(name: str) -> None:
    node, message = NODE_FAULTS[name]
    with pytest.raises(ModelFormatError, match=message):
        small_checked(json.loads(json.dumps(node)))


def scattering(size: int = 5, weights: str = "t", ids: str = "i") -> Any:
    node = written("scatter", ids=ids, size=size)
    node["inputs"]["weights"] = weights
    return node


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (scattering(4), "size is 4, fewer than the 5 of ids"),
        (scattering(0), "size must be 1 to 16777216, is 0"),
        (scattering(weights="s"), r"weights is sequence\[6\], must be sequence\[1\]"),
        (scattering(weights="v"), r"weights is vector\[6\], must be a sequence"),
        (scattering(ids="t"), r"ids is sequence\[1\], must be a ids"),
    ],
)
def test_fault_of_a_scatter_is_named(node: Any, message: str) -> None:
    assert small_checked(scattering())["n"] == ValueType("vector", 5)
    with pytest.raises(ModelFormatError, match=message):
        small_checked(node)


def test_nodes_of_bodies_count_towards_the_nodes_of_a_graph() -> None:
    nodes = [written("add", x=["x", "x"], name=f"n{k}") for k in range(2047)]
    for count, passes in ((2046, True), (2047, False)):
        body = BODY | {"nodes": [BODY["nodes"][0], *nodes[:count]]}
        scans = [written("scan", x=["s"], body=body, name=f"scan{k}") for k in range(2)]
        document = small(scans[0])
        document["nodes"] = scans
        if passes:
            assert check(from_json(document, "encoder"), "encoder", {}, {})
        else:
            with pytest.raises(
                ModelFormatError, match="has 4098 nodes, those of its scans' bodies"
            ):
                from_json(document, "encoder")


def test_features_of_a_body_and_of_long_sequences_count() -> None:
    wide = [written("constant", size=2**23, name=f"n{k}") for k in range(4)]
    body = BODY | {"nodes": [*BODY["nodes"], *wide]}
    rule = "features in all its values, at most 8388608 for a model"
    with pytest.raises(ModelFormatError, match=rule):
        small_checked(written("scan", x=["s"], body=body))
    document = small(written("join", x=["long", *["wide"] * 31]))
    document["nodes"][:1] = [
        written("constant", size=2**20, name="wide"),
        written("concat", x=["wide", "s"], name="wider"),
        written("slice", x="wider", start=0, stop=2**20, name="long"),
    ]
    with pytest.raises(ModelFormatError, match=rule):
        check(from_json(document, "encoder"), "encoder", {}, {})
    document["nodes"][-1]["inputs"]["x"] = ["long", "wide"]
    assert check(from_json(document, "encoder"), "encoder", {}, {})


def test_first_step_takes_vectors_of_one_size() -> None:
    encoder = {"v": ValueType("vector", 6), "s": ValueType("sequence", 6),
               "w": ValueType("vector", 5)}  # fmt: skip
    for first, otherwise, message in (
        ("encoder.v", "encoder.w", r"first is vector\[6\] and otherwise is vector\[5\]: sizes"),
        ("encoder.s", "encoder.v", r"first is sequence\[6\], must be a vector"),
        ("token", "encoder.v", r"first is id\[6\], must be a vector"),
        ("encoder.v", "encoder.v", ""),
    ):
        document = small(written("first_step", first=first, otherwise=otherwise), "decoder")
        graph = from_json(document, "decoder")
        if message:
            with pytest.raises(ModelFormatError, match=message):
                check(graph, "decoder", SMALL_SHAPES, encoder)
        else:
            types = check(graph, "decoder", SMALL_SHAPES, encoder)
            assert types["n"] == ValueType("vector", 6)


def test_ids_and_alignments_are_outputs_of_an_encoder_only() -> None:
    document = small(attention(query="s"))
    document["outputs"] = {"ids": "i", "map": "n.weights"}
    graph = from_json(document, "encoder")
    assert check(graph, "encoder", SMALL_SHAPES, {})
    with pytest.raises(
        ModelFormatError, match="ids are an output for a decoder, and this model has"
    ):
        check_graphs({"encoder": graph}, {})
    decoder = small(written("first_step", first="encoder.v", otherwise="encoder.v"), "decoder")
    decoder["outputs"]["alignment"] = "encoder.map"
    with pytest.raises(ModelFormatError, match=r"'alignment' is alignment\[1\], must be vector or"):
        check(from_json(decoder, "decoder"), "decoder", SMALL_SHAPES,
              {"v": ValueType("vector", 6), "map": ValueType("alignment", 1)})  # fmt: skip


def test_length_of_a_value_without_positions_is_ignored() -> None:
    assert ValueType("vector", 3, (2, 1)) == ValueType("vector", 3)
    assert ValueType("id", 3, (2, 1)) == ValueType("id", 3, (0, 0))
    assert ValueType("sequence", 3, (1, 1)) != ValueType("sequence", 3)
    assert str(ValueType("sequence", 8, (1, 1))) == "sequence[8] of S+1 positions"
    assert str(ValueType("ids", 8, (2, 0))) == "ids[8] of 2S positions"
    assert str(ValueType("sequence", 8)) == "sequence[8]"


def test_state_of_a_decoder_has_the_length_of_the_source() -> None:
    document = documents()["decoder"]
    document["states"]["m"] = {"kind": "sequence", "size": 6, "initial": "encoder.long",
                               "next": "state.m"}  # fmt: skip
    encoder = {**ENCODER, "long": ValueType("sequence", 6, (1, 1))}
    with pytest.raises(ModelFormatError, match=r"is sequence\[6\] of S\+1 positions, must be sequ"):
        check(from_json(document, "decoder"), "decoder", SHAPES, encoder)


@pytest.mark.parametrize("what", ["to_positions", "state"])
def test_what_needs_positions_is_refused_without_a_source(what: str) -> None:
    node = written("to_positions", x="logits") if what == "to_positions" else written(
        "constant", size=3)  # fmt: skip
    document = small(node, "decoder")
    document["nodes"].reverse()
    if what == "state":
        document["states"] = {"m": {"kind": "sequence", "size": 6, "initial": None,
                                    "next": "state.m"}}  # fmt: skip
    graph = from_json(document, "decoder")
    tensors: Any = {"m66": np.zeros((6, 6), np.float32)}
    with pytest.raises(ModelFormatError, match="needs an encoder with a sequence among its inputs"):
        check_graphs({"decoder": graph}, tensors)


def test_log_probabilities_stand_in_the_place_of_logits() -> None:
    document = documents()["decoder"]
    document["outputs"]["log_probabilities"] = document["outputs"].pop("logits")
    assert checked(document, "decoder")
    document["outputs"]["log_probabilities"] = "linear"
    with pytest.raises(
        ModelFormatError, match=r"'log_probabilities' is vector\[6\], must be vector"
    ):
        checked(document, "decoder")
