"""Create sweep and trial IDs, and match their unique prefixes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from orchestrator.errors import AmbiguousIdError, NotFoundError

_TRIAL_IDS = 1 << 32
_STRIDE = 0x9E3779B1  # odd, so that number -> number * stride is a bijection modulo 2**32


def new_sweep_id(name: str, *, now: datetime | None = None) -> str:
    """Return ``<name>-<utc yyyymmdd-hhmmss>-<4 hex>``."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{name}-{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def sweep_name(sweep_id: str) -> str:
    """Return the name that ``new_sweep_id`` was given."""
    return sweep_id.rsplit("-", 3)[0]


def trial_id(sweep_id: str, number: int) -> str:
    """Return 8 hex digits, different by construction for every ``number`` below 2**32 of one sweep.

    Raises:
        ValueError: If ``number`` is negative or too large.
    """
    if not 0 <= number < _TRIAL_IDS:
        raise ValueError(f"trial number {number} must be from 0 to {_TRIAL_IDS - 1}.")
    offset = int.from_bytes(hashlib.sha256(sweep_id.encode()).digest()[:4], "big")
    return f"{(number * _STRIDE + offset) % _TRIAL_IDS:08x}"


def match_prefix(prefix: str, candidates: Iterable[str], *, kind: str, where: str) -> str:
    """Return the only candidate that starts with ``prefix``; an exact match wins.

    Raises:
        NotFoundError: If none does.
        AmbiguousIdError: If several do; the text lists them.
    """
    matches = sorted({candidate for candidate in candidates if candidate.startswith(prefix)})
    if prefix in matches or len(matches) == 1:
        return prefix if prefix in matches else matches[0]
    if not matches:
        raise NotFoundError(f"no {kind} starts with {prefix!r} in {where}. `agr list` shows what there is.")
    shown = ", ".join(matches[:10]) + (", ..." if len(matches) > 10 else "")
    raise AmbiguousIdError(f"{kind} {prefix!r} is ambiguous: {shown}. Give more characters.")
