"""Scratch folders on the local disk that are removed even if their process is killed.

Workers are killed: by Ray when they hang, by the system when memory runs out. Their leftovers, checkpoints of some
hundred megabytes, would fill the disk. So each folder has a lock beside it, which its process holds until it ends,
however it ends; creating a folder first removes all unlocked ones.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "agr-"
_LOCK = ".lock"


class Scratch:
    """A private folder of this process in ``TMPDIR``, readable only by its account.

    Attributes:
        path: The folder.
    """

    def __init__(self, purpose: str) -> None:
        """Create the folder; ``purpose`` becomes part of its name, for readers.

        Raises:
            OSError: If the disk does not take it.
        """
        _remove_abandoned(Path(tempfile.gettempdir()))
        self._lock, lock = _hold_new(f"{_PREFIX}{purpose}-")
        self.path = lock.with_suffix("")
        try:
            self.path.mkdir(mode=0o700)
        except BaseException:
            lock.unlink()
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Remove the folder; if that fails, the creation of the next folder tries again.

        Raises:
            OSError: If it fails.
        """
        try:
            shutil.rmtree(self.path)
            self.path.with_name(f"{self.path.name}{_LOCK}").unlink()
        finally:
            os.close(self._lock)


def _hold_new(prefix: str) -> tuple[int, Path]:
    """Create and hold a new lock; retry if another process took it for abandoned first."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=_LOCK)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Remove the folders of this account whose processes have ended."""
    for lock in folder.glob(f"{_PREFIX}*{_LOCK}"):
        # Removed meanwhile, of another account, or a planted link to another file: leave it alone.
        with suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if lock.with_suffix("").exists():
                        shutil.rmtree(lock.with_suffix(""))
                    lock.unlink()
            finally:
                os.close(descriptor)
