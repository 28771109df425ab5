"""The part of YAML that people write configurations in: nested mappings and lists of scalars, with
comments. Knows lines and indents; never what a key means. Nothing is built or looked up."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelFormatError
from ...format import file_bytes
from .pickle_values import RefusedError

MAX_SIZE = 1 << 20
MAX_DEPTH = 32
QUOTED = r"""'(?:[^']|'')*'|"(?:[^"\\]|\\["\\/nt])*\""""
KEY = re.compile(rf"([A-Za-z0-9_][A-Za-z0-9_.+/-]*|{QUOTED})[ ]*:(?:[ \t]+|$)")
TEXT = re.compile(QUOTED)
# As PyYAML resolves them; other writings of numbers (010, 1_000, 0x10, 1e3) stay text.
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
FLOAT = re.compile(r"[-+]?(?:[0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][-+][0-9]{1,3})?")
WORDS = {"": None, "~": None, "null": None} | {
    word: value
    for value, words in ((True, "true yes on"), (False, "false no off"))
    for word in words.split()
}
# What a plain scalar may not begin with, and why it is refused.
BEGINS = {
    "&": "an anchor", "*": "an alias", "!": "a tag", "|": "a block text", ">": "a block text",
    "%": "a directive", "@": "a reserved character", "`": "a reserved character",
    "?": "an explicit key", "{": "a mapping within a line", "}": "no value", "]": "no value",
    ",": "no value", "'": "a text without its last quote", '"': "a text without its last quote",
}  # fmt: skip


@dataclass
class _Line:
    number: int
    indent: int
    text: str


@dataclass
class _Lines:
    """The lines that are left to read; `at` is the next one."""

    lines: list[_Line]
    at: int = 0
    depth: int = 0

    @property
    def next(self) -> _Line | None:
        return self.lines[self.at] if self.at < len(self.lines) else None


def read_yaml(source: Path | str, where: str = "the YAML text") -> dict[str, Any]:
    """The mapping that a file (Path) or a text holds: mappings, lists and scalars.

    where: what messages call a text.

    ModelFormatError names file, line and what is not read: anchors, aliases, tags, block texts,
    mappings within a line or a list, values on several lines, keys that stand twice.
    """
    where = str(source) if isinstance(source, Path) else where
    text = text_of(source) if isinstance(source, Path) else source
    lines = _Lines([])
    number, line, adding = 0, "", True
    try:
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            _add(lines, number, line.rstrip(" \r\t"))
        adding, first = False, lines.next
        if first is None:
            return {}
        found = _mapping(lines, first.indent)
        if lines.next is not None:
            raise RefusedError("is indented less than the first key")
        return found
    except RefusedError as error:
        stopped = lines.next
        if stopped is not None and not adding:
            number, line = stopped.number, stopped.text
        raise ModelFormatError(f"{where}: line {number}: {line[:80]!r}: {error}") from None


def text_of(path: Path) -> str:
    """The text of a configuration file."""
    data = file_bytes(path)
    if len(data) > MAX_SIZE:
        raise ModelFormatError(f"{path} has {len(data)} bytes, a configuration at most {MAX_SIZE}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{path}: no UTF-8 text: {error}") from None


def _add(lines: _Lines, number: int, line: str) -> None:
    text = line.lstrip(" ")
    if not text or text.startswith("#") or (line == "---" and not lines.lines):
        return
    if text.startswith("\t"):
        raise RefusedError("a tab indents it, must be spaces")
    if line in ("---", "...") or text.startswith("%"):
        raise RefusedError("a second document, or a directive: only one mapping is read")
    lines.lines.append(_Line(number, len(line) - len(text), text))


def _mapping(lines: _Lines, indent: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    while (line := lines.next) is not None and line.indent >= indent:
        if line.indent > indent:
            raise RefusedError("is indented more than the key above, which has a value")
        match = KEY.match(line.text)
        if match is None:
            raise RefusedError("is no 'key: value'")
        key = _unquoted(match[1]) if match[1][0] in "'\"" else match[1]
        if key in result:
            raise RefusedError(f"the key {key[:100]!r} stands twice")
        rest = line.text[match.end() :]
        if rest and not rest.startswith("#"):
            result[key] = _value(rest)
            lines.at += 1
        else:
            result[key] = _below(lines, indent)
    return result


def _below(lines: _Lines, indent: int) -> Any:
    """What stands under a key that has no value on its line."""
    lines.at += 1
    line = lines.next
    if line is None:
        return None
    is_list = line.text == "-" or line.text.startswith("- ")
    if line.indent < indent or (line.indent == indent and not is_list):
        return None
    if line.text[0] == "[" and line.indent > indent:  # as yaml-cpp writes an empty list
        lines.at += 1
        return _value(line.text)
    lines.depth += 1
    if lines.depth > MAX_DEPTH:
        raise RefusedError(f"is nested more than {MAX_DEPTH} deep")
    found = _list(lines, line.indent) if is_list else _mapping(lines, line.indent)
    lines.depth -= 1
    return found


def _list(lines: _Lines, indent: int) -> list[Any]:
    items: list[Any] = []
    while (line := lines.next) is not None and line.indent >= indent:
        if line.indent > indent:
            raise RefusedError("is indented more than the list it is in")
        if not line.text.startswith("- "):
            if line.text == "-":
                raise RefusedError("an item on several lines")
            break
        rest = line.text[2:].lstrip(" ")
        if KEY.match(rest) or rest.startswith("- "):
            raise RefusedError("a mapping or a list within a list")
        items.append(_value(rest))
        lines.at += 1
    return items


def _value(text: str) -> Any:
    """A scalar, or a list within the line; a comment may follow."""
    value, rest = _flow(text) if text[0] == "[" else _scalar(text, "")
    rest = rest.lstrip(" \t")
    if rest and not rest.startswith("#"):
        raise RefusedError(f"{rest[:40]!r} stands behind the value")
    return value


def _flow(text: str) -> tuple[list[Any], str]:
    items: list[Any] = []
    rest = text[1:].lstrip(" ")
    while not rest.startswith("]"):
        if not rest or rest.startswith("#"):
            raise RefusedError("a list does not end on its line")
        if rest.startswith("["):
            raise RefusedError("a mapping or a list within a list")
        item, rest = _scalar(rest, ",]")
        items.append(item)
        rest = rest.lstrip(" ")
        if rest.startswith(","):
            rest = rest[1:].lstrip(" ")
        elif not rest.startswith("]"):
            raise RefusedError("a list does not end on its line")
    return items, rest[1:]


def _scalar(text: str, stops: str) -> tuple[Any, str]:
    """A scalar and what stands behind it; `stops` end a plain one."""
    quoted = TEXT.match(text)
    if quoted:
        return _unquoted(quoted[0]), text[quoted.end() :]
    if text[0] in BEGINS:
        raise RefusedError(f"{BEGINS[text[0]]}: only plain and quoted scalars and lists are read")
    ends = [at for at in (text.find(" #"), *map(text.find, stops)) if at >= 0]
    plain = text[: min(ends)] if ends else text
    rest = text[len(plain) :]
    plain = plain.rstrip(" \t")
    if ": " in plain or plain.endswith(":"):
        raise RefusedError("a mapping within a line")
    return _plain(plain), rest


def _plain(text: str) -> Any:
    if text.lower() in WORDS and text in (text.lower(), text.title(), text.upper()):
        return WORDS[text.lower()]
    if INTEGER.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    return text


def _unquoted(text: str) -> str:
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    escapes = {"n": "\n", "t": "\t"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), text[1:-1])
