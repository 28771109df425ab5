"""A pair of graphs, or one encoder, to a model: inputs given their axes, graphs read, outputs
named. Knows what encoder and decoder steps are; never operators."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ...builder import ModelBuilder, Value
from ...errors import InputError, ModelFormatError
from ..readers.onnx_files import OnnxFile
from ..readers.onnx_files import Value as Described
from .emission import Emission, reachable, simplified
from .expressions import MAX_FEATURES, Axis, Expr, S, Tensor, constant, shape_text, tensor, value_of
from .interface import IDS, ZEROS, Interface, inputs_of
from .walk import Known, Walk

MAX_AXES = 6
OPEN = (
    "export with the source's length as a dynamic axis (torch.onnx.export(..., "
    "dynamic_axes={'source': {1: 'length'}}), or dynamic_shapes=)"
)


@dataclass(frozen=True)
class Side:
    """A graph that was read: its inputs and outputs as tensors."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def _side(walk: Walk, inputs: Sequence[Described], outputs: Sequence[Described]) -> Side:
    given = {value.name: walk.values[value.name] for value in inputs}
    walk.run()
    return Side(
        {name: one for name, one in given.items() if isinstance(one, Tensor)},
        {value.name: _output(walk, value.name) for value in outputs},
    )


def handed_over(encoder: Side, names: Interface) -> Side:
    """The encoder with the outputs alone that the decoder reads and that are not zeros."""
    wanted = {
        name: encoder.outputs[name] for name in dict.fromkeys(names.given.values())
        if name != ZEROS and not is_zero(encoder.outputs[name].expr)
    }  # fmt: skip
    return Side(encoder.inputs, wanted)


def is_zero(expr: Expr) -> bool:
    number = value_of(expr)
    return number is not None and not number.any()


# --- the encoder ---


def encoder_side(file: OnnxFile, time_axis: str | None, where: str, example: int = 0) -> Side:
    """Reads the encoder with each open length as the source's, and takes the one that fits."""
    inputs = inputs_of(file)
    for value in inputs:
        _check(value, "encoder", where)
    lengths = list(dict.fromkeys(
        _symbol(value, axis) for value in inputs for axis in _open(value)
    ))  # fmt: skip
    if time_axis is not None:
        if time_axis not in lengths:
            raise InputError(f"{where}: time_axis is {time_axis!r}, open axes are {lengths}")
        lengths = [time_axis]
    if not lengths and example:
        return _encoder(
            file, [_opened(value, example, where) for value in inputs], "S", where, example
        )
    if not lengths:
        shapes = ", ".join(f"{v.name} {shape_text(v.shape or ())}" for v in inputs)
        raise ModelFormatError(
            f"{where}: the encoder graph reads a source of one fixed length ({shapes}): {OPEN}, or "
            "say example_length= where no node depends on it"
        )
    found: dict[str, Side] = {}
    errors: list[ModelFormatError] = []
    for length in lengths:
        try:
            found[length] = _encoder(file, inputs, length, where, example)
        except ModelFormatError as error:
            errors.append(error)
    if not found:
        raise errors[0] if len(errors) == 1 else max(errors, key=_progress)
    if len(found) > 1:
        raise InputError(
            f"{where}: any of the axes {', '.join(found)} may be the source's length: say "
            "time_axis="
        )
    return next(iter(found.values()))


def _check(value: Described, role: str, where: str) -> None:
    """An input has a type and a shape of sizes that values can have."""
    what = f"{where}: {role} input {value.name!r}"
    if value.shape is None or value.dtype is None or len(value.shape) > MAX_AXES:
        raise ModelFormatError(f"{what} has no type and shape of at most {MAX_AXES} axes")
    sizes = [size for size in value.shape if isinstance(size, int)]
    if any(size < 1 for size in sizes) or math.prod(sizes) > MAX_FEATURES:
        raise ModelFormatError(
            f"{what} {shape_text(value.shape)} must have sizes from 1, {MAX_FEATURES} in all"
        )


def _progress(error: ModelFormatError) -> int:
    """Of several errors, the one that is not about the batch taken for the length."""
    return 0 if "sentences:" in str(error) else 1


def _open(value: Described) -> list[int]:
    assert value.shape is not None
    return [axis for axis, size in enumerate(value.shape) if not isinstance(size, int)]


def _symbol(value: Described, axis: int) -> str:
    assert value.shape is not None
    return str(value.shape[axis] or f"{value.name}[{axis}]")


def _opened(value: Described, example: int, where: str) -> Described:
    """The input with an open axis where the exporter's example had its length."""
    assert value.shape is not None
    axes = [axis for axis, size in enumerate(value.shape) if size == example]
    if len(axes) > 1:
        raise ModelFormatError(
            f"{where}: input {value.name!r} {shape_text(value.shape)} has {len(axes)} axes of "
            f"{example}, example_length; one can be the source's: {OPEN}"
        )
    shape = tuple("S" if axis in axes else size for axis, size in enumerate(value.shape))
    return Described(value.name, value.dtype, shape)


