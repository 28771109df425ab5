"""The networks of the papers, equation by equation, in the papers' order of terms. Knows the
papers; never how anybody's file stores their weights."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ..builder import Array, EncoderBuilder, GraphBuilder, ModelBuilder, Value, X
from .weights import Weights, dense, part

Score = Literal["dot", "general", "concat", "location"]
Reach = Literal["global", "monotonic", "predictive"]


def sutskever2014(m: ModelBuilder, w: Weights, *, layers: int = 4) -> None:
    """Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks".

    A stack of LSTMs reads the source in reverse (section 3.3); the final states of every layer
    start those of the decoder (eq. 1).

    encoder.embedding (source, E), decoder.embedding (target, E); encoder.k and decoder.k for
    k = 0 ... layers-1: weights of an LSTM (4H, E or H), (4H, H); output.weight (target, H).
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.reverse(e.tokens), w["encoder.embedding"])
    final: dict[str, Value] = {}
    for k in range(layers):
        x, final[f"h{k}"], final[f"c{k}"] = e.lstm(x, part(w, f"encoder.{k}"))
    e.output(**final)

    x = d.embedding(d.token, w["decoder.embedding"])
    after: dict[str, X] = {}
    for k in range(layers):
        h, c = d.state(f"h{k}", initial=f"h{k}"), d.state(f"c{k}", initial=f"c{k}")
        x, after[f"c{k}"] = d.lstm_cell(x, h, c, part(w, f"decoder.{k}"))
        after[f"h{k}"] = x
    d.next(after)
    d.output(logits=dense(d, x, w, "output"))


