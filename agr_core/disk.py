"""What a disk of this machine refuses: for want of room, or for another reason."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agr_core.errors import DiskError, DiskFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException | None) -> bool:
    """Whether it says that a disk, or what a user may have of it, is full."""
    return isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _FULL)


@contextmanager
def writing(place: Path, *, when_full: str) -> Iterator[None]:
    """Our error for what the system raises in the block, which does nothing but write to ``place``.

    Args:
        place: The file or folder.
        when_full: What to do when the disk is full, as an order: ``free some of it``.

    Raises:
        DiskFullError: If the disk is full.
        DiskError: If it refuses for another reason.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise DiskFullError(
                f"{place} cannot be written: {error.strerror}. The disk is full: {when_full}."
            ) from error
        raise DiskError(
            f"{error.filename or place} cannot be written: {error.strerror}. Check the permissions and the file system."
        ) from error
