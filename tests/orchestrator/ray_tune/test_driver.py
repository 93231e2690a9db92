"""The driver before Ray: what it says and refuses at the start of a sweep."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agr_core.config import DataConfig
from agr_core.errors import DataError
from orchestrator.cli.driving import started_of
from orchestrator.errors import SpecError, SweepOwnedError
from orchestrator.journal.events import DataRef
from orchestrator.journal.segments import read_events
from orchestrator.ray_tune.driver import Engine, resume_sweep, start_sweep
from orchestrator.settings import Settings
from orchestrator.storage import layout, open_storage
from tests.parts.sweeps import local, make_run, small_sweep


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


def test_a_sweep_with_a_model_that_cannot_be_built_does_not_start(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    sweep = small_sweep(trial={"image": {"size": 48}}, space={"model": ["basic_cnn", "coatnet_nano_cc_224"]})

    def prepare(_: DataConfig) -> DataRef:
        raise AssertionError("no data is looked for")

    engine = Engine(settings=Settings.from_environment(), storage=storage, prepare=prepare)
    with pytest.raises(SpecError, match=r"'coatnet_nano_cc_224' cannot take image\.size=48"):
        start_sweep(sweep, started_of(sweep), engine, on_begin=lambda: None)
    assert list(storage.list("")) == []


def test_the_second_of_two_resumes_takes_no_sweep_whose_driver_lives(tmp_path: Path) -> None:
    """It looked before the first one took the sweep, and reads the journal after it did."""
    storage = local(tmp_path)
    first = make_run(storage, small_sweep())
    first.begin()
    first.next_trial(1)
    first.flush()
    taken = read_events(storage, first.sweep_id)
    engine = Engine(settings=Settings.from_environment(), storage=storage)

    with pytest.raises(SweepOwnedError, match=f"process {os.getpid()} of this machine"):
        resume_sweep(first.sweep_id, engine, on_begin=lambda: None)

    assert read_events(storage, first.sweep_id) == taken, "nothing was written"
    first.next_trial(2)
    first.flush()
