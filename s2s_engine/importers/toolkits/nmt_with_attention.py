"""Checkpoints of TensorFlow's tutorial nmt_with_attention, in its three versions. Knows the names
of its layers, its ids and what no file tells; never equations."""

from __future__ import annotations

from typing import Any

from ...architectures import tensorflow
from ...builder import ModelBuilder
from ...model import Model
from ...self_test import attach
from ..checkpoint import Checkpoint
from ..configurations import nmt_tutorial
from ..configurations.nmt_tutorial import FIRST, SECOND, THIRD, Tutorial
from ..importer import Importer, Option, Options, Peer

UNKNOWN = 1  # '[UNK]' of a TextVectorization; '' for padding is 0
MAX_LENGTH = 50
MARKS = {FIRST: ("<start>", "<end>"), SECOND: ("[START]", "[END]"), THIRD: ("[START]", "[END]")}


def _recognises(checkpoint: Checkpoint) -> bool:
    return nmt_tutorial.version(checkpoint) is not None


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    tutorial = nmt_tutorial.read(checkpoint)
    source, target = tutorial.source_size, tutorial.target_size
    words = options.vocabularies(source, target)
    ends = _id_of(checkpoint, tutorial, options, words.get("target"), ("start", "end"), target)
    around = _id_of(
        checkpoint, tutorial, options, words.get("tokens"), ("source_start", "source_end"), source
    )
    m = ModelBuilder(source=source, target=target)
    never: set[int] = set()
    if tutorial.version == FIRST:
        reads = options.require("w1_reads")
        tensorflow.nmt_with_attention(m, tutorial.first(w1_reads_query=reads == "query"))
    elif tutorial.version == SECOND:
        never = {0, UNKNOWN, ends[0]} - {ends[1]}
        tensorflow.nmt_with_attention_2021(m, tutorial.second(never))
    else:
        weights, heads = tutorial.third()
        tensorflow.nmt_with_attention_2022(m, weights, heads=heads)
    model = m.build(
        source={
            "prepend": [around[0]],
            "append": [around[1]],
            "pad": _padding(checkpoint, tutorial, options),
            "unknown": None if tutorial.version == FIRST else UNKNOWN,
        },
        start=ends[0],
        end=[ends[1]],
        vocabularies=words,
        generation={"max_length": options.get("max_length", MAX_LENGTH)},
    )
    # Log-probabilities of ids that are never written are too large for a self-test's tolerance.
    written = [i for i in range(target) if i not in never and i != ends[1]][:8]
    return attach(model, target=written)


def _id_of(
    checkpoint: Checkpoint,
    tutorial: Tutorial,
    options: Options,
    words: list[str] | None,
    names: tuple[str, str],
    size: int,
) -> list[int]:
    """The ids that stand before and behind a sentence: as told, else where the words are."""
    found = []
    for name, mark in zip(names, MARKS[tutorial.version], strict=True):
        value = options.get(name)
        if value is None and words is not None and words.count(mark) == 1:
            value = words.index(mark)
        if value is None:
            value = options.require(name)
        if not 0 <= value < size:
            raise checkpoint.refuse(f"option {name} is {value}, must be an id: 0 to {size - 1}")
        found.append(value)
    return found


def _padding(checkpoint: Checkpoint, tutorial: Tutorial, options: Options) -> dict[str, Any] | None:
    if tutorial.version == FIRST:
        length = options.require("padded_length")
    else:
        length = options.get("padded_length", 0)
    if not 0 <= length <= 1_000_000:
        raise checkpoint.refuse(f"option padded_length is {length}, must be 0 to 1000000")
    return {"to": [length], "side": "right", "id": 0} if length else None


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.nmt_with_attention import Program

    tutorial = nmt_tutorial.read(checkpoint)
    model = _build(checkpoint, options)
    query = tutorial.version != FIRST or options.require("w1_reads") == "query"
    assert model.start is not None
    return Program(tutorial, start=model.start, end=model.end[0], w1_reads_query=query)


IMPORTER = Importer(
    name="nmt_with_attention",
    title="TensorFlow's tutorial nmt_with_attention",
    reads="a checkpoint of encoder and decoder (`tf.train.Checkpoint`, `save_weights`), one of "
    "each, or a SavedModel, from Keras 2 or 3: the first version (2019 to May 2021), the second "
    "(to October 2022), whose '', '[UNK]' and '[START]' are never written, and the third; no "
    "vocabularies",
    refuses="variables saved by name (TensorFlow 1), the tutorial of 2018, a GRU with "
    "reset_after=False, and networks that were changed",
    recognises=_recognises,
    build=_build,
    options=(
        Option(
            "w1_reads",
            ("query", "memory"),
            "which of the two layers of the first version's attention reads what: until February "
            "2020 W1 read the encoder's output ('memory'), since then the decoder's state "
            "('query'); both are of one shape",
        ),
        Option(
            "padded_length",
            int,
            "every result of the first version, which pads each source with zeros to the longest "
            "one of its training data (max_length_inp) and reads the padding like words: that "
            "length, start and end counted, or 0 for no padding; longer sources are not cut. In "
            "the second version it is the length of the longest text of a batch (one text alone: "
            "0, the default); in the third it changes nothing",
        ),
        Option("start", int, "the first id that the decoder reads, that of '<start>' or '[START]'"),
        Option("end", int, "the id that ends a translation, that of '<end>' or '[END]'"),
        Option("source_start", int, "the id in front of every source, '<start>' or '[START]'"),
        Option("source_end", int, "the id behind every source, '<end>' or '[END]'"),
        Option("max_length", int, "how many ids are generated at most (50; max_length_targ)"),
    ),
    peer=_peer,
)
