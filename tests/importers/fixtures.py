"""Makes fixtures again with the interpreters that environment variables name, and tells whether
two files hold the same. Knows formats and scripts; never a toolkit's models."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import lzma
import math
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from s2s_engine.importers.readers.hdf5_files import read_keras
from s2s_engine.importers.readers.pickle_values import Placeholder
from s2s_engine.importers.readers.tensorflow_files import read_tensorflow
from s2s_engine.importers.readers.torch_files import read_torch
from scripts import loaded

TESTS = Path(__file__).parent
# Of values that a program computed. Weights must be equal to the last bit.
TOLERANCE = 1e-5
SETS = ("non_padded_namespaces.txt",)  # written in the order of a hash
SUMS = ("sha256", "sha256.json", "sums.json", "SHA256", "SHA256SUMS")


@dataclass(frozen=True)
class Script:
    """variable: names the interpreter. path: below tests/importers/data. files: patterns of what it
    makes, in its folder. clone: the variable that names the toolkit's sources, its argument."""

    variable: str
    path: str
    files: tuple[str, ...]
    clone: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def script_of(path: Path, package: str) -> ModuleType:
    """A script that makes fixtures, as a module; skips where the program's package is not here."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return loaded(path)


def sums_hold(folder: Path, *besides: str) -> None:
    """Every file of a folder but its scripts and `besides` has the sum that sha256.json tells."""
    sums = json.loads((folder / "sha256.json").read_text())
    kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    scripts = {name for name in kept if Path(name).suffix in (".py", ".pyc")}
    assert sums.keys() == kept - scripts - {"sha256.json", *besides}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def same_arrays(new: Path, old: Path) -> None:
    """Two npz files hold the same arrays, but for the last digits."""
    told, _ = content(old)
    made, _ = content(new)
    assert not list(differences(made, told, old.name, 1e-6))


def make_again(script: Script, folder: Path) -> Path:
    """Runs a script in a copy of its surroundings without any fixture; the folder of its files.

    Skips, naming the variable, where it names nothing.
    """
    variables = [script.variable, *([script.clone] if script.clone else [])]
    for name in variables:
        if not os.environ.get(name):
            pytest.skip(f"{name} names nothing: see {script.path}")
    there = folder / "importers"
    shutil.copytree(
        TESTS,
        there,
        ignore=lambda _, names: [n for n in names if Path(n).suffix not in ("", ".py")],
    )
    for empty in (path for path in (there / "data").rglob("*") if path.is_file()):
        if empty.suffix != ".py":
            empty.unlink()
    run = there / "data" / script.path
    arguments = [os.environ[script.clone]] if script.clone else []
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [os.environ[script.variable], str(run), *arguments], cwd=run.parent, timeout=900,
        env={**environment, **script.environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return run.parent


def names(folder: Path, patterns: Sequence[str]) -> list[str]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(str(path.relative_to(folder)) for path in found)


def differences(
    new: Any, old: Any, where: str, tolerance: float, seen: set[int] | None = None
) -> Iterator[str]:
    """Where two values differ: containers, arrays, numbers and texts; `seen` are objects that may
    hold themselves, and have been compared."""
    seen = set() if seen is None else seen
    if isinstance(new, np.ndarray) and isinstance(old, np.ndarray):
        same = new.shape == old.shape and new.dtype == old.dtype
        if same and tolerance and new.dtype.kind in "fV":
            same = np.allclose(new, old, rtol=0, atol=tolerance)
        elif same:
            same = new.tobytes() == old.tobytes()
        if not same:
            yield where
    elif isinstance(new, Mapping) and isinstance(old, Mapping):
        if list(new) != list(old):
            yield f"{where}: {sorted(map(str, new))[:20]} for {sorted(map(str, old))[:20]}"
        for key in new.keys() & old.keys():
            if str(key) not in SUMS:
                yield from differences(new[key], old[key], f"{where}/{key}", tolerance, seen)
    elif isinstance(new, (list, tuple)) and isinstance(old, (list, tuple)):
        if len(new) != len(old):
            yield f"{where}: {len(new)} for {len(old)}"
        for number, pair in enumerate(zip(new, old, strict=False)):
            yield from differences(*pair, f"{where}/{number}", tolerance, seen)
    elif isinstance(new, Placeholder) and isinstance(old, Placeholder):
        if str(new) != str(old):
            yield f"{where}: {new} for {old}"
        if id(new) not in seen:
            seen.add(id(new))
            yield from differences(new.state, old.state, where, tolerance, seen)
    elif isinstance(new, float) and isinstance(old, float):
        if not math.isclose(new, old, rel_tol=tolerance, abs_tol=tolerance):
            yield f"{where}: {new} for {old}"
    elif new != old:
        yield f"{where}: {str(new)[:80]} for {str(old)[:80]}"


def content(path: Path) -> tuple[Any, float]:
    """What a file holds, and how far numbers in it may be from another's."""
    if path.suffix == ".index" or path.suffix.startswith(".data-"):
        return dict(read_tensorflow(path.with_suffix(".index")).arrays), 0.0
    return _content(path.name, path.read_bytes())


def _content(name: str, data: bytes) -> tuple[Any, float]:
    suffix = Path(name).suffix
    if suffix == ".xz":
        return _content(name[:-3], lzma.decompress(data))
    if suffix in (".zip", ".gz"):
        members = {inner: _content(inner, held)[0] for inner, held in _members(suffix, data)}
        return dict(sorted(members.items())), 0.0
    if suffix in (".pt", ".ckpt", ".th"):
        return read_torch(data), 0.0
    if suffix == ".h5":
        read = read_keras(data)
        return {"arrays": dict(read.arrays), "config": read.config}, 0.0
    if suffix == ".npz":
        with np.load(io.BytesIO(data)) as file:
            return {key: _text(key, file[key]) for key in file.files}, TOLERANCE
    if suffix == ".json":
        return json.loads(data), TOLERANCE
    if Path(name).name in SETS:
        return sorted(data.split()), 0.0
    return data, 0.0


def _text(key: str, array: np.ndarray) -> Any:
    """packed.py keeps its JSON as bytes."""
    return json.loads(array.tobytes()) if key == "text" else array


def _members(suffix: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    if suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from ((name, archive.read(name)) for name in archive.namelist())
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            held = tar.extractfile(member)
            if held is not None:
                yield member.name, held.read()
