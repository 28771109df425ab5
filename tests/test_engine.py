"""`Engine` as a whole: results against the reference, equal bits in any company, threads, forks,
pickles, what is not built. Knows models of tests/models.py; never single operations."""

from __future__ import annotations

import asyncio
import copy
import itertools
import multiprocessing
import operator
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from conftest import ISAS
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s_engine import (
    DecodeOptions,
    Engine,
    EngineClosedError,
    InputError,
    Model,
    ModelBuilder,
    ModelFormatError,
    Result,
    UnsupportedIsaError,
    _core,
)

# Some hundred roundings of 2^-24 on numbers of order 10.
CLOSE = 1e-5
TESTS = str(Path(__file__).parent)
SOURCES = [[3], [4, 5, 6], [10, 9, 8, 7, 6, 5], [1, 1, 1, 1], list(range(11)) * 3]
BIG = {
    "gru_plain": {"hidden": 97, "target": 65},
    "lstm_luong": {"hidden": 33, "target": 33},
    "gru_additive": {"hidden": 65, "target": 97},
    "lstm_given": {"hidden": 32, "target": 31},
}


def bits(result: Result) -> list[Any]:
    """All that a result holds, floats as their bits."""
    return [
        (
            h.ids,
            h.tokens,
            h.score.hex(),
            h.log_prob.hex(),
            h.token_log_probs.tobytes(),
            None if h.attention is None else (h.attention.shape, h.attention.tobytes()),
            h.finish_reason,
        )
        for h in result.hypotheses
    ]


def calm(name: str) -> Model:
    """A larger model whose recurrence does not amplify rounding: weights 0.6 times the root of the
    size would make it chaotic."""
    model = models.DECODERS[name](**BIG[name])
    scale = np.float32(1.5 * BIG[name]["hidden"] ** -0.5)
    return replace(model, tensors={n: array * scale for n, array in model.tensors.items()})


def sources_of(model: Model) -> list[list[int]]:
    limit = model.graphs["encoder"].inputs
    bound = limit["position"].size - 1 if "position" in limit else 100
    return [x for x in SOURCES if len(x) <= bound]


# --- against the reference ---


@pytest.mark.parametrize("name", models.DECODERS)
def test_forced_logits_are_those_of_the_reference(name: str, isa: str) -> None:
    for model in (models.DECODERS[name](), models.DECODERS[name](seed=50)):
        engine, reference = Engine.load(model, isa=isa), model.reference()
        for x in sources_of(model):
            expected = reference.forced_logits(x, [0, 5, 8, 3])
            assert np.abs(engine.forced_logits(x, [0, 5, 8, 3]) - expected).max() <= CLOSE


@pytest.mark.parametrize("name", BIG)
def test_forced_logits_of_sizes_around_a_panel(name: str, isa: str) -> None:
    model = calm(name)
    engine, reference = Engine.load(model, isa=isa), model.reference()
    for x in SOURCES:
        expected = reference.forced_logits(x, [0, 5, 8, 3])
        assert np.abs(engine.forced_logits(x, [0, 5, 8, 3]) - expected).max() <= CLOSE


@pytest.mark.parametrize("beam", [1, 2, 5, 40])
@pytest.mark.parametrize("name", models.DECODERS)
def test_search_finds_what_the_reference_finds(name: str, beam: int, isa: str) -> None:
    model = models.DECODERS[name]()
    engine, reference = Engine.load(model, isa=isa), model.reference()
    attention = "alignment" in model.graphs["decoder"].outputs
    options = DecodeOptions(
        beam_size=beam, num_hypotheses=min(beam, 5), max_length=7, return_attention=attention
    )
    for x in sources_of(model)[:4]:
        found, expected = (e.decode(x, options=options) for e in (engine, reference))
        assert found.source == expected.source
        assert len(found.hypotheses) == len(expected.hypotheses)
        for one, other in zip(found.hypotheses, expected.hypotheses, strict=True):
            assert (one.ids, one.tokens) == (other.ids, other.tokens)
            assert one.finish_reason == other.finish_reason
            assert np.abs(one.token_log_probs - other.token_log_probs).max() <= CLOSE
            assert abs(one.log_prob - other.log_prob) <= CLOSE
            assert abs(one.score - other.score) <= CLOSE
            if one.attention is not None and other.attention is not None:
                assert np.abs(one.attention - other.attention).max() <= CLOSE


