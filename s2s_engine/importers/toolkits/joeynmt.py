"""Joey NMT's recurrent checkpoints. Knows their keys, config.yaml, vocabulary files and search
settings; never equations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...architectures import toolkits
from ...model import Model
from ..checkpoint import Checkpoint, read
from ..importer import Importer, Option, Options, Peer, read_vocabulary
from ..readers.torch_files import tensors_of
from ..readers.yaml import read_yaml
from ..weights import check, layers, recurrent

CONFIG = "config.yaml"
TABLES = ("src_embed.lut.weight", "trg_embed.lut.weight")
# Joey NMT puts them first in every vocabulary, in this order.
SPECIALS = {"unk": "<unk>", "pad": "<pad>", "bos": "<s>", "eos": "</s>"}
UNKNOWN, PAD, BOS, EOS = range(4)
INITIAL = {"bridge": "bridge", "last": "last", "zero": "zero", "zeros": "zero"}
GATES = {3: "gru", 4: "lstm"}
ACTIVATION_SINCE = (2, 3)
# The versions since which a search never writes what no text holds.
FORBIDDEN_SINCE = (2, 3)
# Its releases; those called 0.0 are of 2020, after 0.9.
RELEASES = ("0.9", "0.0", "1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "2.0", "2.1", "2.2", "2.3")
GREETING = re.compile(r"Hello! This is Joey-NMT \(version ([0-9]{1,8}\.[0-9]{1,8})")
MAX_LOG = 64 << 20
# The longest output, where the settings do not say: 1.5 times the source, its end counted.
LIMIT = {"numerator": 3, "denominator": 2}


@dataclass(frozen=True)
class _Facts:
    """hidden, scale: for the wiring. config: config.yaml, empty where it is not there. release: the
    first two parts of its number."""

    w: dict[str, Any]
    hidden: str
    scale: tuple[bool, bool]
    config: dict[str, Any]
    release: tuple[int, ...]


def _recognises(checkpoint: Checkpoint) -> bool:
    content = checkpoint.content
    if checkpoint.format == "folder":
        wanted = {CONFIG, "src_vocab.txt", "trg_vocab.txt"}
        return wanted <= content.keys() and any(name.endswith(".ckpt") for name in content)
    weights = content.get("model_state") if isinstance(content, dict) else None
    return checkpoint.format == "torch" and type(weights) is dict and set(TABLES) <= weights.keys()


def _opened(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint; of a folder the best, else the last, else the only one."""
    if checkpoint.format != "folder":
        return checkpoint
    names = sorted(name for name in checkpoint.content if name.endswith(".ckpt"))
    for name in ("best.ckpt", "latest.ckpt", *(names if len(names) == 1 else ())):
        if name in checkpoint.content:
            return read(checkpoint.content[name])
    raise checkpoint.refuse(
        f"has no best.ckpt and no latest.ckpt, but {len(names)} other checkpoints "
        f"({', '.join(names[:6]) or 'none'}): give the path of one of them"
    )


def _build(checkpoint: Checkpoint, options: Options) -> Model:
    opened = _opened(checkpoint)
    facts = _facts(opened, options)
    sizes = {side: len(facts.w[name]) for side, name in zip(("src", "trg"), TABLES, strict=True)}
    words = {}
    for name, side, stored in (("tokens", "source", "src"), ("target", "target", "trg")):
        path = opened.beside(f"{stored}_vocab.txt")
        listed = None if path is None else _words(path, facts.config)
        found = options.vocabulary(side, sizes[stored], listed)
        if found is not None:
            words[name] = found
    rules = {
        "source": {"append": [EOS], "unknown": UNKNOWN},
        "start": BOS,
        "end": [EOS],
        "vocabularies": words,
        "characters": bool(words) and _levels(facts.config) == {"char"},
        "generation": _generation(opened, facts.config, facts.release),
        "provenance": {} if opened is checkpoint else {"checkpoint": Path(opened.where).name},
    }
    return toolkits.joeynmt(facts.w, hidden=facts.hidden, scale=facts.scale, rules=rules)


# --- what the files say ---


