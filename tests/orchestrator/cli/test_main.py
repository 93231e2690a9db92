"""``agr`` itself."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from click.testing import Result


def test_the_version_is_the_projects(agr: Callable[..., Result]) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert agr("--version").stdout == f"agr {project['version']}\n"