def test_a_beam_wide_enough_is_an_exhaustive_search(isa: str) -> None:
    """All 121 hypotheses of at most four ids over four tokens, ranked by their scores."""
    for seed in range(4):
        model = models.gru_plain(seed=seed, source=5, target=4)
        engine = Engine.load(model, isa=isa)
        everything: list[tuple[float, tuple[int, ...], str]] = []
        others = [i for i in range(4) if i != models.END]
        for length in range(5):
            for ids in itertools.product(others, repeat=length):
                scored = engine.score([3, 4], list(ids)).token_log_probs
                if length == 4:
                    total, reason = scored[:-1], "length"
                else:
                    total, reason = scored, "eos"
                everything.append((float(sum(map(float, total))), ids, reason))
        assert len(everything) == 121
        everything.sort(key=lambda item: -item[0])
        found = engine.decode([3, 4], beam_size=121, num_hypotheses=121, max_length=4)
        assert [(h.log_prob, tuple(h.ids), h.finish_reason) for h in found.hypotheses] == everything


def test_greedy_takes_the_best_token_of_every_step(isa: str) -> None:
    model = models.lstm_luong()
    engine = Engine.load(model, isa=isa)
    for x in SOURCES:
        ids: list[int] = []
        while len(ids) < 12:
            best = int(engine.forced_logits(x, ids)[-1].argmax())
            if best == models.END:
                break
            ids.append(best)
        assert engine.decode(x).ids == ids


@pytest.mark.parametrize("name", models.DECODERS)
def test_score_gives_the_bits_of_decode(name: str, isa: str) -> None:
    model = models.DECODERS[name]()
    engine = Engine.load(model, isa=isa)
    for x in sources_of(model):
        for h in engine.decode(x, beam_size=4, num_hypotheses=4, max_length=6).hypotheses:
            scored = engine.score(x, h.ids)
            steps = len(h.token_log_probs)
            assert scored.token_log_probs[:steps].tobytes() == h.token_log_probs.tobytes()
            if h.finish_reason == "eos" or not model.end:
                assert scored.log_prob.hex() == h.log_prob.hex()
                assert scored.score.hex() == h.score.hex()


@pytest.mark.parametrize("beam", [1, 3, 9, 100, 1024])
def test_n_best_is_distinct_and_sorted(beam: int) -> None:
    result = Engine.load(models.lstm_luong()).decode(
        [4, 5, 6], beam_size=beam, num_hypotheses=beam, max_length=5
    )
    scores = [h.score for h in result.hypotheses]
    assert scores == sorted(scores, reverse=True)
    assert len({(tuple(h.ids), h.finish_reason) for h in result.hypotheses}) == len(scores)
    assert len(scores) == beam
    assert (result.ids, result.score) == (result.hypotheses[0].ids, scores[0])


def test_max_length_as_a_number_a_pair_and_the_source() -> None:
    engine = Engine.load(models.no_recurrence())  # it has no end token
    x = [3, 4, 5]
    assert len(engine.decode(x).ids) == 3  # "source", the model's own default
    for limit, length in ((1, 1), (17, 17), ((2, 1), 7), ((0, 2), 2), ("source", 3)):
        result = engine.decode(x, max_length=limit)
        assert len(result.ids) == length
        assert result.hypotheses[0].finish_reason == "length"
        assert len(result.hypotheses[0].token_log_probs) == length
    # The prepared source counts: lstm_luong appends one id.
    luong = models.lstm_luong(seed=14)
    for h in Engine.load(luong).decode(x, max_length="source", beam_size=9,
                                       num_hypotheses=9).hypotheses:  # fmt: skip
        assert len(h.token_log_probs) <= 4


