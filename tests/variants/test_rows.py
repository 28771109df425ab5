"""docs/variants.md cannot lie: every row has a test that carries its id, every link leads to a
function that is there, and where nothing may be skipped every row was executed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "variants.md"
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
# The rows that the project was made for; the page may have more.
FOUNDING = """
    C1 C2 C2' C2'' C3 C4 C5 C6
    T1 T2 T3a T3b T4a T4b T4b' T5 T6 T7 T8
    D1 D2 D3 D4 D5 D6 D7 D8 D9
    A1 A2 A3 A4 A4' A5 A6 A7 A7' A8 A9 A10 A11m A11p A11l A12 A13
    O1 O2 O3 O4 O5 O6 O7 O8 O9 O10
    L1 L2 L3 L7 L9 TF nmt_with_attention
    g2p_en thai2rom stanza opennmt_py joeynmt fairseq marian AttentionWrapper allennlp
    paddleocr sar
"""


@dataclass(frozen=True)
class Row:
    id: str
    architecture: tuple[str, str]
    test: tuple[str, str]


def rows() -> list[Row]:
    """The rows of the page: (name, path) of both links."""
    found = []
    for line in PAGE.read_text().splitlines():
        links = LINK.findall(line)
        if line.startswith("| ") and len(links) == 2:
            found.append(Row(line.split("|")[1].strip(), links[0], links[1]))
    return found


ROWS = rows()


def carried(session: pytest.Session) -> dict[str, set[str]]:
    """The test functions of this run by the variant that they carry."""
    found: dict[str, set[str]] = {}
    for item in session.items:
        for marker in item.iter_markers("variant"):
            name = getattr(item, "originalname", item.name)
            found.setdefault(marker.args[0], set()).add(name)
    return found


def test_the_page_has_every_founding_row_once() -> None:
    ids = [row.id for row in ROWS]
    assert set(FOUNDING.split()) <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_links_lead_to_functions(row: Row) -> None:
    for name, path in (row.architecture, row.test):
        text = (PAGE.parent / path).read_text()
        assert re.search(rf"^\s*(?:def|class) {name}\b", text, re.MULTILINE), f"{name} in {path}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_linked_test_carries_the_id(row: Row, request: pytest.FixtureRequest) -> None:
    name, path = row.test
    files = {Path(item.path).name for item in request.session.items}
    if Path(path).name not in files:
        pytest.skip("the linked file is not part of this run")
    assert name in carried(request.session).get(row.id, set())


def test_an_id_of_a_test_has_a_row(request: pytest.FixtureRequest) -> None:
    assert set(carried(request.session)) <= {row.id for row in ROWS}
