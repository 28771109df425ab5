"""Models without an encoder: a prompt is fed behind the start and continued, in the core as in the
reference."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from s2s_engine import Engine, InputError, Model, ModelBuilder

V, E, H = 12, 5, 33


def language_model(*, start: int | None = 0, words: bool = False, **generation: Any) -> Model:
    random = np.random.default_rng(1)

    def weights(*shape: int) -> Any:
        return (random.normal(size=shape) * 0.4).astype(np.float32)

    m = ModelBuilder(target=V)
    d = m.decoder
    h = d.gru_cell(
        [d.embedding(d.token, weights(V, E)), d.embedding(d.step(64), weights(64, 3))],
        d.state("h", size=H),
        {"weight_ih": weights(3 * H, E + 3), "weight_hh": weights(3 * H, H)},
    )
    d.next(h=h)
    d.output(logits=d.linear(h, weights(V, H)))
    vocabularies = {"target": [f"w{n}" for n in range(V)]} if words else {}
    options = {"max_length": 9, **generation}
    return m.build(start=start, end=[1], vocabularies=vocabularies, generation=options)


PROMPTS = ([3, 4], [5], [6, 7, 8, 9, 2])


@pytest.mark.parametrize("start", [0, None])
@pytest.mark.parametrize("beam", [1, 4])
def test_core_and_reference_continue_a_prompt_alike(isa: str, start: int | None, beam: int) -> None:
    model = language_model(start=start)
    reference = model.reference()
    with Engine.load(model, isa=isa) as engine:
        for prompt in PROMPTS:
            options = {"beam_size": beam, "num_hypotheses": beam}
            ours = engine.decode(prompt, **options)
            theirs = reference.decode(prompt, **options)
            assert [h.ids for h in ours.hypotheses] == [h.ids for h in theirs.hypotheses]
            assert abs(ours.score - theirs.score) < 1e-5
            logits = engine.forced_logits(prompt, [4, 5])
            assert logits.shape == (3, V)
            # Some tens of float32 roundings on numbers of order 1.
            assert np.abs(logits - reference.forced_logits(prompt, [4, 5])).max() < 1e-5


def test_a_batch_of_ragged_prompts_has_the_bits_of_one_at_a_time(isa: str) -> None:
    with Engine.load(language_model(), isa=isa) as engine:
        single = [engine.decode(prompt, beam_size=3) for prompt in PROMPTS]
        for size in (1, 2, 3):
            batch = engine.decode_batch(PROMPTS, beam_size=3, batch_size=size, threads=2)
            for one, other in zip(single, batch, strict=True):
                assert one.ids == other.ids
                first, second = one.hypotheses[0], other.hypotheses[0]
                assert first.token_log_probs.tobytes() == second.token_log_probs.tobytes()


def test_score_gives_the_numbers_of_decode() -> None:
    with Engine.load(language_model(max_length=60)) as engine:
        for prompt in PROMPTS:
            best = engine.decode(prompt).hypotheses[0]
            assert best.finish_reason == "eos"
            score = engine.score(prompt, best.ids)
            assert score.token_log_probs.tobytes() == best.token_log_probs.tobytes()
            assert score.log_prob == best.log_prob


def test_a_prompt_is_words_of_the_target_and_is_not_returned() -> None:
    with Engine.load(language_model(words=True)) as engine:
        assert engine.decode(["w3", "w4"]).tokens == [f"w{n}" for n in engine.decode([3, 4]).ids]


def test_an_empty_prompt_needs_a_start() -> None:
    with Engine.load(language_model()) as engine:
        assert engine.decode([]).ids == engine.decode().ids
    with (
        Engine.load(language_model(start=None)) as engine,
        pytest.raises(InputError, match="the prompt is empty"),
    ):
        engine.decode([])


def test_there_is_nothing_to_encode() -> None:
    with (
        Engine.load(language_model()) as engine,
        pytest.raises(InputError, match="this model has no encoder"),
    ):
        engine.encode([3])


def test_a_language_model_pickles() -> None:
    with Engine.load(language_model()) as engine:
        copy = pickle.loads(pickle.dumps(engine))
        assert copy.decode([3, 4]).ids == engine.decode([3, 4]).ids
        copy.close()
