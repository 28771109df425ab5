"""The benchmark suite's own logic: statistics, noise, predictions, comparison, the page. Never a
time: clocks are replaced, and reports are made by hand."""

from __future__ import annotations

import copy
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import s2s_engine
from s2s_engine import Engine, InputError, ModelBuilder
from s2s_engine.bench import (
    compare,
    contenders,
    cost,
    goals,
    limits,
    loading,
    measure,
    options,
    page,
    run,
    scaling,
    svg,
    text,
    verdicts,
)
from s2s_engine.bench.measure import Contender
from s2s_engine.bench.workloads import (
    Workload,
    gru_model,
    luong_model,
    random_ids,
    workload,
    workloads,
)

# --- workloads ---


def test_workloads_make_exactly_their_steps_and_are_not_degenerate() -> None:
    for made in workloads(["w1", "w2"]):
        with Engine.load(made.model) as engine:
            found = [engine.decode(x, beam_size=made.beam).ids for x in made.inputs]
        assert {len(ids) for ids in found} == {made.model.generation["max_length"]}
        assert len({tuple(ids) for ids in found}) > 0.8 * len(found), "sources differ"
        assert np.mean([len(set(ids)) for ids in found]) > 4


def test_large_workloads_are_those_of_the_page() -> None:
    greedy, beam, batch = workloads(["w3"])
    assert (greedy.beam, beam.beam, batch.beam, batch.batch) == (1, 5, 5, 32)
    assert greedy.model is beam.model is batch.model
    assert {len(source) for source in batch.sources} == {25}
    assert greedy.model.generation["max_length"] == 25 and not greedy.model.end
    step = cost.stages(greedy.model, positions=25, steps=25)[-1]
    # the readout multiplies the state alone: the context half is folded into the memory
    weights = 4 * 512 * (1024 + 512) + 4 * 512 * 1024 + 512 * 512 + 32000 * 512
    assert step.bytes == 4 * (weights + 25 * 1024) and step.times == 25
    # a screened output layer: a byte a weight at each step, in float32 at every 32nd
    output = greedy.model.graphs["decoder"].nodes[-1].weights["weight"]
    for steps, times in ((25, 1), (33, 2)):
        sizes = {"positions": 25, "steps": steps, "screened": [output]}
        *_, deferred, screened = cost.stages(greedy.model, **sizes)
        assert screened.bytes == step.bytes - 3 * 512 * 32000
        assert screened.int8_multiply_adds == 512 * 32000
        assert screened.multiply_adds == step.multiply_adds - 512 * 32000
        assert (deferred.times, deferred.bytes) == (times, 4 * 512 * 32000)
        assert deferred.times * deferred.multiply_adds == steps * 512 * 32000
        *_, five = cost.stages(greedy.model, beam=5, **sizes)
        assert five.int8_multiply_adds == 0


def test_weights_are_of_a_fixed_seed() -> None:
    one, other = gru_model(30, 74), gru_model(30, 74)
    assert all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


# --- what a decode costs ---


def test_cost_of_w1_by_hand() -> None:
    """Both embeddings are folded: only recurrent weights and the output layer are read."""
    model = gru_model(30, 74)
    encoder, decoder = cost.stages(model, positions=8, steps=8)
    recurrent = 768 * 256
    assert (encoder.times, encoder.bytes) == (7, 4 * recurrent)  # the first state is zero
    assert encoder.multiply_adds == recurrent + 3 * 256 * cost.ACTIVATION
    assert decoder.bytes == 4 * (recurrent + 74 * 256)
    assert decoder.multiply_adds == (
        recurrent + 74 * 256 + 3 * 256 * cost.ACTIVATION + 74 * cost.ACTIVATION
    )


def test_a_beam_multiplies_operations_and_not_weights() -> None:
    model = gru_model(30, 74)
    one = cost.stages(model, positions=8, steps=8)[-1]
    five = cost.stages(model, positions=8, steps=8, beam=5)[-1]
    assert five.bytes == one.bytes and five.multiply_adds == 5 * one.multiply_adds


