"""TensorFlow's checkpoints read without TensorFlow: those that it wrote, and every broken one."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from s2s_engine import ModelFormatError
from s2s_engine.importers.checkpoint import read
from s2s_engine.importers.readers.crc32c import CHUNK, crc32c, masked
from s2s_engine.importers.readers.pickle_values import RefusedError
from s2s_engine.importers.readers.tensorflow_files import _slice_key, read_tensorflow
from s2s_engine.importers.readers.tensorflow_objects import MAX_PATH, read_objects

DATA = Path(__file__).parent / "data"
V1, V2 = DATA / "tensorflow_v1", DATA / "tensorflow_v2"
STORY = json.loads((DATA / "tensorflow.json").read_text())
INDEX = Path(f"{V1}.index").read_bytes()
SHARD = "tensorflow_v1.data-00000-of-00001"


def test_the_files_are_those_that_the_script_wrote() -> None:
    for name, digest in STORY["sha256"].items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("prefix", [V1, f"{V1}.index"])
def test_variables_of_every_type_and_slices_are_read(prefix: str | Path) -> None:
    arrays = read_tensorflow(prefix).arrays
    kinds = {"whole/half": "float16", "whole/double": "float64"}
    for name, values in STORY["values"].items():
        assert arrays[name].dtype == kinds.get(name, "float32"), name
        assert arrays[name].shape == np.shape(values)
        # bfloat16 keeps 8 bits of a number, float16 keeps 11.
        rough = {"whole/brain": 2**-8, "whole/half": 2**-10}.get(name, 1e-7)
        np.testing.assert_allclose(arrays[name], values, rtol=rough)
    assert arrays["step"] == 1 << 40 and arrays["flags"].tolist() == [True, False]
    assert arrays["counts"].tolist() == [-5, 7] and arrays["counts"].dtype == np.int32
    assert set(arrays) == {*STORY["values"], "step", "flags", "counts"}  # texts are left out


def test_an_object_checkpoint_has_its_own_names() -> None:
    arrays = read_tensorflow(V2).arrays
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    assert set(arrays) == {f"layer/kernel{end}", f"step{end}"}
    np.testing.assert_allclose(arrays[f"layer/kernel{end}"], STORY["values"]["encoder/kernel"])


def test_shards_are_put_together(tmp_path: Path) -> None:
    prefix = DATA / "tensorflow_shards"
    arrays = read_tensorflow(prefix).arrays
    assert set(arrays) == {"encoder/kernel", "encoder/bias", "scalar"}
    np.testing.assert_allclose(arrays["encoder/kernel"], STORY["values"]["encoder/kernel"])
    np.testing.assert_allclose(arrays["encoder/bias"], STORY["values"]["encoder/bias"])
    assert arrays["scalar"] == 0.5
    for path in DATA.glob("tensorflow_shards.*"):
        shutil.copy(path, tmp_path)
    second = tmp_path / "tensorflow_shards.data-00001-of-00002"
    second.write_bytes(second.read_bytes()[:-1])
    refused(tmp_path / "tensorflow_shards", r"in shard 1: truncated")
    second.unlink()
    refused(tmp_path / "tensorflow_shards", "data-00001-of-00002, which does not exist")


def test_objects_say_whose_a_variable_is() -> None:
    assert read_tensorflow(V1).objects is None
    objects = read_tensorflow(V2).objects
    assert objects is not None
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    assert objects.key(0, "layer/kernel") == f"layer/kernel{end}"
    assert objects.key(0, "layer/bias") is None and objects.key(0, "layer") is None
    assert objects.variables(0) == {n: f"{n}{end}" for n in ("layer/kernel", "step")}
    assert list(objects.holders("layer", "step")) == [0]
    assert objects.variables(objects.child(0, "layer")) == {"kernel": f"layer/kernel{end}"}


def test_a_saved_model_names_by_place_what_its_objects_name() -> None:
    """Keras's layers list their variables, and TensorFlow takes the list's name first."""
    checkpoint = read(DATA / "nmt_with_attention" / "second")
    assert checkpoint.format == "tensorflow"
    key = checkpoint.content.objects.key(0, "decoder/gru/cell/recurrent_kernel")
    assert key == "decoder/gru/variables/1/.ATTRIBUTES/VARIABLE_VALUE"
    assert checkpoint.arrays[key].shape == (4, 12)


def test_a_broken_object_graph_is_refused(copy: Path) -> None:
    for path in DATA.glob("tensorflow_v2.*"):
        shutil.copy(path, copy.parent)
    prefix = copy.with_name("tensorflow_v2")
    shard = copy.with_name("tensorflow_v2.data-00000-of-00001")
    data = shard.read_bytes()
    at = data.index(b"layer") - 12
    for place in range(at, at + 24):
        shard.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        refused(prefix, r"tensorflow_v2.index: the object graph: ")


def message(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def child(number: int, name: str) -> bytes:
    return message(1, b"\x08" + varint(number) + message(2, name.encode()))


STORED = message(2, message(1, b"VARIABLE_VALUE") + message(3, b"key"))
# Two objects: the first has the second as `a`, itself as `again`; the second is stored.
GRAPH = message(1, child(1, "a") + child(0, "again")) + message(1, child(0, "b") + STORED)


def test_references_of_objects_are_checked_and_loops_end() -> None:
    objects = read_objects(memoryview(GRAPH))
    assert objects.variables(0) == {"a": "key"} and objects.key(0, "a/b/a") == "key"
    with pytest.raises(RefusedError, match="attribute 'a' is object 7 of 1"):
        read_objects(memoryview(message(1, child(7, "a"))))
    with pytest.raises(RefusedError, match="is object -1 of 1"):
        read_objects(memoryview(message(1, message(1, b"\x08" + b"\xff" * 9 + b"\x01"))))
    with pytest.raises(RefusedError, match="holds no object"):
        read_objects(memoryview(b""))
    long = message(1, child(1, "n" * MAX_PATH)) + message(1, STORED)
    assert read_objects(memoryview(long)).variables(0) == {}


def test_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283 and crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43  # RFC 3720, B.4
    data = random.Random(1).randbytes(5000)
    for size in (1023, 1024, 1025, 2048, 5000):  # rows side by side from 1024 bytes on
        value = 0xFFFFFFFF
        for byte in data[:size]:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ 0x82F63B78 * (value & 1)
        assert crc32c(data[:size]) == value ^ 0xFFFFFFFF
    halves = bytes(CHUNK + 1)
    assert crc32c(halves) == crc32c(memoryview(halves))


def test_the_key_of_a_slice() -> None:
    assert _slice_key(b"a", ((0, 3), None)) == b"\0a\0\1\1\2\x80\x83\x80\x7f"
    long = _slice_key(b"a", ((64, 8192),))
    assert long == b"\0a\0\1\1\1" + b"\xc0\x40" + b"\xe0\x20\x00"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for path in DATA.glob("tensorflow_v1.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "tensorflow_v1"


def refused(prefix: Path, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        read_tensorflow(prefix)


def resealed(data: bytes) -> bytes:
    """The index with the sum of its first block made right again."""
    end = BLOCK
    crc = masked(crc32c(data[: end + 1])).to_bytes(4, "little")
    return data[: end + 1] + crc + data[end + 5 :]


def block_size() -> int:
    for size in range(len(INDEX) - 5):
        stored = int.from_bytes(INDEX[size + 1 : size + 5], "little")
        if INDEX[size] == 0 and masked(crc32c(INDEX[: size + 1])) == stored:
            return size
    raise AssertionError("no block")


BLOCK = block_size()


def test_a_missing_damaged_or_short_shard_is_refused(copy: Path) -> None:
    shard = copy.with_name(SHARD)
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    refused(copy, r"variable '[^']*': has .* in shard 0: truncated")
    shard.write_bytes(data[:8] + bytes([data[8] ^ 1]) + data[9:])
    refused(copy, r"tensorflow_v1.index: variable '.*': bytes .* CRC-32C is .*: damaged")
    shard.unlink()
    refused(copy, "which does not exist")
    shard.mkdir()
    refused(copy, "not a regular file")


def test_a_v1_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x")
    refused(tmp_path / "m", "a V1 checkpoint is not read")
    with pytest.raises(FileNotFoundError):
        read_tensorflow(tmp_path / "other")


def test_blocks_that_are_compressed_or_outside_are_refused(copy: Path) -> None:
    index = Path(f"{copy}.index")
    index.write_bytes(INDEX[:BLOCK] + b"\1" + INDEX[BLOCK + 1 :])
    refused(copy, r"compressed \(1\)")
    index.write_bytes(INDEX[:-48] + b"\xff" * 8 + b"\x7f" + INDEX[-39:])
    refused(copy, r"\.index: ")
    index.write_bytes(b"")
    refused(copy, "not a table's magic number")


def test_a_dtype_without_arrays_a_slice_and_an_overlap_are_refused(copy: Path) -> None:
    index = Path(f"{copy}.index")
    at = INDEX.index(b"encoder/bias") + len(b"encoder/bias")
    assert INDEX[at : at + 2] == b"\x08\x01"
    index.write_bytes(resealed(INDEX[: at + 1] + b"\x14" + INDEX[at + 2 :]))
    refused(copy, "'encoder/bias': is of type resource")
    at = INDEX.index(b"\x3a")  # the first slice of encoder/kernel
    assert INDEX[at - 20 : at].count(b"\x12")
    changed = bytearray(INDEX)
    changed[at + 5] ^= 1
    index.write_bytes(resealed(bytes(changed)))
    refused(copy, "'encoder/kernel': ")


def test_every_truncation_of_the_index_is_refused(copy: Path) -> None:
    index = Path(f"{copy}.index")
    for size in range(len(INDEX)):
        index.write_bytes(INDEX[:size])
        refused(copy, r"\.index: ")


@pytest.mark.parametrize("sealed", [True, False])
def test_mutations_of_the_index_are_read_or_refused(copy: Path, sealed: bool) -> None:
    """Sealed: with the right sum, so that what stands behind it is reached."""
    random_ = random.Random(1)
    index = Path(f"{copy}.index")
    limit = copy.with_name(SHARD).stat().st_size
    for _ in range(3000):
        changed = bytearray(INDEX)
        for _ in range(random_.randint(1, 3)):
            at = random_.randrange(BLOCK if sealed else len(INDEX))
            changed[at] = random_.choice([0, 1, 127, 128, 255, changed[at] ^ 1])
        index.write_bytes(resealed(bytes(changed)) if sealed else bytes(changed))
        try:
            arrays = read_tensorflow(copy).arrays
        except ModelFormatError:
            continue
        assert sum(array.nbytes for array in arrays.values()) <= 2 * limit  # bfloat16 widened
