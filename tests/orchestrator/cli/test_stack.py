from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app

runner = CliRunner()


def test_env_of_a_stack_that_was_never_up_says_what_to_run() -> None:
    result = runner.invoke(app, ["stack", "env"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "run `agr stack up` first" in result.stderr
    assert result.stderr.count("\n") == 1


def test_status_of_a_stack_that_was_never_up_says_what_to_run() -> None:
    result = runner.invoke(app, ["stack", "status"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "run `agr stack up` first" in result.stderr


def test_status_of_a_stack_that_was_never_up_is_json_too() -> None:
    result = runner.invoke(app, ["stack", "status", "--json"])
    assert result.exit_code == 1
    home = os.environ["AGR_HOME"]
    assert json.loads(result.stdout) == {"up": False, "folder": f"{home}/stack", "services": []}


def test_down_without_a_stack_is_no_error_and_makes_no_folder() -> None:
    result = runner.invoke(app, ["stack", "down"])
    assert result.exit_code == 0
    assert "was not up" in result.stderr
    assert not Path(os.environ["AGR_HOME"]).exists()


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "file"))
    result = runner.invoke(app, ["stack", "up"])
    assert result.exit_code == 1
    assert "Choose an AGR_HOME on a disk of this machine where you may write." in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="agr it's home ")) / "$(x) $1"  # hostile to shells
    home.mkdir()
    monkeypatch.setenv("AGR_HOME", str(home))
    yield home
    runner.invoke(app, ["stack", "down"])
    shutil.rmtree(home.parent)


@pytest.mark.services
@pytest.mark.slow
def test_a_shell_is_pointed_at_the_stack_which_outlives_the_command(home: Path) -> None:
    """The whole story as a person types it, each command a process of its own."""

    def shell(script: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment
        environment = {**os.environ, "PATH": path}
        return subprocess.run(
            ["bash", "-uc", script], capture_output=True, text=True, check=False, timeout=120, env=environment
        )

    up = shell("agr stack up")
    assert up.returncode == 0, up.stderr
    assert [line.split()[:2] for line in up.stdout.splitlines()[1:]] == [
        ["postgres", "up"], ["s3", "up"], ["mlflow", "up"],
    ]  # fmt: skip
    seen = shell(
        'export AWS_SESSION_TOKEN=stale; eval "$(agr stack env)" && env | grep -E "^(AWS|AGR|MLFLOW)_" && '
        "python -c \"import boto3, mlflow; print(boto3.client('s3').list_objects_v2(Bucket='agr')['KeyCount'], "
        'len(mlflow.search_experiments()))"'
    )
    assert seen.returncode == 0, seen.stderr
    *variables, counts = seen.stdout.splitlines()
    values = dict(line.split("=", 1) for line in variables)
    assert counts == "0 1"
    assert values["AGR_STORAGE"] == "s3://agr/agr"
    assert values["AGR_HOME"] == str(home)
    assert "AWS_SESSION_TOKEN" not in values

    status = json.loads(shell("agr stack status --json").stdout)
    assert status["up"] is True
    assert {service["name"]: service["address"] for service in status["services"]}["s3"] == values["AWS_ENDPOINT_URL"]

    down = shell("agr stack down")
    assert (down.returncode, down.stdout) == (0, "")
    after = shell("agr stack env")
    assert after.returncode == 1
    assert "not up: postgres, s3, mlflow. Run `agr stack up`." in after.stderr
    assert values["AWS_ENDPOINT_URL"] in after.stdout
