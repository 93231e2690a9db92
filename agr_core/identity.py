"""Canonical JSON and digests, equal on every machine."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN; equal values give equal text.

    Raises:
        ValueError: If ``value`` holds NaN or an infinity.
        TypeError: If ``value`` holds a type that JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of ``value``, 64 lower-case hex digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


def is_digest(text: str) -> bool:
    """Return whether ``text`` is a SHA-256 in the form of ``digest``; other text must not become a file name."""
    return _DIGEST.fullmatch(text) is not None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 lower-case hex digits."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
