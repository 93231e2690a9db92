"""What MLflow takes: sizes of texts and batches, forms of values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.errors import TrackerError

CUT = " …(cut, see trial.json)"
"""End of a param or tag that is longer than MLflow takes."""

MAX_PARAM = 6_000
MAX_TAG = 8_000
MAX_NAME = 250
"""Characters."""

_MAX_BATCH = {"params": 100, "tags": 100, "metrics": 800}  # together the 1,000 entities MLflow takes at most
_MAX_BATCH_BYTES = 500_000  # MLflow takes 1 MB of JSON


def batches(entities: Sequence[tuple[str, Any, int]]) -> Iterator[dict[str, list[Any]]]:
    """Yield arguments of ``log_batch`` calls within MLflow's limits, in order."""
    batch: dict[str, list[Any]] = {kind: [] for kind in _MAX_BATCH}
    size = 0
    for kind, entity, entity_bytes in entities:
        if len(batch[kind]) == _MAX_BATCH[kind] or size + entity_bytes > _MAX_BATCH_BYTES:
            yield batch
            batch, size = {kind: [] for kind in _MAX_BATCH}, 0
        batch[kind].append(entity)
        size += entity_bytes
    if any(batch.values()):
        yield batch


def text_of(value: Any) -> str:
    """Format a param like YAML: words unquoted, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(text: str, limit: int) -> str:
    """Return ``text`` as MLflow's database accepts it: no NUL (PostgreSQL refuses it), at most ``limit`` characters."""
    text = text.replace("\0", "\u2400")
    return text if len(text) <= limit else text[: limit - len(CUT)] + CUT


def quoted(value: str) -> str:
    """Return a string literal of MLflow's filter language, which has no escapes."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise TrackerError(f"{value!r} contains both kinds of quotes; MLflow cannot search for it.")


def milliseconds(seconds: float) -> int:
    """Convert seconds to what MLflow takes as a time."""
    return round(seconds * 1000)
