"""Object storage for sweeps, checkpoints and data sets: a local folder or S3."""

from __future__ import annotations

import re
from pathlib import Path

from agr_core.errors import InputError
from orchestrator.storage.base import ObjectInfo, Storage
from orchestrator.storage.keys import check_prefix

__all__ = ["ObjectInfo", "Storage", "is_remote", "open_patiently", "open_storage"]

_S3 = "s3://"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_LOGIN = re.compile(r"[^/:@]*:[^@]*@|[^/]*@")
"""A login before a bucket or host; nearly half of AWS's secrets contain a ``/``. No bucket name contains a colon."""
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
"""Names that boto3 sends; the store decides which of them are valid."""


def is_remote(uri: str) -> bool:
    """Return whether ``uri`` is an address that every node can reach, not a folder of this machine."""
    return uri.startswith(_S3)


def open_storage(uri: str) -> Storage:
    """Return the storage at ``s3://bucket[/prefix]`` or in a folder. Nothing is contacted or created before first use.

    Raises:
        InputError: If ``uri`` is neither.
    """
    if not uri.startswith(_S3):
        if _SCHEME.match(uri) or not uri.strip():
            raise InputError(
                f"{_without_credentials(uri)!r} is not a storage: give s3://bucket/prefix, or the plain path of a "
                "folder."
            )
        from orchestrator.storage.local import LocalStorage

        return LocalStorage(Path(uri).expanduser())

    bucket, _, prefix = uri.removeprefix(_S3).rstrip("/").partition("/")
    if _LOGIN.match(uri.removeprefix(_S3)):
        raise InputError(
            f"{_without_credentials(uri)!r} holds credentials; write s3://bucket/prefix and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or use the AWS files."
        )
    if not _BUCKET.fullmatch(bucket):
        raise InputError(
            f"{uri!r} has no valid bucket name: give s3://bucket/prefix, the bucket in letters, digits, dots, hyphens "
            "and underscores."
        )
    from orchestrator.storage.s3 import S3Storage

    try:
        check_prefix(prefix)
    except ValueError as error:
        raise InputError(f"{uri!r} is not a storage: {error}") from error
    return S3Storage(bucket, prefix)


def open_patiently(uri: str) -> Storage:
    """Return ``open_storage(uri)`` for drivers and workers: a remote store that does not answer is retried."""
    from orchestrator.storage.patient import PatientStorage

    return PatientStorage(open_storage(uri)) if is_remote(uri) else open_storage(uri)


def _without_credentials(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}...@{rest.rpartition('@')[2]}" if _LOGIN.match(rest) else uri
