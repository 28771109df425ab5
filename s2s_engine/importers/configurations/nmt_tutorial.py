"""The variables of TensorFlow's tutorial nmt_with_attention by the tutorial's own names, and as
the architectures take them. Knows Keras's layouts; never formats or options."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import PAIR, Checkpoint
from ..readers.tensorflow_files import TensorFlowFile
from ..readers.tensorflow_objects import Objects

Array = NDArray[Any]
FIRST, SECOND, THIRD = "first", "second", "third"


def _layers(*layers: str) -> set[str]:
    """`name` with a kernel and a bias, `name-` without bias."""
    return {
        f"{one.removesuffix('-')}/{part}"
        for one in layers
        for part in (("kernel",) if one.endswith("-") else ("kernel", "bias"))
    }


def _names(role: str, gru: Collection[str], others: Collection[str]) -> set[str]:
    cells = {f"{one}/cell/{part}" for one in gru for part in ("kernel", "recurrent_kernel", "bias")}
    return {f"{role}/{name}" for name in {"embedding/embeddings", *cells, *others}}


ENCODER = _names("encoder", ["gru"], ())
MHA = [f"attention/mha/_{name}_dense" for name in ("query", "key", "value", "output")]
VERSIONS = {
    FIRST: ENCODER
    | _names("decoder", ["gru"], _layers("fc", "attention/W1", "attention/W2", "attention/V")),
    SECOND: ENCODER
    | _names(
        "decoder",
        ["gru"],
        _layers("fc", "Wc-", "attention/W1-", "attention/W2-") | {"attention/attention/scale"},
    ),
    THIRD: _names("encoder", ["rnn/forward_layer", "rnn/backward_layer"], ())
    | _names(
        "decoder",
        ["rnn"],
        _layers("output_layer", *MHA) | {f"attention/layernorm/{n}" for n in ("gamma", "beta")},
    ),
}
MARKS = {
    FIRST: "decoder/attention/V/kernel",
    SECOND: "decoder/attention/attention/scale",
    THIRD: "decoder/attention/mha/_query_dense/kernel",
}
OLD = "decoder/W1/kernel"  # of the tutorial for TensorFlow 1
ALL = frozenset.union(*map(frozenset, VERSIONS.values())) | {OLD}
# Of dropout, which does nothing here.
IGNORED = re.compile(r"(^|/)seed_generator/")


@dataclass(frozen=True)
class Tutorial:
    """version: FIRST, SECOND or THIRD. arrays: as Keras has them, by the names of VERSIONS."""

    version: str
    arrays: Mapping[str, Array]

    @property
    def source_size(self) -> int:
        return len(self.arrays["encoder/embedding/embeddings"])

    @property
    def target_size(self) -> int:
        return len(self.arrays["decoder/embedding/embeddings"])

    def first(self, *, w1_reads_query: bool) -> dict[str, Array]:
        query, memory = ("W1", "W2") if w1_reads_query else ("W2", "W1")
        return (
            self._common("encoder/gru", "decoder/gru")
            | self._dense("attention.W1", f"decoder/attention/{query}")
            | self._dense("attention.W2", f"decoder/attention/{memory}")
            | self._dense("attention.V", "decoder/attention/V")
            | self._dense("fc", "decoder/fc")
        )

    def second(self, never: Collection[int]) -> dict[str, Array]:
        """never: ids whose probability is 0, as the tutorial's Translator makes it."""
        found = (
            self._common("encoder/gru", "decoder/gru")
            | self._dense("attention.W1", "decoder/attention/W1")
            | self._dense("attention.W2", "decoder/attention/W2")
            | self._dense("Wc", "decoder/Wc")
            | self._dense("fc", "decoder/fc")
        )
        weight, bias = np.array(found["fc.weight"]), np.array(found["fc.bias"])
        weight[list(never)], bias[list(never)] = 0.0, NEVER
        scale = self.arrays["decoder/attention/attention/scale"]
        return found | {"fc.weight": weight, "fc.bias": bias, "attention.scale": scale}

    def third(self) -> tuple[dict[str, Array], int]:
        """The weights, and the number of heads, which is 1 in the tutorial."""
        found = self._common("encoder/rnn/forward_layer", "decoder/rnn", encoder="encoder.forward")
        found |= self._gru("encoder.backward", "encoder/rnn/backward_layer")
        for name in ("query", "key", "value"):
            kernel, bias = self._pair(f"decoder/attention/mha/_{name}_dense")
            found[f"attention.{name}.weight"] = np.reshape(kernel, (len(kernel), -1)).T
            if name != "key":  # which changes no weight
                found[f"attention.{name}.bias"] = np.reshape(bias, -1)
        heads = int(self.arrays["decoder/attention/mha/_query_dense/kernel"].shape[1])
        kernel, bias = self._pair("decoder/attention/mha/_output_dense")
        found |= {
            "attention.output.weight": np.reshape(kernel, (-1, kernel.shape[2])).T,
            "attention.output.bias": bias,
            "layernorm.weight": self.arrays["decoder/attention/layernorm/gamma"],
            "layernorm.bias": self.arrays["decoder/attention/layernorm/beta"],
        }
        return found | self._dense("output", "decoder/output_layer"), heads

    def _common(
        self, encoder_gru: str, decoder_gru: str, *, encoder: str = "encoder.cell"
    ) -> dict[str, Array]:
        tables = {f"{role}.embedding": self.arrays[f"{role}/embedding/embeddings"] for role in PAIR}
        return tables | self._gru(encoder, encoder_gru) | self._gru("decoder.cell", decoder_gru)

    def _pair(self, name: str) -> tuple[Array, Array]:
        return self.arrays[f"{name}/kernel"], self.arrays[f"{name}/bias"]

    def _dense(self, ours: str, name: str) -> dict[str, Array]:
        found = {f"{ours}.weight": self.arrays[f"{name}/kernel"].T}
        bias = self.arrays.get(f"{name}/bias")
        return found if bias is None else found | {f"{ours}.bias": bias}

    def _gru(self, ours: str, name: str) -> dict[str, Array]:
        """Keras has the gates z, r, h in columns, and the two biases as rows."""
        input_bias, recurrent_bias = self.arrays[f"{name}/cell/bias"]
        found = {
            "weight_ih": self.arrays[f"{name}/cell/kernel"].T,
            "weight_hh": self.arrays[f"{name}/cell/recurrent_kernel"].T,
            "bias_ih": input_bias,
            "bias_hh": recurrent_bias,
        }
        return {f"{ours}.{role}": _rzn(array) for role, array in found.items()}


