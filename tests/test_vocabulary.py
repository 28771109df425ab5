"""What a caller may pass as source and target, and what every wrong value says. Knows one small
model; never execution."""

from __future__ import annotations

import enum
import math
from typing import Any

import models
import numpy as np
import pytest

from s2s_engine.builder import ModelBuilder
from s2s_engine.errors import InputError, InputTooLongError
from s2s_engine.model import Model
from s2s_engine.vocabulary import Inputs, Vocabulary

SIZE = 29


def model(**options: Any) -> Model:
    w = models.Weights(0)
    m = ModelBuilder(source=SIZE, target=4)
    m.encoder.output(memory=m.encoder.embedding(m.encoder.tokens, w(SIZE, 3)))
    m.decoder.output(logits=m.decoder.embedding(m.decoder.token, w(4, 4)))
    return m.build(end=[3], **options)


WORDS = {"tokens": models.words("s", SIZE), "target": ["a", "b", "b", "</s>"]}
PLAIN = Inputs(model(vocabularies=WORDS))
BARE = Inputs(model())


def test_strings_and_ids_give_the_same_ids() -> None:
    assert PLAIN.source(["s3", "s28"]) == PLAIN.source([3, 28]) == [3, 28]


@pytest.mark.parametrize(
    "ids",
    [
        (3, 28),
        [np.int64(3), 28],
        [np.uint8(3), np.uint64(28)],
        np.array([3, 28]),
        np.array([3, 28], np.uint64),
        np.array([3, 28], np.int8),
        np.array([3, 28], ">i4"),
        np.array([3, 9, 28, 9])[::2],
        np.array([28, 3])[::-1],
        [enum.IntEnum("Id", {"three": 3}).three, 28],  # type: ignore[attr-defined]
    ],
)
def test_integers_of_every_kind_and_stride_are_ids(ids: Any) -> None:
    read = BARE.source(ids)
    assert read == [3, 28]
    assert all(type(item) is int for item in read)


def test_numpy_strings_are_strings() -> None:
    assert PLAIN.source(list(np.array(["s3", "s28"]))) == [3, 28]


WRONG: list[tuple[Any, str]] = [
    ("s1", "the input is the string 's1': pass a list of tokens"),
    (b"s1", "the input is b's1' .bytes.: pass a list of strings"),
    (None, "the input is None .NoneType.: pass a list of strings"),
    (7, r"the input is 7 \(int\): pass a list"),
    (iter([1]), "pass a list of strings"),
    ({1, 2}, "pass a list of strings"),
    ([1, 1.0], r"token 1 of the input is 1.0 \(float\), must be a string or an integer id"),
    ([1.9, 1], "token 0 of the input is 1.9"),
    ([1, True], r"token 1 of the input is True \(bool\)"),
    ([np.True_], r"token 0 of the input is True \(bool"),
    ([1, math.nan], "token 1 of the input is nan"),
    ([1, None], r"token 1 of the input is None \(NoneType\)"),
    ([1, [2]], r"token 1 of the input is \[2\] \(list\)"),
    ([1, 2**40], rf"token 1 of the input is {2**40}, outside the source vocabulary of 29 ids"),
    ([2**100], "outside the source vocabulary"),
    ([0] * 17 + [31999], "token 17 of the input is 31999, outside the source vocabulary of 29 ids "
     r"\(0..28\)"),
    ([29], r"token 0 of the input is 29, outside the source vocabulary of 29 ids \(0..28\)"),
    ([3, -1], "token 1 of the input is -1, outside"),
    ([np.int64(-5)], "token 0 of the input is -5, outside"),
    (["s1", 5], "token 1 of the input is 5, but token 0 is 's1': pass all strings or all ids"),
    ([5, "s1"], "token 1 of the input is 's1', but token 0 is 5: pass all strings or all ids"),
    (["s1", "nope"], "token 1 of the input is 'nope', not one of the 29 strings of the source"),
    ([], "the input is empty, must hold at least one token"),
    (np.array([], int), "the input is empty"),
    (np.array([[1, 2]]), r"the input is an array of shape \(1, 2\), must be 1-D"),
    (np.array(5), r"the input is an array of shape \(\), must be 1-D"),
    (np.array([1.0, 2.0]), "the input is an array of float64, must be of an integer type"),
    (np.array([True]), "an array of bool, must be of an integer type"),
    (np.array(["s1"]), "must be of an integer type"),
    (np.array([1, None], object), "an array of object, must be of an integer type"),
    (np.array([1, 2**64 - 1], np.uint64), f"token 1 of the input is {2**64 - 1}, outside"),
    (np.array([1, 2, 29]), "token 2 of the input is 29, outside"),
    (np.array([1, -1], np.int8), "token 1 of the input is -1, outside"),
    (np.array([1, 2**40]), f"token 1 of the input is {2**40}, outside"),
]  # fmt: skip


