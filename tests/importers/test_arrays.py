"""The readers of npy, npz, pickles of arrays and safetensors: what other programs write comes back
bit for bit, and no file makes them allocate more than it holds."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hostile_pickles import array_of, executing

from s2s_engine.errors import ModelFormatError
from s2s_engine.importers.readers.arrays import (
    load_pickle,
    read_npy,
    read_npz,
    read_pickle,
    read_safetensors,
)

DTYPES = [
    "f2", "f4", "f8", ">f4", ">f8", "i1", "i2", "i4", "i8", ">i4", "u1", "u2", "u4", "u8", "b1",
    "c8", "c16", "U5", "S3", ">U4",
]  # fmt: skip


def examples() -> dict[str, np.ndarray[Any, Any]]:
    result: dict[str, np.ndarray[Any, Any]]
    result = {code: (np.arange(24) % 7).astype(code).reshape(2, 3, 4) for code in DTYPES}
    result["fortran"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    result["scalar"] = np.array(3.5)
    result["empty"] = np.zeros((3, 0, 2), np.float32)
    result["transposed"] = np.arange(6.0).reshape(2, 3).T
    return result


EXAMPLES = examples()


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return file.getvalue()


def same(ours: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> bool:
    plain = want.dtype.newbyteorder("=")
    return ours.dtype == plain and ours.shape == want.shape and bool((ours == want).all())


@pytest.mark.parametrize("name", EXAMPLES)
def test_npy_reads_exactly(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.npy"
    path.write_bytes(npy(EXAMPLES[name]))
    again = read_npy(path)
    assert list(again) == ["weights"] and same(again["weights"], EXAMPLES[name])


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_reads_exactly(compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(npz(compressed, **EXAMPLES))
    again = read_npz(path)
    assert again.keys() == EXAMPLES.keys()
    assert all(same(again[name], EXAMPLES[name]) for name in EXAMPLES)


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_arrays_read_exactly(protocol: int) -> None:
    value = {"a": EXAMPLES, "b": [np.float32(1.5), np.int64(-3), np.bool_(True)], "c": "text"}
    again = load_pickle(pickle.dumps(value, protocol))
    assert all(same(again["a"][name], EXAMPLES[name]) for name in EXAMPLES)
    assert again["b"] == [1.5, -3, True] and again["c"] == "text"
    flat = read_pickle(pickle.dumps(value, protocol))
    assert list(flat) == [f"a.{name}" for name in EXAMPLES]


def test_paddle_parameters() -> None:
    value = {
        "gru.weight_ih_l0": np.ones((3, 2), np.float32),
        "StructuredToParameterName@@": {"a": "b"},
    }
    assert list(read_pickle(pickle.dumps(value, 4))) == ["gru.weight_ih_l0"]


def test_arrays_of_objects_are_read_by_the_pickle_reader() -> None:
    words = np.array(["a", None, ["b"], {"c": 1}], dtype=object)
    assert read_npz(npz(words=words))["words"].tolist() == words.tolist()
    assert read_npy(npy(np.array({"a": 1}, object)))["array"].item() == {"a": 1}


def test_a_pickle_of_python_2() -> None:
    numbers = np.array([1.5, -2.0], "<f4")
    raw = b"(lp0\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
    raw += b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
    raw += b"S" + repr(numbers.tobytes())[1:].encode() + b"\ntba."
    assert (load_pickle(raw)[0] == numbers).all()


def test_types_with_fields_or_dates_stay_inert() -> None:
    value = {"w": np.ones(2), "when": np.zeros(2, "M8[s]"), "rows": np.zeros(2, "i4,f4")}
    assert list(read_pickle(pickle.dumps(value))) == ["w"]


def test_safetensors_read_exactly() -> None:
    kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
    values = {code: np.ascontiguousarray(EXAMPLES[code]) for code in kinds}
    again = read_safetensors(safetensors.numpy.save(values, {"by": "test"}))
    assert again.keys() == values.keys() and all(same(again[k], values[k]) for k in values)


def test_bfloat16_of_safetensors_is_exact() -> None:
    numbers = np.array([1.0, -0.0, 3.0, np.inf, 2.0**-126], np.float32)
    data = (numbers.view("<u4") >> 16).astype("<u2").tobytes()
    again = read_safetensors(
        tensors(data, {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]})
    )
    assert again["a"].tobytes() == numbers.tobytes()


def tensors(data: bytes, *entries: Any, text: str | None = None) -> bytes:
    names = "abcdefgh"
    header = (text or json.dumps({names[i]: entry for i, entry in enumerate(entries)})).encode()
    return struct.pack("<Q", len(header)) + header + data


def f32(start: int, stop: int, *shape: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}


def header(text: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + body


def described(shape: str, descr: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


NPY: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello, hello, hello",
    "version 9": header(described("(1,)"), b"1234", b"\x09\0"),
    "truncated header": header(described("(1,)"))[:30],
    "truncated": header(described("(2,)"), b"1234"),
    "bytes behind": header(described("(1,)"), b"12345"),
    "exabyte": header(described("(1152921504606846976,)"), b"1234"),
    "overflow": header(described("(4294967296, 4294967296)"), b"1234"),
    "overflow with 0": header(described("(0, 99999999999999, 99999999999999)")),
    "20 digits": header(described("(99999999999999999999,)")),
    "negative": header(described("(-1,)"), b"1234"),
    "code": header(described("__import__('os').system('touch canary')")),
    "fields": header(described("(1,)", "[('a', '<f4')]"), b"1234"),
    "void": header(described("(1,)", "'|V4'"), b"1234"),
    "comma string": header(described("(1,)", "'i4,i4'"), b"12345678"),
    "dates": header(described("(1,)", "'<M8[s]'"), b"12345678"),
    "order": header(described("(1,)", order="1"), b"1234"),
    "key twice": header("{'descr': '<f4', 'descr': '<f4', 'shape': (1,), }\n", b"1234"),
    "spaces without end": header(described("(1,)")[:-4] + " " * 65000),
    "shape of spaces": header(described("(1,)")[:-6] + " " * 65000),
    "truth of 7": header(described("(1,)", "'|b1'"), b"\x07"),
    "no characters": header(described("(1,)", "'<U1'"), b"\xff" * 4),
    "objects of another shape": header(
        described("(3,)", "'|O'"), pickle.dumps(np.array([1], object))
    ),
    "no objects": header(described("(1,)", "'|O'"), pickle.dumps(7)),
}  # fmt: skip
BODY = npy(np.zeros(4, np.float32))
NPZ: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no zip": lambda: b"PK\3\4" + bytes(100),
    "not npy": lambda: zip_of({"readme.txt": b"x"}),
    "parent": lambda: zip_of({"../a.npy": BODY}),
    "absolute": lambda: zip_of({"/a.npy": BODY}),
    "twice": lambda: zip_of({"a.npy": BODY, "b.npy": BODY}).replace(b"b.npy", b"a.npy"),
    "bomb": lambda: zip_of({"a.npy": bytes(100 << 20)}, zipfile.ZIP_DEFLATED),
    "exabyte": lambda: zip_of({"a.npy": NPY["exabyte"]}),
    "lzma": lambda: zip_of({"a.npy": BODY}, zipfile.ZIP_LZMA),
    "flipped": lambda: npz(a=np.arange(9.0)).replace(np.arange(9.0).tobytes(), bytes(72)),
    "size changed": lambda: zip_of({"a.npy": BODY}).replace(
        struct.pack("<II", len(BODY), len(BODY)), struct.pack("<II", len(BODY), len(BODY) * 9)
    ),
    "overlapping": lambda: zip_of({"a.npy": BODY, "b.npy": BODY})[:-22].replace(
        b"PK\1\2", b"PK\1\3"
    ),
}
ONE = f32(0, 4, 1)
SAFETENSORS: dict[str, bytes] = {
    "empty": b"",
    "short": b"1234567",
    "length of an exabyte": struct.pack("<Q", 1 << 60) + b"{}",
    "no JSON": tensors(b"", text="{,}"),
    "a list": tensors(b"", text="[]"),
    "deep": tensors(b"", text='{"a":' * 100_000),
    "deep lists": tensors(b"", text="[" * 100_000),
    "not UTF-8": struct.pack("<Q", 2) + b"\xff\xff",
    "name twice": tensors(b"1234", text=f'{{"a":{json.dumps(ONE)},"a":{json.dumps(ONE)}}}'),
    "key missing": tensors(b"1234", {"dtype": "F32", "shape": [1]}),
    "dtype": tensors(b"1234", {**ONE, "dtype": "F4"}),
    "dtype of a list": tensors(b"1234", {**ONE, "dtype": []}),
    "shape negative": tensors(b"1234", f32(0, 4, -1)),
    "shape of floats": tensors(b"1234", f32(0, 4, 1.0)),
    "shape of truth": tensors(b"1234", f32(0, 4, True)),
    "shape huge": tensors(b"1234", f32(0, 4, 1 << 32, 1 << 31)),
    "shape overflows": tensors(b"1234", f32(0, 4, 1 << 62, 4)),
    "long number": tensors(b"1234", text='{"a":{"shape":[' + "9" * 5000 + "]}}"),
    "NaN": tensors(b"1234", text='{"a":NaN}'),
    "truncated": tensors(b"123", ONE),
    "bytes behind": tensors(b"12345", ONE),
    "bytes between": tensors(b"1" * 12, ONE, f32(8, 12, 1)),
    "overlap": tensors(b"1" * 6, ONE, f32(2, 6, 1)),
    "offsets turned": tensors(b"1234", f32(4, 0, 1)),
    "offsets negative": tensors(b"1234", f32(-4, 0, 1)),
    "three offsets": tensors(b"1234", {**ONE, "data_offsets": [0, 4, 4]}),
}


@pytest.mark.parametrize("case", NPY)
def test_hostile_npy_is_refused(case: str) -> None:
    with pytest.raises(ModelFormatError, match=r"^bytes: ") as caught:
        read_npy(NPY[case])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("case", NPZ)
def test_hostile_npz_is_refused(case: str) -> None:
    with pytest.raises(ModelFormatError, match=r"^bytes: ") as caught:
        read_npz(NPZ[case]())
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("case", SAFETENSORS)
def test_hostile_safetensors_is_refused(case: str) -> None:
    with pytest.raises(ModelFormatError, match=r"^bytes: ") as caught:
        read_safetensors(SAFETENSORS[case])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "code", ["f4,f4", "V4", "M8[s]", "m8", "O", "f4'; import os", "<f3", "4f4", ""]
)
def test_dtype_tricks_are_inert_or_refused(code: str) -> None:
    try:
        value = load_pickle(array_of(b"(K\x01t", code))
    except ModelFormatError:
        return
    assert not isinstance(value, np.ndarray)


def test_attacks_inside_arrays_of_objects_run_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name, data in executing(str(canary)).items():
        member = header(described("(1,)", "'|O'"), data)
        if name == "numpy array of objects":  # a well-formed one
            assert repr(read_npy(member)["array"][0]) == "<placeholder of os.system>"
            continue
        for read, file in ((read_npz, zip_of({"a.npy": member})), (read_npy, member)):
            with pytest.raises(ModelFormatError):
                read(file)
    evil = np.array([_Evil(str(canary))], object)
    assert repr(read_npz(npz(a=evil))["a"][0]).endswith("system>")
    assert not canary.exists()


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("reader", ["npy", "npz", "pickle", "safetensors"])
def test_every_truncation_is_refused(reader: str) -> None:
    array = np.arange(6, dtype=np.float32)
    data, read = {
        "npy": (npy(array), read_npy),
        "npz": (npz(a=array), read_npz),
        "pickle": (pickle.dumps({"a": array}), read_pickle),
        "safetensors": (safetensors.numpy.save({"a": array}), read_safetensors),
    }[reader]
    read(data)
    for size in range(len(data)):
        with pytest.raises(ModelFormatError):
            read(data[:size])


def test_a_message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(NPZ["exabyte"]())
    with pytest.raises(ModelFormatError, match=r"bad.npz: member 'a.npy': a shape is"):
        read_npz(path)
    with pytest.raises(ModelFormatError, match="not a regular file"):
        read_npz(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "none.npz")


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


def seeds() -> list[bytes]:
    array, words = np.arange(6, dtype=np.float32), np.array(["a", ["b"]], object)
    return [
        npy(array), npy(words), npz(a=array, b=words), npz(True, a=array, b=words),
        pickle.dumps({"a": array, "b": words, "c": np.float32(1)}, 2),
        pickle.dumps({"a": array, "b": words, "c": np.float32(1)}, 4),
        safetensors.numpy.save({"a": array, "b": array}),
    ]  # fmt: skip


def any_reader(data: bytes) -> None:
    """The reader that the first bytes ask for."""
    if data[:1] == b"P":
        read_npz(data)
    elif data[:1] == b"\x93":
        read_npy(data)
    elif data[:1] == b"\x80":
        read_pickle(data)
    else:
        read_safetensors(data)


def test_mutations_are_read_or_refused() -> None:
    chance = random.Random(3)
    starts = seeds()
    refused = 0
    for index in range(5000):
        try:
            any_reader(mutated(starts[index % len(starts)], chance))
        except ModelFormatError:
            refused += 1
    assert refused > 1000
