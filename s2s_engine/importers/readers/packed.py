"""Tar archives in memory, packed with gzip or not, as AllenNLP writes them. Knows members and their
bounds; never what they mean, and nothing is unpacked to disk."""

from __future__ import annotations

import io
import tarfile
import zlib

from ...errors import ModelFormatError

MAX_MEMBERS = 4096
# What a gzip archive may unpack to: this, or this many bytes per byte of the file.
MAX_UNPACKED = 64 << 20
MAX_RATIO = 32
BROKEN = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError, IndexError)


def read_tar(data: bytes, where: str) -> dict[str, bytes]:
    """The regular files of an archive by name; links and devices are refused."""
    if data[:2] == b"\x1f\x8b":
        data = _unzipped(data, where)
    try:
        return _members(data, where)
    except BROKEN as error:
        raise ModelFormatError(f"{where}: not a readable tar archive: {str(error)[:200]}") from None


def _unzipped(data: bytes, where: str) -> bytes:
    most = max(MAX_UNPACKED, MAX_RATIO * len(data))
    unpacker = zlib.decompressobj(wbits=31)
    try:
        result = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise ModelFormatError(f"{where}: not a readable gzip file: {error}") from None
    if len(result) > most:
        raise ModelFormatError(f"{where}: unpacks to more than {most} bytes")
    if not unpacker.eof:
        raise ModelFormatError(f"{where}: the gzip stream is truncated")
    return result


def _members(data: bytes, where: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for number, member in enumerate(archive):
            if number >= MAX_MEMBERS:
                raise ModelFormatError(f"{where}: more than {MAX_MEMBERS} members")
            name = member.name.removeprefix("./")
            if member.isdir():
                continue
            parts = name.split("/")
            if not member.isreg() or member.issparse():
                raise ModelFormatError(f"{where}: member {name[:200]!r} is no plain file")
            if name.startswith("/") or ".." in parts or name in found:
                raise ModelFormatError(
                    f"{where}: member {name[:200]!r} stands twice, or outside of the archive"
                )
            if member.size > len(data):
                raise ModelFormatError(f"{where}: member {name[:200]!r} is truncated")
            file = archive.extractfile(member)
            content = b"" if file is None else file.read()
            if len(content) != member.size:
                raise ModelFormatError(f"{where}: member {name[:200]!r} is truncated")
            found[name] = content
    return found
