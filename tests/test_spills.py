"""No hot loop of a kernel touches the stack: what it works on stays in registers.
Knows machine code of x86-64 alone; never results and never times."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from kernel_objects import (
    COMPILER,
    KERNELS,
    Loop,
    compile_object,
    flags_of,
    innermost_loops,
    is_for_this_machine,
    machine,
    object_of,
)  # fmt: skip

LEVELS = [path for path in KERNELS if path.stem.startswith("avx")]
pytestmark = [
    pytest.mark.skipif(not KERNELS, reason="reads the source tree"),
    pytest.mark.skipif(COMPILER is None or shutil.which("objdump") is None,
                       reason="needs c++ and objdump"),
]  # fmt: skip

# Activations that are chosen at run time are called: pairs that no model in docs/variants.md has.
MAY_CALL = {"lstm_gates", "gru_gates"}
# Functions that must have been looked into, so that the check cannot lose its object.
HOT = {
    "tile", "lstm_gates", "gru_gates", "gru_reset", "map", "softmax_row", "normaliser",
    "layer_norm", "context_part", "additive_with",
}  # fmt: skip


def name_of(loop: Loop) -> str:
    """tile of `void s2s::(anonymous namespace)::tile<1, 2, 2, 0, float>(s2s::Linear const&)`."""
    return re.split(r"[<(]", loop.function.split("(anonymous namespace)::", 1)[-1])[0]


def multiplies(loop: Loop) -> bool:
    """Whether it multiplies vectors: fused, plain, or the products of bytes."""
    return any(re.match(r"v(?:fn?m|mul|pmadd|pmull|pdpbusd)", line) for line in loop.body)


def calls(loop: Loop) -> bool:
    return any(line.startswith("call") for line in loop.body)


def stack_accesses(loop: Loop) -> list[str]:
    """Operands in memory that rsp or rbp addresses, and pushes; computing an address is none."""
    return [
        line for line in loop.body
        if (re.search(r"\(%r[sb]p\b", line) and not line.startswith("lea"))
        or re.match(r"(?:push|pop)", line)
    ]  # fmt: skip


@pytest.mark.parametrize("path", LEVELS, ids=[path.stem for path in LEVELS])
def test_no_hot_loop_touches_the_stack(path: Path) -> None:
    if not is_for_this_machine(path):
        pytest.skip(f"the compiler builds for {machine()}")
    loops = [loop for loop in innermost_loops(object_of(path)) if multiplies(loop)]
    assert len(loops) > 80
    spills = {
        f"{loop.function}, {len(loop.body)} instructions": stack_accesses(loop)
        for loop in loops
        if stack_accesses(loop) and not calls(loop)
    }
    assert not spills
    assert {name_of(loop) for loop in loops if calls(loop)} <= MAY_CALL
    assert {name_of(loop) for loop in loops} >= HOT


# --- the check itself ---

# Two rows and eight registers of a panel: 16 sums and what they multiply, where AVX2 has 16
# registers. With four registers of it, everything fits.
TILE = """
#include <immintrin.h>
template <int N>
[[gnu::noinline]] void tile(const float* w, const float* x, long depth, float* out) noexcept {
  __m256 sum[2][N] = {};
  for (long k = 0; k < depth; ++k) {
    for (int r = 0; r < 2; ++r) {
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n)
        sum[r][n] = _mm256_fmadd_ps(_mm256_loadu_ps(w + 8 * (N * k + n)),
                                    _mm256_set1_ps(x[2 * k + r]), sum[r][n]);
    }
  }
  for (int r = 0; r < 2; ++r)
    for (int n = 0; n < N; ++n) _mm256_storeu_ps(out + 8 * (N * r + n), sum[r][n]);
}
template void tile<4>(const float*, const float*, long, float*) noexcept;
template void tile<8>(const float*, const float*, long, float*) noexcept;
"""


def test_a_loop_that_spills_is_found(tmp_path: Path) -> None:
    avx2 = next(path for path in LEVELS if path.stem == "avx2")
    if not is_for_this_machine(avx2):
        pytest.skip(f"the compiler builds for {machine()}")
    source = tmp_path / "tiles.cpp"
    source.write_text(TILE)
    compile_object(source, flags_of(avx2), tmp_path / "tiles.o")
    spills = {}
    for loop in innermost_loops(tmp_path / "tiles.o"):
        if multiplies(loop):
            name = re.findall(r"tile<\d>", loop.function)[0]
            spills[name] = len(stack_accesses(loop))
    assert spills["tile<4>"] == 0
    assert spills["tile<8>"] > 0
