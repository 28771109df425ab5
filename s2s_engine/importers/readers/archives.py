"""Zip files whose every claim is checked before a byte is unpacked: names, sizes, methods, sums.
Knows members and bytes; never what they mean."""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import TypeAlias

from ...errors import ModelFormatError
from ...format import file_bytes

MAX_MEMBERS = 65_536
# What deflated members may unpack to, together.
MAX_UNPACKED = 64 << 20
MAX_RATIO = 32
DRIVE = re.compile(r"[A-Za-z]:")
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    OSError,
    RuntimeError,
    ValueError,
)

Source: TypeAlias = str | os.PathLike[str] | bytes


def load(source: Source) -> tuple[bytes, str]:
    """The bytes of a regular file, and what messages call it."""
    if isinstance(source, bytes):
        return source, "bytes"
    return file_bytes(source), os.fspath(source)


def stem_of(source: Source) -> str:
    return "array" if isinstance(source, bytes) else Path(source).stem


class Archive:
    """The members of a zip file, by name; nothing is written anywhere."""

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        try:
            # ZipFile trusts the directory's own sizes only up to the end of the file.
            self._file = zipfile.ZipFile(io.BytesIO(data))
        except BROKEN as error:
            raise ModelFormatError(f"{where}: not a readable zip file: {error}") from None
        infos = self._file.infolist()
        if len(infos) > MAX_MEMBERS:
            raise ModelFormatError(f"{where}: {len(infos)} members, at most {MAX_MEMBERS}")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            self._check(info)
            self._members[info.filename] = info
        packed = sum(info.compress_size for info in infos)
        unpacked = sum(info.file_size for info in infos)
        most = max(MAX_UNPACKED, MAX_RATIO * len(data))
        if packed > len(data):
            raise ModelFormatError(
                f"{where}: members have {packed} bytes in a file of {len(data)}: they overlap"
            )
        if unpacked > most:
            raise ModelFormatError(
                f"{where}: members unpack to {unpacked} bytes, at most {most} from a file of "
                f"{len(data)}: a zip bomb; store it uncompressed"
            )

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        parts = name.split("/")
        if (
            name != info.filename
            or not name.rstrip("/")
            or name[0] == "/"
            or ".." in parts
            or "\\" in name
            or "\0" in name
            or DRIVE.match(name)
        ):
            self.refuse(name, "a member's name must be relative, without '..', '\\' and NUL")
        if name in self._members:
            self.refuse(name, "stands twice in the archive")
        if info.flag_bits & 1:
            self.refuse(name, "is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            self.refuse(name, f"has compression method {info.compress_type}, must be 0 or 8")
        stored = info.compress_type == zipfile.ZIP_STORED
        if stored and info.file_size != info.compress_size:
            self.refuse(name, f"is stored, but has {info.compress_size} and {info.file_size} bytes")

    def refuse(self, name: str, reason: str) -> None:
        raise ModelFormatError(f"{self.where}: member {name[:200]!r}: {reason}")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def names(self) -> list[str]:
        return list(self._members)

    def size(self, name: str) -> int:
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """The bytes of a member, as many as its size says, their CRC checked."""
        info = self._members[name]
        data = b""
        try:
            with self._file.open(info) as member:
                data = member.read(info.file_size)
                member.read(1)  # the CRC is compared at the end
        except BROKEN as error:
            self.refuse(name, f"cannot be read: {error}")
        if len(data) != info.file_size:
            self.refuse(name, f"has {len(data)} bytes of {info.file_size}: truncated")
        return data
