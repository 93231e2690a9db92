"""Errors of writing to a disk: full, or failed for another reason."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agr_core.errors import DiskError, DiskFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException | None) -> bool:
    """Return whether the error means that a disk or a user's quota is full."""
    return isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _FULL)


@contextmanager
def writing(place: Path, *, when_full: str) -> Iterator[None]:
    """Convert operating system errors in the block, which only writes to ``place``, to this project's errors.

    Args:
        place: File or folder that is written.
        when_full: Remedy for a full disk, as an imperative: ``free some of it``.

    Raises:
        DiskFullError: If the disk is full.
        DiskError: If writing fails for another reason.
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
