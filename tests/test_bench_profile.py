"""Where the time of a decode goes, node by node: that every node is in a profile once, that the
clock changes no bit, and what reports make of given numbers. Never a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from s2s_engine import Engine, InputError, Model, demo_model
from s2s_engine import _core as core
from s2s_engine.bench import contenders, cost, goals, limits, options, profile, run, text, verdicts
from s2s_engine.bench.workloads import (
    Workload,
    bahdanau_model,
    gru_model,
    luong_model,
    random_ids,
    workload,
)
from s2s_engine.format import read

PARTS = {"begin", "states", "rank", "search"}
MODELS = {
    "gru": lambda: gru_model(20, 30, hidden=16),
    "luong": lambda: luong_model(hidden=64, embedding=8, layers=2, vocabulary=40, steps=6),
    "bahdanau": lambda: bahdanau_model(hidden=8, embedding=8, readout=8, vocabulary=40, steps=6),
    "shipped": lambda: read(demo_model()),
}
each_model = pytest.mark.parametrize("model", [make() for make in MODELS.values()], ids=[*MODELS])


def small(batch: int = 1, beam: int = 1) -> Workload:
    model = luong_model(hidden=8, embedding=8, layers=1, vocabulary=20, steps=4)
    sources = random_ids(20, 3 * batch, 4)
    return workload("small", "a small model", model, sources, batch=batch, beam=beam)


@pytest.fixture
def screening(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output layers of every size are screened."""
    made = core.Model
    monkeypatch.setattr(core, "Model", lambda *given, **_: made(*given, screen_from=0))


def bits(hypotheses: Sequence[Any]) -> list[Any]:
    return [(ids, log_probs.tobytes(), *rest[:3]) for ids, log_probs, *rest in hypotheses]


def profiled(
    engine: Engine, sources: list[list[int]], beam: int, threads: int = 1
) -> dict[str, Any]:
    """With the results of each source held against an ordinary decode's, before and after."""
    session, request = engine._session(threads), core.Request(beam, beam)
    before = [session.decode([x], request, 6).hypotheses for x in sources]
    found = session.profile([[x] for x in sources], request, [6] * len(sources))
    after = [session.decode([x], request, 6).hypotheses for x in sources]
    clocked = [result.hypotheses for result in found.pop("results")]
    assert [*map(bits, before)] == [*map(bits, clocked)] == [*map(bits, after)]
    engine._give(session)
    return found


# --- the clock in the core ---


def check_names(engine: Engine, found: dict[str, Any]) -> None:
    """Every node that runs is there, once for each time that it is made in."""
    keys = [(name, when) for name, when, _ in found["nodes"]]
    assert len(set(keys)) == len(keys)
    model = engine._model
    known = {f"{role}.{node.name}" for role, graph in model.graphs.items() for node in graph.nodes}
    keys = [(node, when) for name, when in keys for node in name.split(profile.SIDE_BY_SIDE)]
    assert {name for name, _ in keys if "," not in name} <= known  # a comma: copies of the plan
    parts = cost.parts(model, positions=3, steps=found["steps"], screened=engine.info.screened)
    worked = {(p.node, "sentence" if p.when == "sentence" else "step") for p in parts}
    assert worked - {(cost.RANK, "step")} <= set(keys)
    assert set(found) == {"nodes", "steps", "clock", *PARTS}
    assert all(seconds >= 0 for *_, seconds in found["nodes"])
    assert sum(seconds for *_, seconds in found["nodes"]) > 0 and found["clock"] > 0


@each_model
@pytest.mark.parametrize(("beam", "threads"), [(1, 1), (3, 1), (3, 2)])
def test_every_node_is_named_once_and_no_bit_changes(model: Model, beam: int, threads: int) -> None:
    with Engine.load(model, threads=threads) as engine:
        found = profiled(engine, [[4, 5, 6]], beam, threads)
        check_names(engine, found)
        assert found["steps"] >= 1


def test_directions_of_a_layer_are_named_together_and_so_are_their_limits() -> None:
    both = f"encoder.lstm{profile.SIDE_BY_SIDE}encoder.lstm_2"
    with Engine.load(MODELS["luong"]()) as engine:
        assert (both, "sentence") in [
            (n, when) for n, when, _ in profiled(engine, [[4]], 1)["nodes"]
        ]
    limits = {("encoder.lstm", "sentence"): 2e-6, ("encoder.lstm_2", "sentence"): 3e-6}
    assert profile.least_of(both, "sentence", limits) == pytest.approx(5e-6)
    limits["encoder.lstm", "sentence"] = None
    assert profile.least_of(both, "sentence", limits) is None
    assert profile.least_of("encoder.lstm_2", "sentence", limits) == 3e-6


