"""Attention maps as text: a grid of shading blocks with labelled axes. Knows matrices and labels;
never models, colours or how wide a terminal is."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The weight from which a block is drawn; below the first the cell is blank.
LEVELS = ((0.05, "░"), (0.25, "▒"), (0.5, "▓"), (0.75, "█"))
LEGEND = "  ".join(f"{block} from {weight:.2f}" for weight, block in LEVELS)
MIN_COLUMN, MAX_LABEL = 2, 12


def attention_map(
    weights: NDArray[np.float32], source: Sequence[str], target: Sequence[str]
) -> str:
    """The lines of a map of (target, source) weights: a column per source token, a row per target
    token. Levels are absolute, so that maps can be compared."""
    if weights.shape != (len(target), len(source)):
        raise ValueError(
            f"weights has shape {weights.shape}, must be {(len(target), len(source))}: one row per "
            "target token, one column per source token"
        )
    columns, rows = [_label(token) for token in source], [_label(token) for token in target]
    margin = max(map(_width, rows), default=0)
    widths = [max(MIN_COLUMN, _width(label)) for label in columns]
    head = [
        label + " " * (width - _width(label)) for label, width in zip(columns, widths, strict=True)
    ]
    lines = [" ".join([" " * margin, *head])]
    for label, row in zip(rows, weights, strict=True):
        blocks = [_block(float(w)) * width for w, width in zip(row, widths, strict=True)]
        lines.append(" ".join([" " * (margin - _width(label)) + label, *blocks]))
    return "\n".join(line.rstrip() for line in lines)


def _block(weight: float) -> str:
    shown = " "
    for least, block in LEVELS:
        shown = block if weight >= least else shown
    return shown


def _label(token: str) -> str:
    """The token, cut where it is long; what would move the cursor stands as its escape."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in token)
    return shown if len(shown) <= MAX_LABEL else shown[: MAX_LABEL - 1] + "…"


def _width(text: str) -> int:
    """Cells that a terminal takes for a text."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
