"""The tutorial's networks from Keras's layers in TensorFlow, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configurations.nmt_tutorial import FIRST, SECOND, Tutorial
from ..importer import Trace

tf: Any = import_module("tensorflow")  # which has no types
layers = tf.keras.layers


class Program:
    """An encoder, and a decoder that is called once per token."""

    def __init__(self, tutorial: Tutorial, *, start: int, end: int, w1_reads_query: bool) -> None:
        self.framework = f"TensorFlow {tf.__version__}"
        self.tutorial, self.start, self.w1_reads_query = tutorial, start, w1_reads_query
        # The second version's Translator writes none of these.
        self.never = [i for i in (0, 1, start) if i != end] if tutorial.version == SECOND else []
        self.encode, self.step = {
            FIRST: (self._encode, self._first()),
            SECOND: (self._encode, self._second()),
        }.get(tutorial.version) or (self._encode_both_ways, self._third())

    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        x = tf.constant([inputs["tokens"]])
        memory, h = self.encode(x)
        found: dict[str, list[NDArray[Any]]] = {"hidden": [], "alignment": [], "logits": []}
        for token in (self.start, *target):
            logits, h, weights = self.step(x, tf.constant([[token]]), h, memory)
            row = np.array(logits[0])
            row[self.never] = -np.inf
            found["logits"].append(row)
            found["hidden"].append(np.array(h[0]))
            found["alignment"].append(np.array(weights[0]))
        steps = {f"decoder.{name}": np.stack(values) for name, values in found.items()}
        return {"encoder.memory": np.array(memory[0]), **steps}

    # --- encoders ---

    def _encode(self, x: Any) -> tuple[Any, Any]:
        gru = self._gru("encoder/gru")
        zeros = tf.zeros((1, gru.units), tf.float64)
        return tuple(gru(self._embedded("encoder", x), initial_state=zeros))

    def _encode_both_ways(self, x: Any) -> tuple[Any, Any]:
        units = self._units("encoder/rnn/forward_layer")
        gru = layers.GRU(units, return_sequences=True, dtype="float64")
        both = layers.Bidirectional(gru, merge_mode="sum", dtype="float64")
        vectors = self._embedded("encoder", x)
        both.build(vectors.shape)
        cells = [
            self._array(f"encoder/rnn/{way}_layer/cell/{part}")
            for way in ("forward", "backward")
            for part in ("kernel", "recurrent_kernel", "bias")
        ]
        both.set_weights(cells)
        return _unmarked(both(vectors, mask=x != 0)), tf.zeros((1, units), tf.float64)

    # --- decoders: logits, the next state, weights ---

    def _first(self) -> Any:
        if self.tutorial.version != FIRST:
            return None
        gru, fc = self._gru("decoder/gru"), self._dense("decoder/fc")
        w1, w2, v = (self._dense(f"decoder/attention/{name}") for name in ("W1", "W2", "V"))
        of_query, of_memory = (w1, w2) if self.w1_reads_query else (w2, w1)

        def step(x: Any, y: Any, h: Any, memory: Any) -> tuple[Any, Any, Any]:
            score = v(tf.nn.tanh(of_query(h[:, None]) + of_memory(memory)))
            weights = tf.nn.softmax(score, axis=1)
            context = tf.reduce_sum(weights * memory, axis=1)
            read = tf.concat([context[:, None], self._embedded("decoder", y)], axis=-1)
            output, state = gru(read)
            return fc(output[:, 0]), state, weights[..., 0]

        return step

    def _second(self) -> Any:
        if self.tutorial.version != SECOND:
            return None
        gru, fc = self._gru("decoder/gru"), self._dense("decoder/fc")
        w1, w2, wc = (
            self._dense(f"decoder/{name}") for name in ("attention/W1", "attention/W2", "Wc")
        )
        scale = self._array("decoder/attention/attention/scale")
        attention = layers.AdditiveAttention(dtype="float64")
        attention.build([(1, 1, len(scale))] * 3)
        attention.set_weights([scale])

        def step(x: Any, y: Any, h: Any, memory: Any) -> tuple[Any, Any, Any]:
            output, state = gru(self._embedded("decoder", y), initial_state=h)
            context, weights = attention(
                [w1(output), memory, w2(memory)],
                mask=[tf.ones((1, 1), bool), x != 0],
                return_attention_scores=True,
            )
            vector = tf.nn.tanh(wc(tf.concat([context, output], axis=-1)))
            return fc(vector)[:, 0], state, weights[:, 0]

        return step

    def _third(self) -> Any:
        if self.tutorial.version in (FIRST, SECOND):
            return None
        gru, out = self._gru("decoder/rnn"), self._dense("decoder/output_layer")
        kernel = self._array("decoder/attention/mha/_query_dense/kernel")
        values = self._array("decoder/attention/mha/_value_dense/kernel")
        mha = layers.MultiHeadAttention(
            kernel.shape[1], kernel.shape[2], value_dim=values.shape[2], dtype="float64"
        )
        norm = layers.LayerNormalization(dtype="float64")
        shape = tf.zeros((1, 1, len(kernel)), tf.float64)
        mha(shape, shape), norm(shape)  # makes their variables
        mha.set_weights(
            [
                self._array(f"decoder/attention/mha/_{name}_dense/{part}")
                for name in ("query", "key", "value", "output")
                for part in ("kernel", "bias")
            ]
        )
        norm.set_weights(
            [self._array(f"decoder/attention/layernorm/{n}") for n in ("gamma", "beta")]
        )

        def step(x: Any, y: Any, h: Any, memory: Any) -> tuple[Any, Any, Any]:
            output, state = gru(self._embedded("decoder", y), initial_state=h, mask=y != 0)
            # Where nothing is allowed, Keras 2 adds -1e9 to every energy: in float32 all are alike
            # then, as with keys that are. Keras 3 gives zeros; no text and no trained model comes
            # there.
            allowed, keys = (x != 0)[:, None, :], memory
            if int(y[0, 0]) == 0 or not np.any(x != 0):
                allowed, keys = tf.ones_like(allowed), tf.zeros_like(memory)
            output = _unmarked(output)
            read, weights = mha(
                output, memory, keys, attention_mask=allowed, return_attention_scores=True
            )
            heads = weights[:, :, 0]
            vector = norm(output + read)
            return out(vector)[:, 0], state, heads[:, 0] if heads.shape[1] == 1 else heads

        return step

    # --- layers with the checkpoint's numbers ---

    def _array(self, name: str) -> NDArray[Any]:
        return np.asarray(self.tutorial.arrays[name], np.float64)

    def _units(self, name: str) -> int:
        return len(self._array(f"{name}/cell/recurrent_kernel"))

    def _embedded(self, role: str, ids: Any) -> Any:
        return tf.gather(self._array(f"{role}/embedding/embeddings"), ids)

    def _gru(self, name: str) -> Any:
        kernel = self._array(f"{name}/cell/kernel")
        gru = layers.GRU(
            self._units(name), return_sequences=True, return_state=True, dtype="float64"
        )
        gru.build((1, None, len(kernel)))
        gru.set_weights(
            [self._array(f"{name}/cell/{p}") for p in ("kernel", "recurrent_kernel", "bias")]
        )
        return gru

    def _dense(self, name: str) -> Any:
        kernel = self._array(f"{name}/kernel")
        bias = self.tutorial.arrays.get(f"{name}/bias")
        dense = layers.Dense(kernel.shape[1], use_bias=bias is not None, dtype="float64")
        dense.build((1, len(kernel)))
        dense.set_weights([kernel] if bias is None else [kernel, np.asarray(bias, np.float64)])
        return dense


def _unmarked(values: Any) -> Any:
    """Without the mask that Keras hangs on a tensor: every mask is told where it is used."""
    return tf.constant(np.array(values))
