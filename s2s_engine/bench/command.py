"""The command `s2s-engine bench`: arguments to a run in a process of its own, whose threads of BLAS
are set before NumPy is loaded. Knows typer; nothing of measuring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .compare import parse_loss
from .environment import variables
from .options import ABSENT, NAMES, PEERS, Job, Options, Outputs

Names = Annotated[list[str] | None, typer.Option(metavar="NAME", help=f"{', '.join(NAMES)}.")]


def bench(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A model in place of the workloads.")
    ] = None,
    workload: Names = None,
    g2p_en: Annotated[str | None, typer.Option(help="The path of g2p_en's weights.")] = None,
    peers: Annotated[
        str, typer.Option(help=f"all, or some of {', '.join([*PEERS, *ABSENT])}.")
    ] = "",
    threads: Annotated[
        list[int] | None, typer.Option(min=1, max=1024, help="Repeatable; by default 1.")
    ] = None,
    blocks: Annotated[int, typer.Option(min=5, help="Of one workload and search.")] = 60,
    block_ms: Annotated[float, typer.Option(min=1, help="A contender's turn in a block.")] = 20.0,
    seconds: Annotated[
        float | None, typer.Option(help="All blocks; by default 15, with peers 60.")
    ] = None,
    kernels: Annotated[
        str | None, typer.Option(help="The program that times kernels (docs/benchmarks.md).")
    ] = None,
    scaling: Annotated[bool, typer.Option(help="Time against each size.")] = True,
    profile: Annotated[bool, typer.Option(help="Time every node of a decode.")] = True,
    json_file: Annotated[str, typer.Option("--json", help="The report.")] = "benchmarks.json",
    html: Annotated[str, typer.Option(help="The report as a page.")] = "benchmarks.html",
    compare: Annotated[
        str | None, typer.Option(help="An older report of this machine; slower is an error.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="What benchmarks.door --jitter --json wrote.")
    ] = None,
    loss: Annotated[str, typer.Option(help="What --compare lets pass.")] = "10%",
) -> Callable[[], int]:
    """Times the engine: kernels, workloads, scaling, and peers if asked."""
    chosen = _peers(peers)
    unknown = set(workload or ()) - set(NAMES)
    if unknown:
        raise typer.BadParameter(f"--workload is {min(unknown)!r}, must be {', '.join(NAMES)}")
    if workload and model is not None:
        raise typer.BadParameter("--workload is for the workloads, not for a model of your own")
    if "g2p_en" in (workload or ()) and g2p_en is None:
        raise typer.BadParameter("--workload g2p_en needs --g2p-en, the path of its weights")
    for name, path in (("MODEL", model), ("--g2p-en", g2p_en), ("--kernels", kernels),
                       ("--compare", compare), ("--latency", latency)):  # fmt: skip
        if path is not None and not Path(path).exists():
            raise typer.BadParameter(f"{name} is {path!r}, which does not exist")
    try:
        most = parse_loss(loss)
    except ValueError:
        raise typer.BadParameter(f"--loss is {loss!r}, must be like 10% or 0.1") from None
    options = Options(
        model=model,
        workloads=list(workload or ()),
        g2p_en=g2p_en,
        peers=chosen,
        threads=sorted(set(threads or [1])),
        blocks=blocks,
        block_ms=block_ms,
        seconds=seconds if seconds is not None else 60.0 if chosen else 15.0,
        kernels=kernels,
        scaling=scaling,
        profile=profile,
    )
    job = Job(options, Outputs(json_file, html, compare, most, latency))
    return lambda: in_own_process(job)


def in_own_process(job: Job) -> int:
    """The exit code of `python -m s2s_engine.bench`. BLAS gets the fewest threads asked for: its
    number cannot be changed later."""
    command = [sys.executable, "-m", __package__ or "", json.dumps(asdict(job))]
    environment = {**os.environ, **variables(min(job.options.threads))}
    return subprocess.run(command, env=environment, check=False).returncode


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if names == ["all"]:
        return [*PEERS, *ABSENT]
    unknown: Sequence[str] = [name for name in names if name not in PEERS and name not in ABSENT]
    if unknown:
        known = ", ".join([*PEERS, *ABSENT])
        raise typer.BadParameter(f"--peers has {unknown[0]!r}, must be all, or some of {known}")
    return names
