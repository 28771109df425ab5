"""ONNX graphs run by onnxruntime, in the float32 that they are written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray

from ...errors import InputError
from ..importer import Options, Trace
from ..onnx_graphs import interface
from ..readers.onnx_files import read_onnx

Array = NDArray[Any]
INTEGERS = ("tensor(int64)", "tensor(int32)")
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(double)": np.float64}


class Session:
    """One graph. before: by outputs that are a softmax, what the softmax reads."""

    def __init__(self, path: Path | None, time_axis: str | None = None) -> None:
        self._time_axis = time_axis
        if path is None:
            raise InputError("onnxruntime runs files: give paths, not bytes")
        model = onnx.load(path)
        # Exporters describe values with the shapes of their example, and onnxruntime believes them.
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        self.named = [value.name for value in model.graph.output]
        self.before = {
            node.output[0]: node.input[0]
            for node in model.graph.node
            if node.op_type in ("LogSoftmax", "Softmax") and node.output[0] in self.named
        }
        for name in sorted(set(self.before.values()) - set(self.named)):
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {value.name: value for value in self._session.get_inputs()}
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, given: Mapping[str, Any]) -> dict[str, Array]:
        """Values are brought to the rank of the inputs."""
        feeds = {name: self._shaped(name, value) for name, value in given.items()}
        found = self._session.run(self.outputs, feeds)
        return dict(zip(self.outputs, map(np.asarray, found), strict=True))

    def _shaped(self, name: str, value: Any) -> Array:
        want = self.inputs[name]
        array = np.asarray(value, TYPES.get(want.type, np.float32))
        if array.ndim == len(want.shape):
            return array
        open_axes = [axis for axis, size in enumerate(want.shape) if not isinstance(size, int)]
        shape = [size if isinstance(size, int) else 1 for size in want.shape]
        count = int(np.prod(shape))
        if array.size > count:
            shape[self._time(name, open_axes)] = array.size // count
        if array.size < count:  # a memory of a fixed length: zeros behind the source
            room = np.zeros(shape, array.dtype)
            room.reshape(-1)[: array.size] = array.ravel()
            return room
        return array.reshape(shape)

    def _time(self, name: str, axes: Sequence[int]) -> int:
        """The axis of positions among the open ones."""
        names = {str(self.inputs[name].shape[axis]): axis for axis in axes}
        if self._time_axis in names:
            return names[self._time_axis]
        left = [axis for name, axis in names.items() if "batch" not in name.lower()]
        if len(left) != 1:
            raise InputError(f"input {name!r} has {len(left)} open axes: say time_axis=")
        return left[0]


class OnnxRuntime:
    """The graphs driven one token at a time, one sentence at a time."""

    def __init__(self, paths: Mapping[str, Path | None], options: Options) -> None:
        self.framework = f"onnxruntime {onnxruntime.__version__}"
        self._encoder = Session(paths["encoder"], options.get("time_axis"))
        self._decoder: Session | None = None
        self._logits = options.get("logits", "logits")
        self._example = options.get("example_length", 0)
        self._times: dict[str, int | None] = {}
        self._after: dict[str, Array] | None = None
        if "decoder" in paths:
            self._decoder = Session(paths["decoder"])
            first, second = (read_onnx(paths[role] or Path()) for role in ("encoder", "decoder"))
            told = interface.options(options)
            self._roles = interface.interface(first, second, *told, "the pair")
            self._start = options.require("start")

    def encode(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The encoder's outputs as the file has them, from inputs by the model's names."""
        lengths = [len(one) for n, one in inputs.items() if n == "tokens" or np.ndim(one) == 2]
        if self._example and lengths[0] != self._example:
            raise InputError(
                f"onnxruntime runs this file at the length {self._example} alone, example_length: "
                "compare at that length, or export with an open length"
            )
        given: dict[str, Any] = {}
        for name, value in self._encoder.inputs.items():
            if value.type not in INTEGERS:
                given[name] = inputs[_plain(name)]
            elif "len" in name.lower():
                given[name] = np.full([1] * len(value.shape), lengths[0])
            else:
                given[name] = inputs["tokens"]
        return self._encoder.run(given)

    def start(self, encoded: Mapping[str, Array]) -> dict[str, Array]:
        """The decoder's inputs before the first step, but for the token."""
        assert self._decoder is not None
        found: dict[str, Array] = {}
        for name, source in self._roles.given.items():
            shape = [s if isinstance(s, int) else 1 for s in self._decoder.inputs[name].shape]
            zeros = source == interface.ZEROS
            found[name] = np.zeros(shape, np.float32) if zeros else encoded[source]
        return found

    def step(self, token: int, state: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """The logits, and the inputs of the next step."""
        assert self._decoder is not None
        want = self._decoder.inputs[self._roles.token]
        found = self._decoder.run({**state, want.name: np.full([1] * len(want.shape), token)})
        after = {name: found[output] for name, output in self._roles.states.items()}
        logits = found[self._decoder.before.get(self._roles.logits, self._roles.logits)]
        return logits.reshape(-1), {**state, **after}

    def trace(self, inputs: Mapping[str, Any], target: Sequence[int]) -> Trace:
        encoded = self.encode(inputs)
        if self._decoder is None:
            names = {name: _plain(name) for name in self._encoder.named}
            if self._logits not in names:
                raise InputError(f"which of {', '.join(names)} is to be compared? Say logits=")
            encoded[self._logits] = encoded[self._encoder.before.get(self._logits, self._logits)]
            names[self._logits] = "logits"
            return {f"encoder.{n}": self._rows(s, encoded, inputs) for s, n in names.items()}
        state = self.start(encoded)
        found: dict[str, list[Array]] = {"logits": [], **{name: [] for name in self._roles.states}}
        for token in [self._start, *target]:
            logits, state = self.step(token, state)
            found["logits"].append(logits)
            for name in self._roles.states:
                found[name].append(state[name].reshape(-1))
        trace = {f"decoder.{_plain(name)}": np.stack(values) for name, values in found.items()}
        for name in dict.fromkeys(self._roles.given.values()):
            if name != interface.ZEROS and encoded[name].any():
                trace[f"encoder.{_plain(name)}"] = self._rows(name, encoded, inputs)
        return trace

    def _rows(self, name: str, encoded: Mapping[str, Array], inputs: Mapping[str, Any]) -> Array:
        """(S, D) or (D): the axis of positions is the one that grows with the source."""
        if name not in self._times:
            for each, array in encoded.items():
                self._times[each] = next(iter(self._grown(each, array, inputs)), None)
        axis, array = self._times[name], encoded[name]
        if axis is None:
            return array.reshape(-1)
        return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)

    def _grown(self, name: str, array: Array, inputs: Mapping[str, Any]) -> list[int]:
        if self._example:  # no other length runs
            return [axis for axis, size in enumerate(array.shape) if size == self._example]
        if self._after is None:
            self._after = self.encode({n: _longer(n, value) for n, value in inputs.items()})
        pairs = zip(array.shape, self._after[name].shape, strict=True)
        return [axis for axis, (a, b) in enumerate(pairs) if a != b]


def _longer(name: str, value: Any) -> Any:
    if name == "tokens":
        return [*value, value[-1]]
    return np.concatenate([value, value[-1:]]) if np.ndim(value) == 2 else value


def _plain(name: str) -> str:
    """A name as models have it."""
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return plain if not plain[0].isdigit() else f"_{plain}"
