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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Clusters and sweeps first: where files run side by side, a long one begun last runs alone."""
    tests = Path(__file__).parent
    first = ("cluster", "integration")

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(tests).parts[0]
        return first.index(folder) if folder in first else len(first)

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