def test_compute_types_change_bytes() -> None:
    model = gru_model(30, 74)
    sizes = {
        type_: cost.stages(model, positions=8, steps=8, types=dict.fromkeys(model.tensors, type_))
        for type_ in ("float32", "bfloat16", "int8")
    }
    assert sizes["float32"][-1].bytes == 4 * sizes["int8"][-1].bytes
    assert sizes["bfloat16"][-1].bytes == 2 * sizes["int8"][-1].bytes


def test_float32_weights_that_bfloat16_holds_cost_two_bytes() -> None:
    model = gru_model(30, 74)
    rounded = {
        n: (a.view(np.uint32) & 0xFFFF0000).view(np.float32) for n, a in model.tensors.items()
    }
    narrow = cost.stages(replace(model, tensors=rounded), positions=8, steps=8)
    assert 2 * narrow[-1].bytes == cost.stages(model, positions=8, steps=8)[-1].bytes


MACHINE = cost.Machine({1 << 20: 100.0, 1 << 22: 50.0}, 200.0, 800.0)


def test_bandwidth_lies_between_measured_sizes() -> None:
    assert MACHINE.bandwidth(1 << 10) == 100.0
    assert MACHINE.bandwidth(1 << 21) == pytest.approx(75.0)
    assert MACHINE.bandwidth(1 << 30) == 50.0


def test_a_stage_takes_the_longer_of_reading_and_multiplying() -> None:
    reads = cost.Stage("", 3, 1e9, 1e9, 1)
    assert cost.seconds(reads, MACHINE) == pytest.approx(3 * 0.01)
    multiplies = cost.Stage("", 3, 1e9, 1e10, 1)
    assert cost.seconds(multiplies, MACHINE) == pytest.approx(3 * 0.1)
    assert cost.limit([reads, multiplies], MACHINE) == pytest.approx(0.33)
    of_bytes = cost.Stage("", 3, 1e9, 0, 1, 1e10)
    assert cost.limit([of_bytes], MACHINE) == pytest.approx(3 * 0.025)
    assert cost.limit([reads, of_bytes], replace(MACHINE, int8=None)) is None, "not a limit"


def test_products_of_bytes_are_counted_apart() -> None:
    model = luong_model(hidden=64, embedding=8, layers=1, vocabulary=20, steps=4)
    types = {name: "int8" for name in model.tensors if name.endswith("weight_hh")}
    given = {"positions": 8, "steps": 8, "beam": 5}
    wide, mixed = cost.stages(model, **given)[-1], cost.stages(model, **given, types=types)[-1]
    assert mixed.int8_multiply_adds == 5 * 256 * 64
    assert mixed.multiply_adds == wide.multiply_adds - mixed.int8_multiply_adds
    assert mixed.bytes == wide.bytes - 3 * 256 * 64


def test_what_is_folded_is_multiplied_once_a_sentence() -> None:
    """The context half of the readout, 64 of its 128 columns, and the cell's embedding."""
    model = luong_model(hidden=64, embedding=8, layers=1, vocabulary=20, steps=4)
    *sentence, step = cost.stages(model, positions=8, steps=4)
    read = 256 * 64 + 256 * 64 + 64 * 64 + 20 * 64
    assert step.bytes == 4 * (read + 8 * (64 + 64))
    acts = 64 + 1 * 8 + 5 * 64 + 20
    assert step.multiply_adds == read + 8 * 128 + acts * cost.ACTIVATION
    folded = [stage for stage in sentence if stage.name == "linear"]
    assert (folded[-1].bytes, folded[-1].multiply_adds) == (4 * 64 * 64, 8 * 64 * 64)


