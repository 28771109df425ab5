"""Attention maps for papers, drawn with matplotlib. Knows results, matrices and fonts; never how
weights came about, and neither displays nor matplotlib's global state."""

from __future__ import annotations

import logging
import math
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError
from .results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INSTALL = 'plotting needs matplotlib: pip install "s2s_engine[plot]"'
END = "</s>"
FORMATS = (".pdf", ".png", ".svg")
MAX_LABEL = 24
# Lengths are inches, sizes of type points. A cell is as large as a map of WIDTH lets it be.
WIDTH, CELL, MIN_CELL, MAX_SIDE = 6.5, 0.3, 0.14, 24.0
TYPE, MIN_NAME_TYPE, MARGIN, DPI = 10.0, 7.0, 0.1, 300
BAR, BAR_LENGTH = 0.12, 1.5
# Families are tried in this order, by how their names begin, then by name.
PREFERRED = (
    "DejaVu Sans", "Noto Sans", "Arial Unicode", "Noto", "PingFang", "Hiragino Sans",
    "Microsoft YaHei", "Yu Gothic", "Malgun", "WenQuanYi", "Segoe UI", "Nirmala", "Leelawadee",
    "Geeza", "Thonburi", "Kohinoor", "FreeSans", "Symbola",
)  # fmt: skip
# Fonts of boxes, and of formulas with character maps of their own.
UNUSABLE = ("Last Resort", "LastResort", "Adobe Blank", "cm", "STIXNon", "STIXSize")

_log = logging.getLogger("s2s_engine")


class _Map(NamedTuple):
    """Weights (target, source) with the labels of their axes; None stands for positions."""

    weights: NDArray[Any]
    source: Sequence[str] | None
    target: Sequence[str] | None
    names: tuple[str, str]


