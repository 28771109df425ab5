"""Writes checkpoints of TensorFlow's tutorial nmt_with_attention, first version, as the TensorFlow
of its time trained and saved them, tiny, and what it computes: `python make.py [folder]` with

    tensorflow==2.0.4 protobuf==3.19.6 numpy==1.18.5 h5py==2.10.0     (Python 3.7)
    tensorflow-cpu==2.10.1 numpy==1.26.4                              (Python 3.10)

Encoder and decoder are subclasses of tf.keras.Model as in the tutorial, trained for one step with
Adam and saved by tf.train.Checkpoint.save with the optimizer. Seed 5. <version>-1.index and .data
are the checkpoint, <version>.npz the values of a greedy search and of forced targets; sha256.json
has the sums of all files.
"""

# mypy: ignore-errors
from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

SOURCE, TARGET, EMBEDDED, UNITS = 9, 8, 3, 4
START, END, STEPS = 3, 2, 6
layers = tf.keras.layers


class Encoder(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(SOURCE, EMBEDDED)
        self.gru = layers.GRU(UNITS, return_sequences=True, return_state=True)

    def call(self, x):
        return self.gru(self.embedding(x), initial_state=tf.zeros((x.shape[0], UNITS)))


class Attention(layers.Layer):
    def __init__(self):
        super().__init__()
        self.W1, self.W2, self.V = layers.Dense(UNITS), layers.Dense(UNITS), layers.Dense(1)

    def call(self, query, memory):
        score = self.V(tf.nn.tanh(self.W1(tf.expand_dims(query, 1)) + self.W2(memory)))
        weights = tf.nn.softmax(score, axis=1)
        return tf.reduce_sum(weights * memory, axis=1), weights


class Decoder(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(TARGET, EMBEDDED)
        self.gru = layers.GRU(UNITS, return_sequences=True, return_state=True)
        self.fc = layers.Dense(TARGET)
        self.attention = Attention()

    def call(self, y, h, memory):
        context, weights = self.attention(h, memory)
        x = tf.concat([tf.expand_dims(context, 1), self.embedding(y)], axis=-1)
        output, state = self.gru(x)
        return self.fc(tf.reshape(output, (-1, UNITS))), state, weights[..., 0]


def trained(random):
    """Random weights, and one step of the tutorial's training."""
    encoder, decoder = Encoder(), Decoder()
    optimizer = tf.keras.optimizers.Adam()
    x, y = tf.constant([[2, 4, 5, 3], [2, 6, 7, 3]]), tf.constant([[3, 4, 2], [3, 6, 2]])
    memory, h = encoder(x)
    decoder(y[:, :1], h, memory)
    variables = encoder.trainable_variables + decoder.trainable_variables
    for value in variables:
        value.assign((random.standard_normal(tuple(value.shape)) * 0.9).astype(np.float32))
    with tf.GradientTape() as tape:
        memory, h = encoder(x)
        loss = 0.0
        for t in (1, 2):
            logits, h, _ = decoder(y[:, t - 1 : t], h, memory)
            loss += tf.reduce_mean(
                tf.keras.losses.sparse_categorical_crossentropy(y[:, t], logits, from_logits=True)
            )
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))  # noqa: B905
    return encoder, decoder, optimizer


def record(encoder, decoder, random):
    found = {}
    for case, ids in enumerate(([2, 4, 5, 3], [2, 3], [2, 7, 8, 1, 6, 4, 3])):
        memory, first = encoder(tf.constant([ids]))
        target = [int(i) for i in random.choice([0, 1, 3, 4, 5, 6, 7], size=5)]
        h, steps = first, []
        for token in [START, *target]:
            logits, h, weights = decoder(tf.constant([[token]]), h, memory)
            steps.append([one[0].numpy() for one in (logits, h, weights)])
        h, greedy = first, []
        while len(greedy) < STEPS and END not in greedy:
            logits, h, _ = decoder(tf.constant([[[START, *greedy][-1]]]), h, memory)
            greedy.append(int(np.argmax(logits[0])))
        found.update({
            f"{case}/in/tokens": np.array(ids),
            f"{case}/target": np.array(target),
            f"{case}/greedy": np.array(greedy),
            f"{case}/encoder.memory": memory[0].numpy(),
            f"{case}/decoder.logits": np.stack([step[0] for step in steps]),
            f"{case}/decoder.hidden": np.stack([step[1] for step in steps]),
            f"{case}/decoder.alignment": np.stack([step[2] for step in steps]),
        })  # fmt: skip
    return found


def make(folder):
    random = np.random.RandomState(5)
    encoder, decoder, optimizer = trained(random)
    checkpoint = tf.train.Checkpoint(optimizer=optimizer, encoder=encoder, decoder=decoder)
    checkpoint.save(str(folder / tf.__version__))
    (folder / "checkpoint").unlink()
    np.savez_compressed(folder / f"{tf.__version__}.npz", **record(encoder, decoder, random))
    files = [path for path in sorted(folder.glob("2.*")) if path.is_file()]
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / "sha256.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
