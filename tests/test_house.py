"""The rules of the code itself: floors, where memory, threads and CPUs may be named, what kernel
objects contain, what an import loads. Knows text and symbols; never results."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_objects import COMPILER, KERNELS, flags_of, is_for_this_machine, machine, object_of

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="reads the source tree")

SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in (".h", ".cpp", ".inl"))
# What each floor may include besides itself (docs/architecture.md): only lower floors; search
# knows neither graphs nor operations. The library and the bindings see the engine floor, and of
# core what its public header needs: errors to translate, the entry mark, what interrupts,
# instruction sets and CPUs. The C interface knows nothing.
OF_CORE = {f"core/{x}.h" for x in ("cpus", "entry", "errors", "interruption", "isa")}
FLOORS: dict[str, set[str]] = {
    "include": set(),
    "kernels": set(),
    "core": {"kernels"},
    "ops": {"kernels", "core"},
    "graph": {"kernels", "core", "ops"},
    "search": {"kernels", "core"},
    "engine": {"kernels", "core", "ops", "graph", "search"},
    "library": {"engine", "include", *OF_CORE},
    "bindings": {"engine", "library/table.h", *OF_CORE},
}
MAX_LINES = 450
LONGER = {"s2s_engine/builder.py": 500}  # one call per operation, which grows with the set
IDS = [str(path.relative_to(CSRC)) for path in SOURCES]
each_source = pytest.mark.parametrize("path", SOURCES, ids=IDS)


def floor_of(path: Path) -> str:
    return path.relative_to(CSRC).parts[0]


def name_of(path: Path) -> str:
    return str(path.relative_to(CSRC))


def code_of(path: Path) -> str:
    """The text without comments and string literals."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.S)
    return re.sub(r'(?<!include )"(?:[^"\\\n]|\\.)*"', '""', text)


def test_every_source_is_on_a_floor() -> None:
    assert len(SOURCES) > 30
    assert {floor_of(path) for path in SOURCES} <= set(FLOORS)


@each_source
def test_a_floor_includes_only_lower_floors(path: Path) -> None:
    floor = floor_of(path)
    for included in re.findall(r'#include "([^"]+)"', path.read_text()):
        if "/" not in included:
            assert (path.parent / included).exists(), included  # a neighbour
            continue
        assert (CSRC / included).exists(), included
        other = included.split("/")[0]
        assert other == floor or {other, included} & FLOORS[floor], f"{floor} includes {included}"


def test_kernels_include_no_standard_library() -> None:
    allowed = {"stddef.h", "stdint.h", "immintrin.h", "arm_neon.h"}  # of C and of the compiler
    for path in SOURCES:
        if floor_of(path) == "kernels":
            assert set(re.findall(r"#include <([^>]+)>", path.read_text())) <= allowed, path


@each_source
def test_memory_is_taken_in_core_alone(path: Path) -> None:
    if floor_of(path) == "core":
        return
    code = re.sub("= delete", "", code_of(path))
    assert not re.findall(
        r"\b(?:new|delete|malloc|calloc|realloc|aligned_alloc|mmap)\b|\bfree\(", code
    )


@each_source
def test_threads_are_started_in_one_file(path: Path) -> None:
    if name_of(path) != "core/parallel.h":
        names = r"#\s*pragma omp|omp\.h|_OPENMP|\bomp_|std::j?thread\b(?!::)|pthread_"
        assert not re.search(names, code_of(path))


@each_source
def test_cpu_and_system_are_told_apart_in_three_files(path: Path) -> None:
    """And C from C++ in the header that both read."""
    three = ("core/isa.cpp", "core/memory.h", "core/parallel.h")
    if name_of(path) not in (*three, "include/s2s_engine.h"):
        assert not re.findall(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b.*", path.read_text(), flags=re.M)


@each_source
def test_no_source_names_an_architecture_or_a_framework(path: Path) -> None:
    names = ("bahdanau|luong|sutskever|marian|opennmt|fairseq|nematus|sockeye|tensorflow|pytorch|"
             "keras|thai2rom|seq2seq|encoder_type|rnn_type")  # fmt: skip
    assert not re.findall(names, path.read_text(), flags=re.I)


@each_source
def test_a_library_neither_prints_nor_aborts(path: Path) -> None:
    banned = r"\bstd::(?:cout|cerr|clog)\b|\bprintf\(|\bfprintf\(|\babort\(|\bexit\(|\bassert\("
    assert not re.findall(banned, code_of(path))


def test_files_are_short() -> None:
    for path in [*SOURCES, *(ROOT / "s2s_engine").rglob("*.py")]:
        name = str(path.relative_to(ROOT))
        lines = len(path.read_text().splitlines())
        assert lines < LONGER.get(name, MAX_LINES), f"{name} has {lines} lines"


def test_python_modules_say_what_they_do_not_know() -> None:
    for path in (ROOT / "s2s_engine").glob("*.py"):
        if not path.name.startswith("_"):
            assert path.read_text().startswith('"""'), path


# --- objects ---


@pytest.mark.skipif(COMPILER is None or shutil.which("nm") is None, reason="needs c++ and nm")
@pytest.mark.parametrize("path", KERNELS, ids=[path.stem for path in KERNELS])
def test_a_kernel_object_has_one_symbol_and_needs_no_library(path: Path) -> None:
    """No weak symbol that a linker may pick for callers on other CPUs; no libm, no C++ library."""
    flags = flags_of(path)
    assert "-ffp-contract=off" in flags
    assert not {"-ffast-math", "-march=native", "-Ofast"} & set(flags)
    if not is_for_this_machine(path):
        pytest.skip(f"the compiler builds for {machine()}")
    listing = subprocess.run(
        ["nm", "-C", str(object_of(path))], capture_output=True, text=True, check=True
    )
    symbols = [line[17:].split(" ", 1) for line in listing.stdout.splitlines()]
    weak = [name for kind, name in symbols if kind in "WwVvu"]
    assert not weak
    needed = {name for kind, name in symbols if kind == "U"}
    assert needed <= {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_"}
    visible = [name for kind, name in symbols if kind.isupper() and kind != "U"]
    assert len(visible) == 1 and re.fullmatch(r"s2s::k\w+", visible[0])


def test_no_build_flag_breaks_the_promise() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    for flag in ("-ffast-math", "-Ofast", "-march=native", "-funsafe", "-flto"):
        assert flag not in text


# --- imports ---

IMPORT = """
import sys
import numpy, safetensors, safetensors.numpy
before = set(sys.modules)
import s2s_engine
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def test_import_loads_numpy_and_safetensors_and_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, timeout=60
    )
    names = set(done.stdout.split())
    assert names - sys.stdlib_module_names <= {"s2s_engine", "numpy", "safetensors"}
    heavy = {"asyncio", "multiprocessing", "concurrent", "http", "email", "unittest"}
    assert not names & heavy
