"""Reads task files with SkyPilot's own library, as `sky launch` does before it asks any cloud."""

from __future__ import annotations

import sys
from pathlib import Path

import sky
import yaml


def check(file: Path) -> None:
    """Raise what SkyPilot raises; exit if a secret stands in the file.

    A secret without a value and without `--secret` is no error of SkyPilot's: node.sh refuses to start without a token.
    """
    config = yaml.safe_load(file.read_text())
    secrets = config["secrets"]
    if any(value is not None for value in secrets.values()):
        sys.exit(f"{file}: a secret has a value")
    given = [(name, "x") for name in secrets]
    task = sky.Task.from_yaml_config(config, secrets_overrides=given)
    if set(task.secrets) != set(secrets) or not task.run or not task.setup:
        sys.exit(f"{file}: SkyPilot reads something else: {task}")
    sys.stdout.write(f"  {file.name}: {task.num_nodes} x {sorted(task.resources, key=str)[0]}\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        check(Path(name))