@pytest.mark.parametrize("name", ["lstm_luong", "gru_additive", "lstm_given", "gru_positions"])
def test_attention_maps(name: str, isa: str) -> None:
    engine = Engine.load(models.DECODERS[name](), isa=isa)
    for x in ([3], [4, 5, 6, 7]):
        result = engine.decode(x, beam_size=3, num_hypotheses=3, return_attention=True)
        for h in result.hypotheses:
            assert h.attention is not None and h.attention.dtype == np.float32
            # A row per scored token, the end's among them; a column per prepared position.
            assert h.attention.shape == (len(h.token_log_probs), len(result.source))
            assert len(h.token_log_probs) == len(h.ids) + (h.finish_reason == "eos")
            assert np.abs(h.attention.sum(axis=1, dtype=np.float64) - 1).max() <= 2.0**-21
        plain = engine.decode(x, beam_size=3, num_hypotheses=3)
        assert plain.attention is None
        assert [h.score for h in plain.hypotheses] == [h.score for h in result.hypotheses]


@pytest.mark.parametrize("name", models.LABELLERS)
def test_models_without_a_decoder(name: str, isa: str) -> None:
    model = models.LABELLERS[name]()
    engine, reference = Engine.load(model, isa=isa), model.reference()
    for x in SOURCES:
        found, expected = engine.decode(x), reference.decode(x)
        assert (found.ids, found.tokens) == (expected.ids, expected.tokens)
        assert len(found.ids) == (len(x) if name == "tagger" else 1)
        log_probs = found.hypotheses[0].token_log_probs
        scored, exact_score = (e.score(x, found.ids, length_penalty=0.6)
                               for e in (engine, reference))  # fmt: skip
        assert scored.token_log_probs.tobytes() == log_probs.tobytes()
        assert abs(scored.score - exact_score.score) <= CLOSE
        assert scored.log_prob == found.score
        other = [(label + 1) % 5 for label in found.ids]
        theirs = reference.score(x, other).token_log_probs
        assert np.abs(engine.score(x, other).token_log_probs - theirs).max() <= CLOSE
        assert np.abs(log_probs - expected.hypotheses[0].token_log_probs).max() <= CLOSE
        logits, exact = engine.encode(x)["logits"], reference.encode(x)["logits"]
        assert logits.shape == exact.shape and np.abs(logits - exact).max() <= CLOSE


def test_a_label_is_the_lower_id_among_equals(isa: str) -> None:
    m = ModelBuilder(source=3)
    m.encoder.output(logits=m.encoder.embedding(m.encoder.tokens, np.ones((3, 97), np.float32)))
    assert Engine.load(m.build(), isa=isa).decode([0, 1, 2]).ids == [0, 0, 0]


def test_a_model_of_features(isa: str) -> None:
    model = models.captioner()
    engine, reference = Engine.load(model, isa=isa), model.reference()
    image = np.linspace(-1, 1, 7, dtype=np.float32)
    for options in (DecodeOptions(max_length=12), DecodeOptions(beam_size=4, num_hypotheses=4)):
        found = engine.decode(features=image, options=options)
        expected = reference.decode(features=image, options=options)
        assert [h.ids for h in found.hypotheses] == [h.ids for h in expected.hypotheses]
        assert abs(found.score - expected.score) <= CLOSE
        assert bits(engine.decode(inputs={"image": image}, options=options)) == bits(found)
        assert bits(engine.decode_batch([{"image": image}], options=options)[0]) == bits(found)
    assert np.array_equal(engine.encode(features=image)["image"], image)


def test_strings_and_ids_are_the_same_source() -> None:
    engine = Engine.load(models.lstm_luong())
    expected = bits(engine.decode(["s4", "s5"]))
    for x in (
        [4, 5],
        (4, 5),
        np.array([4, 5]),
        np.array([9, 4, 9, 5])[1::2],
        np.array([4, 5], "u1"),
    ):
        assert bits(engine.decode(x)) == expected
    assert bits(engine.decode([4, 5, models.END], prepared=True)) == expected


# --- equal bits ---


@pytest.mark.parametrize("name", models.DECODERS)
def test_every_instruction_set_gives_the_same_bits(name: str) -> None:
    for options in ({}, BIG.get(name, {})):
        model = models.DECODERS[name](**options)
        engines = [Engine.load(model, isa=isa) for isa in ISAS]
        assert [engine.info.isa for engine in engines] == list(ISAS)
        attention = "alignment" in model.graphs["decoder"].outputs
        for x, beam in itertools.product(sources_of(model), (1, 5)):
            runs = [bits(engine.decode(x, beam_size=beam, num_hypotheses=beam, max_length=10,
                                       return_attention=attention))
                    for engine in engines]  # fmt: skip
            encoded = [{n: a.tobytes() for n, a in e.encode(x).items()} for e in engines]
            assert all(run == runs[0] for run in runs)
            assert all(run == encoded[0] for run in encoded)


