"""The documents tell the truth: Python blocks run, commands name things that exist, links lead
somewhere, and the file of format 1 that is kept for ever loads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s2s_engine
from s2s_engine import Engine, demo_model

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{path.relative_to(ROOT)}-{number}", body)
        for path in DOCUMENTS
        for number, (kind, body) in enumerate(BLOCK.findall(path.read_text()))
        if kind == language
    ]


@pytest.mark.parametrize("body", [pytest.param(b, id=name) for name, b in blocks("python")])
def test_python_block_runs(body: str, tmp_path: Path) -> None:
    if "demo_model" in body and not demo_model().exists():
        pytest.skip("the shipped model is not in this tree")
    package = str(Path(s2s_engine.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", body],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example shows something"


@pytest.mark.parametrize("body", [pytest.param(b, id=name) for name, b in blocks("sh")])
def test_shell_block_names_scripts_that_exist(body: str) -> None:
    for script in re.findall(r"\b(?:scripts|\.ci|examples|benchmarks)/[\w./-]+", body):
        assert (ROOT / script).exists(), script


def commands() -> list[str]:
    """The lines of the README that use the command; those for an extra are for its own tests."""
    lines = [line for _, body in blocks("sh") for line in body.splitlines()]
    return [line for line in lines if "s2s-engine " in line and "# with the extra" not in line
            and "pip install" not in line and "MODEL" not in line and "g2p" in line]  # fmt: skip


@pytest.mark.parametrize("line", commands())
def test_command_line_runs_as_it_is_written(line: str, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    place = tmp_path / "s2s_engine" / "data"
    place.mkdir(parents=True)
    (place / "g2p.safetensors").symlink_to(demo_model())
    shell = f's2s-engine() {{ "{sys.executable}" -m s2s_engine "$@"; }}\n{line}'
    done = subprocess.run(["bash", "-ec", shell], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(path: Path) -> None:
    places = r"`((?:csrc|s2s_engine|tests|docs|scripts|examples)/[\w./-]+)`"
    for name in re.findall(places, path.read_text()):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[\w-]+)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_operation_has_its_row() -> None:
    from s2s_engine.operations import OPERATIONS

    table = (ROOT / "docs" / "operations.md").read_text()
    for name in OPERATIONS:
        assert f"`{name}`" in table


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "data").glob("format-*.safetensors")))
def test_stored_model_of_every_format_loads_for_ever(path: Path) -> None:
    with Engine.load(path) as engine:
        assert engine.self_test().passed
        assert "".join(engine.decode(["d", "a"], beam_size=4).tokens) == "67676868686"


def test_shipped_model_passes_its_self_test() -> None:
    if not demo_model().exists():
        pytest.skip("the shipped model is not in this tree")
    with Engine.load(demo_model()) as engine:
        check = engine.self_test()
        assert check.passed and check.tokens == 9
        result = engine.decode("phonograph", beam_size=5)
        assert result.tokens[0] == "F" and result.tokens[-1] == "F"
