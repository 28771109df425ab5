"""Everything a caller or a file can get wrong, and what the engine says about it: each message is a
line of tests/messages.txt, a page to be read. `pytest --update-messages` writes it anew."""

from __future__ import annotations

import copy
import random
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast

import c_interface
import models
import numpy as np
import pytest
from conftest import ISAS
from test_prompts import language_model

from s2s_engine import CancelToken, DecodeOptions, Engine, Model, S2SError, _core
from s2s_engine.format import to_bytes
from s2s_engine.graph import to_json
from s2s_engine.handover import capsule_of
from s2s_engine.operations import KINDS, OPERATIONS

PAGE = Path(__file__).parent / "messages.txt"
Case: TypeAlias = Callable[[], object]
ALL = models.DECODERS | models.LABELLERS | {"captioner": models.captioner}


@cache
def engine(name: str = "lstm_luong") -> Engine:
    """Engines of the models: lstm_luong has vocabularies, no_recurrence has none."""
    return Engine.load(ALL[name](), max_input_length=100)


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp())


def decode(*x: Any, model: str = "lstm_luong", **options: Any) -> Case:
    return lambda: engine(model).decode(*x, **options)


def file(name: str, data: bytes) -> Case:
    path = folder() / name
    path.write_bytes(data)
    return lambda: Engine.load(path)


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


FILE = to_bytes(models.gru_plain())
INT64 = np.iinfo(np.int64)

SOURCES: dict[str, Case] = {
    "a token that the vocabulary does not have": decode(["s3", "zebra"]),
    "an id beyond the vocabulary": decode([4, 11]),
    "an id below zero": decode([4, -1]),
    "an id beyond 32 bits": decode([4, 2**40]),
    "an id beyond 64 bits": decode([4, 2**70]),
    "a float": decode([4, 1.9]),
    "a NaN": decode([4, float("nan")]),
    "a bool": decode([4, True]),
    "None among ids": decode([4, None]),
    "a list among ids": decode([4, [5]]),
    "bytes among strings": decode(["s3", b"s4"]),
    "strings and ids": decode(["s3", 4]),
    "ids and strings": decode([4, "s3"]),
    "a string": decode("s3 s4"),
    "nothing": decode(),
    "None": decode(None),
    "a number": decode(4),
    "a set": decode({4}),
    "bytes": decode(b"abc"),
    "an iterator": decode(iter([4, 5])),
    "an empty list": decode([]),
    "an empty tuple": decode(()),
    "an empty array": decode(np.array([], np.int64)),
    "an array of floats": decode(np.array([1.0, 2.0])),
    "an array of bools": decode(np.array([True])),
    "an array of objects": decode(np.array([1, None], object)),
    "an array of strings": decode(np.array(["s3"])),
    "an array of two dimensions": decode(np.array([[4, 5]])),
    "an array of no dimension": decode(np.array(4)),
    "an array with an id that is too large": decode(np.array([4, 99], np.uint64)),
    "an array of the largest uint64": decode(np.array([2**64 - 1], np.uint64)),
    "an array with a negative id": decode(np.array([4, 5, INT64.min])),
    "a source that is too long": decode([4] * 101),
    "a source longer than the model has positions": decode([4] * 41, model="gru_positions"),
    "strings for a model without a vocabulary": decode(["a"], model="no_recurrence"),
    "an input that does not exist": decode(inputs={"words": [4]}),
    "an input that is missing": decode(inputs={}),
    "an input given twice": lambda: engine().decode([4], inputs={"tokens": [4]}),
    "features for a model of tokens": decode(features=np.zeros((2, 3))),
    "tokens for a model of features": decode([4], model="captioner"),
    "features of a wrong size": decode(features=np.zeros(6), model="captioner"),
    "features of a wrong number of dimensions": decode(
        features=np.zeros((1, 7)), model="captioner"
    ),
    "features of integers": decode(features=np.zeros(7, int), model="captioner"),
    "features with a NaN": decode(features=np.full(7, np.nan), model="captioner"),
    "features beyond float32": decode(features=np.full(7, 1e300), model="captioner"),
    "features that are ragged": decode(features=[[1.0], [1.0, 2.0]], model="captioner"),
    "a batch with a wrong source": lambda: engine().decode_batch([[4], [5], [99]]),
    "a batch with an empty source": lambda: engine().decode_batch([[4], []]),
    "a batch that is a source": lambda: engine().decode_batch([4, 5]),
}

TARGETS: dict[str, Case] = {
    "a token that the target vocabulary does not have": lambda: engine().score([4], ["t1", "s1"]),
    "an id beyond the target vocabulary": lambda: engine().score([4], [1, 9]),
    "a target that is a string": lambda: engine().score([4], "t1"),
    "a target that is a float": lambda: engine().score([4], [1.0]),
    "fewer labels than a model gives": lambda: engine("tagger").score([4, 5], [1]),
    "a label that the model does not have": lambda: engine("tagger").score([4], [99]),
}