ENGINES = {name: Engine.load(model()) for name, model in models.DECODERS.items()}


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(sorted(models.DECODERS)),
    xs=st.lists(st.lists(st.integers(0, models.SOURCE - 1), min_size=1, max_size=35), max_size=20),
    batch_size=st.integers(1, 25),
    threads=st.integers(1, 3),
    beam=st.integers(1, 6),
)
def test_decode_batch_gives_the_bits_of_decode_one_by_one(
    name: str, xs: list[list[int]], batch_size: int, threads: int, beam: int
) -> None:
    engine = ENGINES[name]
    attention = "alignment" in engine._model.graphs["decoder"].outputs
    options = DecodeOptions(beam_size=beam, num_hypotheses=beam, max_length=8,
                            return_attention=attention)  # fmt: skip
    found = engine.decode_batch(xs, batch_size=batch_size, threads=threads, options=options)
    assert [bits(result) for result in found] == [
        bits(engine.decode(x, options=options)) for x in xs
    ]


def test_ids_are_one_list_whatever_of_a_result_is_read_first() -> None:
    engine = ENGINES["lstm_luong"]
    for ids_first in (True, False):
        result = engine.decode(SOURCES[0], beam_size=3, num_hypotheses=2)
        if not ids_first:
            assert len(result.hypotheses) == 2
        ids = result.ids
        assert result.ids is ids and result.hypotheses[0].ids is ids
        assert ids == engine.decode(SOURCES[0], beam_size=3).hypotheses[0].ids
        assert bits(result) == bits(engine.decode(SOURCES[0], beam_size=3, num_hypotheses=2))


def test_decode_batch_of_models_without_a_decoder_and_of_nothing() -> None:
    engine = Engine.load(models.tagger())
    found = engine.decode_batch(SOURCES, batch_size=2, threads=2)
    assert [bits(result) for result in found] == [bits(engine.decode(x)) for x in SOURCES]
    assert engine.decode_batch([]) == []


def test_decode_batch_names_the_source_that_is_wrong() -> None:
    with pytest.raises(InputError, match="source 1 of the batch: token 0 of the input is 99"):
        Engine.load(models.gru_plain()).decode_batch([[3], [99]])


def test_rows_of_different_lengths_in_one_batch_end_at_their_own_limits() -> None:
    engine = Engine.load(models.no_recurrence())
    xs = [[3] * n for n in (1, 9, 4, 30, 2)]
    assert [len(r.ids) for r in engine.decode_batch(xs)] == [1, 9, 4, 30, 2]


# --- threads and processes ---


def test_eight_threads_on_one_engine_get_the_serial_bits() -> None:
    engine = Engine.load(models.lstm_luong())
    xs = [[n % 11, n % 7, n % 5][: 1 + n % 3] for n in range(400)]
    options = DecodeOptions(beam_size=3, return_attention=True)
    serial = [bits(engine.decode(x, options=options)) for x in xs]
    start = threading.Barrier(8)

    def work(number: int) -> list[Any]:
        start.wait()
        return [bits(engine.decode(x, options=options)) for x in xs[number::8]]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    for number in range(8):
        assert found[number] == serial[number::8]


def test_a_session_in_use_refuses_a_second_thread() -> None:
    """Bindings and core: the pool of an engine never lets it come to this."""
    model = models.lstm_luong(hidden=200)
    engine = Engine.load(model)
    session = engine._idle[0]
    x = engine._calls.read([4] * 3000).inputs
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                session.encode(x)
        except Exception as error:
            errors.append(error)

    pair = [threading.Thread(target=work) for _ in range(2)]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join()
    for error in errors:
        assert "this session is in use by another thread" in str(error)


