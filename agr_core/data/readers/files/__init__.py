"""Files of a raw data set, read one by one in path order from a folder, a tar or a zip.

Files are untrusted; ``base`` and ``archives`` define the limits.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from agr_core.data.readers.files.archives import first_image, open_archive
from agr_core.data.readers.files.base import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    MAX_LABEL_BYTES,
    Files,
    LeftOut,
    UnreadableFileError,
    is_archive_name,
    is_image_name,
    open_regular,
    read_regular,
    special_kind,
    text_problem,
)
from agr_core.errors import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "MAX_LABEL_BYTES",
    "Files",
    "FolderFiles",
    "JoinedFiles",
    "UnreadableFileError",
    "is_archive_name",
    "is_image_name",
    "open_files",
    "read_regular",
]

_KINDS = ".tar, .tar.gz, .tgz, .tar.xz or .zip"


class FolderFiles(Files):
    """Files below a folder; linked files are read, linked folders are not entered."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        folders = [""]
        while folders:
            inside = folders.pop()
            for entry in _entries(source / inside):
                path = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif (reason := _not_readable(entry) or text_problem(path)) is not None:
                    self._refuse(path, reason)
                else:
                    self.paths.append(path)
        self.paths.sort()
        self.refused.sort()

    def open(self, path: str) -> IO[bytes]:
        """Open a file as a stream."""
        return open_regular(self.source / path)

    def _read(self, path: str, limit: int) -> bytes:
        return read_regular(self.source / path, limit)


class JoinedFiles(Files):
    """Files of a folder and of the archives in it, each archive treated as a folder."""

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

    def open(self, path: str) -> IO[bytes]:
        """Open a file as a stream."""
        files, inner_path = self._places[path]
        return files.open(inner_path)

    def _read(self, path: str, limit: int) -> bytes:
        files, inner_path = self._places[path]
        return files._read(inner_path, limit)


@contextmanager
def open_files(source: Path) -> Iterator[Files]:
    """Open the files of a folder, ``.tar`` (``.tar.gz``, ``.tgz``, ``.tar.xz``) or ``.zip`` for the block.

    Data sets are distributed as archives with label files next to them, so archives in a folder are treated as folders.
    An archive whose first image also exists in the folder was already unpacked there and is not read.

    Raises:
        DataError: If the source does not exist, is of another kind, or an archive is damaged. A damaged archive next to
            images is skipped instead, with the reason.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; give a folder, a {_KINDS} of images.")
    with ExitStack() as stack:
        if not source.is_dir():
            if not is_archive_name(source.name):
                raise DataError(f"{source} is not a folder, {_KINDS}; pack one of these.")
            yield open_archive(source, stack)
            return
        folder = FolderFiles(source)
        names = [path for path in folder.paths if is_archive_name(path)]
        images = {PurePosixPath(path).name for path in folder.paths if is_image_name(path)}
        archives: dict[str, Files] = {}
        for name in names:
            try:
                if not images or not _is_unpacked(source / name, images):
                    archives[name] = open_archive(source / name, stack)
            except DataError as error:
                if not images:
                    raise
                folder.paths.remove(name)
                folder.refused.append((name, str(error)))
        yield JoinedFiles(folder, archives) if archives else folder


def _is_unpacked(archive: Path, images: set[str]) -> bool:
    """Return whether an archive's first image is among ``images``, or none is found near its start."""
    first = first_image(archive)
    return first is None or PurePosixPath(first).name in images


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be listed ({error.strerror}); allow reading it.") from error


def _not_readable(entry: os.DirEntry[str]) -> str | None:
    """Return why an entry that is not a folder is not read; None for a file, a link to one, or a broken link."""
    try:
        mode = entry.stat().st_mode if entry.is_symlink() else entry.stat(follow_symlinks=False).st_mode
    except OSError:
        return None  # reading it raises the error
    if stat.S_ISDIR(mode):
        return LeftOut("a link to a folder")
    return None if stat.S_ISREG(mode) else special_kind(mode)
