"""fairseq's checkpoints of its lstm and lstm_lm models. Knows their top-level keys, arguments,
dictionaries and generation defaults; never equations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...architectures import language_models, toolkits
from ...errors import ModelFormatError
from ...model import Model
from ..checkpoint import Checkpoint
from ..importer import Importer, Option, Options, Peer, known, read_vocabulary
from ..readers.pickle_values import Placeholder
from ..readers.torch_files import tensors_of
from ..weights import check, layers, recurrent

ARCHITECTURES = {
    "lstm": "lstm",
    "lstm_wiseman_iwslt_de_en": "lstm",
    "lstm_luong_wmt_en_de": "lstm",
    "lstm_lm": "lstm_lm",
}
TASKS = {"lstm": "translation", "lstm_lm": "language_modeling"}
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
BOS, EOS, UNKNOWN = 0, 2, 3
MAX_STEPS = 200  # fairseq-generate's --max-len-b, the end not included
OVERWRITE = "#fairseq:overwrite"
TRUE, FALSE = (True, 1, "1", "True"), (False, 0, "0", "False")
MAX_DEPTH = 8
LSTM = (4,)  # gates
MAX_LANGUAGE = 100


def _recognises(checkpoint: Checkpoint) -> bool:
    content = checkpoint.content
    if checkpoint.format != "torch" or type(content) is not dict:
        return False
    weights = content.get("model")
    told = content.get("args") is not None or content.get("cfg") is not None
    return told and type(weights) is dict and "decoder.embed_tokens.weight" in weights


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    w, facts = _weights(checkpoint), _facts(checkpoint)
    architecture = _architecture(checkpoint, facts, options)
    _agree(checkpoint, facts, w, architecture)
    check(checkpoint, w, _names(w, architecture), LSTM)
    if architecture == "lstm_lm":
        return _language_model(checkpoint, options, w, facts)
    words = {
        name: _words(checkpoint, options, side, len(w[f"{module}.embed_tokens.weight"]), language)
        for name, side, module, language in (
            ("tokens", "source", "encoder", facts.get("source_lang")),
            ("target", "target", "decoder", facts.get("target_lang")),
        )
    }
    rules = {
        "source": {"append": [EOS], "unknown": UNKNOWN},
        "start": EOS,
        "end": [EOS],
        "vocabularies": known(words),
        "generation": _generation(facts),
    }
    return toolkits.fairseq(w, rules=rules)


def _language_model(
    checkpoint: Checkpoint, options: Options, w: Mapping[str, Any], facts: Mapping[str, Any]
) -> Model:
    truncated = facts.get("output_dictionary_size")
    if isinstance(truncated, int) and truncated >= 0:
        raise checkpoint.refuse(
            f"output_dictionary_size is {truncated}: a model that scores a part of its dictionary "
            "cannot be imported; it must be -1"
        )
    words = _words(checkpoint, options, "target", len(w["decoder.embed_tokens.weight"]), None)
    rules = {
        "start": BOS if facts.get("add_bos_token") in TRUE else EOS,
        "end": [EOS],
        "vocabularies": {} if words is None else {"target": words},
        "generation": _generation(facts),
    }
    residuals = facts.get("residuals") in TRUE
    return language_models.fairseq_lm(w, residuals=residuals, rules=rules)


def _generation(facts: Mapping[str, Any]) -> dict[str, Any]:
    """fairseq-generate's defaults: --beam 5, --lenpen 1, --min-len 1, --max-len-b 200."""
    positions = facts.get("max_target_positions")
    limit = MAX_STEPS
    if isinstance(positions, (int, float)) and 1 < positions < MAX_STEPS:
        limit = int(positions) - 1
    return {
        "beam_size": 5,
        "max_length": limit + 1,
        "min_length": 2,
        "early_stop": "fairseq",
        "length_penalty": 1.0,
    }


# --- what the file says ---


