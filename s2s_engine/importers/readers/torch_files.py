"""Files of torch.save, zip and legacy, read without PyTorch: the same objects with NumPy arrays for
tensors. Knows the containers, modules and vocabularies; never which tensor is which weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import ModelFormatError
from .archives import Archive, Source, load
from .arrays import Arrays, flatten
from .numpy_pickles import BUILDERS, CONSTRUCTORS
from .pickle_values import Placeholder, shown
from .pickles import read_pickle
from .torch_tensors import Storage, Tensors, item_size

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_VISITS = 1_000_000


def read_torch(source: Source) -> Any:
    """The object that torch.save wrote, every class but containers and tensors a `Placeholder`.

    ModelFormatError names file, member and offset of what is wrong or cannot be read.
    """
    data, where = load(source)
    if data[:4] == b"PK\x03\x04":
        return _read_zip(data, where)
    if data[257:262] == b"ustar":
        raise ModelFormatError(
            f"{where}: a tar file (of PyTorch before 0.1.10, or a packed archive): unpack it, or "
            "save the model again with a newer PyTorch"
        )
    return _read_legacy(data, where)


# --- zip, since PyTorch 1.6 ---


def _read_zip(data: bytes, where: str) -> Any:
    archive = Archive(data, where)
    roots = [name for name in archive.names() if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ModelFormatError(f"{where}: has {len(roots)} members '*/data.pkl', must have one")
    root = roots[0].removesuffix("data.pkl")
    order = f"{root}byteorder"
    if order in archive and archive.size(order) < 100 and archive.read(order) != b"little":
        archive.refuse(order, f"is {shown(archive.read(order))}, must be b'little'")

    def read(storage: Storage) -> bytes:
        name = f"{root}data/{storage.key}"
        if name not in archive:
            raise ModelFormatError(f"{where}: member {name[:200]!r} of {storage!r} is missing")
        size = storage.size * item_size(storage.dtype)
        if archive.size(name) != size:
            archive.refuse(name, f"has {archive.size(name)} bytes, {storage!r} needs {size}")
        return archive.read(name)

    pickle = archive.read(roots[0])
    tensors = Tensors(read)
    value, stop = _unpickled(pickle, f"{where}: member {roots[0]!r}", tensors)
    if stop != len(pickle):
        archive.refuse(roots[0], f"{len(pickle) - stop} bytes stand behind the pickle")
    return value


def _unpickled(data: bytes, where: str, tensors: Tensors, start: int = 0) -> tuple[Any, int]:
    return read_pickle(
        data,
        where=where,
        constructors={**CONSTRUCTORS, **tensors.constructors},
        builders=BUILDERS,
        persistent=tensors.persistent,
        start=start,
    )


# --- legacy, until PyTorch 1.5 ---


def _read_legacy(data: bytes, where: str) -> Any:
    """Five pickles (magic, protocol, system, object, keys), then every storage's size and bytes."""
    magic, at = read_pickle(data, where=where)
    if type(magic) is not int or magic != MAGIC:
        raise ModelFormatError(f"{where}: begins with {shown(magic)}: not a file of torch.save")
    protocol, at = read_pickle(data, where=where, start=at)
    if type(protocol) is not int or protocol != PROTOCOL:
        raise ModelFormatError(f"{where}: protocol is {shown(protocol)}, must be {PROTOCOL}")
    system, at = read_pickle(data, where=where, start=at)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ModelFormatError(f"{where}: was not written by a little-endian machine")
    start = at
    outline = Tensors(None)  # the storages stand behind the object: the first run finds them
    _, at = _unpickled(data, where, outline, start)
    keys, at = read_pickle(data, where=where, start=at)
    places = _places(data, at, keys, outline, where)

    def read(storage: Storage) -> bytes:
        begin = places[storage.key]
        return data[begin : begin + storage.size * item_size(storage.dtype)]

    return _unpickled(data, where, Tensors(read), start)[0]


