"""What all tests share: the instruction sets of this machine, and the rule for tests that need a
peer (PyTorch, ONNX): they are skipped where it is missing, and never in silence."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from pathlib import Path

import pytest

import s2s_engine
from s2s_engine import _core

# Results must not depend on what the shell says; tests that want a variable set it themselves.
os.environ.pop("S2S_ISA", None)
# Processes that tests start find the package that is tested, wherever it is installed.
os.environ["PYTHONPATH"] = str(Path(s2s_engine.__file__).parents[1])

ISAS = tuple(_core.available_isas())
# Importable module -> the extra of this package that installs it.
EXTRAS = {
    "torch": "torch", "onnx": "onnx", "onnxruntime": "onnx", "h5py": "keras", "keras": "keras",
    "matplotlib": "plot",
}  # fmt: skip
SKIPPED: dict[str, int] = {}
# The rows of docs/variants.md that a test of this run carries, and those of which one passed.
ROWS: set[str] = set()
PASSED: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("s2s_engine")
    group.addoption(
        "--require-parity", action="store_true", help="a parity test that cannot run is a failure"
    )
    group.addoption(
        "--update-messages", action="store_true", help="rewrite tests/messages.txt from this run"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "parity(*modules): compares with another program; runs where the modules can be imported",
    )
    line = "variant(id): the row of docs/variants.md that a test executes"
    config.addinivalue_line("markers", line)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("parity"):
        for module in marker.args:
            if importlib.util.find_spec(module) is not None:
                continue
            reason = f"{module} is not installed: pip install 's2s_engine[{EXTRAS[module]}]'"
            if item.config.getoption("--require-parity"):
                pytest.fail(reason, pytrace=False)
            SKIPPED[module] = SKIPPED.get(module, 0) + 1
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for module, count in SKIPPED.items():
        terminalreporter.write_line(
            f"{count} parity tests did not run without {module}; "
            f"pip install 's2s_engine[{EXTRAS[module]}]' makes them run",
            yellow=True,
        )


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set that this machine runs."""
    name: str = request.param
    return name


@pytest.fixture(autouse=True, scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing may depend on the folder that the tests are started in."""
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ROWS.update(marker.args[0] for item in items for marker in item.iter_markers("variant"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.passed:
        PASSED.update(marker.args[0] for marker in item.iter_markers("variant"))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be skipped, a row of the variants that no test executed is a failure."""
    if session.config.getoption("--require-parity") and ROWS - PASSED:
        print(f"\nno test executed these rows of docs/variants.md: {sorted(ROWS - PASSED)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
