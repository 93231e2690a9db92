"""Files for SkyPilot and ``ray up``, and the scripts they run. ``make check-infra`` has the tools read them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "infra/cluster"
TASKS = sorted((CLUSTER / "sky").glob("*.yaml"))


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_a_task_holds_no_secret_and_says_how_it_is_ended(path: Path) -> None:
    task = yaml(path)
    assert {"RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY"} <= task["secrets"].keys()
    assert set(task["secrets"].values()) == {None}
    assert not [name for name in task["envs"] if re.search("KEY|SECRET|TOKEN|PASSWORD", name)]
    opening = path.read_text().partition("name:")[0]
    assert str(path.relative_to(ROOT)) in opening
    assert re.search(r"sky (down|jobs cancel) .*teardown", opening)
    assert task["resources"]["use_spot"] == ("spot" in path.stem)


def test_there_is_one_node_and_many_on_demand_and_spot() -> None:
    assert {(path.stem, yaml(path)["resources"]["use_spot"]) for path in TASKS} == {
        ("one-node", False),
        ("one-node-spot", True),
        ("many-nodes", False),
        ("spot-workers", True),
    }


def test_the_scripts_that_tasks_call_are_there_and_all_shell_parses() -> None:
    scripts = [*CLUSTER.glob("*.sh"), *(ROOT / "infra").glob("*.sh")]
    assert all(os.access(script, os.X_OK) for script in scripts)
    for task in map(yaml, TASKS):
        for called in re.findall(r"infra/\S+\.sh", task["setup"] + task["run"]):
            assert ROOT / called in scripts, called
        subprocess.run(["bash", "-n", "-c", task["run"]], check=True)
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)


def test_ray_reads_the_file_for_ray_up_as_it_is_and_refuses_a_misspelt_one(tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("ray_up", ROOT / "infra/check/ray_up.py")
    assert found is not None
    assert found.loader is not None
    ray_up = importlib.util.module_from_spec(found)
    found.loader.exec_module(ray_up)
    text = (CLUSTER / "ray-up.yaml").read_text()

    config = ray_up.check(CLUSTER / "ray-up.yaml")
    assert config["provider"]["worker_ips"] == ["10.88.0.2", "10.88.0.3"]
    (tmp_path / "misspelt.yaml").write_text(text.replace("worker_start_ray_commands", "worker_start_commands"))
    with pytest.raises(Exception, match="worker_start_commands"):
        ray_up.check(tmp_path / "misspelt.yaml")


def test_ray_up_brings_what_is_installed_and_the_secrets_and_nothing_else_of_the_checkout() -> None:
    recipe = yaml(CLUSTER / "ray-up.yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = {"pyproject.toml", "constraints.txt", project["project"]["readme"], "infra/cluster", *packages}
    brought = {f"~/agr/{path}": path for path in needed} | {"~/.agr/node.env": "node.env"}
    assert recipe["file_mounts"] == brought
    # rsync holds its patterns against the name of a single file, too, and then leaves that file out without a word.
    for path in brought.values():
        assert not [pattern for pattern in recipe["rsync_exclude"] if fnmatch(Path(path).name, pattern)], path


def node(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``node.sh`` in a home of its own, with a command that shows its arguments in the place of ``agr``."""
    return subprocess.run(
        [str(CLUSTER / "node.sh"), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "AGR": "/bin/echo", **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_machine_without_the_token_starts_nothing(tmp_path: Path) -> None:
    for command in (["head", "10.0.0.1"], ["join", "10.0.0.1:7379"]):
        refused = node(tmp_path, *command)
        assert refused.returncode == 2
        assert "RAY_AUTH_TOKEN" in refused.stderr
        assert refused.stdout == ""


def test_the_token_and_the_price_come_from_the_environment_or_the_file_and_the_token_is_no_argument(
    tmp_path: Path,
) -> None:
    (tmp_path / ".agr").mkdir()
    (tmp_path / ".agr/node.env").write_text("RAY_AUTH_TOKEN=hunter2\nUSD_PER_HOUR=0.25\n")
    started = node(tmp_path, "join", "10.0.0.1:7379", "--provider", "x")
    assert started.stdout.split() == [
        "cluster", "join", "10.0.0.1:7379", "--port", "7379", "--usd-per-hour", "0.25", "--provider", "x",
    ]  # fmt: skip
    assert "hunter2" not in started.stdout + started.stderr


def test_a_machine_leaves_when_it_is_idle_and_its_task_ends(tmp_path: Path) -> None:
    options = {"RAY_AUTH_TOKEN": "x", "IDLE": "20m", "ON_IDLE": "vastai destroy instance 7", "ON_END": "true"}
    for command in (["head", "10.0.0.1"], ["join", "10.0.0.1:7379"]):
        started = node(tmp_path, *command, **options)
        assert "--idle 20m --on-idle vastai destroy instance 7 --on-end true" in started.stdout
    left = node(tmp_path, "stay", "10.0.0.1:7379")  # its record went with the node
    assert (left.returncode, left.stdout.strip()) == (0, "node: this machine has left the cluster (IDLE, ON_END)")
    for name in ("many-nodes", "spot-workers"):
        task = yaml(CLUSTER / f"sky/{name}.yaml")
        assert task["envs"]["IDLE"] == "20m"
        assert "node.sh stay" in task["run"], "which ends with the node, and the task with it"


def test_joining_waits_for_a_head_that_is_not_there_yet_and_not_for_one_that_refuses(tmp_path: Path) -> None:
    refusing = tmp_path / "refuse"
    refusing.write_text("#!/bin/sh\necho asked >&2\nexit $CODE\n")
    refusing.chmod(0o755)
    options = {"RAY_AUTH_TOKEN": "x", "AGR": str(refusing), "JOIN_S": "4"}

    refused = node(tmp_path, "join", "10.0.0.1:7379", CODE="2", **options)
    assert (refused.returncode, refused.stderr.count("asked")) == (2, 1)
    absent = node(tmp_path, "join", "10.0.0.1:7379", CODE="1", **options)
    assert (absent.returncode, absent.stderr.count("asked")) == (1, 2)


def test_leaving_removes_the_secrets(tmp_path: Path) -> None:
    (tmp_path / ".agr").mkdir()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".agr/node.env").write_text("RAY_AUTH_TOKEN=hunter2\n")
    (tmp_path / ".ray/auth_token").write_text("hunter2")

    assert node(tmp_path, "leave").stdout.split() == ["cluster", "leave"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_secrets_stay_on_a_node_that_cannot_leave_and_are_removed_from_a_machine_that_is_no_node(
    tmp_path: Path,
) -> None:
    (tmp_path / ".agr").mkdir()
    secrets = tmp_path / ".agr/node.env"
    secrets.write_text("RAY_AUTH_TOKEN=hunter2\n")
    agr = tmp_path / "agr"
    agr.write_text('#!/bin/sh\ncase $2 in leave) exit 2 ;; status) exit "$STATUS" ;; esac\n')
    agr.chmod(0o755)

    stays = node(tmp_path, "leave", AGR=str(agr), STATUS="0")
    assert (stays.returncode, secrets.exists()) == (1, True)
    assert "still a node" in stays.stderr
    none = node(tmp_path, "leave", AGR=str(agr), STATUS="2")
    assert (none.returncode, secrets.exists()) == (0, False)


def test_secrets_that_others_could_read_are_not_sent(tmp_path: Path) -> None:
    (tmp_path / "node.env").write_text("RAY_AUTH_TOKEN=hunter2\n")
    (tmp_path / "node.env").chmod(0o644)
    refused = subprocess.run(
        [str(CLUSTER / "remote.sh"), "join", str(tmp_path / "node.env"), "10.0.0.1:7379", "nobody.invalid"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "must have mode 600" in refused.stderr
