"""Our rules of the search against the n-best lists that OpenNMT-py, fairseq, Joey NMT and Marian
themselves gave once (tests/nbest/record*.py): every list, its order, its scores. Knows the
programs' ids and lengths; never their code."""

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
# Releases of Joey NMT.
JOEYNMT: dict[str, Any] = {
    "0.9": {"ended": "expand", "stop": "first", "limit": "again"},
    **{
        release: {"ended": "expand", "stop": "first", "limit": "done"}
        for release in ("0.0.1", "0.0.3", "1.0", "1.2", "1.3")
    },
    "1.4": {"ended": "expand", "stop": "places", "limit": "closed"},
    "2.0.0": {"ended": "expand", "stop": "places"},
}


def document(program: str) -> dict[str, Any]:
    data = (NBEST / f"{program}.json.xz").read_bytes()
    sums = json.loads((NBEST / "sha256.json").read_text())
    assert hashlib.sha256(data).hexdigest() == sums[f"{program}.json.xz"]
    content: dict[str, Any] = json.loads(lzma.decompress(data))
    return content


def recorded(program: str) -> list[dict[str, Any]]:
    searches: list[dict[str, Any]] = document(program)["searches"]
    return searches


def model_of(search: dict[str, Any], output: str = "log_probabilities") -> Model:
    by_id, by_step = record.table(search["table"], search["vocabulary"])
    by_id[:, record.EOS] += search.get("end", 0.0)
    m = ModelBuilder(target=search["vocabulary"])
    d = m.decoder
    both = d.add(d.embedding(d.token, by_id), d.embedding(d.step(record.STEPS), by_step))
    d.output(**{output: both})
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


def cut(ids: list[int]) -> tuple[list[int], bool]:
    """What stands before the first end, and whether there is one."""
    ended = record.EOS in ids
    return (ids[: ids.index(record.EOS)] if ended else ids), ended


def joeynmts(release: str, search: dict[str, Any]) -> dict[str, Any]:
    """Its options in our words (docs/search.md)."""
    return {
        "beam_size": search["beam"],
        "num_hypotheses": search["n_best"],
        "max_length": search["max"],
        "min_length": 2 if release >= "2" else 0,
        "search": JOEYNMT[release],
        "length_penalty": max(search["alpha"], 0.0),
        "length_penalty_kind": "gnmt",
    }


@pytest.mark.parametrize("release", JOEYNMT)
def test_lists_and_scores_are_those_of_every_release_of_joey_nmt(release: str) -> None:
    releases = document("joeynmt")["releases"]
    assert releases.keys() == JOEYNMT.keys() and len(releases[release]) == record.COUNT
    behind, repeated, early = 0, 0, 0
    for search in releases[release]:
        wanted = [cut(ids) for _, ids in search["found"]]
        model = model_of(search, "logits")
        for executor in (Engine.load(model), model.reference()):
            options = joeynmts(release, search)
            found = executor.decode([record.START], **options).hypotheses
            assert lists_of(found) == wanted, search
            scores = [score for score, _ in search["found"]]
            assert [h.score for h in found] == pytest.approx(scores, rel=2e-6, abs=1e-6)
            options |= {"beam_size": 1, "num_hypotheses": 1}
            (greedy,) = lists_of(executor.decode([record.START], **options).hypotheses)
            assert greedy == cut(search["greedy"]), search
        behind += any(record.EOS in ids[:-1] for _, ids in search["found"])
        repeated += any(wanted.count(one) > 1 for one in wanted)
        early += any(not ended and len(ids) < search["max"] for ids, ended in wanted)
    # What the others list and 2.0 does not: beams that went on, outputs twice, unfinished ones.
    enough = min(behind, repeated, early) >= 5
    assert not (behind or repeated or early) if release == "2.0.0" else enough


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


def test_the_releases_of_joey_nmt_differ() -> None:
    """Of each, lists that no rule of another one finds."""
    for release, searches in document("joeynmt")["releases"].items():
        for rule in JOEYNMT.values():
            if rule == JOEYNMT[release]:
                continue
            other = 0
            for search in searches:
                options = joeynmts(release, search) | {"search": rule}
                engine = Engine.load(model_of(search, "logits"))
                found = engine.decode([record.START], **options).hypotheses
                other += lists_of(found) != [cut(ids) for _, ids in search["found"]]
            assert other >= 3, (release, rule, other)
