"""The files of a raw data set, read one by one in the order of their paths from a folder, a tar or a zip.

Archives come from strangers. Nothing is unpacked to where a member's name says: members are read into memory, one at
a time and up to a cap; links, devices, absolute paths and paths through ``..`` are not read at all.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from agr_core.errors import DataError

MAX_FILE_BYTES = 64 * 2**20
"""Largest image that is read; a face is far smaller."""

MAX_LABEL_BYTES = 1024 * 2**20
"""Largest label file that is read; IMDb's has half a million rows."""

_CHUNK_BYTES = 2**20
_KINDS = ".tar, .tar.gz, .tgz, .tar.xz or .zip"
_ZIP_ENCRYPTED = 0x1
_REPEATED = "appears again later in the archive"


IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_Compressed = type[gzip.GzipFile] | type[lzma.LZMAFile]
_COMPRESSED_TARS: dict[str, _Compressed] = {".tar.gz": gzip.GzipFile, ".tgz": gzip.GzipFile, ".tar.xz": lzma.LZMAFile}
_ARCHIVE_SUFFIXES = (".zip", ".tar", *_COMPRESSED_TARS)


def is_archive_name(path: str) -> bool:
    """Whether a file calls itself an archive that can be read."""
    return path.lower().endswith(_ARCHIVE_SUFFIXES)


def is_image_name(path: str) -> bool:
    """Whether a file calls itself an image."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


class UnreadableFileError(Exception):
    """One file cannot be read; its text is the reason."""


class Files(ABC):
    """The regular files of a source.

    Attributes:
        source: The folder or archive.
        paths: Their names inside it, sorted.
        refused: Name and reason of each entry that is not a file to read.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.paths: list[str] = []
        self.refused: list[tuple[str, str]] = []

    def _refuse(self, path: str, reason: str) -> None:
        self.refused.append((path.encode("utf-8", "backslashreplace").decode(), reason))

    @abstractmethod
    def _read(self, path: str, limit: int) -> bytes:
        """At most ``limit`` bytes of a file of ``paths``."""

    def read(self, path: str, limit: int | None = None) -> bytes:
        """The bytes of a file of ``paths``, of which there may be as many as ``limit``; default: ``MAX_FILE_BYTES``.

        Raises:
            UnreadableFileError: If it is larger, encrypted or damaged.
        """
        limit = MAX_FILE_BYTES if limit is None else limit
        data = self._read(path, limit + 1)
        if len(data) > limit:
            raise UnreadableFileError(f"larger than {limit // 2**20} MiB")
        return data


