"""A run of the suite, from its options to a report: a plain object that JSON can hold. Knows the
order of things; never how anything is timed, drawn or printed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import Engine
from ..loading import opened
from . import contenders, cost, goals, limits, loading, profile, scaling, verdicts, workloads
from .contenders import BASE, EAGER, Answering, Field
from .environment import machine, moment, software
from .limits import Limits
from .measure import Contender, Kept, histogram, kept, measure, ratios, row
from .options import NAMES, Options
from .workloads import Workload

SCHEMA = 1
Tell = Callable[[str], None]


def run(options: Options, tell: Tell) -> dict[str, Any]:
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "options": asdict(options),
        "machine": machine(),
        "software": software(),
        **moment(),
    }
    program = limits.find_program(None if options.kernels is None else Path(options.kernels))
    tell("the machine's limit" + (", and the kernels" if program else ""))
    found = limits.by_program(program, max(options.threads)) if program else limits.unknown()
    report["limits"], report["kernels"] = found.as_json(), found.kernels
    report["kernels_left_out"] = None if program else limits.HOW
    report["results"], report["loading"] = [], {}
    for workload in chosen(options):
        if workload.name not in report["loading"]:
            tell(f"{workload.name}: loading")
            report["loading"][workload.name] = _loading(workload)
        for threads in options.threads:
            tell(f"{workload.key}, {threads} {'thread' if threads == 1 else 'threads'}")
            report["results"].append(one(workload, threads, options, found))
            gc.collect()
    report["goals"] = verdicts.table(report["results"])
    report["scaling"], report["fixed"] = [], None
    if options.scaling:
        found = found if program else limits.by_engine()
        tell("scaling: what calls and steps take without bytes and operations")
        fixed = scaling.fixed()
        report["fixed"] = asdict(fixed)
        for sweep in scaling.SWEEPS:
            tell(f"scaling: {sweep.name}")
            report["scaling"].append(scaling.swept(sweep, found, max(options.threads), fixed))
    return report


def chosen(options: Options) -> list[Workload]:
    if options.model is not None:
        model = opened(options.model, None, {})[0]
        return workloads.of_model(Path(options.model).stem, options.model, model)
    names = options.workloads or [n for n in NAMES if n != "g2p_en" or options.g2p_en]
    g2p_en = None if options.g2p_en is None else Path(options.g2p_en)
    return workloads.workloads(names, g2p_en=g2p_en)


def _loading(workload: Workload) -> dict[str, Any]:
    found = {}
    for type_ in contenders.COMPUTE_TYPES:
        try:
            Engine.load(workload.model, compute_type=type_).close()
        except NotImplementedError:
            continue
        found[type_] = loading.measured(workload.model, type_)
    return found


def one(workload: Workload, threads: int, options: Options, found: Limits) -> dict[str, Any]:
    """One workload and search with one number of threads: answers checked, timed, checked again."""
    made = contenders.line_up(workload, threads, options.peers)
    try:
        shares = contenders.check(workload, made)
        timed = [entry.contender for entry in made.all]
        calibrations = measure(
            timed, workload.turns,
            blocks=options.blocks, block_ms=options.block_ms, seconds=options.seconds,
        )  # fmt: skip
        contenders.check(workload, made)
        blocks = kept(calibrations, timed)
        result = {
            "workload": workload.name,
            "search": workload.search,
            "key": workload.key,
            "what": workload.what,
            "threads": threads,
            "beam": workload.beam,
            "batch": workload.batch,
            "positions": float(np.mean([len(source) for source in workload.sources])),
            "steps": float(np.mean(made.steps)),
            "blocks": len(calibrations),
            "blocks_rejected": blocks.rejected,
            "quiet": blocks.quiet,
            "left_out": made.left_out,
        }
        result["rows"] = _rows(workload, made, blocks, shares, _limits_us(made, result, found))
        result["against"] = rivals_of = against(made.all, blocks.blocks)
        for name, rivals in rivals_of.items():
            type_ = name.removeprefix("s2s_engine ")
            for rival in rivals:
                rival["goal"] = goals.goal(workload.key, type_, rival["rival"], threads)
                rival["floor"] = goals.floor(workload.key, type_, rival["rival"], threads)
        if options.profile:
            _profile(workload, made, result, found)
        return result
    finally:
        made.close()


def _rows(
    workload: Workload, made: Field, blocks: Kept, shares: dict[str, float], limit: dict[str, float]
) -> list[dict[str, Any]]:
    tokens = float(np.mean([len(ids) for ids in made.expected])) * workload.batch
    rows = []
    for entry in made.all:
        found = row(entry.contender, made.all[0].contender, blocks.blocks)
        name = found["name"]
        found |= {
            "peer": entry.peer,
            "exact": entry.exact,
            "equal_ids": shares[name],
            "tokens_per_s": tokens / found["p50_us"] * 1e6,
            "limit_us": limit.get(name),
            "profile": None,
            "histogram": histogram(entry.contender, blocks.blocks),
        }
        rows.append(found)
    return rows


def _profile(workload: Workload, made: Field, result: dict[str, Any], found: Limits) -> None:
    """Of every engine, into its row. A batch is shared by its sentences: a profile is of one
    thread's."""
    threads, batch = result["threads"], workload.batch
    if batch > 1:
        threads, batch = 1, -(-batch // threads)
    machine = found.machines.get(threads)
    for engine, entry in _engines(made):
        row = next(row for row in result["rows"] if row["name"] == entry.contender.name)
        least = None
        if machine is not None:
            least = cost.node_limits(cost.parts(**_sizes(engine, result, batch)), machine)
        row["profile"] = profile.measured(workload, engine, entry.contender.turn, least)


def _engines(made: Field) -> list[tuple[Engine, Answering]]:
    ours = [e for e in made.all if not e.peer and not e.contender.name.endswith("core only")]
    return list(zip(made.engines, ours, strict=True))


def _sizes(engine: Engine, result: dict[str, Any], batch: int) -> dict[str, Any]:
    return {
        "model": engine._model,
        "positions": result["positions"],
        "steps": result["steps"],
        "beam": result["beam"],
        "batch": batch,
        "types": engine.info.compute_types,
        "screened": engine.info.screened,
    }


def _limits_us(made: Field, result: dict[str, Any], found: Limits) -> dict[str, float]:
    """The least time that bytes and operations of each engine's decode take, where it is known."""
    limit = found.machines.get(result["threads"])
    if limit is None:
        return {}
    times, sizes = {}, {}
    for engine, entry in _engines(made):
        stages = cost.stages(**_sizes(engine, result, result["batch"]))
        name = entry.contender.name
        seconds = cost.limit(stages, limit)
        if seconds is not None:
            times[name] = seconds * 1e6
        sizes[name] = {
            "bytes": cost.total(stages, lambda stage: stage.bytes),
            "multiply_adds": cost.total(
                stages, lambda stage: stage.multiply_adds + stage.int8_multiply_adds
            ),
        }
    result["work"] = sizes
    if BASE in times:
        times[f"{BASE}, core only"] = times[BASE]
    return times


def against(all_: list[Answering], blocks: list[int]) -> dict[str, list[dict[str, Any]]]:
    """How many times faster each engine is than PyTorch eager, the fastest float32 peer and the
    fastest peer of any precision: block by block, with quartiles."""
    peers = [entry for entry in all_ if entry.peer]
    rivals = [
        (goals.EAGER, [entry for entry in peers if entry.contender.name == EAGER]),
        (goals.FLOAT32, [entry for entry in peers if entry.exact]),
        (goals.ANY, peers),
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    for engine in all_:
        if engine.peer or engine.contender.name.endswith("core only"):
            continue
        for what, group in rivals:
            if group:
                rival = min(group, key=lambda entry: _usual(entry.contender, blocks)).contender
                low, middle, high = ratios(rival, engine.contender, blocks)
                found.setdefault(engine.contender.name, []).append(
                    {"rival": what, "name": rival.name, "ratio": middle, "quartiles": [low, high]}
                )
    return found


def _usual(contender: Contender, blocks: list[int]) -> float:
    return float(np.median(np.concatenate([contender.times[block] for block in blocks])))
