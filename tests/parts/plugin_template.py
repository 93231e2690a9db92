"""The plug-in template of the documents, installed as a user installs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TEMPLATE = Path(__file__).parents[2] / "docs" / "plugin-template"
NAME, VERSION = "agr-plugin-template", "0.1.0"


def install_template(folder: Path, site: Path) -> None:
    """Install the template with pip into ``site``; ``folder`` takes a copy of it, since building leaves files there."""
    copy = folder / "plugin-template"
    shutil.copytree(TEMPLATE, copy)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(copy)], check=True)