def _weights(checkpoint: Checkpoint) -> dict[str, Any]:
    content = checkpoint.content
    if checkpoint.format != "torch" or type(content) is not dict or "model" not in content:
        raise checkpoint.refuse("is no file of fairseq: a dictionary with the key 'model'")
    return tensors_of(content["model"])


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Arguments by name: of `args` (until 0.10), or of `cfg` with its model and task."""
    content = checkpoint.content
    args = _plain(content.get("args"))
    if isinstance(args, dict):
        return args
    config = _plain(content.get("cfg"))
    if not isinstance(config, dict):
        raise checkpoint.refuse("has neither 'args' nor 'cfg', which say what model it is")
    found: dict[str, Any] = {}
    for part, name in (("task", "task"), ("model", "arch")):
        held = config.get(part)
        if isinstance(held, dict):
            found |= {key: value for key, value in held.items() if key != "_name"}
            found[name] = held.get("_name", found.get(name))
    return found


def _plain(value: Any, depth: int = 0) -> Any:
    """Scalars, and a dictionary of an argparse.Namespace or omegaconf.DictConfig left unbuilt."""
    if depth > MAX_DEPTH:
        return None
    if type(value) is Placeholder and isinstance(value.state, dict):
        state = value.state
        if value.module.split(".")[0] == "omegaconf":
            return _plain(state.get("_content", state.get("_val")), depth + 1)
        return _plain(state, depth + 1)
    if type(value) is dict:
        return {key: _plain(held, depth + 1) for key, held in value.items() if type(key) is str}
    return value if value is None or type(value) in (str, bool, int, float) else None


def _architecture(checkpoint: Checkpoint, facts: Mapping[str, Any], options: Options) -> str:
    given = options.get("architecture")
    if given is not None:
        return str(given)
    arch, task = facts.get("arch"), facts.get("task")
    way_out = "if it is one of them under another name, say architecture='lstm' or 'lstm_lm'"
    if not isinstance(arch, str) or arch not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise checkpoint.refuse(
            f"the architecture is {str(arch)[:80]!r}; those that can be imported are {known}; "
            f"{way_out}"
        )
    found = ARCHITECTURES[arch]
    if task not in (None, TASKS[found]):  # fairseq itself takes none as translation
        raise checkpoint.refuse(
            f"the task is {str(task)[:80]!r}, which may add tokens; for {arch} it must be "
            f"{TASKS[found]!r}; {way_out}"
        )
    return found


def _agree(
    checkpoint: Checkpoint, facts: Mapping[str, Any], w: Mapping[str, Any], architecture: str
) -> None:
    """The arguments must describe the weights that are there."""
    if any(name.startswith("decoder.adaptive_softmax.") for name in w):
        raise checkpoint.refuse(
            "has an adaptive softmax (criterion adaptive_loss), which cannot be imported; train "
            "with another criterion"
        )
    attention, output = "decoder.attention.input_proj.weight", "decoder.fc_out.weight"
    found = {"decoder_layers": layers(w, "decoder.layers")}
    switches = {}
    if architecture == "lstm":
        found["encoder_layers"] = layers(w, "encoder.lstm")
        switches["decoder_attention"] = attention in w
        switches["encoder_bidirectional"] = "encoder.lstm.weight_ih_l0_reverse" in w
    shared = [
        facts.get(f"share_{what}") for what in ("decoder_input_output_embed", "all_embeddings")
    ]
    is_told = any(told in (*TRUE, *FALSE) for told in shared)
    if is_told and any(told in TRUE for told in shared) is (output in w):
        raise checkpoint.refuse(
            f"share_decoder_input_output_embed is {shared[0]!r}, share_all_embeddings is "
            f"{shared[1]!r}, but {output} is {'there' if output in w else 'missing'}"
        )
    for name, count in found.items():
        if facts.get(name, count) != count:
            raise checkpoint.refuse(f"{name} is {facts[name]!r}, but there are weights for {count}")
    for name, held in switches.items():
        told = facts.get(name)
        if told in (FALSE if held else TRUE):
            raise checkpoint.refuse(f"{name} is {told!r}, but the weights say {held}")


def _names(w: Mapping[str, Any], architecture: str) -> set[str]:
    """The names of the weights that the model reads."""
    dense = {"additional_fc", "fc_out"}
    names = {"decoder.embed_tokens.weight"} | recurrent(w, "decoder.layers")
    if architecture == "lstm":
        names |= {"encoder.embed_tokens.weight"} | recurrent(w, "encoder.lstm")
        dense |= {"encoder_hidden_proj", "encoder_cell_proj"}
        if "decoder.attention.input_proj.weight" in w:
            names |= {f"decoder.attention.{one}_proj.weight" for one in ("input", "output")}
    for name in dense:
        if f"decoder.{name}.weight" in w:
            names |= {f"decoder.{name}.weight", f"decoder.{name}.bias"}
    return names


# --- dictionaries ---


def _words(
    checkpoint: Checkpoint, options: Options, side: str, size: int, language: Any
) -> list[str] | None:
    given = options.given.get(f"{side}_vocabulary")
    if given is None:
        name = f"dict.{language}.txt" if isinstance(language, str) else "dict.txt"
        is_name = Path(name).name == name and len(name) < MAX_LANGUAGE
        path = checkpoint.beside(name) if is_name else None
        return options.vocabulary(side, size, None if path is None else _dictionary(path))
    if isinstance(given, (str, Path)) and _is_dictionary(Path(given)):
        words = _dictionary(Path(given))
        if len(words) != size:
            raise checkpoint.refuse(
                f"the {side} dictionary {given} makes {len(words)} words with its specials, must "
                f"make {size}"
            )
        return words
    return options.vocabulary(side, size)


def _is_dictionary(path: Path) -> bool:
    """Whether a vocabulary's file is one of fairseq: counts behind the words."""
    if path.suffix == ".json":
        return False
    lines = read_vocabulary(path)
    return all(line.removesuffix(OVERWRITE).rstrip().rsplit(" ", 1)[-1].isdigit() for line in lines)


