"""Which input of a decoder is the token, which are states and memories, and which encoder output
each starts from: by names, or by what options say. Knows names; never values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InputError, ModelFormatError
from ..readers.onnx_files import OnnxFile, Value

IDS = ("int64", "int32")
ZEROS = "zeros"
# What names of one thing before and after a step, or on both sides, differ in.
_SAME = re.compile(
    r"^(?:(?:in|input|prev|previous|past|last|next|new|out|output|present|updated|decoder|dec|"
    r"encoder|enc|initial|init)_)+|(?:_(?:in|input|prev|previous|past|last|next|new|out|output|"
    r"present|updated|n|t|state))+$"
)
_ENCODERS = re.compile(r"(?:encoder|enc|source|src|memory|keys)(?![a-z])", re.IGNORECASE)
_WORDS = {"hidden": "h", "hn": "h", "h0": "h", "ht": "h", "cell": "c", "cn": "c", "c0": "c",
          "ct": "c"}  # fmt: skip


@dataclass(frozen=True)
class Interface:
    """token: the decoder's input of ids. states: its outputs by the inputs that they become.
    given: the encoder's outputs (or "zeros") by decoder input. logits: its scored output; extra:
    the outputs that are neither."""

    token: str
    states: Mapping[str, str]
    given: Mapping[str, str]
    logits: str
    extra: tuple[str, ...]

    @property
    def memories(self) -> list[str]:
        return [name for name in self.given if name not in self.states]


def inputs_of(file: OnnxFile) -> list[Value]:
    """Inputs that are no initializers, which old files list among them."""
    return [value for value in file.inputs if value.name not in file.initializers]


def stem(name: str) -> str:
    """What is left of a name without its side and its time."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    number = re.match(r"^(h|c|hidden|cell)_?(\d+)$", plain)
    if number:
        return (
            f"{_WORDS.get(number[1], number[1])}{number[2]}" if number[2] != "0" else number[1][0]
        )
    short = _SAME.sub("", plain) or plain
    found = re.match(r"^(hidden|cell|h|c)_?(\d+)$", short)
    if found and short != plain:
        return found[1][0] + ("" if found[2] == "0" else found[2])
    return _WORDS.get(short, short)


def pairs(text: str | None, option: str) -> dict[str, str]:
    """`a=b,c=d` of an option."""
    found: dict[str, str] = {}
    for item in (text or "").split(",") if text else []:
        left, sign, right = (one.strip() for one in item.partition("="))
        if not (left and sign and right) or left in found:
            raise InputError(f"option {option}: {item!r} must be 'decoder input=output', each once")
        found[left] = right
    return found


def interface(
    encoder: OnnxFile, decoder: OnnxFile, states: str | None, hand_over: str | None,
    logits: str | None, where: str,
) -> Interface:  # fmt: skip
    """ModelFormatError or InputError lists both sides where names do not tell."""
    token, inputs = _token(decoder, where)
    outputs = [value.name for value in decoder.outputs]
    sources = [value.name for value in encoder.outputs]
    told, from_encoder = pairs(states, "states"), pairs(hand_over, "hand_over")
    _known(told, inputs, outputs, "states", where)
    _known(from_encoder, inputs, [*sources, ZEROS], "hand_over", where)
    # What is called the encoder's is no state, whatever outputs are called.
    own = [n for n in inputs if n not in told and (n in outputs or not _ENCODERS.match(n))]
    carried = {**_matched(own, outputs, told), **told}
    given = {
        **_matched([n for n in inputs if n not in from_encoder], sources, {}), **from_encoder
    }  # fmt: skip
    for name in inputs:
        if name in given:
            continue
        kind = "a state" if name in carried else "neither a state (no output has its name) nor"
        raise InputError(
            f"{where}: decoder input {name!r} is {kind}, and no encoder output has its name. "
            f"Decoder inputs: {', '.join(inputs)}; decoder outputs: {', '.join(outputs)}; encoder "
            f"outputs: {', '.join(sources)}. Say hand_over='{name}=<encoder output or {ZEROS}>', "
            f"and states='{name}=<decoder output>' if it is carried on from step to step"
        )
    for name, source in given.items():
        if source == ZEROS and name not in carried:
            raise InputError(f"{where}: {name!r} starts as zeros and is no state: say states=")
    rest = [name for name in outputs if name not in carried.values()]
    scored = _logits(rest, logits, where)
    return Interface(
        token, carried, {name: given[name] for name in inputs}, scored,
        tuple(name for name in rest if name != scored),
    )  # fmt: skip


def _token(decoder: OnnxFile, where: str) -> tuple[str, list[str]]:
    values = inputs_of(decoder)
    ids = [value.name for value in values if value.dtype in IDS]
    if len(ids) != 1:
        raise ModelFormatError(
            f"{where}: the decoder graph has {len(ids)} inputs of integers ({', '.join(ids)}), "
            "must have one, the previous token: export a step without lengths and masks"
        )
    return ids[0], [value.name for value in values if value.name not in ids]


def _known(
    told: Mapping[str, str], inputs: Sequence[str], outputs: Sequence[str], option: str, where: str
) -> None:
    for left, right in told.items():
        if left not in inputs or right not in outputs:
            raise InputError(
                f"{where}: option {option} says {left}={right}; inputs are {', '.join(inputs)}, "
                f"outputs {', '.join(outputs)}"
            )


def _matched(
    inputs: Sequence[str], outputs: Sequence[str], taken: Mapping[str, str]
) -> dict[str, str]:
    """Outputs by the inputs of the same name, or of the same stem where one of each has it."""
    free = [name for name in outputs if name not in taken.values()]
    found = {name: name for name in inputs if name in free}
    left = [name for name in inputs if name not in found]
    rest = [name for name in free if name not in found]
    for name in left:
        same = [one for one in rest if stem(one) == stem(name)]
        if len(same) == 1 and sum(stem(one) == stem(name) for one in left) == 1:
            found[name] = same[0]
    return found


def _logits(rest: Sequence[str], told: str | None, where: str) -> str:
    if told is not None:
        if told not in rest:
            raise InputError(
                f"{where}: option logits is {told!r}; outputs that are no states are "
                f"{', '.join(rest)}"
            )
        return told
    named = [n for n in rest if stem(n) in ("logits", "logit", "log_probs", "log_probabilities")]
    if len(named) == 1 or len(rest) == 1:
        return (named or list(rest))[0]
    raise InputError(
        f"{where}: which of the outputs {', '.join(rest) or '(none)'} are the logits? Say logits=, "
        "and states= for outputs that are states"
    )


def options(given: Any) -> tuple[str | None, str | None, str | None]:
    """states, hand_over and logits of an import's options."""
    return given.get("states"), given.get("hand_over"), given.get("logits")
