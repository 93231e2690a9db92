"""A tenth of the cases of ``make damage``: damaged files lead to no traceback, no wrong figure, no other winner."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.damage.damage import DAMAGES, cases


@pytest.mark.slow
def test_damaged_files_are_named_and_no_other_figure_or_winner_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    findings = cases(seed=1, count=200, folder=tmp_path)

    assert findings.violations == []
    assert set(findings.kinds) == set(DAMAGES), "every kind of damage was tried"
    assert findings.said > 20
