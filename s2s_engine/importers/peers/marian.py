"""Marian itself, scoring forced targets word by word: the pymarian package's `score`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..checkpoint import Checkpoint
from ..importer import Trace

MAX_SECONDS = 600
FLAGS = ("skip", "layer-normalization", "tied-embeddings", "tied-embeddings-src",
         "tied-embeddings-all")  # fmt: skip
VALUES = ("type", "enc-type", "enc-cell", "enc-cell-depth", "enc-depth", "dec-cell",
          "dec-cell-base-depth", "dec-cell-high-depth", "dec-depth", "dim-emb",
          "dim-rnn")  # fmt: skip


class MarianScorer:
    """Marian gives the log-probabilities of a target's words and its end; nothing between."""

    def __init__(self, checkpoint: Checkpoint, config: Mapping[str, Any], end: int) -> None:
        if checkpoint.path is None:
            raise InputError(f"{checkpoint.where}: Marian reads files: give the path of the model")
        self.framework = f"pymarian {version('pymarian')}"  # an ImportError where it is not
        self.path, self.sizes = checkpoint.path.resolve(), config["dim-vocabs"]
        self.end, self.options = end, list[str]()
        if getattr(checkpoint.content, "config", None) is None:
            self.options = [f"--{key}" for key in FLAGS if config[key]]
            for key in VALUES:
                self.options += [f"--{key}", str(config[key])]
            self.options += ["--dim-vocabs", *map(str, self.sizes)]

    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        # Marian ends every source itself, so the last id is given that name.
        *read, last = inputs["tokens"]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            source = _names(self.sizes[0], end=last)
            written = _names(self.sizes[1], end=self.end)
            for side, words, ids in (("source", source, read), ("target", written, target)):
                (folder / f"{side}.vocabulary").write_text("\n".join(words) + "\n")
                (folder / f"{side}.text").write_text(" ".join(words[i] for i in ids) + "\n")
            text = self._score(folder)
        _, mark, scores = text.strip().partition("WordScores=")
        assert mark, text
        return {"decoder.token_log_probs": np.array(scores.split(), np.float64)}

    def _score(self, folder: Path) -> str:
        command = [sys.executable, "-m", "pymarian", "score", "-m", str(self.path), *self.options]
        command += ["-v", "source.vocabulary", "target.vocabulary", "-t", "source.text"]
        command += ["target.text", "--word-scores", "--cpu-threads", "1", "-w", "64", "--log-level",
                    "error"]  # fmt: skip
        found = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=MAX_SECONDS, check=False
        )
        if found.returncode:
            raise InputError(f"{self.path}: Marian does not run this model: {found.stderr[:500]}")
        return found.stdout


def _names(size: int, end: int) -> list[str]:
    """Any words by id, with the two that Marian needs: one for `end`, one for another id."""
    words = [f"w{number}" for number in range(size)]
    words[end], words[1 if end != 1 else 0] = "</s>", "<unk>"
    return words
