"""What pages are put together from: their style, tables, figures. Knows text and numbers; nothing
of benchmarks. A page needs nothing but itself: no script, no address, no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { --ink: #1b1b1b; --soft: #666; --paper: #fff; --grid: #e4e4e4; --ours: #0b6e4f;
  --core: #7fb8a4; --peer: #b8bcc4; --predicted: #c77700; --limit: #8a3ffc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a0a0a0; --paper: #161616;
  --grid: #333; --ours: #3fbf94; --core: #2b6f59; --peer: #5b6069; --predicted: #f0a63c;
  --limit: #b38bff; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 2.2em 0 .5em; } h1 { margin-top: 0; }
p.note, figcaption { color: var(--soft); font-size: .9rem; } .noisy { color: var(--predicted); }
figure { margin: 1rem 0; } svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .grid { stroke: var(--grid); } svg .line { fill: none; stroke-width: 2; }
svg .whisker { stroke: var(--ink); stroke-width: 1.5; }
svg rect.ours, svg circle.measured { fill: var(--ours); }
svg .line.measured { stroke: var(--ours); }
svg rect.core { fill: var(--core); } svg rect.peer, svg circle.peer { fill: var(--peer); }
svg circle.predicted { fill: var(--predicted); } svg .line.predicted { stroke: var(--predicted); }
svg circle.limit { fill: var(--limit); }
svg .line.limit { stroke: var(--limit); stroke-dasharray: 5 4; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; }
summary { cursor: pointer; font-size: .9rem; } details { margin: .4rem 0; }
dt { font-weight: 600; } dd { margin: 0 0 .6em; }
"""


def document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def time(us: float) -> str:
    if us >= 1e6:
        return f"{us / 1e6:.2f} s"
    return f"{us / 1e3:.2f} ms" if us >= 1e3 else f"{us:.4g} us"


def figure(plot: str, caption: str) -> str:
    return f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<div class=wide><table><tr>{top}</tr>{body}</table></div>"
