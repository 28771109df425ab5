"""Small Keras models with random weights, of every layer that is imported. Knows Keras's layers
(of Keras 3 or of tf_keras, which are written alike); nothing of the engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

SOURCE, TARGET = 9, 7


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with random weights, so that none is its neutral value."""
    random = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own calls of NumPy
        for layer in model.layers:
            arrays = layer.get_weights()
            if layer.__class__.__name__ == "BatchNormalization":
                layer.set_weights([random.uniform(0.5, 1.5, a.shape) for a in arrays])
            elif arrays:
                layer.set_weights([random.normal(0, 0.6, a.shape) for a in arrays])
    return model


def lstm_seq2seq(k: Any, **options: Any) -> Any:
    """The example of keras.io: one-hot characters, the encoder's states start the decoder."""
    L = k.layers
    source = k.Input((None, SOURCE))
    target = k.Input((None, TARGET))
    _, h, c = L.LSTM(5, return_state=True, **options)(source)
    y, _, _ = L.LSTM(5, return_sequences=True, return_state=True, **options)(
        target, initial_state=[h, c]
    )
    return k.Model([source, target], L.Dense(TARGET, activation="softmax")(y))


def embedded(k: Any, *, mask: bool = False, length: int | None = None) -> tuple[Any, ...]:
    """Inputs and what Embeddings make of them: source, target, x, y."""
    source, target = k.Input((length,), name="words"), k.Input((None,), name="answer")
    x = k.layers.Embedding(SOURCE, 4, mask_zero=mask)(source)
    return source, target, x, k.layers.Embedding(TARGET, 4, mask_zero=mask)(target)


def gru(k: Any, **options: Any) -> Any:
    """Two layers each, the lower one handed on, TimeDistributed output."""
    L = k.layers
    source, target, x, y = embedded(k)
    x, h0 = L.GRU(5, return_sequences=True, return_state=True, **options)(L.Dropout(0.3)(x))
    x, h1 = L.GRU(5, return_state=True, **options)(x)
    y = L.GRU(5, return_sequences=True, **options)(y, initial_state=h0)
    y = L.GRU(5, return_sequences=True, **options)(L.SpatialDropout1D(0.1)(y), initial_state=h1)
    out = L.TimeDistributed(L.Dense(TARGET, activation="softmax"))(y)
    return k.Model([source, target], out)


def simple_rnn(k: Any) -> Any:
    """SimpleRNN with relu, the target's input listed first, the softmax a layer of its own."""
    L = k.layers
    source, target, x, y = embedded(k)
    h = L.SimpleRNN(5, activation="relu")(x)
    y = L.SimpleRNN(5, return_sequences=True)(y, initial_state=h)
    y = L.Dense(TARGET, use_bias=False)(y)
    return k.Model([target, source], L.Activation("softmax")(y))


def bidirectional(k: Any, merge: str = "concat", *, mask: bool = False, repeat: bool = True) -> Any:
    """A bidirectional encoder, whose joined states start the decoder, and its merged last output
    at every step."""
    L = k.layers
    source, target, x, y = embedded(k, mask=mask)
    every, *states = L.Bidirectional(
        L.LSTM(4, return_sequences=True, return_state=True), merge_mode=merge
    )(x)
    last = L.Bidirectional(L.GRU(3), merge_mode=merge)(every)
    h = L.Concatenate()([states[0], states[2]])
    c = L.Add()([L.Concatenate()([states[1], states[3]]), h, L.Dense(8)(last)])
    y = L.LSTM(8, return_sequences=True)(y, initial_state=[h, c])
    y = L.Concatenate()([y, L.RepeatVector(6)(last)]) if repeat else y
    return k.Model([source, target], L.Dense(TARGET, activation="softmax")(y))


def attentive(k: Any, kind: str = "dot", *, mask: bool = False) -> Any:
    """Attention of every kind, normalisations, and a GRU above."""
    L = k.layers
    source, target, x, y = embedded(k, mask=mask)
    x, h, c = L.LSTM(5, return_sequences=True, return_state=True)(x)
    y = L.LSTM(5, return_sequences=True)(y, initial_state=[h, c])
    if kind == "dot layers":
        scores = L.Activation("softmax")(L.Dot(axes=[2, 2])([y, x]))
        context = L.Dot(axes=[2, 1])([scores, x])
    elif kind.startswith("additive"):
        keys, query = L.Dense(5, use_bias=False)(x), L.Dense(5)(y)
        layer = L.AdditiveAttention(use_scale="scaled" in kind)
        context = layer([query, x, keys])
    else:
        layer = L.Attention(
            use_scale="scaled" in kind, score_mode="concat" if "concat" in kind else "dot"
        )
        context = layer([y, x])
    y = L.LayerNormalization()(L.Concatenate()([context, y]))
    y = L.BatchNormalization()(L.Dense(6, activation="tanh")(y))
    y = L.GRU(6, return_sequences=True)(y)
    return k.Model([source, target], L.Dense(TARGET, activation="softmax")(y))


