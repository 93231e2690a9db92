"""The storage: objects by key below one root, local folder or S3 bucket and prefix."""

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
    the way out, and never a credential.
    """

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix`` or an absolute path, without credentials."""
        ...

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises ``NotFoundError`` if there is none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Store ``data``, replacing what was there."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Store ``data`` only if nothing is there: of several callers exactly one succeeds, durably.

        Raises:
            AlreadyExistsError: If the object exists.
        """
        ...

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose key starts with the folder ``prefix`` + ``/`` (all for ``""``), in ascending key order."""
        ...

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Names of the folders directly below the folder ``prefix``, ascending."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; no error if there is none."""
        ...

    def upload(self, path: Path, key: str) -> None:
        """Store a file, streaming, replacing what was there."""
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """The object's bytes, piece by piece, in order; a connection that breaks is taken up where it broke.

        Raises:
            NotFoundError: If there is no such object.
        """
        ...

    def download(self, key: str, path: Path) -> None:
        """Fetch an object into a file, by parallel ranges where it is large; the file appears whole or not at all.

        Raises:
            NotFoundError: If there is no such object.
        """
        ...
