"""Marian's configurations of recurrent models: what they say, and the parameters they have. Knows
keys, names and shapes; never equations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...errors import ModelFormatError

Shapes: TypeAlias = dict[str, tuple[int, int]]
Config: TypeAlias = Mapping[str, Any]

TYPES = ("s2s", "amun", "nematus")
ENCODERS = ("bidirectional", "bi-unidirectional", "alternating")
CELLS = ("gru", "gru-nematus", "lstm")
# Marian's defaults, for the keys that older versions did not write.
DEFAULTS: dict[str, Any] = {
    "enc-type": "bidirectional", "enc-cell": "gru", "enc-cell-depth": 1, "enc-depth": 1,
    "dec-cell": "gru", "dec-cell-base-depth": 2, "dec-cell-high-depth": 1, "dec-depth": 1,
    "skip": False, "layer-normalization": False, "right-left": False, "input-types": [],
    "tied-embeddings": False, "tied-embeddings-src": False, "tied-embeddings-all": False,
    "output-omit-bias": False, "ulr": False, "lemma-dim-emb": 0, "factors-dim-emb": 0,
    "lemma-dependency": "",
}  # fmt: skip
DEPTHS = ("enc-cell-depth", "enc-depth", "dec-cell-base-depth", "dec-cell-high-depth", "dec-depth")
SIZES = ("dim-emb", "dim-rnn")
MAX_DEPTH = 64
# Keys that must be as they are by default, and what else they would be.
PLAIN = {
    "right-left": "a model that writes from right to left",
    "ulr": "a universal language representation",
    "lemma-dim-emb": "a factored vocabulary",
    "factors-dim-emb": "a factored vocabulary",
    "lemma-dependency": "a factored vocabulary",
}
OTHER_CELLS = "gru, gru-nematus and lstm are read; mlstm, mgru, tanh, relu, sru and ssru are not"


@dataclass(frozen=True)
class Settings:
    """A checked configuration by Marian's keys. norm: the kind of layer norm, "joint" over all
    gates or "nematus", one for each product; None without."""

    config: Config
    norm: str | None

    def __getitem__(self, key: str) -> Any:
        return self.config[key]

    @property
    def one_table(self) -> bool:
        """Source and target share their embedding."""
        return bool(self["tied-embeddings-src"] or self["tied-embeddings-all"])

    @property
    def tied_output(self) -> bool:
        return bool(self["tied-embeddings"] or self["tied-embeddings-all"])


def settings(config: Config) -> Settings:
    """The configuration of a recurrent encoder-decoder; ModelFormatError names what it is else."""
    _check_type(config)
    full = {**DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    for key in DEPTHS + SIZES:
        if type(full.get(key)) is not int or full[key] < 1:
            raise ModelFormatError(f"{key} is {full.get(key)!r}, must be an integer of at least 1")
        if key in DEPTHS and full[key] > MAX_DEPTH:
            raise ModelFormatError(f"{key} is {full[key]}, at most {MAX_DEPTH} are read")
    for key, default in DEFAULTS.items():
        if isinstance(default, bool) and not isinstance(full[key], bool):
            raise ModelFormatError(f"{key} is {full[key]!r}, must be true or false")
    for key, what in PLAIN.items():
        if full[key] != DEFAULTS[key]:
            raise ModelFormatError(
                f"{key} is {full[key]!r}: {what}, which is not read (it must be {DEFAULTS[key]!r})"
            )
    _check_inputs(full)
    if full["enc-type"] not in ENCODERS:
        raise ModelFormatError(
            f"enc-type is {full['enc-type']!r}, must be one of {', '.join(ENCODERS)}"
        )
    return Settings(full, _norm(full))


def _check_type(config: Config) -> None:
    kind = config.get("type")
    if kind == "transformer" and config.get("transformer-decoder-autoreg") == "rnn":
        raise ModelFormatError(
            f"is a student: a transformer's encoder with a decoder of {config.get('dec-cell')!r} "
            "cells (transformer-decoder-autoreg: rnn), which is not read; types "
            f"{', '.join(TYPES)} are"
        )
    if kind not in TYPES:
        raise ModelFormatError(
            f"is of type {kind!r}; recurrent models of types {', '.join(TYPES)} are read, "
            "transformers, language models, models of characters and of several sources are not"
        )


def _check_inputs(full: Config) -> None:
    sizes, kinds = full.get("dim-vocabs"), full["input-types"]
    if not isinstance(sizes, list) or len(sizes) != 2 or not all(type(n) is int for n in sizes):
        raise ModelFormatError(
            f"dim-vocabs is {sizes!r}, must have a source's and a target's size: models of several "
            "sources are not read"
        )
    if not isinstance(kinds, list) or any(kind != "sequence" for kind in kinds):
        raise ModelFormatError(f"input-types is {kinds!r}; only sequences are read")


def _norm(full: Config) -> str | None:
    for key in ("enc-cell", "dec-cell"):
        if full[key] not in CELLS:
            raise ModelFormatError(f"{key} is {full[key]!r}, which is not read: {OTHER_CELLS}")
    cells = {full["enc-cell"], full["dec-cell"]}
    above = full["enc-type"] == "bi-unidirectional" and full["enc-depth"] > 1
    marked = {
        "enc-cell": above and full["enc-cell-depth"] > 1,
        "dec-cell": full["dec-depth"] > 1 and full["dec-cell-high-depth"] > 1,
    }
    for key, broken in marked.items():
        if broken and full[key] == "gru-nematus":
            raise ModelFormatError(
                f"{key} is 'gru-nematus' with several cells in a layer of one direction, which "
                "Marian itself cannot run"
            )
    if full["dec-cell-base-depth"] < 2:
        raise ModelFormatError("dec-cell-base-depth is 1: a decoder without a cell behind its "
                               "attention, which is not read")  # fmt: skip
    if not full["layer-normalization"]:
        return None
    if full["type"] == "nematus" and cells == {"gru-nematus"}:
        return "nematus"
    if full["type"] == "nematus" or "gru-nematus" in cells:
        raise ModelFormatError(
            f"layer-normalization of type {full['type']!r} with enc-cell {full['enc-cell']!r} and "
            f"dec-cell {full['dec-cell']!r} mixes two kinds of layer norm, which is not read: "
            "both are gru-nematus in type nematus, neither in the others"
        )
    return "joint"


def parameters(s: Settings, source: int, target: int) -> Shapes:
    """Every parameter under its name in type s2s; the output's matrix is left out."""
    e, h, uni = s["dim-emb"], s["dim-rnn"], s["enc-type"] == "bi-unidirectional"
    upper = s["enc-depth"] - 1 if uni else 0
    context = h if upper else 2 * h
    tables = {"Wemb": (source, e)} if s.one_table else {"encoder_Wemb": (source, e)}
    found: Shapes = {**tables, **({} if s.one_table else {"decoder_Wemb": (target, e)})}
    for prefix in ("encoder_bi", "encoder_bi_r"):
        for i in range(1, 2 if uni else s["enc-depth"] + 1):
            for j in range(1, s["enc-cell-depth"] + 1):
                name = prefix + (f"_l{i}" if i > 1 else "") + (f"_cell{j}" if i + j > 2 else "")
                found |= _cell(s, "enc-cell", name, 0 if j > 1 else h if i > 1 else e)
    for i in range(2, 2 + upper):
        for j in range(1, s["enc-cell-depth"] + 1):
            found |= _cell(s, "enc-cell", f"encoder_l{i}_cell{j}",
                           0 if j > 1 else h if i > 2 else 2 * h)  # fmt: skip
    for j in range(1, s["dec-cell-base-depth"] + 1):
        found |= _cell(s, "dec-cell", f"decoder_cell{j}", {1: e, 2: context}.get(j, 0))
    for i in range(2, s["dec-depth"] + 1):
        for j in range(1, s["dec-cell-high-depth"] + 1):
            found |= _cell(s, "dec-cell", f"decoder_l{i}_cell{j}", h if j == 1 else 0)
    found |= dict(_attention(s, h, context))
    for name, inputs, outputs in (
        ("decoder_ff_state_{}", context, h),
        ("decoder_ff_logit_l1_{}0", e, e),
        ("decoder_ff_logit_l1_{}1", h, e),
        ("decoder_ff_logit_l1_{}2", context, e),
    ):
        vectors = {"joint": ("gamma",), "nematus": ("ln_s", "ln_b"), None: ()}[s.norm]
        found[name.format("W")] = (inputs, outputs)
        found |= {name.format(vector): (1, outputs) for vector in ("b", *vectors)}
    if not s["output-omit-bias"]:
        found["decoder_ff_logit_l2_b"] = (1, target)
    return found


