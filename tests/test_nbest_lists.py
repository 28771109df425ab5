"""Our rules of the search against the n-best lists that OpenNMT-py, fairseq and Marian themselves
gave once (tests/nbest/record.py): every list, its order, its scores. Knows the three programs' ids
and lengths; never their code."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from s2s_engine import Engine, Model, ModelBuilder
from s2s_engine.importers.loading import open_foreign
from scripts import loaded

NBEST = Path(__file__).parent / "nbest"
DATA = Path(__file__).parent / "importers" / "data"


record = loaded(NBEST / "record.py")


def recorded(program: str) -> list[dict[str, Any]]:
    data = (NBEST / f"{program}.json.xz").read_bytes()
    sums = json.loads((NBEST / "sha256.json").read_text())
    assert hashlib.sha256(data).hexdigest() == sums[f"{program}.json.xz"]
    searches: list[dict[str, Any]] = json.loads(lzma.decompress(data))["searches"]
    return searches


def model_of(search: dict[str, Any]) -> Model:
    by_id, by_step = record.table(search["table"], search["vocabulary"])
    m = ModelBuilder(target=search["vocabulary"])
    d = m.decoder
    d.output(
        log_probabilities=d.add(
            d.embedding(d.token, by_id), d.embedding(d.step(record.STEPS), by_step)
        )
    )
    return m.build(start=None, end=[record.EOS])


def options_of(program: str, search: dict[str, Any]) -> dict[str, Any]:
    """The program's options in our words (docs/search.md)."""
    if program == "opennmt":
        return {
            "num_hypotheses": search["n_best"],
            "search": {"ended": "place", "stop": "head", "limit": "compete"},
            "max_length": search["max"],
            "min_length": search["min"] + 1,
        }
    return {
        "num_hypotheses": search["beam"],
        "early_stop": "fairseq",
        "max_length": search["max"] + 1,
        "min_length": search["min"] + 1,
        "length_penalty": search["length_penalty"],
        "suppress_tokens": [record.PAD],
    }


def lists_of(hypotheses: list[Any]) -> list[tuple[list[int], bool]]:
    return [(list(h.ids), h.finish_reason == "eos") for h in hypotheses]


@pytest.mark.parametrize("program", ["opennmt", "fairseq"])
def test_lists_and_scores_are_those_of_the_program(program: str) -> None:
    searches = recorded(program)
    assert len(searches) == record.COUNT
    for search in searches:
        wanted = [
            ([i for i in ids if i != record.EOS], ids[-1] == record.EOS)
            for _, ids in search["found"]
        ]
        model, options = model_of(search), options_of(program, search)
        options["beam_size"] = search["beam"]
        for executor in (Engine.load(model), model.reference()):
            found = executor.decode([record.START], **options).hypotheses
            assert lists_of(found) == wanted, search
            # fairseq divides in float32; sums of the tables are exact.
            scores = [score for score, _ in search["found"]]
            assert [h.score for h in found] == pytest.approx(scores, rel=1e-6)


def test_lists_and_scores_are_marians(tmp_path: Path) -> None:
    made = loaded(DATA / "marian" / "make_marian.py")
    known = json.loads(lzma.decompress((made.HERE / "fixture.json.xz").read_bytes()))
    variant, engines = known["variants"]["s2s"], {}
    for name in record.WEIGHTS:
        path = tmp_path / f"{name}.npz"
        made.write(path, made.weights(name, variant["shapes"]), variant["config"], False)
        engines[name] = Engine.load(open_foreign(path, None, {}).model)
    searches = recorded("marian")
    assert sum(len(search["sources"]) for search in searches) >= 90
    for search in searches:
        engine = engines[search["weights"]]
        for source, wanted in zip(search["sources"], search["found"], strict=True):
            found = engine.decode(
                source[:-1],
                beam_size=search["beam"],
                num_hypotheses=len(wanted),
                length_penalty=search["normalize"],
                max_length=(search["factor"], 0),
                early_stop="marian",
            ).hypotheses
            assert [list(h.ids) for h in found] == [ids for _, ids in wanted], search
            scores = [score for score, _ in wanted]
            assert [h.score for h in found] == pytest.approx(scores, rel=2e-5, abs=2e-6)


def test_the_lists_tell_the_rules_apart() -> None:
    """So that a list that agrees says something: under our own rule many differ."""
    for program in ("opennmt", "fairseq"):
        other = 0
        for search in recorded(program):
            options = options_of(program, search) | {"beam_size": search["beam"]}
            for name in ("search", "early_stop"):
                options.pop(name, None)
            found = Engine.load(model_of(search)).decode([record.START], **options).hypotheses
            wanted = [[i for i in ids if i != record.EOS] for _, ids in search["found"]]
            other += [list(h.ids) for h in found] != wanted
        assert other >= 20, (program, other)