def _places(data: bytes, at: int, keys: Any, outline: Tensors, where: str) -> dict[str, int]:
    """Where each storage's bytes begin; the sizes must agree with the pickle's and the file's."""
    if type(keys) is not list or any(type(key) not in (str, int) for key in keys):
        raise ModelFormatError(f"{where}: the keys of storages are no list of text")
    places: dict[str, int] = {}
    for key in map(str, keys):
        storage = outline.storages.get(key)
        if storage is None or key in places:
            raise ModelFormatError(
                f"{where}: storage {key[:60]!r} is stored, but the object names it not, or twice"
            )
        count = int.from_bytes(data[at : at + 8], "little")
        begin = at + 8
        at = begin + storage.size * item_size(storage.dtype)
        if begin > len(data) or count != storage.size:
            raise ModelFormatError(
                f"{where}: at byte {begin - 8}: {count} elements, {storage!r} needs {storage.size}"
            )
        if at > len(data):
            raise ModelFormatError(
                f"{where}: {storage!r} ends at byte {at} of {len(data)}: truncated"
            )
        places[key] = begin
    missing = outline.storages.keys() - places.keys()
    if missing:
        raise ModelFormatError(f"{where}: storage {min(missing)[:60]!r} is missing")
    if at != len(data):
        raise ModelFormatError(f"{where}: {len(data) - at} bytes stand behind the last storage")
    return places


# --- what objects hold ---


def tensors_of(value: Any) -> Arrays:
    """The tensors of a state dict, of dictionaries of them, or of a whole pickled module, by the
    names that `state_dict()` gives; tied tensors are one array.

    ModelFormatError for a tensor of a kind that cannot be read (quantised, sparse).
    """
    return flatten(value, where="the object", members=_members)


def _members(item: Placeholder, name: str) -> Iterable[tuple[Any, Any]]:
    if item.module in ("torch._utils", "torch._tensor") and item.name.startswith("_rebuild"):
        raise ModelFormatError(
            f"tensor {name[:200]!r} is made by {item}: only dense tensors can be read; "
            "convert it before saving"
        )
    state = item.state
    if type(state) is tuple and len(state) == 2:
        state = state[0]
    if type(state) is not dict:
        return
    if item.module.split(".")[0] == "__torch__":  # TorchScript: attributes are members
        yield from state.items()
        return
    dropped = state.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers", "_modules"):
        held = state.get(kind)
        if type(held) is dict:
            for key, child in held.items():
                if kind != "_buffers" or not isinstance(dropped, set) or key not in dropped:
                    yield key, child


def vocabularies_of(value: Any) -> dict[str, list[str]]:
    """The word lists of an OpenNMT-py checkpoint (0.x to 3.x), by side: "src", "tgt", features.

    They stand under "vocab": pairs of names and torchtext vocabularies (0.x), fields (1.x and
    2.x), or plain lists of words (3.x).
    """
    if type(value) is dict and "vocab" in value:
        value = value["vocab"]
    result: dict[str, list[str]] = {}
    todo: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_VISITS):
        if not todo:
            return result
        name, item = todo.pop()
        if type(item) is Placeholder:
            state = item.state if type(item.state) is dict else {}
            if _words(state.get("itos")):
                item = state["itos"]
            else:
                todo.extend((name, state[key]) for key in ("fields", "vocab") if key in state)
                continue
        if type(item) is dict:
            todo.extend((_named(name, key), child) for key, child in item.items())
        elif _words(item):
            if result.setdefault(name, item) != item:
                raise ModelFormatError(f"two vocabularies are named {name[:200]!r}")
        elif type(item) in (list, tuple):
            pairs = [pair for pair in item if type(pair) in (list, tuple) and len(pair) == 2]
            todo.extend((_named(name, key), child) for key, child in pairs)
        if len(todo) > MAX_VISITS:
            break
    raise ModelFormatError(f"more than {MAX_VISITS} objects to look through for vocabularies")


def _named(name: str, key: object) -> str:
    return key if type(key) is str else name


def _words(value: object) -> bool:
    return type(value) is list and bool(value) and all(type(word) is str for word in value)


__all__ = ["Placeholder", "read_torch", "tensors_of", "vocabularies_of"]
