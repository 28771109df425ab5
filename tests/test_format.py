"""Model files: round trips, bytes, and every way in which a file may be wrong. Knows the layout of
files; never what a model computes."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from s2s_engine import Engine, Model, ModelBuilder
from s2s_engine import format as model_file
from s2s_engine.errors import ModelFormatError
from s2s_engine.format import MAX_HEADER, digest_of, from_bytes, read, read_header, to_bytes, write
from s2s_engine.model import DOCUMENT_KEYS
from s2s_engine.self_test import attach, compare, make

ALL = models.DECODERS | models.LABELLERS | {"captioner": models.captioner}
ZEROS = "0" * 64


def file_of(header: bytes, data: bytes) -> bytes:
    """A file whose 64 zeros in the header are replaced by its digest."""
    whole = len(header).to_bytes(8, "little") + header + data
    return whole.replace(ZEROS.encode(), hashlib.sha256(whole).hexdigest().encode(), 1)


def parts_of(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Document without digest, tensor entries, tensor data."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    document = json.loads(header.pop("__metadata__")["s2s_engine"])
    del document["sha256"]
    return document, header, data[8 + length :]


def sealed(document: Any, entries: Any, data: bytes) -> bytes:
    """A file with a right digest, written independently of the package."""
    text = document if isinstance(document, str) else json.dumps({**document, "sha256": ZEROS})
    return file_of(json.dumps({"__metadata__": {"s2s_engine": text}, **entries}).encode(), data)


def refused(data: bytes | bytearray, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        from_bytes(data)
    assert len(str(caught.value)) < 2100


SMALL = to_bytes(attach(models.gru_plain(hidden=2, source=4, target=4)))
# About 50 KB, as the task of reliability.md says.
MEDIUM = to_bytes(attach(models.gru_plain(hidden=42)))


# --- round trips ---


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ALL)
def test_model_survives_its_file(name: str, storage: str) -> None:
    model = ALL[name]()
    data = to_bytes(model, storage)
    again = from_bytes(data)
    assert to_bytes(again, storage) == data
    assert again.to_document() == json.loads(json.dumps(model.to_document()))
    assert again.tensors.keys() == model.tensors.keys()
    for key, array in again.tensors.items():
        assert array.dtype == np.float32
        if storage == "float32":
            assert np.array_equal(array, model.tensors[key])


def test_same_model_gives_the_same_bytes() -> None:
    assert to_bytes(models.lstm_luong()) == to_bytes(models.lstm_luong())
    assert to_bytes(models.lstm_luong(5)) != to_bytes(models.lstm_luong(6))


def test_saved_model_decodes_as_before(tmp_path: Path) -> None:
    model = models.lstm_luong()
    model.save(tmp_path / "m.safetensors")
    again = read(tmp_path / "m.safetensors")
    assert again.reference().decode([4, 5]).score == model.reference().decode([4, 5]).score
    assert not next(iter(again.tensors.values())).flags.writeable


def test_bytes_of_every_kind_are_read() -> None:
    for data in (SMALL, bytearray(SMALL), memoryview(SMALL)):
        assert to_bytes(from_bytes(data)) == SMALL


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_file_opens_with_the_safetensors_library(tmp_path: Path, storage: str) -> None:
    model = models.lstm_luong()
    write(model, tmp_path / "m.safetensors", storage)
    with safetensors.safe_open(tmp_path / "m.safetensors", "np") as file:
        assert set(file.keys()) == set(model.tensors)
        document = json.loads(file.metadata()["s2s_engine"])
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert document.pop("sha256") != ZEROS
    assert document == json.loads(json.dumps(model.to_document()))
    assert shapes == {name: array.shape for name, array in model.tensors.items()}
    if storage == "float32":
        for name, array in safetensors.numpy.load_file(tmp_path / "m.safetensors").items():
            assert np.array_equal(array, model.tensors[name])


def test_tied_tensors_are_stored_once() -> None:
    document, entries, _ = parts_of(SMALL)
    used = [
        t for g in document["graphs"].values() for n in g["nodes"] for t in n["weights"].values()
    ]
    assert sorted(entries) == sorted(set(used))


def test_header_is_padded_so_that_tensors_are_aligned() -> None:
    for name, build in ALL.items():
        assert int.from_bytes(to_bytes(build())[:8], "little") % 8 == 0, name


def test_non_ascii_strings_survive() -> None:
    words = ["ß", "日本", "\N{GRINNING FACE}", '"\\']
    model = models.gru_plain(hidden=2, source=4, target=4)
    document = {**model.to_document(), "vocabularies": {"target": words}}
    again = from_bytes(to_bytes(type(model).from_document(document, model.tensors)))
    assert again.vocabularies["target"] == tuple(words)


# --- bfloat16 ---


def test_bfloat16_rounds_to_the_nearest_even() -> None:
    bits = {  # float32 bits: bfloat16 bits
        0x3F800000: 0x3F80,  # 1 is exact
        0x3F807FFF: 0x3F80,  # just below half: down
        0x3F808000: 0x3F80,  # half: to the even one below
        0x3F808001: 0x3F81,  # just above half: up
        0x3F818000: 0x3F82,  # half: to the even one above
        0x3FFFFFFF: 0x4000,  # carries into the exponent
        0xBF808001: 0xBF81,
        0x80000000: 0x8000,  # -0 keeps its sign
        0x00000001: 0x0000,
        0x00018000: 0x0002,  # subnormals like the others
        0x7F7F7FFF: 0x7F7F,  # the largest that fits
    }
    given = np.array(list(bits), np.uint32).view(np.float32)
    assert list(model_file._narrowed(given)) == list(bits.values())


def test_bfloat16_widens_exactly_and_is_idempotent() -> None:
    model = models.lstm_luong()
    again = from_bytes(to_bytes(model, "bfloat16"))
    for name, array in again.tensors.items():
        assert not (array.view(np.uint32) & 0xFFFF).any()
        # Half a unit in the last of 8 bits.
        assert (abs(array - model.tensors[name]) <= abs(model.tensors[name]) * 2.0**-8).all()
    once_more = from_bytes(to_bytes(again, "float32"))
    for name, array in once_more.tensors.items():
        assert np.array_equal(array, again.tensors[name])


def test_bfloat16_overflow_is_refused_naming_the_tensor() -> None:
    model = models.gru_plain(hidden=2)
    name = min(model.tensors)
    large = {**model.tensors, name: np.full_like(model.tensors[name], 3.4e38)}
    large_model = type(model)(**{**vars(model), "tensors": large})
    assert from_bytes(to_bytes(large_model)).tensors.keys() == large.keys()
    with pytest.raises(ModelFormatError, match=f"{name}.*too large for bfloat16"):
        to_bytes(large_model, "bfloat16")


def test_self_test_is_that_of_the_rounded_weights() -> None:
    again = from_bytes(to_bytes(attach(models.lstm_luong()), "bfloat16"))
    assert again.self_test == make(again)


# --- self-tests ---


@pytest.mark.parametrize("name", models.DECODERS | models.LABELLERS)
def test_self_test_survives_and_passes_on_the_reference(name: str) -> None:
    model = from_bytes(to_bytes(attach((models.DECODERS | models.LABELLERS)[name]())))
    test = model.self_test
    assert test is not None
    assert test == make(model)
    check = compare(test, make(model, test.source, test.target or None).log_probs)
    assert check.passed
    assert check.largest_difference == 0.0
    assert not compare(test, np.array(test.log_probs) + 1e-3).passed
    assert not compare(test, [*test.log_probs, 0.0]).passed
    assert not compare(test, [np.nan] * len(test.log_probs)).passed


def several_inputs() -> Model:
    """Two inputs of ids and one of features along the source, an id and a vector for all of it."""
    m = ModelBuilder(source=7)
    e, random = m.encoder, np.random.default_rng(0)
    table = random.standard_normal((7, 3)).astype(np.float32)
    tags, image = e.input("tags", ids=7), e.input("image", sequence=2)
    voice, style = e.input("voice", id=7), e.input("style", vector=4)
    joined = e.concat([e.embedding(e.tokens, table), e.embedding(tags, table), image])
    hidden = e.pool(joined, "mean")
    x = [hidden, e.embedding(voice, table), style]
    e.output(logits=e.linear(x, random.standard_normal((5, 15)).astype(np.float32)))
    return m.build()


def test_a_self_test_holds_values_of_every_input() -> None:
    model = from_bytes(to_bytes(attach(several_inputs())))
    assert model.self_test is not None
    source = model.self_test.call
    assert isinstance(source, dict) and set(source) == {"tokens", "tags", "image", "voice", "style"}
    assert np.shape(source["image"]) == (3, 2) and np.shape(source["style"]) == (4,)
    with Engine.load(model) as engine:
        assert engine.self_test().passed
    other = replace(model, tensors={n: a + np.float32(0.1) for n, a in model.tensors.items()})
    with Engine.load(other) as engine:
        assert not engine.self_test().passed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tags", None, r"source names \['image', 'style', 'tokens', 'voice'\], must name"),
        ("tags", [1, 9, 2], "source 'tags', item 1"),
        ("voice", 7, "source 'voice'"),
        ("style", [0.0, 1.0], "source 'style' must be finite numbers for a vector"),
        ("image", [0.0, 1.0], "source 'image' must be finite numbers for a sequence"),
        ("image", [[0.0, 1e999]], "source 'image' must be finite numbers"),
    ],
)
def test_a_self_test_of_other_values_is_refused(name: str, value: object, message: str) -> None:
    model = attach(several_inputs())
    document = model.to_document()
    source = document["self_test"]["source"]
    if value is None:
        del source[name]
    else:
        source[name] = value
    with pytest.raises(ModelFormatError, match=message):
        Model.from_document(document, model.tensors)


# --- damage ---


def test_every_truncation_is_refused() -> None:
    assert 45_000 < len(MEDIUM) < 60_000
    view = memoryview(MEDIUM)
    for length in range(len(MEDIUM)):
        with pytest.raises(ModelFormatError):
            from_bytes(view[:length])


def test_every_flipped_bit_of_the_header_is_refused() -> None:
    data = bytearray(MEDIUM)
    for at in range(8 + int.from_bytes(MEDIUM[:8], "little")):
        for bit in range(8):
            data[at] ^= 1 << bit
            with pytest.raises(ModelFormatError):
                from_bytes(data)
            data[at] ^= 1 << bit
    assert data == MEDIUM


def test_flipped_bits_of_the_data_are_refused() -> None:
    start = 8 + int.from_bytes(MEDIUM[:8], "little")
    choice, data = random.Random(0), bytearray(MEDIUM)
    for _ in range(2000):
        at, bit = choice.randrange(start, len(data)), choice.randrange(8)
        data[at] ^= 1 << bit
        refused(data, "SHA-256.*damaged")
        data[at] ^= 1 << bit
    assert to_bytes(from_bytes(data)) == MEDIUM


def test_trailing_bytes_are_refused() -> None:
    refused(SMALL + b"\0", "1 bytes stand behind the last tensor")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_number_that_is_not_finite_is_refused_naming_its_tensor(value: float) -> None:
    document, entries, data = parts_of(SMALL)
    for name, entry in entries.items():
        start = entry["data_offsets"][0]
        broken = data[:start] + struct.pack("<f", value) + data[start + 4 :]
        refused(sealed(document, entries, broken), f"tensor '{name}' holds {value}")


# --- hostile headers, with a right digest ---


def test_resealed_file_is_accepted() -> None:
    assert to_bytes(from_bytes(sealed(*parts_of(SMALL)))) == SMALL


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes, too few"),
        (b"1234567", "7 bytes, too few"),
        (b"\0" * 8, "no JSON object"),
        ((MAX_HEADER + 1).to_bytes(8, "little") + b"{}", f"given as {MAX_HEADER + 1}, at most"),
        (MAX_HEADER.to_bytes(8, "little") + b"{}", "the file has 10 bytes: truncated"),
        (b"\xff" * 8 + b"{}", "given as 18446744073709551615, at most"),
        ((2**31).to_bytes(8, "little") + b"{}", "given as 2147483648"),
        ((2**63).to_bytes(8, "little") + b"{}", "given as 9223372036854775808"),
        (file_of(b"{}", b""), "holds no 's2s_engine': a safetensors file, but not a model"),
        (file_of(b' {"__metadata__":{}}', b""), "no JSON object"),
        (file_of(b"[]", b""), "no JSON object"),
        (file_of(b"{", b""), "not the JSON"),
        (file_of(b"{} {}", b""), "not the JSON"),
        (file_of(b'{"a\xff":1}', b""), "not UTF-8"),
        (file_of(b'{"__metadata__":{"s2s_engine":1}}', b""), "holds no 's2s_engine'"),
        (file_of(b'{"__metadata__":{"s2s_engine":"{}","x":"y"}}', b""), "'s2s_engine' only"),
        (file_of(b'{"__metadata__":[]}', b""), "holds no 's2s_engine'"),
        (file_of(b'{"a":1,"a":1}', b""), "the key 'a' stands twice"),
        (file_of(b'{"a":{"b":1,"b":2}}', b""), "the key 'b' stands twice"),
        (file_of(b'{"a":NaN}', b""), "NaN is not a number"),
        (file_of(b'{"a":-Infinity}', b""), "-Infinity is not a number"),
        (file_of(b'{"a":1e999}', b""), "1e999 is out of range"),
        (file_of(b'{"a":' + b"9" * 21 + b"}", b""), "an integer has 21 digits, at most 20"),
        (file_of(b'{"a":' + b"9" * 3_000_000 + b"}", b""), "an integer has 3000000 digits"),
        (file_of(b'{"a":1.' + b"9" * 1_000_000 + b"}", b""), "is out of range"),
        (file_of(b'{"a":' + b"[" * 1_000_000, b""), "nested too deeply"),
        (file_of(b'{"a":' * 1_000_000, b""), "nested too deeply"),
        (safetensors.numpy.save({"a": np.zeros(3)}), "not a model of this engine"),
    ],
)  # fmt: skip
def test_hostile_header_is_refused(data: bytes, message: str) -> None:
    refused(data, message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "not the JSON"),
        ("[]", "must be a JSON object, is list"),
        ("{}", "sha256 is missing"),
        ('{"sha256":1}', "sha256 is missing, or not 64 digits"),
        (f'{{"sha256":"{"A" * 64}"}}', "not 64 digits"),
        (f'{{"sha256":"{"1" * 64}"}}', "SHA-256"),
        ('{"sha256":"' + "\\u0031" * 64 + '"}', "once, in plain digits"),
        (f'{{"sha256":"{ZEROS}","sha256":"{ZEROS}"}}', "'sha256' stands twice"),
        (f'{{"sha256":"{ZEROS}"}}', "format is None"),
        ('{"a":"\ud800"}', "not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_hostile_document_is_refused(document: str, message: str) -> None:
    _, entries, data = parts_of(SMALL)
    refused(sealed(document, entries, data), message)


CAP = 1 << 24
HUGE = [2**31, 2**32, 2**63]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[({"shape": [size]}, "data_offsets is") for size in (1, CAP - 1, CAP)],
        *[({"shape": [size]}, "dimensions are 1 to 16777216") for size in (0, -1, CAP + 1, *HUGE)],
        ({"shape": [CAP] * 8}, "data_offsets is"),
        ({"shape": [1] * 9}, "has 9 dimensions, must have 1 to 8"),
        ({"shape": []}, "has 0 dimensions"),
        *[({"shape": bad}, "must be a list") for bad in (5, "5", None, [1.0], [True], [[1]])],
        *[({"dtype": bad}, "dtype is") for bad in ("F16", "f32", "I32", None, 3, ["F32"])],
        *[({"data_offsets": bad}, "data_offsets is") for bad in (
            None, [], [0], [0, 8, 8], [4, 52], [0, 44], [52, 0], [0.0, 48.0], [-1, 47], "ab",
            [0, 2**63], [False, 48], {"0": 0})],
        ({"more": 1}, "exactly dtype, shape, data_offsets"),
    ],
)  # fmt: skip
def test_tensor_entry_out_of_its_schema_is_refused(change: dict[str, Any], message: str) -> None:
    document, entries, data = parts_of(SMALL)
    first = next(iter(entries))
    refused(sealed(document, {**entries, first: {**entries[first], **change}}, data), message)


def test_missing_keys_overlaps_and_gaps_are_refused() -> None:
    document, entries, data = parts_of(SMALL)
    first, *_, last = entries
    for key in entries[first]:
        less = {k: v for k, v in entries[first].items() if k != key}
        refused(sealed(document, {**entries, first: less}, data), "must have exactly")
    wrong: list[Any] = [None, [], 1, "x"]
    for bad in wrong:
        refused(sealed(document, {**entries, first: bad}, data), "must have exactly")
    start, stop = entries[last]["data_offsets"]
    for offsets in ([start - 4, stop - 4], [start + 4, stop + 4]):
        moved = {**entries, last: {**entries[last], "data_offsets": offsets}}
        refused(sealed(document, moved, data + b"\0" * 4), "data_offsets is")
    refused(sealed(document, dict(reversed(entries.items())), data), "data_offsets is")
    refused(sealed(document, {k: v for k, v in entries.items() if k != last}, data), "behind")


@pytest.mark.parametrize("name", ["", " ", "a b", "../x", "a\n", "é", "x" * 257, "a\0"])
def test_tensor_name_that_is_no_name_is_refused(name: str) -> None:
    document, entries, data = parts_of(SMALL)
    renamed = {name if n == 0 else k: v for n, (k, v) in enumerate(entries.items())}
    refused(sealed(document, renamed, data), "must match")
    model = models.gru_plain(hidden=2)
    odd = type(model)(**{**vars(model), "tensors": {name: np.zeros(1, np.float32)}})
    with pytest.raises(ModelFormatError, match="must match"):
        to_bytes(odd)


@pytest.mark.parametrize(("count", "message"), [(4096, "named by no node"), (4097, "at most 4096")])
def test_tensors_are_at_most_4096(count: int, message: str) -> None:
    document, _, _ = parts_of(SMALL)
    entries = {f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
               for n in range(count)}  # fmt: skip
    for node in (n for g in document["graphs"].values() for n in g["nodes"]):
        for role, number in zip(node["weights"], range(4), strict=False):
            node["weights"][role] = f"t{number}"
    document["graphs"] = {"encoder": {"inputs": {}, "nodes": [], "outputs": {}}}
    document |= {"vocabularies": {}, "target": {"start": None, "end": []}, "self_test": None}
    document["source"] = {**document["source"], "append": []}
    refused(sealed(document, entries, bytes(4 * count)), message)


def test_missing_extra_and_transposed_tensors_are_refused() -> None:
    document, entries, data = parts_of(SMALL)
    first = next(iter(entries))
    extra = {**entries, "extra": {"dtype": "F32", "shape": [1],
                                  "data_offsets": [len(data), len(data) + 4]}}  # fmt: skip
    refused(sealed(document, extra, data + b"\0" * 4), "tensor 'extra' is named by no node")
    renamed = {("other" if k == first else k): v for k, v in entries.items()}
    refused(sealed(document, renamed, data), f"tensor '{first}', which is not there")
    for name, entry in entries.items():
        rows, columns = (*entry["shape"], 1)[:2]
        if len(entry["shape"]) == 2 and rows != columns:
            turned = {**entries, name: {**entry, "shape": entry["shape"][::-1]}}
            refused(sealed(document, turned, data), "graph (encoder|decoder), node")


# --- hostile documents, with a right digest ---


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value inside a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from paths_of(item, (*path, key))


def changed(document: Any, path: tuple[Any, ...], change: Any) -> Any:
    """A copy in which `change` has been called with the container and the key of one value."""
    result = copy.deepcopy(document)
    place = result
    for key in path[:-1]:
        place = place[key]
    change(place, path[-1])
    return result


def attacked(document: Any, entries: Any, data: bytes) -> bool:
    """Whether a changed document was accepted; any error but the two allowed ones fails."""
    try:
        model = from_bytes(sealed(document, entries, data))
    except (ModelFormatError, NotImplementedError):
        return False
    json.dumps(model.to_document(), allow_nan=False)
    return True


NESTED: Any = []
for _ in range(300):
    NESTED = [NESTED]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, CAP, CAP + 1, 2**31, 2**32, 2**63, 10**19, -(10**18), 0.5,
    1e308, 1e39, -0.0, "", "x", "tokens", "encoder.h", "state.h", "\0", "x" * 70, [], {}, [[]],
    [{}], {"": 0}, {"x": {}}, [None], [True], [0.5], [-1], [2**40], ["x", "x"], NESTED,
]  # fmt: skip


@pytest.mark.parametrize("name", ["gru_plain", "lstm_given", "tagger"])
def test_every_value_of_the_document_may_be_anything_and_only_format_errors_come(name: str) -> None:
    """Each key deleted, retyped, made huge, negative and nested."""
    document, entries, data = parts_of(to_bytes(attach(ALL[name]())))
    accepted = 0
    for path in paths_of(document):
        if path[0] == "vocabularies" and len(path) == 3 and path[2] > 2:
            continue  # strings are all alike: three of them are enough
        assert not (attacked(changed(document, path, lambda d, k: d.pop(k)), entries, data)
                    and len(path) == 1)  # fmt: skip
        for value in VALUES:

            def replace(place: Any, key: Any, value: Any = value) -> None:
                place[key] = value

            accepted += attacked(changed(document, path, replace), entries, data)
    assert accepted > 0  # a string of provenance may change, for one


@pytest.mark.parametrize("seed", range(4))
def test_documents_with_parts_exchanged_give_only_format_errors_and_never_break_the_reference(
    seed: int,
) -> None:
    """Whatever loads also runs: a wrong graph cannot get past the check."""
    name = list(models.DECODERS)[seed]
    document, entries, data = parts_of(to_bytes(models.DECODERS[name]()))
    choice = random.Random(seed)
    paths = [p for p in paths_of(document) if p[0] != "vocabularies"]
    ran = 0
    for _ in range(1500):
        broken = copy.deepcopy(document)
        for _ in range(choice.randint(1, 3)):
            taken, value = choice.choice(paths), document
            for key in taken:
                value = value[key]

            def replace(place: Any, key: Any, value: Any = value) -> None:
                place[key] = copy.deepcopy(value)

            # The place may have gone with an earlier exchange.
            with contextlib.suppress(KeyError, IndexError, TypeError):
                broken = changed(broken, choice.choice(paths), replace)
        try:
            model = from_bytes(sealed(broken, entries, data))
        except (ModelFormatError, NotImplementedError):
            continue
        try:
            reference = model.reference()
            reference.decode([1, 2], max_length=2, beam_size=2)
            ran += 1
        except NotImplementedError:
            pass
        except ValueError as error:
            assert type(error).__module__ == "s2s_engine.errors", error
    assert ran > 10  # the exchange of two like parts is a model as well


@pytest.mark.parametrize("key", sorted(DOCUMENT_KEYS))
def test_every_key_of_the_document_is_required(key: str) -> None:
    document, entries, data = parts_of(SMALL)
    refused(sealed({k: v for k, v in document.items() if k != key}, entries, data), key)
    refused(sealed({**document, "more": 1}, entries, data), "key 'more' is unknown")


@pytest.mark.parametrize("version", [0, 2, -1, "1", None, True, [1], 2**63])
def test_only_format_1_is_read(version: Any) -> None:
    document, entries, data = parts_of(SMALL)
    refused(sealed({**document, "format": version}, entries, data), "this version reads format 1")


def test_long_value_does_not_make_a_long_message() -> None:
    document, entries, data = parts_of(SMALL)
    refused(
        sealed({**document, "characters": ["x" * 100_000]}, entries, data), "characters must be"
    )


# --- files ---


def test_missing_file_is_file_not_found(tmp_path: Path) -> None:
    for call in (read, read_header):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "none")


def test_directory_and_pipe_are_no_model_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        for call in (read, read_header):
            with pytest.raises(ModelFormatError, match="not a regular file"):
                call(path)


def test_message_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(SMALL[:-1])
    for call in (read, read_header):
        with pytest.raises(ModelFormatError, match=f"{tmp_path}/m: tensor"):
            call(tmp_path / "m")


def test_header_is_read_without_the_data(tmp_path: Path) -> None:
    model = models.lstm_luong()
    write(model, tmp_path / "m")
    header = read_header(tmp_path / "m")
    assert header.document == json.loads(json.dumps(model.to_document()))
    assert {t.name: t.shape for t in header.tensors} == {
        n: a.shape for n, a in model.tensors.items()
    }
    assert header.outline.graphs == read(tmp_path / "m").graphs
    assert header.digest == digest_of(to_bytes(model))
    assert header.file_size == (tmp_path / "m").stat().st_size
    damaged = bytearray((tmp_path / "m").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "m").write_bytes(damaged)
    assert read_header(tmp_path / "m").digest == header.digest


def test_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "m"
    write(models.gru_plain(), path)
    before = path.read_bytes()

    def no_space(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, no_space)
            with pytest.raises(OSError, match="No space"):
                write(models.lstm_luong(), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
    write(models.lstm_luong(), path)
    assert path.read_bytes() == to_bytes(models.lstm_luong())
    assert list(tmp_path.iterdir()) == [path]


def test_file_has_the_permissions_of_new_files(tmp_path: Path) -> None:
    write(models.gru_plain(), tmp_path / "m")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_writing_refuses_what_reading_would(tmp_path: Path) -> None:
    model = models.gru_plain()
    name = next(iter(model.tensors))
    for array, message in (
        (model.tensors[name].astype(np.float64), "is of float64"),
        (np.full_like(model.tensors[name], np.nan), "holds nan"),
        (np.zeros((0, 3), np.float32), "dimensions are"),
    ):
        broken = type(model)(**{**vars(model), "tensors": {**model.tensors, name: array}})
        with pytest.raises(ModelFormatError, match=message):
            write(broken, tmp_path / "m")
    with pytest.raises(ModelFormatError, match="storage is 'int8'"):
        write(model, tmp_path / "m", storage="int8")
    odd = type(model)(**{**vars(model), "provenance": {"x": float("nan")}})
    with pytest.raises(ModelFormatError, match="cannot be written as JSON"):
        write(odd, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
