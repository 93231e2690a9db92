"""Fixtures shared by the tests of the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from agr_core.bins import Bins
from agr_core.config import SyntheticConfig, TrialConfig
from agr_core.data.packed.pack import pack
from agr_core.models import build_model
from agr_core.trainer.checkpoint import TensorFile
from orchestrator.cli.main import app
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout

PARAMS = {"model.base_features": 4, "model.hidden": 16, "image.size": 32, "age.bins": "utk7"}


@pytest.fixture
def agr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.setenv("AGR_STORAGE", str(tmp_path / "storage"))
    # A terminal narrower than the 100 characters that are promised where there is none.
    monkeypatch.delenv("COLUMNS", raising=False)

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def trial(record_sweep: Callable[..., Any], tmp_path: Path) -> str:
    """Return a recorded, untrained trial with weights and data."""
    pack("synthetic", tmp_path / "packed", synthetic=SyntheticConfig(images=12, size=32))
    sweep = record_sweep()
    trial_id: str = sweep.trial(0, [9.0, 7.0], params=PARAMS, data_uri=str(tmp_path / "packed"))
    config = TrialConfig.from_document(read_state(sweep.storage, sweep.sweep_id).trials[trial_id].created.config)
    model = build_model(config, age_outputs=Bins.from_spec("utk7").count, num_genders=2, num_races=5)
    folder = layout.attempt(sweep.sweep_id, trial_id, 0)
    sweep.storage.write(layout.best_weights(folder, 2), TensorFile.of(model.state_dict()).content)
    return trial_id
