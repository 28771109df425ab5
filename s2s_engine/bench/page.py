"""A report as one HTML page with its plots, for a reader who has never seen the project. Knows
reports; no measuring. The page needs nothing but itself: no script, no address, no other file."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from . import goals, latency, svg, text, verdicts
from .pieces import document, figure, table, time
from .profile import label, most_left
from .svg import Bar, Series

ABOUT = """<p>s2s_engine runs recurrent sequence-to-sequence models (LSTM and GRU networks with
attention, as they turn spelling into sounds, lemmatise or translate) on CPUs. This page tells how
long it takes to decode one source, how close that is to what this machine can do at all, and, where
that was asked for, how long other programs take for the same answers from the same weights.</p>"""

WORDS = """<dl>
<dt>p50, p90, p99</dt><dd>Half, 90 % and 99 % of all decodes took at most so long.</dd>
<dt>greedy, beam 5</dt><dd>The most probable token is taken at every step; or the five most probable
beginnings are kept.</dd>
<dt>float32, bfloat16, int8</dt><dd>The numbers in which weights are kept: four, two or one byte.
The narrower, the fewer bytes to read, and the further from the exact result.</dd>
<dt>Limit</dt><dd>The time in which this machine could read the weights that a decode needs, or make
its multiplications, whichever is longer, measured in the same run. 100 % of it is as fast as the
machine allows.</dd>
<dt>Above its limit</dt><dd>A decode is a sum of operations, the nodes of the model's graphs, and of
what the engine does beside them: <i>begin</i> (sources are checked and copied), <i>states</i> (they
move to the hypotheses that go on), <i>rank</i> (log-softmax and the best candidates), <i>search</i>
(choosing, and results), and what is outside the core (Python). Each is timed by itself; what it
takes more than the machine would have to is what could be won there.</dd>
<dt>Floor, goal</dt><dd>A ratio that the engine must not fall below, and one that good work should
reach; both were set before it was measured.</dd>
<dt>Noise</dt><dd>Contenders take turns in short blocks. A block during which a fixed loop ran more
than 25 % off its usual time, or another program had the processor for more
than 10 %, is rejected. A ratio is the median over blocks of two medians of one
block; its whisker spans the quartiles.</dd>
<dt>Equal answers</dt><dd>All float32 contenders gave the same ids for every source, before and
after they were timed. Those of lower precision may differ: the share of equal ids stands beside
them.</dd>
</dl>"""


def page(report: dict[str, Any]) -> str:
    machine = report["machine"]
    sections = [
        "<h1>How fast s2s_engine is on this machine</h1>",
        ABOUT,
        f"<p><b>{escape(machine['cpu'])}</b>, {machine['cpus']} CPUs, instruction set "
        f"{escape(machine['isa'])}, {escape(report['date'])}. {_versions(report)}</p>",
        _goals(report),
        _summary(report),
        "<h2>How to read it</h2>",
        WORDS,
        "<h2>Workloads</h2>",
        *map(_result, report["results"]),
        _distribution(report),
        latency.section(report["latency"]) if report["latency"] else "",
        _roofline(report),
        _kernels(report),
        _scaling(report),
        _loading(report),
        f"<p class=note>{_limits_note(report)}</p>",
    ]
    return document("s2s_engine benchmarks", "".join(sections))


# --- parts ---


def _versions(report: dict[str, Any]) -> str:
    known = {name: v for name, v in report["software"].items() if v != "not installed"}
    return escape(", ".join(f"{name} {version}" for name, version in known.items()))


def _goals(report: dict[str, Any]) -> str:
    if not report["goals"]:
        return ""
    return "<h2>Goals</h2>" + table(verdicts.HEAD, map(verdicts.cells, report["goals"]))


def _profile(row: dict[str, Any]) -> str:
    """Folded away until it is asked for."""
    profile = row["profile"]
    if profile is None:
        return ""
    cells = [
        [
            label(node),
            time(node["us"]),
            f"{node['share']:.1%}",
            _optional(node["limit_us"], time),
            f"{node['limit_us'] / node['us']:.0%}" if node["limit_us"] and node["us"] else "-",
            _optional(node["above_us"], time),
        ]
        for node in profile["nodes"]
    ]
    head = ["node", "time", "of the decode", "limit", "limit / time", "above its limit"]
    note = (
        f"Medians over {profile['decodes']} decodes of {time(profile['decode_us'])}, once a "
        f"sentence or in all steps. Reading the clock, {profile['clock_ns']:.0f} ns each time, is "
        "taken off."
    )
    return (
        f"<details><summary>{escape(row['name'])}: {escape(most_left(profile))}</summary>"
        f"{table(head, cells)}<p class=note>{note}</p></details>"
    )


def _summary(report: dict[str, Any]) -> str:
    """One row a workload: the engine's time, its share of the limit, and its lead."""
    rows = []
    for result in report["results"]:
        for name, row in _engines(result):
            rivals = {r["rival"]: r for r in result["against"].get(name, [])}
            leads = [
                _lead(rivals[rival]) if rival in rivals else "-"
                for rival in (goals.EAGER, goals.FLOAT32, goals.ANY)
            ]
            rows.append(
                [_title(result), name.removeprefix("s2s_engine "), time(row["p50_us"]),
                 _share(row), *leads]
            )  # fmt: skip
    head = ["workload", "weights", "median", "limit / time", "faster than PyTorch eager",
            "than the fastest float32 peer", "than the fastest peer"]  # fmt: skip
    return "<h2>In short</h2>" + table(head, rows)