def test_what_is_folded_is_made_once_a_sentence_under_its_readers_name() -> None:
    with Engine.load(MODELS["luong"]()) as engine:
        assert engine.info.folded["decoder.linear"] == ["attention.context"]
        keys = [(name, when) for name, when, _ in profiled(engine, [[4, 5]], 1)["nodes"]]
        assert ("decoder.linear", "sentence") in keys and ("decoder.linear", "step") in keys
        assert not any(when == "step" for name, when in keys if name.startswith("encoder"))


@pytest.mark.usefixtures("screening")
@pytest.mark.parametrize("beam", [1, 2])
def test_a_screened_output_layer_is_in_it(beam: int) -> None:
    """Greedy: it ranks, too; with a beam nothing is screened, and all of it is computed."""
    model = luong_model(hidden=32, embedding=8, layers=1, vocabulary=400, steps=40)
    with Engine.load(model) as engine:
        assert list(engine.info.screened) == ["decoder.linear_2.weight"]
        found = profiled(engine, [[4, 5, 6]], beam)
        check_names(engine, found)
        assert found["nodes"][-1][:2] == ("decoder.linear_2", "step")
        assert (found["rank"] == 0) == (beam == 1)
        counted = engine._idle[0].screened
        assert (counted[0] + counted[1] > 0) == (beam == 1)


def test_sources_of_a_batch_are_decoded_together() -> None:
    with Engine.load(MODELS["luong"]()) as engine:
        found = profiled(engine, [[4, 5, 6], [7], [8, 9]], 2)
        check_names(engine, found)
        assert found["steps"] == 6


def test_what_has_no_profile_is_refused() -> None:
    with Engine.load(MODELS["luong"]()) as engine:
        session, request = engine._session(), core.Request(1)
        with pytest.raises(InputError, match="a max_length for each of its sources"):
            session.profile([[[4]], [[5]]], request, [6])
        with pytest.raises(InputError, match="a max_length for each of its sources"):
            session.profile([], request, [])
        with pytest.raises(InputError, match="exact search"):
            session.profile([[[4]]], core.Request(1, rules=core.SearchRules(max_nodes=9)), [6])
        with pytest.raises(InputError, match="input 'tokens'"):
            session.profile([[[]]], request, [6])


# --- limits, node by node ---

MACHINE = cost.Machine({1 << 12: 100.0, 1 << 22: 50.0}, 200.0, 800.0)


@each_model
@pytest.mark.parametrize("beam", [1, 5])
def test_parts_are_the_stages_taken_apart(model: Model, beam: int) -> None:
    weight = model.graphs["decoder"].nodes[-1].weights["weight"]
    for screened in ([], [weight]):
        sizes: dict[str, Any] = {"positions": 7, "steps": 5, "beam": beam, "screened": screened}
        parts, stages = cost.parts(model, **sizes), cost.stages(model, **sizes)
        for of in (
            lambda stage: stage.bytes,
            lambda stage: stage.multiply_adds,
            lambda stage: stage.int8_multiply_adds,
        ):
            apart = cost.total([part.stage for part in parts if part.stage.bytes], of)
            assert apart <= cost.total(stages, of) * (1 + 1e-12)
            steps = [part.stage for part in parts if part.when == "step"]
            assert cost.total(steps, of) == pytest.approx(cost.total(stages[-1:], of))
        assert {p.stage.working_set for p in parts if p.when == "step"} == {stages[-1].working_set}
        nodes, whole = cost.node_limits(parts, MACHINE), cost.limit(stages, MACHINE)
        assert whole is not None
        known = [seconds for seconds in nodes.values() if seconds is not None]
        assert len(known) == len(nodes) and sum(known) >= whole * (1 - 1e-12)


def test_a_node_whose_rate_is_unknown_has_no_limit() -> None:
    byte = cost.Stage("", 1, 1e3, 0, 1, 1e3)
    read_ = cost.Stage("", 2, 1e3, 0, 1)
    parts = [cost.Part("a", "step", byte), cost.Part("a", "deferred", read_),
             cost.Part("b", "sentence", read_)]  # fmt: skip
    found = cost.node_limits(parts, cost.Machine({1: 1.0}, 1.0))
    assert found == {("a", "step"): None, ("b", "sentence"): pytest.approx(2e-6)}


# --- what reports make of it ---


def core_profile(cell: float, rank: float) -> dict[str, Any]:
    nodes = [("encoder.gru", "sentence", 3e-6), ("decoder.cell", "step", cell)]
    return {"nodes": nodes, "steps": 8, "begin": 1e-6, "states": 0.0, "rank": rank, "search": 0.0,
            "clock": 2e-8, "results": []}  # fmt: skip


