"""Writes docs/api.md, every public name with what its docstring says first: `python
scripts/api_table.py`. A test compares; a name without a docstring is an error."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import s2s_engine
from s2s_engine import importers, self_test

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
HEAD = """# Every public name

Written by `scripts/api_table.py` from the docstrings, which say more: `help(Engine.decode)`. What
is not here is not public. [Decoding options](options.md) explains the fields of `DecodeOptions`.
"""


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    parts = [HEAD, "## s2s_engine\n"]
    names = [name for name in s2s_engine.__all__ if name != "__version__"]
    parts += [_entry(name, getattr(s2s_engine, name)) for name in names]
    parts.append("- `__version__`: The version of this release, a string.")
    parts.append("\n## s2s_engine.importers\n")
    parts += [_entry(name, getattr(importers, name)) for name in importers.__all__]
    parts.append("\n## s2s_engine.self_test\n")
    parts += [_entry(name, getattr(self_test, name)) for name in ("attach", "make")]
    return "\n".join(parts) + "\n"


def _entry(name: str, value: Any) -> str:
    lines = [f"- `{name}`: {_first(name, value)}"]
    if inspect.isclass(value):
        lines += [f"    - `{member}`{text}" for member, text in _members(name, value)]
    return "\n".join(lines)


def _members(name: str, value: Any) -> list[tuple[str, str]]:
    """Public fields, methods and properties of a class, and those that it inherits from ours."""
    found: dict[str, str] = {}
    if is_dataclass(value):
        found |= {field.name: "" for field in fields(value)}
    for owner in reversed(value.__mro__):
        if not owner.__module__.startswith("s2s_engine"):
            continue
        for member, what in vars(owner).items():
            is_member = callable(what) or isinstance(what, (property, staticmethod, classmethod))
            if member.startswith("_") or member in found or not is_member:
                continue
            found[member] = f": {_first(f'{name}.{member}', getattr(value, member))}"
    return list(found.items())


def _first(name: str, value: Any) -> str:
    """The first sentence of a docstring."""
    text = inspect.getdoc(value)
    if name == "IMPORTERS":
        return f"The importers by name: {', '.join(value)}."
    if not text:
        raise ValueError(f"{name} has no docstring")
    parts = text.split("\n\n")
    signed = len(parts) > 1 and "(self: " in parts[0]  # pybind11 writes a signature first
    paragraph = " ".join(parts[signed].split())
    end = paragraph.find(". ")
    return paragraph if end < 0 else paragraph[: end + 1]


if __name__ == "__main__":
    main()
