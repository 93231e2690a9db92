"""Where sweeps, checkpoints and data sets are kept: a local folder or S3."""

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
"""Before a bucket or host; nearly half of AWS's secrets have a ``/``. No bucket has a colon in its name."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_remote(uri: str) -> bool:
    """Whether ``uri`` is an address that every node can reach, not a folder of this machine."""
    return uri.startswith(_S3)


def open_storage(uri: str) -> Storage:
    """The storage at ``s3://bucket[/prefix]`` or in a folder. Nothing is contacted, and nothing made, until it is used.

    Raises:
        InputError: If ``uri`` is neither.
    """
    if not uri.startswith(_S3):
        if _SCHEME.match(uri) or not uri.strip():
            raise InputError(
                f"{_without_credentials(uri)!r} is no storage: give s3://bucket/prefix, or the plain path of a folder."
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
            f"{uri!r} has no valid bucket name: give s3://bucket/prefix, the bucket in 3 to 63 lower-case letters, "
            "digits, dots and hyphens."
        )
    from orchestrator.storage.s3 import S3Storage

    try:
        check_prefix(prefix)
    except ValueError as error:
        raise InputError(f"{uri!r} is no storage: {error}") from error
    return S3Storage(bucket, prefix)


def open_patiently(uri: str) -> Storage:
    """As ``open_storage``, for drivers and workers: a store at an address is waited for while it does not answer."""
    from orchestrator.storage.patient import PatientStorage

    return PatientStorage(open_storage(uri)) if is_remote(uri) else open_storage(uri)


def _without_credentials(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}...@{rest.rpartition('@')[2]}" if _LOGIN.match(rest) else uri