OPTIONS: dict[str, Case] = {
    "an option that does not exist": decode([4], beamsize=5),
    "no beam": decode([4], beam_size=0),
    "a negative beam": decode([4], beam_size=-1),
    "a huge beam": decode([4], beam_size=10**9),
    "a beam that is a float": decode([4], beam_size=2.0),
    "a beam that is a bool": decode([4], beam_size=True),
    "more hypotheses than the beam": decode([4], num_hypotheses=3),
    "no hypotheses": decode([4], num_hypotheses=0),
    "no length": decode([4], max_length=0),
    "a huge length": decode([4], max_length=10**9),
    "a length that is a word": decode([4], max_length="long"),
    "a length that is a triple": decode([4], max_length=(1, 2, 3)),
    "a length of nothing": decode([4], max_length=(0, 0)),
    "a length without a denominator": decode([4], max_length={"numerator": 3}),
    "a length over nothing": decode([4], max_length={"numerator": 3, "denominator": 0}),
    "a length with a word for more": decode([4], max_length={"factor": 2}),
    "a length that is a fraction of nothing": decode(
        [4], max_length={"numerator": 0, "denominator": 2}
    ),
    "a fraction of a length that is a float": decode(
        [4], max_length={"numerator": 1.5, "denominator": 1}
    ),
    "a fraction of a length of which at most none is left": decode(
        [4], max_length={"numerator": 1, "denominator": 1, "most": 0}
    ),
    "a length with a negative factor": decode([4], max_length=(-1, 5)),
    "a length that is a float": decode([4], max_length=5.0),
    "a length of the source without a source": decode(
        features=np.zeros(7), model="captioner", max_length="source"
    ),
    "more steps than the model has": decode([4], model="gru_positions", max_length=50),
    "attention of a model without any": decode([4], model="gru_plain", return_attention=True),
    "return_attention that is a number": decode([4], return_attention=1),
    "a beam for a model without a decoder": decode([4], model="tagger", beam_size=2),
    "options of another type": decode([4], options={"beam_size": 5}),
    "a rule that does not exist": decode([4], early_stop="never"),
    "a rule that is a bool": decode([4], early_stop=True),
    "parts of a rule that are a word": decode([4], search="leave"),
    "a rule with a part too many": decode([4], search={"ended": "leave", "when": "best"}),
    "a rule with a part missing": decode([4], search={"ended": "leave"}),
    "a part of a rule that does not exist": decode([4], search={"ended": "go", "stop": "best"}),
    "a part of a rule that is a list": decode([4], search={"ended": ["stay"], "stop": "best"}),
    "two rules": decode([4], early_stop="marian", search={"ended": "stay", "stop": "top"}),
    "patience for a rule that does not count": decode([4], patience=2.0),
    "patience that is a word": decode([4], early_stop="patience", patience="long"),
    "patience below zero": decode([4], early_stop="patience", patience=-1.0),
    "more hypotheses than a rule collects": decode(
        [4], early_stop="patience", patience=0.5, beam_size=4, num_hypotheses=3
    ),
    "a length penalty that is a word": decode([4], length_penalty="gnmt"),
    "a length penalty that is a bool": decode([4], length_penalty=True),
    "a length penalty that is a NaN": decode([4], length_penalty=float("nan")),
    "a huge length penalty": decode([4], length_penalty=11),
    "a kind of penalty that does not exist": decode([4], length_penalty_kind="wu"),
    "a penalty of fewer tokens": decode([4], length_penalty_offset=-1),
    "a penalty of half a token": decode([4], length_penalty_offset=0.5),
    "a negative minimum": decode([4], min_length=-1),
    "a minimum that is a float": decode([4], min_length=1.0),
    "a minimum beyond the maximum": decode([4], min_length=6, max_length=5),
    "a coverage penalty of a model without attention": decode(
        [4], model="gru_plain", coverage_penalty=0.2
    ),
    "a coverage penalty below zero": decode([4], coverage_penalty=-0.1),
    "a coverage penalty that is a NaN": decode([4], coverage_penalty=float("nan")),
    "a prefix that is a string": decode([4], prefix="t3"),
    "a prefix with a token that does not exist": decode([4], prefix=["t3", "zebra"]),
    "a prefix with an id that does not exist": decode([4], prefix=[3, 9]),
    "a prefix with an end token": decode([4], prefix=[3, 2]),
    "a prefix longer than an output": decode([4], prefix=[3, 3], max_length=2),
    "a prefix longer than this output": decode([4], prefix=[3] * 5, max_length=(1, 1)),
    "a prefix of a model without a decoder": decode([4], model="tagger", prefix=[1]),
    "suppressed tokens that are a number": decode([4], suppress_tokens=3),
    "suppressed tokens that are floats": decode([4], suppress_tokens=[3.0]),
    "an end token that does not exist": decode([4], end_tokens=["</s>"]),
    "end tokens that are an array of floats": decode([4], end_tokens=np.array([1.0])),
    "a repetition penalty of zero": decode([4], repetition_penalty=0),
    "a repetition penalty that is a word": decode([4], repetition_penalty="much"),
    "a huge repetition penalty": decode([4], repetition_penalty=11),
    "an n-gram size below zero": decode([4], no_repeat_ngram_size=-1),
    "an n-gram size that is a bool": decode([4], no_repeat_ngram_size=True),
    "nothing allowed": decode([4], allowed_tokens=[]),
    "allowed tokens that are a string": decode([4], allowed_tokens="t3"),
    "allowed tokens and outputs": decode([4], allowed_tokens=[3, [4]]),
    "an allowed token that does not exist": decode([4], allowed_tokens=[3, 9]),
    "an allowed output with an id that does not exist": decode([4], allowed_tokens=[[3], [3, 9]]),
    "an allowed output with an end token": decode([4], allowed_tokens=[[3, 2]]),
    "allowed outputs without an end token": decode([4], allowed_tokens=[[3, 4]], end_tokens=[]),
    "an automaton with a part missing": decode([4], allowed_tokens={"start": 0, "final": [0]}),
    "an automaton whose transitions are a list": decode(
        [4], allowed_tokens={"transitions": [3], "start": 0, "final": [0]}
    ),
    "an automaton whose final state is a number": decode(
        [4], allowed_tokens={"transitions": {0: {3: 0}}, "start": 0, "final": 0}
    ),
    "an automaton with a final state from nowhere": decode(
        [4], allowed_tokens={"transitions": {0: {3: 0}}, "start": 0, "final": [1]}
    ),
    "an automaton with a state that is a list": decode(
        [4], allowed_tokens={"transitions": {0: {3: [1]}}, "start": 0, "final": [0]}
    ),
    "an automaton with an id that does not exist": decode(
        [4], allowed_tokens={"transitions": {"a": {9: "a"}}, "start": "a", "final": ["a"]}
    ),
    "a function that gives a number": decode([4], allowed_tokens=lambda ids: 3),
    "a function that gives a string": decode([4], allowed_tokens=lambda ids: "t3"),
    "a function that gives strings": decode([4], allowed_tokens=lambda ids: ["t3"]),
    "a function that gives a float": decode([4], allowed_tokens=lambda ids: [3.0]),
    "a function that gives an id that does not exist": decode([4], allowed_tokens=lambda ids: [9]),
    "a function that gives a huge id": decode([4], allowed_tokens=lambda ids: [2**70]),
    "everything suppressed": decode([4], suppress_tokens=list(range(9))),
    "groups that do not divide the beam": decode([4], beam_size=4, beam_groups=3),
    "no groups": decode([4], beam_groups=0),
    "diversity without groups": decode([4], beam_size=4, diversity_penalty=0.5),
    "diversity below zero": decode([4], beam_size=4, beam_groups=2, diversity_penalty=-1),
    "samples of a beam": decode([4], beam_size=2, sampling_topk=0),
    "a temperature without sampling": decode([4], sampling_temperature=0.7),
    "a temperature of zero": decode([4], sampling_topk=0, sampling_temperature=0),
    "a sum without sampling": decode([4], sampling_topp=0.9),
    "a sum of zero": decode([4], sampling_topk=0, sampling_topp=0.0),
    "a sum above one": decode([4], sampling_topk=0, sampling_topp=1.5),
    "a number of likeliest ids below zero": decode([4], sampling_topk=-1),
    "a seed that is a word": decode([4], seed="x"),
    "a seed below zero": decode([4], seed=-1),
    "too many samples": decode([4], sampling_topk=0, num_hypotheses=2000),
    "unknown tokens of a model without attention": decode(
        [4], model="gru_plain", replace_unknowns=True
    ),
    "unknown tokens that nobody tells": decode([4], replace_unknowns=True),
    "an unknown token that does not exist": decode([4], replace_unknowns="<unk>"),
    "an unknown token that is a list": decode([4], replace_unknowns=[3]),
    "exact that is a number": decode([4], exact=1),
    "an exact search under a penalty": decode([4], exact=True, length_penalty=0.6),
    "an exact search under another rule": decode([4], exact=True, early_stop="marian"),
    "an exact search that draws": decode([4], exact=True, sampling_topk=0),
    "nodes without an exact search": decode([4], max_nodes=10),
    "no nodes": decode([4], exact=True, max_nodes=0),
    "an exact search without a proof": decode([4], exact=True, max_nodes=1),
    "return_logits that is a word": decode([4], return_logits="yes"),
    "a coverage penalty of a score without attention": lambda: engine("gru_plain").score(
        [4], [1], coverage_penalty=0.2
    ),
    "end tokens of a score that do not exist": lambda: engine().score([4], [1], end_tokens=[9]),
    "a penalty of a score that is a word": lambda: engine().score([4], [1], length_penalty="x"),  # type: ignore[arg-type]
    "a batch size of zero": lambda: engine().decode_batch([[4]], batch_size=0),
    "a batch size that is a float": lambda: engine().decode_batch([[4]], batch_size=1.0),  # type: ignore[arg-type]
    "too many threads": lambda: engine().decode_batch([[4]], threads=100_000),
    "a timeout that is a word": decode([4], timeout="soon"),
    "a timeout below zero": decode([4], timeout=-0.5),
    "a timeout that is a NaN": decode([4], timeout=float("nan")),
    "a token that is an event": decode([4], cancel=threading.Event()),
    "a timeout of an iteration": lambda: engine().decode_iter([[4]], timeout=1.0),
    "a timeout for a model without a decoder": decode([4], model="tagger", timeout=1.0),
    "an iteration with no batch": lambda: engine().decode_iter([[4]], batch_size=0),
    "no memory": lambda: Engine.load(models.gru_plain(), max_memory=0),
    "a negative queue": lambda: Engine.load(models.gru_plain(), max_queue=-1),
    "memory of no source": lambda: engine().estimate_memory(0),
    "memory of a beam that is a float": lambda: engine().estimate_memory(5, beam_size=2.0),  # type: ignore[arg-type]
    "a stream of a model without a decoder": lambda: engine("tagger").stream([4]),
    "a stream of nothing": lambda: engine().stream([]),
    "a stream of an id that there is not": lambda: engine().stream([99]),
    "a stream with an option that does not exist": lambda: engine().stream([4], beam=2),
    "a stream of more steps than the model has": lambda: engine("gru_positions").stream(
        [4], max_length=50
    ),
    "a stream with unknown tokens that nobody tells": lambda: engine().stream(
        [4], replace_unknowns=True
    ),
    "a stream without a proof": lambda: list(engine().stream([4], exact=True, max_nodes=1)),
    "a stream whose tokens are all forbidden": lambda: list(
        engine().stream([4], suppress_tokens=list(range(models.TARGET)))
    ),
    "a stream that is too late": lambda: list(engine().stream([4], timeout=0.0)),
    "prefixes of a single source": decode([4], prefix=[[4], None]),
    "prefixes of a stream": lambda: engine().stream([4], prefix=[[4]]),
    "fewer prefixes than sources": lambda: engine().decode_batch([[4], [5]], prefix=[[4]]),
    "an iteration with fewer prefixes": lambda: list(
        engine().decode_iter([[4], [5]], prefix=iter([[4]]))
    ),
    "a prefix that is no list": lambda: engine().decode_batch([[4], [5]], prefix=[[4], 5]),
    "prefixes as an iterator for one source": decode([4], prefix=iter([[4]])),
    "a dead end in a batch": lambda: engine().decode_batch(
        [[4], [5]], suppress_tokens=list(range(models.TARGET))
    ),
    "a state of a model without a decoder": lambda: engine("tagger").start([4]),
    "a token that a state does not know": lambda: engine().start([4]).feed(["zebra"]),
    "a snapshot that is a string": lambda: engine().resume("state"),  # type: ignore[arg-type]
    "a snapshot of nothing": lambda: engine().resume(b""),
    "a damaged snapshot": lambda: engine().resume(flipped(engine().start([4]).snapshot(), 60)),
    "a snapshot of another model": lambda: engine("gru_plain").resume(
        engine().start([4]).snapshot()
    ),
    "a batch that memory does not hold": lambda: Engine.load(
        models.lstm_luong(), max_memory=4096
    ).decode_batch([[4], [5] * 99]),
    "options made by themselves": lambda: DecodeOptions(beam_size=2, num_hypotheses=3),
}

