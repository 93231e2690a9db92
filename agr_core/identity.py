"""Canonical JSON and digests: one text and one hash for one value, on every machine."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN; equal values give equal text.

    Raises:
        ValueError: If ``value`` holds NaN or an infinity.
        TypeError: If ``value`` holds something JSON cannot say.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, 64 lower-case hex digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 as ``digest`` gives it. What is none may be a path, and must not become a file's name."""
    return _DIGEST.fullmatch(text) is not None


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 lower-case hex digits."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