# --- measuring ---


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock that turns move by hand: its only item is the time in nanoseconds."""
    now = [0]
    monkeypatch.setattr(measure, "Clock", lambda: now[0])
    monkeypatch.setattr(measure, "CpuClock", lambda: now[0])
    return now


def advancing(clock: list[int], name: str, took: int, seen: list[str]) -> Contender:
    def turn(number: int) -> None:
        seen.append(name)
        clock[0] += took

    return Contender(name, turn)


def test_blocks_interleave_and_their_order_rotates(
    clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "calibration", lambda: lambda: 100)
    seen: list[str] = []
    three = [advancing(clock, name, 10_000, seen) for name in "abc"]
    measure.measure(three, 2, blocks=4, block_ms=0.04)
    assert {contender.calls for contender in three} == {4}
    assert all([len(block) for block in c.times] == [4] * 4 for c in three)
    order = [name for n, name in enumerate(seen) if n == 0 or seen[n - 1] != name]
    assert "".join(order[3:]) == "abcbcacababc"
    assert {time for c in three for block in c.times for time in block} == {10_000}
    assert {share for c in three for share in c.shares} == {1.0}


def test_no_block_begins_after_the_time_is_up(clock: list[int]) -> None:
    contender = advancing(clock, "a", 10_000, [])
    assert len(measure.measure([contender], 1, blocks=50, block_ms=0.01, seconds=0)) == 3


def test_noisy_blocks_are_rejected_and_counted() -> None:
    calm, noisy = [100, 101, 99], [100, 126, 100]
    found = measure.kept([calm, noisy, calm, calm, calm, noisy, calm])
    assert found == measure.Kept([0, 2, 3, 4, 6], 2, True)


def test_blocks_in_which_another_program_had_the_processor_are_rejected() -> None:
    calm = [[100, 100]] * 7
    alone = Contender("alone", print, alone=True, shares=[1, 0.95, 0.5, 1, 1, 1, 1])
    waits = Contender("waits for a team", print, shares=[0.6, 0.6, 0.6, 0.58, 0.6, 0.4, 0.6])
    assert measure.kept(calm, [alone]).blocks == [0, 1, 3, 4, 5, 6]
    assert measure.kept(calm, [waits]).blocks == [0, 1, 2, 3, 4, 6]
    assert measure.kept(calm, [alone, waits]) == measure.Kept([0, 1, 3, 4, 6], 2, True)
    always = Contender("never alone", print, alone=True, shares=[0.5] * 7)
    assert not measure.kept(calm, [always]).quiet


def test_too_few_quiet_blocks_are_said_to_be_noisy() -> None:
    found = measure.kept([[100, 100], [100, 300], [100, 30], [100, 100]])
    assert found == measure.Kept([0, 1, 2, 3], 2, False)


def test_ratios_are_taken_block_by_block() -> None:
    """The machine slows down by a factor of ten; the ratio is two all along."""
    base = Contender("base", print, times=[[10, 10, 11], [100, 100, 90], [20, 20, 20]])
    other = Contender("other", print, times=[[20, 20, 19], [200, 200, 999], [40, 40, 40]])
    assert measure.ratios(other, base, [0, 1, 2]) == (2.0, 2.0, 2.0)
    row = measure.row(other, base, [0, 2])
    assert row["ratio"] == 2.0 and row["calls"] == 6
    assert row["p50_us"] == pytest.approx(0.03)


def test_a_histogram_counts_all_but_the_tail() -> None:
    times = [list(range(1000, 1100)), [50_000]]
    found = measure.histogram(Contender("a", print, times=times), [0, 1], bins=10)
    assert sum(found["counts"]) == 100 and found["from_us"] == 1.0 and found["above"] == 1


# --- who decodes ---


def small() -> Workload:
    model = luong_model(hidden=8, embedding=8, layers=1, vocabulary=20, steps=4)
    return workload("small", "a small model", model, random_ids(20, 3, 4))


def test_types_that_are_not_built_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load: Callable[..., Engine] = Engine.load

    def partly(*arguments: Any, compute_type: str, **more: Any) -> Engine:
        if compute_type != "float32":
            raise NotImplementedError
        return load(*arguments, **more)

    monkeypatch.setattr(Engine, "load", staticmethod(partly))
    made = contenders.line_up(small(), 1, ["marian"])
    names = [one.contender.name for one in made.all]
    assert names == ["s2s_engine float32", "s2s_engine float32, core only"]
    assert set(made.left_out) == {"s2s_engine bfloat16", "s2s_engine int8", "marian"}
    assert contenders.check(small(), made)["s2s_engine float32"] == 1.0
    made.close()


def test_an_unequal_answer_ends_the_run() -> None:
    made = contenders.line_up(small(), 1, [])
    wrong = replace(made.all[0], answer=lambda number: [[1, 2, 3, 4]])
    made.all.append(replace(wrong, contender=Contender("liar", print), peer=True))
    with pytest.raises(contenders.Unequal, match=r"source 0: liar gives \[1, 2, 3, 4\]"):
        contenders.check(small(), made)
    made.all[-1] = replace(made.all[-1], exact=False)
    assert contenders.check(small(), made)["liar"] < 1.0
    made.close()


def test_equal_share_counts_positions_of_the_longer_answer() -> None:
    assert contenders.equal_share([[1, 2, 3]], [[1, 2, 3]]) == 1.0
    assert contenders.equal_share([[1, 2, 9], [5]], [[1, 2, 3], [5, 6]]) == 3 / 5


def test_peers_of_a_kind_are_named_by_their_time() -> None:
    def entry(name: str, took: int, exact: bool, peer: bool) -> contenders.Answering:
        contender = Contender(name, print, times=[[took], [took]])
        return contenders.Answering(contender, lambda number: [], exact, peer)

    field = [
        entry("s2s_engine float32", 100, True, False),
        entry("pytorch eager", 500, True, True),
        entry("onnx", 200, True, True),
        entry("onnx int8", 150, False, True),
    ]
    found = run.against(field, [0, 1])["s2s_engine float32"]
    assert [(f["name"], f["ratio"]) for f in found] == [
        ("pytorch eager", 5.0), ("onnx", 2.0), ("onnx int8", 1.5)
    ]  # fmt: skip


def test_goals_are_of_workloads_searches_types_and_threads_that_exist() -> None:
    keys = {made.key for made in workloads(["w1", "w2"])}
    assert keys == {key for key in goals.GOALS if key.startswith(("w1", "w2"))}
    assert goals.goal("w1, greedy", "float32", goals.FLOAT32, 1) == 2.6
    assert goals.goal("w1, greedy", "int8", goals.ANY, 2) == 12
    assert goals.goal("w1, greedy", "float32", goals.ANY, 1) is None
    assert goals.goal("shipped, greedy", "int8", goals.ANY, 1) is None


# --- the machine's limit ---

PRINTED = {
    "isa": "avx2",
    "limits": [{"threads": 1, "read": [[1048576, 100.0]], "gflops": 50.0, "int8_gops": 0.0}],
    "kernels": [
        {"group": "product of 1 row", "name": "a", "bytes": 1000, "operations": 500, "ns": 20.0,
         "read_gb_per_s": 100.0, "peak_gflops": 50.0, "limit_ns": 10.0, "share": 0.5},
        {"group": "product of 64 rows", "name": "b", "bytes": 1000, "operations": 4000,
         "ns": 60.0, "read_gb_per_s": 100.0, "peak_gflops": 50.0, "limit_ns": 80.0, "share": 1.3},
    ],
}  # fmt: skip


def test_rates_that_kernels_reach_are_shares_of_the_machines() -> None:
    found = limits.parsed(copy.deepcopy(PRINTED))
    machine = found.machines[1]
    assert machine.int8 is None
    reached = found.reached(1)
    assert reached is not None and reached.read == {1048576: 50.0}
    assert reached.fma == 50.0, "a share above one is noise"
    assert replace(found, kernels=[]).reached(1) is machine
    assert found.reached(2) is None
    assert found.as_json()["machines"][0]["read"] == [[1048576, 100.0]]


def test_without_the_program_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIZES", (1 << 15, 1 << 17))
    found = limits.by_engine()
    assert limits.unknown().machines == found.machines == {} and found.reached(2) is None
    rates = found.reached(1)
    assert rates is not None and set(rates.read) == {1 << 15, 1 << 17}
    assert min(rates.read.values()) > 0 and rates.fma > 0 and rates.int8 is None
    assert "not built" in text.limit({"limits": found.as_json()})


# --- reports ---


def report(*, p50: float = 100.0, quiet: bool = True, cpu: str = "A <CPU>") -> dict[str, Any]:
    row = {
        "name": "s2s_engine float32", "peer": False, "exact": True, "p50_us": p50, "p90_us": p50,
        "p99_us": 2 * p50, "calls": 500, "ratio": 1.0, "ratio_quartiles": [1.0, 1.0],
        "tokens_per_s": 1e4, "equal_ids": 1.0, "limit_us": 50.0,
        "histogram": {"from_us": 90.0, "to_us": 200.0, "counts": [5, 1, 2], "above": 3},
        "profile": {"decodes": 48, "decode_us": p50, "clock_ns": 20.6, "nodes": [
            {"node": "decoder.cell<1>", "when": "step", "us": 60.0, "share": 0.6,
             "limit_us": 45.0, "above_us": 15.0},
            {"node": "decoder.readout", "when": "sentence", "us": 8.0, "share": 0.08,
             "limit_us": 2.0, "above_us": 6.0},
            {"node": "search", "when": "", "us": 1.5, "share": 0.015, "limit_us": 0.0,
             "above_us": 1.5}]},
    }  # fmt: skip
    rival = {"rival": goals.FLOAT32, "name": "peer & co", "ratio": 2.5, "quartiles": [2, 3],
             "goal": 2.6, "floor": 2.4}  # fmt: skip
    peer = {**row, "name": "peer & co", "peer": True, "exact": False, "equal_ids": 0.5,
            "p50_us": 250.0, "limit_us": None, "profile": None, "ratio": 2.5}  # fmt: skip
    result = {
        "workload": "w1", "search": "greedy", "key": "w1, greedy", "what": "a <b>model</b>",
        "threads": 1, "beam": 1, "batch": 1, "positions": 8.0, "steps": 8.0, "blocks": 60,
        "blocks_rejected": 3, "quiet": quiet, "left_out": {"x": "it is <not> there"},
        "rows": [row, peer], "against": {row["name"]: [rival]},
    }  # fmt: skip
    point = {"value": 5, "us": 10.0, "predicted_us": 9.0, "limit_us": 8.0, "deviation": 1 / 9,
             "within": True}  # fmt: skip
    far = {**point, "value": 10, "us": 20.0, "deviation": 0.5, "within": False}
    return {
        "schema": run.SCHEMA,
        "options": asdict(options.Options()),
        "machine": {"cpu": cpu, "cpus": 2, "isa": "avx2", "system": "x"},
        "software": {"python": "3", "torch": "not installed"},
        "date": "today",
        "load_average": 0.5,
        "limits": limits.parsed(copy.deepcopy(PRINTED)).as_json(),
        "kernels": copy.deepcopy(PRINTED["kernels"]),
        "kernels_left_out": None,
        "results": [result],
        "goals": verdicts.table([result]),
        "latency": None,
        "loading": {
            "w1": {
                "float32": {"load_ms": 5.0, "resident_bytes": 1300, "weight_bytes": 1000},
                "int8": {"load_ms": 4.9, "resident_bytes": 1311, "weight_bytes": 1000},
            },
            "mine": {"int8": {"load_ms": 7.0, "resident_bytes": None, "weight_bytes": 1000}},
        },
        "fixed": {"call": 3.5, "sentence": 4.1, "position": 0.21, "step": 0.51, "hypothesis": 0.4},
        "scaling": [
            {"name": "beam", "unit": "hypotheses", "points": [point, far], "quiet": quiet,
             "blocks_rejected": 0}
        ],
    }  # fmt: skip


class Balanced(HTMLParser):
    """Every tag that is opened is closed in its order; collects names, attributes and text."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_well_formed() -> None:
    made = page.page(report())
    parser = Balanced()
    parser.feed(made)
    assert not parser.open
    assert not parser.tags & {"script", "link", "img", "iframe", "object", "b>model"}
    assert not parser.attributes & {"src", "href", "srcset", "onload"}
    assert not any(word in made for word in ("http:", "https:", "url(", "@import"))
    assert parser.tags >= {"svg", "table", "h1", "details", "summary"}
    for shown in (
        "A <CPU>",
        "a <b>model</b>",
        "it is <not> there",
        "peer & co",
        "2.50x (goal 2.6)",
        "between floor and goal",
        "decoder.cell<1> (15.0 us above its limit), decoder.readout (once a sentence) (6.0 us",
        "Reading the clock, 21 ns each time",
        "+11%",
    ):
        assert shown in parser.text