def test_pickle_by_path(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    models.lstm_luong().save(path)
    engine = Engine.load(path, threads=2, isa=ISAS[0], max_input_length=50)
    data = pickle.dumps(engine)
    assert len(data) < 1000  # the path, not the weights
    again = pickle.loads(data)
    assert bits(again.decode([4, 5])) == bits(engine.decode([4, 5]))
    assert (again.info.isa, again.info.threads) == (ISAS[0], 2)
    assert again.info.digest == engine.info.digest
    models.lstm_luong(seed=77).save(path)
    with pytest.raises(ModelFormatError, match="the file has changed"):
        pickle.loads(data)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(data)


def test_pickle_by_bytes_and_by_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    models.lstm_luong().save(path)
    for source in (path.read_bytes(), models.lstm_luong()):
        engine = Engine.load(source)
        for again in (
            pickle.loads(pickle.dumps(engine)),
            pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(engine)))),
            copy.copy(engine),
            copy.deepcopy(engine),
        ):
            assert bits(again.decode([4, 5], beam_size=3)) == bits(
                engine.decode([4, 5], beam_size=3)
            )


def test_results_options_and_models_can_be_pickled() -> None:
    result = Engine.load(models.lstm_luong()).decode([4, 5], beam_size=3, return_attention=True)
    assert bits(pickle.loads(pickle.dumps(result))) == bits(result)
    options = DecodeOptions(beam_size=3)
    assert pickle.loads(pickle.dumps(options)) == options


def test_spawned_process_decodes() -> None:
    engine = Engine.load(models.lstm_luong())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(operator.methodcaller("decode", [4, 5], beam_size=3), (engine,))
    assert bits(found) == bits(engine.decode([4, 5], beam_size=3))


FORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
import models
from s2s_engine import Engine
engine = Engine.load(models.lstm_luong(), threads=2)
xs = [[n % 11, n % 7] for n in range(64)]
expected = [r.ids for r in engine.decode_batch(xs, batch_size=4)]
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        found = [r.ids for r in engine.decode_batch(xs, batch_size=4)]
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if [engine.decode(x).ids for x in xs] == expected else 3)
        _, status = os.waitpid(grandchild, 0)
        os._exit(0 if found == expected and status == 0 else 4)
    assert os.waitpid(child, 0)[1] == 0
    assert [r.ids for r in engine.decode_batch(xs, batch_size=4)] == expected
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_fork_after_threads_were_used_decodes() -> None:
    # Under the address sanitizer one child of some 600 hangs, of 3,000 without it none: few there.
    count = 5 if "libasan" in os.environ.get("LD_PRELOAD", "") else 100
    subprocess.run([sys.executable, "-c", FORK, TESTS, str(count)], check=True, timeout=200)


# --- life of an engine ---


def test_close_and_context_manager() -> None:
    with Engine.load(models.lstm_luong()) as engine:
        engine.decode([4])
        snapshot = engine.start([4]).snapshot()
    engine.close()  # twice is once
    calls: list[Any] = [
        lambda: engine.decode([4]),
        lambda: engine.decode_batch([[4]]),
        lambda: engine.score([4], [4]),
        lambda: engine.encode([4]),
        lambda: engine.decode_iter([[4]]),
        lambda: engine.stream([4]),
        lambda: engine.start([4]),
        lambda: engine.resume(snapshot),
        lambda: engine.estimate_memory(5),
        lambda: asyncio.run(engine.decode_async([4])),
        lambda: engine.info,
        lambda: pickle.dumps(engine),
    ]
    for call in calls:
        with pytest.raises(EngineClosedError, match="load the model again"):
            call()
    assert "closed" in repr(engine)


def test_close_while_another_thread_decodes() -> None:
    engine = Engine.load(models.lstm_luong())
    expected = bits(engine.decode([4, 5]))
    wrong: list[Any] = []

    def work() -> None:
        try:
            while True:
                if bits(engine.decode([4, 5])) != expected:
                    wrong.append("bits")
        except EngineClosedError:
            return

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    engine.close()
    for worker in workers:
        worker.join(timeout=30)
        assert not worker.is_alive()
    assert not wrong


def test_an_engine_still_decodes_the_same_after_an_error() -> None:
    engine = Engine.load(models.gru_positions())
    expected = bits(engine.decode([4, 5], beam_size=3))
    for bad in ([99], [], "ab", [3] * 60, [True]):
        with pytest.raises(InputError):
            engine.decode(bad)
    with pytest.raises(InputError):
        engine.decode([4, 5], max_length=500)  # beyond the steps of the model
    assert bits(engine.decode([4, 5], beam_size=3)) == expected


