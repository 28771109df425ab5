"""Files that look like torch.save's and are not: places outside storages, members outside folders,
programs where tensors should be. All are refused or inert; PyTorch is not needed."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile_pickles import array_of, call, executing, name, text, tuple_of

from s2s_engine.errors import ModelFormatError
from s2s_engine.importers.readers.numpy_pickles import BUILDERS, CONSTRUCTORS
from s2s_engine.importers.readers.pickle_values import BASIC
from s2s_engine.importers.readers.torch_files import read_torch, tensors_of, vocabularies_of
from s2s_engine.importers.readers.torch_tensors import Tensors


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return file.getvalue()


def integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def integers(values: tuple[int, ...]) -> bytes:
    return tuple_of(*map(integer, values))


def storage(size: int = 6, kind: str = "FloatStorage", key: str = "0") -> bytes:
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), integer(size))
    return tuple_of(*parts) + b"Q"


def tensor(
    offset: int, shape: tuple[int, ...], stride: tuple[int, ...], held: bytes | None = None
) -> bytes:
    hooks = call("collections", "OrderedDict")
    parts = (integer(offset), integers(shape), integers(stride), b"\x89", hooks)
    return call("torch._utils", "_rebuild_tensor_v2", held or storage(), *parts)


NUMBERS = np.arange(6, dtype="<f4").tobytes()


def archive(pickle: bytes, data: bytes = NUMBERS, **more: bytes) -> bytes:
    members = {"m/data.pkl": pickle + b".", "m/byteorder": b"little", "m/data/0": data}
    return zip_of({**members, **{key.replace("__", "/"): value for key, value in more.items()}})


# --- what nobody should write ---

STRIDES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "beyond the end": (0, (7,), (1,)),
    "offset beyond the end": (6, (1,), (1,)),
    "negative offset": (-1, (1,), (1,)),
    "negative stride": (5, (6,), (-1,)),
    "negative size": (0, (-6,), (1,)),
    "stride 0": (0, (2,), (0,)),
    "overlapping": (0, (3, 3), (1, 1)),
    "overlapping rows": (0, (2, 3), (2, 1)),
    "too few strides": (0, (2, 3), (1,)),
    "huge": (0, (1 << 40, 1 << 40), (1 << 40, 1)),
    "2^63 elements": (0, (1 << 32, 1 << 31), (1 << 31, 1)),
    "huge stride": (0, (2,), (1 << 62,)),
    "empty, outside": (7, (0,), (1,)),
    "empty and huge": (0, (0, 1 << 47, 1 << 47), (1, 1, 1)),
    "33 dimensions": (0, (1,) * 33, (1,) * 33),
}


@pytest.mark.parametrize("case", STRIDES)
def test_place_outside_the_storage_is_refused(case: str) -> None:
    with pytest.raises(ModelFormatError, match=r"m/data.pkl.*at byte \d+ of the pickle: (a|the) "):
        read_torch(archive(tensor(*STRIDES[case])))


def test_places_within_the_storage_are_read() -> None:
    pairs = tuple_of(
        tensor(1, (2, 2), (3, 1)), tensor(0, (3, 2), (1, 3)), tensor(5, (1,), (1 << 62,))
    )
    a, b, c = read_torch(archive(pairs))
    assert (a == [[1, 2], [4, 5]]).all() and (b == [[0, 3], [1, 4], [2, 5]]).all() and c == [5]


MEMBERS: dict[str, Callable[[], bytes]] = {
    "storage too small": lambda: archive(tensor(0, (6,), (1,)), NUMBERS[:-4]),
    "storage too large": lambda: archive(tensor(0, (6,), (1,)), NUMBERS + b"1234"),
    "storage missing": lambda: archive(tensor(0, (6,), (1,), storage(6, key="7"))),
    "storage elsewhere": lambda: archive(tensor(0, (6,), (1,), storage(6, key="../../etc/passwd"))),
    "storage of two types": lambda: archive(
        tuple_of(tensor(0, (6,), (1,)), tensor(0, (6,), (1,), storage(6, "IntStorage")))
    ),
    "storage of an unknown type": lambda: archive(storage(6, "EvilStorage")),
    "big-endian": lambda: archive(b"N", m__byteorder=b"big"),
    "no pickle": lambda: zip_of({"m/data/0": b""}),
    "two pickles": lambda: archive(b"N", n__data_pkl=b"").replace(b"data_pkl", b"data.pkl"),
    "bytes behind the pickle": lambda: archive(b"N.N"),
    "absolute": lambda: zip_of({"/m/data.pkl": b"N."}),
    "parent": lambda: zip_of({"m/data.pkl": b"N.", "m/../../x": b""}),
    "backslash": lambda: zip_of({"m/data.pkl": b"N.", "m\\x": b""}),
    "drive": lambda: zip_of({"C:/data.pkl": b"N."}),
    "twice": lambda: archive(b"N", m__dat1=b"x", m__dat2=b"y").replace(b"m/dat1", b"m/dat2"),
    "encrypted": lambda: archive(b"N").replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
    "bzip2": lambda: zip_of({"m/data.pkl": b"N."}, zipfile.ZIP_BZIP2),
    "bomb": lambda: zip_of({"m/data.pkl": bytes(80 << 20)}, zipfile.ZIP_DEFLATED),
    "flipped": lambda: archive(tensor(0, (6,), (1,))).replace(NUMBERS, NUMBERS[::-1]),
    "tar": lambda: bytes(257) + b"ustar" + bytes(300),
    "text": lambda: b"hello, this is no model\n",
    "another pickle": lambda: b"\x80\x02}.",
    "empty": lambda: b"",
}


@pytest.mark.parametrize("case", MEMBERS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_container_is_refused(case: str) -> None:
    data = MEMBERS[case]()
    with pytest.raises(ModelFormatError, match=r"^bytes: ") as caught:
        read_torch(data)
    assert len(str(caught.value)) < 1500


def attacks(canary: str) -> dict[str, bytes]:
    """The pickles that run programs, as a whole and where tensors have their numbers."""
    result = {}
    for case, data in executing(canary).items():
        result[case] = zip_of({"m/data.pkl": data})
        evil = data.removeprefix(b"\x80\x04").removesuffix(b".")
        if data[:1] != b"\x80":
            parts = (storage(), integer(0), evil, integers((1,)), b"\x89", evil)
            result[f"{case}, as a shape"] = archive(
                call("torch._utils", "_rebuild_tensor_v2", *parts)
            )
            result[f"{case}, as metadata"] = archive(tensor(0, (6,), (1,))[:-2] + evil + b"tR")
            result[f"{case}, as a parameter"] = archive(
                call("torch._utils", "_rebuild_parameter", evil)
            )
            result[f"{case}, as a storage"] = archive(tensor(0, (6,), (1,), evil))
    return result


def test_attacks_inside_files_run_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for data in attacks(str(canary)).values():
        try:
            value = read_torch(data)
            tensors_of(value), vocabularies_of(value)
        except ModelFormatError:
            pass
    assert not canary.exists()


def mutated(data: bytes, chance: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 3))):
        at = chance.randrange(len(result))
        kind = chance.randrange(4)
        if kind <= 1:
            result[at] = chance.choice((0, 1, 255, chance.randrange(256)))
        elif kind == 2:
            result[at : at + chance.randrange(1, 5)] = b""
        else:
            result[at:at] = result[at : at + chance.randrange(1, 20)]
    return bytes(result)


def legacy(pickle: bytes) -> bytes:
    """A legacy file with one storage of six numbers; of several pickles only the object varies."""
    pickle = pickle.replace(b"tQ", b"NtQ")
    head = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.M\xe9\x03.}" + text("little_endian") + b"\x88s."
    return head + pickle + b".]" + text("0") + b"a." + struct.pack("<q", 6) + NUMBERS


def seeds() -> list[bytes]:
    state = b"}" + text("a") + tensor(0, (2, 3), (3, 1)) + b"s"
    return [archive(state), legacy(state), archive(tensor(1, (2,), (2,))), legacy(b"N")[:-60]]


def test_legacy_files_without_pytorch() -> None:
    array = read_torch(legacy(tensor(0, (2, 3), (3, 1))))
    assert (array == np.arange(6).reshape(2, 3)).all()


def test_mutations_are_read_or_refused() -> None:
    chance = random.Random(2)
    starts = seeds()
    refused = 0
    for index in range(5000):
        try:
            tensors_of(read_torch(mutated(starts[index % len(starts)], chance)))
        except ModelFormatError:
            refused += 1
    assert refused > 1000


# --- well-formed nonsense: known constructors with anything for arguments ---

ARRAY = array_of(b"(K\x02t", "f4", b"C\x08abcdefgh")[:-1]
OBJECTS = array_of(b"(K\x01t", "O8", b"]Na")[:-1]
DTYPE = call("numpy", "dtype", text("f4"), b"\x89", b"\x88")
LEAVES = [
    b"N", b"\x88", b"\x89", b"K\x00", b"K\x06", b"J\xff\xff\xff\xff", integer(1 << 60),
    b"G" + bytes(8),
    text(""), text("latin1"), text("C"), text("<"), text("0"), text("\u20ac"), b"C\x04abcd",
    b"U\x04abcd", ARRAY, OBJECTS, DTYPE, storage(), storage(24, "UntypedStorage"),
    storage(12, "BFloat16Storage"), tensor(0, (2, 2), (2, 1)), tensor(1, (2,), (1,)), b"]", b"}",
    b")", b"\x8f", b"h\x00", b"h\x01",
]  # fmt: skip
KNOWN = [
    *BASIC, *CONSTRUCTORS, *BUILDERS, *Tensors(None).constructors, ("numpy", "dtype"),
    ("numpy", "ndarray"), ("torch", "uint16"), ("torch", "FloatStorage"), ("os", "system"),
]  # fmt: skip


def nonsense(chance: random.Random, depth: int) -> bytes:
    def some(most: int, step: int = 1) -> bytes:
        count = step * chance.randrange(most)
        return b"".join(nonsense(chance, depth - 1) for _ in range(count))

    kind = chance.randrange(10) if depth else 0
    if kind <= 1:
        return chance.choice([*LEAVES, name(*chance.choice(KNOWN))])
    if kind == 2:
        return b"(" + some(5) + b"t"
    if kind == 3:
        return b"](" + some(4) + b"e"
    if kind == 4:
        return b"}(" + some(3, 2) + b"u"
    if kind == 5:
        return b"\x8f(" + some(3) + b"\x90"
    if kind == 6:
        return b"(" + text("storage") + some(7) + b"tQ"
    built = some(2) + b"b" if kind == 7 else b""
    return (
        name(*chance.choice(KNOWN)) + b"(" + some(8) + b"t" + chance.choice([b"R", b"\x81"]) + built
    )


def test_nonsense_is_read_or_refused() -> None:
    chance = random.Random(4)
    read = 0
    for _ in range(5000):
        pickle = b"".join(nonsense(chance, 1) + b"q%c0" % i for i in range(2)) + nonsense(chance, 3)
        try:
            value = read_torch(archive(pickle))
            tensors_of(value), vocabularies_of(value)
            read += 1
        except ModelFormatError:
            pass
    assert read > 100
