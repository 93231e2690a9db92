"""Labels of nodes that a driver reads; ``orchestrator.cluster.labels`` makes them."""

from __future__ import annotations

from collections.abc import Mapping

USD_PER_HOUR = "agr-usd-per-hour"
"""Label of a node's price."""


def usd_per_hour(labels: Mapping[str, str]) -> float | None:
    """Return a node's price from its labels, in dollars per hour."""
    text = labels.get(USD_PER_HOUR)
    return None if text is None else float(text)
