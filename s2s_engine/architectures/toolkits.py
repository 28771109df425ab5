"""Models of toolkits on PyTorch, from their own state-dict names. Knows each toolkit's equations;
never files, vocabularies or execution. Marian and Nematus have a module of their own.

Every function takes `rules`, the arguments of `ModelBuilder.build` (source, start, end,
vocabularies, generation, ...), which go over the toolkit's ids. V is the size of a vocabulary, E of
an embedding, H of a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..builder import DecoderBuilder, EncoderBuilder, GraphBuilder, ModelBuilder, StepBuilder, Value
from ..model import Model
from . import allennlp as parts
from . import opennmt
from .state_dict import (
    Weights,
    by_layer,
    cell,
    cells,
    hand_over,
    joined,
    linear,
    roles,
    run_cells,
    size,
    stack,
    step,
    transposed,
    width,
)

__all__ = ["allennlp", "fairseq", "g2p_en", "joeynmt", "opennmt_py", "stanza", "thai2rom"]

Rules = Mapping[str, Any]


def g2p_en(w: Weights, *, rules: Rules | None = None) -> Model:
    """The g2p_en package: a GRU from letters to phonemes, without attention.

    enc_emb, dec_emb (V, E); {enc,dec}_{w_ih,w_hh,b_ih,b_hh} with gates r, z, n; fc_w (V, H), fc_b.
    """
    m = ModelBuilder(source=size(w["enc_emb"]), target=size(w["dec_emb"]))
    e, d = m.encoder, m.decoder
    names = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
    encoder = {role: w[f"enc_{name}"] for role, name in names.items()}
    decoder = {role: w[f"dec_{name}"] for role, name in names.items()}
    _, last = e.gru(e.embedding(e.tokens, w["enc_emb"]), encoder)
    e.output(h=last)
    h = d.gru_cell(d.embedding(d.token, w["dec_emb"]), d.state("h", initial="h"), decoder)
    d.next(h=h)
    d.output(logits=d.linear(h, w["fc_w"], w["fc_b"]))
    ids = {"source": {"append": [2], "unknown": 1}, "start": 2, "end": [3]}
    return m.build(**{**ids, "generation": {"max_length": 20}, **(rules or {})})


def thai2rom(w: Weights, *, rules: Rules | None = None) -> Model:
    """PyThaiNLP's thai2rom: the state is reset at every step and reaches the next only as a query.

    encoder.character_embedding.weight (V, E), encoder.rnn.* (a bidirectional LSTM of H/2),
    decoder.character_embedding.weight, decoder.attn.attn.{weight (H, H), bias},
    decoder.rnn.* (input H + E), decoder.linear.{weight (V, H), bias}.
    """
    source = w["encoder.character_embedding.weight"]
    target = w["decoder.character_embedding.weight"]
    m = ModelBuilder(source=size(source), target=size(target))
    e, d = m.encoder, m.decoder
    memory, states = stack(e, e.embedding(e.tokens, source), w, "encoder.rnn")
    keys = linear(e, memory, w, "decoder.attn.attn")
    e.output(memory=memory, keys=keys, h=by_layer(e, states)[-1][0])
    query = d.state("query", initial="h")
    context, alignment = d.attention(query=query, keys="keys", values="memory")
    x = [context, d.embedding(d.token, target)]
    h, _ = d.lstm_cell(x, None, None, cell(w, "decoder.rnn", "_l0"))
    d.next(query=h)
    d.output(logits=linear(d, h, w, "decoder.linear"), alignment=alignment)
    return m.build(**{"start": 2, "end": [3], **(rules or {})})


def stanza(w: Weights, *, rules: Rules | None = None) -> Model:
    """Stanza's lemmatiser with the parts that its weights hold.

    embedding.weight (V, E) of both sides; encoder.* (a bidirectional LSTM of H/2);
    decoder.lstm_cell.*; decoder.attention_layer.linear_in.weight (H, H) and linear_out.weight
    (H, 2H); dec2vocab.{weight (V, H), bias}. pos_embedding.weight (tags, E): the input `pos`, an
    id, is the position before the letters. edit_clf.{0,2}.*: the encoder output `edit`, logits.
    copy_gate.{weight (1, H), bias}: p = (1-g) softmax + g (attention on the letters, by their
    ids), given as log_probabilities.
    """
    table = w["embedding.weight"]
    m = ModelBuilder(source=size(table), target=size(table))
    e, d = m.encoder, m.decoder
    letters, tags = e.embedding(e.tokens, table), w.get("pos_embedding.weight")
    if tags is not None:
        letters = e.join([e.embedding(e.input("pos", id=size(tags)), tags), letters])
    memory, states = stack(e, letters, w, "encoder")
    forward, backward = states[0]
    h0, c0 = (e.concat([b, f]) for f, b in zip(forward, backward, strict=True))
    # q = W h meets the memory: q·m = h·(W'm).
    keys = e.linear(memory, transposed(w["decoder.attention_layer.linear_in.weight"]))
    e.output(memory=memory, keys=keys, h=h0, c=c0)
    if "edit_clf.0.weight" in w:
        e.output(edit=linear(e, linear(e, h0, w, "edit_clf.0", activation="relu"), w, "edit_clf.2"))
    h_prev, c_prev = d.state("h", initial="h"), d.state("c", initial="c")
    x = d.embedding(d.token, table)
    h, c = d.lstm_cell(x, h_prev, c_prev, cell(w, "decoder.lstm_cell"))
    _, energy = d.attention(query=h, keys="keys", values="memory", normaliser="none")
    context, alignment = d.attention(scores=energy, values="memory")
    out = linear(d, [context, h], w, "decoder.attention_layer.linear_out", activation="tanh")
    logits = linear(d, out, w, "dec2vocab")
    d.next(h=h, c=c)
    if "copy_gate.weight" in w:
        _copied_ids(e, size(table), tagged=tags is not None)
        gate = linear(d, out, w, "copy_gate")
        d.output(log_probabilities=_copy_mixture(d, logits, energy, gate), alignment=alignment)
    else:
        d.output(logits=logits, alignment=alignment)
    ids = {"source": {"prepend": [2], "append": [3], "unknown": 1}, "start": 2, "end": [3]}
    return m.build(**{**ids, **(rules or {})})


def _copied_ids(e: EncoderBuilder, size: int, *, tagged: bool) -> None:
    """Outputs by position: its id (one-hot; none at a tag), 1 at the first, at later letters."""
    leading = e.to_positions(e.constant(np.ones(1)))  # 1, 0, 0, ...
    ids, behind = e.one_hot(e.tokens, size), _minus(e, e.constant(np.ones(1)), leading)
    if tagged:
        zero = e.constant(size=1)
        ids = e.join([e.constant(size=size), ids])
        leading, behind = e.join([zero, leading]), e.join([zero, behind])
    e.output(copied=ids, leading=leading, behind=behind)


def _copy_mixture(d: DecoderBuilder, logits: Value, energy: Value, gate: Value) -> Value:
    """log((1-g) softmax(logits) + g copied), g = sigmoid(gate), all in logarithms."""
    # log g = -softplus(-gate), log (1-g) = -softplus(gate)
    log_copy = _negative(d, d.activation(_negative(d, gate), "softplus"))
    log_rest = _negative(d, d.activation(gate, "softplus"))
    rest = d.add(logits, _minus(d, log_rest, _log_sum_exp(d, logits)))

    def total(s: StepBuilder, x: Value) -> Value:
        """log sum exp over the letters: from the energy of the first, the others added."""
        log_sum = s.state("total", initial=d.pool(d.multiply(energy, "leading"), "sum"))
        more = s.multiply(s.slice(x, 1, 2), _log_add(s, log_sum, s.slice(x, 0, 1)))
        s.next(total=s.add(log_sum, more))
        return log_sum

    _, last = d.scan([energy, "behind"], total)
    copied = d.add(energy, _minus(d, log_copy, last["total"]))

    def scattered(s: StepBuilder, x: Value) -> Value:
        """Each letter adds its share to the probability of its id."""
        log_p, vocabulary = s.state("log_p", initial=rest), logits.type.size
        here = s.slice(x, 1, 1 + vocabulary)
        s.next(log_p=s.add(log_p, s.multiply(here, _log_add(s, log_p, s.slice(x, 0, 1)))))
        return s.slice(x, 0, 1)

    _, last = d.scan([copied, "copied"], scattered)
    return last["log_p"]


def _negative(g: GraphBuilder, x: Value) -> Value:
    return g.multiply(x, g.constant(-np.ones(1)))


def _minus(g: GraphBuilder, a: Value, b: Value) -> Value:
    return g.add(a, _negative(g, b))


def _log_add(g: GraphBuilder, a: Value, b: Value) -> Value:
    """log(e^a + e^b) - a = softplus(b - a)."""
    return g.activation(_minus(g, b, a), "softplus")


def _log_sum_exp(g: GraphBuilder, x: Value) -> Value:
    """log sum exp over features, vector[1]: halves added until one is left."""
    while x.type.size > 1:
        half, whole = x.type.size // 2, x.type.size
        a, b = g.slice(x, 0, half), g.slice(x, half, 2 * half)
        added = g.add(a, _log_add(g, a, b))
        x = added if whole % 2 == 0 else g.concat([added, g.slice(x, 2 * half, whole)])
    return x


def opennmt_py(
    w: Weights,
    *,
    merge: opennmt.Merge = "concat",
    context_gate: opennmt.Gate | None = None,
    rules: Rules | None = None,
) -> Model:
    """OpenNMT-py's RNN models; the weights tell every other branch. merge: how the embeddings of
    words and features, the inputs src_feat_0, ..., become one.

    {encoder,decoder}.embeddings.[make_embedding.]emb_luts.{k}.weight (V, E); encoder.rnn.* (H, or
    H/2 in both directions); encoder.bridge.{0,1}.*; decoder.rnn.layers.{k}.* with input feeding or
    decoder.rnn.*_l{k} without; decoder.attn.linear_out.*, and linear_in (general), or
    linear_query, linear_context, v (mlp), or neither (dot);
    decoder.context_gate.context_gate.*; generator.[0.]{weight (V, H), bias}.
    """
    source, target = (
        w[f"{opennmt.tables(w, side)}.emb_luts.0.weight"] for side in ("encoder", "decoder")
    )
    m = ModelBuilder(source=size(source), target=size(target))
    e, d = m.encoder, m.decoder
    memory, states = stack(e, opennmt.embedded(e, w, merge), w, "encoder.rnn")
    layers = by_layer(e, states)
    if "encoder.bridge.0.weight" in w:
        flat = [joined(e, of_role) for of_role in zip(*layers, strict=True)]
        mixed = [opennmt.bridge(e, x, w, f"encoder.bridge.{n}") for n, x in enumerate(flat)]
        count = len(layers)
        layers = [tuple(opennmt.cut(e, x, count)[k] for x in mixed) for k in range(count)]
    hand_over(e, layers)
    e.output(memory=memory)
    fed = "decoder.rnn.layers.0.weight_ih" in w
    decoder = cells(w, "decoder.rnn.layers" if fed else "decoder.rnn")
    if not decoder:
        raise KeyError("decoder.rnn.weight_ih_l0 or decoder.rnn.layers.0.weight_ih")
    x = [d.embedding(d.token, target)]
    if fed:
        x.append(d.state("feed", size=width(decoder[-1])))
    out = h = run_cells(d, x, decoder)
    if "decoder.attn.linear_out.weight" in w:
        out = opennmt.attention(m, memory, h, w)
    if context_gate is not None:
        out = opennmt.context_gate(d, context_gate, x, h, out, w)
    if fed:
        d.next(feed=out)
    generator = "generator" if "generator.weight" in w else "generator.0"
    d.output(logits=linear(d, out, w, generator))
    return m.build(**{"source": {"unknown": 0}, "start": 2, "end": [3], **(rules or {})})


def joeynmt(
    w: Weights,
    *,
    hidden: str = "bridge",
    scale: bool | tuple[bool, bool] = False,
    rules: Rules | None = None,
) -> Model:
    """Joey NMT's recurrent models. hidden: "bridge", "last" or "zero"; scale: embeddings times √E
    (of the source and of the target).

    {src,trg}_embed.lut.weight (V, E); encoder.rnn.*, decoder.rnn.* (as torch.nn);
    decoder.bridge_layer.*; decoder.attention.{key_layer, query_layer, energy_layer} (bahdanau) or
    key_layer (luong); decoder.att_vector_layer.{weight (H, H + 2E'), bias} on [h; context];
    decoder.output_layer.weight (V, H). Input feeding shows in the width of decoder.rnn.
    """
    source, target = w["src_embed.lut.weight"], w["trg_embed.lut.weight"]
    scaled = (scale, scale) if isinstance(scale, bool) else scale
    factors = [
        float(size(table, 1)) ** 0.5 if yes else 1.0
        for table, yes in zip((source, target), scaled, strict=True)
    ]
    m = ModelBuilder(source=size(source), target=size(target))
    e, d = m.encoder, m.decoder
    memory, states = stack(e, e.embedding(e.tokens, source, scale=factors[0]), w, "encoder.rnn")
    e.output(memory=memory, keys=linear(e, memory, w, "decoder.attention.key_layer"))
    decoder = cells(w, "decoder.rnn")
    if hidden != "zero":
        final = [of_direction[0] for of_direction in states[-1]]
        if hidden == "bridge":
            start = linear(e, final, w, "decoder.bridge_layer", activation="tanh")
        else:
            whole = sum(x.type.size for x in final) == width(decoder[0])
            start = joined(e, final) if whole else final[0]
        # One vector for all layers, and for both h and c.
        hand_over(e, [(start,) * len(roles(one)) for one in decoder])
    x = [d.embedding(d.token, target, scale=factors[1])]
    fed = size(decoder[0]["weight_ih"], 1) > size(target, 1)
    if fed:
        x.append(d.state("feed", size=size(w["decoder.att_vector_layer.weight"])))
    h = run_cells(d, x, decoder, zeros=hidden == "zero")
    query, v = h, None
    if "decoder.attention.energy_layer.weight" in w:
        query = linear(d, h, w, "decoder.attention.query_layer")
        v = np.ravel(w["decoder.attention.energy_layer.weight"])
    context, alignment = d.attention(query=query, keys="keys", values="memory", v=v)
    out = linear(d, [h, context], w, "decoder.att_vector_layer", activation="tanh")
    if fed:
        d.next(feed=out)
    d.output(logits=linear(d, out, w, "decoder.output_layer"), alignment=alignment)
    ids = {"source": {"append": [3], "unknown": 0}, "start": 2, "end": [3]}
    return m.build(**{**ids, **(rules or {})})


def fairseq(w: Weights, *, rules: Rules | None = None) -> Model:
    """fairseq's lstm: the previous attentional vector is fed, states go through projections.

    encoder.embed_tokens.weight (V, E), encoder.lstm.*; encoder's states of all layers through
    decoder.{encoder_hidden_proj,encoder_cell_proj}.* where there are such; decoder.layers.{k}.*;
    decoder.attention.{input_proj.weight (C, H), output_proj.weight (H, C + H)};
    decoder.additional_fc.*; decoder.fc_out.*, or else decoder.embed_tokens.weight (V, E) again.
    """
    source, target = w["encoder.embed_tokens.weight"], w["decoder.embed_tokens.weight"]
    m = ModelBuilder(source=size(source), target=size(target))
    e, d = m.encoder, m.decoder
    memory, states = stack(e, e.embedding(e.tokens, source), w, "encoder.lstm")
    layers = by_layer(e, states)
    if "decoder.encoder_hidden_proj.weight" in w:
        projections = "decoder.encoder_hidden_proj", "decoder.encoder_cell_proj"
        layers = [
            tuple(linear(e, s, w, p) for s, p in zip(one, projections, strict=True))
            for one in layers
        ]
    hand_over(e, layers)
    decoder = cells(w, "decoder.layers")
    feed = d.state("feed", size=width(decoder[-1]))
    out = run_cells(d, [d.embedding(d.token, target), feed], decoder)
    if "decoder.attention.input_proj.weight" in w:
        input_proj = transposed(w["decoder.attention.input_proj.weight"])
        e.output(memory=memory, keys=e.linear(memory, input_proj))
        context, alignment = d.attention(query=out, keys="keys", values="memory")
        out = linear(d, [context, out], w, "decoder.attention.output_proj", activation="tanh")
        d.output(alignment=alignment)
    d.next(feed=out)
    if "decoder.additional_fc.weight" in w:
        out = linear(d, out, w, "decoder.additional_fc")
    tied = "decoder.fc_out.weight" not in w
    d.output(logits=d.linear(out, target) if tied else linear(d, out, w, "decoder.fc_out"))
    ids = {"source": {"append": [2], "unknown": 3}, "start": 2, "end": [2]}
    return m.build(**{**ids, **(rules or {})})


def allennlp(
    w: Weights,
    *,
    start: int,
    end: int,
    attention: parts.Score | str | None = "dot",
    encoder: Sequence[parts.Stage] = (parts.Stage("recurrent"),),
    both: bool | None = None,
    tokens: str = "tokens",
    rules: Rules | None = None,
) -> Model:
    """AllenNLP's SimpleSeq2Seq: the state before the step, of the bottom layer, is the query.

    _source_embedder.token_embedder_<name>.weight (V, E) and, where there is one, ._projection.*:
    inputs called <name> and joined in the order of their names, `tokens` the one of the words;
    _encoder._module.*, or the weights of other stages; _target_embedder.weight; _decoder_cell.* (a
    cell, or torch.nn.LSTM of several layers, on [context; embedding]); _attention.* as `attention`
    has them; _output_projection_layer.*. both: the decoder starts from both directions' last
    states (None: if there are two). start and end are of the target vocabulary.
    """
    prefix = "_source_embedder.token_embedder_"
    names = sorted(
        name.removeprefix(prefix).removesuffix(".weight")
        for name in w
        if name.startswith(prefix) and name.removeprefix(prefix).count(".") == 1
    )
    tables = {name: w[f"{prefix}{name}.weight"] for name in names}
    target = w["_target_embedder.weight"]
    m = ModelBuilder(source=size(tables[tokens]), target=size(target))
    e, d = m.encoder, m.decoder
    embedded = []
    for name, table in tables.items():
        ids = e.tokens if name == tokens else e.input(name, ids=size(table))
        embedded.append(e.embedding(ids, table))
        if f"{prefix}{name}._projection.weight" in w:
            embedded[-1] = linear(e, embedded[-1], w, f"{prefix}{name}._projection")
    memory = parts.encoded(e, joined(e, embedded), w, encoder)
    if both is None:
        both = "_encoder._module.weight_ih_l0_reverse" in w
    e.output(memory=memory, h=parts.final(e, memory, both=both))
    decoder = cells(w, "_decoder_cell") or [cell(w, "_decoder_cell")]
    h = [d.state(f"h{k}", initial="h") for k in range(len(decoder))]
    c = [d.state(f"c{k}", size=width(one)) for k, one in enumerate(decoder)]
    x: list[Value] = [d.embedding(d.token, target)]
    if attention is not None:
        score = parts.named(attention) if isinstance(attention, str) else attention
        context, alignment = parts.attention(m, memory, h[0], w, score, "_attention")
        x.insert(0, context)
        d.output(alignment=alignment)
    top: Sequence[Value] = x
    for k, one in enumerate(decoder):
        after = step(d, top, [h[k], c[k]], one)
        d.next({f"h{k}": after[0], f"c{k}": after[1]})
        top = after[:1]
    d.output(logits=linear(d, top, w, "_output_projection_layer"))
    return m.build(**{"start": start, "end": [end], **(rules or {})})