LOADING: dict[str, Case] = {
    "a file that is not there": lambda: Engine.load(folder() / "no.safetensors"),
    "a folder": lambda: Engine.load(folder()),
    "an empty file": file("empty", b""),
    "eight bytes": file("eight", bytes(8)),
    "a text": file("text", b"This is no model. " * 50),
    "a file cut in its header": file("cut", FILE[:200]),
    "a file cut in its data": file("cut2", FILE[:-5]),
    "a file with a byte too many": file("long", FILE + b"\0"),
    "a file with a changed weight": file("changed", flipped(FILE, len(FILE) - 7)),
    "bytes that are no model": lambda: Engine.load(b"none"),
    "an object that is no model": lambda: Engine.load(42),  # type: ignore[arg-type]
    "an instruction set that does not exist": lambda: Engine.load(models.gru_plain(), isa="sse9"),
    "certified that is a number": lambda: Engine.load(models.gru_plain(), certified=1),  # type: ignore[arg-type]
    "an instruction set that is no name": lambda: Engine.load(models.gru_plain(), isa=2),  # type: ignore[arg-type]
    "no threads": lambda: Engine.load(models.gru_plain(), threads=0),
    "threads that are a float": lambda: Engine.load(models.gru_plain(), threads=1.5),  # type: ignore[arg-type]
    "threads that are a word": lambda: Engine.load(models.gru_plain(), threads="all"),
    "an input length of zero": lambda: Engine.load(models.gru_plain(), max_input_length=0),
    "a compute type that does not exist": lambda: Engine.load(
        models.gru_plain(), compute_type="f8"
    ),
    "a compute type of a weight that does not exist": lambda: Engine.load(
        models.gru_plain(), compute_type={"decoder.linear": "int8"}
    ),
    "a compute type of a bias": lambda: Engine.load(
        models.gru_plain(), compute_type={"decoder.linear.bias": "int8"}
    ),
    "a compute type that is no name": lambda: Engine.load(
        models.gru_plain(),
        compute_type=8,  # type: ignore[arg-type]
    ),
    "an importer": lambda: Engine.load({"a": np.zeros(2)}, importer="opennmt"),
    "weights of nobody": lambda: Engine.load({"a": np.zeros(2)}),
}

