"""The configuration of AllenNLP's sequence-to-sequence models: encoders, attention, search and how
its dataset reader makes a source. Knows keys, their defaults and what is refused by name; never
files or weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...architectures.allennlp import Score, Stage
from ...errors import ModelFormatError
from ..readers.pickle_values import shown

Config: TypeAlias = Mapping[str, Any]

MODELS = ("simple_seq2seq", "composed_seq2seq")
RECURRENT = ("lstm", "gru", "rnn")
ACTIVATIONS = {
    "linear": "identity", "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh",
    "softplus": "softplus",
}  # fmt: skip
SCORES = ("dot_product", "scaled_dot_product", "bilinear", "additive", "linear")
# Ended ones stay in its beam with their log-probability; it stops when all have ended.
RULE = {"ended": "stay", "stop": "empty", "limit": "compete"}


def refused(what: str, value: object, known: Iterator[str] | tuple[str, ...]) -> ModelFormatError:
    """The error for a value that this importer does not read."""
    listed = " or ".join(map(repr, known))
    return ModelFormatError(
        f"config.json: {what} is {shown(value)}, must be {listed} for this importer; another model "
        "can be written with ModelBuilder"
    )


def of(config: Config, *keys: str) -> Config:
    """The object below these keys, {} where there is none."""
    for key in keys:
        inner = config.get(key)
        config = inner if type(inner) is dict else {}
    return config


def kind_of(config: Config, what: str, known: tuple[str, ...], default: str | None = None) -> str:
    """The `type` of an object, which must be known."""
    value = config.get("type", default)
    if type(value) is not str or value not in known:
        raise refused(f"the type of {what}", value, known)
    return value


@dataclass(frozen=True)
class Parts:
    """Where the objects stand, which differs between the two models."""

    embedder: Config
    encoder: Config
    decoder: Config  # target_namespace and the search
    attention: Any
    composed: bool

    @staticmethod
    def of(config: Config) -> Parts:
        model = of(config, "model")
        kind = kind_of(model, "model", MODELS)
        if "attention_function" in model:
            raise refused("model.attention_function", model["attention_function"], ("left out",))
        if kind == "simple_seq2seq":
            embedder = of(model, "source_embedder")
            return Parts(embedder, of(model, "encoder"), model, model.get("attention"), False)
        decoder = of(model, "decoder")
        kind_of(decoder, "model.decoder", (default := "auto_regressive_seq_decoder",), default)
        net = of(decoder, "decoder_net")
        kind_of(net, "model.decoder.decoder_net", ("lstm_cell",))
        embedder = of(model, "source_text_embedder")
        return Parts(embedder, of(model, "encoder"), decoder, net.get("attention"), True)

    def both(self, is_bidirectional: Callable[[str], bool]) -> bool:
        """Whether the decoder starts from the last states of two directions."""
        if self.composed:
            return of(self.decoder, "decoder_net").get("bidirectional_input") is True
        found = [
            stage.kind == "recurrent" and is_bidirectional(stage.prefix)
            for stage in stages(self.encoder)
        ]
        return bool(found) and all(found)


def stages(config: Config, prefix: str = "_encoder") -> list[Stage]:
    """The encoders one behind the other."""
    known = (*RECURRENT, "feedforward", "pass_through", "compose")
    kind = kind_of(config, "an encoder", known)
    if config.get("stateful"):
        raise refused("stateful of an encoder", config["stateful"], ("false",))
    if kind in RECURRENT:
        name = config.get("nonlinearity", "tanh") if kind == "rnn" else "tanh"
        if name not in ("tanh", "relu"):
            raise refused("nonlinearity of an encoder", name, ("tanh", "relu"))
        return [Stage("recurrent", prefix, (name,))]
    if kind == "pass_through":
        return [Stage("pass_through", prefix)]
    if kind == "feedforward":
        return [Stage("feedforward", prefix, _activations(of(config, "feedforward")))]
    inner = config.get("encoders")
    rows = inner if type(inner) is list else []
    return [
        stage
        for number, one in enumerate(rows)
        for stage in stages(one if type(one) is dict else {}, f"{prefix}.encoder{number}")
    ]


def _activations(config: Config) -> tuple[str, ...]:
    """Of every layer of a feedforward."""
    layers, given = config.get("num_layers"), config.get("activations")
    if type(layers) is not int or not 1 <= layers <= 64:
        raise refused("num_layers of a feedforward", layers, ("1", "64 at most"))
    listed = given if type(given) is list else [given] * layers
    if len(listed) != layers:
        raise refused("the number of activations", len(listed), (str(layers),))
    return tuple(activation(one) for one in listed)


def activation(value: Any) -> str:
    """Its name here."""
    name = value.get("type") if type(value) is dict else value
    if type(name) is not str or name not in ACTIVATIONS:
        raise refused("an activation", name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name]


def score(config: Any, width: int) -> Score | None:
    """The attention; `width` is that of the encoder's outputs."""
    if config is None:
        return None
    if type(config) is str:
        config = {"type": config}
    kind = kind_of(config if type(config) is dict else {}, "attention", SCORES)
    plain = activation(config.get("activation") or "linear")
    normalised = config.get("normalize", True) is not False
    if kind == "scaled_dot_product":
        factor = config.get("scaling_factor") or width
        if type(factor) not in (int, float) or factor <= 0:
            raise refused("scaling_factor", factor, ("a number above 0",))
        return Score("dot", divisor=float(factor), normalised=normalised)
    if kind == "dot_product":
        return Score("dot", normalised=normalised)
    if kind == "additive":
        return Score("additive", normalised=normalised)
    if kind == "bilinear":
        return Score("bilinear", activation=plain, normalised=normalised)
    combination = config.get("combination", "x,y")
    if type(combination) is not str:
        raise refused("combination of linear attention", combination, ("such as x,y",))
    return Score("linear", activation=plain, combination=combination, normalised=normalised)


