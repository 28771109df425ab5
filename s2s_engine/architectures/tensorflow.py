"""TensorFlow's decoders: AttentionWrapper of version 1 and the tutorial nmt_with_attention. Knows
their wiring; never checkpoints."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..builder import Array, ModelBuilder, Value
from .weights import Weights, dense, part


def lstm_cell(
    kernel: ArrayLike, bias: ArrayLike, *, hidden: int, forget_bias: float = 1.0
) -> dict[str, Array]:
    """The weights of tf.nn.rnn_cell.LSTMCell as a cell's.

    kernel (I+H, 4H) has the rows [x; h] and the gates i, j, f, o in its columns; forget_bias is
    what the program adds to f at run time: no file holds it.
    """
    columns = np.asarray(kernel, np.float32).T
    i, j, f, o = np.split(np.concatenate([columns, np.asarray(bias, np.float32)[:, None]], 1), 4)
    f[:, -1] += np.float32(forget_bias)
    rows = np.concatenate([i, f, j, o])
    inputs = columns.shape[1] - hidden
    return {
        "weight_ih": rows[:, :inputs],
        "weight_hh": rows[:, inputs:-1],
        "bias_ih": rows[:, -1],
    }


def attention_wrapper(
    m: ModelBuilder,
    w: Weights,
    *,
    mechanism: Literal["bahdanau", "luong"] = "bahdanau",
    normalize: bool = False,
    scale: bool = False,
    output_attention: bool = True,
    clone_encoder_state: bool = False,
    gate_activation: str = "sigmoid",
) -> None:
    """tf.contrib.seq2seq: AttentionWrapper(LSTMCell) in a BasicDecoder, memory from a Keras LSTM.

    encoder.embedding (source, E), decoder.embedding (target, E); encoder.cell: weights of an LSTM
    (4C, E), (4C, C), with `gate_activation` (hard_sigmoid in Keras under TensorFlow 1);
    memory_layer.weight (A, C); decoder.cell: weights of an LSTM (4H, E+N), (4H, H), of which
    `lstm_cell` makes those of TensorFlow. N is the size of attention_layer.weight (N, H+C), or C
    where there is none (attention_layer_size=None).
    bahdanau: query_layer.weight (A, H), attention.v (A), and with `normalize` attention.g () or
    (1) and attention.b (A). luong: A = H, and with `scale` attention.g.
    output.weight (target, N, or H without `output_attention`); without it the cell's output or the
    attention is the logits.
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w["encoder.embedding"])
    memory, h0, c0 = e.lstm(x, part(w, "encoder.cell"), gate_activation=gate_activation)
    keys = e.linear(memory, w["memory_layer.weight"], w["attention.b"] if normalize else None)
    e.output(memory=memory, keys=keys)
    if clone_encoder_state:
        e.output(h=h0, c=c0)

    hidden = int(np.shape(w["decoder.cell.weight_hh"])[1])
    layer = "attention_layer.weight" in w
    size = int(np.shape(w["attention_layer.weight"])[0]) if layer else memory.type.size
    if clone_encoder_state:
        h, c = d.state("h", initial="h"), d.state("c", initial="c")
    else:
        h, c = d.state("h", size=hidden), d.state("c", size=hidden)
    attention = d.state("attention", size=size)
    y = d.embedding(d.token, w["decoder.embedding"])
    h, c = d.lstm_cell([y, attention], h, c, part(w, "decoder.cell"))
    context: Value
    if mechanism == "bahdanau":
        v = np.asarray(w["attention.v"], np.float64)
        if normalize:  # v <- g v / |v|
            v = np.ravel(w["attention.g"]) * v / np.linalg.norm(v)
        query = d.linear(h, w["query_layer.weight"])
        context, weights = d.attention(query=query, keys="keys", values="memory", v=v)
    else:
        g = float(np.ravel(w["attention.g"])[0]) if scale else 1.0
        context, weights = d.attention(query=h, keys="keys", values="memory", scale=g)
    attention = d.linear([h, context], w["attention_layer.weight"]) if layer else context
    d.next(h=h, c=c, attention=attention)
    output = attention if output_attention else h
    logits = dense(d, output, w, "output") if "output.weight" in w else output
    d.output(logits=logits, alignment=weights)


