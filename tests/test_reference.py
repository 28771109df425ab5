"""The reference against independent NumPy: each operation, layers, search, and whole models.
Knows equations; never the core."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import models
import numpy as np
import pytest
from numpy.typing import NDArray

from s2s_engine.errors import InputError, InputTooLongError, NumericalError
from s2s_engine.operations import ACTIVATIONS, OPERATIONS
from s2s_engine.options import DecodeOptions
from s2s_engine.reference_operations import EXECUTE, Arguments
from s2s_engine.reference_search import log_softmax, search

Array: TypeAlias = NDArray[np.float64]
RANDOM = np.random.default_rng(20)
# Both sides are float64 in a different order: some ten roundings of 1.1e-16 on values of order 1.
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-13}
H, D, S = 5, 4, 7


def run(op: str, inputs: Any = None, weights: Any = None, **attributes: Any) -> Any:
    """One operation on arrays; a list where the role takes many."""
    given = {r: v if isinstance(v, list) else [v] for r, v in (inputs or {}).items()}
    defaults = {name: rule.default for name, rule in OPERATIONS[op].attributes.items()}
    out = EXECUTE[op](Arguments(given, weights or {}, {**defaults, **attributes}))
    return out[""] if list(out) == [""] else out


def normal(*shape: int) -> Array:
    return np.asarray(RANDOM.standard_normal(shape))


def sigma(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def cell_weights(gates: int, inputs: int = D) -> dict[str, Array]:
    return {
        "weight_ih": normal(gates * H, inputs),
        "weight_hh": normal(gates * H, H),
        "bias_ih": normal(gates * H),
        "bias_hh": normal(gates * H),
    }


def test_every_operation_of_the_format_has_a_meaning() -> None:
    assert list(EXECUTE) == list(OPERATIONS)


# --- operations ---


def test_embedding_is_a_row_times_the_float32_scale() -> None:
    weight = normal(6, D)
    scale = float(np.float32(0.1))
    assert np.array_equal(run("embedding", {"x": np.array(3)}, {"weight": weight}, scale=0.1),
                          weight[3] * scale)  # fmt: skip
    ids = np.array([5, 0, 5])
    rows = np.stack([weight[5], weight[0], weight[5]])
    assert np.array_equal(run("embedding", {"x": ids}, {"weight": weight}), rows)


def test_embedding_of_minus_one_is_zero() -> None:
    assert np.array_equal(run("embedding", {"x": np.array(-1)}, {"weight": normal(6, D)}),
                          np.zeros(D))  # fmt: skip


def test_constant_is_its_value_or_zeros() -> None:
    value = normal(D)
    assert np.array_equal(run("constant", {}, {"value": value}, size=D), value)
    assert np.array_equal(run("constant", size=3), np.zeros(3))


def test_linear_joins_vectors_and_sequences_and_repeats_the_vector() -> None:
    x, v, w, b = normal(S, 3), normal(2), normal(H, 5), normal(H)
    out = run("linear", {"x": [x, v]}, {"weight": w, "bias": b}, activation="tanh")
    for t in range(S):
        by_hand = np.tanh(w[:, :3] @ x[t] + w[:, 3:] @ v + b)
        np.testing.assert_allclose(out[t], by_hand, **CLOSE)


def test_linear_without_bias_on_a_vector() -> None:
    x, w = normal(3), normal(H, 3)
    by_hand = [sum(w[o, i] * x[i] for i in range(3)) for o in range(H)]
    np.testing.assert_allclose(run("linear", {"x": [x]}, {"weight": w}), by_hand, **CLOSE)


def test_concat_and_slice_undo_each_other() -> None:
    x, v = normal(S, 3), normal(2)
    joined = run("concat", {"x": [x, v]})
    assert np.array_equal(run("slice", {"x": joined}, start=0, stop=3), x)
    assert np.array_equal(run("slice", {"x": joined}, start=3, stop=5), np.tile(v, (S, 1)))


@pytest.mark.parametrize("op", ["add", "multiply"])
def test_add_and_multiply_go_from_left_to_right_and_broadcast(op: str) -> None:
    a, b, c = normal(D), normal(S, D), normal(1)
    combined = run(op, {"x": [a, b, c]})
    for t, j in itertools.product(range(S), range(D)):
        by_hand = (a[j] + b[t, j]) + c[0] if op == "add" else (a[j] * b[t, j]) * c[0]
        assert combined[t, j] == by_hand


def test_interpolate_keeps_a_where_the_gate_is_one() -> None:
    a, b = normal(D), normal(D)
    gate = np.array([1.0, 0.0, 0.25, 0.5])
    by_hand = [a[0], b[1], 0.25 * a[2] + 0.75 * b[2], 0.5 * a[3] + 0.5 * b[3]]
    np.testing.assert_allclose(run("interpolate", {"gate": gate, "a": a, "b": b}), by_hand, **CLOSE)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_its_formula(name: str) -> None:
    formulas: dict[str, Callable[[float], float]] = {
        "identity": lambda v: v,
        "tanh": math.tanh,
        "sigmoid": lambda v: 1.0 / (1.0 + math.exp(-v)),
        "hard_sigmoid": lambda v: min(max(0.2 * v + 0.5, 0.0), 1.0),
        "hard_sigmoid_6": lambda v: min(max(v / 6.0 + 0.5, 0.0), 1.0),
        "relu": lambda v: max(v, 0.0),
        "softplus": lambda v: math.log(1.0 + math.exp(v)),
    }
    x = np.linspace(-8.0, 8.0, 65)
    by_hand = [formulas[name](float(v)) for v in x]
    np.testing.assert_allclose(run("activation", {"x": x}, function=name), by_hand, **CLOSE)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_a_huge_number_is_finite(name: str) -> None:
    assert np.isfinite(run("activation", {"x": np.array([-1e6, 1e6])}, function=name)).all()


def test_softmax_is_over_features() -> None:
    x = normal(S, D)
    by_hand = [np.exp(row) / np.exp(row).sum() for row in x]
    np.testing.assert_allclose(run("softmax", {"x": x}), by_hand, **CLOSE)
    assert np.array_equal(run("softmax", {"x": np.array([1e4, 1e4])}), [0.5, 0.5])


def test_pool_makes_a_vector_of_a_sequence() -> None:
    x = np.array([[1.0, 9.0], [4.0, 2.0], [1.0, 1.0]])
    by_hand = {"last": [1, 1], "first": [1, 9], "mean": [2, 4], "max": [4, 9], "sum": [6, 12]}
    for how, value in by_hand.items():
        assert np.array_equal(run("pool", {"x": x}, how=how), value)


@pytest.mark.parametrize("reset", ["after", "before"])
def test_gru_cell_is_its_equations(reset: str) -> None:
    w, x, h = cell_weights(3), normal(D), normal(H)
    w_r, w_z, w_n = (w["weight_ih"][k * H : (k + 1) * H] for k in range(3))
    u_r, u_z, u_n = (w["weight_hh"][k * H : (k + 1) * H] for k in range(3))
    b_r, b_z, b_n = (w["bias_ih"][k * H : (k + 1) * H] for k in range(3))
    c_r, c_z, c_n = (w["bias_hh"][k * H : (k + 1) * H] for k in range(3))
    r = sigma(w_r @ x + b_r + u_r @ h + c_r)
    z = sigma(w_z @ x + b_z + u_z @ h + c_z)
    recurrent = r * (u_n @ h + c_n) if reset == "after" else u_n @ (r * h) + c_n
    by_hand = z * h + (1 - z) * np.tanh(w_n @ x + b_n + recurrent)
    out = run("gru_cell", {"x": [x[:1], x[1:]], "h": h}, w, reset=reset)
    np.testing.assert_allclose(out, by_hand, **CLOSE)


def test_lstm_cell_is_its_equations() -> None:
    w, x, h, c = cell_weights(4), normal(D), normal(H), normal(H)
    gates = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    i, f, g, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
    c_next = sigma(f) * c + sigma(i) * np.tanh(g)
    out = run("lstm_cell", {"x": [x], "h": h, "c": c}, w)
    np.testing.assert_allclose(out["c"], c_next, **CLOSE)
    np.testing.assert_allclose(out["h"], sigma(o) * np.tanh(c_next), **CLOSE)


def test_cell_activations_are_those_of_its_attributes() -> None:
    w, x = cell_weights(4), normal(D)
    gates = w["weight_ih"] @ x + w["bias_ih"] + w["bias_hh"]
    hard = np.clip(0.2 * gates + 0.5, 0, 1)
    c_next = hard[:H] * np.maximum(gates[2 * H : 3 * H], 0)
    out = run("lstm_cell", {"x": [x]}, w, activation="relu", gate_activation="hard_sigmoid")
    np.testing.assert_allclose(out["h"], hard[3 * H :] * np.maximum(c_next, 0), **CLOSE)


@pytest.mark.parametrize(("op", "gates"), [("gru_cell", 3), ("lstm_cell", 4)])
def test_missing_state_and_bias_are_zero(op: str, gates: int) -> None:
    w, x = cell_weights(gates), normal(D)
    bare = {role: w[role] for role in ("weight_ih", "weight_hh")}
    zeros = bare | {"bias_ih": np.zeros(gates * H), "bias_hh": np.zeros(gates * H)}
    states = {"h": np.zeros(H)} | ({"c": np.zeros(H)} if gates == 4 else {})
    one, other = run(op, {"x": [x]}, bare), run(op, {"x": [x], **states}, zeros)
    assert np.array_equal(np.stack(list(one.values()) if gates == 4 else [one]),
                          np.stack(list(other.values()) if gates == 4 else [other]))  # fmt: skip


def test_transition_cell_without_x_is_a_cell_whose_input_is_zero() -> None:
    w, h = cell_weights(3), normal(H)
    bare = {role: w[role] for role in ("weight_hh", "bias_hh", "bias_ih")}
    with_x = run("gru_cell", {"x": [np.zeros(D)], "h": h}, w)
    assert np.array_equal(run("gru_cell", {"h": h}, bare), with_x)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("kind", "gates"), [("gru", 3), ("lstm", 4)])
def test_layer_equals_unrolled_cells(kind: str, gates: int, direction: str) -> None:
    w, x = cell_weights(gates), normal(S, D)
    names = ["h"] if kind == "gru" else ["h", "c"]
    initial = {name: normal(H) for name in names}
    out = run(kind, {"x": [x], **initial}, w, direction=direction)
    state, sequence = initial, np.empty((S, H))
    for t in range(S) if direction == "forward" else range(S - 1, -1, -1):
        after = run(f"{kind}_cell", {"x": [x[t]], **state}, w)
        state = {"h": after} if kind == "gru" else after
        sequence[t] = state["h"]
    assert np.array_equal(out["sequence"], sequence)
    for name in names:
        assert np.array_equal(out[name], state[name])
    # The last position visited is the first one of the source for a backward layer.
    assert np.array_equal(out["h"], out["sequence"][-1 if direction == "forward" else 0])


@pytest.mark.parametrize("normaliser", ["softmax", "none"])
@pytest.mark.parametrize("score", ["dot", "additive", "given"])
def test_attention_is_its_equations(score: str, normaliser: str) -> None:
    query, keys, values, v = normal(D), normal(S, D), normal(S, 3), normal(D)
    scores = normal(S, 1)
    inputs = {"given": {"scores": scores}}.get(score, {"query": query, "keys": keys})
    weights = {"v": v} if score == "additive" else {}
    scale = 0.3
    e = np.empty(S)
    for j in range(S):
        e[j] = {
            "dot": query @ keys[j],
            "additive": v @ np.tanh(query + keys[j]),
            "given": scores[j, 0],
        }[score] * float(np.float32(scale))
    a = np.exp(e) / np.exp(e).sum() if normaliser == "softmax" else e
    out = run("attention", {**inputs, "values": values}, weights,
              score=score, scale=scale, normaliser=normaliser)  # fmt: skip
    np.testing.assert_allclose(out["weights"], a[:, None], **CLOSE)
    np.testing.assert_allclose(out["context"], sum(a[j] * values[j] for j in range(S)), **CLOSE)


# --- whole models ---


def test_lstm_luong_equals_the_equations_written_out() -> None:
    """Luong et al. 2015, eqs. 5, 7, 8 and input feeding, without the executor."""
    model = models.lstm_luong()
    w = {name: np.asarray(array, np.float64) for name, array in model.tensors.items()}
    source, target = [4, 5, 6], [7, 3, 8]

    def lstm(name: str, x: Array, h: Array, c: Array) -> Any:
        weights = {r: w[f"{name}.{r}"] for r in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        out = run("lstm_cell", {"x": [x], "h": h, "c": c}, weights)
        return out["h"], out["c"]

    xs = w["encoder.embedding.weight"][[*source, models.END]]
    zero = np.zeros(6)
    h, c, forward = zero, zero, []
    for x in xs:
        h, c = lstm("encoder.lstm", x, h, c)
        forward.append(h)
    backward: list[Array] = []
    h_b, c_b = zero, zero
    for x in xs[::-1]:
        h_b, c_b = lstm("encoder.lstm_2", x, h_b, c_b)
        backward.insert(0, h_b)
    memory = np.hstack([forward, backward])
    h = w["encoder.linear.weight"] @ np.concatenate([h, h_b])
    c = w["encoder.linear_2.weight"] @ np.concatenate([c, c_b])
    keys = memory @ w["encoder.linear_3.weight"].T
    feed, logits = zero, []
    for token in [models.START, *target]:
        x = np.concatenate([w["decoder.embedding.weight"][token], feed])
        h, c = lstm("decoder.lstm_cell", x, h, c)
        e = np.exp(keys @ h)
        feed = np.tanh(w["decoder.linear.weight"] @ np.concatenate([e / e.sum() @ memory, h]))
        logits.append(w["decoder.linear_2.weight"] @ feed)
    np.testing.assert_allclose(model.reference().forced_logits(source, target), logits, **CLOSE)


@pytest.mark.parametrize("name", models.DECODERS)
@pytest.mark.parametrize("beam_size", [1, 4])
def test_score_of_a_decoded_target_is_the_decoded_score(name: str, beam_size: int) -> None:
    reference = models.DECODERS[name]().reference()
    result = reference.decode([4, 5, 6], beam_size=beam_size, num_hypotheses=beam_size)
    for hypothesis in result.hypotheses:
        score = reference.score([4, 5, 6], hypothesis.ids)
        count = len(hypothesis.token_log_probs)
        assert np.array_equal(score.token_log_probs[:count], hypothesis.token_log_probs)
        assert hypothesis.log_prob == sum(float(p) for p in hypothesis.token_log_probs)
        if hypothesis.finish_reason == "eos":
            assert score.log_prob == hypothesis.log_prob
            assert count == len(hypothesis.ids) + 1


@pytest.mark.parametrize("name", [n for n in models.DECODERS if n != "gru_plain"])
def test_attention_has_a_row_per_scored_token_that_sums_to_one(name: str) -> None:
    result = models.DECODERS[name]().reference().decode([4, 5, 6], return_attention=True)
    assert result.attention is not None
    shape = (len(result.hypotheses[0].token_log_probs), len(result.source))
    assert result.attention.shape == shape
    # float32 weights: each is off by at most half an ulp of 1, 6e-8.
    np.testing.assert_allclose(result.attention.sum(axis=1), 1.0, rtol=0, atol=shape[1] * 6e-8)


def test_attention_of_a_model_without_alignment_is_an_input_error() -> None:
    with pytest.raises(InputError, match="gives no alignment"):
        models.gru_plain().reference().decode([4], return_attention=True)


def test_trace_holds_every_value_and_the_logits_of_every_step() -> None:
    model = models.lstm_luong()
    trace = model.reference().trace([4, 5, 6], [7, 3])
    assert len(trace.steps) == 3
    types = model.types()
    for types_, values in [(types["encoder"], trace.encoder)] + [
        (types["decoder"], step) for step in trace.steps
    ]:
        assert set(types_) <= set(values)
        for reference, type_ in types_.items():
            shape = {"ids": (4,), "id": (), "vector": (type_.size,), "sequence": (4, type_.size)}
            assert values[reference].shape == shape[type_.kind]
    logits = model.reference().forced_logits([4, 5, 6], [7, 3])
    assert np.array_equal(logits, [step["linear_2"] for step in trace.steps])


def test_source_rule_applies_to_strings_and_ids_alike_unless_prepared() -> None:
    reference = models.lstm_luong().reference()
    by_ids = reference.decode([4, 5])
    assert by_ids.source == ["s4", "s5", "s2"]
    assert reference.decode(["s4", "s5"]).ids == by_ids.ids
    assert reference.decode([4, 5, 2], prepared=True).score == by_ids.score


def test_generation_of_the_model_gives_default_options() -> None:
    reference = models.no_recurrence().reference()
    assert len(reference.decode([4, 5, 6]).ids) == 3  # max_length "source", no end id
    assert len(reference.decode([4, 5, 6], max_length=(2, 1)).ids) == 7
    assert len(reference.decode([4, 5, 6], options=DecodeOptions(max_length=2)).ids) == 2
    many = models.gru_plain(beam_size=3, num_hypotheses=3).reference()
    assert len(many.decode([4, 5]).hypotheses) == 3


def test_tagger_gives_the_arg_max_of_every_position() -> None:
    reference = models.tagger().reference()
    logits = reference.encode([4, 5, 6])["logits"]
    result = reference.decode([4, 5, 6])
    assert result.ids == list(logits.argmax(axis=1))
    assert result.tokens == [f"label{i}" for i in result.ids]
    by_hand = logits.max(axis=1) - np.log(np.exp(logits).sum(axis=1))
    # float32 of numbers below 8: half an ulp is 2.4e-7.
    np.testing.assert_allclose(result.hypotheses[0].token_log_probs, by_hand, rtol=0, atol=2.4e-7)
    assert reference.score([4, 5, 6], result.ids).log_prob == result.score
    with pytest.raises(InputError, match="the target has 2 tokens, must have 3"):
        reference.score([4, 5, 6], [0, 1])


def test_classifier_gives_one_token() -> None:
    result = models.classifier().reference().decode([4, 5, 6])
    assert len(result.ids) == 1
    assert result.tokens == [str(result.ids[0])]
    assert len(result.hypotheses[0].token_log_probs) == 1


def test_beam_options_of_a_model_without_a_decoder_are_an_input_error() -> None:
    with pytest.raises(InputError, match="beam_size is 2, but this model has no decoder"):
        models.tagger().reference().decode([4], beam_size=2)


def test_features_are_the_input_of_a_captioner() -> None:
    reference = models.captioner().reference()
    image = np.linspace(-1, 1, 7, dtype=np.float32)
    by_features = reference.decode(features=image)
    assert by_features.ids == reference.decode(inputs={"image": image.astype(np.float64)}).ids
    for wrong in (image[:6], image[None], image.astype(int), np.full(7, np.nan), None):
        with pytest.raises(InputError):
            reference.decode(features=wrong)
    with pytest.raises(InputError, match="reads no sequence"):
        reference.decode([1, 2])
    with pytest.raises(InputError, match="max_length is 'source'"):
        reference.decode(features=image, max_length="source")


def test_source_beyond_the_positions_of_the_model_is_too_long() -> None:
    reference = models.gru_positions(bound=6).reference()
    assert reference.decode([4] * 5).source == ["s4"] * 5 + ["s2"]
    with pytest.raises(InputTooLongError, match="7 tokens once prepared, more than the 6 pos"):
        reference.decode([4] * 6)


def test_max_length_beyond_the_steps_of_the_model_is_an_input_error() -> None:
    with pytest.raises(InputError, match="max_length allows 13 ids here, more than the 12 steps"):
        models.gru_positions(steps=12).reference().decode([4], max_length=13)


# --- search ---


@pytest.mark.parametrize("name", ["gru_plain", "lstm_luong", "gru_additive"])
@pytest.mark.parametrize("seed", [3, 4])
def test_wide_beam_equals_brute_force(name: str, seed: int) -> None:
    """At most 4 of 4 ids: a beam of more rows than there are prefixes is exact."""
    model = models.DECODERS[name](seed, target=4, source=5)
    reference, source, longest, count = model.reference(), [3, 4, 0], 4, 30
    log_probs: dict[tuple[int, ...], Array] = {}
    tokens = [i for i in range(4) if i != models.END]
    for size in range(longest):
        for prefix in itertools.product(tokens, repeat=size):
            logits = reference.forced_logits(source, list(prefix))
            log_probs[prefix] = log_softmax(logits[-1], "brute force").astype(np.float64)

    def total(path: tuple[int, ...]) -> float:
        return sum(float(log_probs[path[:t]][path[t]]) for t in range(len(path)))

    paths = [(*prefix, models.END) for prefix in log_probs]
    paths += list(itertools.product(tokens, repeat=longest))
    best = sorted(paths, key=lambda path: -total(path))[:count]
    result = reference.decode(source, beam_size=200, num_hypotheses=count, max_length=longest)
    assert [h.score for h in result.hypotheses] == [total(path) for path in best]
    assert [tuple(h.ids) for h in result.hypotheses] == [
        path[:-1] if path[-1] == models.END else path for path in best
    ]


def searched(table: dict[Any, list[float]], **options: Any) -> Any:
    """A search over probabilities by prefix; the state is the prefix, the start is None."""

    def step(state: Any, token: int, number: int) -> Any:
        prefix = () if state is None else (*state, token)
        assert len(prefix) == number
        return prefix, np.log(np.array(table.get(prefix, table["otherwise"]))), None

    defaults = {"start": 0, "end": [0], "beam_size": 1, "num_hypotheses": 1, "max_length": 3}
    return [(p.ids, p.reason) for p in search(step, None, **{**defaults, **options})]


EVEN = [0.25, 0.25, 0.25, 0.25]


def test_ties_break_towards_the_lower_token_then_the_lower_parent() -> None:
    table: dict[Any, list[float]] = {"otherwise": EVEN}
    found = searched(table, end=[], beam_size=4, num_hypotheses=4, max_length=2)
    # All scores are equal, so tokens of the last step come first: 0 of every parent.
    assert [ids for ids, _ in found] == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_greedy_takes_the_best_token_only() -> None:
    # The end is second best at the first step and would beat the greedy path as a whole.
    table: dict[Any, list[float]] = {(): [0.4, 0.6, 1e-9, 1e-9], "otherwise": [0.1, 0.3, 0.3, 0.3]}
    assert searched(table, max_length=2) == [((1, 1), "length")]
    assert searched(table, beam_size=2, max_length=2) == [((0,), "eos")]


def test_finished_hypothesis_leaves_the_beam_and_frees_its_place() -> None:
    table: dict[Any, list[float]] = {(): [0.5, 0.3, 0.2, 1e-9], (1,): [0.9, 0.1, 1e-9, 1e-9],
             (2,): [0.9, 0.1, 1e-9, 1e-9], "otherwise": EVEN}  # fmt: skip
    found = searched(table, beam_size=2, num_hypotheses=2)
    assert found == [((0,), "eos"), ((1, 0), "eos")]
    found = searched(table, beam_size=3, num_hypotheses=3)
    assert found == [((0,), "eos"), ((1, 0), "eos"), ((2, 0), "eos")]


def test_of_equal_finished_hypotheses_the_earlier_wins() -> None:
    table: dict[Any, list[float]] = {(): [0.5, 0.5], "otherwise": [1.0 - 1e-12, 1e-12]}
    assert searched(table, beam_size=2) == [((0,), "eos")]
    assert searched(table, beam_size=2, num_hypotheses=2) == [((0,), "eos"), ((1, 0), "eos")]


def test_hypotheses_cut_at_max_length_compete_with_finished_ones() -> None:
    table: dict[Any, list[float]] = {(): [0.1, 0.9], "otherwise": [0.1, 0.9]}
    found = searched(table, beam_size=2, num_hypotheses=2, max_length=2)
    assert found == [((1, 1), "length"), ((0,), "eos")]


def test_several_end_ids_all_end() -> None:
    table: dict[Any, list[float]] = {(): [0.3, 0.3, 0.4], "otherwise": [0.2, 0.7, 0.1]}
    found = searched(table, end=[0, 1], beam_size=3, num_hypotheses=3, max_length=5)
    assert found == [((0,), "eos"), ((1,), "eos"), ((2, 1), "eos")]


def test_impossible_candidate_is_no_hypothesis() -> None:
    def step(state: Any, token: int, number: int) -> Any:
        # The difference of the logits leaves float32: a log-probability of -inf.
        return None, np.array([0.0, -3e38 - 3e38]), None

    found = search(step, None, start=0, end=[0], beam_size=2, num_hypotheses=2, max_length=3)
    assert [path.ids for path in found] == [(0,)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logit_that_is_not_finite_is_a_numerical_error_naming_the_step(bad: float) -> None:
    def step(state: Any, token: int, number: int) -> Any:
        return None, np.array([0.0, 1.0, bad if number == 2 else -1.0]), None

    with pytest.raises(NumericalError, match="step 2"):
        search(step, None, start=0, end=[], beam_size=1, num_hypotheses=1, max_length=5)


def test_beam_larger_than_the_vocabulary_still_gives_all_that_exist() -> None:
    found = searched({"otherwise": EVEN}, beam_size=50, num_hypotheses=50, max_length=1)
    assert len(found) == 4


def test_empty_target_of_a_model_without_end_scores_nothing() -> None:
    score = models.no_recurrence().reference().score([4, 5], [])
    assert score.log_prob == 0.0
    assert score.token_log_probs.shape == (0,)