def _dictionary(path: Path) -> list[str]:
    """The words of a file `<word> <count>`, behind the four that fairseq puts first."""
    words, known = list(SPECIALS), set(SPECIALS)
    for number, line in enumerate(read_vocabulary(path), 1):
        word, _, count = line.rstrip().rpartition(" ")
        overwrite = count == OVERWRITE
        if overwrite:
            word, _, count = word.rpartition(" ")
        if not word or not count.isdigit():
            raise ModelFormatError(
                f"{path}, line {number}: {line[:60]!r} must be a word and its count"
            )
        if word in known and not overwrite:
            raise ModelFormatError(f"{path}, line {number}: the word {word[:60]!r} stands twice")
        known.add(word)
        words.append(word)
    return words


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.fairseq import Fairseq, FairseqLanguageModel

    w, facts = _weights(checkpoint), _facts(checkpoint)
    if _architecture(checkpoint, facts, options) == "lstm_lm":
        start = BOS if facts.get("add_bos_token") in TRUE else EOS
        return FairseqLanguageModel(w, start, residuals=facts.get("residuals") in TRUE)
    return Fairseq(w)


IMPORTER = Importer(
    name="fairseq",
    title="fairseq",
    reads="Checkpoints (.pt) of the architectures lstm, lstm_wiseman_iwslt_de_en and "
    "lstm_luong_wmt_en_de (task translation) and lstm_lm (language_modeling), since 0.4: any "
    "layers, directions, projections, attention or none, shared embeddings, residuals. "
    "Dictionaries are dict.<language>.txt beside the checkpoint.",
    refuses="Other architectures and tasks, adaptive softmax, a truncated output dictionary.",
    recognises=_recognises,
    build=_build,
    options=(
        Option(
            "architecture",
            ("lstm", "lstm_lm"),
            "the model and what is put around the source, where the checkpoint was trained under "
            "a name of one's own",
        ),
    ),
    peer=_peer,
)
