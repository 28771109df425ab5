"""The documents tell the truth: every block is run or compared with what it is from, commands name
things that exist, links lead somewhere, and the file of format 1 that is kept for ever loads.

A block is `python` (run; behind a comment `from FILE`, lines of that file), `console` (commands
behind $, run in order in one folder for each page, and what they print, numbers aside, where `...`
is any lines), `sh` (commands that take long or build things: their programs and options exist) or
`text` (no code)."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import s2s_engine
from s2s_engine import Engine, demo_model
from scripts import loaded

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


def test_every_block_says_what_it_is() -> None:
    for path in DOCUMENTS:
        fences = re.findall(r"^ *```(.*)$", path.read_text(), re.MULTILINE)
        assert set(fences[::2]) <= {"python", "cython", "console", "sh", "text"}, path
        assert set(fences[1::2]) <= {""}, path


QUOTED = re.compile(r"<!-- from (\S+) -->\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_quoted_stands_in_its_file(path: Path) -> None:
    for name, body in QUOTED.findall(path.read_text()):
        lines = {line.strip() for line in (ROOT / name).read_text().splitlines()}
        for line in filter(None, map(str.strip, body.splitlines())):
            assert line in lines, f"{name} has no line {line!r}"


def examples() -> list[Any]:
    """Python blocks that are no quotations."""
    quoted = {body for path in DOCUMENTS for _, body in QUOTED.findall(path.read_text())}
    return [pytest.param(b, id=name) for name, b in blocks("python") if b not in quoted]


@pytest.mark.parametrize("body", examples())
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


def masked(text: str) -> list[str]:
    """Lines with all numbers alike: times and rounding differ from machine to machine."""
    return [re.sub(r"\d+(?:\.\d+)?(?:e[-+]\d+)?(?:\+cpu)?", "#", line.rstrip())
            for line in text.splitlines()]  # fmt: skip


def matches(printed: list[str], wanted: list[str]) -> bool:
    """Whether the lines are the same; `...` among the wanted ones is any number of lines."""
    at = next((n for n, line in enumerate(wanted) if line.strip() == "..."), None)
    if at is None:
        return printed == wanted
    behind = wanted[at + 1 :]
    return printed[:at] == wanted[:at] and printed[len(printed) - len(behind) :] == behind


CONSOLES = [path for path in DOCUMENTS if "```console" in path.read_text()]


@pytest.mark.parametrize("path", CONSOLES, ids=lambda path: path.name)
def test_console_blocks_print_what_they_show(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Blocks that need a checkpoint (S2S_SHARED_DATA), an extra, or minutes (--require-parity) are
    left out without them."""
    pytest.importorskip("typer")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "g2p.safetensors").symlink_to(demo_model())
    shared = Path(os.environ.get("S2S_SHARED_DATA", "nowhere"), "g2p_en", "checkpoint20.npz")
    has_torch = importlib.util.find_spec("torch") is not None
    if shared.exists():
        (tmp_path / "checkpoint20.npz").symlink_to(shared)
    long = request.config.getoption("--require-parity") and has_torch
    shell = f's2s-engine() {{ "{sys.executable}" -m s2s_engine "$@"; }}\n'
    shell += f'python() {{ "{sys.executable}" "$@"; }}\n'
    package = str(Path(s2s_engine.__file__).parents[1])
    ran = 0
    for kind, body in BLOCK.findall(path.read_text()):
        if kind != "console":
            continue
        for command in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            line, _, wanted = command.partition("\n")
            plots = " plot " in line and importlib.util.find_spec("matplotlib") is None
            if plots or (
                ("checkpoint20" in line and not (shared.exists() and has_torch))
                or (("examples/" in line or "reverser" in line) and not long)
            ):
                continue
            if "-o g2p.safetensors" in line:
                (tmp_path / "g2p.safetensors").unlink()
            done = subprocess.run(
                ["bash", "-ec", shell + line], cwd=tmp_path, capture_output=True, text=True,
                env={**os.environ, "PYTHONPATH": package},
            )  # fmt: skip
            assert done.returncode == 0, (line, done.stderr)
            if wanted.strip():
                assert matches(masked(done.stdout), masked(wanted)), (line, done.stdout)
            ran += 1
    if path.name == "cli.md":
        assert ran >= 2


@pytest.mark.parametrize("body", [pytest.param(b, id=name) for name, b in blocks("sh")])
def test_shell_block_names_options_that_exist(body: str, tmp_path: Path) -> None:
    """Of every command `s2s-engine NAME` and `python -m benchmarks.NAME`."""
    pytest.importorskip("typer")
    for line in body.split("\n"):
        line = line.split(" #")[0]
        found = re.match(r"(?:s2s-engine|python -m (benchmarks\.\w+)) ?([a-z]*)", line)
        if not found:
            continue
        module, name = found.groups()
        program = ["-m", module] if module else ["-m", "s2s_engine", name]
        wide = {**os.environ, "COLUMNS": "200", "TERM": "dumb"}
        done = subprocess.run(
            [sys.executable, *program, "--help"], cwd=ROOT if module else tmp_path,
            capture_output=True, text=True, env=wide,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for option in re.findall(r"(?<!\S)--?[a-z][\w-]*", line[found.end() :]):
            assert option in done.stdout, f"{line}: {option}"


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


def test_every_public_name_is_documented() -> None:
    """One without a docstring raises; the page is as the script writes it."""
    module = loaded(ROOT / "scripts" / "api_table.py")
    assert module.PAGE.read_text() == module.page(), "run python scripts/api_table.py"
    for name in s2s_engine.__all__:
        assert f"- `{name}`" in module.page()

    class Silent:
        __module__ = "s2s_engine.silent"
        quiet = property(lambda self: None)

    with pytest.raises(ValueError, match="Silent has no docstring"):
        module._entry("Silent", Silent)
    Silent.__doc__ = "Says something."
    with pytest.raises(ValueError, match=r"Silent\.quiet has no docstring"):
        module._entry("Silent", Silent)


def test_every_option_has_its_row() -> None:
    from s2s_engine.options import DEFAULTS

    page = (ROOT / "docs" / "options.md").read_text()
    told = {"seed": "a new one", "end_tokens": "the model's", "allowed_tokens": "everything",
            "max_nodes": "1,000,000"}  # fmt: skip
    for name, default in DEFAULTS.items():
        (row,) = re.findall(rf"^\| `{name}` \|(.*?)\| (.+) \|$", page, re.MULTILINE)
        number = isinstance(default, (int, float)) and not isinstance(default, bool)
        wanted = f"{default:g}" if number else "" if default is None else str(default)
        assert row[0].strip(" `") == told.get(name, wanted), name
    assert len(DEFAULTS) > 25


def test_the_site_has_every_page() -> None:
    """`.ci/run` builds it."""
    listed = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in ROOT.glob("docs/*.md"))


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
