"""Shared test setup: a clean environment, and registration of the modules of tests/parts."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = [
    f"tests.parts.{part}"
    for part in ("s3", "s3_proxy", "odd_s3", "http_server", "mlflow_server", "small_disk", "recorded_sweep")
]

# The duration of one example depends more on the machine's other load than on the code.
hypothesis.settings.register_profile("agr", deadline=None)
hypothesis.settings.load_profile("agr")

# Ray's workers import test modules from this folder, because a driver's working folder is not on their path.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))

_OURS = ("AGR_", "AWS_", "MLFLOW_", "RAY_")


_FIRST = (
    "cluster",
    "integration/test_pages.py",
    "integration/test_control.py",
    "integration/test_shipped_s3_and_s4.py",
    "integration/test_shipped_s0_to_s2.py",
    "integration/test_disturbed.py",
    "integration/test_services.py",
    "integration/test_undisturbed.py",
    "integration/test_seeds.py",
    "integration/test_check.py",
    "benchmarks/test_bench.py",
    "orchestrator/cli/test_sync.py",
    "integration",
)
"""The files of ``make test`` that take a minute or more by themselves, the longest first, and folders of such."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files first: in a parallel run, a long file started last would run alone."""
    tests = Path(__file__).parent

    def position(item: pytest.Item) -> int:
        path = item.path.relative_to(tests)
        among = (number for number, first in enumerate(_FIRST) if path.is_relative_to(first))
        return next(among, len(_FIRST))

    items.sort(key=position)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate tests from the user's settings and files."""
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "agr-home"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # else boto3 asks the network for credentials