def _lead(rival: dict[str, Any]) -> str:
    goal = "" if rival["goal"] is None else f" (goal {rival['goal']:g})"
    return f"{rival['ratio']:.2f}x{goal}"


def _result(result: dict[str, Any]) -> str:
    bars = []
    for row in result["rows"]:
        low, high = row["ratio_quartiles"]
        base = row["p50_us"] / row["ratio"]
        kind = "peer" if row["peer"] else "core" if "core only" in row["name"] else "ours"
        text = f"{time(row['p50_us'])} ({row['ratio']:.2f})"
        bars.append(Bar(row["name"], row["p50_us"], text, kind, low * base, high * base))
    head = [
        "",
        "p50",
        "p90",
        "p99",
        "tokens/s",
        "time / engine (quartiles)",
        "equal ids",
        "limit / time",
    ]
    rows = [
        [
            row["name"],
            time(row["p50_us"]),
            time(row["p90_us"]),
            time(row["p99_us"]),
            f"{row['tokens_per_s']:,.0f}",
            "{:.2f} ({:.2f} to {:.2f})".format(row["ratio"], *row["ratio_quartiles"]),
            "all" if row["exact"] else f"{row['equal_ids']:.0%}",
            _share(row),
        ]
        for row in result["rows"]
    ]
    noisy = "" if result["quiet"] else (
        "<p class=noisy>Too few quiet blocks: figures are of all blocks and not to be quoted.</p>"
    )  # fmt: skip
    out = "".join(
        f"<p class=note>Left out: {escape(name)}: {escape(why)}.</p>"
        for name, why in result["left_out"].items()
    )
    return (
        f"<h3>{escape(_title(result))}</h3><p>{escape(result['what'])}. "
        f"{result['positions']:.0f} source positions, {result['steps']:.1f} steps; "
        f"{result['blocks']} blocks, {result['blocks_rejected']} rejected as noisy.</p>{noisy}"
        + figure(svg.bars(f"{_title(result)}: time of a decode", bars),
                  "Median time, shorter is faster; in brackets the time over the engine's.")
        + table(head, rows) + "".join(map(_profile, result["rows"])) + out
    )  # fmt: skip


def _distribution(report: dict[str, Any]) -> str:
    figures = []
    for result in report["results"]:
        name, row = _engines(result)[0]
        counts, low = row["histogram"]["counts"], row["histogram"]["from_us"]
        width = (row["histogram"]["to_us"] - low) / len(counts)
        if row["calls"] < 200 or not width:
            continue
        points = [(low + (n + 0.5) * width, float(count)) for n, count in enumerate(counts)]
        plot = svg.lines(
            f"{_title(result)}: how often a decode took how long",
            [Series(f"{_title(result)}, {name}", points, "measured")],
            x="microseconds", y="decodes", log_x=True, log_y=False, height=190,
        )  # fmt: skip
        above = row["histogram"]["above"]
        caption = f"{row['calls']} decodes, {above} of them further to the right."
        figures.append(figure(plot, caption))
    return "<h2>Latency</h2>" + "".join(figures) if figures else ""


