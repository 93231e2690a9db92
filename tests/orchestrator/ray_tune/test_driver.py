"""The driver before Ray: what it says and refuses at the start of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from agr_core.config import DataConfig
from agr_core.errors import DataError
from orchestrator.cli.driving import started_of
from orchestrator.datasets import DataRef
from orchestrator.ray_tune.driver import Engine, start_sweep
from orchestrator.settings import Settings
from orchestrator.storage import layout, open_storage
from tests.orchestrator.sweeps import small_sweep


def test_a_sweep_says_that_it_starts_while_it_looks_for_its_data(tmp_path: Path) -> None:
    """So that `agr gc --unreferenced` takes nothing away that it is about to use."""
    storage = open_storage(str(tmp_path / "storage"))
    sweep = small_sweep()
    started = started_of(sweep)
    said: list[bool] = []

    def prepare(_: DataConfig) -> DataRef:
        said.append(storage.exists(layout.start(started.sweep_id)))
        raise DataError("no image can be read")

    engine = Engine(settings=Settings.from_environment(), storage=storage, prepare=prepare)
    with pytest.raises(DataError, match="no image can be read"):
        start_sweep(sweep, started, engine, on_begin=lambda: None)

    assert said == [True]
    assert list(storage.list("")) == []
