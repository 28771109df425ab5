"""What the benchmark of the doors makes of latencies: percentiles, a file, a section of a report,
and turns that end early. Knows given numbers; measures nothing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2s_engine.bench import latency, options, page, text
from s2s_engine.bench.compare import Incomparable

ROOT = Path(__file__).parents[1]
MACHINE = {"cpu": "A <CPU>", "cpus": 2, "isa": "avx2"}


def measured(**more: Any) -> dict[str, Any]:
    doors = {"Python": np.arange(1, 10_001) * 2000, "Cython": np.arange(1, 10_001) * 1000}
    return {
        "schema": latency.SCHEMA, "machine": MACHINE, "software": {}, "date": "today",
        "what": "a <model>", "busy": "a loop on CPU 1", "interrupted": False, "words": 10_000,
        "rate": 50.0, "doors": {name: latency.of_door(spent) for name, spent in doors.items()},
        **more,
    }  # fmt: skip


def test_percentiles_and_the_tail_of_a_door() -> None:
    found = latency.of_door(np.arange(1, 10_001) * 1000)
    assert {name: round(us) for name, us in found["us"].items()} == {
        "p50": 5000, "p99": 9900, "p99.9": 9990, "max": 10000
    }  # fmt: skip
    assert found["words"] == 10_000
    assert [n for n, _ in found["tail"]][:4] == [2, 5, 10, 20]
    assert [n for n, _ in found["tail"]][-1] == 10_000
    values = [us for _, us in found["tail"]]
    assert values == sorted(values) and values[0] == found["us"]["p50"]
    assert latency.of_door(np.array([7000]))["tail"] == [[2, 7.0]]


def test_distributions_are_drawn_and_listed_on_a_page_of_their_own() -> None:
    made = latency.page(measured())
    assert made.count('class="line') == 2 and "a &lt;model&gt;, 50 words a second" in made
    for cell in ("10,000", "20.00 ms", "9.90 ms", "10.00 ms"):
        assert f"<td>{cell}</td>" in made, cell
    assert 2000 < len(made) < 20_000  # a plot, and nothing but itself
    assert "noisy>" not in made.split("</style>")[1]


def test_what_is_wrong_with_a_run_is_said() -> None:
    for made in (latency.page, latency.text):
        assert "the rate is too high" in made(measured(rate=250.0))
        assert "Interrupted: 20,000 words were asked for" in made(
            measured(interrupted=True, words=20_000)
        )
        assert "too high" not in made(measured()) and "Interrupted" not in made(measured())


def test_a_run_of_one_door_is_drawn() -> None:
    one = measured()
    del one["doors"]["Cython"]
    assert latency.page(one).count('class="line') == 1
    assert "Cython" not in latency.text(one)


def test_a_file_of_this_machine_goes_into_the_report(tmp_path: Path) -> None:
    from test_bench import report

    path = tmp_path / "latency.json"
    path.write_text(json.dumps(measured()))
    found = latency.read(path, MACHINE)
    assert found == measured()
    with_it = {**report(), "latency": found}
    made = page.page(with_it)
    assert made.count("Latency at a steady rate") == 1 and "p99.9" in made
    assert made.index("<h2>Latency</h2>") < made.index("<h2>Latency at a steady rate</h2>")
    assert made.index("<h2>Latency at a steady rate</h2>") < made.index("<h2>Roofline</h2>")
    assert "latency of a word: a <model>" in text.whole(with_it)
    assert "steady rate" not in page.page(report())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "has schema None, must be 'latency 1'"),
        (json.dumps({"schema": 1}), "has schema 1, must be 'latency 1': measure again"),
        (json.dumps(measured(machine={**MACHINE, "cpus": 8})), "cpus was 8, is 2: latencies of"),
    ],
)
def test_other_files_are_refused_before_anything_is_measured(
    content: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "latency.json"
    path.write_text(content)
    with pytest.raises(Incomparable, match=said):
        latency.read(path, MACHINE)
    module = importlib.import_module("s2s_engine.bench.__main__")
    monkeypatch.setattr(module, "machine", lambda: MACHINE)
    monkeypatch.setattr(module, "run", lambda *_: pytest.fail("it was measured"))
    monkeypatch.chdir(tmp_path)
    job = options.Job(outputs=options.Outputs(latency=str(path)))
    assert module.main(json.dumps(asdict(job))) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


TURNS = """
import numpy as np
from benchmarks import door

calls, told = [], []
def made(name):
    def latencies(first, due, period, spent):
        if spent.size == 1:
            return due  # the word that nobody counts
        calls.append((name, first, spent.size, len(calls) and due))
        if name == "b" and first == 20:
            raise KeyboardInterrupt
        spent[:] = first
        return due + period * spent.size
    return latencies

door.TURN = 2
spent = {name: np.full(45, door.NEVER) for name in "ab"}
try:
    door.in_turns({name: made(name) for name in spent}, 45, 10.0, spent, told.append)
except KeyboardInterrupt:
    print("interrupted")
assert [call[:3] for call in calls] == [
    ("a", 0, 10), ("a", 10, 10), ("b", 0, 10), ("b", 10, 10), ("a", 20, 10), ("a", 30, 10),
    ("b", 20, 10)], calls
assert calls[3][3] - calls[2][3] == 10 * 100_000_000  # one schedule within a turn
assert told == [20]
assert (spent["a"] != door.NEVER).sum() == 40 and (spent["b"] != door.NEVER).sum() == 20
"""


@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="reads the source tree")
def test_doors_take_turns_and_an_interruption_leaves_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TURNS], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "interrupted\n"
