"""`inspect`: the listing and its JSON, on models small enough to check by eye."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import pytest

from s2s_engine.builder import ModelBuilder
from s2s_engine.format import read_header
from s2s_engine.listing import as_json, listing
from s2s_engine.model import Model
from s2s_engine.self_test import attach

LUONG = """\
luong: format 1, {size:,} bytes
  weights     1,525 parameters, 19 tensors, 6,100 bytes (F32)
  sha256      {digest} (as the file says; `verify` checks it)
  vocabulary  tokens: 11 strings: 's0' 's1' 's2' 's3' 's4' 's5' 's6' 's7' ...
  vocabulary  target: 9 strings: 't0' 't1' 't2' 't3' 't4' 't5' 't6' 't7' ...
  tokens      separated by spaces
  source      append 2 's2', unknown is refused
  target      start 1 't1', end 2 't2'
  generation  max_length 12
  self-test   none
  provenance  source 'tests/models.py'

encoder: 144 multiply-adds and 864 bytes per sentence, 360 and 1,152 per source position
  inputs
    tokens: ids[11]
  nodes
    embedding[S, 5] = embedding(x=tokens)   weight 11x5
    lstm.sequence[S, 6], lstm.h[6], lstm.c[6] = lstm(x=embedding, direction=forward)   \
weight_ih 24x5, weight_hh 24x6, bias_ih 24, bias_hh 24
      0 multiply-adds and 0 bytes per sentence, 144 and 576 per source position
    lstm_2.sequence[S, 6], lstm_2.h[6], lstm_2.c[6] = lstm(x=embedding, direction=backward)   \
weight_ih 24x5, weight_hh 24x6, bias_ih 24, bias_hh 24
      0 multiply-adds and 0 bytes per sentence, 144 and 576 per source position
    concat[S, 12] = concat(x=[lstm.sequence; lstm_2.sequence])
    concat_2[12] = concat(x=[lstm.h; lstm_2.h])
    concat_3[12] = concat(x=[lstm.c; lstm_2.c])
    linear[6] = linear(x=concat_2)   weight 6x12
      72 multiply-adds and 288 bytes per sentence
    linear_2[6] = linear(x=concat_3)   weight 6x12
      72 multiply-adds and 288 bytes per sentence
    linear_3[S, 6] = linear(x=concat)   weight 6x12
      0 multiply-adds and 288 bytes per sentence, 72 and 0 per source position
  outputs
    memory = concat[S, 12]
    keys = linear_3[S, 6]
    h = linear[6]
    c = linear_2[6]

decoder: 450 multiply-adds and 1,800 bytes per step, 18 and 72 per source position
  inputs
    token: id[9]
  states
    h[6]: initial encoder.h, next lstm_cell.h
    c[6]: initial encoder.c, next lstm_cell.c
    feed[6]: initial zeros, next linear
  nodes
    embedding[4] = embedding(x=token)   weight 9x4
    lstm_cell.h[6], lstm_cell.c[6] = lstm_cell(x=[embedding; state.feed], h=state.h, c=state.c)   \