class FolderFiles(Files):
    """The files below a folder; linked files are read, linked folders are not entered."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        for folder, folders, names in os.walk(source, followlinks=False, onerror=_raise):
            inside = Path(folder).relative_to(source)
            for name in folders:
                if Path(folder, name).is_symlink():
                    self._refuse((inside / name).as_posix(), "a link to a folder")
            for name in names:
                path = (inside / name).as_posix()
                if (reason := _bad_text(path)) is not None:
                    self._refuse(path, reason)
                else:
                    self.paths.append(path)
        self.paths.sort()

    def _read(self, path: str, limit: int) -> bytes:
        try:
            with (self.source / path).open("rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UnreadableFileError("not a regular file")
                return file.read(limit)
        except OSError as error:
            raise UnreadableFileError(f"cannot be read ({error.strerror})") from error


class TarFiles(Files):
    """The files of a tar archive; where a name repeats, the last one counts, as when unpacking."""

    def __init__(self, source: Path, archive: tarfile.TarFile) -> None:
        super().__init__(source)
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in archive:
            if member.isdir():
                continue
            reason = _unsafe(member.name) or _not_regular(member)
            if reason is not None:
                self._refuse(member.name, reason)
                continue
            if member.name in self._members:
                self._refuse(member.name, _REPEATED)
            self._members[member.name] = member
        self.paths = sorted(self._members)

    def _read(self, path: str, limit: int) -> bytes:
        try:
            file = self._archive.extractfile(self._members[path])
            assert file is not None  # only regular members are in the dictionary
            return file.read(limit)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UnreadableFileError(f"damaged in the archive ({error})") from error


class ZipFiles(Files):
    """The files of a zip archive; where a name repeats, the last one counts, as when unpacking."""

    def __init__(self, source: Path, archive: zipfile.ZipFile) -> None:
        super().__init__(source)
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if member.is_dir():
                continue
            reason = _unsafe(member.filename) or _not_plain(member)
            if reason is not None:
                self._refuse(member.filename, reason)
                continue
            if member.filename in self._members:
                self._refuse(member.filename, _REPEATED)
            self._members[member.filename] = member
        self.paths = sorted(self._members)

    def _read(self, path: str, limit: int) -> bytes:
        try:
            with self._archive.open(self._members[path]) as file:
                return file.read(limit)
        except NotImplementedError as error:  # zipfile's word for a compression it does not know
            raise UnreadableFileError(f"packed in a way that cannot be read ({error})") from error
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise UnreadableFileError(f"damaged in the archive ({error})") from error


class JoinedFiles(Files):
    """The files of a folder and of the archives in it, each archive as if it were a folder."""

    def __init__(self, folder: FolderFiles, archives: dict[str, Files]) -> None:
        super().__init__(folder.source)
        self._places: dict[str, tuple[Files, str]] = {
            path: (folder, path) for path in folder.paths if path not in archives
        }
        self.refused = list(folder.refused)
        for name, archive in archives.items():
            inside = PurePosixPath(name)
            self._places |= {(inside / path).as_posix(): (archive, path) for path in archive.paths}
            self.refused += [(f"{name}/{path}", reason) for path, reason in archive.refused]
        self.paths = sorted(self._places)

    def _read(self, path: str, limit: int) -> bytes:
        files, place = self._places[path]
        return files._read(place, limit)


@contextmanager
def open_files(source: Path) -> Iterator[Files]:
    """The files of a folder, ``.tar`` (also ``.tar.gz``, ``.tgz``, ``.tar.xz``) or ``.zip``, open for the block.

    Data sets come as archives with label files beside them: the archives in a folder that holds no image itself are
    read as if they were folders.

    Raises:
        DataError: If the source does not exist, is of another kind, or an archive is damaged.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; give a folder, a {_KINDS} of images.")
    with ExitStack() as stack:
        if not source.is_dir():
            yield _open_archive(source, stack)
            return
        folder = FolderFiles(source)
        archives = [path for path in folder.paths if is_archive_name(path)]
        if not archives or any(is_image_name(path) for path in folder.paths):
            yield folder
        else:
            yield JoinedFiles(folder, {path: _open_archive(source / path, stack) for path in archives})


def _open_archive(source: Path, stack: ExitStack) -> Files:
    try:
        return _archive_files(source, stack)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise DataError(f"{source} cannot be read as an archive ({error}); fetch or pack it again.") from error


def _archive_files(source: Path, stack: ExitStack) -> Files:
    name = source.name.lower()
    if name.endswith(".zip"):
        return ZipFiles(source, stack.enter_context(zipfile.ZipFile(source)))
    compressed = next((opener for suffix, opener in _COMPRESSED_TARS.items() if name.endswith(suffix)), None)
    if compressed is not None or name.endswith(".tar"):
        plain = stack.enter_context(source.open("rb") if compressed is None else _unpacked(source, compressed))
        return TarFiles(source, stack.enter_context(tarfile.open(fileobj=plain, mode="r:")))
    raise DataError(f"{source} is not a folder, {_KINDS}; pack one of these.")


@contextmanager
def _unpacked(source: Path, opener: _Compressed) -> Iterator[IO[bytes]]:
    """The plain tar as one nameless temporary file: members are read by path, and gzip and xz cannot jump."""
    spare = shutil.disk_usage(tempfile.gettempdir()).free // 2
    with tempfile.TemporaryFile() as plain, opener(source) as compressed:
        while chunk := compressed.read(_CHUNK_BYTES):
            plain.write(chunk)
            if plain.tell() > spare:
                raise DataError(
                    f"{source} unpacks to more than half of the free disk in {tempfile.gettempdir()}; "
                    "free some, or set TMPDIR to a larger disk."
                )
        plain.seek(0)
        yield plain


def _unsafe(path: str) -> str | None:
    parts = path.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":"):
        return "an absolute path"
    return "a path out of the archive" if ".." in parts else _bad_text(path)


def _bad_text(path: str) -> str | None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    return None


def _not_regular(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "a link"
    return None if member.isreg() else "not a regular file"


def _not_plain(member: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link"
    return "encrypted" if member.flag_bits & _ZIP_ENCRYPTED else None


def _raise(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed ({error.strerror}); allow reading it.") from error