def nmt_with_attention(m: ModelBuilder, w: Weights) -> None:
    """TensorFlow's tutorial nmt_with_attention, first version (2018 to 2021).

    Its decoder calls the GRU without a state: the recurrence starts from zero at every step, and
    the state of the step before reaches the next one as attention's query alone.

    encoder.embedding (source, E), decoder.embedding (target, E); encoder.cell: weights of a GRU
    (3H, E), (3H, H); attention.W1 (A, H) on the query and attention.W2 (A, H) on the memory, each
    {weight, bias}; attention.V.weight (1, A), attention.V.bias (1); decoder.cell: weights of a GRU
    (3H, H+E) on [context; y], (3H, H); fc {weight (target, H), bias}.
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w["encoder.embedding"])
    memory, h = e.gru(x, part(w, "encoder.cell"))
    e.output(memory=memory, keys=dense(e, memory, w, "attention.W2"), hidden=h)

    hidden = d.state("hidden", initial="hidden")
    query = dense(d, hidden, w, "attention.W1")
    context, weights = d.attention(
        query=query,
        keys="keys",
        values="memory",
        v=np.ravel(w["attention.V.weight"]),
        energy_bias=w["attention.V.bias"],
    )
    y = d.embedding(d.token, w["decoder.embedding"])
    output = d.gru_cell([context, y], None, part(w, "decoder.cell"))
    d.next(hidden=output)
    d.output(logits=dense(d, output, w, "fc"), alignment=weights)


def nmt_with_attention_2021(m: ModelBuilder, w: Weights) -> None:
    """TensorFlow's tutorial nmt_with_attention, second version (2021 to October 2022).

    The decoder starts from the encoder's last state, its GRU reads the token alone, and attention
    asks with the new state. Source positions of id 0 are padding: the encoder reads them, attention
    does not.

    encoder.embedding (source, E), decoder.embedding (target, E); encoder.cell, decoder.cell:
    weights of a GRU (3H, E), (3H, H); attention.W1.weight (A, H) on the query, attention.W2.weight
    (A, H) on the memory, attention.scale (A); Wc.weight (H, 2H) on [context; h]; fc
    {weight (target, H), bias}.
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w["encoder.embedding"])
    memory, h = e.gru(x, part(w, "encoder.cell"))
    padding = np.zeros((len(np.asarray(w["encoder.embedding"])), 1), np.float32)
    padding[0] = EXCLUDED
    keys = dense(e, memory, w, "attention.W2")
    e.output(memory=memory, keys=keys, mask=e.embedding(e.tokens, padding), hidden=h)

    hidden = d.state("hidden", initial="hidden")
    y = d.embedding(d.token, w["decoder.embedding"])
    hidden = d.gru_cell(y, hidden, part(w, "decoder.cell"))
    read = d.activation(d.add("keys", dense(d, hidden, w, "attention.W1")), "tanh")
    scores = d.linear(read, np.reshape(w["attention.scale"], (1, -1)))
    context, weights = d.attention(scores=d.add(scores, "mask"), values="memory")
    output = dense(d, [context, hidden], w, "Wc", activation="tanh")
    d.next(hidden=hidden)
    d.output(logits=dense(d, output, w, "fc"), alignment=weights)


