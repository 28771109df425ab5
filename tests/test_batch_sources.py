"""What each source of a batch may have of its own: a prefix, an error that takes the place of its
result. Knows results of `decode`; never how a step is shared."""

from __future__ import annotations

import itertools
from typing import Any

import models
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_batches import broken_for
from test_engine import bits

from s2s_engine import (
    CancelToken,
    DecodeCancelled,
    DecodeOptions,
    Engine,
    InputError,
    InputTooLongError,
    NumericalError,
)

ENGINE = Engine.load(models.lstm_luong())
TAGGER = Engine.load(models.tagger())
TOKENS = st.lists(st.integers(4, models.TARGET - 1), max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(
            st.lists(st.integers(0, models.SOURCE - 1), min_size=1, max_size=9),
            st.none() | TOKENS,
        ),
        max_size=12,
    ),
    batch_size=st.integers(1, 5),
    threads=st.integers(1, 3),
    more=st.sampled_from(
        [
            {},
            {"beam_size": 3, "num_hypotheses": 2, "length_penalty": 0.6},
            {"beam_size": 2, "suppress_tokens": [5], "no_repeat_ngram_size": 2},
            {"end_tokens": [3], "beam_size": 2, "max_length": 9},
            {"sampling_topk": 0, "num_hypotheses": 2, "seed": 3},
            {"allowed_tokens": lambda ids: range(2, 9), "beam_size": 2},
            {"beam_size": 2, "exact": True, "max_length": 5},
        ]
    ),
)
def test_each_source_has_its_prefix(
    pairs: list[tuple[list[int], list[int] | None]],
    batch_size: int,
    threads: int,
    more: dict[str, Any],
) -> None:
    xs, prefixes = [x for x, _ in pairs], [prefix for _, prefix in pairs]
    more = {"max_length": 7, **more}
    expected = [bits(ENGINE.decode(x, prefix=p, **more)) for x, p in pairs]
    how: dict[str, Any] = {"batch_size": batch_size, "threads": threads}
    if any(prefix is not None for prefix in prefixes):  # else it is an empty list of tokens
        assert expected == [
            bits(r) for r in ENGINE.decode_batch(xs, prefix=prefixes, **how, **more)
        ]
        options = DecodeOptions(prefix=prefixes, **more)
        assert expected == [bits(r) for r in ENGINE.decode_batch(xs, options=options, **how)]
        with pytest.raises(InputError, match="prefix is a list of lists"):
            ENGINE.decode([4], options=options)
    found = ENGINE.decode_iter(iter(xs), prefix=iter(prefixes), **how, **more)
    assert expected == [bits(r) for r in found]


def test_prefixes_are_read_as_far_as_sources_are() -> None:
    asked: list[int] = []

    def prefixes() -> Any:
        for n in itertools.count():
            asked.append(n)
            yield [4 + n % 3]

    found = ENGINE.decode_iter(([4, 5] for _ in itertools.count()), batch_size=2, prefix=prefixes())
    for n in range(5):
        assert next(found).ids[0] == 4 + n % 3
    assert len(asked) <= 5 + 4 * 2


def test_prefixes_that_do_not_fit() -> None:
    xs = [[4], [5], [6]]
    with pytest.raises(InputError, match="prefix has 2 lists, must have one for each of the 3"):
        ENGINE.decode_batch(xs, prefix=[[4], None])
    with pytest.raises(InputError, match="source 2 of the batch: prefix has no list for it"):
        list(ENGINE.decode_iter(xs, prefix=[[4], None]))
    with pytest.raises(InputError, match=r"source 1 of the batch: .*999"):
        ENGINE.decode_batch(xs, prefix=[[4], [999], None])
    with pytest.raises(InputError, match="source 1 of the batch: prefix holds the end token 2"):
        ENGINE.decode_batch(xs, prefix=[[4], [models.END], None])
    with pytest.raises(InputError, match="source 0 of the batch: prefix has 3 tokens"):
        ENGINE.decode_batch(xs, prefix=[[4, 5, 6], None, None], max_length=3)
    with pytest.raises(InputError, match="prefix is for models with a decoder"):
        TAGGER.decode_batch([[4]], prefix=[[4]])
    # Over an options object with one for all
    options = DecodeOptions(prefix=[7], beam_size=2)
    found = ENGINE.decode_batch(xs, options=options, prefix=[[4], None, [5]])
    assert [r.ids[:1] for r in found[::2]] == [[4], [5]]
    assert bits(found[1]) == bits(ENGINE.decode([5], beam_size=2))


DEAD = {"transitions": {0: {3 + 1: 1, 5: 2}, 2: {6: 2}}, "start": 0, "final": [2]}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_dead_end_of_one_source_leaves_the_others_their_results(threads: int) -> None:
    xs = [[4], [5, 6], [7], [8, 9], [4, 5]]
    prefixes = [[5], [4], None, [4], [5, 6]]
    how: dict[str, Any] = {"allowed_tokens": DEAD, "beam_size": 2, "batch_size": 2}
    found = ENGINE.decode_batch(xs, prefix=prefixes, threads=threads, return_exceptions=True, **how)
    del how["batch_size"]
    for n, (x, prefix) in enumerate(zip(xs, prefixes, strict=True)):
        one = found[n]
        if prefix == [4]:
            assert isinstance(one, InputError) and f"source {n} of the batch" in str(one)
            assert "dead end" in str(one)
        else:
            assert not isinstance(one, Exception)
            assert bits(one) == bits(ENGINE.decode(x, prefix=prefix, **how))
    with pytest.raises(InputError, match=r"source 1 of the batch: .*dead end"):
        ENGINE.decode_batch(xs, prefix=prefixes, threads=threads, **how)


@pytest.mark.parametrize("threads", [1, 3])
def test_every_error_of_a_source_stands_in_its_place(threads: int) -> None:
    engine = broken_for(7)
    good = Engine.load(models.gru_plain())
    xs: list[Any] = [[3], [6, 7], [999], "a", [4, 5], [3] * 20_000, [8], np.array([[1]]), [2]]
    kinds = {1: NumericalError, 2: InputError, 3: InputError, 5: InputTooLongError, 7: InputError}
    for call in (engine.decode_batch, engine.decode_iter):
        found = list(call(xs, batch_size=2, threads=threads, return_exceptions=True))
        assert len(found) == len(xs)
        for n, one in enumerate(found):
            if n in kinds:
                assert type(one) is kinds[n] and f"source {n} of the batch" in str(one)
            else:
                assert bits(one) == bits(good.decode(xs[n]))


def test_errors_of_a_callers_function_and_of_models_without_a_decoder() -> None:
    def allowed(ids: list[int]) -> list[int]:
        if ids and ids[0] == 5:
            raise ZeroDivisionError
        return [4, 5, models.END]

    found = ENGINE.decode_batch(
        [[4], [5], [6]], prefix=[[4], [5], [4]], allowed_tokens=allowed, return_exceptions=True
    )
    assert [type(one).__name__ for one in found] == ["Result", "ZeroDivisionError", "Result"]
    labels = TAGGER.decode_batch([[4], [99], [5]], return_exceptions=True)
    assert [type(one).__name__ for one in labels] == ["Result", "InputError", "Result"]


def test_a_batch_that_is_cancelled_raises_and_keeps_errors_in_their_places() -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(DecodeCancelled) as stopped:
        ENGINE.decode_batch([[4], [99], [5]], cancel=token, return_exceptions=True)
    result = stopped.value.result
    assert [type(one).__name__ for one in result] == ["Result", "InputError", "Result"]
