"""Storage in a folder of this machine or of a shared file system."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agr_core.disk import is_full
from orchestrator.errors import AlreadyExistsError, NotFoundError, StorageError, StorageFullError
from orchestrator.storage.base import ObjectInfo
from orchestrator.storage.keys import check_key, check_prefix

_ATTEMPTS = 20  # an emptied folder may be removed by another process between making it and writing into it
_PIECE_BYTES = 2**18
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class LocalStorage:
    """Objects as files below ``root``; a file being written has a hidden name beside its own (``Storage``).

    A folder exists as long as there is an object in it, as on S3. The file system must have hard links: they make
    ``create`` exclusive and the object whole from its first moment.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def uri(self) -> str:
        """The absolute path of the folder."""
        return str(self.root)

    def read(self, key: str) -> bytes:
        """Return the object's bytes (``Storage.read``)."""
        path = self._path(key)
        with self._errors("reading", key):
            try:
                return path.read_bytes()
            except _ABSENT as error:
                raise self._absent(key) from error

    def write(self, key: str, data: bytes) -> None:
        """Store ``data``, replacing an existing object (``Storage.write``)."""
        self._put("writing", key, lambda file: file.write_bytes(data), os.replace)

    def create(self, key: str, data: bytes) -> None:
        """Store ``data`` unless the object exists (``Storage.create``)."""
        self._put("creating", key, lambda file: file.write_bytes(data), _link)

    def exists(self, key: str) -> bool:
        """Return whether the object exists (``Storage.exists``)."""
        path = self._path(key)
        with self._errors("looking for", key):
            return path.is_file()

    def info(self, key: str) -> ObjectInfo:
        """Return an object's size and time of last write (``Storage.info``)."""
        path = self._path(key)
        with self._errors("looking for", key):
            try:
                status = path.stat()
            except _ABSENT as error:
                raise self._absent(key) from error
            if not path.is_file():
                raise self._absent(key)
        return ObjectInfo(key, status.st_size, status.st_mtime)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below the folder ``prefix``, ascending (``Storage.list``)."""
        folder = self._folder(prefix)
        with self._errors("listing", prefix):
            objects = sorted(self._files(folder))
        return iter(objects)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the folders directly below the folder ``prefix`` (``Storage.folders``)."""
        folder = self._folder(prefix)
        with self._errors("listing", prefix):
            try:
                entries = list(os.scandir(folder))
            except (FileNotFoundError, NotADirectoryError):
                return ()
            return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))

    def delete(self, key: str) -> None:
        """Delete the object and folders left empty (``Storage.delete``)."""
        path = self._path(key)
        with self._errors("deleting", key):
            try:
                path.unlink()
            except _ABSENT:
                return
            self._remove_empty(path.parent)

    def upload(self, path: Path, key: str) -> None:
        """Store a file (``Storage.upload``)."""
        if not path.is_file():
            raise NotFoundError(f"there is no file {path} to upload to {key!r} in {self.uri}.")
        self._put("writing", key, lambda file: shutil.copyfile(path, file), os.replace)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object's bytes in pieces (``Storage.stream``)."""
        path = self._path(key)
        with self._errors("reading", key):
            try:
                with path.open("rb") as file:
                    while piece := file.read(_PIECE_BYTES):
                        yield piece
            except _ABSENT as error:
                raise self._absent(key) from error

    def download(self, key: str, path: Path) -> None:
        """Copy an object into a file (``Storage.download``)."""
        source = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _hidden(path)
        with self._errors("reading", key, room=path.parent):
            try:
                shutil.copyfile(source, temporary)
                temporary.replace(path)
            except _ABSENT as error:
                raise self._absent(key) from error
            finally:
                temporary.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _folder(self, prefix: str) -> Path:
        return self.root / check_prefix(prefix)

    def _files(self, folder: Path) -> Iterator[ObjectInfo]:
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(parent, name)
                if name.startswith("."):
                    continue
                try:
                    status = path.stat()
                except FileNotFoundError:  # deleted since the folder was read
                    continue
                yield ObjectInfo(path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime)

    def _put(
        self, operation: str, key: str, fill: Callable[[Path], object], publish: Callable[[Path, Path], None]
    ) -> None:
        """Fill a hidden file beside the object, flush it to the disk, and rename it to the object."""
        target = self._path(key)
        temporary = _hidden(target)
        with self._errors(operation, key):
            for attempt in range(_ATTEMPTS):
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    fill(temporary)
                    _force_to_disk(temporary)
                    publish(temporary, target)
                    _force_to_disk(target.parent)
                    return
                except (FileNotFoundError, FileExistsError):
                    # Another process has just removed an empty folder: ``mkdir`` raises FileExistsError if it finds it
                    # and then fails to confirm that it is one.
                    if attempt == _ATTEMPTS - 1:
                        raise
                finally:
                    temporary.unlink(missing_ok=True)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or another process removed it first
                return
            folder = folder.parent

    def _absent(self, key: str) -> NotFoundError:
        return NotFoundError(f"there is no object {key!r} in {self.uri}.")

    @contextmanager
    def _errors(self, operation: str, key: str, *, room: Path | None = None) -> Iterator[None]:
        """Raise our errors for the system's; ``room`` is a folder outside the storage that is written to."""
        try:
            yield
        except OSError as error:
            failed = f"{operation} {key!r} in {self.uri} failed: {error.strerror or error}."
            if not is_full(error):
                raise StorageError(
                    f"{failed} Check the folder's permissions and file system, or set AGR_STORAGE to another folder."
                ) from error
            larger = "" if room else ", or set AGR_STORAGE to a larger one"
            raise StorageFullError(
                f"{failed} The disk of {room or self.uri} is full: free some of it{larger}."
            ) from error


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError as error:
        raise AlreadyExistsError(f"{target} already exists.") from error


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
