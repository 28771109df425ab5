"""Writes the files beside this one: TensorFlow's tutorial nmt_with_attention in its three versions,
tiny, as TensorFlow saves it, and what it computes.

    python -m venv tf && tf/bin/pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0 numpy==2.4.6
    tf/bin/python make.py

Networks are those of the tutorial in Keras 2, which it was written for; `third_keras3` is saved by
Keras 3, whose names differ. Weights are random, of fixed seeds; sums.json has the SHA-256 of each
file.
"""

# mypy: ignore-errors
from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_USE_LEGACY_KERAS"] = "0" if "keras3" in sys.argv else "1"
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
layers, Layer, Model = tf.keras.layers, tf.keras.layers.Layer, tf.keras.Model
SOURCE = ["", "[UNK]", "[START]", "[END]", "hola", "que", "tal", "hay", "aqui"]
TARGET = ["", "[UNK]", "[END]", "[START]", "hi", "how", "are", "you"]
E, H = 3, 4
STEPS = 6  # of a greedy search


def gru(units=H):
    return layers.GRU(units, return_sequences=True, return_state=True)


class Holder(Layer):
    """An encoder or a decoder: layers by their names, called one by one below."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


class CrossAttention(Layer):
    """Of the third version."""

    def __init__(self):
        super().__init__()
        self.mha = layers.MultiHeadAttention(key_dim=H, num_heads=1)
        self.layernorm = layers.LayerNormalization()
        self.add = layers.Add()

    def call(self, x, memory):
        read, weights = self.mha(query=x, value=memory, return_attention_scores=True)
        return self.layernorm(self.add([x, read])), tf.reduce_mean(weights, axis=1)


class Bahdanau(Layer):
    """Of the first version; `swapped`: until February 2020."""

    def __init__(self):
        super().__init__()
        self.W1, self.W2, self.V = layers.Dense(H), layers.Dense(H), layers.Dense(1)

    def call(self, query, memory, swapped=False):
        query = tf.expand_dims(query, 1)
        summed = self.W1(memory) + self.W2(query) if swapped else self.W1(query) + self.W2(memory)
        weights = tf.nn.softmax(self.V(tf.nn.tanh(summed)), axis=1)
        return tf.reduce_sum(weights * memory, axis=1), weights[..., 0]


class Additive(Layer):
    """Of the second version."""

    def __init__(self):
        super().__init__()
        self.W1, self.W2 = (layers.Dense(H, use_bias=False) for _ in range(2))
        self.attention = layers.AdditiveAttention()

    def call(self, query, memory, mask):
        asked = tf.ones(tf.shape(query)[:-1], dtype=bool)
        context, weights = self.attention(
            [self.W1(query), memory, self.W2(memory)],
            mask=[asked, mask],
            return_attention_scores=True,
        )
        return context, weights[:, 0]


class First:
    """encode gives the memory and the first state; step the logits, the next state and weights.

    ids: start and end; masked: what is never written, by the Translator of the second version."""

    ids, masked = (3, 2), ()

    def __init__(self, swapped=False):
        self.swapped = swapped
        self.encoder = Holder(embedding=layers.Embedding(len(SOURCE), E), gru=gru())
        self.decoder = Holder(
            embedding=layers.Embedding(len(TARGET), E),
            gru=gru(),
            fc=layers.Dense(len(TARGET)),
            attention=Bahdanau(),
        )

    def encode(self, x):
        return self.encoder.gru(self.encoder.embedding(x), initial_state=tf.zeros((1, H)))

    def step(self, x, y, h, memory):
        d = self.decoder
        context, weights = d.attention(h, memory, self.swapped)
        read = tf.concat([tf.expand_dims(context, 1), d.embedding(y)], axis=-1)
        output, state = d.gru(read)
        return d.fc(tf.reshape(output, (-1, H))), state, weights


class Second(First):
    masked = (0, 1, 3)

    def __init__(self):
        self.encoder = Holder(embedding=layers.Embedding(len(SOURCE), E), gru=gru())
        self.decoder = Holder(
            embedding=layers.Embedding(len(TARGET), E),
            gru=gru(),
            attention=Additive(),
            Wc=layers.Dense(H, activation=tf.math.tanh, use_bias=False),
            fc=layers.Dense(len(TARGET)),
        )

    def step(self, x, y, h, memory):
        d = self.decoder
        output, state = d.gru(d.embedding(y), initial_state=h)
        context, weights = d.attention(output, memory, x != 0)
        return d.fc(d.Wc(tf.concat([context, output], axis=-1)))[:, 0], state, weights


class Third(First):
    def __init__(self):
        def words(listed):
            return layers.TextVectorization(vocabulary=listed[2:], standardize=None, ragged=True)

        self.encoder = Holder(
            text_processor=words(SOURCE),
            embedding=layers.Embedding(len(SOURCE), H, mask_zero=True),
            rnn=layers.Bidirectional(layers.GRU(H, return_sequences=True), merge_mode="sum"),
        )
        self.decoder = Holder(
            text_processor=words(TARGET),
            embedding=layers.Embedding(len(TARGET), H, mask_zero=True),
            rnn=gru(),
            attention=CrossAttention(),
            output_layer=layers.Dense(len(TARGET)),
        )

    def encode(self, x):
        return self.encoder.rnn(self.encoder.embedding(x)), tf.zeros((1, H))

    def step(self, x, y, h, memory):
        d = self.decoder
        output, state = d.rnn(d.embedding(y), initial_state=h)
        output, weights = d.attention(output, memory)
        return d.output_layer(output)[:, 0], state, weights[:, 0]


def randomize(network, seed):
    random = np.random.default_rng(seed)
    network.step(*start(network, [4, 5]))  # builds the layers
    for part in (network.encoder, network.decoder):
        for value in part.trainable_variables:
            value.assign(random.standard_normal(value.shape).astype(np.float32) * 0.9)


def start(network, ids):
    x = tf.constant([ids])
    memory, h = network.encode(x)
    return x, tf.constant([[network.ids[0]]]), h, memory


def record(network, sources):
    arrays = {}
    random = np.random.default_rng(7)
    for number, ids in enumerate(sources):
        x, y, h, memory = start(network, ids)
        case = f"{number}"
        possible = [i for i in range(len(TARGET)) if i != network.ids[1]]
        target = [int(i) for i in random.choice(possible, size=5)]
        steps = []
        for token in [network.ids[0], *target]:
            logits, h, weights = network.step(x, tf.constant([[token]]), h, memory)
            steps.append((logits[0].numpy(), h[0].numpy(), weights[0].numpy()))
        logits, states, weights = (np.stack(one) for one in zip(*steps, strict=True))
        logits[:, list(network.masked)] = -np.inf
        x, y, h, memory = start(network, ids)
        greedy, end = [], network.ids[1]
        while len(greedy) < STEPS and end not in greedy:
            found, h, _ = network.step(x, y, h, memory)
            best = found[0].numpy()
            best[list(network.masked)] = -np.inf
            greedy.append(int(best.argmax()))
            y = tf.constant([greedy[-1:]])
        arrays |= {
            f"{case}/in/tokens": np.array(ids),
            f"{case}/target": np.array(target),
            f"{case}/greedy": np.array(greedy),
            f"{case}/encoder.memory": memory[0].numpy(),
            f"{case}/decoder.hidden": states,
            f"{case}/decoder.alignment": weights,
            f"{case}/decoder.logits": logits,
        }
    return arrays


PLAIN = [[2, 4, 5, 3], [2, 3], [2, 7, 8, 1, 6, 4, 3]]
PADDED = [[2, 4, 5, 3, 0, 0, 0], [2, 7, 8, 1, 6, 4, 3, 0]]


def save_variables(holder, folder):
    """Of a SavedModel only what is read here; its graph is some hundred times as large."""
    tf.saved_model.save(holder, "saved")
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir()
    shutil.move("saved/variables", folder)
    shutil.rmtree("saved")


def keras2():
    first = First()
    randomize(first, 8)
    np.savez_compressed("first.npz", **record(first, PLAIN + PADDED))
    swapped = First(swapped=True)
    swapped.encoder, swapped.decoder = first.encoder, first.decoder
    np.savez_compressed("first_2019.npz", **record(swapped, PLAIN[:1]))
    optimizer = tf.keras.optimizers.legacy.Adam()  # with slots, as those of the tutorial's time
    variables = [*first.encoder.trainable_variables, *first.decoder.trainable_variables]
    before = [value.numpy() for value in variables]
    optimizer.apply_gradients((tf.ones_like(value), value) for value in variables)
    for value, number in zip(variables, before, strict=True):
        value.assign(number)
    tf.train.Checkpoint(optimizer=optimizer, encoder=first.encoder, decoder=first.decoder).write(
        "first"
    )
    tf.train.Checkpoint(first.encoder).write("first_encoder")
    tf.train.Checkpoint(first.decoder).write("first_decoder")
    second = Second()
    randomize(second, 10)
    np.savez_compressed("second.npz", **record(second, PLAIN + PADDED))
    translator = tf.Module()
    translator.encoder, translator.decoder = second.encoder, second.decoder
    save_variables(translator, "second")
    third = Third()
    randomize(third, 8)
    np.savez_compressed("third.npz", **record(third, PLAIN + PADDED))
    model = Model()
    model.encoder, model.decoder = third.encoder, third.decoder
    model.save_weights("third")


def keras3():
    third = Third()
    randomize(third, 8)
    np.savez_compressed("third_keras3.npz", **record(third, PLAIN[:1]))
    export = tf.Module()
    export.model = tf.Module()
    export.model.encoder, export.model.decoder = third.encoder, third.decoder
    save_variables(export, "third_keras3")


def main():
    os.chdir(HERE)
    if "keras3" in sys.argv:
        keras3()
        return
    keras2()
    subprocess.run([sys.executable, __file__, "keras3"], check=True)
    Path("checkpoint").unlink(missing_ok=True)
    files = [p for p in sorted(HERE.rglob("*")) if p.is_file() and p.suffix not in (".py", ".json")]
    sums = {
        str(path.relative_to(HERE)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
    versions = {"tensorflow": tf.__version__, "keras": "2.21.0, 3.15.1", "numpy": np.__version__}
    Path("sums.json").write_text(
        json.dumps({"versions": versions, "sha256": sums}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