def _roofline(report: dict[str, Any]) -> str:
    one = next((m for m in report["limits"]["machines"] if m["threads"] == 1), None)
    if one is None or not report["kernels"]:
        return ""
    near = max(rate for size, rate in one["read"] if 1 << 18 <= size <= 1 << 20)
    far = one["read"][-1][1]
    span = [2.0**power for power in range(-2, 9)]
    roofs = [
        Series(name, [(x, min(x * rate, one["gflops"])) for x in span], kind)
        for name, rate, kind in (
            (f"limit, second cache ({near:.0f} GB/s)", near, "limit"),
            (f"limit, memory ({far:.0f} GB/s)", far, "predicted"),
        )
    ]
    points = [
        (k["operations"] / k["bytes"], k["operations"] / k["ns"])
        for k in report["kernels"]
        if k["group"].startswith(("product", "recurrent"))
    ]
    plot = svg.lines(
        "Roofline of the product kernels",
        [*roofs, Series("kernels", points, "measured", line=False)],
        x="operations per byte read", y="GFLOP/s",
    )  # fmt: skip
    return "<h2>Roofline</h2>" + figure(
        plot, "Each dot is a kernel at one size. Left of the bend reading is the limit, right of "
        "it multiplying; a dot on the line of its cache is as fast as the machine."
    )  # fmt: skip


def _kernels(report: dict[str, Any]) -> str:
    if report["kernels_left_out"]:
        return f"<h2>Kernels</h2><p class=note>Left out: {escape(report['kernels_left_out'])}.</p>"
    rows = [
        [f"{k['group']}: {k['name']}", time(k["ns"] / 1e3), f"{k['bytes'] / k['ns']:.1f}",
         f"{k['operations'] / k['ns']:.1f}", f"{k['share']:.0%}"]
        for k in report["kernels"]
    ]  # fmt: skip
    return "<h2>Kernels</h2><p>The parts that a decode is made of, one thread.</p>" + table(
        ["", "time", "GB/s", "GFLOP/s", "limit / time"], rows
    )


def _scaling(report: dict[str, Any]) -> str:
    if not report["scaling"]:
        return ""
    parts = [
        "<h2>Scaling</h2><p>One size at a time is varied of an LSTM of 256 units with attention, "
        "1000 words, 20 in, 20 out. The prediction adds up bytes and operations at the rates that "
        "the product kernels reach, and what calls and steps take by themselves; the limit takes "
        "the machine's rates, and bytes and operations alone.</p>"
        f"<p>{escape(text.fixed(report))}</p>"
    ]
    lines: list[tuple[str, str, str]] = [
        ("measured", "us", "measured"),
        ("predicted", "predicted_us", "predicted"),
        ("limit of the machine", "limit_us", "limit"),
    ]
    for sweep in report["scaling"]:
        series = [
            Series(label, [(p["value"], p[key]) for p in sweep["points"] if p[key]], kind)
            for label, key, kind in lines
        ]
        title = f"Time against {sweep['name']}"
        plot = svg.lines(
            title, [one for one in series if one.points], x=sweep["unit"], y="us", height=260
        )
        rows = [
            [str(p["value"]), time(p["us"]), _optional(p["predicted_us"], time),
             _optional(p["deviation"], lambda d: f"{d:+.0%}"), _optional(p["limit_us"], time)]
            for p in sweep["points"]
        ]  # fmt: skip
        listed = table([sweep["unit"], "time", "predicted", "deviation", "limit"], rows)
        noisy = "" if sweep["quiet"] else " Too few quiet blocks."
        parts.append(f"<h3>{escape(title)}</h3>{figure(plot, noisy)}{listed}")
    return "".join(parts)


def _loading(report: dict[str, Any]) -> str:
    note = "From a file, medians of processes of their own; weights in the types of their products."
    listed = table(verdicts.LOADING, verdicts.loaded(report["loading"]))
    return f"<h2>Loading</h2><p>{note}</p>{listed}"


def _limits_note(report: dict[str, Any]) -> str:
    return escape(text.limit(report))


# --- pieces ---


def _engines(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (row["name"], row)
        for row in result["rows"]
        if not row["peer"] and "core only" not in row["name"]
    ]


def _title(result: dict[str, Any]) -> str:
    key, threads = str(result["key"]), result["threads"]
    return key + (f", {threads} threads" if threads > 1 else "")


def _share(row: dict[str, Any]) -> str:
    return "-" if row["limit_us"] is None else f"{row['limit_us'] / row['p50_us']:.0%}"


def _optional(value: Any, text: Callable[[Any], str]) -> str:
    return "-" if value is None else str(text(value))