def _cell(s: Settings, key: str, name: str, inputs: int) -> Shapes:
    """inputs 0: a transition. _U, _W are of the gates, _Ux, _Wx of the candidate."""
    h = s["dim-rnn"]
    widths = {"": 4 * h} if s[key] == "lstm" else {"": 2 * h, "x": h}
    sides = {"U": h} | ({"W": inputs} if inputs else {})
    found: Shapes = {f"{name}_b{x}": (1, width) for x, width in widths.items()}
    for number, (side, rows) in enumerate(sides.items()):
        for x, width in widths.items():
            found[f"{name}_{side}{x}"] = (rows, width)
            if s.norm == "nematus":
                found |= {f"{name}_{side}{x}_{ln}": (1, width) for ln in ("lns", "lnb")}
        if s.norm == "joint":
            found[f"{name}_gamma{2 - number}"] = (1, sum(widths.values()))
    return found


def _attention(s: Settings, h: int, context: int) -> Iterator[tuple[str, tuple[int, int]]]:
    yield "decoder_W_comb_att", (h, context)
    yield "decoder_Wc_att", (context, context)
    yield "decoder_U_att", (context, 1)
    yield "decoder_b_att", (1, context)
    vectors = {
        "joint": ("att_gamma1", "att_gamma2"),
        "nematus": ("Wc_att_lns", "Wc_att_lnb", "W_comb_att_lns", "W_comb_att_lnb"),
        None: (),
    }[s.norm]
    yield from ((f"decoder_{vector}", (1, context)) for vector in vectors)
