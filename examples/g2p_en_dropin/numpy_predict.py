"""g2p_en's network in NumPy, as the package computes it: letter by letter, in float32. Knows arrays
and symbols; nothing of s2s_engine's core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s_engine.importers.toolkits.g2p_en import GRAPHEMES, PHONEMES

Array = NDArray[np.float32]
STEPS, START, END = 20, 2, 3


class NumpyPredictor:
    """w: the arrays of checkpoint20.npz."""

    def __init__(self, w: Mapping[str, Any]) -> None:
        self.w: dict[str, Array] = {name: np.asarray(w[name]) for name in w}
        self.letters = {letter: number for number, letter in enumerate(GRAPHEMES)}

    def predict(self, word: str) -> list[str]:
        """The phonemes of a word: the most probable one at every step, at most 20."""
        w, unknown = self.w, self.letters["<unk>"]
        h = np.zeros(w["enc_w_hh"].shape[1], np.float32)
        for letter in [*word, "</s>"]:
            h = self._gru("enc", w["enc_emb"][self.letters.get(letter, unknown)], h)
        found: list[str] = []
        last = START
        for _ in range(STEPS):
            h = self._gru("dec", w["dec_emb"][last], h)
            last = int(np.argmax(w["fc_w"] @ h + w["fc_b"]))
            if last == END:
                break
            found.append(PHONEMES[last])
        return found

    def _gru(self, side: str, x: Array, h: Array) -> Array:
        """Cho et al. 2014 with the reset gate behind the product, gates r, z, n."""
        w = self.w
        a = w[f"{side}_w_ih"] @ x + w[f"{side}_b_ih"]
        b = w[f"{side}_w_hh"] @ h + w[f"{side}_b_hh"]
        size = len(h)
        r, z = np.split(1.0 / (1.0 + np.exp(-(a[: 2 * size] + b[: 2 * size]))), 2)
        n = np.tanh(a[2 * size :] + r * b[2 * size :])
        return np.asarray(z * h + (1.0 - z) * n, np.float32)
