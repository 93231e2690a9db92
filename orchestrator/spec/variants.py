"""Variants: labelled partial configurations, each over the trial or over another variant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agr_core.registry import did_you_mean
from orchestrator.spec.explain import given
from orchestrator.spec.merge import Node, merge, read
from orchestrator.spec.source import Source

FROM = "from"

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,59}")


def variant_bases(variants: Mapping[str, Any], trial: Node, source: Source) -> dict[str | None, Node]:
    """Return the configuration below the space for each variant; ``{None: trial}`` without variants.

    A variant that builds on an unknown one, or on itself, is noted in ``source`` and builds on the trial.
    """
    if not variants:
        return {None: trial}
    for label in variants:
        if not _LABEL.fullmatch(label):
            message = (
                f"{label!r} is not a valid label of a variant; use 1 to 60 letters, digits, - _ + and begin with a "
            )
            source.add(("variants", label), f"{message}letter or digit.", key=True)
    return {label: _base(label, variants, trial, source) for label in variants}


def _base(label: str, variants: Mapping[str, Any], trial: Node, source: Source) -> Node:
    base = trial
    for ancestor in reversed(_ancestry(label, variants, source)):
        layer = {key: value for key, value in variants[ancestor].items() if key != FROM}
        base = merge(base, read(layer, ("variants", ancestor)))
    return base


def _ancestry(label: str, variants: Mapping[str, Any], source: Source) -> list[str]:
    """Return ``label`` and its bases, nearest first."""
    chain = [label]
    while FROM in variants[chain[-1]]:
        parent = variants[chain[-1]][FROM]
        if not isinstance(parent, str) or parent not in variants:
            others = [other for other in variants if other != chain[-1]]
            hint = did_you_mean(parent, others) if isinstance(parent, str) else ""
            source.add(
                ("variants", chain[-1], FROM),
                f"there is no variant {given(parent)}.{hint} Others: {', '.join(others) or 'none'}.",
            )
            break
        if parent in chain:
            circle = chain[chain.index(parent) :]
            if label == min(circle, key=list(variants).index):  # noted once, where it is first met
                shown = " -> ".join([*circle, parent])
                source.add(("variants", label, FROM), f"the variant builds on itself: {shown}; drop one `from`.")
            break
        chain.append(parent)
    return chain
