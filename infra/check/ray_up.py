"""Checks a file for `ray up` with Ray's own validation."""

from __future__ import annotations

import sys
from pathlib import Path

from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML


def check(file: Path) -> dict[str, object]:
    """The file as Ray completes it.

    Raises:
        jsonschema.ValidationError: If Ray would refuse it.
    """
    config: dict[str, object] = prepare_config(YAML(typ="safe").load(file))
    validate_config(config)
    return config


if __name__ == "__main__":
    for name in sys.argv[1:]:
        check(Path(name))