def _facts(checkpoint: Checkpoint, options: Options) -> _Facts:
    content = checkpoint.content
    if checkpoint.format != "torch" or type(content) is not dict or "model_state" not in content:
        raise checkpoint.refuse("is no file of Joey NMT: a dictionary with the key 'model_state'")
    w = tensors_of(content["model_state"])
    path = checkpoint.beside(CONFIG)
    config = {} if path is None else read_yaml(path)
    model = _section(config, "model")
    encoder, decoder = _section(model, "encoder"), _section(model, "decoder")
    _recurrent(checkpoint, w)
    hidden = _hidden(checkpoint, w, model, decoder, options)
    check(checkpoint, w, _names(w, hidden), tuple(GATES))
    if model:
        _agree(checkpoint, w, encoder, decoder)
    scale = _scale(checkpoint, model, options)
    release = _release(checkpoint, config, options)
    _activation(checkpoint, decoder, release)
    return _Facts(w, hidden, scale, config, release)


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _recurrent(checkpoint: Checkpoint, w: Mapping[str, Any]) -> None:
    for side in ("encoder", "decoder"):
        if not layers(w, f"{side}.rnn"):
            kind = "Transformer" if f"{side}.layer_norm.weight" in w else "of another kind"
            raise checkpoint.refuse(
                f"the {side} is {kind}: it has no {side}.rnn.weight_ih_l0; only recurrent models "
                "of Joey NMT can be imported"
            )
    if "encoder.rnn.weight_ih_l0_reverse" not in w:
        raise checkpoint.refuse(
            "the encoder reads in one direction only (bidirectional: False), which no version of "
            "Joey NMT can run itself: it takes the final state of the backward one"
        )