weight_ih 24x10, weight_hh 24x6, bias_ih 24, bias_hh 24
      288 multiply-adds and 1,152 bytes per step
    attention.context[12], attention.weights[S, 1] = attention(query=lstm_cell.h, \
keys=encoder.keys, values=encoder.memory, score=dot)
      0 multiply-adds and 0 bytes per step, 18 and 72 per source position
    linear[6] = linear(x=[attention.context; lstm_cell.h], activation=tanh)   weight 6x18
      108 multiply-adds and 432 bytes per step
    linear_2[9] = linear(x=linear)   weight 9x6
      54 multiply-adds and 216 bytes per step
  outputs
    logits = linear_2[9]
    alignment = attention.weights[S, 1]"""


def saved(model: Model, folder: Path) -> Path:
    path = folder / "model.safetensors"
    model.save(path)
    return path


def listed(model: Model, folder: Path) -> str:
    return listing(read_header(saved(model, folder)), "m")


def test_a_listing_reads_as_the_wiring(tmp_path: Path) -> None:
    header = read_header(saved(models.lstm_luong(), tmp_path))
    want = LUONG.format(size=header.file_size, digest=header.digest)
    assert listing(header, "luong") == want


@pytest.mark.parametrize("name", [*models.DECODERS, *models.LABELLERS])
def test_every_node_has_a_line(name: str, tmp_path: Path) -> None:
    model = {**models.DECODERS, **models.LABELLERS}[name]()
    lines = listed(model, tmp_path).split("\n")
    for graph in model.graphs.values():
        for node in graph.nodes:
            assert any(f" = {node.op}(" in line and f"    {node.name}" in line for line in lines)


def test_no_line_ends_in_a_space(tmp_path: Path) -> None:
    assert all(line == line.rstrip() for line in listed(models.lstm_given(), tmp_path).split("\n"))


def test_a_model_without_vocabularies_start_and_end(tmp_path: Path) -> None:
    text = listed(models.no_recurrence(), tmp_path)
    assert "  target      start nothing, end none\n" in text
    assert "vocabulary" not in text and "  provenance  none\n" in text


def test_a_labeller_has_no_target(tmp_path: Path) -> None:
    text = listed(models.tagger(), tmp_path)
    assert "  target      labels (no decoder)\n" in text and "\ndecoder:" not in text


def test_the_whole_source_rule_is_told(tmp_path: Path) -> None:
    w = models.Weights(0)
    m = ModelBuilder(source=9)
    e = m.encoder
    e.output(logits=e.linear(e.embedding(e.tokens, w(9, 3)), w(4, 3)))
    rule = {
        "prepend": [1], "append": [2, 3], "truncate": 7, "reverse": True, "unknown": 0,
        "pad": {"to": [5, 10], "side": "left", "id": 4},
    }  # fmt: skip
    text = listed(m.build(source=rule, vocabularies={"tokens": models.words("s", 9)}), tmp_path)
    assert (
        "  source      prepend 1 's1', append 2 's2' 3 's3', cut at 7, "
        "pad on the left to 5, 10 with 4 's4', reverse, unknown is 0 's0'\n"
    ) in text


def test_tied_weights_are_marked(tmp_path: Path) -> None:
    w = models.Weights(0)
    shared = w(9, 3)
    m = ModelBuilder(source=9)
    e = m.encoder
    e.output(logits=e.linear(e.embedding(e.tokens, shared), shared))
    text = listed(m.build(), tmp_path)
    assert text.count("weight 9x3 (tied: encoder.embedding.weight)") == 2


def test_a_self_test_is_counted(tmp_path: Path) -> None:
    text = listed(attach(models.gru_plain()), tmp_path)
    assert "  self-test   9 source ids, 8 target ids, tolerance 0.0001\n" in text


def test_strings_of_a_file_cannot_steer_a_terminal(tmp_path: Path) -> None:
    w = models.Weights(0)
    m = ModelBuilder(source=2)
    e = m.encoder
    e.output(logits=e.linear(e.embedding(e.tokens, w(2, 3)), w(4, 3)))
    model = m.build(vocabularies={"tokens": ["\x1b[2J", "b"]}, provenance={"by": "\x9b1m"})
    assert "\x1b" not in listed(model, tmp_path) and "\x9b" not in listed(model, tmp_path)


def test_the_json_is_the_document_and_what_is_counted(tmp_path: Path) -> None:
    model = models.lstm_luong()
    path = saved(model, tmp_path)
    fields = as_json(read_header(path))
    assert {name: fields[name] for name in model.to_document()} == model.to_document()
    assert fields["parameters"] == sum(array.size for array in model.tensors.values())
    assert fields["tensor_bytes"] == 4 * fields["parameters"]
    assert fields["file_size"] == path.stat().st_size
    step = fields["work"]["decoder"]["per_step"]
    assert step == {
        "bytes": 1800, "multiply_adds": 450, "position_bytes": 72, "position_multiply_adds": 18
    }  # fmt: skip
    nodes = fields["work"]["decoder"]["nodes"]
    assert set(nodes) == {"lstm_cell", "attention", "linear", "linear_2"}
    for key, whole in step.items():
        assert sum(node[key] for node in nodes.values()) == whole
    assert fields["tensors"]["decoder.embedding.weight"] == {"dtype": "F32", "shape": [9, 4]}


def test_only_the_header_is_read(tmp_path: Path) -> None:
    path = saved(models.gru_plain(), tmp_path)
    before = listing(read_header(path), "m")
    data = bytearray(path.read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    assert listing(read_header(path), "m") == before