def test_info() -> None:
    model = models.lstm_luong()
    info = Engine.load(model, isa="portable", threads=3).info
    assert (info.isa, info.reference_speed, info.threads, info.format) == ("portable", True, 3, 1)
    assert info.parameters == sum(array.size for array in model.tensors.values())
    assert info.source_vocabularies == {"tokens": models.SOURCE}
    assert info.target_vocabulary == models.TARGET
    assert info.vocabularies["target"][0] == "t0"
    assert set(info.compute_types.values()) == {"float32"}
    assert info.generation["max_length"] == 12


# --- instruction sets ---


def test_an_instruction_set_by_name_by_variable_and_by_default(monkeypatch: Any) -> None:
    model = models.gru_plain()
    assert Engine.load(model).info.isa == ISAS[-1] == _core.default_isa()
    for name in ISAS:
        assert Engine.load(model, isa=name).info.isa == name
        monkeypatch.setenv("S2S_ISA", name)
        assert Engine.load(model).info.isa == name
        assert Engine.load(model, isa=ISAS[0]).info.isa == ISAS[0]
    monkeypatch.setenv("S2S_ISA", "sse9")
    with pytest.raises(UnsupportedIsaError, match=re.escape("'sse9' (S2S_ISA) is not available")):
        Engine.load(model)
    monkeypatch.delenv("S2S_ISA")
    listed = re.escape(", ".join(ISAS))
    for name in ("sse9", "AVX2", "neon2", " "):
        with pytest.raises(UnsupportedIsaError, match=rf"available: {listed}$"):
            Engine.load(model, isa=name)


def mapped(addresses: list[int]) -> tuple[str, int, int]:
    """The file that holds the code from the lowest to the highest address, as file addresses."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, flags, offset, _, _, *name = line.split()
        first, last = (int(part, 16) for part in span.split("-"))
        if "x" in flags and first <= min(addresses) and max(addresses) < last:
            return (
                name[0],
                min(addresses) - first + int(offset, 16),
                max(addresses) - min(addresses),
            )
    raise AssertionError("the kernels are in no mapped file")


@pytest.mark.skipif(
    shutil.which("objdump") is None or not Path("/proc/self/maps").exists(),
    reason="disassembles with objdump",
)
def test_the_instruction_set_named_is_the_one_that_runs() -> None:
    """The functions in a session's kernel table use the registers of its name and no wider ones.

    All of them are of one object, so the code between the first and the last is of that object.
    """
    model = Engine.load(models.gru_plain())._core
    tables = {isa: _core.Session(model, isa).kernel_addresses for isa in ISAS}
    spans = sorted((min(table), max(table)) for table in tables.values())
    for (_, end), (begin, _) in itertools.pairwise(spans):
        assert end < begin, "two instruction sets share code"
    for isa, table in tables.items():
        assert len(set(table)) == len(table) >= 13
        path, start, size = mapped(table)
        assert "libs2s_engine" in path
        # File offsets: objdump wants raw bytes, for sections and segments need not lie alike.
        code = Path(path).read_bytes()[start : start + size]
        listing = disassembled(code)
        registers = set(re.findall(r"%([xyz]mm)\d", listing))
        wanted = {"portable": {"xmm"}, "avx2": {"xmm", "ymm"}, "avx512": {"xmm", "ymm", "zmm"}}[
            isa.removesuffix("_vnni")
        ]
        assert registers <= wanted and max(wanted) in registers, isa
        # Sanitized functions are laid out otherwise: the tiles of bytes lie outside of the span.
        if b"__asan_init" not in Path(path).read_bytes():
            assert ("vpdpbusd" in listing) == isa.endswith("_vnni"), isa


def disassembled(code: bytes) -> str:
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        return subprocess.run(
            ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", file.name],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip


def test_a_call_that_needs_too_much_memory_is_refused_before_it_is_allocated() -> None:
    with Engine.load(models.lstm_luong(), max_input_length=2_000_000) as engine:
        before = engine.decode([4, 5], max_length=3)
        with pytest.raises(InputError, match=r"needs \d+ MiB of workspace, more than 8192 MiB"):
            engine.decode([4] * 1_900_000, beam_size=1024, max_length=3)
        after = engine.decode([4, 5], max_length=3)
        assert after.hypotheses[0].token_log_probs.tobytes() == (
            before.hypotheses[0].token_log_probs.tobytes()
        )