def _encoder(
    file: OnnxFile, inputs: Sequence[Described], length: str, where: str, example: int
) -> Side:
    walk = Walk(file, "encoder", S, example)
    for value in inputs:
        assert value.shape is not None
        axes: list[Axis] = [
            size if isinstance(size, int) else S if _symbol(value, axis) == length else 1
            for axis, size in enumerate(value.shape)
        ]
        walk.values[value.name] = _source(value, axes, where)
    return _side(walk, inputs, file.outputs)


def _source(value: Described, axes: list[Axis], where: str) -> Known:
    """Ids, features, or the number of positions."""
    whole = f"{where}: encoder input {value.name!r} {shape_text(value.shape or ())}"
    larger = [axis for axis in axes if axis != 1]
    if value.dtype in IDS:
        if larger == [S]:
            return tensor(Expr("input", (), {"name": value.name}, kind="ids"), axes)
        if not larger and "len" in value.name.lower():
            return np.full((1,) * len(axes), S, object)
        raise ModelFormatError(
            f"{whole} is neither the ids of a source nor their number: {OPEN}, one sentence at a "
            "time, and without masks"
        )
    if value.dtype not in ("float32", "float64"):
        raise ModelFormatError(f"{whole} is of {value.dtype}: ids and floats are read")
    size = int(np.prod([axis for axis in axes if isinstance(axis, int)]))
    kind = "sequence" if S in axes else "vector"
    if size < 1 or axes.count(S) > 1:
        raise ModelFormatError(f"{whole} has other than one open axis of positions")
    return tensor(Expr("input", (), {"name": value.name}, kind=kind, size=size), axes)


def _output(walk: Walk, name: str) -> Tensor:
    value = walk.values.get(name)
    if value is None:
        raise ModelFormatError(f"{walk.role} graph: nothing gives the output {name!r}")
    if isinstance(value, Tensor):
        return value
    if value.dtype.kind != "f" or not 0 < value.size <= 1 << 20:
        raise ModelFormatError(f"{walk.role} graph: output {name!r} holds no values")
    return Tensor(constant(value), tuple(value.shape))


# --- the decoder ---


def decoder_side(
    file: OnnxFile, names: Interface, encoder: Side, where: str, example: int = 0
) -> Side:
    """Reads one step: states and memories have the axes that the encoder's outputs give them."""
    walk = Walk(file, "decoder", S, example)
    described = {value.name: value for value in inputs_of(file)}
    token = described[names.token]
    if token.shape is None or any(isinstance(size, int) and size != 1 for size in token.shape):
        raise ModelFormatError(
            f"{where}: decoder input {token.name!r} {shape_text(token.shape or ())} must be one "
            "token: export one step of one sentence"
        )
    walk.values[token.name] = Tensor(
        Expr("input", (), {"name": "token"}, kind="id"), (1,) * len(token.shape)
    )
    single = {size for size in token.shape if isinstance(size, str)}
    for name, source in names.given.items():
        value = described[name]
        _check(value, "decoder", where)
        assert value.shape is not None
        if source == ZEROS:
            axes: tuple[Axis, ...] = tuple(n if isinstance(n, int) else 1 for n in value.shape)
            padded = 0
        else:
            axes, padded = _bound(value, source, encoder.outputs[source], single, where)
            padded = 0 if padded == example else padded
        kind = "sequence" if S in axes else "vector"
        size = int(np.prod([axis for axis in axes if isinstance(axis, int)]))
        expr = Expr("input", (), {"name": name}, kind=kind, size=size)
        walk.values[name] = tensor(expr, axes, padded)
    return _side(walk, list(described.values()), file.outputs)


def _bound(
    value: Described, source: str, given: Tensor, single: set[str], where: str
) -> tuple[tuple[Axis, ...], int]:
    """The axes of a decoder input that takes this encoder output, and a fixed length."""
    assert value.shape is not None
    want, shape = given.larger, value.shape
    choices: list[list[Axis]] = [[s] if isinstance(s, int) else [1, S] for s in shape]
    fitting = [axes for axes in product(*choices) if [a for a in axes if a != 1] == want]
    if len(fitting) > 1:
        known = [
            axes for axes in fitting
            if not any(a == S and size in single for a, size in zip(axes, shape, strict=True))
        ]  # fmt: skip
        same = [axes for axes in known if axes == given.axes]
        fitting = same or known
    if len(fitting) == 1:
        return fitting[0], 0
    if not fitting and S in want:
        # A memory of a fixed length, which the program fills with zeros behind the source.
        for at, size in enumerate(shape):
            slots: list[Axis] = [one if isinstance(one, int) else 1 for one in shape]
            slots[at] = S
            if isinstance(size, int) and [axis for axis in slots if axis != 1] == want:
                return tuple(slots), size
    raise ModelFormatError(
        f"{where}: decoder input {value.name!r} {shape_text(shape)} does not take the encoder's "
        f"output {source!r} {shape_text(given.axes)} (S: the source's length) axis by axis: export "
        "both so that one is given to the other as it is, or say hand_over="
    )


# --- into a model ---


