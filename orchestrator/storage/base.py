"""The storage interface: objects by key below one root, a local folder or an S3 bucket and prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, order=True)
class ObjectInfo:
    """One stored object: key below the root, size in bytes, time of the last write in seconds since the epoch."""

    key: str
    size: int
    modified: float


class Storage(Protocol):
    """Objects by key.

    Keys are relative, ``/``-separated and name no parent; anything else raises ``ValueError``. Every method may be
    called from several threads and processes. Writes are atomic: a reader sees the old object, the new one, or none,
    never a part. A store that refuses or does not answer raises ``StorageError`` with the address, the operation and
    the way out, never a credential.
    """

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix`` or an absolute path, without credentials."""
        ...

    def read(self, key: str) -> bytes:
        """Return the object's bytes.

        Raises:
            NotFoundError: If there is no such object.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Store ``data``, replacing an existing object."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Store ``data`` only if the object does not exist: of several callers exactly one succeeds, durably.

        Raises:
            AlreadyExistsError: If the object exists.
        """
        ...

    def exists(self, key: str) -> bool:
        """Return whether the object exists."""
        ...

    def info(self, key: str) -> ObjectInfo:
        """Return an object's size and time of last write, by the storage's own clock.

        Raises:
            NotFoundError: If there is no such object.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below the folder ``prefix`` (all objects for ``""``), in ascending key order."""
        ...

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the folders directly below the folder ``prefix``, ascending."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object; a missing one is no error."""
        ...

    def upload(self, path: Path, key: str) -> None:
        """Store a file, streaming, replacing an existing object."""
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object's bytes in order, in pieces; a broken connection is resumed at the byte where it broke.

        Raises:
            NotFoundError: If there is no such object.
        """
        ...

    def download(self, key: str, path: Path) -> None:
        """Fetch an object into a file, large ones by parallel ranges; the file appears whole or not at all.

        Raises:
            NotFoundError: If there is no such object.
        """
        ...