# --- the core itself, Python's checks passed by ---

Document: TypeAlias = dict[str, Any]


def document(model: Model) -> Document:
    return {role: to_json(graph, role) for role, graph in model.graphs.items()}


def core(graphs: Any, tensors: Any, start: Any = 1, end: Any = (2,)) -> _core.Model:
    return _core.Model(graphs, tensors, start, list(end))


def edited(edit: Callable[[Document, dict[str, Any]], object], name: str = "lstm_luong") -> Case:
    def case() -> object:
        model = ALL[name]()
        graphs, tensors = document(model), dict(model.tensors)
        edit(graphs, tensors)
        return core(graphs, tensors)

    return case


def node(graphs: Document, name: str, role: str = "decoder") -> Any:
    return next(n for n in graphs[role]["nodes"] if n["name"] == name)


def put(
    graphs: Document, name: str, part: str, key: str, value: Any, role: str = "decoder"
) -> None:
    node(graphs, name, role)[part][key] = value


def transpose(tensors: dict[str, Any], name: str) -> None:
    tensors[name] = np.ascontiguousarray(tensors[name].T)


CORE: dict[str, Case] = {
    "a tensor that is not there": edited(lambda g, t: t.pop("decoder.linear.weight")),
    "a transposed tensor": edited(lambda g, t: transpose(t, "decoder.linear.weight")),
    "a tensor of float64": edited(
        lambda g, t: t.update({"decoder.linear.weight": t["decoder.linear.weight"].astype("f8")})
    ),
    "an operation that does not exist": edited(lambda g, t: node(g, "linear").update(op="exec")),
    "an operation of a later version": edited(lambda g, t: node(g, "linear").update(op="conv1d")),
    "a reference to nothing": edited(lambda g, t: put(g, "linear", "inputs", "x", ["ghost"])),
    "a reference forward": edited(lambda g, t: put(g, "lstm_cell", "inputs", "h", "linear")),
    "a reference to itself": edited(lambda g, t: put(g, "linear", "inputs", "x", ["linear"])),
    "an empty list": edited(lambda g, t: put(g, "linear", "inputs", "x", [])),
    "a role that does not exist": edited(lambda g, t: put(g, "linear", "inputs", "y", ["state.h"])),
    "a role that is missing": edited(lambda g, t: node(g, "linear")["inputs"].pop("x")),
    "a weight that is missing": edited(lambda g, t: node(g, "linear")["weights"].pop("weight")),
    "an attribute that is missing": edited(lambda g, t: node(g, "linear")["attributes"].clear()),
    "an attribute of a wrong type": edited(
        lambda g, t: put(g, "linear", "attributes", "activation", 3)
    ),
    "an attribute of an unknown word": edited(
        lambda g, t: put(g, "linear", "attributes", "activation", "gelu")
    ),
    "an attribute too many": edited(lambda g, t: put(g, "linear", "attributes", "fast", True)),
    "an integer beyond 64 bits": edited(
        lambda g, t: put(g, "attention", "attributes", "heads", 2**70)
    ),
    "a kind that does not exist": edited(
        lambda g, t: g["decoder"]["inputs"]["token"].update(kind="x")
    ),
    "a size of zero": edited(lambda g, t: g["decoder"]["inputs"]["token"].update(size=0)),
    "a negative size": edited(lambda g, t: g["encoder"]["inputs"]["tokens"].update(size=-5)),
    "a huge size": edited(lambda g, t: g["decoder"]["states"]["h"].update(size=2**62)),
    "a vocabulary that the embedding does not have": edited(
        lambda g, t: g["encoder"]["inputs"]["tokens"].update(size=12)
    ),
    "a state of another size than its next": edited(
        lambda g, t: g["decoder"]["states"]["h"].update(size=7)
    ),
    "a state that starts as nothing": edited(
        lambda g, t: g["decoder"]["states"]["h"].update(initial="encoder.x")
    ),
    "a state without a next": edited(lambda g, t: g["decoder"]["states"]["h"].pop("next")),
    "a sequence as a state": edited(
        lambda g, t: g["decoder"]["states"]["h"].update(kind="sequence")
    ),
    "no logits": edited(lambda g, t: g["decoder"]["outputs"].pop("logits")),
    "logits of a wrong size": edited(
        lambda g, t: g["decoder"]["outputs"].update(logits="lstm_cell.h")
    ),
    "an alignment that is a vector": edited(
        lambda g, t: g["decoder"]["outputs"].update(alignment="lstm_cell.h")
    ),
    "an output that does not exist": edited(
        lambda g, t: g["decoder"]["outputs"].update(x="linear")
    ),
    "two nodes of one name": edited(lambda g, t: node(g, "linear_2").update(name="linear")),
    "no token": edited(lambda g, t: g["decoder"]["inputs"].pop("token")),
    "an input that is no dictionary": edited(lambda g, t: g["encoder"]["inputs"].update(tokens=3)),
    "no nodes at all": edited(lambda g, t: g["encoder"].pop("nodes")),
    "a node that is a number": edited(lambda g, t: g["encoder"]["nodes"].append(3)),
    "a graph that is a list": edited(lambda g, t: g.update(encoder=[])),
    "a start outside the vocabulary": lambda: core(*both(models.gru_plain()), start=9),
    "an end outside the vocabulary": lambda: core(*both(models.gru_plain()), end=[2, -1]),
    "no graph": lambda: core({}, {}),
    "ids outside the vocabulary": lambda: run_core([[11]]),
    "a source of two inputs": lambda: run_core([[3], [3]]),
    "an empty source": lambda: run_core([[]]),
    "floats for ids": lambda: run_core([[1.5]]),
    "a number for ids": lambda: run_core([3]),
    "int64 for int32": lambda: run_core([np.array([3])]),
    "ids beyond 32 bits": lambda: run_core([[2**35]]),
    "no beam": lambda: run_core([[3]], beam=0),
    "a huge beam": lambda: run_core([[3]], beam=2**31 - 1),
    "no steps": lambda: run_core([[3]], steps=0),
    "negative steps": lambda: run_core([[3]], steps=-5),
    "no hypotheses": lambda: run_core([[3]], hypotheses=0),
    "a rule that does not exist": lambda: _core.SearchRules(ended="go"),
    "a penalty that does not exist": lambda: _core.SearchRules(length_penalty_kind="wu"),
    "a penalty of fewer tokens": lambda: _core.SearchRules(length_penalty_offset=-1),
    "a penalty that is a NaN": lambda: _core.SearchRules(length_penalty=float("nan")),
    "a coverage that is a NaN": lambda: _core.SearchRules(coverage_penalty=float("nan")),
    "a temperature of zero": lambda: _core.SearchRules(sampling=(0.0, 0, 1.0, 0)),
    "a repetition penalty of zero": lambda: _core.Constraints(repetition_penalty=0.0),
    "an automaton that is out of order": lambda: _core.Constraints(
        automaton=([0, 2], [4, 3], [0, 0], [True], 0)
    ),
    "an automaton that leads nowhere": lambda: _core.Constraints(
        automaton=([0, 1], [4], [1], [True], 0)
    ),
    "an automaton without states": lambda: _core.Constraints(automaton=([0], [], [], [], 0)),
    "a suppressed id outside the vocabulary": lambda: constrained(suppressed=[9]),
    "a prefix outside the vocabulary": lambda: constrained(prefix=[-1]),
    "an end outside the vocabulary of a call": lambda: constrained(end=[99]),
    "an arc outside the vocabulary": lambda: constrained(automaton=([0, 1], [50], [0], [True], 0)),
    "groups that do not divide the beam": lambda: core_session().decode(
        [[3]], _core.Request(3, 1, False, _core.SearchRules(beam_groups=2)), 5
    ),
    "an exact search under a penalty": lambda: _core.SearchRules(max_nodes=5, length_penalty=1.0),
    "coverage without attention": lambda: core_session().decode(
        [[3]], _core.Request(3, 1, False, _core.SearchRules(coverage_penalty=1.0)), 5
    ),
    "a target outside the vocabulary": lambda: core_session().score([[3]], [9], False),
    "a forced target outside the vocabulary": lambda: core_session().forced_logits([[3]], [-1]),
    "a label of an output that does not exist": lambda: core_session().label([[3]], 99),
    "scores of an output that does not exist": lambda: core_session().score_labels([[3]], [1], 99),
    "a batch with a prompt": lambda: batch([3], prompt=[4]),
    "a batch without a limit": lambda: batch([3], limit=0),
    "a batch of two inputs": lambda: batch([3], [3]),
    "a batch without a decoder": lambda: _core.Batch(tagger_session(), _core.Request()),
    "a state without a decoder": lambda: _core.DecoderState(tagger_session(), [[3]]),
    "an id that a state cannot be fed": lambda: state().feed(9, 0),
    "a step below zero": lambda: state().feed(3, -1),
    "states of a wrong number": lambda: state().restore(b"abcd"),
    "states that are no numbers": lambda: state().restore(b"abc"),
    "decoding without a decoder": lambda: tagger_session().decode([[3]], _core.Request(), 5),
}

