"""Weights that bfloat16 holds exactly are kept in it, and nobody can tell: the same bits as from
float32. One row that does not fit keeps a whole matrix wide, which gives the two to compare."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from s2s_engine import Engine, ModelBuilder

FITS, DOES_NOT = np.float32(0.15625), np.float32(1.0 + 2.0**-20)


def rounded(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut to bfloat16: the low half of every word is zero."""
    return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def outputs(weight: NDArray[np.float32], x: NDArray[np.float32], isa: str) -> NDArray[np.float32]:
    m = ModelBuilder()
    e = m.encoder
    e.output(y=e.linear(e.input("x", sequence=x.shape[1]), weight))
    with Engine.load(m.build(), isa=isa) as engine:
        return engine.encode(features=x)["y"]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 8, 9, 33])
@pytest.mark.parametrize(("inputs", "size"), [(1, 1), (7, 31), (33, 32), (65, 97), (128, 300)])
def test_narrow_weights_give_the_bits_of_wide_ones(
    isa: str, rows: int, inputs: int, size: int
) -> None:
    random = np.random.default_rng(rows * 1000 + size)
    weight = rounded(random.normal(size=(size, inputs)).astype(np.float32))
    x = random.normal(size=(rows, inputs)).astype(np.float32)
    wide = np.vstack([weight, np.full((1, inputs), DOES_NOT)])
    narrow = np.vstack([weight, np.full((1, inputs), FITS)])
    expected, given = outputs(wide, x, isa), outputs(narrow, x, isa)
    assert expected[:, :size].tobytes() == given[:, :size].tobytes()
    assert np.abs(given[:, :size] - x.astype(np.float64) @ weight.T).max() < 1e-6 * inputs + 1e-6


def test_denormal_and_huge_words_widen_exactly(isa: str) -> None:
    words = np.array([0x0001, 0x8001, 0x007F, 0x7F7F, 0xFF7F, 0x0080, 0x8000], np.uint32) << 16
    weight = words.view(np.float32)[:, None]
    given = outputs(weight, np.ones((1, 1), np.float32), isa)[0]
    assert given.tobytes() == (weight[:, 0] + np.float32(0)).tobytes()
