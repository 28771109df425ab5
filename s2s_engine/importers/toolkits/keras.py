"""Keras models, functional and sequential, as model.save writes them. Knows options, ids,
vocabularies and padding; never layers."""

from __future__ import annotations

from typing import Any

from ...errors import InputError
from ...model import Model
from ..checkpoint import Checkpoint
from ..importer import Importer, Option, Options, Peer
from ..keras_graphs.graph import LayerGraph, has_model, layer_graph
from ..keras_graphs.model import Plan, candidates, last_activation, plan, write
from ..keras_graphs.pair import joined, target_inputs

START, END = "\t", "\n"  # of the example lstm_seq2seq


def _recognises(checkpoint: Checkpoint) -> bool:
    parts = list(checkpoint.parts.values()) or [checkpoint]
    return all(part.format == "keras" and has_model(part.content) for part in parts)


def _plan(checkpoint: Checkpoint, options: Options) -> tuple[LayerGraph, Plan]:
    """The layers, and which input is the decoder's; the peer asks as well."""
    for part in checkpoint.parts.values() or [checkpoint]:
        if part.format != "keras":
            raise checkpoint.refuse(f"is a checkpoint of format {part.format}, not a Keras file")
    features = options.get("source_features", False)
    if checkpoint.parts:
        graph, target = _pair(checkpoint, options)
        return graph, plan(graph, target, features=features)
    graph = layer_graph(checkpoint.content)
    target = options.get("decoder_input")
    names = [tensor.layer for tensor in graph.inputs]
    if target is not None and target not in names:
        raise InputError(
            f"{checkpoint.where}: decoder_input is {target!r}; inputs are {', '.join(names)}"
        )
    if target is None and len(names) > 1 and _has_sequences(graph):
        found = candidates(graph, features=features)
        if len(found) > 1:
            options.require("decoder_input")
        target = found[0]
    return graph, plan(graph, target, features=features)


def _pair(checkpoint: Checkpoint, options: Options) -> tuple[LayerGraph, str]:
    """An encoder and a step as one model, and its target input."""
    encoder, decoder = (layer_graph(part.content) for part in checkpoint.parts.values())
    found = target_inputs(decoder)
    target = options.get("decoder_input")
    if target is None:
        target = found[0] if len(found) == 1 else options.require("decoder_input")
    if target not in [tensor.layer for tensor in decoder.inputs]:
        raise InputError(f"{checkpoint.where}: the decoder has no input {target!r}")
    return joined(encoder, decoder, target)


def _has_sequences(graph: LayerGraph) -> bool:
    """Whether more than one input has positions."""
    return sum(one.has_positions for one in plan(graph, None, features=False).inputs) > 1


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    graph, what = _plan(checkpoint, options)
    _check_last(checkpoint, graph, options)
    source, words = _source(checkpoint, what, options)
    padded = bool(source.get("pad")) or (what.source is not None and what.source.length is not None)
    zeros = bool(source.get("pad")) and source["pad"]["id"] == _size(what)
    builder = write(graph, what, zeros=zeros, padded=padded)
    rules: dict[str, Any] = {"source": source} if what.has_tokens else {}
    vocabularies: dict[str, Any] = {"tokens": words} if words is not None else {}
    if what.decodes:
        target = options.vocabulary("target", what.size)
        if target is not None:
            vocabularies["target"] = target
        rules |= _target(what, target, options)
    single = [all(len(word) == 1 for word in one[: _size(what)]) for one in vocabularies.values()]
    characters = options.get("characters", bool(single) and all(single))
    facts = {"keras_version": graph.version, "decoder_input": what.target and what.target.name}
    return builder.build(
        vocabularies=vocabularies,
        characters=characters,
        provenance={name: value for name, value in facts.items() if value},
        **rules,
    )


def _size(what: Plan) -> int:
    return what.source.size if what.source is not None else 0


def _check_last(checkpoint: Checkpoint, graph: LayerGraph, options: Options) -> None:
    name = last_activation(graph)
    if name == "softmax":
        return
    if name != "linear":
        raise checkpoint.refuse(
            f"the last activation is {name!r}, must be 'softmax', or 'linear' where it gives logits"
        )
    told = graph.from_logits if graph.from_logits is not None else options.require("from_logits")
    if not told:
        raise checkpoint.refuse(
            "the last activation is 'linear' and from_logits is False: the model gives numbers, "
            "not probabilities of ids"
        )