# The logit of an id that is never written: its probability is exactly 0.
NEVER = -2e4


def _rzn(array: Array) -> Array:
    z, r, n = np.split(array, 3)
    return np.concatenate([r, z, n])


def version(checkpoint: Checkpoint) -> str | None:
    """Which version has these names; None for anything else."""
    names = _variables(checkpoint).keys()
    found = [
        one
        for one, mark in MARKS.items()
        if {mark, *(f"{role}/embedding/embeddings" for role in PAIR)} <= names
    ]
    return found[0] if len(found) == 1 else None


def read(checkpoint: Checkpoint) -> Tutorial:
    """The tutorial's variables, all of them and nothing else, in shapes that fit."""
    names = _variables(checkpoint)
    which = version(checkpoint)
    if which is None:
        raise checkpoint.refuse(_reason(checkpoint, names))
    unknown = sorted(names.keys() - VERSIONS[which])
    if unknown:
        raise checkpoint.refuse(
            f"variable {unknown[0][:200]!r} is not of the tutorial's network ({which} version): a "
            "network that was changed is wired with ModelBuilder"
        )
    missing = sorted(VERSIONS[which] - names.keys())
    if missing:
        raise checkpoint.refuse(f"variable {missing[0]!r} of the {which} version is not there")
    arrays = {name: checkpoint.arrays[key] for name, key in names.items()}
    for name, array in arrays.items():
        _check(checkpoint, name, array)
    return Tutorial(which, arrays)


