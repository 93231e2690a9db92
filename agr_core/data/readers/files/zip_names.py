"""Zip files with names wrongly marked as UTF-8, which ``zipfile`` refuses completely."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import IO, Any

from agr_core.data.readers.files.base import text_problem

_UTF8_HIGH = 0x08  # bit 11 of the flags, which is in the second byte
_ENTRY = struct.Struct("<4s4xH18xHHH8xL")  # signature, flags, lengths of name, extra and comment, local header
_END = struct.Struct("<4s8xLL")
_END_SIGNATURE, _ENTRY_SIGNATURE = b"PK\x05\x06", b"PK\x01\x02"
_END_BYTES = 22 + 2**16


def open_zip(file: IO[bytes]) -> tuple[zipfile.ZipFile, dict[str, str]]:
    """Open a zip; return it with the names that are not UTF-8, as ``zipfile`` has them, and a printable form.

    Raises:
        Exception: Any exception that ``zipfile`` raises for a damaged file.
    """
    try:
        return zipfile.ZipFile(file), {}
    except UnicodeDecodeError:
        patches, names = _mismarked(file)
        return zipfile.ZipFile(io.BufferedReader(_Patched(file, patches))), names


class _Patched(io.RawIOBase):
    """A file with some bytes replaced."""

    def __init__(self, file: IO[bytes], patches: dict[int, int]) -> None:
        self._file = file
        self._patches = patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        data = bytearray(self._file.read(len(buffer)))
        for offset, value in self._patches.items():
            if start <= offset < start + len(data):
                data[offset - start] = value
        buffer[: len(data)] = data
        return len(data)


def _mismarked(file: IO[bytes]) -> tuple[dict[int, int], dict[str, str]]:
    """Return byte patches, by offset, that unmark the names that are not UTF-8, and these names."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_BYTES))
    tail = file.read()
    end = tail.rfind(_END_SIGNATURE)
    _, directory_bytes, directory_claimed = _END.unpack_from(tail, end)
    begin = size - len(tail) + end - directory_bytes
    shift = begin - directory_claimed  # non-zero if other bytes precede the zip
    file.seek(begin)
    directory = file.read(directory_bytes)
    patches: dict[int, int] = {}
    names: dict[str, str] = {}
    offset = 0
    while directory[offset : offset + 4] == _ENTRY_SIGNATURE:
        _, flags, name_bytes, extra, comment, local = _ENTRY.unpack_from(directory, offset)
        name = directory[offset + 46 : offset + 46 + name_bytes]
        shown = name.decode("utf-8", "surrogateescape")
        if flags >> 8 & _UTF8_HIGH and text_problem(shown) is not None:
            names[name.decode("cp437")] = name.decode("utf-8", "backslashreplace")
            for flags_at in (begin + offset + 9, shift + local + 7):
                file.seek(flags_at)
                patches[flags_at] = file.read(1)[0] & ~_UTF8_HIGH
        offset += 46 + name_bytes + extra + comment
    return patches, names