def _agree(
    checkpoint: Checkpoint,
    w: Mapping[str, Any],
    encoder: Mapping[str, Any],
    decoder: Mapping[str, Any],
) -> None:
    """The configuration must describe the weights that are there."""
    target, state = w[TABLES[1]], w["decoder.rnn.weight_hh_l0"]
    told = {
        "input_feeding": (True, w["decoder.rnn.weight_ih_l0"].shape[1] > target.shape[1]),
        "attention": (
            "bahdanau",
            "bahdanau" if "decoder.attention.energy_layer.weight" in w else "luong",
        ),
        "hidden_size": (state.shape[1], state.shape[1]),
    }
    for side, section, held in (("encoder", encoder, {}), ("decoder", decoder, told)):
        cell = w[f"{side}.rnn.weight_hh_l0"]
        facts = {
            "rnn_type": ("gru", GATES.get(cell.shape[0] // max(cell.shape[1], 1), "neither")),
            "num_layers": (1, layers(w, f"{side}.rnn")),
            **held,
        }
        for name, (default, found) in facts.items():
            said = section.get(name, default)
            if said != found:
                raise checkpoint.refuse(
                    f"{CONFIG}: model.{side}.{name} is {str(said)[:40]!r}, but the weights say "
                    f"{found!r}: it is the configuration of another model"
                )


def _activation(
    checkpoint: Checkpoint, decoder: Mapping[str, Any], release: tuple[int, ...]
) -> None:
    told = decoder.get("activation", "tanh")
    if told != "tanh" and release >= ACTIVATION_SINCE:
        raise checkpoint.refuse(
            f"{CONFIG}: model.decoder.activation is {str(told)[:40]!r}: a recurrent decoder has "
            "tanh, Joey NMT 2.3 fails on all others and older versions do not read this line; "
            "write tanh, or the version that trained the model (joeynmt_version: 2.2.0)"
        )


def _release(
    checkpoint: Checkpoint, config: Mapping[str, Any], options: Options
) -> tuple[int, ...]:
    """As told, or as the keys of the file say (1.2 stands for 1.0 to 1.2, 2.2 for 2.1 and 2.2), or
    the log of the training; 2.3 where nothing points to another."""
    told = options.get("release", config.get("joeynmt_version"))
    parts = str(told).split(".")[:2]
    if len(parts) == 2 and all(part.isdecimal() and len(part) < 9 for part in parts):
        return tuple(int(part) for part in parts)
    keys, src = set(checkpoint.content), _section(config, "data").get("src")
    if not isinstance(src, str):  # until 1.5 a language
        if "scaler_state" in keys and "stats_state" not in keys:
            return (2, 2)
        if "amp_state" in keys and isinstance(src, dict):
            return (2, 0)
        if isinstance(src, dict) or not keys & {"amp_state", "best_ckpt_score"}:
            return (2, 3)
    if "amp_state" in keys and "train_iter_state" not in keys:
        return (1, 2)
    log = checkpoint.beside("train.log")
    if log is not None and log.stat().st_size <= MAX_LOG:
        found = GREETING.findall(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return tuple(int(part) for part in found[-1].split("."))
    return tuple(int(part) for part in options.require("release").split("."))


def _hidden(
    checkpoint: Checkpoint,
    w: Mapping[str, Any],
    model: Mapping[str, Any],
    decoder: Mapping[str, Any],
    options: Options,
) -> str:
    bridge = "decoder.bridge_layer.weight" in w
    told = str(decoder.get("init_hidden", "bridge"))[:40] if model else None
    if told is not None and told not in INITIAL:
        raise checkpoint.refuse(
            f"{CONFIG}: model.decoder.init_hidden is {told!r}, must be one of "
            f"{', '.join(map(repr, INITIAL))}"
        )
    if told is None and bridge:
        told = "bridge"
    found = options.get("init_hidden", None if told is None else INITIAL[told])
    found = options.require("init_hidden") if found is None else found
    if (found == "bridge") is not bridge:
        raise checkpoint.refuse(
            f"init_hidden is {found!r}, but decoder.bridge_layer.weight is "
            f"{'there' if bridge else 'missing'}"
        )
    return str(found)


def _scale(checkpoint: Checkpoint, model: Mapping[str, Any], options: Options) -> tuple[bool, bool]:
    found = []
    for option, side in (("source_scale", "encoder"), ("target_scale", "decoder")):
        if model.get("tied_embeddings") is True:
            side = "encoder"  # Joey NMT then has one module for both
        embeddings = _section(_section(model, side), "embeddings")
        told = options.get(option, embeddings.get("scale", False) if model else None)
        if told is None:
            told = options.require(option)
        if not isinstance(told, bool):
            raise checkpoint.refuse(
                f"{CONFIG}: model.{side}.embeddings.scale is {str(told)[:40]!r}, must be a boolean"
            )
        found.append(told)
    return found[0], found[1]


def _names(w: Mapping[str, Any], hidden: str) -> set[str]:
    """The names of the weights that the model reads."""
    names = {*TABLES, "decoder.attention.key_layer.weight", "decoder.output_layer.weight"}
    names |= recurrent(w, "encoder.rnn")
    names |= {name for name in recurrent(w, "decoder.rnn") if not name.endswith("_reverse")}
    for name in ("att_vector_layer", *(["bridge_layer"] if hidden == "bridge" else [])):
        names |= {f"decoder.{name}.weight", f"decoder.{name}.bias"}
    if "decoder.attention.energy_layer.weight" in w:
        names |= {f"decoder.attention.{one}_layer.weight" for one in ("query", "energy")}
    return names


# --- vocabularies and search ---


def _words(path: Path, config: Mapping[str, Any]) -> list[str]:
    """The specials, then what a file lists, each once: as Joey NMT reads it again."""
    symbols = _section(_section(config, "data"), "special_symbols")
    specials = [str(symbols.get(f"{name}_token", token)) for name, token in SPECIALS.items()]
    return list(dict.fromkeys([*specials, *_more_symbols(config), *read_vocabulary(path)]))


def _more_symbols(config: Mapping[str, Any]) -> list[str]:
    """Behind the four: what separates sentences, and the tags of languages."""
    symbols = _section(_section(config, "data"), "special_symbols")
    separator, tags = symbols.get("sep_token"), symbols.get("lang_tags")
    more = [separator] if isinstance(separator, str) else []
    more += [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return list(dict.fromkeys(more))


def _levels(config: Mapping[str, Any]) -> set[Any]:
    """What tokens are, of both sides (of version 1 as one)."""
    data = _section(config, "data")
    if isinstance(data.get("src"), dict):
        return {str(_section(data, side).get("level")) for side in ("src", "trg")}
    return {str(data.get("level"))}


def _number(checkpoint: Checkpoint, where: str, value: Any, low: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= 1e6:
        raise checkpoint.refuse(
            f"{CONFIG}: {where} is {str(value)[:40]!r}, must be a number of at least {low:g}"
        )
    return value


def _generation(
    checkpoint: Checkpoint, config: Mapping[str, Any], release: tuple[int, ...]
) -> dict[str, Any]:
    """The settings of `testing`; of version 1 the longest output stands in `training`."""
    testing, training = _section(config, "testing"), _section(config, "training")

    def told(name: str, default: Any, low: float) -> Any:
        value = testing.get(name)
        value = default if value is None else value
        return _number(checkpoint, f"testing.{name}", value, low)

    beam = max(1, int(told("beam_size", 1, 0)))
    alpha = float(told("beam_alpha", told("alpha", -1, -1), -1))
    longest = int(told("max_output_length", training.get("max_output_length") or -1, -1))
    found: dict[str, Any] = {"beam_size": beam, "max_length": longest if longest > 0 else LIMIT}
    if release >= (2,):
        # Whatever testing.min_output_length says: it is read and not given to the search.
        found |= {"early_stop": "joeynmt", "min_length": 2 if longest != 1 else 1}
        unknown = testing.get("generate_unk", True)
        if not isinstance(unknown, bool):
            raise checkpoint.refuse(
                f"{CONFIG}: testing.generate_unk is {str(unknown)[:40]!r}, must be true or false"
            )
        forbidden = [] if unknown else [UNKNOWN]
        if release >= FORBIDDEN_SINCE:
            forbidden += [PAD, BOS, *range(EOS + 1, EOS + 1 + len(_more_symbols(config)))]
        if forbidden:
            found["suppress_tokens"] = forbidden
        if beam > 1:
            _refuse_search(checkpoint, testing)
    else:
        found["search"] = _early_rule(release)
        if release == (0, 9) and beam > 1 and alpha == -1:
            raise checkpoint.refuse(
                f"{CONFIG}: testing.alpha is -1 (or missing): without a penalty the beams of Joey "
                "NMT 0.9 are no search (docs/search.md), and cannot be had; write alpha: 0, or "
                "beam_size: 1"
            )
    if alpha > 0 or (-1 < alpha < 0 and release < (2,)):
        found |= {"length_penalty": alpha, "length_penalty_kind": "gnmt"}
    return found


def _early_rule(release: tuple[int, ...]) -> dict[str, str]:
    """Of releases before 2.0 (docs/search.md)."""
    if release >= (1, 4):
        return {"ended": "expand", "stop": "places", "limit": "closed"}
    limit = "again" if release == (0, 9) else "done"
    return {"ended": "expand", "stop": "first", "limit": limit}


def _refuse_search(checkpoint: Checkpoint, testing: Mapping[str, Any]) -> None:
    """Settings that change what a beam finds and that the search here has not."""
    for name, harmless in (("repetition_penalty", 1), ("no_repeat_ngram_size", 0)):
        value = testing.get(name)
        if value is None:
            continue
        if not isinstance(value, (bool, int, float)) or not value <= harmless:
            raise checkpoint.refuse(
                f"{CONFIG}: testing.{name} is {str(value)[:40]!r}, which the search here does not "
                "have; take the line out to decode without it"
            )


def _peer(checkpoint: Checkpoint, options: Options) -> Peer:
    from ..peers.joeynmt import JoeyNmt

    facts = _facts(_opened(checkpoint), options)
    return JoeyNmt(facts.w, facts.hidden, facts.scale)


IMPORTER = Importer(
    name="joeynmt",
    title="Joey NMT",
    reads="Checkpoints (.ckpt) of recurrent models of versions 0.9 to 2.3, or the model's folder: "
    "GRU and LSTM, any layers, both attentions, every init_hidden, input feeding, scaled and tied "
    "embeddings. config.yaml and src_vocab.txt, trg_vocab.txt are read beside the checkpoint; "
    "without config.yaml the options say what it says. Search, limit and forbidden ids are those "
    "of the release (docs/search.md): the option's, else that of config.yaml, else what the "
    "checkpoint's keys tell, 2.3 without any. 0.9 and 0.0 have the same ones, and so have 1.3 to "
    "1.5: of these train.log beside it may say.",
    refuses="Transformers; encoders of one direction and activations other than tanh, which Joey "
    "NMT itself cannot run; repetitions that a beam blocks or punishes; beams of 0.9 without a "
    "penalty.",
    recognises=_recognises,
    build=_build,
    options=(
        Option(
            "init_hidden",
            ("bridge", "last", "zero"),
            "the state in which the decoder begins (config.yaml: model.decoder.init_hidden)",
        ),
        Option(
            "source_scale",
            bool,
            "whether source embeddings are multiplied by the root of their size (config.yaml: "
            "model.encoder.embeddings.scale)",
        ),
        Option(
            "target_scale",
            bool,
            "whether target embeddings are multiplied by the root of their size (config.yaml: "
            "model.decoder.embeddings.scale; with tied_embeddings that of the encoder)",
        ),
        Option(
            "release",
            RELEASES,
            "what a beam finds, and which ids it may write (docs/search.md): 0.9, 0.0 to 1.3, 1.4 "
            "and 1.5, 2.0 to 2.2 and 2.3 differ",
        ),
    ),
    peer=_peer,
)
