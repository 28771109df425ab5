"""`stream` and decoder states: tokens in the moment they are certain, states fed, branched, kept
and resumed with the bits of `decode`. Knows ids and bits; never how a step is computed."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import bits, sources_of
from test_prompts import PROMPTS, language_model

from s2s_engine import CancelToken, DecodeCancelled, DecodeTimeout, Engine, InputError
from s2s_engine.search_rules import PRESETS
from s2s_engine.streams import MAGIC, opened

ENGINES = {name: Engine.load(model()) for name, model in models.DECODERS.items()}
TESTS = str(Path(__file__).parent)
X = [4, 5, 6]


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(models.DECODERS)),
    seed=st.integers(0, 40),
    beam=st.integers(1, 6),
    rule=st.sampled_from(sorted(PRESETS)),
    x=st.lists(st.integers(0, models.SOURCE - 1), min_size=1, max_size=9),
)
def test_a_stream_gives_the_result_of_decode(
    name: str, seed: int, beam: int, rule: str, x: list[int]
) -> None:
    engine = Engine.load(models.DECODERS[name](seed=seed))
    options: dict[str, Any] = {"beam_size": beam, "max_length": 9, "early_stop": rule,
                               "num_hypotheses": beam, "length_penalty": 0.5}  # fmt: skip
    stream = engine.stream(x, **options)
    steps = list(stream)
    expected = engine.decode(x, **options)
    assert stream.result is not None and bits(stream.result) == bits(expected)
    assert [step.id for step in steps] == expected.ids
    assert [step.token for step in steps] == expected.tokens
    assert [step.position for step in steps] == list(range(len(steps)))


def checks(engine: Engine, **options: Any) -> tuple[list[int], list[int]]:
    """The positions that a stream gave, and how many checks had been made by then."""
    token, made, at = CancelToken(), [0], []

    def count() -> None:
        made[0] += 1

    token._on_check = count
    positions = []
    for step in engine.stream(X, cancel=token, **options):
        positions.append(step.position)
        at.append(made[0])
    return positions, at


def test_greedy_tokens_come_with_their_steps() -> None:
    positions, at = checks(ENGINES["lstm_luong"], max_length=12)
    assert len(positions) == 12
    assert [b - a for a, b in itertools.pairwise(at)] == [1] * 11  # a step for each


def test_a_beam_gives_tokens_before_it_has_ended() -> None:
    """What all share is known earlier than the result; no token is given that then changes."""
    early = 0
    for seed in range(20):
        engine = Engine.load(models.lstm_luong(seed=seed))
        _, at = checks(engine, beam_size=3, max_length=30)
        early += sum(n < at[-1] for n in at)
    assert early > 30


def test_an_exact_search_and_unknown_tokens_are_told_once_they_are_certain() -> None:
    engine = Engine.load(models.lstm_luong())
    stream = engine.stream(X, exact=True, max_length=5, num_hypotheses=2, beam_size=2)
    expected = engine.decode(X, exact=True, max_length=5, num_hypotheses=2, beam_size=2)
    assert [step.id for step in stream] == expected.ids
    assert stream.result is not None and bits(stream.result) == bits(expected)
    plain = engine.decode(X, max_length=9)
    unknown = plain.ids[2]
    at = plain.ids.index(unknown)
    options: dict[str, Any] = {"max_length": 9, "replace_unknowns": plain.tokens[2]}
    replaced = engine.decode(X, **options)
    token, made = CancelToken(), [0]
    token._on_check = lambda: made.__setitem__(0, made[0] + 1)
    when, tokens = [], []
    for step in engine.stream(X, cancel=token, **options):
        when.append(made[0])
        tokens.append(step.token)
    assert tokens == replaced.tokens != plain.tokens
    assert when == sorted(when) and len(set(when[:at])) == at  # one with each step,
    assert len(set(when[at:])) == 1  # and the rest at the end
    with pytest.raises(InputError, match="does not tell which token is unknown"):
        engine.stream(X, replace_unknowns=True)


def test_an_exact_stream_is_interrupted() -> None:
    engine, token = Engine.load(models.lstm_luong()), CancelToken()
    stream = engine.stream(X, exact=True, max_length=5, cancel=token)
    token.cancel()
    with pytest.raises(DecodeCancelled):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_stream_that_is_left_gives_its_session_back() -> None:
    engine = Engine.load(models.lstm_luong())
    for leave in ("close", "with", "del"):
        stream = engine.stream(X, max_length=9)
        next(stream)
        assert engine._idle == []
        if leave == "close":
            stream.close()
            assert list(stream) == [] and stream.result is None
        elif leave == "with":
            with stream:
                pass
        del stream
        gc.collect()
        assert len(engine._idle) == 1


def test_a_stream_is_interrupted() -> None:
    engine = ENGINES["lstm_luong"]
    token = CancelToken()
    stream = engine.stream(X, max_length=12, cancel=token)
    first = [next(stream).id for _ in range(3)]
    token.cancel()
    with pytest.raises(DecodeCancelled) as caught:
        next(stream)
    assert caught.value.result.ids == first == engine.decode(X, max_length=12).ids[:3]
    assert list(stream) == []
    with pytest.raises(DecodeTimeout):
        list(engine.stream(X, timeout=0))


# --- states ---


@pytest.mark.parametrize("name", models.DECODERS)
def test_a_state_that_is_fed_has_the_bits_of_score(name: str, isa: str) -> None:
    model = models.DECODERS[name]()
    engine = Engine.load(model, isa=isa)
    for x in sources_of(model)[:3]:
        target = [0, 5, 8, 3]
        scored = engine.score(x, target).token_log_probs
        state = engine.start(x)
        for n, id_ in enumerate(target):
            assert state.log_probs.dtype == np.float32
            assert state.log_probs[id_].tobytes() == scored[n].tobytes()
            again = engine.resume(state.snapshot())
            assert again.log_probs.tobytes() == state.log_probs.tobytes()
            assert again.ids == state.ids == target[:n]
            state.feed([id_])
        if model.end:
            assert state.log_probs[model.end[0]].tobytes() == scored[-1].tobytes()


def test_prompts_are_fed_before_the_state_is_given() -> None:
    for start in (0, None):
        engine = Engine.load(language_model(start=start))
        for prompt in PROMPTS:
            state = engine.start(prompt)
            assert state.ids == []
            best = engine.decode(prompt, max_length=3).hypotheses[0]
            for n, id_ in enumerate(best.ids):
                assert state.log_probs[id_].tobytes() == best.token_log_probs[n].tobytes()
                state = engine.resume(state.feed([id_]).snapshot())
            assert state.ids == best.ids


def test_features_are_kept_in_a_snapshot() -> None:
    engine = Engine.load(models.captioner())
    image = np.linspace(-1, 1, 7, dtype=np.float32)
    state = engine.start(features=image).feed([3, 4])
    assert engine.resume(state.snapshot()).log_probs.tobytes() == state.log_probs.tobytes()


def test_branches_go_their_own_ways() -> None:
    engine = ENGINES["gru_additive"]
    trunk = engine.start(X).feed([3])
    left, right = trunk.branch(), trunk.branch()
    left.feed([4, 5])
    right.feed([6])
    assert (trunk.ids, left.ids, right.ids) == ([3], [3, 4, 5], [3, 6])
    for state in (trunk, left, right):
        alone = engine.start(X).feed(state.ids)
        assert state.log_probs.tobytes() == alone.log_probs.tobytes()
    assert left.tokens == ["t3", "t4", "t5"] and engine.start(X).feed(["t3"]).ids == [3]


def test_branches_are_fed_from_threads() -> None:
    trunk = ENGINES["lstm_luong"].start(X)
    targets = [[n % 9, n % 7, n % 5, n % 4] * 3 for n in range(24)]
    alone = [trunk.branch().feed(t).log_probs.tobytes() for t in targets]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda t: trunk.branch().feed(t).log_probs.tobytes(), targets))
    assert found == alone


def test_an_error_leaves_a_state_where_it_was() -> None:
    engine = ENGINES["gru_positions"]  # 20 steps or so
    bound = engine._model.graphs["decoder"].inputs["step"].size
    state = engine.start(X).feed([3] * (bound - 1))
    before = state.log_probs.tobytes(), state.ids, state.snapshot()
    for wrong in ([99], ["zebra"], [4], 4, [4.5]):
        with pytest.raises(InputError):
            state.feed(wrong)
        assert (state.log_probs.tobytes(), state.ids, state.snapshot()) == before


RESUME = """
import sys
sys.path.insert(0, sys.argv[1])
import models
from s2s_engine import Engine
state = Engine.load(models.lstm_luong()).resume(bytes.fromhex(sys.argv[2]))
print(state.ids, state.feed([5]).log_probs.tobytes().hex())
"""


def test_a_snapshot_is_small_and_goes_to_another_process() -> None:
    engine = Engine.load(models.lstm_luong())
    state = engine.start(X).feed([3, 4])
    snapshot = state.snapshot()
    assert isinstance(snapshot, bytes) and len(snapshot) < 1000
    done = subprocess.run(
        [sys.executable, "-c", RESUME, TESTS, snapshot.hex()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split("\n")[0] == f"[3, 4] {state.feed([5]).log_probs.tobytes().hex()}"
    large = Engine.load(models.lstm_luong(hidden=256))
    assert len(large.start([4] * 20).feed([3]).snapshot()) < 4096
    assert len(pickle.dumps(snapshot)) < 1100


def test_every_byte_of_a_snapshot_counts() -> None:
    engine = ENGINES["lstm_luong"]
    snapshot = engine.start(X).feed([3]).snapshot()
    for at in range(len(snapshot)):
        damaged = bytearray(snapshot)
        damaged[at] ^= 1
        with pytest.raises(InputError):
            engine.resume(bytes(damaged))
        with pytest.raises(InputError):
            engine.resume(snapshot[:at])
    with pytest.raises(InputError):
        engine.resume(snapshot + b"x")


def forged(snapshot: bytes, **changes: Any) -> bytes:
    """A snapshot whose digest fits and whose header lies."""
    body = snapshot[len(MAGIC) + 16 :]
    size = int.from_bytes(body[:4], "little")
    header = json.dumps({**json.loads(body[4 : 4 + size]), **changes}).encode()
    body = len(header).to_bytes(4, "little") + header + body[4 + size :]
    return MAGIC + hashlib.sha256(body).digest()[:16] + body


def test_a_forged_snapshot_is_refused() -> None:
    engine = ENGINES["lstm_luong"]
    snapshot = engine.start(X).feed([3]).snapshot()
    assert engine.resume(forged(snapshot)).ids == [3]
    for changes in (
        {"fed": []}, {"fed": [1, 99]}, {"fed": [1, "a"]}, {"fed": 3}, {"fed": [True, 2]},
        {"lead": 9}, {"lead": "a"}, {"lead": -1}, {"inputs": []}, {"inputs": [["f", [4]]]},
        {"inputs": [["i", [400]]]}, {"inputs": [["i", [-4]]]}, {"inputs": [["x", [4]]]},
        {"inputs": [["i", [2, 2]]]}, {"inputs": [["i", [2]]]}, {"model": 3}, {"inputs": None},
    ):  # fmt: skip
        with pytest.raises(InputError):
            engine.resume(forged(snapshot, **changes))
    assert opened(snapshot).fed == [1, 3]
