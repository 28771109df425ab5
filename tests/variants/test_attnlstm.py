"""TensorFlow's AttentionWrapper with BahdanauAttention against ONNX Runtime's operator AttnLSTM
(com.microsoft): written by others, after TensorFlow's code, in C++ and float32. Knows the
operator's layouts.

What the operator can express: all options of the wrapper with BahdanauAttention.
- LSTMCell: W [iofc; x, attention] and R; it adds nothing to f, so the forget bias is put into B.
- attention_layer_size: AW on [h; context], or none.
- normalize: it has neither g nor b. V holds g v / |v|; b is a row of MW, read by a memory column
  of ones, which W and AW do not read.
- clone_encoder_state: initial_h and initial_c.
- output_attention=False: Y is the sequence of h.
- output_attention=True: no output of the operator shows the attention, and none the alignments;
  additional units of its cell show both, see `operator`.
LuongAttention it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from checks import (
    CLOSE,
    ISAS,
    SOURCE,
    E,
    Shapes,
    Weights,
    cell_shapes,
    difference,
    double,
    random_weights,
    row,
)

from s2s_engine import Engine, Model, ModelBuilder
from s2s_engine.architectures import tensorflow

pytestmark = pytest.mark.parity("onnx", "onnxruntime")

LENGTHS, STEPS = (1, 4, 9), 7
# A unit that shows x, here of order 1, gives tanh(tanh(x / REACH)), nearly x / REACH: the inverse
# loses log2(REACH) bits and no more.
REACH = 8.0


@dataclass(frozen=True)
class Wrapper:
    """The options of one AttentionWrapper and its sizes; size is its attention_layer_size, hard the
    gates of the Keras LSTM that makes the memory."""

    normalize: bool = False
    size: int | None = None
    clone: bool = False
    hard: bool = False
    hidden: int = 6
    memory: int = 4
    score: int = 5

    @property
    def fed(self) -> int:
        return self.size or self.memory


def run_node(name: str, inputs: dict[str, Any], *, domain: str = "", **attributes: Any) -> Any:
    """The outputs Y, Y_h and Y_c of one operator; an input that is None is not given."""
    import onnx

    onnxruntime: Any = pytest.importorskip("onnxruntime")
    helper, types = (
        onnx.helper,
        {np.float32: onnx.TensorProto.FLOAT, np.int32: onnx.TensorProto.INT32},
    )
    values = {
        key: np.asarray(one, np.int32 if key.endswith("_lens") else np.float32)
        for key, one in inputs.items()
        if one is not None
    }
    outputs = ["Y", "Y_h", "Y_c"]
    node = helper.make_node(
        name, [key if key in values else "" for key in inputs], outputs, domain=domain, **attributes
    )
    graph = helper.make_graph(
        [node],
        name,
        [
            helper.make_tensor_value_info(key, types[one.dtype.type], one.shape)
            for key, one in values.items()
        ],
        [helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, None) for key in outputs],
    )
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(outputs, values)


def encode(wrapper: Wrapper, w: Weights, sources: list[list[int]]) -> Any:
    """The Keras LSTM as the operator LSTM: memory (B, S, C) and the last h and c (1, B, C)."""

    def iofc(array: Any) -> Any:
        i, f, g, o = np.split(array, 4)
        return np.concatenate([i, o, f, g])[None]

    x = np.zeros((max(LENGTHS), len(sources), E))
    for k, source in enumerate(sources):
        x[: len(source), k] = w["encoder.embedding"][source]
    bias = iofc(w["encoder.cell.bias_ih"])
    # HardSigmoid has alpha 0.2 and beta 0.5, those of Keras 1 and 2.
    options: Any = {"activations": ["HardSigmoid", "Tanh", "Tanh"]} if wrapper.hard else {}
    inputs = {
        "X": x,
        "W": iofc(w["encoder.cell.weight_ih"]),
        "R": iofc(w["encoder.cell.weight_hh"]),
        "B": np.concatenate([bias, np.zeros_like(bias)], 1),
        "sequence_lens": LENGTHS,
    }
    y, h, c = run_node("LSTM", inputs, hidden_size=wrapper.memory, **options)
    return y[:, 0].transpose(1, 0, 2), h, c


def operator(
    wrapper: Wrapper, w: Weights, sources: list[list[int]], fed: Any, *, shown: bool
) -> tuple[Any, Any, Any]:
    """h, attention and alignments (B, T, .) of the steps that read the tokens `fed` (B, T).

    With `shown` the operator's cell has more units, one for each number to be shown: i = o = 1 and
    f = 0 by their biases, g = tanh of the number. Nothing reads them: their columns of R and rows
    of QW and AW are zero. They see what the cell is fed, which is the attention of the step before.
    The alignments are part of it: the memory has the columns of an identity matrix, so that the
    context has the alignments, and the units of the wrapper do not read these.
    """
    p, hidden, size, score = double(w), wrapper.hidden, wrapper.memory, wrapper.score
    batch, positions = len(sources), max(LENGTHS) if shown else 0
    units = wrapper.fed + positions if shown else 0
    memory, *last = encode(wrapper, w, sources)

    # BahdanauAttention
    columns, rows = [memory], [p["memory_layer.weight"].T]
    v = p["attention.v"]
    if wrapper.normalize:
        v = p["attention.g"] * v / np.sqrt((v * v).sum())
        columns.append(np.ones((batch, max(LENGTHS), 1)))
        rows.append(p["attention.b"][None])
    if shown:
        columns.append(np.broadcast_to(np.eye(positions), (batch, positions, positions)))
        rows.append(np.zeros((positions, score)))
    depth = sum(len(one) for one in rows)
    query = np.concatenate([p["query_layer.weight"].T, np.zeros((units, score))])

    # AttentionWrapper
    layer, attention = None, depth
    if wrapper.size:
        attention = wrapper.size + positions
        layer = np.zeros((hidden + units + depth, attention))
        layer[:hidden, : wrapper.size] = p["attention_layer.weight"][:, :hidden].T
        context = layer[hidden + units :]
        context[:size, : wrapper.size] = p["attention_layer.weight"][:, hidden:].T
        context[depth - positions :, wrapper.size :] = np.eye(positions)

    # LSTMCell
    width = E + wrapper.fed
    W, R = (np.zeros((4, hidden + units, n)) for n in (E + attention, hidden + units))
    B = np.zeros((2, 4, hidden + units))
    tf = {name: k for k, name in enumerate("ijfo")}
    for gate, (name, to_show) in enumerate(
        [("i", 30.0), ("o", 30.0), ("f", -30.0), ("j", 0.0)]  # the operator's order i, o, f, c
    ):
        kernel = np.split(p["kernel"], 4, axis=1)[tf[name]]
        W[gate, :hidden, :width] = kernel[:width].T
        R[gate, :hidden, :hidden] = kernel[width:].T
        B[0, gate, :hidden] = np.split(p["bias"], 4)[tf[name]] + (name == "f")
        B[0, gate, hidden:] = to_show
    for k in range(units):
        # The first numbers are the attention, the last ones the alignments.
        column = k if k < wrapper.fed else k - units + attention
        W[3, hidden + k, E + column] = 1.0 / REACH

    initial: Any = [None, None]
    if wrapper.clone:
        initial = [np.concatenate([one, np.zeros((1, batch, units))], 2) for one in last]
    inputs = {
        "X": p["decoder.embedding"][np.asarray(fed).T],
        "W": W.reshape(1, -1, E + attention),
        "R": R.reshape(1, -1, hidden + units),
        "B": B.reshape(1, -1),
        "sequence_lens": None,
        "initial_h": initial[0],
        "initial_c": initial[1],
        "P": None,
        "QW": query[None],
        "MW": np.concatenate(rows)[None],
        "V": v[None],
        "M": np.concatenate(columns, 2),
        "memory_seq_lens": LENGTHS,
        "AW": None if layer is None else layer[None],
    }
    y = run_node("AttnLSTM", inputs, domain="com.microsoft", hidden_size=hidden + units)[0]
    y = y[:, 0].transpose(1, 0, 2).astype(float)
    seen = REACH * np.arctanh(np.arctanh(y[..., hidden:]))
    return y[..., :hidden], seen[..., : wrapper.fed], seen[..., wrapper.fed :]


def weights_of(wrapper: Wrapper) -> Weights:
    """Those of `attention_wrapper`, but the cell's as TensorFlow has them: kernel and bias."""
    hidden = wrapper.hidden
    shapes: Shapes = {
        "encoder.embedding": (SOURCE, E),
        "decoder.embedding": (max(hidden, wrapper.fed), E),
        **cell_shapes("encoder.cell", 4, E, wrapper.memory, biases=("ih",)),
        "memory_layer.weight": (wrapper.score, wrapper.memory),
        "query_layer.weight": (wrapper.score, hidden),
        "attention.v": (wrapper.score,),
        "kernel": (E + wrapper.fed + hidden, 4 * hidden),
        "bias": (4 * hidden,),
    }
    if wrapper.normalize:
        shapes |= {"attention.g": (1,), "attention.b": (wrapper.score,)}
    if wrapper.size:
        shapes |= {"attention_layer.weight": (wrapper.size, hidden + wrapper.memory)}
    return random_weights(3, shapes, scale=0.9)


