"""One run in this process: `python -m s2s_engine.bench JOB`, with the JSON that `command` writes.
Prints the text report; the exit code is 1 where answers differ or something became slower."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..errors import S2SError
from . import compare, latency, page, text
from .compare import Incomparable
from .contenders import Unequal
from .environment import machine
from .options import Job, Options, Outputs
from .run import run


def main(arguments: str) -> int:
    given = json.loads(arguments)
    job = Job(Options(**given["options"]), Outputs(**given["outputs"]))
    old = None
    if job.outputs.compare is not None:
        old = json.loads(Path(job.outputs.compare).read_text(encoding="utf-8"))
    try:
        given_latency = None
        if job.outputs.latency is not None:  # refused before anything is measured
            given_latency = latency.read(job.outputs.latency, machine())
        report = run(job.options, lambda line: print(f"... {line}", file=sys.stderr, flush=True))
        report["latency"] = given_latency
    except (Unequal, Incomparable, S2SError, OSError) as error:
        print(f"s2s-engine: {error}", file=sys.stderr)
        return 1
    print(text.whole(report))
    Path(job.outputs.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    Path(job.outputs.html).write_text(page.page(report), encoding="utf-8")
    print(f"\nwritten to {job.outputs.json} and {job.outputs.html}")
    return 0 if old is None else compared(old, report, job.outputs.loss)


def compared(old: dict[str, object], new: dict[str, object], loss: float) -> int:
    try:
        found, noisy = compare.changes(old, new)
    except compare.Incomparable as error:
        print(f"s2s-engine: nothing to compare: {error}", file=sys.stderr)
        return 1
    print()
    for change in found:
        print(text.change(change, loss))
    for key in noisy:
        print(f"{key}: not compared, one of the two runs was noisy")
    slow = compare.too_slow(found, loss)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
