"""What screening a large output layer brings: `python -m benchmarks.screening`. Greedy decodes of
w3 and w4 in float32 with and without it, in one process, taking turns.

Checks first that both give the same bits. The ratio is the median over pairs of decodes of the time
without screening over the time with it; panels are of 32 outputs, computed in float32 after the
estimate in int8, in the mean of the screened steps.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from s2s_engine import Engine
from s2s_engine.bench.workloads import Workload, workloads
from s2s_engine.results import Result


def bits(result: Result) -> list[tuple[list[int], float, bytes]]:
    return [(h.ids, h.score, h.token_log_probs.tobytes()) for h in result.hypotheses]


def measure(workload: Workload, threads: int, rounds: int) -> str:
    engine = Engine.load(workload.model, threads=threads)
    (session,) = engine._idle
    found: dict[bool, list[list[tuple[list[int], float, bytes]]]] = {}
    ratios = []
    for turn in range(rounds + 1):  # the first one is not counted
        for x in workload.inputs:
            seconds = {}
            for screens in (True, False) if turn % 2 else (False, True):
                session.screens = screens
                begin = time.perf_counter()
                result = engine.decode(x, **workload.options)
                seconds[screens] = time.perf_counter() - begin
                if turn == 0:
                    found.setdefault(screens, []).append(bits(result))
            ratios += [seconds[False] / seconds[True]] if turn else []
    if found[True] != found[False]:
        raise SystemExit(f"{workload.name}: screening changes bits")
    steps, failed, panels = session.screened
    all_panels = (workload.model.graphs["decoder"].inputs["token"].size + 31) // 32
    return (
        f"{workload.name}, threads={threads}: {median(ratios):.2f} times as fast; "
        f"{panels / max(steps, 1):.1f} of {all_panels} panels; {steps} steps, {failed} more failed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", nargs="*", default=["w3", "w4"])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    for workload in workloads(chosen.workloads):
        if workload.beam == 1 and workload.batch == 1:
            for threads in chosen.threads:
                print(measure(workload, threads, chosen.rounds), flush=True)


if __name__ == "__main__":
    main()
