"""The objects of the kernels, compiled as CMakeLists.txt says, and the loops in their machine code.
Knows flags, symbols and jumps of x86-64; never what a kernel computes."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
COMPILER = shutil.which("c++")
KERNELS = sorted((CSRC / "kernels").glob("*.cpp"))


def flags_of(source: Path) -> list[str]:
    """The compile options that CMakeLists.txt sets on one kernel file."""
    text = re.sub(r"#[^\n]*", "", (ROOT / "CMakeLists.txt").read_text())
    variables = dict(re.findall(r"set\((\w+)\s+([^)]*)\)", text))
    name = re.escape(str(source.relative_to(ROOT)))
    found = re.search(
        rf'set_source_files_properties\(\s*{name}\s+PROPERTIES\s+COMPILE_OPTIONS\s+"([^"]*)"', text
    )
    assert found, f"CMakeLists.txt sets no flags on {name}"
    options = found[1]
    while "${" in options:
        options = re.sub(r"\$\{(\w+)\}", lambda m: variables[m[1]], options)
    return [option for option in re.split(r"[;\s]+", options) if option]


@cache
def machine() -> str:
    """What the compiler builds for, as in x86_64-linux-gnu."""
    done = subprocess.run([str(COMPILER), "-dumpmachine"], capture_output=True, text=True)
    return done.stdout.strip()


def is_for_this_machine(source: Path) -> bool:
    """Whether the compiler here builds this kernel file."""
    for prefix, processor in (("avx", "x86_64"), ("neon", "aarch64")):
        if source.stem.startswith(prefix):
            return processor in machine()
    return True


@cache
def object_of(source: Path) -> Path:
    """The object of a kernel file; compiled once in a run of the tests."""
    built = Path(directory().name) / f"{source.stem}.o"
    compile_object(source, flags_of(source), built)
    return built


@cache
def directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="s2s-kernels-")


def compile_object(source: Path, flags: list[str], built: Path) -> None:
    subprocess.run(
        [str(COMPILER), "-std=c++20", "-fPIC", "-fvisibility=hidden", *flags, f"-I{CSRC}", "-c",
         str(source), "-o", str(built)],
        check=True,
    )  # fmt: skip


# --- loops ---


@dataclass(frozen=True)
class Loop:
    """An innermost loop: the function it stands in, and its instructions in AT&T syntax."""

    function: str
    body: tuple[str, ...]


def innermost_loops(built: Path) -> Iterator[Loop]:
    """Loops of the graph of jumps that hold no other. Address order says little: cold parts stand
    anywhere, and jump back, too."""
    text = subprocess.run(
        ["objdump", "-dC", "--no-show-raw-insn", str(built)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for part in re.split(r"\n(?=[0-9a-f]+ <)", text):
        head = re.match(r"[0-9a-f]+ <(.*)>:", part)
        if head is not None:
            code = re.findall(r"^\s*([0-9a-f]+):\s*(\S.*?)\s*$", part, flags=re.M)
            after = successors([(int(address, 16), line) for address, line in code])
            for body in without_inner(after, set(range(len(code)))):
                yield Loop(head[1], tuple(code[i][1] for i in sorted(body)))


def successors(code: list[tuple[int, str]]) -> list[list[int]]:
    """The instructions that may run next after each one."""
    index = {address: i for i, (address, _) in enumerate(code)}
    after: list[list[int]] = [[] for _ in code]
    for i, (_, line) in enumerate(code):
        jump = re.match(r"(?:bnd )?j\w+\s+([0-9a-f]+)\b", line)
        if jump is not None and int(jump[1], 16) in index:
            after[i].append(index[int(jump[1], 16)])
        if i + 1 < len(code) and not re.match(r"(?:bnd )?jmp|(?:rep[z]? )?ret|ud2", line):
            after[i].append(i + 1)
    return after


def without_inner(after: list[list[int]], within: set[int]) -> Iterator[set[int]]:
    """The cycles inside `within` that are none any more once their entry is taken away."""
    entered = {to for i, targets in enumerate(after) if i not in within for to in targets}
    for cycle in cycles(after, within):
        entries = {
            to for i in within - cycle for to in after[i] if to in cycle
        } | (entered & cycle)  # fmt: skip
        inner = list(without_inner(after, cycle - {min(entries, default=min(cycle))}))
        yield from inner or [cycle]


def cycles(after: list[list[int]], within: set[int]) -> Iterator[set[int]]:
    """The strongly connected components with an edge (Tarjan 1972), by a stack of our own."""
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    held: list[int] = []
    for root in sorted(within):
        path = [(root, iter(after[root]))] if root not in number else []
        while path:
            node, targets = path[-1]
            if node not in number:
                number[node] = lowest[node] = len(number)
                held.append(node)
            for to in targets:
                if to in within and to not in number:
                    path.append((to, iter(after[to])))
                    break
                if to in within and lowest.get(to, -1) >= 0:
                    lowest[node] = min(lowest[node], lowest[to])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[node])
                if lowest[node] == number[node]:
                    found = set()
                    while node not in found:
                        found.add(held.pop())
                    for member in found:
                        lowest[member] = -1
                    if len(found) > 1 or node in after[node]:
                        yield found
