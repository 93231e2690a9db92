"""Parses the compose file as compose does, and what comes of it by the types of the compose specification."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from compose_spec import PyCompose

SERVICES = Path(__file__).parents[1] / "services"


def render(env_file: Path) -> subprocess.CompletedProcess[str]:
    """The file as podman-compose reads it. It asks no podman for that, but wants one that answers `--version`."""
    tool = Path(sys.executable).with_name("podman-compose")
    command = [str(tool), "--podman-path", "/bin/echo", "--env-file", str(env_file)]
    return subprocess.run(
        [*command, "--file", str(SERVICES / "compose.yaml"), "config"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> None:
    """Exit with the problem, if there is one."""
    refused = render(SERVICES / ".env.example")
    if refused.returncode == 0 or "is missing a value" not in refused.stderr:
        sys.exit("compose: starts with the empty secrets of .env.example")
    with tempfile.TemporaryDirectory() as folder:
        env_file = Path(folder, "env")
        made = {"PATH": os.environ["PATH"], "AGR_ENV_FILE": str(env_file)}
        subprocess.run([str(SERVICES / "new-env.sh")], env=made, check=True, stdout=subprocess.DEVNULL)
        rendered = render(env_file)
    if rendered.returncode != 0:
        sys.exit(f"compose: {rendered.stderr}")
    # The types take an image by tag or by digest; compose itself takes both at once, and so the digest counts.
    text = re.sub(r"(image: \S+?):[\w.-]+@sha256:", r"\1@sha256:", rendered.stdout)
    services = PyCompose.from_yaml(text).service_names()
    if set(services) != {"postgres", "s3", "buckets", "mlflow"}:
        sys.exit(f"compose: unexpected services {services}")


if __name__ == "__main__":
    main()