def write(wrapper: Wrapper, w: Weights, *, output_attention: bool) -> Model:
    """The wrapper without an output layer: its output is the logits."""
    target = wrapper.fed if output_attention else wrapper.hidden
    cell = tensorflow.lstm_cell(w["kernel"], w["bias"], hidden=wrapper.hidden)
    w = w | {f"decoder.cell.{role}": array for role, array in cell.items()}
    w["decoder.embedding"] = w["decoder.embedding"][:target]
    del w["kernel"], w["bias"]
    m = ModelBuilder(source=SOURCE, target=target)
    tensorflow.attention_wrapper(
        m,
        w,
        normalize=wrapper.normalize,
        output_attention=output_attention,
        clone_encoder_state=wrapper.clone,
        gate_activation="hard_sigmoid" if wrapper.hard else "sigmoid",
    )
    return m.build(start=0)


@pytest.mark.parametrize("output_attention", [False, True])
@pytest.mark.parametrize(
    "wrapper",
    [
        row(
            "TF",
            "AttentionWrapper",
            case="the program",
            values=[Wrapper(hidden=2, memory=2, score=3)],
        ),
        row("TF", "AttentionWrapper", "C4", case="no layer", values=[Wrapper()]),
        row("AttentionWrapper", case="normalize", values=[Wrapper(normalize=True)]),
        row("AttentionWrapper", case="layer", values=[Wrapper(size=4)]),
        row("AttentionWrapper", case="normalize, layer", values=[Wrapper(normalize=True, size=7)]),
        row("AttentionWrapper", case="cloned", values=[Wrapper(clone=True, hidden=4)]),
        row(
            "AttentionWrapper",
            "C5",
            case="cloned, layer, under TF1's Keras",
            values=[Wrapper(clone=True, hidden=4, size=3, hard=True)],
        ),
    ],
)
def test_attnlstm(wrapper: Wrapper, output_attention: bool) -> None:
    """The bound: both sides round to 2^-24 some hundred times; the operator's sigmoid and tanh are
    rational functions in float32, and reading its units multiplies its rounding by REACH."""
    w = weights_of(wrapper)
    model = write(wrapper, w, output_attention=output_attention)
    random = np.random.default_rng(5)
    sources = [random.integers(0, SOURCE, n).tolist() for n in LENGTHS]
    target = model.graphs["decoder"].inputs["token"].size
    forced = random.integers(0, target, (len(sources), STEPS - 1)).tolist()

    def oracle(targets: list[list[int]]) -> tuple[Any, Any]:
        """The wrapper's outputs and its alignments, (B, STEPS, .)."""
        fed = np.pad(np.asarray(targets), ((0, 0), (1, 0)))
        h = operator(wrapper, w, sources, fed, shown=False)[0]
        # A unit shows in a step what the step before made: one more step, whatever it reads.
        more = np.pad(fed, ((0, 0), (0, 1)))
        same, attention, alignments = operator(wrapper, w, sources, more, shown=True)
        assert difference(same[:, :-1], h) <= CLOSE
        return attention[:, 1:] if output_attention else h, alignments[:, 1:]

    expected, _ = oracle(forced)
    same_target, _ = oracle(forced[:1] * len(sources))
    assert difference(same_target[0], same_target[-1]) > 100 * CLOSE
    for isa in ISAS:
        engine = Engine.load(model, isa=isa)
        for k, source in enumerate(sources):
            assert difference(engine.forced_logits(source, forced[k]), expected[k]) <= CLOSE
        # The model has no end: a path has STEPS tokens.
        found = [engine.decode(one, max_length=STEPS, return_attention=True) for one in sources]
        logits, alignments = oracle([result.ids[:-1] for result in found])
        assert [result.ids for result in found] == logits.argmax(-1).tolist()
        for result, one, length in zip(found, alignments, LENGTHS, strict=True):
            padded = np.zeros_like(one)
            padded[:, :length] = result.attention
            assert difference(padded, one) <= CLOSE