def test_loads_stand_beside_their_goals() -> None:
    assert verdicts.loaded(report()["loading"]) == [
        ["w1", "float32", "5.0", "below 5: not reached", "0.0", "1.30", "at most 1.3: reached"],
        ["w1", "int8", "4.9", "below 5: reached", "0.0", "1.31", "at most 1.3: not reached"],
        ["mine", "int8", "7.0", "-", "-", "-", "-"],
    ]
    for made in (text.whole(report()), page.page(report())):
        assert "at most 1.3: not reached" in made and "below 5: reached" in made


def test_weights_are_counted_in_the_types_of_their_products() -> None:
    types = {"a": "int8", "b": "bfloat16", "c": "float32"}
    assert loading.weight_bytes({"a": (3, 5), "b": (2, 2), "c": (7,)}, types) == 15 + 8 + 28


def test_a_load_is_measured_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "PROCESSES", 1)
    model = gru_model(30, 74, hidden=32)
    found = loading.measured(model, "int8")
    shapes = {name: array.shape for name, array in model.tensors.items()}
    types = Engine.load(model, compute_type="int8").info.compute_types
    assert found["weight_bytes"] == loading.weight_bytes(shapes, types)
    assert found["load_ms"] > 0


def test_the_page_says_what_is_noisy_and_what_is_missing() -> None:
    bare = {**report(quiet=False), "kernels": [], "kernels_left_out": limits.HOW, "scaling": []}
    made = page.page(bare)
    assert "not to be quoted" in made and "DS2S_BENCHMARKS=ON" in made
    assert "not to be quoted" not in page.page(report())


