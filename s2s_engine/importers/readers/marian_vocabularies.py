"""Marian's vocabulary files: YAML or JSON of ids by word, a word per line, SentencePiece models.
Knows these formats and how Marian finds its end and unknown word; never a model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import ModelFormatError
from ...format import file_bytes
from .pickle_values import RefusedError
from .protobuf import fields

MAX_BYTES = 64 << 20
MAX_WORDS = 1 << 24
END, UNKNOWN = "</s>", "<unk>"
# What Nematus calls the words of ids 0 and 1; Marian takes these, or nothing, for its own.
OLD = {END: (0, "eos"), UNKNOWN: (1, "UNK")}
ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r",
    "e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0",
    "L": "\u2028", "P": "\u2029",
}  # fmt: skip
QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'")
NUMBER = re.compile(r"[ \t]+([0-9]{1,9})")
PLAIN_NEVER = tuple(" \t&*!|>%@`{[,?\"'")


@dataclass(frozen=True)
class Vocabulary:
    """Words by id, and the ids of the end and of what is unknown."""

    words: list[str]
    end: int
    unknown: int


def read_vocabulary(path: Path, size: int) -> Vocabulary:
    """The first `size` words of a vocabulary file.

    ModelFormatError for factored vocabularies (.fsv), YAML beyond `word: id`, ids that are missing
    or stand twice, and files without an end or an unknown word.
    """
    data = file_bytes(path)
    try:
        if len(data) > MAX_BYTES:
            raise RefusedError(f"has {len(data)} bytes, a vocabulary at most {MAX_BYTES}")
        return _vocabulary(path.suffix, data, size)
    except RefusedError as error:
        raise ModelFormatError(f"{path}: {error}") from None


def _vocabulary(suffix: str, data: bytes, size: int) -> Vocabulary:
    if suffix == ".fsv":
        raise RefusedError("is a factored vocabulary, which is not read")
    mapped = suffix in (".yml", ".yaml", ".json")
    if suffix == ".spm":
        words = dict(enumerate(_pieces(memoryview(data))))
    elif mapped:
        words = _by_id(_json(data) if data.lstrip()[:1] == b"{" else _yaml(_text(data)), size)
    else:
        words = dict(enumerate(_text(data).removesuffix("\n").split("\n")[:size]))
        if "" in words.values():
            raise RefusedError("has an empty line")
    end, unknown = (_special(words, name, mapped) for name in (END, UNKNOWN))
    missing = [number for number in range(size) if number not in words]
    if missing:
        raise RefusedError(
            f"has no word of id {missing[0]}; the model has {size} ids. Give the words by option"
        )
    return Vocabulary([words[number] for number in range(size)], end, unknown)


def _special(words: dict[int, str], name: str, mapped: bool) -> int:
    number, old = OLD[name]
    if mapped and words.get(number, "") in ("", old):
        words.setdefault(number, name)
        return number
    found = [number for number, word in words.items() if word == name]
    if not found:
        raise RefusedError(f"has no word {name!r}, which Marian needs")
    return found[0]


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(f"is not UTF-8: {error}") from None


def _json(data: bytes) -> list[tuple[str, int]]:
    try:
        pairs = json.loads(_text(data), object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"is no JSON: {str(error)[:200]}") from None
    for pair in pairs:
        if not isinstance(pair, tuple) or type(pair[1]) is not int:
            raise RefusedError("must hold ids by word")
    return pairs  # type: ignore[no-any-return]


def _yaml(text: str) -> list[tuple[str, int]]:
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r ")
        if not line or line.startswith("#") or line in ("---", "..."):
            continue
        word, _, rest = line.rpartition(":")
        word, value = word.rstrip(" \t"), NUMBER.fullmatch(rest)
        plain = word[:1] not in PLAIN_NEVER and word[:2] != "- " and word != ""
        if not value or not (plain or QUOTED.fullmatch(word)):
            raise RefusedError(f"line {number}: {line[:80]!r} is not 'word: id'")
        pairs.append((_word(word), int(value[1])))
    return pairs


def _word(text: str) -> str:
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    if text[0] == '"':
        return ESCAPE.sub(_escape, text[1:-1])
    return text


def _escape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        number = int(code[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise RefusedError(f"the escape \\{code} is no character")
        return chr(number)
    if code not in ESCAPES:
        raise RefusedError(f"the escape \\{code} is not known")
    return ESCAPES[code]


def _by_id(pairs: Iterable[tuple[str, int]], size: int) -> dict[int, str]:
    """Ids of `size` and above are left out, as Marian does."""
    words: dict[int, str] = {}
    for word, number in pairs:
        if not 0 <= number < size:
            if number < 0:
                raise RefusedError(f"the id of {word[:60]!r} is {number}, must be at least 0")
            continue
        if number in words:
            raise RefusedError(f"the id {number} stands twice")
        words[number] = word
    return words


def _pieces(model: memoryview) -> list[str]:
    """The pieces of a SentencePiece model: field 1 of ModelProto, whose field 1 is the string."""
    pieces: list[str] = []
    for field in fields(model):
        if field.number == 1:
            text = [part.text() for part in fields(field.message()) if part.number == 1]
            if len(text) != 1 or len(pieces) >= MAX_WORDS:
                raise RefusedError(f"the piece at byte {field.at} has no string")
            pieces.append(text[0])
    return pieces
