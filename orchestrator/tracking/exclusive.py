"""Lock against concurrent deliveries of a sweep on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.errors import DeliveryOwnedError


@contextmanager
def exclusive(home: Path, sweep_id: str, *, timeout_s: float) -> Iterator[None]:
    """Lock a sweep's delivery against other processes of this machine; ``timeout_s`` -1 waits without a limit.

    Two machines cannot see each other's lock. There the tag search before each creation is the guard, and duplicate
    runs are removed when the sweep ends.

    Raises:
        DeliveryOwnedError: If another process delivers this sweep.
    """
    path = home / "locks" / f"sync-{sweep_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout as error:
        raise DeliveryOwnedError(f"sweep {sweep_id} is being delivered by another process of this machine.") from error
    try:
        yield
    finally:
        lock.release()
