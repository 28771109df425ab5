"""The process that reads HDF5: what its end, its silence and its lies are answered, what it may not
do, and what it sees of its parent. Knows no layers; every child here is a real process."""

from __future__ import annotations

import base64
import json
import multiprocessing.spawn
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from test_hdf5_files import FILE, HOSTILE, KERNEL, made

from s2s_engine import ModelFormatError
from s2s_engine.importers.readers import hdf5_process
from s2s_engine.importers.readers.hdf5_files import read_keras
from s2s_engine.importers.readers.hdf5_process import READY, judged

pytestmark = pytest.mark.parity("h5py")
HEAD = f"import os, signal, sys, time\nos.write(1, {READY!r})\n"
READ = "sys.stdin.buffer.read()\n"
LIMITED = hdf5_process.PROGRAM.replace(
    "import main\nmain(memory, seconds)",
    "import limit\nimport mmap, os, socket\n"
    f"limit(memory, seconds)\nos.write(1, {READY!r})\n" + READ,
)
EMPTY = b'{"names": [], "kind": "model.h5", "layers": {}, "attributes": {}}'
NO_ARRAYS = (2).to_bytes(8, "little") + b"{}"


def answering(text: bytes, body: bytes) -> str:
    sizes = len(text).to_bytes(8, "little") + len(body).to_bytes(8, "little")
    return HEAD + READ + f"os.write(1, {sizes + text + body!r})"