def name_of(text: str) -> str:
    """A name as graphs of this engine have it."""
    return re.sub(r"[^A-Za-z0-9_]", "_", re.sub(r"^(?=[^A-Za-z_])", "_", text))[:64]


def table_size(side: Side, ids: str, where: str) -> int:
    """The rows of the tables that ids are looked up in."""
    exprs = reachable([one.expr for one in side.outputs.values()])
    rows = {
        len(expr.weights["weight"]) for expr in exprs
        if expr.op == "embedding" and _root(expr).attributes.get("name") == ids
    }  # fmt: skip
    if not rows:
        raise ModelFormatError(f"{where}: {ids!r} is read by no embedding (Gather of a table)")
    return min(rows)


def _root(expr: Expr) -> Expr:
    while expr.inputs:
        expr = expr.inputs[0]
    return expr


def encoder_inputs(m: ModelBuilder, file: OnnxFile, side: Side) -> dict[str, Any]:
    """The builder's inputs by the file's names."""
    found: dict[str, Any] = {}
    used = {
        expr["name"]: expr for expr in reachable([one.expr for one in side.outputs.values()])
        if expr.op == "input"
    }  # fmt: skip
    ids = [name for name, expr in used.items() if expr.kind == "ids"]
    for value in inputs_of(file):
        expr = used.get(value.name)
        if expr is None:
            continue
        if expr.kind == "ids":
            found[value.name] = m.encoder.tokens if value.name == ids[0] else None
        else:
            found[value.name] = m.encoder.input(name_of(value.name), **{expr.kind: expr.size})
    return found


def source_ids(side: Side, where: str) -> str | None:
    """The input of source ids; None where an encoder reads features alone."""
    exprs = reachable([one.expr for one in side.outputs.values()])
    names = [expr["name"] for expr in exprs if expr.op == "input" and expr.kind == "ids"]
    if len(names) > 1:
        raise ModelFormatError(
            f"{where}: the encoder reads several inputs of ids ({', '.join(names)}); one is read"
        )
    return names[0] if names else None


def scored(expr: Expr) -> Expr:
    """Logits: what stands before the last softmax, which the engine does itself."""
    return expr.inputs[0] if expr.op in ("log_softmax", "softmax") else expr


def write_encoder(
    m: ModelBuilder, file: OnnxFile, side: Side, logits: str | None
) -> dict[str, Value]:
    """Writes all outputs; `logits` of a model without a decoder is called so."""
    exprs = {name: one.expr for name, one in side.outputs.items()}
    if logits is not None:
        exprs[logits] = scored(exprs[logits])
    names = {name: "logits" if name == logits else name_of(name) for name in exprs}
    if len(set(names.values())) < len(names):
        raise ModelFormatError(f"outputs {', '.join(exprs)}: two have one name here")
    inputs = encoder_inputs(m, file, side)
    found: dict[str, Value] = Emission(m.encoder, inputs).write(simplified(exprs))
    m.encoder.output(**{names[name]: value for name, value in found.items()})
    return found


def write_decoder(m: ModelBuilder, side: Side, encoder: Side, names: Interface, where: str) -> None:
    """States, logits and, where there is one, the alignment."""
    d = m.decoder
    inputs: dict[str, Any] = {"token": d.token}
    for name, source in names.given.items():
        if name not in names.states:
            inputs[name] = name_of(source)
            continue
        following = side.outputs[names.states[name]]
        if following.larger != side.inputs[name].larger:
            raise ModelFormatError(
                f"{where}: state {name!r} is {shape_text(side.inputs[name].axes)}, its next value "
                f"{names.states[name]!r} {shape_text(following.axes)}"
            )
        if source == ZEROS or is_zero(encoder.outputs[source].expr):
            inputs[name] = d.state(name_of(name), size=following.expr.size)
        else:
            inputs[name] = d.state(name_of(name), initial=name_of(source))
    exprs = {name: one.expr for name, one in side.outputs.items()}
    exprs[names.logits] = scored(exprs[names.logits])
    kept = {names.logits, *names.states.values()}
    needed = {expr.number for expr in reachable([exprs[name] for name in kept])}
    weights = {
        expr.inputs[0].number: expr for expr in reachable([exprs[name] for name in kept])
        if expr.op == "to_positions"
    }  # fmt: skip
    alignment: list[str] = []
    for name in names.extra:
        expr = exprs[name]
        if expr.number not in needed:
            raise InputError(
                f"{where}: decoder output {name!r} is neither logits nor a state, and nothing of "
                "the step reads it: say states= if it is a state, or leave it out of the export"
            )
        expr = weights.get(expr.number, expr)
        if expr.kind == "sequence" and expr.size == 1:
            exprs[name] = expr
            alignment.append(name)
    chosen = {name: exprs[name] for name in [*kept, *alignment[:1]]}
    found = Emission(d, inputs).write(simplified(chosen))
    d.next({name_of(name): found[output] for name, output in names.states.items()})
    d.output(logits=found[names.logits])
    if alignment:
        d.output(alignment=found[alignment[0]])
