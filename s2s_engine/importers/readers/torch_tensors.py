"""PyTorch's part of pickles: storages and the tensors that view them, as NumPy arrays. Knows types,
offsets and strides, all checked; not where a file keeps its bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrays import widened
from .numpy_pickles import checked_array, checked_count, shown_shape
from .pickle_values import Constructor, Global, Key, Placeholder, RefusedError, Spend, shown

# Names of storages -> the type that the bytes have. Quantised ones are the integers they hold.
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8", "QUInt8Storage": "uint8", "QInt32Storage": "int32",
    "UntypedStorage": "uint8",
}  # fmt: skip
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
DTYPES = {
    "float64": "<f8", "double": "<f8", "float32": "<f4", "float": "<f4", "float16": "<f2",
    "half": "<f2", "bfloat16": "<u2", "int64": "<i8", "int32": "<i4", "int16": "<i2",
    "int8": "|i1", "uint8": "|u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8",
    "bool": "|b1", "complex64": "<c8", "complex128": "<c16",
}  # fmt: skip


def item_size(dtype: str) -> int:
    return np.dtype(DTYPES[dtype]).itemsize


@dataclass(frozen=True, eq=False)
class Storage:
    """A run of numbers that tensors view: `size` of them, from `start` on within the storage that
    the file calls `key`. The bytes are read when a tensor needs them."""

    key: str
    dtype: str
    size: int
    start: int = 0

    def __repr__(self) -> str:
        return f"<storage {self.key[:60]!r} of {self.size} {self.dtype}>"


Read: TypeAlias = Callable[[Storage], bytes]


class Tensors:
    """The storages and tensors of one file. `read` gives the bytes of a whole storage; without it
    every tensor is empty, which is enough to find the end of a pickle."""

    def __init__(self, read: Read | None) -> None:
        self.storages: dict[str, Storage] = {}
        self._read = read
        self._arrays: dict[tuple[str, str], NDArray[Any]] = {}
        self._tensors: dict[tuple[Any, ...], NDArray[Any]] = {}
        self.constructors: dict[Key, Constructor] = {
            ("torch", "Size"): _size,
            ("torch", "device"): _device,
            ("torch._utils", "_rebuild_tensor"): self._rebuild,
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild,
            ("torch._utils", "_rebuild_tensor_v3"): self._rebuild_typed,
            ("torch._utils", "_rebuild_parameter"): _first,
            ("torch._utils", "_rebuild_parameter_with_state"): _first,
            ("torch.nn.parameter", "Parameter"): _first,
            ("torch.nn.parameter", "Buffer"): _first,
            ("torch.autograd.variable", "Variable"): _first,
            ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
        }

    def persistent(self, name: Any) -> object:
        """("storage", class, key, location, size[, view]), or ("module", class, file, source)."""
        if type(name) is not tuple or not name or type(name[0]) is not str:
            raise RefusedError(
                f"persistent id {shown(name)}: must be a tuple that begins with text"
            )
        if name[0] == "module":
            if len(name) != 4 or type(name[1]) is not Global:
                raise RefusedError("persistent id 'module': must hold class, file and source")
            return name[1]  # the source text is not looked at
        if name[0] != "storage":
            raise RefusedError(f"persistent id {shown(name[0])}: must be 'storage' or 'module'")
        if len(name) not in (5, 6):
            raise RefusedError(f"persistent id 'storage' has {len(name)} parts, must have 5 or 6")
        storage = self._storage(_storage_dtype(name[1]), _key(name[2]), name[4])
        view = name[5] if len(name) == 6 else None
        if view is None:
            return storage
        if type(view) is not tuple or len(view) != 3:
            raise RefusedError(f"storage {storage.key!r}: a view has key, offset and size")
        start, size = _natural(view[1], "the offset"), _natural(view[2], "the size")
        if start + size > storage.size:
            raise RefusedError(
                f"storage {storage.key!r}: a view of {start} + {size} of {storage.size} elements"
            )
        return Storage(storage.key, storage.dtype, size, start)

    def _storage(self, dtype: str, key: str, size: object) -> Storage:
        storage = Storage(key, dtype, _natural(size, f"the size of storage {key!r}"))
        known = self.storages.setdefault(key, storage)
        if (known.dtype, known.size) != (dtype, storage.size):
            raise RefusedError(f"storage {key!r} is {known!r} and {storage!r}")
        return known

    def _rebuild(self, spend: Spend, args: tuple[Any, ...]) -> object:
        if len(args) < 4 or type(args[0]) is not Storage:
            raise RefusedError("a tensor is made of storage, offset, size and stride")
        storage = args[0]
        return self._tensor(storage, storage.dtype, storage.start, storage.size, args[1:4])

    def _rebuild_typed(self, spend: Spend, args: tuple[Any, ...]) -> object:
        if len(args) < 7 or type(args[0]) is not Storage or type(args[6]) is not Global:
            raise RefusedError("a typed tensor is made of storage, offset, size, stride ... type")
        storage, dtype = args[0], args[6].name
        if args[6].module != "torch" or dtype not in DTYPES:
            return Placeholder("torch._utils", "_rebuild_tensor_v3", args)
        old, new = item_size(storage.dtype), item_size(dtype)
        if storage.size * old % new or storage.start * old % new:
            raise RefusedError(f"storage {storage.key!r} holds no whole number of {dtype}")
        start, size = storage.start * old // new, storage.size * old // new
        return self._tensor(storage, dtype, start, size, args[1:4])

    def _tensor(
        self, storage: Storage, dtype: str, start: int, held: int, place: tuple[Any, ...]
    ) -> NDArray[Any]:
        """The view of `held` elements from `start`; the same place gives the same array."""
        shape, stride = place[1], place[2]
        offset = _natural(place[0], "the offset of a tensor")
        _check_place(storage, held, offset, shape, stride)
        if self._read is None:
            return NOTHING
        key = (storage.key, dtype, start + offset, shape, stride)
        if key not in self._tensors:
            self._tensors[key] = _view(self._whole(storage, dtype), start + offset, shape, stride)
        return self._tensors[key]

    def _whole(self, storage: Storage, dtype: str) -> NDArray[Any]:
        key = (storage.key, dtype)
        if key not in self._arrays:
            assert self._read is not None
            raw = self._read(self.storages[storage.key])
            size = len(raw) // item_size(dtype)
            array = checked_array(raw, np.dtype(DTYPES[dtype]), (size,), False)
            self._arrays[key] = widened(array) if dtype == "bfloat16" else array
        return self._arrays[key]


NOTHING: NDArray[Any] = np.zeros(0, np.float32)


def _check_place(storage: Storage, held: int, offset: int, shape: Any, stride: Any) -> None:
    """Every element within the storage, and no two in one place."""
    count = checked_count(shape)
    if (
        type(stride) is not tuple
        or len(stride) != len(shape)
        or any(type(step) is not int or step < 0 for step in stride)
    ):
        raise RefusedError(
            f"a tensor of {storage!r} has {shown(stride)} as its stride: must be as many integers "
            f"from 0 as its shape {shown_shape(shape)}"
        )
    at = f"a tensor of {storage!r}: offset {offset}, shape {shown_shape(shape)}"
    if not count:
        if offset > held:
            raise RefusedError(f"{at} is outside its {held} elements")
        return
    last = 0  # of the dimensions seen so far
    for step, size in sorted((s, d) for d, s in zip(shape, stride, strict=True) if d > 1):
        if step <= last:
            raise RefusedError(f"{at}, stride {shown_shape(stride)} overlaps itself: clone it")
        last += step * (size - 1)
    if offset + last >= held:
        raise RefusedError(
            f"{at}, stride {shown_shape(stride)} ends at {offset + last} of {held} elements"
        )


def _view(
    whole: NDArray[Any], start: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> NDArray[Any]:
    count = math.prod(shape)
    if count == 0:
        return np.zeros(shape, whole.dtype)
    expected, steps = 1, []
    for size in reversed(shape):
        steps.append(expected)
        expected *= size
    rows = zip(shape, stride, reversed(steps), strict=True)
    if all(step == wanted for size, step, wanted in rows if size > 1):
        return whole[start : start + count].reshape(shape)
    item = whole.itemsize
    # A stride beside a size of 1 is never followed, and may be too long for NumPy.
    bytes_ = tuple(step * item if size > 1 else item for size, step in zip(shape, stride))  # noqa: B905
    return np.lib.stride_tricks.as_strided(whole[start:], shape, bytes_, writeable=False)


def _natural(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise RefusedError(f"{what} is {shown(value)}, must be an integer from 0")
    return value


def _key(value: object) -> str:
    if type(value) not in (str, int):
        raise RefusedError(f"the key of a storage is {shown(value)}, must be text")
    return str(value)


def _storage_dtype(kind: object) -> str:
    if (
        type(kind) is not Global
        or kind.module not in STORAGE_MODULES
        or kind.name.removeprefix("_") not in STORAGES
    ):
        raise RefusedError(f"storage class {shown(kind)}: must be one of {', '.join(STORAGES)}")
    return STORAGES[kind.name.removeprefix("_")]


def _size(spend: Spend, args: tuple[Any, ...]) -> object:
    if len(args) != 1 or type(args[0]) not in (tuple, list):
        raise RefusedError("torch.Size takes a tuple")
    spend(len(args[0]))
    return tuple(args[0])


def _device(spend: Spend, args: tuple[Any, ...]) -> object:
    if not 1 <= len(args) <= 2 or type(args[0]) is not str:
        raise RefusedError("torch.device takes a name")
    return args[0][:60] + (f":{args[1]}" if len(args) == 2 and type(args[1]) is int else "")


def _first(spend: Spend, args: tuple[Any, ...]) -> object:
    """A parameter is its tensor; what cannot be read as one stays a placeholder."""
    if not args or not isinstance(args[0], (np.ndarray, Placeholder)):
        raise RefusedError(f"a parameter is made of {shown(args[0] if args else None)}")
    return args[0]


def _rebuild_from_type(spend: Spend, args: tuple[Any, ...]) -> object:
    """(function, class, arguments, state): tensors with attributes of their own."""
    if len(args) == 4 and type(args[2]) is tuple:
        return Placeholder("torch._tensor", "_rebuild_from_type_v2", args)
    raise RefusedError("_rebuild_from_type_v2 takes function, class, arguments and state")