@pytest.mark.parametrize(("x", "message"), WRONG)
def test_wrong_input_is_an_error_that_names_index_and_value(x: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PLAIN.source(x)
    with pytest.raises(ValueError, match=message):
        PLAIN.source(x, prepared=True)
    with pytest.raises(TypeError):
        PLAIN.encoder(x)


def test_strings_without_a_vocabulary_are_an_error() -> None:
    with pytest.raises(InputError, match="token 0 of the input is 'a', but the model has no source "
                       "vocabulary: pass ids"):  # fmt: skip
        BARE.source(["a"])


def test_string_is_its_characters_where_the_model_says_so() -> None:
    words = {"tokens": [chr(97 + i) for i in range(SIZE)]}
    assert Inputs(model(vocabularies=words, characters=True)).source("cab") == [2, 0, 1]


def test_unknown_string_is_the_unknown_id_where_the_rule_has_one() -> None:
    inputs = Inputs(model(vocabularies=WORDS, source={"unknown": 7}))
    assert inputs.source(["s3", "nope"]) == [3, 7]
    with pytest.raises(InputError, match="token 1 of the input is None"):
        inputs.source(["s3", None])
    with pytest.raises(InputError, match="token 1 of the input is 5, but token 0 is 's3'"):
        inputs.source(["s3", 5])
    with pytest.raises(InputError, match="the model has no source vocabulary"):
        Inputs(model(source={"unknown": 7})).source(["s3"])


def test_of_a_string_held_twice_the_later_id_wins() -> None:
    assert PLAIN.target(["a", "b"]) == [0, 2]
    assert PLAIN.target_tokens([1, 2]) == ["b", "b"]


def test_target_may_be_empty_and_its_errors_say_target() -> None:
    assert PLAIN.target([]) == []
    with pytest.raises(InputError, match=r"token 1 of the target is 4, outside the target vocab"
                       r"ulary of 4 ids \(0..3\)"):  # fmt: skip
        PLAIN.target([0, 4])


def test_rule_is_applied_to_strings_and_ids_unless_prepared() -> None:
    rule = {"prepend": [1], "append": [2], "truncate": 4, "reverse": True,
            "pad": {"to": [6], "side": "left", "id": 0}}  # fmt: skip
    inputs = Inputs(model(vocabularies=WORDS, source=rule))
    assert inputs.source([7, 8]) == inputs.source(["s7", "s8"]) == [2, 8, 7, 1, 0, 0]
    assert inputs.source([7, 8, 9, 10]) == [9, 8, 7, 1, 0, 0]
    assert inputs.source(["s7", "s8"], prepared=True) == [7, 8]


def test_reading_leaves_the_callers_list_alone() -> None:
    given = [7, 8]
    assert BARE.source(given, prepared=True) is not given
    assert BARE.source(given) is not given
    assert given == [7, 8]


def test_source_longer_than_max_input_length_is_an_error_naming_both() -> None:
    inputs = Inputs(model(), max_input_length=5)
    assert len(inputs.source([1] * 5)) == 5
    for x in ([1] * 6, np.ones(6, int)):
        with pytest.raises(InputTooLongError, match="has 6 tokens, more than max_input_length, "
                           "which is 5"):  # fmt: skip
            inputs.source(x)
    assert len(BARE.source([1] * 10_000)) == 10_000
    with pytest.raises(InputTooLongError, match=r"10001 tokens.*10000"):
        BARE.source([1] * 10_001)


def test_ids_without_a_vocabulary_are_their_own_strings() -> None:
    assert BARE.source_tokens([3, 4]) == ["3", "4"]
    assert Vocabulary("input", "source", 3, ["a", "b", "c"]).tokens([2, 0]) == ["c", "a"]


def two_inputs() -> Inputs:
    w = models.Weights(0)
    m = ModelBuilder(source=SIZE, target=4)
    e = m.encoder
    pos, marks = e.input("pos", ids=5), e.input("marks", sequence=3)
    e.output(memory=e.concat([e.embedding(e.tokens, w(SIZE, 3)), e.embedding(pos, w(5, 3)), marks]))
    m.decoder.output(logits=m.decoder.embedding(m.decoder.token, w(4, 4)))
    return Inputs(m.build(source={"append": [1]}))


def test_several_inputs_are_a_mapping_by_name() -> None:
    marks = np.ones((3, 3), np.float16)
    given = {"tokens": [7, 8], "pos": [4, 4], "marks": marks}
    read = two_inputs().encoder(inputs=given)
    assert read["tokens"] == [7, 8, 1]
    assert read["pos"] == [4, 4, 1]
    assert np.array_equal(read["marks"], marks)
    assert two_inputs().encoder(given).keys() == read.keys()
    again = two_inputs().encoder([7, 8], inputs={"pos": [4, 4]}, features=marks)
    assert again.keys() == read.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": {"tokens": [7, 8], "pos": [4, 4]}}, "the input 'marks' is missing"),
        ({"inputs": {"color": [7]}}, "there is no input 'color'; the model's inputs are tokens"),
        ({"x": [7], "inputs": {"tokens": [7]}}, "the input 'tokens' is given twice"),
        ({"x": [7], "inputs": {"pos": [4, 4]}, "features": np.ones((2, 3))},
         "same number of positions once prepared: tokens has 2, pos has 3, marks has 2"),
        ({"x": [7], "inputs": {"pos": [9]}, "features": np.ones((2, 3))},
         "token 0 of the input 'pos' is 9, outside the 'pos' vocabulary of 5 ids"),
        ({"x": [7], "inputs": {"pos": [4]}, "features": np.ones((2, 4))},
         r"'marks' is an array of float64 of shape \(2, 4\), must be floats of shape"),
        ({"x": [7], "inputs": {"pos": [4]}, "features": np.full((2, 3), 1e300)},
         r"'marks' holds 1e\+300 at \[0, 0\], must be finite in float32"),
        ({"x": [7], "inputs": {"pos": [4]}, "features": [[1.0], [1.0, 2.0]]}, "is no array"),
        ({"x": [7], "inputs": {"pos": [4]}, "features": np.ones((0, 3))}, "'marks' is empty"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_an_error_that_names_them(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        two_inputs().encoder(**arguments)