def _check(checkpoint: Checkpoint, name: str, array: Array) -> None:
    if array.dtype.kind != "f":
        raise checkpoint.refuse(f"variable {name!r} is of {array.dtype}, must be a float")
    if name.endswith("/cell/bias") and array.ndim == 1:
        raise checkpoint.refuse(
            f"variable {name!r} has shape {array.shape}: the GRU is one with reset_after=False (of "
            "TensorFlow 1), which this tutorial's is not; wire it with ModelBuilder"
        )
    dimensions = 2
    if "/mha/" in name:
        dimensions = 3 if name.endswith("kernel") else 1 if "_output" in name else 2
    elif name.endswith(("/bias", "/scale", "/gamma", "/beta")) and "/cell/" not in name:
        dimensions = 1
    # A GRU's three gates; its two biases.
    gates = array.shape[-1] % 3 if "/cell/" in name and array.ndim else 0
    biases = name.endswith("/cell/bias") and array.shape[:1] != (2,)
    if array.ndim != dimensions or 0 in array.shape or gates or biases:
        raise checkpoint.refuse(f"variable {name!r} has shape {array.shape}, which does not fit")


def _variables(checkpoint: Checkpoint) -> dict[str, str]:
    """The keys of the variables of an encoder and a decoder, by the tutorial's names; of one that
    is not the tutorial's by any path to it."""
    found: dict[str, str] = {}
    for role, (objects, start, prefix) in _roots(checkpoint).items():
        names = {name for name in ALL if name.startswith(f"{role}/")}
        keys = {name: _key(objects, start, name.removeprefix(f"{role}/")) for name in names}
        named = {name: key for name, key in keys.items() if key is not None}
        others = {
            f"{role}/{path}": key
            for path, key in objects.variables(start).items()
            if key not in named.values() and not IGNORED.search(path)
        }
        found |= {name: f"{prefix}{key}" for name, key in (named | others).items()}
    return found


def _roots(checkpoint: Checkpoint) -> dict[str, tuple[Objects, int, str]]:
    """The object of the encoder and that of the decoder: its graph, its number, and what stands in
    front of its keys among the checkpoint's arrays."""
    found: dict[str, tuple[Objects, int, str]] = {}
    for role, part in checkpoint.parts.items():
        objects = _objects(part)
        start = None if objects is None else _alone(objects, role)
        if objects is not None and start is not None:
            found[role] = objects, start, f"{role}."
    whole = _objects(checkpoint)
    if whole is not None:
        for holder in whole.holders(*PAIR):
            return {role: (whole, whole.child(holder, role), "") for role in PAIR}
    return found


def _alone(objects: Objects, role: str) -> int | None:
    """Where one of the two is saved alone: under its name, or as the object itself."""
    for holder in objects.holders(role):
        return objects.child(holder, role)
    return next(objects.holders("embedding"), None)


def _objects(checkpoint: Checkpoint) -> Objects | None:
    content = checkpoint.content
    return content.objects if isinstance(content, TensorFlowFile) else None


def _key(objects: Objects, start: int, path: str) -> str | None:
    """Keras 3 keeps some variables in attributes that begin with an underscore."""
    found = objects.key(start, path)
    return found or objects.key(start, re.sub(r"/(kernel|embeddings)$", r"/_\1", path))


def _reason(checkpoint: Checkpoint, names: Mapping[str, str]) -> str:
    files = checkpoint.parts.values() if checkpoint.parts else [checkpoint]
    for file in files:
        if file.format == "tensorflow" and _objects(file) is None:
            return (
                "holds variables by name, as tf.compat.v1.train.Saver writes them; needed is an "
                "object graph: restore it in TensorFlow and save it with "
                "tf.train.Checkpoint(encoder=encoder, decoder=decoder)"
            )
    if OLD in names:
        return (
            "its attention's layers are the decoder's own (decoder/W1): the tutorial of 2018 for "
            "TensorFlow 1, whose GRU differs by device; wire it with ModelBuilder"
        )
    if not names:
        return "has no object with an encoder and a decoder: no checkpoint of the tutorial"
    return (
        "is of no version of the tutorial: its decoder has neither attention/V (first version), "
        "attention/attention/scale (second) nor attention/mha (third)"
    )