def attention(
    result: Result | ArrayLike,
    ax: Axes | None = None,
    *,
    hypothesis: int = 0,
    head: int | None = None,
    source: Sequence[str] | None = None,
    target: Sequence[str] | None = None,
    title: str | None = None,
) -> Axes:
    """Draws an attention map: source tokens from left to right, target tokens downwards, weights
    from 0 to 1 in colour. Returns the axes; `.figure.savefig("map.pdf")` writes them.

    result: a Result decoded with return_attention=True, or weights: (target, source), or (heads,
    target, source), of which `head` picks one; it must be given where there are several. For the
    self-attention of an encoder, (source, source), give the tokens as `source` and as `target`.
    ax: where to draw, with the colour bar to the right of it or below; make its figure with
    layout="constrained". By default a new figure, fitted to the map, which needs no display.
    source, target: labels, one per column and row; by default the tokens of a Result, with "</s>"
    where the end was reached, and positions where there are no tokens.

    Labels use the fonts of rcParams["font.family"], and other installed ones for characters that
    those lack; characters that no font has are logged (logger "s2s_engine"). Before matplotlib
    3.11 letters that join, as those of Arabic, stand apart.
    Raises InputError, and ImportError where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError(INSTALL) from error
    found = _map(result, hypothesis, head, source, target)
    labels = [*(found.source or ()), *(found.target or ()), title or ""]
    families, missing = _families(map(_shown, labels))
    if missing:
        _log.warning("no installed font has %s", ", ".join(map(_named, missing)))
    if ax is not None:
        _draw(ax, found, _cell_of(ax, found.weights.shape), families, title)
        return ax
    rows, columns = found.weights.shape
    most = max(rows, columns)
    cell = min(max(MIN_CELL, min(CELL, WIDTH / most)), MAX_SIDE / most)
    figure = Figure(figsize=(columns * cell, rows * cell), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    _draw(ax, found, cell, families, title)
    # What is missing was logged; matplotlib warns where the figure is drawn.
    with warnings.catch_warnings(action="ignore") if missing else nullcontext():
        box = figure.get_tightbbox(canvas.get_renderer())  # type: ignore[no-untyped-call]
    left, below = MARGIN - box.x0, MARGIN - box.y0
    width, height = box.width + 2 * MARGIN, box.height + 2 * MARGIN
    figure.set_size_inches(width, height)
    ax.set_position((left / width, below / height, columns * cell / width, rows * cell / height))
    return ax


def save(ax: Axes, path: str | Path) -> None:
    """Writes the figure of a map as the path's suffix says, one of FORMATS, and says nothing of
    characters without a font, which `attention` did. Raises OSError."""
    from matplotlib import rc_context

    # Publishers refuse the fonts of type 3 that matplotlib embeds by default.
    with warnings.catch_warnings(), rc_context({"pdf.fonttype": 42}):
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        ax.figure.canvas.figure.savefig(path, format=Path(path).suffix[1:].lower())


# --- what is drawn ---


def _map(
    result: Result | ArrayLike,
    hypothesis: int,
    head: int | None,
    source: Sequence[str] | None,
    target: Sequence[str] | None,
) -> _Map:
    names = ("source", "target")
    if isinstance(result, Result):
        best = result.hypotheses[_index("hypothesis", hypothesis, len(result.hypotheses))]
        if best.attention is None:
            raise InputError("the result has no attention: decode with return_attention=True")
        weights = _matrix(best.attention, head)
        # An encoder may have other positions than tokens.
        if source is None and len(result.source) == weights.shape[1]:
            source = result.source
        if target is None:
            target = [*best.tokens, *([END] if best.finish_reason == "eos" else [])]
    else:
        _index("hypothesis", hypothesis, 1)
        weights = _matrix(np.asarray(result), head)
        if source is not None and target is not None and list(source) == list(target):
            names = ("source", "source")
    for name, labels, count, line in (
        ("source", source, weights.shape[1], "column"),
        ("target", target, weights.shape[0], "row"),
    ):
        if labels is not None and len(labels) != count:
            raise InputError(
                f"{name} has {len(labels)} labels, must have {count}: one per {line} of the map"
            )
    return _Map(weights, source, target, names)


def _matrix(weights: NDArray[Any], head: int | None) -> NDArray[Any]:
    """The (target, source) weights of one head."""
    if weights.dtype.kind not in "fiu" or weights.ndim not in (2, 3) or 0 in weights.shape:
        raise InputError(
            f"attention is {weights.dtype} of shape {weights.shape}, must be numbers of shape "
            "(target, source) or (heads, target, source)"
        )
    if weights.ndim == 2:
        weights = weights[None]
    heads = len(weights)
    if head is None and heads > 1:
        raise InputError(f"head is None, must be 0 to {heads - 1}: the map has {heads} heads")
    matrix: NDArray[Any] = weights[_index("head", 0 if head is None else head, heads)]
    return matrix


def _index(name: str, value: int, count: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InputError(f"{name} is {value!r}, must be an integer")
    if not 0 <= value < count:
        allowed = "0" if count == 1 else f"0 to {count - 1}"
        raise InputError(f"{name} is {value}, must be {allowed}")
    return int(value)


# --- drawing ---


def _draw(ax: Axes, found: _Map, cell: float, families: list[str], title: str | None) -> None:
    rows, columns = found.weights.shape
    size = min(TYPE, 0.75 * 72 * cell)
    names = max(size, MIN_NAME_TYPE)
    image = ax.imshow(
        found.weights,
        cmap="Blues",
        vmin=0,
        vmax=1,
        aspect="equal",
        origin="upper",
        interpolation="nearest",
    )
    # Tokens are no formulas, whatever they are made of.
    plain: dict[str, Any] = {"fontfamily": families, "parse_math": False, "usetex": False}
    positions, labels, size_x = _ticks(found.source, columns, size, cell)
    turned = _turned(labels, size, cell) if found.source is not None else {"rotation": 0}
    ax.set_xticks(positions, labels, fontsize=size_x, **plain, **turned)
    positions, labels, size_y = _ticks(found.target, rows, size, cell)
    ax.set_yticks(positions, labels, fontsize=size_y, **plain, rotation=0)
    ax.tick_params(
        length=0, top=True, bottom=False, labeltop=True, labelbottom=False, pad=0.3 * size
    )
    ax.xaxis.set_label_position("top")
    ax.set_xlabel(found.names[0], fontsize=names)
    ax.set_ylabel(found.names[1], fontsize=names)
    if title is not None:
        ax.set_title(title, fontfamily=families, fontsize=1.1 * names)
    # Hairlines between cells, so that rows and columns can be followed where all is white.
    ax.grid(False)
    ax.set_xticks(np.arange(0.5, columns - 1), minor=True)
    ax.set_yticks(np.arange(0.5, rows - 1), minor=True)
    ax.tick_params(which="minor", length=0)
    ax.grid(True, which="minor", color="0.85", linestyle="-", linewidth=min(0.5, 2 * cell))
    ax.set_axisbelow(False)
    for spine in ax.spines.values():
        spine.set(linewidth=0.6, color="0.3", zorder=3)
    _bar(ax, image, found.weights, cell, names)


def _bar(ax: Axes, image: Any, weights: NDArray[Any], cell: float, names: float) -> None:
    """The colour bar: as high as the map, or below it where the map is low."""
    rows, columns = weights.shape
    flat = rows * cell < BAR_LENGTH
    thick, apart = BAR / cell, 1.5 * BAR / cell  # in cells
    if flat:
        length = max(columns, BAR_LENGTH / cell)
        bounds = (0, -(apart + thick) / rows, length / columns, thick / rows)
    else:
        bounds = (1 + apart / columns, 0, thick / columns, 1)
    # Weights that are not normalised may lie outside of 0 to 1.
    under, over = bool((weights < 0).any()), bool((weights > 1).any())
    bar = ax.figure.colorbar(
        image,
        cax=ax.inset_axes(bounds),
        orientation="horizontal" if flat else "vertical",
        ticks=[0, 0.25, 0.5, 0.75, 1],
        extend={(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[under, over],
    )
    bar.set_label("attention weight", fontsize=names)
    bar.ax.tick_params(labelsize=0.85 * names, length=2, width=0.6)
    bar.outline.set(linewidth=0.6, edgecolor="0.3")


def _cell_of(ax: Axes, shape: tuple[int, ...]) -> float:
    """How large cells become in axes that are there."""
    box = ax.get_window_extent()
    return float(min(box.height / shape[0], box.width / shape[1]) / ax.figure.dpi)


def _ticks(
    labels: Sequence[str] | None, count: int, size: float, cell: float
) -> tuple[list[int], list[str], float]:
    """Where ticks are, their labels and the size of type: every token, or positions in steps."""
    if labels is not None:
        return list(range(count)), [_shown(label) for label in labels], size
    size = max(size, MIN_NAME_TYPE)
    least = (0.65 * len(str(count)) + 0.4) * size / (72 * cell)
    steps = (base * 10**power for power in range(9) for base in (1, 2, 5))
    chosen = list(range(0, count, next(step for step in steps if step >= least)))
    return chosen, list(map(str, chosen)), size


def _turned(labels: Sequence[str], size: float, cell: float) -> dict[str, Any]:
    """The rotation of labels above columns: none where neighbours stay apart, half a right angle
    where lines of type so turned do not touch."""
    pitch, widths = 72 * cell, [0.65 * size * _letters(label) for label in labels]
    gap = 0.4 * size
    if all((left + right) / 2 + gap <= pitch for left, right in pairwise(widths)):
        return {"rotation": 0}
    if 1.25 * size * math.sqrt(2) <= pitch:
        return {"rotation": 45, "rotation_mode": "anchor", "ha": "left", "va": "baseline"}
    return {"rotation": 90, "rotation_mode": "anchor", "ha": "left", "va": "center"}


def _letters(label: str) -> float:
    """The width of a label, a letter being 1."""
    return sum(
        0 if unicodedata.category(c)[0] == "M" else 2 if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in label
    )  # fmt: skip


def _shown(label: str) -> str:
    """A label that can be read: spaces at its ends are seen, what does not print is its escape."""
    if label != label.strip():
        label = label.replace(" ", "␣")
    shown = "".join(c if c.isprintable() or c in "\u200c\u200d" else ascii(c)[1:-1] for c in label)
    return shown if len(shown) <= MAX_LABEL else shown[: MAX_LABEL - 1] + "…"


# --- fonts ---


def _families(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """The user's font families with those that have what they lack, and the characters that no
    installed font has."""
    from matplotlib import rcParams

    families: list[str] = list(rcParams["font.family"])
    # Joiners and selectors of variants are not drawn.
    wanted = {c for c in "".join(texts) if unicodedata.category(c) != "Cf" and not _selects(c)}
    for family in families:
        wanted -= _had(family, wanted)
    for family in _installed():
        if not wanted:
            break
        if family not in families and (had := _had(family, wanted)):
            families.append(family)
            wanted -= had
    return families, sorted(wanted)


def _selects(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f"


def _installed() -> list[str]:
    """The usable families: those of ordinary weight first, then those preferred."""
    from matplotlib.font_manager import fontManager

    fonts = fontManager.ttflist
    regular = {f.name for f in fonts if f.weight in (400, "normal") and f.style == "normal"}

    def rank(family: str) -> tuple[bool, int, str]:
        ranks = (k for k, name in enumerate(PREFERRED) if family.startswith(name))
        return family not in regular, next(ranks, len(PREFERRED)), family

    names = {font.name for font in fonts}
    return sorted((name for name in names if not name.startswith(UNUSABLE)), key=rank)


def _had(family: str, characters: Iterable[str]) -> set[str]:
    """Which of the characters the font has that matplotlib takes for a family."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        font = get_font(findfont(FontProperties(family=[family]), fallback_to_default=False))
        return {c for c in characters if font.get_char_index(ord(c))}
    except (ValueError, OSError, RuntimeError):  # no such family, or a file that cannot be read
        return set()


def _named(character: str) -> str:
    return f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'unnamed')})"