# What cannot leave Python, and what a session says that has.
HANDED: dict[str, Case] = {
    "no decoder": lambda: handed(models.tagger()),
    "no engine": lambda: capsule_of("g2p.safetensors", None),
    "no options": lambda: capsule_of(Engine.load(models.gru_plain()), cast(Any, {"beam_size": 5})),
    "a warm-up for nothing": lambda: Engine.load(models.gru_plain()).warm_up(0),
    "a warm-up without a beam": lambda: Engine.load(models.gru_plain()).warm_up(5, 0),
    "a warm-up of a session for nothing": lambda: session_of_c().warm_up(0, 1, 1),
    "logits": lambda: handed(models.lstm_luong(), return_logits=True),
    "unknown tokens": lambda: handed(models.lstm_luong(), replace_unknowns="t3"),
    "samples without a seed": lambda: handed(models.lstm_luong(), sampling_topk=3),
    "a token that cancels": lambda: handed(models.lstm_luong(), cancel=CancelToken()),
    "no alignment": lambda: handed(models.gru_plain(), return_attention=True),
    "a length of no source": lambda: handed(language_model(), max_length="source"),
    "an empty source": lambda: session_of_c().refusal([]),
    "no source": lambda: session_of_c().refusal(),
    "an id outside of the vocabulary": lambda: session_of_c().refusal([3, 11]),
    "a negative id of the second source": lambda: session_of_c().refusal([3], [-1]),
    "a source that is too long": lambda: session_of_c().refusal([3] * 10_001),
    "no beam": lambda: session_of_c().refusal([3], beam_size=0),
    "more hypotheses than the beam": lambda: session_of_c().refusal([3], num_hypotheses=2),
    "a negative length": lambda: session_of_c().refusal([3], max_length=-1),
    "a timeout that is no number": lambda: session_of_c().refusal([3], timeout=float("nan")),
    "attention that there is not": lambda: session_of_c().refusal([3], attention=1),
    "groups that do not divide the beam": lambda: session_of_c(beam_size=4, beam_groups=2).refusal(
        [3], beam_size=3
    ),
    "a prefix that is too long": lambda: session_of_c(prefix=[4, 5]).refusal([3], max_length=2),
    "an exact search of two": lambda: session_of_c(exact=True, max_length=4).refusal([3], [4]),
    "more steps than the model has": lambda: c_interface.Session(
        Engine.load(language_model())
    ).refusal([3], max_length=65),
    "a timeout of nothing": lambda: session_of_c().refusal([3], timeout=0.0),
}