def test_the_table_has_every_row_and_marks_points_that_are_off() -> None:
    made = text.whole(report())
    for shown in (
        "as fast as the fastest float32 peer, peer & co; the goal is 2.6: not reached; the floor "
        "2.4: above it; 50% of the limit; most of what is left: decoder.cell<1> (15.0 us above "
        "its limit), decoder.readout (once a sentence) (6.0 us above its limit)",
        "by node: decoder.cell<1> 60.0 us (60%, limit/time 75%); decoder.readout (once a sentence)",
        "3 rejected as noisy",
        "more than 25 % away",
        "a call takes 3.5 us, each further sentence of it 4.1",
        "product of 64 rows: b",
    ):
        assert shown in made
    assert "NOISY" not in made and "NOISY" in text.whole(report(quiet=False))


def test_what_no_byte_takes_is_found_from_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose times are such a sum gives its terms back; a term below zero is noise."""
    true = scaling.Fixed(call=3.0, sentence=4.0, position=0.25, step=0.5, hypothesis=0.375)

    def timed(points: dict[str, scaling.Point]) -> tuple[dict[str, float], None]:
        return {key: true.of(point) for key, point in points.items()}, None

    monkeypatch.setattr(scaling, "_timed", timed)
    assert asdict(scaling.fixed()) == pytest.approx(asdict(true))
    two = scaling.Point(source=7, output=9, beam=2, batch=5, threads=2)
    assert true.of(two) == pytest.approx(3 + 4 * 2 + 0.25 * 7 + 0.5 * 9 + 0.375 * 9 * 5)
    true = replace(true, sentence=-4.0)
    assert scaling.fixed().sentence == 0.0


def test_a_prediction_is_the_roofline_and_what_no_byte_takes() -> None:
    point = scaling.Point(source=3, output=2, hidden=8, vocabulary=32)
    machine = cost.Machine({1 << 20: 10.0}, 5.0)
    known = limits.Limits("a test", {1: machine})
    with Engine.load(point.model()) as engine:
        bare = scaling.predict(point, engine, machine)
        found = scaling._expected(point, engine, known, scaling.Fixed(5.0, 0.0, 0.0, 1.0, 0.0))
        unknown = scaling._expected(point, engine, limits.unknown(), scaling.Fixed(*5 * [1.0]))
    assert bare is not None and found == (pytest.approx(bare + 7.0), bare)
    assert unknown == (None, None)


def test_bars_are_as_long_as_their_values() -> None:
    drawn = svg.bars("t", [svg.Bar("a", 10, "10", "ours"), svg.Bar("b", 5, "5", "peer")])
    widths = [float(part.split('"')[1]) for part in drawn.split(" width=")[1:]]
    assert widths[0] == 2 * widths[1]


@pytest.mark.parametrize(
    ("values", "log", "expected"),
    [([1, 80], True, [1, 2, 5, 10, 20, 50]), ([0, 7], False, [0, 1, 2, 3, 4, 5, 6, 7])],
)
def test_ticks_are_round_numbers(values: list[float], log: bool, expected: list[float]) -> None:
    assert svg._ticks(values, log) == pytest.approx(expected)


# --- what became slower ---


def test_a_loss_past_the_limit_is_found() -> None:
    found, noisy = compare.changes(report(), report(p50=111.0))
    assert [(change.name, round(change.loss, 6)) for change in found] == [
        ("s2s_engine float32", 0.11)
    ]
    assert not noisy
    assert compare.too_slow(found, 0.10) == found and not compare.too_slow(found, 0.12)
    assert "slower by more than 10%" in text.change(found[0], 0.1)


def test_reports_from_before_profiles_and_goals_are_compared() -> None:
    old = report()
    for name in ("goals", "latency"):
        del old[name]
    for row in old["results"][0]["rows"]:
        del row["profile"]
    found, noisy = compare.changes(old, report(p50=150.0))
    assert [round(change.loss, 6) for change in found] == [0.5] and not noisy


def test_peers_and_noisy_runs_are_not_compared() -> None:
    two = report()
    two["results"].append({**copy.deepcopy(two["results"][0]), "key": "w2", "quiet": False})
    found, noisy = compare.changes(two, two)
    assert [change.name for change in found] == ["s2s_engine float32"]
    assert noisy == ["w2, threads 1"]
    with pytest.raises(compare.Incomparable, match="quiet in both"):
        compare.changes(report(quiet=False), report())


def test_times_of_two_machines_are_not_compared() -> None:
    with pytest.raises(compare.Incomparable, match="cpu was 'other'"):
        compare.changes(report(cpu="other"), report())
    with pytest.raises(compare.Incomparable, match="schema None"):
        compare.changes({}, report())


@pytest.mark.parametrize(("given", "loss"), [("10%", 0.1), ("0.1", 0.1), ("0", 0.0)])
def test_losses_are_shares_or_percents(given: str, loss: float) -> None:
    assert compare.parse_loss(given) == pytest.approx(loss)


@pytest.mark.parametrize("given", ["-1%", "x", "", "5000%", "nan"])
def test_other_losses_are_refused(given: str) -> None:
    with pytest.raises(ValueError):
        compare.parse_loss(given)


def test_exit_codes_of_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    compared = importlib.import_module("s2s_engine.bench.__main__").compared
    assert compared(report(), report(p50=105.0), 0.1) == 0
    assert compared(report(), report(p50=120.0), 0.1) == 1
    assert "100.0 -> 120.0 us (+20.0%)  slower by more than 10%" in capsys.readouterr().out
    assert compared(report(cpu="other"), report(), 0.1) == 1
    assert "nothing to compare: cpu was 'other'" in capsys.readouterr().err


def test_unequal_answers_end_with_one_and_without_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module("s2s_engine.bench.__main__")

    def unequal(*arguments: object) -> None:
        raise contenders.Unequal("ids differ")

    monkeypatch.setattr(module, "run", unequal)
    monkeypatch.chdir(tmp_path)
    assert module.main(json.dumps(asdict(options.Job()))) == 1
    assert "ids differ" in capsys.readouterr().err and not list(tmp_path.iterdir())


# --- the command ---


def test_command_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    from s2s_engine import cli

    for arguments, said in (
        (["--peers", "numpy,tensorflow"], "'tensorflow', must be all, or some of numpy, torch"),
        (["--workload", "w9"], "--workload is 'w9', must be w1, w2"),
        (["--workload", "g2p_en"], "needs --g2p-en"),
        (["--loss", "much"], "--loss is 'much', must be like 10%"),
        (["nowhere.safetensors"], "MODEL is 'nowhere.safetensors', which does not exist"),
        (["--compare", "nowhere.json"], "--compare is 'nowhere.json', which does not exist"),
        (["--latency", "nowhere.json"], "--latency is 'nowhere.json', which does not exist"),
    ):
        assert cli.run(["bench", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_a_model_of_ones_own_from_file_to_page(tmp_path: Path) -> None:
    """The whole suite in its own process, the fewest blocks, without the kernels' program."""
    pytest.importorskip("typer")
    path = tmp_path / "mine.safetensors"
    gru_model(12, 12, hidden=8).save(path)
    few = ["--blocks", "5", "--block-ms", "1", "--no-scaling", "--peers", "numpy"]
    done = subprocess.run(
        [sys.executable, "-m", "s2s_engine", "bench", str(path), *few],
        cwd=tmp_path, capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "benchmarks.json").read_text())
    assert [result["key"] for result in made["results"]] == ["mine, greedy", "mine, beam 5"]
    greedy, beam = made["results"]
    assert "numpy" in [row["name"] for row in greedy["rows"]]
    assert "greedy" in beam["left_out"]["numpy"]
    assert made["kernels_left_out"] == limits.HOW
    assert "mine, beam 5" in (tmp_path / "benchmarks.html").read_text()
    assert "mine, beam 5" in done.stdout


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != limits.VARIABLE}
    return {**kept, "PYTHONPATH": str(Path(s2s_engine.__file__).parents[1])}


