"""What the control plane's compose file promises, and the scripts its containers start with."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "infra/services"
TEXT = (SERVICES / "compose.yaml").read_text()
DIGEST = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def compose() -> Any:
    return YAML(typ="safe").load(TEXT)


def variables(text: str) -> dict[str, str]:
    """The assignments of an environment file."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_images_are_pinned_by_digest_or_built_from_our_dockerfile(compose: Any) -> None:
    for name, service in compose["services"].items():
        built = service.get("build", {}).get("dockerfile") == "infra/docker/Dockerfile"
        assert built or DIGEST.fullmatch(service["image"]), name


def test_every_published_port_is_bound_to_the_loopback_unless_told_otherwise(compose: Any) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in ports)


def test_what_stays_up_has_a_health_check_and_is_waited_for(compose: Any) -> None:
    for name, service in compose["services"].items():
        if service["restart"] != "no":
            assert service["healthcheck"]["test"][0] == "CMD", name
        for needed in service.get("depends_on", {}).values():
            assert needed["condition"] in {"service_healthy", "service_completed_successfully"}, name


def test_nothing_starts_without_its_secrets_and_the_example_names_them_all() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    optional = set(re.findall(r"\$\{(\w+):-", TEXT))
    assert len(re.findall(r"\$\{", TEXT)) == len(re.findall(r"\$\{\w+:[?-]", TEXT)), "a variable may be empty"
    example = variables((SERVICES / ".env.example").read_text())
    assert set(example) == required | optional
    assert {name for name, value in example.items() if not value} == required


def new_env(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SERVICES / "new-env.sh"), *arguments],
        env={**os.environ, "AGR_ENV_FILE": str(path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_new_environment_file_is_complete_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "env"
    assert new_env(path, "10.8.0.1").returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600
    values = variables(path.read_text())
    assert values.keys() == variables((SERVICES / ".env.example").read_text()).keys()
    assert values["BIND_ADDRESS"] == "10.8.0.1"
    assert all(values.values())
    secret = [value for name, value in values.items() if name.endswith(("SECRET_KEY", "PASSWORD"))]
    assert len(set(secret)) == len(secret) == 6
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in secret)
    before = path.read_text()
    assert new_env(path).returncode == 1
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("address", ["0.0.0.0", "8.8.8.8", "172.32.0.1", "100.128.0.1", "::", "example.org"])
def test_a_public_address_is_refused(tmp_path: Path, address: str) -> None:
    refused = new_env(tmp_path / "env", address)
    assert refused.returncode == 2
    assert address in refused.stderr
    assert list(tmp_path.iterdir()) == []


def s3_start(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The store's start script, with a command that shows its environment in the store's place."""
    environment = {"PATH": os.environ["PATH"], "S3_IDENTITIES": str(folder / "run" / "identities.json")}
    for name in ("ADMIN", "AGR", "MLFLOW"):
        environment |= {f"S3_{name}_ACCESS_KEY": f"{name}KEY", f"S3_{name}_SECRET_KEY": f"{name.lower()}-hunter2"}
    return subprocess.run(
        ["/bin/sh", str(SERVICES / "s3/start.sh"), "env"],
        env={**environment, **changes}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_store_knows_three_identities_and_only_one_reaches_every_bucket(tmp_path: Path) -> None:
    started = s3_start(tmp_path)
    assert started.returncode == 0, started.stderr
    assert "hunter2" not in started.stdout  # what the store's process could show of its environment
    path = tmp_path / "run" / "identities.json"
    assert path.stat().st_mode & 0o077 == 0
    rights = {one["name"]: one["actions"] for one in json.loads(path.read_text())["identities"]}
    assert "Admin" in rights.pop("admin")
    assert rights == {
        name: [f"{action}:{name}" for action in ("Read", "Write", "List", "Tagging")] for name in ("agr", "mlflow")
    }


@pytest.mark.parametrize("value", ["", 'x", "actions": ["Admin'])
def test_the_store_starts_neither_without_a_key_nor_with_one_that_would_change_the_file(
    tmp_path: Path, value: str
) -> None:
    refused = s3_start(tmp_path, S3_AGR_SECRET_KEY=value)
    assert refused.returncode == 2
    assert "S3_AGR_SECRET_KEY" in refused.stderr
    assert list(tmp_path.iterdir()) == []