def _source(
    checkpoint: Checkpoint, what: Plan, options: Options
) -> tuple[dict[str, Any], list[str] | None]:
    """The source rule, and the vocabulary."""
    if not what.has_tokens:
        return {}, None
    reverse = options.require("reverse_source") if what.decodes else False
    source: dict[str, Any] = {"reverse": options.get("reverse_source", reverse)}
    unknown = options.get("unknown")
    if unknown is not None:
        source["unknown"] = unknown
    words = options.vocabulary("source", _size(what))
    pad = _pad(what, options)
    if pad is not None:
        if sum(one.has_positions and one is not what.target for one in what.inputs) > 1:
            raise checkpoint.refuse("several inputs of the source are padded, which is not read")
        source["pad"] = pad
        if pad["id"] == _size(what) and words is not None:
            words = [*words, "<padding>"]
    return source, words


def _pad(what: Plan, options: Options) -> dict[str, Any] | None:
    """How short sources are filled up, where the layers read padding as if it were a token."""
    assert what.source is not None
    if what.masked:
        return None
    length = options.get("padded_length", what.source.length or 0)
    if not length:
        return None
    identifier = options.require("padding_id")
    if identifier == -1:
        if what.source.kind != "one_hot":
            raise InputError("padding_id is -1, rows of zeros, but the source is no one-hot input")
        identifier = what.source.size
    side = options.require("padding_side")
    # The rule pads first and then reverses.
    if options.get("reverse_source", False):
        side = {"left": "right", "right": "left"}[side]
    return {"to": [length], "side": side, "id": identifier}


def _target(what: Plan, words: list[str] | None, options: Options) -> dict[str, Any]:
    """Start, ends and the search."""
    rules: dict[str, Any] = {"end": options.get("end")}
    if what.target is None:  # a RepeatVector: no step reads a token, all of them are given
        rules["start"], rules["end"] = 0, rules["end"] or []
    else:
        listed = words or []
        known = {one: listed.index(one) for one in (START, END) if one in listed}
        start = options.get("start", known.get(START))
        rules["start"] = options.require("start") if start is None else start
        if rules["end"] is None:
            rules["end"] = [known[END]] if END in known else options.require("end")
    steps = options.get("max_length", what.steps)
    rules["generation"] = {"beam_size": 1} | ({"max_length": steps} if steps else {})
    return rules


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.keras import KerasModel, KerasPair

    graph, what = _plan(checkpoint, options)
    start = None
    if what.decodes:
        start = _target(what, options.vocabulary("target", what.size), options)["start"]
    if checkpoint.parts:
        return KerasPair(checkpoint, graph, what, start=start)
    return KerasModel(checkpoint, graph, what, start=start)


IMPORTER = Importer(
    name="keras",
    title="Keras",
    reads=(
        "Functional and sequential models of Keras 2, tf.keras and Keras 3 as `model.save` writes "
        "them (.h5, .keras), under any layer names: the training model of an encoder-decoder such "
        "as the example lstm_seq2seq, with or without attention, or its encoder and its step that "
        "were saved apart; RepeatVector decoders; taggers and classifiers with a softmax. Where "
        "an Embedding has mask_zero, the id 0 is padding, which a source is given without."
    ),
    refuses=(
        "Lambda and layers of one's own (code that no file holds); stateful layers and calls with "
        "training=True (the output would depend on other inputs or on chance); decoders that read "
        "their target in both directions or attend to it (no step has the whole target); nested "
        "models, Keras 1 and files of weights alone."
    ),
    recognises=_recognises,
    build=_build,
    peer=_peer,
    options=(
        Option("start", int, "which id the decoder reads first"),
        Option("end", list, "which ids end an output"),
        Option("reverse_source", bool, "whether the encoder reads the source from its end"),
        Option("decoder_input", str, "which input layer is fed the target"),
        Option(
            "source_features",
            bool,
            "whether a source input of rank 3 holds numbers of one's own (default: one-hot ids)",
        ),
        Option(
            "padded_length",
            int,
            "to which length sources are filled up before an encoder without masks reads them "
            "(default: the length of the input's shape, else 0, none)",
        ),
        Option("padding_id", int, "what fills short sources up; -1 is a one-hot row of zeros"),
        Option("padding_side", ("left", "right"), "on which side short sources are filled up"),
        Option("unknown", int, "which id stands for tokens that the source vocabulary has not"),
        Option("max_length", int, "after how many ids an output is cut (default: of the shape)"),
        Option("from_logits", bool, "whether a last layer without a softmax gives logits"),
        Option(
            "characters",
            bool,
            "whether texts are split into characters (default: where every token is one)",
        ),
    ),
)
