"""ONNX graphs of an encoder and of one decoder step, as torch.onnx.export writes them. Knows files,
options and the model's rules; never operators."""

from __future__ import annotations

from typing import Any

from ...builder import ModelBuilder
from ...errors import InputError, ModelFormatError
from ...model import Model
from ..checkpoint import PAIR, Checkpoint, read
from ..importer import Importer, Option, Options, Peer
from ..onnx_graphs import interface as names
from ..onnx_graphs import translation
from ..readers.onnx_files import OnnxFile


def _recognises(checkpoint: Checkpoint) -> bool:
    if checkpoint.format == "pair":
        return all(part.format == "onnx" for part in checkpoint.parts.values())
    if checkpoint.format == "folder":
        return all(_named(checkpoint, role) for role in PAIR)
    return checkpoint.format == "onnx"


def _named(checkpoint: Checkpoint, role: str) -> list[str]:
    return [n for n in checkpoint.content if n.startswith(role) and n.endswith(".onnx")]


def _parts(checkpoint: Checkpoint) -> dict[str, Checkpoint]:
    """The graphs by role."""
    if checkpoint.format == "folder":
        found = {role: _named(checkpoint, role) for role in PAIR}
        for role, files in found.items():
            if len(files) != 1:
                raise InputError(
                    f"{checkpoint.where}: {len(files)} files are called {role}*.onnx "
                    f"({', '.join(files)}): give the paths of an encoder and a decoder"
                )
        return {role: read(checkpoint.content[files[0]]) for role, files in found.items()}
    parts = dict(checkpoint.parts) if checkpoint.format == "pair" else {"encoder": checkpoint}
    for role, part in parts.items():
        if part.format != "onnx":
            raise ModelFormatError(f"{part.where}: the {role} is no ONNX file but {part.format}")
    return parts


def _rules(options: Options, sizes: dict[str, int | None], decoder: bool) -> dict[str, Any]:
    rules: dict[str, Any] = {
        "vocabularies": options.vocabularies(sizes["source"], sizes["target"]),
        "characters": options.get("characters", False),
    }
    if sizes["source"] is not None:
        rules["source"] = {
            "prepend": options.get("source_prepend", []),
            "append": options.get("source_append", []),
            "reverse": options.get("source_reverse", False),
            "unknown": options.get("unknown"),
        }
    if decoder:
        rules |= {"start": options.require("start"), "end": options.require("end")}
        if options.get("max_length") is not None:
            rules["generation"] = {"max_length": options.get("max_length")}
    return rules


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    parts, where = _parts(checkpoint), checkpoint.where
    encoder: OnnxFile = parts["encoder"].content
    if "decoder" not in parts:
        return _encoder_alone(encoder, options, where)
    decoder: OnnxFile = parts["decoder"].content
    pairing = names.interface(encoder, decoder, *names.options(options), where)
    example = options.get("example_length", 0)
    first = translation.encoder_side(encoder, options.get("time_axis"), where, example)
    step = translation.decoder_side(decoder, pairing, first, where, example)
    slots = max(one.padded for one in step.inputs.values())
    if slots:
        options.require("padding")
    ids = translation.source_ids(first, where)
    source = None if ids is None else translation.table_size(first, ids, where)
    target = translation.table_size(step, "token", where)
    rules = _rules(options, {"source": source, "target": target}, True)
    m = ModelBuilder(source=source, target=target)
    if slots:  # longer sources have no place in the memory
        m.encoder.position(slots)
    handed = translation.handed_over(first, pairing)
    translation.write_encoder(m, encoder, handed, None)
    translation.write_decoder(m, step, first, pairing, where)
    return m.build(**rules)


def _encoder_alone(encoder: OnnxFile, options: Options, where: str) -> Model:
    example = options.get("example_length", 0)
    side = translation.encoder_side(encoder, options.get("time_axis"), where, example)
    ids = translation.source_ids(side, where)
    source = None if ids is None else translation.table_size(side, ids, where)
    outputs, logits = list(side.outputs), options.get("logits")
    if logits is None and "logits" in outputs:
        logits = "logits"
    if logits is not None and logits not in outputs:
        raise InputError(f"{where}: option logits is {logits!r}; outputs are {', '.join(outputs)}")
    size = None if logits is None else side.outputs[logits].expr.size
    m = ModelBuilder(source=source)
    rules = _rules(options, {"source": source, "target": size}, False)
    translation.write_encoder(m, encoder, side, logits)
    return m.build(**rules)


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.onnx import OnnxRuntime

    paths = {role: part.path for role, part in _parts(checkpoint).items()}
    return OnnxRuntime(paths, options)


IMPORTER = Importer(
    name="onnx",
    title="ONNX",
    reads=(
        "an encoder and a decoder step as torch.onnx.export writes them, with dynamo=False or "
        "True: a pair of paths, a folder with encoder*.onnx and decoder*.onnx, or an encoder "
        "alone. LSTM, GRU and RNN nodes, cells written out, dot and additive attention"
    ),
    refuses=(
        "by the node's name: loops, recurrences unrolled for one length, sources of a fixed "
        "length, masks, several sentences at once, attention with several heads, functions that "
        "the engine has not, quantised operators, external data"
    ),
    recognises=_recognises,
    build=_build,
    options=(
        Option("start", int, "the first token that the decoder reads"),
        Option("end", list, "the tokens that end a target"),
        Option("states", str, "which decoder output becomes which input: 'h=h_next,c=c_next'"),
        Option("hand_over", str, "which encoder output, or zeros, a decoder input starts from: "
               "'h=hidden,memory=outputs,c=zeros'"),
        Option("logits", str, "which output is scored"),
        Option("time_axis", str, "which open axis of the encoder's inputs is the source's length"),
        Option("example_length", int, "which number in the file is the length of the exporter's "
               "example: sources of any length are read in its place"),
        Option("padding", ("zeros",), "what the program that drives the graphs writes behind the "
               "source into a memory of a fixed length"),
        Option("source_prepend", list, "the ids before every source (default: none)"),
        Option("source_append", list, "the ids behind every source (default: none)"),
        Option("source_reverse", bool, "whether sources are read backwards (default: False)"),
        Option("unknown", int, "the id of source strings that are not in the vocabulary"),
        Option("characters", bool, "whether a source string is split into characters"),
        Option("max_length", int, "the most tokens of a target"),
    ),
    peer=_peer,
)  # fmt: skip
