"""What must be the same on all nodes of a cluster."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

from agr_core.config import TrialConfig

Versions = Mapping[str, str]


def versions() -> dict[str, str]:
    """Of this process: Python (major and minor), Ray, agr, and the schema of configurations."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "Ray": version("ray"),
        "agr": version("agr"),
        "config schema": str(TrialConfig.model_fields["schema_version"].default),
    }


def differences(head: Versions, node: Versions) -> list[str]:
    """One phrase for each version that is not the head's."""
    return [
        f"{name} is {node.get(name, 'unknown')} here and {head.get(name, 'unknown')} on the head"
        for name in {**head, **node}
        if node.get(name) != head.get(name)
    ]