def test_a_model_without_a_decoder_is_refused(tmp_path: Path) -> None:
    m = ModelBuilder(source=9)
    m.encoder.output(logits=m.encoder.embedding(m.encoder.tokens, np.ones((9, 4), np.float32)))
    path = tmp_path / "labels.safetensors"
    m.build().save(path)
    with pytest.raises(InputError, match="bench takes models with an encoder of ids and a decoder"):
        run.chosen(options.Options(model=str(path)))


# --- what calls cost ---


def output_of(benchmark: str, *arguments: str) -> str:
    """What `python -m benchmarks.NAME` prints of this package."""
    root = Path(__file__).parents[1]
    if not (root / "benchmarks" / f"{benchmark}.py").exists():
        pytest.skip("benchmarks are not in this tree")
    package = str(Path(s2s_engine.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments],
        cwd=root, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": package},
    )  # fmt: skip
    if "the system gives no counters" in done.stderr:
        pytest.skip("this system gives a process no counters")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_benchmark_of_calls_runs() -> None:
    found = output_of("pipeline", "--rounds", "1")
    for figure in ("prepared options", "keywords", "W2, beam 5: of a step", "decode_batch, 64"):
        assert figure in found


def test_the_processor_counts_a_decode() -> None:
    printed = output_of("counters", "--types", "int8", "--rounds", "3")
    lines = [line.rsplit(maxsplit=1) for line in printed.splitlines() if line[:1] == " "]
    found = {name.strip(): int(count.replace(",", "")) for name, count in lines}
    assert found["instructions"] > 25_000  # 16 products of 196 KB by registers of 64 bytes at most
    assert found["cycles"] > found["mispredicted branches"] >= 0