def embedders(config: Config) -> dict[str, Config]:
    """The token embedders by name; before 1.0 they stood in the object itself."""
    inner = of(config, "token_embedders") if "token_embedders" in config else config
    found: dict[str, Config] = {name: one for name, one in inner.items() if type(one) is dict}
    for name, one in found.items():
        kind_of(one, f"token embedder {name[:80]!r}", ("embedding", "empty"), "embedding")
        if one.get("max_norm") is not None:
            raise refused(f"max_norm of token embedder {name[:80]!r}", one["max_norm"], ("null",))
    return found


@dataclass(frozen=True)
class Search:
    """generation: as a model has it. aside: keys whose effect on the search is not reproduced."""

    generation: dict[str, Any]
    aside: list[str]


def search(config: Config) -> Search:
    """What is set for the beam; until 2.4 a beam was 1 and `max_decoding_steps` had to be given."""
    beam = of(config, "beam_search")
    old = "beam_search" not in config and "max_decoding_steps" in config
    steps = beam.get("max_steps", config.get("max_decoding_steps", 50))
    width = beam.get("beam_size", config.get("beam_size")) or (1 if old else 10)
    for name, value in (("max_steps", steps), ("beam_size", width)):
        if type(value) is not int or value < 1:
            raise refused(f"{name} of the search", value, ("a number of at least 1",))
    generation: dict[str, Any] = {"beam_size": width, "max_length": steps, "search": RULE}
    aside = [name for name in ("constraints",) if beam.get(name)]
    if beam.get("per_node_beam_size", width) not in (None, width):
        aside.append("per_node_beam_size")
    if of(beam, "sampler").get("type", "deterministic") != "deterministic":
        aside.append("sampler")
    least = beam.get("min_steps") or 0
    if type(least) is not int or not 0 <= least < steps:
        aside.append("min_steps")
    elif least:
        generation["min_length"] = least + 1
    scorer = of(beam, "final_sequence_scorer")
    if scorer.get("type") == "length-normalized-sequence-log-prob":
        alpha = scorer.get("length_penalty", 1.0)
        generation["length_penalty"] = float(alpha) if type(alpha) in (int, float) else 1.0
    elif scorer.get("type", "sequence-log-prob") != "sequence-log-prob":
        aside.append("final_sequence_scorer")
    return Search(generation, aside)


@dataclass(frozen=True)
class Source:
    """How a source is made. names: the indexers by name, with their namespaces. main: the one that
    indexes the words. start, end: the words put around a source, None where none is. most: at how
    many tokens it is cut. framed: whether the reader is known."""

    namespaces: dict[str, str]
    main: str
    start: str | None
    end: str | None
    most: int | None
    lowercased: bool
    framed: bool


def source(config: Config) -> Source:
    """As the dataset reader `seq2seq` does it, with its defaults."""
    reader = of(config, "dataset_reader")
    listed = of(reader, "source_token_indexers")
    indexers = {name: one if type(one) is dict else {} for name, one in listed.items()}
    indexers = indexers or {"tokens": {}}
    namespaces = {}
    for name, one in indexers.items():
        kind_of(one, f"token indexer {name[:80]!r}", ("single_id",), "single_id")
        for key in ("start_tokens", "end_tokens"):
            if one.get(key):
                raise refused(f"{key} of token indexer {name[:80]!r}", one[key], ("left out",))
        namespaces[name] = text(one.get("namespace"), "tokens")
    words = [
        name for name, one in indexers.items() if text(one.get("feature_name"), "text") == "text"
    ]
    if not words or (len(words) > 1 and "tokens" not in words):
        raise ModelFormatError(
            "config.json: of the source_token_indexers "
            f"{', '.join(map(repr, indexers))} {len(words)} index words; one of them must, or one "
            "must be called 'tokens'"
        )
    main = words[0] if len(words) == 1 else "tokens"
    most = reader.get("source_max_tokens")
    symbols = (
        ("source_add_start_token", text(reader.get("start_symbol"), "@start@")),
        ("source_add_end_token", text(reader.get("end_symbol"), "@end@")),
    )
    start, end = (word if reader.get(key, True) else None for key, word in symbols)
    return Source(
        namespaces,
        main,
        start,
        end,
        most if type(most) is int and most > 0 else None,
        any(one.get("lowercase_tokens") is True for one in indexers.values()),
        reader.get("type") == "seq2seq",
    )


def text(value: Any, default: str) -> str:
    return value if type(value) is str else default
