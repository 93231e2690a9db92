"""Room on this machine's disk for as long as a process works, also where that process is killed.

Workers are killed: by Ray when they hang, by the system when memory runs out. What a killed one leaves, a checkpoint of
some hundred megabytes, would stay, and a disk fill up trial by trial. So each folder has a lock beside it, which its
process holds until it ends, however it ends; and whoever makes a folder first removes those that nobody holds.
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
    """A folder in ``TMPDIR`` of this process alone, readable by its account alone.

    Attributes:
        path: The folder.
    """

    def __init__(self, purpose: str) -> None:
        """Make it; ``purpose`` becomes part of its name, for people who look.

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
        """Remove it; where that fails, whoever makes the next folder tries again.

        Raises:
            OSError: If it fails.
        """
        try:
            shutil.rmtree(self.path)
            self.path.with_name(f"{self.path.name}{_LOCK}").unlink()
        finally:
            os.close(self._lock)


def _hold_new(prefix: str) -> tuple[int, Path]:
    """A new lock, held; again where somebody took it for abandoned before it was."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=_LOCK)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Remove the folders of this account whose processes have ended."""
    for lock in folder.glob(f"{_PREFIX}*{_LOCK}"):
        # Gone meanwhile, of another account, or a link of somebody who wants another file removed: not ours to touch.
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
