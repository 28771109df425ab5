"""Every row of the variants has a test that carries its id."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROWS = """
    C1 C2 C2' C2'' C3 C4 C5 C6
    T1 T2 T3a T3b T4a T4b T4b' T5 T6 T7 T8
    D1 D2 D3 D4 D5 D6 D7 D8 D9
    A1 A2 A3 A4 A4' A5 A6 A7 A7' A8 A9 A10 A11m A11p A11l A12 A13
    O1 O2 O3 O4 O5 O6 O7 O8 O9 O10
    L1 L2 L3 L7 L9
    TF
"""


def ids() -> set[str]:
    """What stands as a marker's id or as a positional string of `row`."""
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        text = path.read_text()
        found |= set(re.findall(r'mark\.variant\("([^"]+)"\)', text))
        for call in re.findall(r'\brow\(\s*((?:"[^"]+",\s*)+)', text):
            found |= set(re.findall(r'"([^"]+)"', call))
    return found


@pytest.mark.parametrize("row", ROWS.split())
def test_a_row_has_a_test(row: str) -> None:
    assert row in ids()
