"""Versions that must be equal on all nodes of a cluster."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

from agr_core.config import TrialConfig
from agr_core.plugins import packages
from orchestrator.provenance import DISTRIBUTION

Versions = Mapping[str, str]


def versions() -> dict[str, str]:
    """Return this process's versions: Python (major and minor), Ray, agr, the configuration schema, every plug-in."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "Ray": version("ray"),
        "agr": version(DISTRIBUTION),
        "config schema": str(TrialConfig.model_fields["schema_version"].default),
        **{f"plug-in {name}": number for name, number in packages().items()},
    }


def differences(head: Versions, node: Versions) -> list[str]:
    """Return one phrase for each version that differs from the head's."""
    return [
        f"{name} is {node.get(name, 'unknown')} here and {head.get(name, 'unknown')} on the head"
        for name in {**head, **node}
        if node.get(name) != head.get(name)
    ]
