"""The Keras importer: models of every layer, made by Keras here and now, beside Keras itself."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_models import MODELS, SOURCE, TARGET, embedded, randomised
from verified import check

from s2s_engine import Engine, InputError, ModelFormatError
from s2s_engine.importers.loading import import_model, open_foreign
from s2s_engine.importers.verification import verify

RULES = {"start": 1, "end": [2], "reverse_source": False}
NO_JOIN = ("concatenation",)
ALONE = ("tagger", "classifier", "classifier max", "repeated", "translator")


def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")


def saved(path: Path, model: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def made(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return randomised(MODELS[name][0](keras()))


def options(name: str) -> dict[str, Any]:
    if name in ("repeated", "translator"):
        return {"reverse_source": False}
    return {} if name in ALONE else dict(RULES)


@pytest.mark.parity("keras", "torch", "h5py")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_what_keras_computes(name: str, tmp_path: Path) -> None:
    model = made(name)
    imported = check(
        saved(tmp_path / "model.keras", model), "keras", options(name), without=MODELS[name][1]
    )
    # The older format has the same graphs and weights.
    older = open_foreign(saved(tmp_path / "model.h5", model), None, options(name))
    assert verify(older.model, imported.peer()).passed


# --- what is decoded ---


def greedy(model: Any, sources: dict[str, Any], ends: list[int], limit: int) -> list[int]:
    """The loop of the example: the training model is run over what was written so far."""
    ids = [1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(ids) <= limit and ids[-1] not in ends:
            given = []
            for one in model.inputs:
                size = one.shape[-1]
                values = np.array([sources.get(one.name, ids)])
                given.append(np.eye(size)[values] if len(one.shape) == 3 else values)
            ids.append(int(model(given)[0, len(ids) - 1].argmax()))
    return ids[1:]


@pytest.mark.parity("keras", "torch", "h5py")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "name", ["lstm_seq2seq", "gru", "masked", "attention additive scaled", "attention dot layers"]
)
def test_tokens_are_those_of_a_greedy_loop(name: str, suffix: str, tmp_path: Path) -> None:
    model = made(name)
    random = np.random.default_rng(1)
    with Engine.load(saved(tmp_path / f"model{suffix}", model), **RULES, max_length=12) as engine:
        for length in (1, 2, 4, 7, 11):
            ids = random.integers(1, SOURCE, length).tolist()
            want = greedy(model, {model.inputs[0].name: ids}, [2], 12)
            assert list(engine.decode(ids).ids) == [one for one in want if one != 2]


@pytest.mark.parity("keras", "torch", "h5py")
def test_the_vocabulary_of_the_example_tells_start_and_end(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.h5", made("lstm_seq2seq"))
    words = {"source_vocabulary": list("abcdefghi"), "target_vocabulary": list("\t\nabcde")}
    model = import_model(path, reverse_source=False, **words)
    assert (model.start, list(model.end), model.characters) == (0, [1], True)
    with Engine.load(model) as engine, Engine.load(model) as other:
        assert engine.decode("bad").ids == other.decode([1, 0, 3]).ids
    assert import_model(path, reverse_source=True, characters=False, **words).source.reverse
    assert model.provenance["keras_version"] == keras().__version__


@pytest.mark.parity("keras", "torch", "h5py")
def test_repeated_vectors_give_their_number_of_ids(tmp_path: Path) -> None:
    model = made("repeated")
    with Engine.load(saved(tmp_path / "model.keras", model), reverse_source=True) as engine:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = model(np.array([[3, 2, 5]]))[0].argmax(-1).tolist()
        assert list(engine.decode([5, 2, 3]).ids) == want


# --- padding ---


@pytest.mark.parity("keras", "torch", "h5py")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("reverse", [False, True])
def test_sources_are_filled_up_as_they_were_in_training(
    side: str, reverse: bool, tmp_path: Path
) -> None:
    """Rows of zeros in front of or behind what the encoder reads, to 8."""
    model = made("lstm_seq2seq")
    path = saved(tmp_path / "model.keras", model)
    given = {**RULES, "padded_length": 8, "padding_id": -1, "padding_side": side}
    loaded = import_model(path, **{**given, "reverse_source": reverse})
    target = [0, 3, 4]
    rows = np.eye(SOURCE)[[5, 3, 1] if reverse else [1, 3, 5]]
    zeros = np.zeros((5, SOURCE))
    source = np.concatenate([zeros, rows] if side == "left" else [rows, zeros])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model([source[None], np.eye(TARGET)[[[1, *target]]]])[0].detach().numpy()
    with Engine.load(loaded) as engine:
        logits = engine.forced_logits([1, 3, 5], target)
    np.testing.assert_allclose(softmax(logits), found, atol=1e-5)
    assert len(import_model(path, source_vocabulary=list("abcdefghi"), **given).vocabularies[
        "tokens"
    ]) == SOURCE + 1  # fmt: skip


@pytest.mark.parity("keras", "torch", "h5py")
def test_padding_behind_a_mask_changes_nothing(tmp_path: Path) -> None:
    model = made("masked")
    loaded = import_model(saved(tmp_path / "model.keras", model), **RULES, padded_length=9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model([np.array([[4, 7, 3, 0, 0, 0]]), np.array([[1, 5, 0, 4]])])
    with Engine.load(loaded) as engine:
        logits = engine.forced_logits([4, 7, 3], [5, 0, 4])
    np.testing.assert_allclose(softmax(logits), found[0].detach().numpy(), atol=1e-5)


@pytest.mark.parity("keras", "torch", "h5py")
def test_a_fixed_length_is_filled_up_to(tmp_path: Path) -> None:
    k = keras()
    source, target, x, y = embedded(k, length=6)
    y = k.layers.GRU(4, return_sequences=True)(y, initial_state=k.layers.GRU(4)(x))
    model = k.Model([source, target], k.layers.Dense(TARGET, activation="softmax")(y))
    path = saved(tmp_path / "model.keras", randomised(model))
    with pytest.raises(InputError, match="needs the option padding_id"):
        import_model(path, **RULES)
    loaded = import_model(path, **RULES, padding_id=0, padding_side="right")
    assert loaded.source.prepare([3, 4]) == [3, 4, 0, 0, 0, 0]
    check(path, "keras", {**RULES, "padding_id": 0, "padding_side": "right"}, without=NO_JOIN)
    with pytest.raises(InputError, match="padding_id is -1, rows of zeros, but the source is no"):
        import_model(path, **RULES, padding_id=-1, padding_side="right")
    # Without padding where the shape does not ask for any.
    assert import_model(path, **RULES, padded_length=0).source.pad is None


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# --- options ---


@pytest.mark.parity("keras", "torch", "h5py")
def test_what_no_file_tells_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.keras", made("gru"))
    for name in RULES:
        given = {key: value for key, value in RULES.items() if key != name}
        with pytest.raises(InputError, match=f"needs the option {name} .*it changes "):
            import_model(path, **given)
    with pytest.raises(InputError, match="decoder_input is 'x'; inputs are words, answer"):
        import_model(path, **RULES, decoder_input="x")
    with pytest.raises(ModelFormatError, match=r"reads what layer 'gru.*' gives behind the last"):
        import_model(path, **RULES, decoder_input="words")
    with pytest.raises(InputError, match="option decoder_input is 3, must be a string"):
        import_model(path, **RULES, decoder_input=3)
    loaded = import_model(path, **RULES, decoder_input="answer", max_length=33, unknown=4)
    assert loaded.generation == {"beam_size": 1, "max_length": 33}
    assert loaded.source.unknown == 4
    assert loaded.provenance["decoder_input"] == "answer"


@pytest.mark.parity("keras", "torch", "h5py")
def test_logits_without_a_softmax(tmp_path: Path) -> None:
    k = keras()
    model = randomised(k.Sequential([k.Input((None,)), k.layers.Embedding(5, 3), k.layers.GRU(4),
                                     k.layers.Dense(3)]))  # fmt: skip
    path = saved(tmp_path / "model.keras", model)
    with pytest.raises(InputError, match="needs the option from_logits"):
        import_model(path)
    with pytest.raises(ModelFormatError, match="gives numbers, not probabilities of ids"):
        import_model(path, from_logits=False)
    check(path, "keras", {"from_logits": True}, without=NO_JOIN)
    model.compile(loss=k.losses.SparseCategoricalCrossentropy(from_logits=True))
    for suffix in (".keras", ".h5"):
        assert import_model(saved(tmp_path / f"told{suffix}", model)).graphs.keys() == {"encoder"}


@pytest.mark.parity("keras", "torch", "h5py")
def test_features_are_read_as_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.keras", made("lstm_seq2seq"))
    imported = check(
        path, "keras", {"start": 1, "end": [2], "source_features": True,
                        "decoder_input": target_of(path)}, without=NO_JOIN
    )  # fmt: skip
    assert next(iter(imported.model.graphs["encoder"].inputs.values())).kind == "sequence"


def target_of(path: Path) -> str:
    return str(import_model(path, **RULES).provenance["decoder_input"])


# --- an encoder and a step that were saved apart ---


def apart(model: Any, folder: Path, *, suffix: str = ".keras", turned: bool = False) -> list[Path]:
    """As the example does it: new models of the trained layers."""
    k = keras()
    lstms = [one for one in model.layers if one.__class__.__name__ == "LSTM"]
    _, *states = lstms[0].output
    encoder = k.Model(model.inputs[0], states)
    given = [k.Input((5,)), k.Input((5,))]
    target = k.Input((None, TARGET), name="answer")
    y, *after = lstms[1](target, initial_state=given)
    after = after[::-1] if turned else after
    step = k.Model([target, *given], [model.layers[-1](y), *after])
    return [saved(folder / f"{name}{suffix}", one) for name, one in (("e", encoder), ("d", step))]


@pytest.mark.parity("keras", "torch", "h5py")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_an_encoder_and_a_step_are_the_model_they_were_trained_as(
    suffix: str, tmp_path: Path
) -> None:
    model = made("lstm_seq2seq")
    files = apart(model, tmp_path, suffix=suffix)
    imported = check(files, "keras", RULES, without=NO_JOIN)
    whole = import_model(saved(tmp_path / "model.keras", model), **RULES)
    with Engine.load(whole) as one, Engine.load(imported.model) as other:
        for source in ([1], [3, 4, 8, 2]):
            np.testing.assert_array_equal(
                one.forced_logits(source, [3, 4]), other.forced_logits(source, [3, 4])
            )


@pytest.mark.parity("keras", "torch", "h5py")
def test_a_pair_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = made("lstm_seq2seq")
    encoder, step = apart(model, tmp_path, turned=True)
    with pytest.raises(ModelFormatError, match="must give its layers' new states behind"):
        import_model([encoder, step], **RULES)
    with pytest.raises(ModelFormatError, match="the decoder has 0 inputs besides"):
        import_model([encoder, encoder], **RULES)
    with pytest.raises(InputError, match="the decoder has no input 'x'"):
        import_model([encoder, step], **RULES, decoder_input="x")


@pytest.mark.parity("keras", "torch", "h5py")
def test_a_step_that_attends_reads_the_memory_of_the_encoder(tmp_path: Path) -> None:
    k = keras()
    L = k.layers
    source, memory = k.Input((None,)), k.Input((None, 4), name="memory")
    encoder = k.Model(source, L.GRU(4, return_sequences=True, return_state=True)(
        L.Embedding(SOURCE, 3)(source)))  # fmt: skip
    token, state = k.Input((1,), name="token"), k.Input((4,), name="state")
    y, after = L.GRU(4, return_sequences=True, return_state=True)(
        L.Embedding(TARGET, 3)(token), initial_state=state
    )
    y = L.Concatenate()([y, L.Attention()([y, memory])])
    step = k.Model([token, memory, state], [L.Dense(TARGET, activation="softmax")(y), after])
    files = [
        saved(tmp_path / f"{name}.keras", randomised(one))
        for name, one in (("encoder", encoder), ("step", step))
    ]
    check(files, "keras", RULES)


@pytest.mark.parity("keras", "torch", "h5py")
def test_a_model_of_one_input_may_continue_it(tmp_path: Path) -> None:
    k = keras()
    L = k.layers
    ids = k.Input((None,), name="ids")
    y = L.LSTM(5, return_sequences=True)(L.Embedding(TARGET, 4)(ids))
    model = randomised(k.Model(ids, L.Dense(TARGET, activation="softmax")(y)))
    path = saved(tmp_path / "model.keras", model)
    assert import_model(path).graphs.keys() == {"encoder"}  # a label for each position
    with Engine.load(path, decoder_input="ids", start=1, end=[2], max_length=9) as engine:
        want = greedy(model, {}, [2], 9)
        assert list(engine.decode([]).ids) == [one for one in want if one != 2]