def handed(model: Model, **options: Any) -> object:
    return Engine.load(model)._hand_over(DecodeOptions(**options))


def session_of_c(**options: Any) -> c_interface.Session:
    return c_interface.Session(Engine.load(models.gru_plain()), DecodeOptions(**options))


def both(model: Model) -> tuple[Document, dict[str, Any]]:
    return document(model), dict(model.tensors)


def core_session() -> _core.Session:
    return _core.Session(core(*both(models.gru_plain())), "")


def constrained(**given: Any) -> object:
    rules = _core.SearchRules(constraints=_core.Constraints(**given))
    return core_session().decode([[3]], _core.Request(1, 1, False, rules), 5)


def tagger_session() -> _core.Session:
    return _core.Session(core(*both(models.tagger())), "")


def state() -> _core.DecoderState:
    return _core.DecoderState(core_session(), [[3]])


def batch(*inputs: Any, limit: int = 5, prompt: Any = None) -> object:
    return _core.Batch(core_session(), _core.Request()).join(
        [(0, list(inputs), limit, prompt, None)]
    )


def run_core(inputs: Any, *, beam: int = 1, hypotheses: int = 1, steps: int = 5) -> object:
    return core_session().decode(inputs, _core.Request(beam, hypotheses), steps)


SECTIONS: dict[str, dict[str, Case]] = {
    "Sources": SOURCES,
    "Targets": TARGETS,
    "Options": OPTIONS,
    "Loading": LOADING,
    "The core, called without Python's checks": CORE,
    "Engines handed over to the C interface": HANDED,
}
HEAD = """\
What the engine says about what it cannot take. Every line is a test of tests/test_bad_input.py;
`pytest tests/test_bad_input.py --update-messages` writes this page.
"""


