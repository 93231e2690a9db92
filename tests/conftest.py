"""What all tests share: a clean environment; and the parts that many use, each a module of tests/parts."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = [f"tests.parts.{part}" for part in ("s3", "s3_proxy", "mlflow_server", "small_disk", "recorded_sweep")]

# How long one example takes says more about the machine's other work than about our code.
hypothesis.settings.register_profile("agr", deadline=None)
hypothesis.settings.load_profile("agr")

_OURS = ("AGR_", "AWS_", "MLFLOW_", "RAY_")


_FIRST = (
    "cluster",
    "integration/test_seeds.py",
    "integration/test_disturbed.py",
    "integration/test_services.py",
    "integration/test_undisturbed.py",
    "orchestrator/cli/test_sync.py",
    "integration",
)
"""The files of ``make test`` that take a minute or more by themselves, the longest first, and folders of such."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: where files run side by side, a long one begun last runs alone."""
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(tests)
        among = (number for number, first in enumerate(_FIRST) if path.is_relative_to(first))
        return next(among, len(_FIRST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them, and nothing of theirs is written to."""
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "agr-home"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # else boto3 asks the network for credentials
