"""In-memory storage (``Storage``) with modification times from an injected clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.errors import AlreadyExistsError, NotFoundError
from orchestrator.storage.base import ObjectInfo
from orchestrator.storage.keys import check_key, check_prefix

_PIECE_BYTES = 2**18


class MemoryStorage:
    """Storage in a dictionary; ``clock`` returns seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.objects: dict[str, tuple[bytes, float]] = {}

    @property
    def uri(self) -> str:
        """URI for messages; it cannot be opened."""
        return "memory:"

    def read(self, key: str) -> bytes:
        """Return the object's bytes (``Storage.read``)."""
        check_key(key)
        if key not in self.objects:
            raise NotFoundError(f"there is no object {key!r} in {self.uri}.")
        return self.objects[key][0]

    def write(self, key: str, data: bytes) -> None:
        """Store ``data``, replacing an existing object (``Storage.write``)."""
        self.objects[check_key(key)] = bytes(data), self._clock()

    def create(self, key: str, data: bytes) -> None:
        """Store ``data`` unless the object exists (``Storage.create``)."""
        if check_key(key) in self.objects:
            raise AlreadyExistsError(f"{self.uri}/{key} already exists.")
        self.write(key, data)

    def exists(self, key: str) -> bool:
        """Return whether the object exists (``Storage.exists``)."""
        return check_key(key) in self.objects

    def info(self, key: str) -> ObjectInfo:
        """Return size and modification time of the object (``Storage.info``)."""
        data = self.read(key)
        return ObjectInfo(key, len(data), self.objects[key][1])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below the folder ``prefix``, in ascending order (``Storage.list``)."""
        start = self._start(prefix)
        return iter(
            sorted(
                ObjectInfo(key, len(data), modified)
                for key, (data, modified) in self.objects.items()
                if key.startswith(start)
            )
        )

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the folders directly below the folder ``prefix`` (``Storage.folders``)."""
        start = self._start(prefix)
        below = (key[len(start) :] for key in self.objects if key.startswith(start))
        return tuple(sorted({rest.partition("/")[0] for rest in below if "/" in rest}))

    def delete(self, key: str) -> None:
        """Delete the object (``Storage.delete``)."""
        self.objects.pop(check_key(key), None)

    def upload(self, path: Path, key: str) -> None:
        """Store a file (``Storage.upload``)."""
        if not path.is_file():
            raise NotFoundError(f"there is no file {path} to upload to {key!r} in {self.uri}.")
        self.write(key, path.read_bytes())

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object's bytes in chunks (``Storage.stream``)."""
        data = self.read(key)
        for start in range(0, len(data), _PIECE_BYTES):
            yield data[start : start + _PIECE_BYTES]

    def download(self, key: str, path: Path) -> None:
        """Download an object into a file (``Storage.download``)."""
        data = self.read(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _start(self, prefix: str) -> str:
        checked = check_prefix(prefix)
        return f"{checked}/" if checked else ""