def message(case: Case) -> str:
    with pytest.raises((S2SError, NotImplementedError, FileNotFoundError)) as caught:
        case()
    said = str(caught.value).replace(str(folder()), "FOLDER").replace(", ".join(ISAS), "ISAS")
    said = re.sub("0x[0-9a-f]+", "ADDRESS", re.sub("[0-9a-f]{64}", "DIGEST", said))
    return f"{type(caught.value).__name__}: {said}"


def page(messages: dict[tuple[str, str], str]) -> str:
    lines = [HEAD]
    for section, cases in SECTIONS.items():
        lines += [section, "-" * len(section), ""]
        for title in cases:
            lines += [title, *(f"    {line}" for line in messages[section, title].splitlines()), ""]
    return "\n".join(lines)


def known() -> dict[tuple[str, str], str]:
    """The page read back."""
    found: dict[tuple[str, str], str] = {}
    section = title = ""
    for line in PAGE.read_text().splitlines():
        if line in SECTIONS:
            section = line
        elif line.startswith("    "):
            found[section, title] = found.get((section, title), "") + "\n" + line[4:]
        elif line:
            title = line
    return {key: text[1:] for key, text in found.items()}


NAMES = [(section, title) for section, cases in SECTIONS.items() for title in cases]


@pytest.mark.parametrize(("section", "title"), NAMES, ids=[f"{s}: {t}" for s, t in NAMES])
def test_message(section: str, title: str, request: pytest.FixtureRequest) -> None:
    said = message(SECTIONS[section][title])
    assert len(said) < 500
    if not request.config.getoption("--update-messages"):
        assert said == known().get((section, title)), "pytest --update-messages takes it over"


