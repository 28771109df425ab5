"""Small plots as SVG text: bars and lines, in colours that a page's style sheet names. Knows
numbers and labels; nothing of benchmarks. Every plot has a title that is read aloud, no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 720, 64, 20
ROW = 22  # of a bar


@dataclass(frozen=True)
class Bar:
    """low, high: the spread drawn as a whisker. kind: 'ours', 'peer' or 'other'."""

    label: str
    value: float
    text: str
    kind: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """kind: 'measured', 'predicted' or 'limit'. points: drawn as dots alone where not `line`."""

    label: str
    points: Sequence[tuple[float, float]]
    kind: str
    line: bool = True


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from zero."""
    names, most = 250, max((row.high or row.value for row in rows), default=1.0) or 1.0
    span = WIDTH - names - 130
    parts = []
    for number, row in enumerate(rows):
        y, length = number * ROW, max(1.0, row.value / most * span)
        parts.append(_text(names - 8, y + 15, row.label, "end"))
        parts.append(
            f'<rect class="{row.kind}" x="{names}" y="{y + 3}" width="{length:.1f}" height="16"/>'
        )
        if row.low is not None and row.high is not None:
            a, b = (names + value / most * span for value in (row.low, row.high))
            parts.append(f'<path class="whisker" d="M{a:.1f} {y + 11}H{b:.1f}"/>')
        end = names + max(length, (row.high or 0) / most * span)
        parts.append(_text(end + 6, y + 15, row.text))
    return _svg(title, len(rows) * ROW + 4, parts)


def lines(
    title: str,
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    log_x: bool = True,
    log_y: bool = True,
    height: int = 300,
) -> str:
    """Lines over two axes, logarithmic by default; every value must then be above zero."""
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    top, bottom = 26, height - 44
    across = _scale([p[0] for p in points], LEFT, WIDTH - RIGHT, log_x)
    up = _scale([p[1] for p in points], bottom, top, log_y)
    parts = []
    for value in _ticks([p[0] for p in points], log_x):
        at = across(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {top}V{bottom}"/>')
        parts.append(_text(at, bottom + 16, short(value), "middle"))
    for value in _ticks([p[1] for p in points], log_y):
        at = up(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 6, at + 4, short(value), "end"))
    legend = float(LEFT)
    for one in series:
        placed = [(across(a), up(b)) for a, b in one.points]
        if one.line:
            path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in placed)
            parts.append(f'<path class="line {one.kind}" d="{path}"/>')
        if not one.line or len(placed) < 30:
            parts += [
                f'<circle class="{one.kind}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in placed
            ]
        parts.append(f'<circle class="{one.kind}" cx="{legend:.0f}" cy="9" r="4"/>')
        parts.append(_text(legend + 8, 13, one.label))
        legend += 30 + 6.6 * len(one.label)
    parts.append(_text((LEFT + WIDTH) / 2, height - 8, x, "middle"))
    parts.append(_text(LEFT - 6, top - 8, y, "end") if len(y) < 8 else _text(2, top - 8, y))
    return _svg(title, height, parts)


def short(value: float) -> str:
    """1500 as 1.5k, 0.25 as 0.25."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def _scale(
    values: Sequence[float], begin: float, end: float, log: bool
) -> Callable[[float], float]:
    low, high = (min(values), max(values)) if log else (min(0.0, *values), max(values))
    if log:
        low, high = math.log(low), math.log(high)
    pad = 0.04 * (high - low) or 0.5
    low, high = (low - pad if log else low), high + pad

    def place(value: float) -> float:
        at = math.log(value) if log else value
        return begin + (at - low) / (high - low) * (end - begin)

    return place


def _ticks(values: Sequence[float], log: bool) -> list[float]:
    """1, 2 and 5 times powers of ten, few enough to read."""
    low, high = (min(values), max(values)) if log else (0.0, max(values))
    if not log:
        step = 10 ** math.floor(math.log10(high or 1.0))
        step = step if high / step >= 4 else step / 2 if high / step >= 2 else step / 5
        return [n * step for n in range(int(high / step) + 1)]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [m * 10.0**power for power in powers for m in (1, 2, 5)]
    found = [tick for tick in every if low * 0.97 <= tick <= high * 1.03]
    if len(found) < 3:
        every = [m * 10.0**power for power in powers for m in range(1, 10)]
        found = [tick for tick in every if low * 0.97 <= tick <= high * 1.03]
    if len(found) > 9:
        found = [10.0**power for power in powers if low * 0.97 <= 10.0**power <= high * 1.03]
    return found


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
