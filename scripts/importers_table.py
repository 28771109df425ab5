"""Writes docs/importers.md from the importers themselves; a test compares the two.

Run: python scripts/importers_table.py
"""

from __future__ import annotations

from pathlib import Path

from s2s_engine.importers import IMPORTERS, importer

PAGE = Path(__file__).parents[1] / "docs" / "importers.md"
HEAD = """# Importers

What `Engine.load(checkpoint)` and `s2s-engine convert` read besides model files of this engine.
Written by `python scripts/importers_table.py` from the importers; do not edit.

A checkpoint is recognised by its format and the names of its arrays; `importer="name"`
(`--from name`) says whose it is where they do not tell. A fact that is not in the checkpoint is an
option: the importer asks for it and says what it changes, it never guesses. Every importer also
takes `source_vocabulary` and `target_vocabulary`: a list of strings, or a file (a token per line,
or JSON). A wiring of your own: docs/bring-your-model.md.

| importer | of | reads | refuses, and why |
|---|---|---|---|
"""


def page() -> str:
    """The text of docs/importers.md."""
    found = [importer(name) for name in IMPORTERS]
    rows = "".join(
        f"| `{one.name}` | {one.title} | {one.reads} | {one.refuses or 'nothing more'} |\n"
        for one in found
    )
    options = "".join(
        f"\n## {one.name}\n\n| option | values | changes |\n|---|---|---|\n"
        + "".join(f"| `{o.name}` | {o.values} | {o.changes} |\n" for o in one.options)
        for one in found
        if one.options
    )
    return HEAD + rows + options


if __name__ == "__main__":
    PAGE.write_text(page())