def merged(k: Any) -> Any:
    """Multiply, Average, swish, a Dense on vectors, and one vector beside the source."""
    L = k.layers
    source, target, x, y = embedded(k)
    mood = k.Input((3,), name="mood")
    x = L.LSTM(4, return_sequences=True, go_backwards=True)(x)
    h = L.GRU(5)(L.Multiply()([x, L.Dense(4, activation="sigmoid")(x)]))
    h = L.Average()([h, L.Dense(5, activation="relu")(mood)])
    y = L.GRU(5, return_sequences=True, use_bias=False)(y, initial_state=L.Activation("tanh")(h))
    y = L.Dense(5, activation="swish")(y)
    return k.Model([source, target, mood], L.Dense(TARGET, activation="softmax")(y))


def shared(k: Any) -> Any:
    """One Embedding on both sides, and one layer called twice."""
    L = k.layers
    source, target = k.Input((None,)), k.Input((None,))
    table, dense = L.Embedding(TARGET, 4), L.Dense(5, activation="tanh")
    h = L.GRU(5)(dense(table(source)))
    y = L.GRU(5, return_sequences=True)(dense(table(target)), initial_state=h)
    return k.Model([source, target], L.Dense(TARGET, activation="softmax")(y))


def repeated(k: Any) -> Any:
    """Without a target: the encoder's vector at each of 6 steps."""
    L = k.layers
    source = k.Input((None,))
    h = L.LSTM(5)(L.Embedding(SOURCE, 4, mask_zero=True)(source))
    y = L.LSTM(5, return_sequences=True)(L.RepeatVector(6)(h))
    out = L.TimeDistributed(L.Dense(TARGET, activation="softmax"))(y)
    return k.Model(source, out)


def translator(k: Any) -> Any:
    """The sequential model of many tutorials: a fixed length, a mask, a vector at every step."""
    L = k.layers
    return k.Sequential(
        [
            k.Input((5,)),
            L.Embedding(SOURCE, 4, mask_zero=True),
            L.LSTM(5),
            L.RepeatVector(6),
            L.LSTM(5, return_sequences=True),
            L.TimeDistributed(L.Dense(TARGET, activation="softmax")),
        ]
    )


def tagger(k: Any) -> Any:
    L = k.layers
    return k.Sequential(
        [
            k.Input((None,)),
            L.Embedding(SOURCE, 4),
            L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode="sum"),
            L.TimeDistributed(L.Dense(TARGET, activation="softmax")),
        ]
    )


def classifier(k: Any, pool: str = "GlobalAveragePooling1D") -> Any:
    L = k.layers
    source = k.Input((None, SOURCE))
    x = L.Masking()(source) if pool != "GlobalMaxPooling1D" else source
    x = L.GRU(4, return_sequences=True)(x)
    x = L.BatchNormalization()(getattr(L, pool)()(x))
    return k.Model(source, L.Softmax()(L.Dense(3)(x)))


MERGES = ("concat", "sum", "ave", "mul")
ATTENTIONS = (
    "dot", "dot scaled", "concat", "concat scaled", "additive", "additive scaled", "dot layers",
)  # fmt: skip
# Models by name, with the damages that have no place in them.
NO_JOIN = ("concatenation",)
MODELS: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "lstm_seq2seq": (lstm_seq2seq, NO_JOIN),
    "hard_sigmoid": (
        lambda k: lstm_seq2seq(k, recurrent_activation="hard_sigmoid", dropout=0.1),
        NO_JOIN,
    ),
    "gru": (gru, NO_JOIN),
    "gru reset before": (lambda k: gru(k, reset_after=False), NO_JOIN),
    "simple_rnn": (simple_rnn, ("gates", *NO_JOIN)),
    "shared": (shared, NO_JOIN),
    "repeated": (repeated, NO_JOIN),
    "translator": (translator, NO_JOIN),
    "tagger": (tagger, NO_JOIN),
    "classifier": (classifier, NO_JOIN),
    "classifier max": (lambda k: classifier(k, "GlobalMaxPooling1D"), NO_JOIN),
    "merged": (merged, NO_JOIN),
    "masked": (lambda k: attentive(k, mask=True), ()),
    "masked bidirectional": (lambda k: bidirectional(k, mask=True, repeat=False), ()),
    **{f"merge {m}": (lambda k, m=m: bidirectional(k, m), ()) for m in MERGES},
    **{f"attention {a}": (lambda k, a=a: attentive(k, a), ()) for a in ATTENTIONS},
}
