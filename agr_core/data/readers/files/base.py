"""Interface of a raw data set's files, and limits for reading untrusted files.

Nothing is unpacked to paths from an archive: files are read into memory, one at a time, up to a limit.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import IO

MAX_FILE_BYTES = 64 * 2**20
"""Maximum size of an image file, in bytes; faces are far smaller."""

MAX_LABEL_BYTES = 512 * 2**20
"""Maximum size of a label file, in bytes; IMDb's has half a million rows."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
"""Suffixes of image names. A file with such a suffix but other content is skipped with that reason."""

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")

OTHER_ARCHIVE_SUFFIXES = (".7z", ".rar", ".bz2", ".tbz2", ".zst", ".gz", ".xz", ".lz4", ".cab", ".iso")
"""Suffixes of archives that are not read."""

_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class LeftOut(str):
    """A reason that is not a fault: omission by the data set's own rules or by the caller."""

    __slots__ = ()


class UnreadableFileError(Exception):
    """One file cannot be read; the message is the reason."""


class Files(ABC):
    """Regular files of a source.

    Attributes:
        source: The folder or archive.
        paths: Their names inside the source, sorted.
        refused: Name and reason of each entry that is not read.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.paths: list[str] = []
        self.refused: list[tuple[str, str]] = []

    def _refuse(self, path: str, reason: str) -> None:
        self.refused.append((path.encode("utf-8", "backslashreplace").decode(), reason))

    @abstractmethod
    def open(self, path: str) -> IO[bytes]:
        """Open a file of ``paths`` as a stream, which the caller closes.

        Raises:
            UnreadableFileError: If it cannot be opened.
        """

    @abstractmethod
    def _read(self, path: str, limit: int) -> bytes:
        """Return at most ``limit`` bytes of a file of ``paths``."""

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Return the bytes of a file of ``paths``, at most ``limit``; default: ``MAX_FILE_BYTES``.

        Raises:
            UnreadableFileError: If it is larger, encrypted or damaged.
        """
        limit = MAX_FILE_BYTES if limit is None else limit
        data = self._read(path, limit + 1)
        if len(data) > limit:
            raise UnreadableFileError(f"larger than {limit // 2**20} MiB")
        return data


def is_archive_name(path: str) -> bool:
    """Return whether a name has the suffix of a supported archive."""
    return path.lower().endswith(ARCHIVE_SUFFIXES)


def is_image_name(path: str) -> bool:
    """Return whether a name has the suffix of an image."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def open_regular(file: Path) -> IO[bytes]:
    """Open a regular file for reading; other kinds, such as pipes, are refused without blocking.

    Raises:
        UnreadableFileError: If it is not a regular file or cannot be opened.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnreadableFileError(f"cannot be read ({error.strerror})") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise UnreadableFileError(f"{special_kind(mode)}, not a regular file")


def read_regular(file: Path, limit: int) -> bytes:
    """Return at most ``limit`` bytes of a regular file.

    Raises:
        UnreadableFileError: As ``open_regular``, or if reading fails.
    """
    with open_regular(file) as stream:
        try:
            return stream.read(limit)
        except OSError as error:
            raise UnreadableFileError(f"cannot be read ({error.strerror})") from error


def special_kind(mode: int) -> str:
    """Return the kind of file of a non-regular mode."""
    return _SPECIAL.get(stat.S_IFMT(mode), "a special file")


def unsafe_name(path: str) -> str | None:
    """Return why an archive member's name is unsafe; None if it is safe."""
    parts = path.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":"):
        return "an absolute path"
    return "a path out of the archive" if ".." in parts else text_problem(path)


def text_problem(path: str) -> str | None:
    """Return why a name cannot be encoded as text; None if it can."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    return "the name holds a NUL" if "\0" in path else None