def test_a_summary_has_medians_and_what_is_left_first() -> None:
    given = [core_profile(cell, 2e-6) for cell in (5e-6, 6e-6, 90e-6)]
    decodes = [13e-6, 14e-6, 100e-6]
    nodes = {("encoder.gru", "sentence"): 1e-6, ("decoder.cell", "step"): 5.5e-6,
             ("rank", "step"): 1e-6}  # fmt: skip
    found = profile.summary(given, decodes, nodes)
    assert (found["decodes"], round(found["decode_us"], 6), round(found["clock_ns"])) == (3, 14, 20)
    assert [(n["node"], round(n["us"], 6), round(n["above_us"], 6)) for n in found["nodes"]] == [
        ("encoder.gru", 3, 2), (profile.OUTSIDE, 2, 2), ("begin", 1, 1), ("rank", 2, 1),
        ("decoder.cell", 6, 0.5), ("states", 0, 0), ("search", 0, 0),
    ]  # fmt: skip
    assert found["nodes"][4]["share"] == pytest.approx(6 / 14)
    assert profile.most_left(found) == (
        "most of what is left: encoder.gru (2.0 us above its limit), "
        "outside the core (2.0 us above its limit)"
    )


def test_without_a_limit_a_summary_is_of_times_and_says_so() -> None:
    found = profile.summary([core_profile(5e-6, 2e-6)], [13e-6], None)
    assert [node["node"] for node in found["nodes"][:2]] == ["decoder.cell", "encoder.gru"]
    assert all(node["limit_us"] is None and node["above_us"] is None for node in found["nodes"])
    assert profile.most_left(found) == (
        "most of the time: decoder.cell (5.0 us), encoder.gru (3.0 us); how much of it must be is "
        "not known"
    )
    assert profile.most_left(None) == ""


@pytest.mark.parametrize(("batch", "beam", "threads"), [(1, 1, 1), (1, 3, 2), (3, 2, 2)])
def test_a_run_profiles_every_engine(
    batch: int, beam: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "ROUNDS", 3)
    few = options.Options(threads=[threads], blocks=3, block_ms=0.1, seconds=1)
    machine = limits.Limits("a test", {1: MACHINE, 2: MACHINE})
    found = run.one(small(batch, beam), threads, few, machine)
    ours = [row for row in found["rows"] if "core only" not in row["name"]]
    assert {row["name"].split()[1] for row in ours} == set(contenders.COMPUTE_TYPES)
    for row in found["rows"]:
        assert (row["profile"] is None) == ("core only" in row["name"])
    for row in ours:
        nodes = row["profile"]["nodes"]
        assert row["profile"]["decodes"] == 3
        rest = profile.OUTSIDE if batch == 1 else profile.OTHERS
        assert {*PARTS, rest} <= {node["node"] for node in nodes}
        left = [node["above_us"] for node in nodes]
        assert None not in left and left == sorted(left, reverse=True)
    assert "s2s_engine int8, by node: " in text.result(found)


def test_a_profile_can_be_left_out() -> None:
    few = options.Options(blocks=3, block_ms=0.1, seconds=1, profile=False)
    found = run.one(small(), 1, few, limits.unknown())
    assert all(row["profile"] is None for row in found["rows"])
    assert "by node" not in text.result(found)


# --- goals ---


def test_a_ratio_is_held_against_floor_and_goal() -> None:
    assert verdicts.verdict(9.0, 9.0, 8.0) == "goal reached"
    assert verdicts.verdict(8.0, 9.0, 8.0) == "between floor and goal"
    assert verdicts.verdict(7.9, 9.0, 8.0) == "below the floor"
    assert verdicts.verdict(7.9, 9.0, None) == "below the goal"
    assert goals.floor("w3, beam 5", "int8", goals.ANY, 2) == 2.6
    assert goals.floor("w3, beam 5", "float32", goals.FLOAT32, 1) is None
    assert goals.floor("w1, greedy", "int8", goals.ANY, 3) is None


def test_floors_are_below_goals() -> None:
    for key, pairs in goals.FLOORS.items():
        for (type_, rival), _ in pairs.items():
            for threads in (1, 2):
                goal = goals.goal(key, type_, rival, threads)
                floor = goals.floor(key, type_, rival, threads)
                assert goal is not None and floor is not None and floor < goal


def test_the_table_of_goals_names_what_was_not_measured() -> None:
    row = {"name": "s2s_engine int8", "limit_us": 20.0, "p50_us": 40.0, "profile": None}
    one = {"rival": goals.ANY, "name": "onnx", "ratio": 8.5, "quartiles": [8.0, 9.0]}
    result = {"key": "w1, greedy", "threads": 1, "quiet": False, "rows": [row],
              "against": {row["name"]: [one]}}  # fmt: skip
    table = verdicts.table([result])
    assert len(table) == 3 * len(goals.GOALS)
    first, *others = table
    assert verdicts.cells(first) == [
        "w1, greedy", "1", "int8", "the fastest peer: onnx", "8.50 (8.00-9.00)", "8", "9",
        "between floor and goal (noisy)", "50%", "-",
    ]  # fmt: skip
    assert {other["verdict"] for other in others} == {"not measured"}
    assert verdicts.table([{**result, "against": {}}]) == []
