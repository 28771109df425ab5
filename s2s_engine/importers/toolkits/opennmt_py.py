"""OpenNMT-py's checkpoints, 0.x to 3.x, whose encoder and decoder are recurrent. Knows what the
options of training mean and what translate.py does by default; never containers or equations."""

from __future__ import annotations

from typing import Any

from ...architectures import opennmt, toolkits
from ...architectures.state_dict import size
from ...model import Model
from ..checkpoint import Checkpoint
from ..configurations.opennmt_files import END, UNKNOWN, Parts, read_parts, recognises
from ..importer import Importer, Options, Peer, known
from ..readers.pickle_values import shown
from ..used import Used

# What an option of training may be; the first is what its absence means.
READ: dict[str, tuple[Any, ...]] = {
    "model_type": ("text",),
    "encoder_type": ("rnn", "brnn"),
    "decoder_type": ("rnn",),
    "rnn_type": ("LSTM", "GRU", "RNN"),
    "global_attention": ("general", "dot", "mlp", "none", None),
    "global_attention_function": ("softmax",),
    "generator_function": ("softmax", "log_softmax"),
    "context_gate": (None, "source", "target", "both"),
    "feat_merge": ("concat", "sum", "mlp"),
    "copy_attn": (False,),
    "position_encoding": (False,),
}
# What translate.py of each era does by default (docs/search.md). Since 3.0 it divides by a length
# that counts the start token.
AVERAGED = {"length_penalty": 1.0, "length_penalty_offset": 1}
GENERATION: dict[str, dict[str, Any]] = {
    "0.2": {"max_length": 100, "early_stop": "opennmt"},
    "0.8.2": {"max_length": 100, "search": {"ended": "place", "stop": "top"}},
    "2.3": {"max_length": 100, "search": {"ended": "place", "stop": "both"}},
    "3.0": {"max_length": 250, "search": {"ended": "place", "stop": "both"}, **AVERAGED},
    "3.5": {
        "max_length": {"numerator": 5, "denominator": 4, "addend": 5, "most": 250},
        "search": {"ended": "place", "stop": "head"},
        **AVERAGED,
    },
}
# Stored with coverage_attn, and read by no release: decoders call their attention without it.
COVERAGE = "decoder.attn.linear_cover.weight"
ATTENTIONS = {"general": "linear_in", "mlp": "linear_context", "dot": "linear_out"}


def _checked(checkpoint: Checkpoint, parts: Parts) -> None:
    """Refuses by name what no weight would tell."""
    if parts.task != "seq2seq":
        raise checkpoint.refuse(
            f"is a language model (data_task {shown(parts.task)}): of OpenNMT-py only models with "
            "an encoder are read"
        )
    for name, allowed in READ.items():
        value = parts.opt.get(name, allowed[0])
        if type(value) not in (str, bool, int, type(None)) or value not in allowed:
            raise checkpoint.refuse(
                f"its option {name} is {shown(value)}, must be "
                f"{' or '.join(repr(one) for one in allowed)} for this importer; another model "
                "can be written with ModelBuilder"
            )


def _branch(checkpoint: Checkpoint, parts: Parts) -> None:
    """Holds the attention that the options name against the weights."""
    kind, names = parts.opt.get("global_attention"), parts.weights.keys()
    if type(kind) is str and kind in ATTENTIONS:
        found = [
            one for one, weight in ATTENTIONS.items() if f"decoder.attn.{weight}.weight" in names
        ][:1]
        if found != [kind]:
            raise checkpoint.refuse(
                f"its option global_attention is {kind!r}, but its weights are those of "
                f"{found[0] if found else 'no attention'}"
            )


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    parts = read_parts(checkpoint)
    _checked(checkpoint, parts)
    _branch(checkpoint, parts)
    w = Used(parts.weights)
    prefix = opennmt.tables(w, "encoder")
    table = w[f"{prefix}.emb_luts.0.weight"]
    source = options.vocabulary("source", size(table), parts.words.get("source"))
    target = _target(parts, options)
    vocabularies = {"tokens": source, "target": target}
    for number, listed in enumerate(parts.features):
        vocabularies[opennmt.FEATURE.format(number)] = listed
    model = toolkits.opennmt_py(
        w,
        merge=parts.opt.get("feat_merge", "concat"),
        context_gate=parts.opt.get("context_gate"),
        rules={
            "source": {"unknown": source.index(UNKNOWN)} if source and UNKNOWN in source else {},
            "start": _id(checkpoint, target, parts.start, "begins"),
            "end": [_id(checkpoint, target, END, "ends")],
            "vocabularies": known(vocabularies),
            "generation": {"beam_size": 5, **GENERATION[parts.era]},
        },
    )
    if prefix.endswith("make_embedding"):
        w.pop(COVERAGE, None)
    if w.left:
        raise checkpoint.refuse(
            f"holds weights that no model of this importer has: {', '.join(w.left[:8])}; features "
            "of the target, LoRA, structured attention and SRU are not read"
        )
    return model


def _target(parts: Parts, options: Options) -> list[str] | None:
    table = f"{opennmt.tables(parts.weights, 'decoder')}.emb_luts.0.weight"
    return options.vocabulary("target", size(parts.weights[table]), parts.words.get("target"))


def _id(checkpoint: Checkpoint, words: list[str] | None, word: str, does: str) -> int:
    if words is None or word not in words:
        raise checkpoint.refuse(
            f"its target vocabulary has no {word!r}, which {does} every output: give the "
            "vocabulary as target_vocabulary"
        )
    return words.index(word)


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.opennmt_py import OpenNmt

    parts = read_parts(checkpoint)
    words = _target(parts, options)
    return OpenNmt(parts.weights, parts.opt, _id(checkpoint, words, parts.start, "begins"))


IMPORTER = Importer(
    name="opennmt_py",
    title="OpenNMT-py",
    reads="Checkpoints of 0.x to 3.x (`.pt`, or `.safetensors` with the `.pt` beside it) with an "
    "`rnn` or `brnn` encoder and an `rnn` decoder: LSTM, GRU or RNN, attention dot, general, mlp "
    "or none, input feeding, bridge, context gate, source features. Beam rule, penalty and limits "
    "are those of `translate.py` of the version that wrote the checkpoint, as far as the file "
    "tells it (0.2 to 0.8.1, 0.8.2 to 2.2, 2.3, 3.0 to 3.4.2, 3.5). The weight of `coverage_attn` "
    "is left out: no release computes with it.",
    refuses="Transformers, CNNs, mean and graph encoders, audio and images, language models, SRU, "
    "copy attention, sparsemax, position encoding, features of the target, LoRA and quantised "
    "weights.",
    recognises=recognises,
    build=_build,
    peer=_peer,
)
