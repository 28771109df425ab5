"""What an AllenNLP archive, or the folder it was packed from, holds: weights, the configuration and
the vocabularies by namespace. Knows files and their names; never what the configuration means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...format import file_bytes
from ..checkpoint import Array, Checkpoint
from ..readers.torch_files import read_torch, tensors_of

CONFIG, WEIGHTS = "config.json", ("weights.th", "best.th")
UNPADDED = "non_padded_namespaces"
PADDING, UNKNOWN = "@@PADDING@@", "@@UNKNOWN@@"
MAX_CONFIG = 16 << 20


@dataclass(frozen=True)
class Files:
    """weights by name, the configuration, and the words of every namespace by id. unknown: the
    word that others are read as."""

    weights: Mapping[str, Array]
    config: Mapping[str, Any]
    words: Mapping[str, list[str]]
    unknown: str


def recognises(checkpoint: Checkpoint) -> bool:
    """A tar file or a folder with config.json and weights.th (of a folder also best.th)."""
    if checkpoint.format not in ("archive", "folder"):
        return False
    return CONFIG in checkpoint.content and any(one in checkpoint.content for one in WEIGHTS)


def read_files(checkpoint: Checkpoint) -> Files:
    """The files; ModelFormatError names what is missing or broken."""
    if not recognises(checkpoint):
        raise checkpoint.refuse(
            "holds no config.json and weights.th: give the model.tar.gz that AllenNLP wrote, or "
            "the folder it was made from"
        )
    members = _members(checkpoint)
    config = _json(checkpoint, members[CONFIG])
    stored = config.get("vocabulary")
    facts = stored if type(stored) is dict else {}
    weights = next(members[name] for name in WEIGHTS if name in members)
    padding = _text(facts.get("padding_token"), PADDING)
    unknown = _text(facts.get("oov_token"), UNKNOWN)
    words = {}
    texts = {
        name.removeprefix("vocabulary/").removesuffix(".txt"): _lines(checkpoint, name, data)
        for name, data in members.items()
        if name.startswith("vocabulary/") and name.endswith(".txt")
    }
    patterns = [line.strip() for line in texts.pop(UNPADDED, [])]
    for namespace, lines in texts.items():
        bare = any(_matches(pattern, namespace) for pattern in patterns)
        words[namespace] = lines if bare else [padding, *lines]
    return Files(tensors_of(read_torch(weights)), config, words, unknown)


def _members(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files that are needed, by name: of a folder those on disk."""
    if checkpoint.format == "archive":
        return dict(checkpoint.content)
    paths: dict[str, Path] = {
        name: path for name, path in checkpoint.content.items() if name in (CONFIG, *WEIGHTS)
    }
    assert checkpoint.path is not None
    for path in sorted((checkpoint.path / "vocabulary").glob("*.txt")):
        paths[f"vocabulary/{path.name}"] = path
    return {name: file_bytes(path) for name, path in paths.items()}


def _json(checkpoint: Checkpoint, data: bytes) -> dict[str, Any]:
    if len(data) > MAX_CONFIG:
        raise checkpoint.refuse(f"{CONFIG} has {len(data)} bytes, must have at most {MAX_CONFIG}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise checkpoint.refuse(f"{CONFIG} is no JSON: {str(error)[:200]}") from None
    if type(value) is not dict or type(value.get("model")) is not dict:
        raise checkpoint.refuse(f"{CONFIG} has no object 'model': no configuration of AllenNLP")
    return value


def _lines(checkpoint: Checkpoint, name: str, data: bytes) -> list[str]:
    """One word per line; a line's end within a word is written @@NEWLINE@@."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise checkpoint.refuse(f"member {name[:200]!r} is no UTF-8 text: {error}") from None
    lines = re.split(r"\n|\r\n", text)
    if lines and not lines[-1]:
        lines.pop()
    return [line.replace("@@NEWLINE@@", "\n") for line in lines]


def _matches(pattern: str, namespace: str) -> bool:
    if pattern.startswith("*"):
        return namespace.endswith(pattern[1:])
    return namespace == pattern


def _text(value: Any, default: str) -> str:
    return value if type(value) is str else default
