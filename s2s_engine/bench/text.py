"""A report as text for a terminal. Knows reports; nothing of how they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import latency, verdicts
from .compare import Change
from .profile import label, most_left

SHOWN = 5  # nodes of a profile


def whole(report: dict[str, Any]) -> str:
    parts = [head(report), limit(report), goals(report)]
    parts += map(result, report["results"])
    parts += [latency.text(report["latency"]) if report["latency"] else "", loading(report)]
    parts += [kernels(report), fixed(report) if report["scaling"] else ""]
    parts += map(sweep, report["scaling"])
    return "\n\n".join(part for part in parts if part)


def limit(report: dict[str, Any]) -> str:
    return (
        f"The machine's limit was measured by {report['limits']['source']}. limit / time: 100 % is "
        "as fast as the machine, 50 % takes twice as long as it must."
    )


def head(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["software"].items())
    load = report["load_average"]
    busy = "" if load is None else f", load average {load:.1f}"
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs, engine's instruction set {machine['isa']}\n"
        f"{versions}; {report['date']}{busy}"
    )


def goals(report: dict[str, Any]) -> str:
    """A table as wide as its longest cells; what is left stands in each result."""
    if not report["goals"]:
        return "No ratio was measured that a goal is set for (see --peers)."
    return _columns([list(verdicts.HEAD), *map(verdicts.cells, report["goals"])])


def _columns(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def result(found: dict[str, Any]) -> str:
    return "\n".join(_result(found))


def _result(found: dict[str, Any]) -> Iterator[str]:
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    yield f"{found['key']}, {threads}: {found['what']}"
    yield (
        f"{found['positions']:.1f} positions, {found['steps']:.1f} steps; "
        f"{found['blocks']} blocks, {found['blocks_rejected']} rejected as noisy; "
        "all float32 ids equal"
    )
    yield (
        f"{'':40}{'p50 us':>11}{'p90':>11}{'p99':>11}{'tokens/s':>11}"
        f"  {'time / engine':>18}{'equal ids':>11}{'limit/time':>12}"
    )
    for row in found["rows"]:
        low, high = row["ratio_quartiles"]
        share = "" if row["limit_us"] is None else f"{row['limit_us'] / row['p50_us']:.0%}"
        ids = "" if row["exact"] else f"{row['equal_ids']:.0%}"
        yield (
            f"{row['name']:40}{row['p50_us']:11.1f}{row['p90_us']:11.1f}{row['p99_us']:11.1f}"
            f"{row['tokens_per_s']:11.0f}  {row['ratio']:6.2f} ({low:.2f}-{high:.2f})"
            f"{ids:>11}{share:>12}"
        )
    rows = {row["name"]: row for row in found["rows"]}
    for name, rivals in found["against"].items():
        for rival in rivals:
            low, high = rival["quartiles"]
            yield (
                f"{name} is {rival['ratio']:.2f} ({low:.2f}-{high:.2f}) times as fast as "
                f"{rival['rival']}, {rival['name']}{_goal(rival, rows[name])}"
            )
    for row in found["rows"]:
        if row["profile"] is not None:
            yield _profile(row)
    for name, why in found["left_out"].items():
        yield f"left out: {name}: {why}"
    if not found["quiet"]:
        yield "NOISY: too few quiet blocks; these figures are of all blocks and not to be quoted"


def _goal(rival: dict[str, Any], row: dict[str, Any]) -> str:
    if rival["goal"] is None:
        return ""
    reached = "reached" if rival["ratio"] >= rival["goal"] else "not reached"
    floor = rival["floor"]
    parts = [f"the goal is {rival['goal']:g}: {reached}"]
    if floor is not None:
        parts.append(f"the floor {floor:g}: {'above' if rival['ratio'] >= floor else 'below'} it")
    if row["limit_us"] is not None:
        parts.append(f"{row['limit_us'] / row['p50_us']:.0%} of the limit")
    left = most_left(row["profile"])
    return "; ".join(["", *parts, left] if left else ["", *parts])


def _profile(row: dict[str, Any]) -> str:
    """The nodes that are furthest above their limits."""
    parts = []
    for node in row["profile"]["nodes"][:SHOWN]:
        share = ""
        if node["limit_us"] and node["us"]:
            share = f", limit/time {node['limit_us'] / node['us']:.0%}"
        parts.append(f"{label(node)} {node['us']:.1f} us ({node['share']:.0%}{share})")
    return f"{row['name']}, by node: {'; '.join(parts)}"


def loading(report: dict[str, Any]) -> str:
    return _columns([list(verdicts.LOADING), *verdicts.loaded(report["loading"])])


def kernels(report: dict[str, Any]) -> str:
    if report["kernels_left_out"]:
        return f"kernels: left out: {report['kernels_left_out']}"
    lines = [f"{'kernel':66}{'us':>9}{'GB/s':>8}{'GFLOP/s':>9}{'limit/time':>12}"]
    for one in report["kernels"]:
        name = f"{one['group']}: {one['name']}"
        rates = f"{one['bytes'] / one['ns']:8.1f}{one['operations'] / one['ns']:9.1f}"
        lines.append(f"{name:66}{one['ns'] / 1e3:9.2f}{rates}{one['share']:12.0%}")
    return "\n".join(lines)


def fixed(report: dict[str, Any]) -> str:
    """What predictions add to bytes and operations."""
    us = report["fixed"]
    return (
        f"Without bytes and operations a call takes {us['call']:.1f} us, each further sentence of "
        f"it {us['sentence']:.1f}, a position of the source {us['position']:.2f}, a step "
        f"{us['step']:.2f}, each further hypothesis of a step {us['hypothesis']:.2f}: measured "
        "with layers of 8 units, and part of what is predicted."
    )


def sweep(found: dict[str, Any]) -> str:
    lines = [
        f"{'time against ' + found['name']:34}{'us':>10}{'predicted':>11}{'deviation':>11}"
        f"{'limit':>10}"
    ]
    for point in found["points"]:
        line = f"{point['value']:>8} {found['unit']:25}{point['us']:10.1f}"
        if point["predicted_us"] is not None:
            line += f"{point['predicted_us']:11.1f}{point['deviation']:+11.0%}"
            line += " " * 10 if point["limit_us"] is None else f"{point['limit_us']:10.1f}"
            line += "" if point["within"] else "  more than 25 % away"
        lines.append(line)
    if not found["quiet"]:
        lines.append("NOISY: too few quiet blocks")
    return "\n".join(lines)


def change(found: Change, loss: float) -> str:
    verdict = f"  slower by more than {loss:.0%}" if found.loss > loss else ""
    return (
        f"{found.key}: {found.name}: {found.old_us:.1f} -> {found.new_us:.1f} us "
        f"({found.loss:+.1%}){verdict}"
    )