def cho2014(m: ModelBuilder, w: Weights) -> None:
    """Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", appendix A.

    The summary c enters every gate, the reset gate multiplies its term of the candidate too, and
    the output is a maxout of pairs. The first y is no word: build with start=None.

    encoder.embedding (source, E), decoder.embedding (target, E); encoder.cell: weights of a GRU
    (3H, E), (3H, H) without biases, reset before the product; summary.weight V (C, H),
    initial.weight V' (H, C); update.weight [W'_z U'_z C_z] and reset.weight [W'_r U'_r C_r]
    (H, E+H+C); candidate.weight W' (H, E), recurrent.weight [U' C] (H, H+C); deep.weight
    [O_h O_y O_c] (2 M, H+target+C); output.weight G (target, M).
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w["encoder.embedding"])
    _, h = e.gru(x, part(w, "encoder.cell"), reset="before")
    c = dense(e, h, w, "summary", activation="tanh")  # c = tanh(V h_N)
    e.output(c=c, h=dense(e, c, w, "initial", activation="tanh"))  # h'_0 = tanh(V' c)

    h = d.state("h", initial="h")
    y = d.embedding(d.token, w["decoder.embedding"])
    z = dense(d, [y, h, "c"], w, "update", activation="sigmoid")
    r = dense(d, [y, h, "c"], w, "reset", activation="sigmoid")
    # h~' = tanh(W' e(y) + r' (U' h' + C c))
    candidate = d.add(
        dense(d, y, w, "candidate"), d.multiply(r, dense(d, [h, "c"], w, "recurrent"))
    )
    h = d.interpolate(z, h, d.activation(candidate, "tanh"))
    d.next(h=h)
    # s = max of pairs of O_h h' + O_y y + O_c c
    y_one = d.one_hot(d.token, d.token.type.size)
    s = d.maxout(dense(d, [h, y_one, "c"], w, "deep"), 2)
    d.output(logits=dense(d, s, w, "output"))


def bahdanau2015(m: ModelBuilder, w: Weights) -> None:
    """Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
    Translate" (RNNsearch), appendix A.

    encoder.embedding (source, E), decoder.embedding (target, E); forward and backward: weights of
    GRUs (3H, E), (3H, H); initial.weight W_s (H, H); attention.query W_a (A, H), attention.key U_a
    (A, 2H), attention.v (A); decoder.cell: weights of a GRU ([W C]: (3H, E+2H)), (3H, H);
    deep.weight [U_o V_o C_o] (2 M, H+E+2H); output.weight W_o (target, M). Biases are optional.
    The paper's z keeps the new state: the rows of z are those of the paper negated, exactly.
    """
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w["encoder.embedding"])
    forward, _ = e.gru(x, part(w, "forward"), reset="before")
    backward, first = e.gru(x, part(w, "backward"), reset="before", direction="backward")
    memory = e.concat([forward, backward])  # h_j = [forward; backward] (eq. 7)
    keys = e.linear(memory, w["attention.key"], w.get("attention.bias"))  # U_a h_j
    # s_0 = tanh(W_s backward h_1)
    e.output(memory=memory, keys=keys, s=dense(e, first, w, "initial", activation="tanh"))

    s = d.state("s", initial="s")
    y = d.embedding(d.token, w["decoder.embedding"])
    query = d.linear(s, w["attention.query"])
    # e_ij = v tanh(W_a s_{i-1} + U_a h_j), c_i = sum_j a_ij h_j (eqs. 5, 6)
    c, a = d.attention(query=query, keys="keys", values="memory", v=w["attention.v"])
    d.next(s=d.gru_cell([y, c], s, part(w, "decoder.cell"), reset="before"))
    t = d.maxout(dense(d, [s, y, c], w, "deep"), 2)  # of U_o s_{i-1} + V_o E y_{i-1} + C_o c_i
    d.output(logits=dense(d, t, w, "output"), alignment=a)


def luong2015(
    m: ModelBuilder,
    w: Weights,
    *,
    layers: int = 4,
    score: Score = "dot",
    reach: Reach = "global",
    window: int = 10,
    input_feeding: bool = True,
) -> None:
    """Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation".

    score: eq. 8. reach: all positions; `window` D on each side of p_t = t (local-m); or around the
    predicted p_t of eq. 9 with the Gaussian of eq. 10 (local-p).

    encoder.embedding (source, E), decoder.embedding (target, E); encoder.k, decoder.k: weights of
    LSTMs (4H, E or H), (4H, H), where decoder.0 reads [y; h~] (4H, E+H) with input feeding;
    combine.weight W_c (H, 2H); output.weight W_s (target, H). general: attention.weight W_a (H, H);
    concat: W_a in its halves attention.query and attention.key (A, H), attention.v (A); location:
    attention.weight W_a (L, H) for sources of at most L positions, global only.
    predictive: position.weight W_p (P, H), position.v (1, P).
    """
    if score == "location" and reach != "global":
        raise ValueError("score 'location' is defined for reach 'global' alone")
    e, d = m.encoder, m.decoder
    x = e.embedding(e.tokens, w["encoder.embedding"])
    final: dict[str, Value] = {}
    for k in range(layers):
        x, final[f"h{k}"], final[f"c{k}"] = e.lstm(x, part(w, f"encoder.{k}"))
    e.output(memory=x, **final)
    if score == "general":
        # h_t' W_a h_s = h_t . (W_a h_s)
        e.output(keys=e.linear(x, w["attention.weight"]))
    elif score == "concat":
        e.output(keys=e.linear(x, w["attention.key"]))

    h: Value = d.embedding(d.token, w["decoder.embedding"])
    after: dict[str, X] = {}
    for k in range(layers):
        h_prev, c_prev = d.state(f"h{k}", initial=f"h{k}"), d.state(f"c{k}", initial=f"c{k}")
        feed = [d.state("feed", size=_rows(w, "combine.weight"))] if input_feeding and not k else []
        h, after[f"c{k}"] = d.lstm_cell([h, *feed], h_prev, c_prev, part(w, f"decoder.{k}"))
        after[f"h{k}"] = h

    centre: X | None = None
    if reach == "monotonic":
        centre = d.step(4096)  # p_t = t
    elif reach == "predictive":
        # p_t = S sigmoid(v_p tanh(W_p h_t)) (eq. 9)
        p = dense(d, h, w, "position", activation="tanh")
        share = d.linear(p, w["position.v"], activation="sigmoid")
        centre = d.multiply(d.source_length(), share)
    size = 0 if centre is None else window
    gaussian = reach == "predictive"
    if score == "location":
        # a_t = softmax(W_a h_t) (eq. 8), of which the source's positions are used
        scores = d.to_positions(d.softmax(d.linear(h, w["attention.weight"])))
        c, a = d.attention(scores=scores, values="memory", normaliser="none")
    elif score == "concat":
        query = d.linear(h, w["attention.query"])
        c, a = d.attention(
            query=query, keys="keys", values="memory", v=w["attention.v"],
            centre=centre, window=size, gaussian=gaussian,
        )  # fmt: skip
    else:
        keys = "memory" if score == "dot" else "keys"
        c, a = d.attention(
            query=h, keys=keys, values="memory", centre=centre, window=size, gaussian=gaussian
        )
    attentional = dense(d, [c, h], w, "combine", activation="tanh")  # eq. 5
    d.next(after)
    if input_feeding:
        d.next(feed=attentional)  # section 3.3
    d.output(logits=dense(d, attentional, w, "output"), alignment=a)  # eq. 6


def sinusoids(positions: int, size: int) -> Array:
    """(positions, size): sin and cos in turn (Vaswani et al. 2017, section 3.5)."""
    angle = np.arange(positions)[:, None] / 10000.0 ** (np.arange(0, size, 2) / size)
    table = np.zeros((positions, size), np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angle), np.cos(angle[:, : size // 2])
    return table


def multi_head_attention(
    graph: GraphBuilder,
    query: X,
    memory: X,
    w: Weights,
    *,
    heads: int,
) -> tuple[Value, Value]:
    """MultiHead(Q, K, V) and its weights: Vaswani et al. 2017, eq. 1 and section 3.2.2.

    query.weight and key.weight (N d_k, D), value.weight (N d_v, D), out.weight (D, N d_v), a head's
    features together; biases are optional. A sequence of queries asks at each of its positions.
    """
    q = dense(graph, query, w, "query")
    k, v = dense(graph, memory, w, "key"), dense(graph, memory, w, "value")
    scale = 1.0 / math.sqrt(q.type.size // heads)
    context, weights = graph.attention(query=q, keys=k, values=v, scale=scale, heads=heads)
    return dense(graph, context, w, "out"), weights


def vaswani2017_encoder(
    e: EncoderBuilder,
    w: Weights,
    *,
    layers: int,
    heads: int,
    positions: int = 4096,
    eps: float = 1e-5,
) -> tuple[Value, list[Value]]:
    """The encoder of Vaswani et al. 2017, "Attention Is All You Need", section 3.1: its output, and
    the weights of each layer's heads.

    embedding (source, D), times sqrt(D) behind its look-up; sinusoids for at most `positions`.
    Layer k: k.attention.{query, key, value, out} as `multi_head_attention` takes them; k.norm1 and
    k.norm2 {weight, bias} (D); k.inner (F, D) and k.outer (D, F), each {weight, bias} (eq. 2).
    """
    size = int(np.shape(w["embedding"])[1])
    x = e.add(
        e.embedding(e.tokens, w["embedding"], scale=math.sqrt(size)),
        e.embedding(e.position(positions), sinusoids(positions, size)),
    )
    maps = []
    for k in range(layers):
        layer = part(w, str(k))
        context, weights = multi_head_attention(e, x, x, part(layer, "attention"), heads=heads)
        maps.append(weights)
        x = _norm(e, e.add(x, context), layer, "norm1", eps)
        inner = dense(e, x, layer, "inner", activation="relu")
        x = _norm(e, e.add(x, dense(e, inner, layer, "outer")), layer, "norm2", eps)
    return x, maps


def vaswani2017_classifier(
    m: ModelBuilder, w: Weights, *, layers: int, heads: int, positions: int = 4096
) -> None:
    """The encoder of Vaswani et al. 2017 and a label for the sentence from its mean.

    encoder.*: see `vaswani2017_encoder`; output.weight (labels, D). Outputs: logits, memory and
    self_attention_k, the weights of layer k.
    """
    e = m.encoder
    memory, maps = vaswani2017_encoder(
        e, part(w, "encoder"), layers=layers, heads=heads, positions=positions
    )
    e.output(logits=dense(e, e.pool(memory, "mean"), w, "output"), memory=memory)
    e.output(**{f"self_attention_{k}": weights for k, weights in enumerate(maps)})


def vaswani2017_recurrent(
    m: ModelBuilder, w: Weights, *, layers: int, heads: int, positions: int = 4096
) -> None:
    """The encoder of Vaswani et al. 2017 before a recurrent decoder that asks it with several heads
    (as the hybrids of Chen et al. 2018, "The Best of Both Worlds", do).

    encoder.*: see `vaswani2017_encoder`; decoder.embedding (target, E); initial.weight (H, D) of
    the mean; decoder.cell: weights of a GRU (3H, E), (3H, H); decoder.attention.{query, key, value,
    out} with query.weight (N d_k, H); output.weight (target, H + D).
    """
    e, d = m.encoder, m.decoder
    memory, maps = vaswani2017_encoder(
        e, part(w, "encoder"), layers=layers, heads=heads, positions=positions
    )
    e.output(memory=memory, h=dense(e, e.pool(memory, "mean"), w, "initial", activation="tanh"))
    e.output(**{f"self_attention_{k}": weights for k, weights in enumerate(maps)})
    y = d.embedding(d.token, w["decoder.embedding"])
    h = d.gru_cell(y, d.state("h", initial="h"), part(w, "decoder.cell"))
    d.next(h=h)
    attention = part(w, "decoder.attention")
    context, weights = multi_head_attention(d, h, "memory", attention, heads=heads)
    d.output(logits=dense(d, [h, context], w, "output"), alignment=weights)


def _norm(e: EncoderBuilder, x: Value, w: Weights, name: str, eps: float) -> Value:
    return e.layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], eps=eps)


def _rows(w: Weights, name: str) -> int:
    return int(np.shape(w[name])[0])
