"""`ModelBuilder`: the example of the documentation, names and tying, and errors at the author's
line. Knows the builder's face; never execution."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Weights

from s2s_engine.builder import ModelBuilder
from s2s_engine.errors import ModelFormatError

H = 8


def test_example_of_the_documentation_runs_as_written(tmp_path: Path) -> None:
    w = Weights(0)
    E_src, E_tgt = w(29, 5), w(74, 6)  # the documentation's names
    forward, backward = w.lstm(5, H // 2), w.lstm(5, H // 2)
    W_a, W_c, W_s, cell = w(H, H), w(H, 2 * H), w(74, H), w.lstm(6 + H, H)

    m = ModelBuilder(source=29, target=74)
    e, d = m.encoder, m.decoder
    memory, h, c = e.bidirectional(e.lstm, e.embedding(e.tokens, E_src), forward, backward)
    e.output(memory=memory, keys=e.linear(memory, W_a), h=h, c=c)

    h_prev, c_prev, feed = d.state("h", initial="h"), d.state("c", initial="c"), d.state("feed", size=H)  # noqa: E501  # fmt: skip
    h, c = d.lstm_cell([d.embedding(d.token, E_tgt), feed], h_prev, c_prev, cell)
    context, weights = d.attention(query=h, keys="keys", values="memory")
    t = d.linear([context, h], W_c, activation="tanh")
    d.next(h=h, c=c, feed=t)
    d.output(logits=d.linear(t, W_s), alignment=weights)
    vocabularies = {"tokens": [str(i) for i in range(29)], "target": [str(i) for i in range(74)]}
    model = m.build(source={"append": [3]}, start=2, end=[3], vocabularies=vocabularies)
    model.save(tmp_path / "model.safetensors")
    result = model.reference().decode([4, 5, 6], max_length=20, return_attention=True)
    assert result.source == ["4", "5", "6", "3"]
    assert result.attention is not None
    assert result.attention.shape[1] == 4


def start() -> tuple[ModelBuilder, Weights]:
    """A builder whose encoder has a memory and a last state."""
    w = Weights(1)
    m = ModelBuilder(source=5, target=4)
    memory, h = m.encoder.gru(m.encoder.embedding(m.encoder.tokens, w(5, 3)), w.gru(3, H))
    m.encoder.output(memory=memory, h=h)
    return m, w


def finish(m: ModelBuilder, w: Weights, **options: Any) -> Any:
    m.decoder.output(logits=m.decoder.embedding(m.decoder.token, w(4, 4)))
    return m.build(**options)


def test_arrays_become_tensors_named_by_graph_node_and_role() -> None:
    m, w = start()
    m.decoder.linear("h", w(4, H), w(4), name="bridge")
    model = finish(m, w)
    assert set(model.tensors) == {
        "encoder.embedding.weight", "encoder.gru.weight_ih", "encoder.gru.weight_hh",
        "encoder.gru.bias_ih", "encoder.gru.bias_hh", "decoder.bridge.weight",
        "decoder.bridge.bias", "decoder.embedding.weight",
    }  # fmt: skip


def test_same_array_object_twice_is_one_tensor_and_equal_arrays_are_two() -> None:
    m, w = start()
    array = w(4, H)
    for given in (array, array, array.copy()):
        m.decoder.linear("h", given)
    nodes = finish(m, w).graphs["decoder"].nodes
    names = [node.weights["weight"] for node in nodes[:3]]
    assert names == ["decoder.linear.weight", "decoder.linear.weight", "decoder.linear_3.weight"]


def test_float16_and_float64_arrays_become_float32() -> None:
    m, w = start()
    m.decoder.linear("h", w(4, H).astype(np.float64), w(4).astype(np.float16))
    assert {array.dtype for array in finish(m, w).tensors.values()} == {np.dtype(np.float32)}


def test_float_attribute_is_the_float32_in_the_shortest_decimal() -> None:
    m, w = start()
    m.decoder.attention(query="h", keys="memory", values="memory", scale=1 / 3)
    node = finish(m, w).graphs["decoder"].nodes[0]
    assert node.attributes["scale"] == 0.33333334


def faults() -> dict[str, tuple[Any, str]]:
    """Calls by name: each takes a started builder and breaks one rule in its own line."""
    return {
        "shape": (lambda m, w: m.decoder.linear("h", w(4, H + 1)),
                  "node 'linear' .linear.: weight is 4x9, must be .x8"),
        "unknown output": (lambda m, w: m.decoder.linear("hidden", w(4, H)),
                           "the encoder has no output 'hidden'; it has memory, h"),
        "string in the encoder": (lambda m, w: m.encoder.linear("memory", w(4, H)),
                                  "'memory' is not a value of the encoder"),
        "value of the encoder": (lambda m, w: m.decoder.linear(m.encoder.tokens, w(4, H)),
                                 "is of the encoder; the decoder reads an encoder's output by its"),
        "integers": (lambda m, w: m.decoder.linear("h", np.ones((4, H), int)),
                     "tensor 'decoder.linear.weight' is of int64, must be float16, float32 or"),
        "nan": (lambda m, w: m.decoder.linear("h", np.full((4, H), np.nan)),
                "'decoder.linear.weight' holds a NaN or an infinity in float32"),
        "too large": (lambda m, w: m.decoder.linear("h", np.full((4, H), 1e39)),
                      "holds a NaN or an infinity in float32"),
        "name": (lambda m, w: m.decoder.linear("h", w(4, H), name="a-b"), "'a-b' must match"),
        "name twice": (lambda m, w: (m.decoder.linear("h", w(4, H), name="a"),
                                     m.decoder.linear("h", w(4, H), name="a")),
                       "the decoder has a node or input 'a' already"),
        "activation": (lambda m, w: m.decoder.activation("h", "gelu"),
                       "attribute function must be one of identity, tanh"),
        "role": (lambda m, w: m.decoder.gru_cell("h", None, {"kernel": w(3, 3)}),
                 "has no weight 'kernel'; it has bias_hh, bias_ih, weight_hh, weight_ih"),
        "state of no output": (lambda m, w: m.decoder.state("s", initial="x"), "no output 'x'"),
        "state without size": (lambda m, w: m.decoder.state("s"), "takes initial= .* or size="),
        "state sizes": (lambda m, w: m.decoder.state("s", initial="h", size=3),
                        "state 's' has size 3, but starts as encoder.h"),
        "next of no state": (lambda m, w: m.decoder.next(s="h"), "has no state 's'; it has none"),
        "next of another size": (lambda m, w: (m.decoder.state("s", size=3), m.decoder.next(s="h")),
                                 "state 's' is vector.3., its next value is encoder.h .vector.8."),
        "constant": (lambda m, w: m.decoder.constant(), "takes either a value or a size"),
        "constant of two dimensions": (lambda m, w: m.decoder.constant(w(2, 2)), "value is 2x2"),
        "input twice": (lambda m, w: m.encoder.input("tokens", ids=3), "must be new and match"),
        "built-in input": (lambda m, w: m.encoder.input("position", ids=3), "by the engine"),
        "input of no kind": (lambda m, w: m.encoder.input("x"), "takes one of vector=, sequence="),
        "one value": (lambda m, w: m.decoder.slice(["h"], 0, 1), "x must be one reference"),
        "alone": (lambda m, w: m.decoder.add("h"), "needs at least two values in x, got 1"),
        "broadcast": (lambda m, w: m.decoder.add("h", m.decoder.constant(size=3)),
                      "sizes must be equal or 1, got vector.8., vector.3."),
        "slice": (lambda m, w: m.decoder.slice("h", 3, 9), "takes features 3 to 9 of x, which is"),
        "constant of no size": (lambda m, w: m.decoder.constant(size=0), "size must be 1 to 16777"),
        "reserved name": (lambda m, w: m.decoder.linear("h", w(4, H), name="encoder"),
                          "state, encoder, outer are no names of nodes"),
        "one_hot": (lambda m, w: m.encoder.one_hot(m.encoder.tokens, 4),
                    "encoder node 'one_hot' .one_hot.: size is 4, fewer than the 5 ids of x"),
        "join": (lambda m, w: m.decoder.join(["memory", m.decoder.constant(size=3)]),
                 "node 'join' .join.: sizes must be equal, got sequence.8., vector.3."),
        "join of one": (lambda m, w: m.decoder.join("memory"), "needs at least two values in x"),
        "lengths": (lambda m, w: m.decoder.add("memory", m.decoder.join(["memory", "h"])),
                    "node 'add' .add.: a call holds sequence.8. of S positions and sequence.8. of "
                    "S.1 positions: lengths must be equal"),
        "maxout": (lambda m, w: m.decoder.maxout("h", 3),
                   "node 'maxout' .maxout.: x is vector.8., its size must be a multiple of pieces"),
        "layer_norm": (lambda m, w: m.decoder.layer_norm("h", w(H + 1)),
                       "node 'layer_norm' .layer_norm.: weight is 9, must be 8"),
        "layer_norm eps": (lambda m, w: m.decoder.layer_norm("h", eps=-1), "eps must be at least"),
        "reverse": (lambda m, w: m.decoder.reverse("h"),
                    "node 'reverse' .reverse.: x is vector.8., must be a sequence or a ids"),
        "to_positions": (lambda m, w: m.decoder.to_positions("memory"),
                         "node 'to_positions' .to_positions.: x is sequence.8., must be a vector"),
        "scatter": (lambda m, w: m.decoder.scatter("memory", "h", 5),
                    "node 'scatter' .scatter.: weights is sequence.8., must be sequence.1."),
        "first_step": (lambda m, w: m.decoder.first_step("h", m.decoder.constant(size=3)),
                       "first is vector.8. and otherwise is vector.3.: sizes must be equal"),
        "first_step in an encoder": (lambda m, w: m.encoder.first_step(m.encoder.constant(size=3),
                                     m.encoder.constant(size=3)), "may not stand in an encoder"),
        "rnn": (lambda m, w: m.decoder.rnn("memory", w.cell(1, H + 1, 3)),
                "node 'rnn' .rnn.: weight_ih is 3x9, must be 3x8"),
        "rnn_cell": (lambda m, w: m.decoder.rnn_cell("h", None, w.cell(1, H, 3), activation="exp"),
                     "node 'rnn_cell' .rnn_cell.: attribute activation must be one of identity"),
        "peephole": (lambda m, w: m.decoder.lstm_cell("h", None, None,
                     w.lstm(H, 2) | {"peephole": w(2)}), "peephole is 2, must be 6"),
        "projection": (lambda m, w: m.decoder.lstm_cell("h", None, None,
                       w.lstm(H, 2) | {"projection": w(1, 2)}), "weight_hh is 8x2, must be 8x1"),
        "clip": (lambda m, w: m.decoder.lstm_cell("h", None, None, w.lstm(H, 2), clip=-1),
                 "node 'lstm_cell' .lstm_cell.: attribute clip must be at least 0, is -1"),
        "heads": (lambda m, w: m.decoder.attention(query="h", keys="memory", values="memory",
                  heads=3), "values is sequence.8., its size must be a multiple of the 3 heads"),
        "window": (lambda m, w: m.decoder.attention(query="h", keys="memory", values="memory",
                   window=2), "node 'attention' .attention.: window is 2, must be 0 without a cen"),
        "centre": (lambda m, w: m.decoder.attention(query="h", keys="memory", values="memory",
                   window=2, centre="h"), "centre is vector.8., must be vector.1."),
        "scan": (lambda m, w: m.decoder.scan("h", lambda step, x: x),
                 "decoder node 'scan' .scan.: x holds no sequence, it joins to vector.8."),
        "scan direction": (lambda m, w: m.decoder.scan("memory", lambda step, x: x, direction="up"),
                           "attribute direction must be one of forward, backward"),
        "body": (lambda m, w: m.decoder.scan("memory", lambda step, x: step.linear(x, w(3, 3))),
                 "decoder.scan node 'linear' .linear.: weight is 3x3, must be .x8"),
        "body of no value": (lambda m, w: m.decoder.scan("memory", lambda step, x: None),
                             "output 'sequence' of decoder.scan: None is not a value"),
        "body of a sequence": (lambda m, w: m.decoder.scan("memory", lambda step, x: "memory"),
                               "the body of decoder.scan returns sequence.8., must return a vec"),
        "body of an unknown output": (lambda m, w: m.decoder.scan("memory",
                                      lambda step, x: step.add(x, "y")), "no output 'y'; it has m"),
        "body in the encoder": (lambda m, w: m.encoder.scan(m.encoder.one_hot(m.encoder.tokens, 5),
                                lambda step, x: "memory"), "'memory' is not a value of the encode"),
        "scan in a scan": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                           step.scan("memory", lambda inner, y: y)[0]),
                           "may not stand in the body of a scan"),
        "first_step in a scan": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                                 step.first_step(x, x)), "may not stand in the body of a scan"),
        "to_positions in a scan": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                                   step.to_positions(x)), "may not stand in the body of a scan"),
        "state called sequence": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                                  step.state("sequence", size=3)), "may not be called 'sequence'"),
        "state of a step without size": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                                         step.state("s")), "takes initial= .a value of the graph"),
        "state that starts inside": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                                     step.state("s", initial=x)), "starts as x .vector.8.., must"),
        "state of a step of a sequence": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                                          step.state("s", initial="memory")),
                                          "starts as outer.encoder.memory .*, must be a vector"),
        "state without next": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                               step.state("s", size=3)), r"'s' has no next value: step.next.s=..."),
        "next of no state in a step": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                                       step.next(s=x)), "the decoder.scan has no state 's'; it ha"),
        "next in a step": (lambda m, w: m.decoder.scan("memory", lambda step, x:
                           (step.state("s", size=3), step.next(s=x))),
                           "state 's' is vector.3., its next value is x .vector.8."),
        "value of a step": (lambda m, w: m.decoder.linear(escaped(m), w(4, H)),
                            "x .vector.8.. is of one step of decoder.scan; only what its body"),
        "value of another step": (lambda m, w: (escaped(m), m.decoder.scan("memory",
                                  lambda step, x: step.add(x, escaped(m)))), "is of one step of"),
        "state kind": (lambda m, w: m.decoder.state("s", size=3, kind="ids"),
                       "state 's' starts as kind 'ids', must be a vector or a sequence"),
        "state of another kind": (lambda m, w: m.decoder.state("s", initial="h", kind="sequence"),
                                  "'s' is sequence.8. of S positions, but starts as encoder.h"),
        "state of no size": (lambda m, w: m.decoder.state("s", size=0), "has size 0, must be at l"),
    }  # fmt: skip


def escaped(m: ModelBuilder) -> Any:
    """A value of one step of a scan, which means nothing outside."""
    kept: list[Any] = []
    m.decoder.scan("memory", lambda step, x: (kept.append(x), x)[1])
    return kept[0]


@pytest.mark.parametrize("name", faults())
def test_fault_is_an_error_at_the_authors_line(name: str) -> None:
    call, message = faults()[name]
    m, w = start()
    with pytest.raises(ModelFormatError, match=message) as caught:
        call(m, w)
    frames = [frame for frame in traceback.extract_tb(caught.value.__traceback__)
              if frame.filename == __file__]  # fmt: skip
    assert frames[-1].name == "<lambda>"


def test_tensors_of_a_body_are_named_by_graph_scan_node_and_role() -> None:
    m, w = start()
    shared = w(H, H)

    def body(step: Any, x_t: Any) -> Any:
        h = step.state("h", initial="h")
        new = step.add(step.linear([x_t, h], w(H, 2 * H), name="mix"), step.linear(h, shared))
        outside = m.decoder.linear("h", shared)  # a node of the decoder, written before the scan
        step.next(h=new)
        return step.add(new, outside)

    sequence, states = m.decoder.scan("memory", body, name="refined")
    assert (sequence.type.kind, sequence.type.size, states["h"].type.size) == ("sequence", H, H)
    again, _ = m.decoder.scan(sequence, lambda step, x_t: step.activation(x_t, "tanh"))
    assert (sequence.reference, again.reference) == ("refined.sequence", "scan.sequence")
    nodes = finish(m, w, arrays={"shared": shared}).graphs["decoder"].nodes
    assert [node.name for node in nodes] == ["linear", "refined", "scan", "embedding"]
    body_nodes = nodes[1].body.nodes
    assert [node.weights.get("weight") for node in body_nodes] == [
        "decoder.refined.mix.weight", "decoder.refined.linear.weight", None, None
    ]  # fmt: skip
    assert nodes[0].weights["weight"] == "decoder.refined.linear.weight"
    assert body_nodes[3].inputs["x"] == ["add", "outer.linear"]


def test_model_that_writes_no_encoder_has_none() -> None:
    w = Weights(2)
    m = ModelBuilder(target=4)
    m.decoder.output(logits=m.decoder.embedding(m.decoder.token, w(4, 4)))
    assert set(m.build(start=0).graphs) == {"decoder"}
    m = ModelBuilder(target=4)
    m.encoder.output(h=m.encoder.constant(w(3)))
    m.decoder.output(logits=m.decoder.embedding(m.decoder.token, w(4, 4)))
    assert set(m.build(start=0).graphs) == {"encoder", "decoder"}


def test_encoder_may_read_one_id_for_the_whole_source() -> None:
    w = Weights(3)
    table, tags = w(5, 3), w(4, 3)
    m = ModelBuilder(source=5)
    tag = m.encoder.embedding(m.encoder.input("tag", id=4), tags)
    m.encoder.output(x=m.encoder.join([tag, m.encoder.embedding(m.encoder.tokens, table)]))
    out = m.build().reference().encode({"tokens": [1, 2], "tag": 3})
    assert np.array_equal(out["x"], [tags[3], table[1], table[2]])


def test_logits_and_log_probabilities_are_one_or_the_other() -> None:
    m, w = start()
    m.decoder.output(log_probabilities=m.decoder.embedding(m.decoder.token, w(4, 4)))
    assert set(m.build().graphs["decoder"].outputs) == {"log_probabilities"}
    with pytest.raises(ModelFormatError, match="has logits and log_probabilities, must have one"):
        finish(m, w)


def test_decoder_state_may_be_a_sequence() -> None:
    m, w = start()
    notes = m.decoder.state("notes", initial="memory")
    seen = m.decoder.state("seen", size=2, kind="sequence")
    assert str(notes.type) == "sequence[8]"
    assert str(seen.type) == "sequence[2]"
    m.decoder.next(notes=notes, seen=seen)
    states = finish(m, w).graphs["decoder"].states
    assert states["notes"].initial == "encoder.memory"
    assert states["seen"].type.kind == "sequence"
    m, w = start()
    m.encoder.output(long=m.encoder.join([m.encoder.one_hot(m.encoder.tokens, 5)] * 2))
    message = (
        r"'s' is sequence\[5\] of S positions, but starts as encoder.long .sequence\[5\] of 2S"
    )
    with pytest.raises(ModelFormatError, match=message):
        m.decoder.state("s", initial="long")


def test_build_reports_what_only_the_whole_can_show() -> None:
    m, w = start()
    with pytest.raises(ModelFormatError, match=r"no logits: decoder.output\(logits=...\)"):
        m.build()
    m.decoder.state("s", size=3)
    with pytest.raises(ModelFormatError, match=r"state 's' has no next value: decoder.next.s=..."):
        finish(m, w)
    m, w = start()
    with pytest.raises(ModelFormatError, match="array 'left' is used by no node"):
        finish(m, w, arrays={"left": w(3)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 4}, "target: start must be 0 to 3, is 4"),
        ({"end": [-1]}, "target: end, item 0 must be 0 to 3, is -1"),
        ({"source": {"append": [5]}}, "source: append, item 0 must be 0 to 4, is 5"),
        ({"source": {"suffix": [1]}}, "source: key 'suffix' is unknown"),
        ({"vocabularies": {"tokens": ["a"]}}, "vocabulary 'tokens' has 1 strings, must have 5"),
        ({"vocabularies": {"source": ["a"]}}, "vocabulary 'source' belongs to no input"),
        ({"generation": {"beam": 3}}, "generation: .*'beam'"),
        ({"generation": {"beam_size": 0}}, "generation: beam_size is 0, must be 1 to 1024"),
    ],
)
def test_wrong_option_of_build_is_named(options: dict[str, Any], message: str) -> None:
    m, w = start()
    with pytest.raises(ModelFormatError, match=message):
        finish(m, w, **options)


def test_model_without_a_decoder_has_none_to_write() -> None:
    with pytest.raises(ModelFormatError, match="has no decoder"):
        _ = ModelBuilder(source=3).decoder
    with pytest.raises(ModelFormatError, match="has no tokens"):
        _ = ModelBuilder(target=3).encoder.tokens
