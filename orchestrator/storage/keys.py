"""Validate storage keys."""

from __future__ import annotations

_MAX_KEY_BYTES = 1024  # the limit of S3
_MAX_PART_BYTES = 200  # file systems allow 255; the name of a file being written is longer than its own


def check_key(key: str) -> str:
    """Return ``key`` if it is a valid object key.

    Raises:
        ValueError: If it is empty, absolute, has an empty part or one starting with a dot (parents, and the hidden
            names of files being written), a backslash or a control character, or is too long.
    """
    problem = _problem(key)
    if problem:
        raise ValueError(
            f"{key!r} is not a storage key: {problem}. A key is relative, such as 'sweeps/a/summary.json', its parts "
            "are not empty and do not start with a dot."
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if it is a valid folder of objects; ``""`` is the root.

    Raises:
        ValueError: As for ``check_key``.
    """
    return prefix and check_key(prefix)


def is_key(key: str) -> bool:
    """Return whether ``key`` is a valid object key; foreign objects in a bucket may have invalid ones."""
    return not _problem(key)


def _problem(key: str) -> str:
    parts = key.split("/")
    if any(part == "" for part in parts):
        return "it is empty, absolute or has an empty part"
    if any(part.startswith(".") for part in parts):
        return "a part starts with a dot"
    if "\\" in key or not key.isprintable():
        return "it has a backslash or a character that cannot be printed"
    if len(key.encode("utf-8")) > _MAX_KEY_BYTES or any(len(part.encode("utf-8")) > _MAX_PART_BYTES for part in parts):
        return f"it is longer than {_MAX_KEY_BYTES} bytes, or a part than {_MAX_PART_BYTES}"
    return ""