def test_the_page_of_messages(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-messages"):
        PAGE.write_text(page({(s, t): message(SECTIONS[s][t]) for s, t in NAMES}))
    assert PAGE.read_text() == page(known())
    assert set(known()) == set(NAMES)


# --- documents mutated without end ---

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 33, 2**24, 2**24 + 1, 2**31, 2**32 + 1, 2**63 - 1, 2**64,
    0.5, 1e300, float("nan"), float("inf"), "", "x", "token", "tokens", "state.h", "encoder.h",
    "encoder.memory", "linear", "lstm_cell.h", "attention.weights", "tanh", "softmax", "backward",
    "before", "given", "additive", "none", *KINDS, *OPERATIONS, "step", "position", "source_length",
    [], {},
    ["state.h"], ["encoder.memory", "token"], [["x"]], b"x", (1, 2), 1j, "\0", "\ud800", "é" * 300,
)  # fmt: skip
SHAPES = (
    (1,),
    (1, 1),
    (6,),
    (6, 6),
    (9, 6),
    (24, 10),
    (0,),
    (0, 6),
    (6, 0),
    (),
    (2, 3, 4),
    (33, 1),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from places(item)


def mutate(graphs: Document, tensors: dict[str, Any], rng: random.Random) -> None:
    if not graphs:
        return
    container, key = rng.choice(list(places(graphs)))
    kind = rng.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1:
        other, name = rng.choice(list(places(graphs)))
        container[key] = copy.deepcopy(other[name])
    elif kind == 2 and isinstance(container, dict):
        container[rng.choice(["x", "h", "c", "bias", "scale", "zz", 5, None])] = container[key]
    elif kind == 3 and isinstance(container, list):
        rng.shuffle(container)
    elif kind == 4 and isinstance(container, list):
        container.insert(rng.randrange(len(container) + 1), copy.deepcopy(container[key]))
    elif kind == 5 and tensors:
        name = rng.choice(sorted(tensors, key=str))
        change = rng.randrange(5)
        if change == 0:
            del tensors[name]
        elif change == 1:
            tensors[name] = np.zeros(rng.choice(SHAPES), np.float32)
        elif change == 2 and isinstance(tensors[name], np.ndarray):
            tensors[name] = tensors[name].T
        elif change == 3:
            tensors[name] = rng.choice([None, 3, "x", [1.0], np.zeros(6), np.zeros(6, int)])
        else:
            extra: Any = rng.choice([5, None, "extra"])
            tensors[extra] = np.zeros((6, 6), np.float32)
    else:
        container[key] = copy.deepcopy(rng.choice(VALUES))


@pytest.mark.parametrize("name", ALL)
def test_a_mutated_document_is_refused_or_runs(name: str) -> None:
    """The core alone, past the checks of the Python reader: no crash, and no other error."""
    rng = random.Random(name)
    model = ALL[name]()
    refused = 0
    for _ in range(1500):
        graphs, tensors = copy.deepcopy(document(model)), dict(model.tensors)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            mutate(graphs, tensors, rng)
        start, end = rng.choice([(1, [2])] * 8 + [(-1, []), (-2, []), (2**31 - 1, [-1])])
        try:
            made = core(graphs, tensors, start, end)
        except (S2SError, NotImplementedError):
            refused += 1
            continue
        runs(made, graphs)
    assert refused > 700


def runs(made: _core.Model, graphs: Document) -> None:
    """A document that the core took is one that it can run, or refuses to for a stated reason."""
    session = _core.Session(made, "")
    inputs: list[Any] = []
    for name in made.inputs:
        type_ = graphs["encoder"]["inputs"][name]
        if type_["kind"] in ("id", "ids"):
            inputs.append([0] if type_["kind"] == "id" else [0] * 3)
        elif type_["size"] > 10**6:
            return
        else:
            length = 1 if type_["kind"] == "vector" else 3
            inputs.append(np.ones((length, type_["size"]), np.float32))
    try:
        session.encode(inputs)
        if "decoder" in graphs:
            alignment = "alignment" in graphs["decoder"]["outputs"]
            session.decode(inputs, _core.Request(3, 2, alignment), 4)
            session.score(inputs, [0, 0], False)
            session.forced_logits(inputs, [0])
        for number in range(len(graphs.get("encoder", {}).get("outputs", ()))):
            session.label(inputs, number)
    except (S2SError, NotImplementedError):
        pass


@pytest.mark.parametrize("name", ALL)
def test_a_model_whose_weights_hold_nan_or_infinity_never_wins(name: str) -> None:
    """Past the finite check of the reader: NaN is an error, not a token."""
    model = ALL[name]()
    ids: dict[str, Any] = {"features": np.ones(7)} if name == "captioner" else {"x": [3, 4]}
    options = None if name in models.LABELLERS else DecodeOptions(beam_size=2, max_length=5)
    for tensor in model.tensors:
        for value in (np.nan, np.inf, -np.inf):
            array = np.full_like(model.tensors[tensor], value)
            wrong = Engine.load(replace(model, tensors={**model.tensors, tensor: array}))
            try:
                result = wrong.decode(**ids, options=options)
            except S2SError as error:
                assert re.search("hold a NaN or an infinity", str(error))
            else:
                for h in result.hypotheses:
                    assert np.isfinite(h.token_log_probs).all()
