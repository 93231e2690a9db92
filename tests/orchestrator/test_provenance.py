"""What is recorded of where a trial ran, and what of it can change its bits."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from orchestrator.provenance import collect, drift

REPOSITORY = Path(__file__).parents[2]


def test_it_is_plain_json_with_the_versions_that_are_installed() -> None:
    recorded = collect()

    assert json.loads(json.dumps(recorded)) == recorded
    assert recorded["python"] == platform.python_version()
    for package in ("torch", "timm", "ray", "optuna", "albumentations", "numpy", "opencv-python-headless", "pandas"):
        assert recorded["packages"][package] == version(package)
    assert recorded["cpu"]["cores"] == os.cpu_count()
    assert recorded["cpu"]["model"]
    assert recorded["memory_bytes"] > 10**8


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="this copy of the repository is no git checkout")
def test_the_code_is_named_by_its_commit_and_by_its_sources() -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert collect()["code"]["commit"] == head.stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", collect()["code"]["digest"])


def test_neither_credentials_nor_other_environment_nor_the_user_are_in_it() -> None:
    """In a process of its own, which looks everything up afresh."""
    environment = os.environ | {"AWS_SECRET_ACCESS_KEY": "hunter2-secret", "SOME_SETTING": "hunter2-setting"}
    environment |= {"USER": "hunter2-user", "LOGNAME": "hunter2-user", "HOME": "/home/hunter2-user"}
    command = "import json; from orchestrator.provenance import collect; print(json.dumps(collect()))"
    said = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True, cwd=REPOSITORY
    )

    assert json.loads(said.stdout)["packages"]
    assert "hunter2" not in said.stdout


def test_what_a_caller_changes_does_not_reach_the_next_one() -> None:
    collect()["packages"]["torch"] = "changed"

    assert collect()["packages"]["torch"] == version("torch")


def changed(path: str, value: Any) -> dict[str, Any]:
    recorded = deepcopy(collect())
    *folders, name = path.split("/")
    part = recorded
    for folder in folders:
        part = part[folder]
    part[name] = value
    return recorded


def test_the_same_machine_and_code_have_no_drift() -> None:
    assert drift(collect(), collect()) == []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("packages/torch", "1.0", r"torch: .+ -> 1\.0"),
        ("packages/albumentations", "1.0", r"albumentations: .+ -> 1\.0"),
        ("packages/numpy", "1.0", r"numpy: .+ -> 1\.0"),
        ("packages/opencv-python-headless", "1.0", r"opencv-python-headless: .+ -> 1\.0"),
        ("python", "3.9", r"python: .+ -> 3\.9"),
        ("cpu/model", "Z80", r"cpu: .+ -> Z80.*"),
        ("cpu/simd", "none", r"cpu: .+ -> .+ none"),
        ("gpus", ["RTX 3090", "RTX 3090"], r"gpu: .+ -> RTX 3090, RTX 3090"),
        ("code/digest", "0" * 64, r"agr_core: sources \w{10} \(.+\) -> sources 0{10} \(.+\)"),
    ],
)
def test_what_can_change_the_bits_is_one_line_with_both_sides(path: str, value: Any, line: str) -> None:
    (found,) = drift(collect(), changed(path, value))

    assert re.fullmatch(line, found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("host", "elsewhere"),
        ("memory_bytes", 1),
        ("platform", "another kernel"),
        ("packages/optuna", "1.0"),
        ("packages/ray", "1.0"),
        ("code/commit", "0" * 40),  # another commit with the same sources of agr_core
        ("cpu/cores", 1),
    ],
)
def test_what_cannot_change_the_bits_is_no_drift(path: str, value: Any) -> None:
    assert drift(collect(), changed(path, value)) == []


def recorded_in_form_1(**code: Any) -> dict[str, Any]:
    """As before the digest was one of what the code does: it has no ``form``."""
    recorded = collect()
    del recorded["code"]["form"]
    recorded["code"] |= {"digest": "1" * 64, "commit": "a" * 40, "dirty": False, **code}
    return recorded


@pytest.mark.parametrize(
    ("code", "sources"),
    [
        ({}, "commit aaaaaaaaaa"),
        ({"dirty": True}, "commit aaaaaaaaaa, uncommitted changes"),
        ({"commit": None, "dirty": None}, "no git checkout"),
    ],
)
def test_a_digest_of_an_older_form_is_named_as_one_that_cannot_be_compared(code: dict[str, Any], sources: str) -> None:
    now = changed("code", collect()["code"] | {"commit": "b" * 40, "dirty": False})

    assert drift(recorded_in_form_1(**code), now) == [
        "agr_core: cannot be compared, its digest was recorded in form 1 and now has form 2; "
        f"compare the sources yourself: {sources} -> commit bbbbbbbbbb"
    ]


@pytest.mark.parametrize(("dirty", "lines"), [(False, 0), (True, 1)])
def test_one_clean_commit_has_no_drift_in_whatever_form_it_was_recorded(dirty: bool, lines: int) -> None:
    now = changed("code", collect()["code"] | {"commit": "a" * 40, "dirty": dirty})

    assert len(drift(recorded_in_form_1(), now)) == lines


def test_a_record_that_lacks_a_part_drifts_from_unknown() -> None:
    older = collect()
    del older["packages"]["torch"]

    assert drift(older, collect()) == [f"torch: unknown -> {version('torch')}"]
