"""The YAML reader: what configurations are written in, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s2s_engine import ModelFormatError
from s2s_engine.importers.readers.yaml import MAX_DEPTH, MAX_SIZE, read_yaml

TEXT = """\
# a comment
---
name: "my # model"    # behind a quote
empty:
none: ~
data:
    src:   # a mapping
        level: 'it''s'
        size: 30
    words: [a, "b, c", 3, -1.5, True]   # a list
    deeper:

      list:
      - 0.9
      - "0.999"
    flat:
    - x
    - y#z
model:
  "quoted key": no
  url: http://example.org/a:b
  escaped: "a\\tb\\\\"
  none: []
last: 1
"""


def test_mappings_lists_scalars_and_comments() -> None:
    assert read_yaml(TEXT) == {
        "name": "my # model",
        "empty": None,
        "none": None,
        "data": {
            "src": {"level": "it's", "size": 30},
            "words": ["a", "b, c", 3, -1.5, True],
            "deeper": {"list": [0.9, "0.999"]},
            "flat": ["x", "y#z"],
        },
        "model": {
            "quoted key": False,
            "url": "http://example.org/a:b",
            "escaped": "a\tb\\",
            "none": [],
        },
        "last": 1,
    }
    assert read_yaml("a:\n  []\nb:\n  [1, x]\n") == {"a": [], "b": [1, "x"]}
    assert read_yaml("") == read_yaml("# nothing\n\n") == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True), ("OFF", False), ("tRue", "tRue"), ("Null", None), ("0", 0), ("+7", 7),
        ("010", "010"), ("1_000", "1_000"), ("0x10", "0x10"), ("1e3", "1e3"), ("1.0e+3", 1000.0),
        ("1.e-2", 0.01), (".5", 0.5), ("5.", 5.0), ("-inf", "-inf"), ("1.2.3", "1.2.3"),
        ("9" * 19, "9" * 19), ("a b  c", "a b  c"), ("x'y", "x'y"), ("-1", -1), ("''", ""),
    ],
)  # fmt: skip
def test_scalars(text: str, value: Any) -> None:
    found = read_yaml(f"key: {text}\n")["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &one 1", "line 1: 'a: &one 1': an anchor"),
        ("b: 1\na: *one", "line 2: .*: an alias"),
        ("a: !!python/object:os.system x", "a tag"),
        ("a: |\n  text", "line 1: .*: a block text"),
        ("a: {b: 1}", "a mapping within a line"),
        ("a: b: c", "a mapping within a line"),
        ("a:\n- b: 1", "line 2: .*: a mapping or a list within a list"),
        ("a:\n- - 1", "a mapping or a list within a list"),
        ("a: [[1]]", "a mapping or a list within a list"),
        ("a: [1,\n  2]", "line 1: .*: a list does not end on its line"),
        ("a: [1 2", "a list does not end on its line"),
        ("a: [", "a list does not end on its line"),
        ("a: 'open", "a text without its last quote"),
        ("a: 'b' c", "'c' stands behind the value"),
        ("a: 1\na: 2", "line 2: .*: the key 'a' stands twice"),
        ("a: 1\n  b: 2", "line 2: .*: is indented more than the key above"),
        ("  a: 1\nb: 2", "line 2: .*: is indented less than the first key"),
        ("a:\n    b: 1\n  c: 2", "line 3: .*: is indented more than the key above"),
        ("a:\n\tb: 1", "line 2: .*: a tab indents it"),
        ("a:\n- 1\n  - 2", "is indented more than the list it is in"),
        ("a:\n-\n  1", "an item on several lines"),
        ("a: 1\n---\nb: 2", "line 2: .*: a second document"),
        ("%YAML 1.2\na: 1", "a directive"),
        ("? a\n: b", "is no 'key: value'"),
        ("- 1", "is no 'key: value'"),
        ("just text", "is no 'key: value'"),
        ("<<: *base", "is no 'key: value'"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ModelFormatError, match=reason):
        read_yaml(text)


def test_hostile_files(tmp_path: Path) -> None:
    deep = "".join(f"{' ' * n}k:\n" for n in range(MAX_DEPTH + 3))
    with pytest.raises(ModelFormatError, match=f"nested more than {MAX_DEPTH} deep"):
        read_yaml(deep)
    path = tmp_path / "config.yaml"
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(ModelFormatError, match=r"config\.yaml: no UTF-8 text"):
        read_yaml(path)
    path.write_bytes(b"#" * (MAX_SIZE + 1))
    with pytest.raises(ModelFormatError, match=f"a configuration at most {MAX_SIZE}"):
        read_yaml(path)
    path.write_text("a: " + "'" * 100_001 + "\n" + "b: " + "[" * 1000)
    with pytest.raises(ModelFormatError, match=r"line 1: .* stands behind the value"):
        read_yaml(path)