# The address sanitizer ends a process in its own words, at the same limits.
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")
ENDINGS = {
    "segfault": (HEAD + READ + "os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
    "before the file": (HEAD + "os.abort()", r"crashed \(SIGABRT\)"),
    "a last word": (
        HEAD + READ + "os.write(2, b'one\\nfree(): invalid pointer\\n'); os.abort()",
        r"crashed \(SIGABRT: free\(\): invalid pointer\)",
    ),
    "an exit": (HEAD + READ + "os._exit(3)", r"crashed \(exit status 3\)"),
    "an exit without error": (HEAD + READ + "os._exit(0)", r"crashed \(exit status 0\)"),
    "half an answer": (answering(EMPTY, b"x" * 50)[:-40] + "')", r"crashed \(exit status 0\)"),
    "an endless loop": (LIMITED + "while True: pass", "needed more than 1 s of processor time"),
    "sleep": (HEAD + "time.sleep(100)", "needed more than 2 s"),
    "sleep behind the file": (HEAD + READ + "time.sleep(100)", "needed more than 2 s"),
    "much said": (HEAD + READ + "while True: os.write(2, b'x' * 9999)", "needed more than 2 s"),
    "memory": (LIMITED + "x = b'x' * (4 << 30)", r"crashed \(exit status 1: MemoryError\)"),
    "mapped memory": (LIMITED + "mmap.mmap(-1, 4 << 30)", "Cannot allocate memory"),
    "a file": (LIMITED + "os.open('/', 0)", "Too many open files"),
    "a socket": (LIMITED + "socket.socket()", "Too many open files"),
    "a pipe": (LIMITED + "os.pipe()", "Too many open files"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_each_end_of_the_process_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program, message = ENDINGS[name]
    if SANITIZED and name in ("segfault", "memory"):
        message = "crashed"
    monkeypatch.setattr(hdf5_process, "PROGRAM", program)
    monkeypatch.setattr(hdf5_process, "SECONDS", 1)
    monkeypatch.setattr(hdf5_process, "WALL", 2 if "more than 2 s" in message else 60)
    path = tmp_path / "m.h5"
    path.write_bytes(FILE)
    began = time.monotonic()
    with pytest.raises(ModelFormatError, match=f"^{path}: the HDF5 library .*{message}") as caught:
        read_keras(path)
    assert str(caught.value).endswith("on it: the file is damaged")
    assert time.monotonic() - began < 30


def test_an_answer_larger_than_the_file_can_have_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = (1 << 40).to_bytes(8, "little") * 2
    endless = HEAD + READ + f"os.write(1, {sizes!r})\nwhile True: os.write(1, bytes(1 << 16))"
    monkeypatch.setattr(hdf5_process, "PROGRAM", endless)
    with pytest.raises(ModelFormatError, match=f"has {1 << 41} bytes, the file has {len(FILE)}$"):
        read_keras(FILE)


def changed(**fields: object) -> bytes:
    return json.dumps({**json.loads(EMPTY), **fields}).encode()


LIES = {
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "nothing": b"{}",
    "nested": b"[" * 100_000,
    "another field": changed(x=1),
    "names": changed(names={}),
    "a name": changed(names=[1]),
    "no such array": changed(names=["a"]),
    "kind": changed(kind="x"),
    "a layer": changed(layers={"a": "b"}),
    "layers": changed(layers=[]),
    "a listed name": changed(layers={"a": ["b"]}),
    "attributes": changed(attributes=[]),
    "an attribute": changed(attributes={"": []}),
    "a value": changed(attributes={"": {"a": [{}]}}),
    "digits": b'{"names": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", LIES)
def test_an_answer_is_believed_only_if_it_is_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_process, "PROGRAM", answering(LIES[name][:40_000], NO_ARRAYS))
    with pytest.raises(ModelFormatError, match=r"broke its own process on it.*is damaged"):
        read_keras(FILE)


def test_the_smallest_answer() -> None:
    assert judged(EMPTY, NO_ARRAYS).arrays == {}
    with pytest.raises(ValueError, match="header's length"):
        judged(EMPTY, b"\xff" * 9)


def test_a_process_that_is_not_ours_is_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hdf5_process, "PROGRAM", "raise ImportError('no such library')")
        with pytest.raises(RuntimeError, match="ImportError: no such library"):
            read_keras(FILE)
    name = "/bin/false" if Path("/bin/false").exists() else "/usr/bin/false"
    for python, message in ((None, "set_executable"), ("", "set_executable"), (name, "is none")):
        monkeypatch.setattr(multiprocessing.spawn, "_python_exe", python)
        with pytest.raises(RuntimeError, match=message):
            read_keras(FILE)


def test_a_frozen_program_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", sys.executable)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(RuntimeError, match="set_executable"):
        read_keras(FILE)


def test_the_process_sees_neither_the_folder_nor_the_users_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("sitecustomize", "usercustomize", "json", "h5py", "numpy", "zlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "json.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    assert len(read_keras(FILE).arrays) == 4


def test_threads_read_at_once_and_nothing_is_left() -> None:
    big = made(lambda root: root.__setitem__("w", np.zeros((1 << 20,), np.float32)))
    results: list[int] = []
    held = Path("/proc/self/fd")
    before = len(list(held.iterdir())) if held.exists() else 0

    def read(data: bytes) -> None:
        results.append(sum(array.size for array in read_keras(data).arrays.values()))

    threads = [threading.Thread(target=read, args=(data,)) for data in (big, FILE, big, FILE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [2 * KERNEL.size + 6] * 2 + [1 << 20] * 2
    assert not before or len(list(held.iterdir())) == before


NO_CHECKS = hdf5_process.PROGRAM.replace(
    "main(memory, seconds)",
    "from s2s_engine.importers.readers import hdf5_objects\n"
    "hdf5_objects.check_heaps = lambda data: None\n"
    "hdf5_objects.TextLengths.check = lambda *_: None\nmain(memory, seconds)",
)


def test_the_limits_hold_where_the_checks_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heap that the library walks without an end, and a text of 4 GiB in a file of 2 KB."""
    monkeypatch.setattr(hdf5_process, "PROGRAM", NO_CHECKS)
    monkeypatch.setattr(hdf5_process, "SECONDS", 2)
    data = made(lambda root: root.attrs.__setitem__("model_config", "{}"))
    heap = data.index(b"GCOL") + 16
    with pytest.raises(ModelFormatError, match=r"more than \d+ s"):
        read_keras(data[:heap] + bytes(16) + data[heap + 16 :])
    length = data.index(b"\x02\0\0\0", data.index(b"model_config\0") + 32)
    with pytest.raises(ModelFormatError, match="crashed" if SANITIZED else "allocat"):
        read_keras(data[:length] + b"\xff" * 4 + data[length + 4 :])


# Found by mutation, every byte that it did not need made zero: a chunked dataset in the newer
# layout; HDF5 2.0.0 crashes when it is asked where the object stands.
CRASH = zlib.decompress(
    base64.b64decode(
        "eNrtzzsKwkAQgOGZXSMhKoiIgm0sbATxBBYSUghiejvvoFdIaek5bAWv4SnEG+gm7oJYW1j83xb7mGF2psyXWScZ"
        "JTaOJXh6p+n7PvPvabp6rPNlYeRgep+JQWJERZptcZvuz6FeLj9zvN3XdQvuAx2LGKOa+dj8q/3AtkW7brr3gAuJ"
        "XJe21RqIGlM1rHVE69Vwp3goVY5V24+jKrabXNXXLuV/FNvLRgAAAAAAAAAAAAAAAAAAAAD8gRdO9Dho"
    )
)


def test_a_crash_of_the_library_is_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFormatError, match="superblock is of version 3"):
        read_keras(CRASH)
    monkeypatch.setattr(hdf5_process, "PROGRAM", NO_CHECKS)
    import h5py

    known = h5py.version.hdf5_version == "2.0.0"
    with pytest.raises(ModelFormatError, match="the HDF5 library crashed" if known else ""):
        read_keras(CRASH)


AUDIT = """
import json, sys
import h5py
from s2s_engine.importers.readers import hdf5_child
files = [open(path, "rb").read() for path in sys.argv[1:]]
hdf5_child.rehearse(h5py)
seen = []
hdf5_child.limit(1 << 28, 100)  # no file can be opened: the C library is told so by the system
quiet = ("object.", "sys._getframe", "array.", "builtins.id")
sys.addaudithook(lambda event, args: event.startswith(quiet) or seen.append((event, str(args))))
answers = [hdf5_child.answer(h5py, data) for data in files]
found = list(seen)
for sizes, text, *_ in answers:
    print(text.decode())
assert not found, found
"""


def test_nothing_is_opened_imported_or_started(tmp_path: Path) -> None:
    for index, (write, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{index:02}").write_bytes(made(write))
    (tmp_path / "good").write_bytes(FILE)
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(HOSTILE) + 1 and len(answers[-1]["names"]) == 4
    assert "Too many open" not in done.stdout and "unable to open" not in done.stdout
