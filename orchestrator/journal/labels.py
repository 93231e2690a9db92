"""Names of the metrics at the epochs that a sweep keeps by label."""

from __future__ import annotations


def label_name(name: str, label: str) -> str:
    """Return the name of a label's metric: ``best.age/age_mae``, ``best.age.test/age_mae``.

    ``name`` is ``best/...`` of the epoch kept for it, or ``test/...`` with the weights of that epoch.
    """
    part, _, figure = name.partition("/")
    return f"best.{label}/{figure}" if part == "best" else f"best.{label}.{part}/{figure}"
