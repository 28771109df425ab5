"""The reader of pickles: what pickle writes it reads, what attacks it refuses or leaves inert.
Knows builtin objects; arrays and tensors have tests of their own."""

from __future__ import annotations

import argparse
import collections
import pickle
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hostile_pickles import executing, exhausting

from s2s_engine.errors import ModelFormatError
from s2s_engine.importers.readers.arrays import load_pickle
from s2s_engine.importers.readers.pickles import Global, Placeholder, read_pickle

CANARY = "canary-that-must-never-be"
EXHAUSTING = exhausting()


def read(data: bytes) -> Any:
    value, stop = read_pickle(data, where="file")
    assert stop == len(data)
    return value


def python2(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode("latin-1") + b"."


class Custom:
    """A class with a state, a list's items and a dictionary's items."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Custom, (1, "two"), {"a": 1}, iter([3, 4]), iter([("k", "v")])


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 255, 256, 65535, 65536, 2**31, -(2**31), 2**63, -(2**200), 0.0,
    -0.5, 1e300, float("inf"), "", "a", "ä€𝄞\n\\", "x" * 300, b"", b"abc\xff\0", b"y" * 70000,
    (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1, [2, [3]]], {},
    {"a": {1: b"x", (1, "t"): 2.0}}, set(), {1, 2}, frozenset({"a"}), bytearray(b"abc"), 1 + 2j,
    list(range(3000)),
    {str(i): i for i in range(3000)},
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_what_pickle_writes_reads_back(protocol: int) -> None:
    for value in [*VALUES, VALUES]:
        again = read(pickle.dumps(value, protocol))
        assert again == value and type(again) is type(value)


@pytest.mark.parametrize("protocol", range(6))
def test_collections_become_plain_dictionaries(protocol: int) -> None:
    pairs = [("b", 1), ("a", 2)]
    counts = collections.Counter("abca")
    defaults = collections.defaultdict(int, pairs)
    for value in (collections.OrderedDict(pairs), counts, defaults):
        again = read(pickle.dumps(value, protocol))
        assert type(again) is dict and list(again.items()) == list(value.items())


@pytest.mark.parametrize("protocol", range(2, 6))
def test_other_classes_become_placeholders(protocol: int) -> None:
    space = read(pickle.dumps(argparse.Namespace(rnn_size=5, layers=[1]), protocol))
    assert (space.module, space.name) == ("argparse", "Namespace")
    assert space.state == {"rnn_size": 5, "layers": [1]}
    custom = read(pickle.dumps(Custom(), protocol))
    assert custom.name == "Custom" and custom.args == (1, "two") and custom.state == {"a": 1}
    assert custom.items == [3, 4, ("k", "v")]
    for value, name in ((slice(1, 2), "slice"), (range(3), "range"), (Path("a"), "Path")):
        assert read(pickle.dumps(value, protocol)).name.endswith(name)
    assert read(pickle.dumps([print, dict], protocol)) == [
        Global("builtins", "print"),
        Global("builtins", "dict"),
    ]


def test_shared_objects_stay_shared_and_cycles_close() -> None:
    shared = [1]
    again = read(pickle.dumps([shared, shared]))
    assert again[0] is again[1]
    loop: list[Any] = []
    loop.append(loop)
    again = read(pickle.dumps(loop))
    assert again[0] is again


def test_strings_of_python_2_are_text_where_they_are_utf8() -> None:
    assert read(python2("abc")) == "abc"
    assert read(python2("Ã¤")) == "ä"
    assert read(python2("\xe4")) == b"\xe4"
    assert read(b"S'a\\'b\\n\\xc3\\xa4\\\\'\n.") == "a'b\nä\\"
    assert read(b"(dp0\nS'k'\np1\nI01\nsS'n'\nI12\nsS'l'\nL12L\nsS'f'\nF1.5\ns.") == {
        "k": True, "n": 12, "l": 12, "f": 1.5
    }  # fmt: skip


@pytest.mark.parametrize("name", executing("x"))
def test_attack_is_refused_or_inert(name: str, tmp_path: Path) -> None:
    canary = tmp_path / CANARY
    data = executing(str(canary))[name]
    try:
        value = load_pickle(data)
    except ModelFormatError as error:
        assert "at byte" in str(error) and len(str(error)) < 1000
    else:
        repr(value)
    assert not canary.exists()


@pytest.mark.parametrize("name", EXHAUSTING)
def test_exhausting_pickle_is_refused(name: str) -> None:
    began = time.process_time()
    with pytest.raises(ModelFormatError, match=r"^bytes: at byte \d+ of the pickle: ") as caught:
        load_pickle(EXHAUSTING[name])
    assert len(str(caught.value)) < 1000
    assert time.process_time() - began < 5


def test_memory_is_bounded_by_the_file() -> None:
    for name, data in EXHAUSTING.items():
        tracemalloc.start()
        with pytest.raises(ModelFormatError):
            load_pickle(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200 * len(data) + 1_000_000, name


def test_billion_laughs_share_their_tuples() -> None:
    data = EXHAUSTING["billion laughs as a key"]
    laughs = data[3:].replace(b"0h\xffh%cNs." % 100, b".")
    value = read(laughs)
    assert len(value) == 10 and value[0] is value[9]


def test_message_names_file_offset_and_reason() -> None:
    with pytest.raises(ModelFormatError, match="file: at byte 2 of the pickle: there is no opcode"):
        read(b"]N\xfe.")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_every_truncation_is_refused(protocol: int) -> None:
    data = pickle.dumps(
        {"a": [1, 2.5, "text", (b"raw", None)], "b": argparse.Namespace(x=1)}, protocol
    )
    for size in range(len(data)):
        with pytest.raises(ModelFormatError):
            read(data[:size])


BELIEVER = """
import contextlib, pickle, sys
with contextlib.suppress(BaseException):
    pickle.loads(sys.stdin.buffer.read())
"""


@pytest.mark.parametrize("name", ["os.system", "eval", "getattr chain", "INST", "pickled partial"])
def test_attacks_do_run_where_pickle_loads_them(name: str, tmp_path: Path) -> None:
    canary = tmp_path / CANARY
    data = executing(str(canary))[name]
    if name == "pickled partial":
        data = data[:-1] + b")R."
    subprocess.run([sys.executable, "-c", BELIEVER], input=data, check=True, timeout=60)
    assert canary.exists()


AUDIT = """
import sys
from pathlib import Path
from s2s_engine.errors import ModelFormatError
from s2s_engine.importers.readers import arrays, torch_files
files = [(path, path.read_bytes()) for path in sorted(Path(sys.argv[1]).iterdir())]
readers = (arrays.load_pickle, arrays.read_npz, arrays.read_npy, torch_files.read_torch)
for path, data in files[:1]:  # codecs are loaded once
    "".encode("cp437"), b"".decode("latin-1")
# What a reader may do: look at arrays, frames and strings of its own.
quiet = ("object.", "sys._getframe", "array.", "builtins.id")
seen = set()
def hook(event, arguments):
    if not event.startswith(quiet):
        seen.add((event, str(arguments)[:200]))
sys.addaudithook(hook)
results = []
for path, data in files:
    for reader in readers:
        try:
            repr(reader(data))
            results.append("read")
        except ModelFormatError:
            results.append("refused")
found = set(seen)
print(len(results), results.count("read"))
assert not found, found
"""


def test_no_attack_imports_opens_or_executes(tmp_path: Path) -> None:
    folder, canary = tmp_path / "files", tmp_path / CANARY
    folder.mkdir()
    attacks = executing(str(canary))
    for index, data in enumerate(attacks.values()):
        (folder / str(index)).write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", AUDIT, str(folder)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[0]) == 4 * len(attacks)
    assert not canary.exists()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One to four bytes changed, cut out, doubled or put in."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(result) or 1)
        kind = chance.randrange(6)
        if kind <= 2:
            result[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 3:
            result[at : at + chance.randrange(1, 9)] = b""
        elif kind == 4:
            result[at:at] = result[at : at + chance.randrange(1, 30)]
        else:
            result[at:at] = bytes([chance.choice(b"()]}Rbhqtaceosu.0\x85\x86\x93\x94\x81")])
    return bytes(result)


def seeds() -> list[bytes]:
    value = {"a": [1, 2.5, "text", (b"raw", None)], "b": {3, 4}, "c": argparse.Namespace(x=[1])}
    plain = [pickle.dumps(value, protocol) for protocol in range(6)]
    return [*plain, *(data for data in executing(CANARY).values() if len(data) < 400)]


def test_mutations_are_read_or_refused() -> None:
    chance = random.Random(1)
    starts = seeds()
    refused = 0
    for index in range(10_000):
        data = mutated(starts[index % len(starts)], chance)
        try:
            load_pickle(data)
        except ModelFormatError:
            refused += 1
    assert refused > 2000
    assert not Path(CANARY).exists()


def test_placeholders_show_no_more_than_their_name() -> None:
    thing = Placeholder("os", "system", ("touch",), {"a": 1})
    assert repr(thing) == "<placeholder of os.system>" and str(thing) == "os.system"