def nmt_with_attention_2022(m: ModelBuilder, w: Weights, *, heads: int = 1) -> None:
    """TensorFlow's tutorial nmt_with_attention, third version (from October 2022 on).

    Nothing but the memory is handed to the decoder, whose GRU starts from zeros. Id 0 is padding in
    source and target, as Keras masks it: a GRU keeps its state there and gives zeros, attention
    leaves such source positions out, and such a target token asks all positions alike.

    encoder.embedding (source, U), decoder.embedding (target, U); encoder.forward, encoder.backward,
    decoder.cell: weights of a GRU (3U, U), (3U, U); attention.query {weight (heads K, U), bias},
    attention.key.weight (heads K, U), whose bias would add the same to all energies of a query and
    changes no weight; attention.value {weight (heads V, U), bias}, attention.output
    {weight (U, heads V), bias}; layernorm {weight (U), bias (U)}; output {weight (target, U),
    bias}.
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, _with_padding(w["encoder.embedding"]))
    forward, _ = e.gru(x, _skipping(part(w, "encoder.forward")))
    backward, _ = e.gru(x, _skipping(part(w, "encoder.backward")), direction="backward")
    is_token = e.embedding(e.tokens, _is_token(w["encoder.embedding"]))
    memory = e.multiply(e.add(forward, backward), is_token)
    size = len(np.asarray(w["attention.key.weight"])) // heads
    query, query_bias, key = _masked_heads(w, heads)
    keys = e.linear([memory, e.slice(x, x.type.size - 1, x.type.size)], key)
    e.output(memory=memory, keys=keys, values=dense(e, memory, w, "attention.value"))

    hidden = d.state("hidden", size=memory.type.size)
    y = d.embedding(d.token, _with_padding(w["decoder.embedding"]))
    is_token = d.embedding(d.token, _is_token(w["decoder.embedding"]))
    hidden = d.gru_cell(y, hidden, _skipping(part(w, "decoder.cell")))
    output = d.multiply(hidden, is_token)
    context, weights = d.attention(
        query=d.multiply(d.linear(output, query, query_bias), is_token),
        keys="keys",
        values="values",
        scale=1.0 / float(np.sqrt(size)),
        heads=heads,
    )
    output = d.layer_norm(
        d.add(output, dense(d, context, w, "attention.output")),
        w["layernorm.weight"],
        w["layernorm.bias"],
        eps=1e-3,
    )
    d.next(hidden=hidden)
    d.output(logits=dense(d, output, w, "output"), alignment=weights)


# --- padding as Keras masks it ---

# What Keras adds to the energy of a position that attention must leave out.
EXCLUDED = -1e9
# The update gate of a GRU is exactly 1 with this in it: the state stays as it is.
KEPT = 1e4


def _with_padding(table: ArrayLike) -> Array:
    """An embedding with one feature more: 1 for padding, which is id 0, else 0."""
    rows = np.asarray(table, np.float32)
    padding = np.zeros((len(rows), 1), np.float32)
    padding[0] = 1.0
    return np.concatenate([rows, padding], 1)


def _is_token(table: ArrayLike) -> Array:
    tokens = np.ones((len(np.asarray(table)), 1), np.float32)
    tokens[0] = 0.0
    return tokens


def _skipping(cell: dict[str, ArrayLike]) -> dict[str, ArrayLike]:
    """The GRU on `_with_padding`'s features: where the last one is 1, it keeps its state."""
    weight = np.asarray(cell["weight_ih"], np.float32)
    column = np.zeros((len(weight), 1), np.float32)
    column[len(weight) // 3 : 2 * len(weight) // 3] = KEPT
    return cell | {"weight_ih": np.concatenate([weight, column], 1)}


def _masked_heads(w: Weights, heads: int) -> tuple[Array, Array, Array]:
    """Weight and bias of queries, and the weight of keys from [memory; padding]. Each head has one
    feature more, 1 in queries, which excludes padding."""
    query, bias, key = (
        np.asarray(w[f"attention.{name}"], np.float32)
        for name in ("query.weight", "query.bias", "key.weight")
    )
    query = np.pad(query.reshape(heads, -1, query.shape[1]), [(0, 0), (0, 1), (0, 0)])
    key = np.pad(key.reshape(heads, -1, key.shape[1]), [(0, 0), (0, 1), (0, 1)])
    bias = bias.reshape(heads, -1)
    key[:, -1, -1] = EXCLUDED
    bias = np.pad(bias, [(0, 0), (0, 1)], constant_values=1.0)
    return query.reshape(-1, query.shape[2]), bias.reshape(-1), key.reshape(-1, key.shape[2])
