"""AllenNLP's archives of SimpleSeq2Seq and of ComposedSeq2Seq with an LSTM cell. Knows how their
names, ids and options become a model's; never files, configuration keys or equations."""

from __future__ import annotations

from typing import Any

from ...architectures import toolkits
from ...architectures.state_dict import size
from ...model import Model
from ..checkpoint import Checkpoint
from ..configurations import allennlp as configuration
from ..configurations.allennlp_files import Files, read_files, recognises
from ..importer import Importer, Option, Options, Peer
from ..used import Used

START, END = "@start@", "@end@"
# ComposedSeq2Seq's names, and those of SimpleSeq2Seq for the same.
RENAMED = {
    "_source_text_embedder.": "_source_embedder.",
    "_decoder.target_embedder.": "_target_embedder.",
    "_decoder._decoder_net.": "",
    "_decoder._output_projection_layer.": "_output_projection_layer.",
}


def _weights(files: Files) -> dict[str, Any]:
    """Under the names of SimpleSeq2Seq."""
    found = {}
    for name, array in files.weights.items():
        new = next((one for one in RENAMED if name.startswith(one)), None)
        found[name if new is None else RENAMED[new] + name.removeprefix(new)] = array
    return found


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    files = read_files(checkpoint)
    parts, read = configuration.Parts.of(files.config), configuration.source(files.config)
    configuration.embedders(parts.embedder)
    w = Used(_weights(files))
    target = _target(w, files, parts, options)
    width = size(w["_output_projection_layer.weight"], 1)
    inputs, unknown = _inputs(checkpoint, w, files, read, options)
    ids = _framed(checkpoint, files, read, options) if len(inputs) == 1 else {}
    model = toolkits.allennlp(
        w,
        start=_id(checkpoint, target, START),
        end=_id(checkpoint, target, END),
        attention=configuration.score(parts.attention, width),
        encoder=configuration.stages(parts.encoder),
        both=parts.both(lambda prefix: f"{prefix}._module.weight_ih_l0_reverse" in w),
        tokens=read.main,
        rules={
            "source": ids | ({} if unknown is None else {"unknown": unknown}),
            "vocabularies": {**inputs, "target": target},
            "generation": _generation(checkpoint, parts, options),
        },
    )
    if w.left:
        raise checkpoint.refuse(
            f"holds weights that no model of this importer has: {', '.join(w.left[:8])}"
        )
    return model


def _target(w: Used, files: Files, parts: configuration.Parts, options: Options) -> list[str]:
    space = configuration.text(parts.decoder.get("target_namespace"), "tokens")
    return (
        options.vocabulary("target", size(w["_target_embedder.weight"]), files.words.get(space))
        or []
    )


def _inputs(
    checkpoint: Checkpoint,
    w: Used,
    files: Files,
    read: configuration.Source,
    options: Options,
) -> tuple[dict[str, list[str]], int | None]:
    """The words of every input, and the id of the unknown one."""
    found: dict[str, list[str]] = {}
    prefix = "_source_embedder.token_embedder_"
    for name, space in read.namespaces.items():
        if f"{prefix}{name}.weight" not in w:
            raise checkpoint.refuse(
                f"has no weight {prefix + name}.weight for the token indexer {name[:80]!r}"
            )
        words = files.words.get(space)
        if name == read.main:
            words = options.vocabulary("source", size(w[f"{prefix}{name}.weight"]), words)
        if words is not None:
            found["tokens" if name == read.main else name] = words
    main = found.get("tokens", [])
    if read.lowercased and not options.require("lowercased"):
        raise checkpoint.refuse("its words were put in lower case: give lowercased=True")
    if len(found) < len(read.namespaces):
        missing = sorted({s for s in read.namespaces.values() if s not in files.words})
        raise checkpoint.refuse(f"has no vocabulary/{missing[0][:80]}.txt")
    return found, main.index(files.unknown) if files.unknown in main else None


def _framed(
    checkpoint: Checkpoint, files: Files, read: configuration.Source, options: Options
) -> dict[str, Any]:
    """The source rule: what the dataset reader puts around the words."""
    words = files.words.get(read.namespaces[read.main], [])
    around: dict[str, list[int]] = {"prepend": [], "append": []}
    for place, option, word in (
        ("prepend", "source_start", read.start or START),
        ("append", "source_end", read.end or END),
    ):
        told = (read.start if place == "prepend" else read.end) is not None
        if told if read.framed else options.require(option):
            chosen = word if word in words else files.unknown
            around[place] = [_id(checkpoint, words, chosen)]
    rule: dict[str, Any] = {**around}
    if read.most is None:
        return rule
    if not around["append"]:
        return rule | {"truncate": read.most + len(around["prepend"])}
    if not options.require("full_sources"):
        raise checkpoint.refuse("sources cannot be cut before their end token is put behind them")
    return rule


def _generation(
    checkpoint: Checkpoint, parts: configuration.Parts, options: Options
) -> dict[str, Any]:
    found = configuration.search(parts.decoder)
    if found.aside and not options.require("plain_search"):
        raise checkpoint.refuse(f"its search sets {', '.join(found.aside)}, which are not built")
    return found.generation


def _id(checkpoint: Checkpoint, words: list[str], word: str) -> int:
    if word not in words:
        raise checkpoint.refuse(
            f"its vocabulary of {len(words)} words has no {word!r}: give the words as "
            "target_vocabulary or source_vocabulary"
        )
    return words.index(word)


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.allennlp import SimpleSeq2Seq

    files = read_files(checkpoint)
    parts, w = configuration.Parts.of(files.config), Used(_weights(files))
    start = _id(checkpoint, _target(w, files, parts, options), START)
    words = configuration.source(files.config).main
    return SimpleSeq2Seq(w, files.config["model"], start, words)


IMPORTER = Importer(
    name="allennlp",
    title="AllenNLP",
    reads="`model.tar.gz`, or its folder, of `simple_seq2seq`, and of `composed_seq2seq` with an "
    "`lstm_cell` decoder: encoders lstm, gru, rnn, feedforward, pass_through and compose, "
    "attention dot_product, scaled_dot_product, bilinear, additive, linear or none, several token "
    "embedders. With several, a source has to bring its start and end tokens.",
    refuses="Other models (copynet_seq2seq, bart) and encoders (augmented LSTMs, CNNs, "
    "transformers), cosine attention, character and pretrained embedders.",
    recognises=recognises,
    build=_build,
    peer=_peer,
    options=(
        Option("source_start", bool, "whether @start@ stands before a source (with a dataset "
               "reader of your own)"),
        Option("source_end", bool, "whether @end@ stands behind a source (with a dataset reader "
               "of your own)"),
        Option("lowercased", bool, "which words are known: its indexers put words in lower case, "
               "here you do"),
        Option("full_sources", bool, "long sources: source_max_tokens cuts them, here they are "
               "read in full"),
        Option("plain_search", bool, "the search: constraints, samplers, per_node_beam_size and "
               "other scorers are put aside"),
    ),
)  # fmt: skip
