"""Every system of the five reports runs: the two-core profile of each file in ``sweeps/seeds``, to its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ids import new_sweep_id
from orchestrator.journal import read_state
from orchestrator.ray_tune.driver import Engine, start_sweep
from orchestrator.records import SweepStarted
from orchestrator.settings import Settings
from orchestrator.spec.load import Sweep, load_sweep
from orchestrator.storage import open_storage

pytestmark = pytest.mark.slow

SEEDS = Path(__file__).parents[2] / "sweeps" / "seeds"
FILES = sorted(path.stem for path in SEEDS.glob("*.yaml"))

READ_SEALED = {"s0_backbones", "s1_multitask"}
"""Foreign test parts and several kept epochs. Elsewhere reading the test part is one and the same code, and costs a
process that imports torch, as does a second worker: hence ``concurrency=1``, beside the other half of the tests."""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all files, so that data sets are drawn and stages trained once."""
    return str(tmp_path_factory.mktemp("seeds"))


def started(sweep: Sweep) -> SweepStarted:
    spec = sweep.spec
    return SweepStarted(
        time=time.time(),
        sweep_id=new_sweep_id(spec.name),
        name=spec.name,
        experiment=spec.name,
        description=spec.description,
        tags=spec.tags,
        objective=spec.objectives[0],
        further=spec.objectives[1:],
        document=sweep.document,
        provenance={},
    )


@pytest.mark.usefixtures("ray_address")
@pytest.mark.parametrize("name", FILES)
def test_the_two_core_profile_runs_to_its_end(name: str, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_HOME", storage)
    sweep = load_sweep(SEEDS / f"{name}.yaml", profile="cpu", overrides=["concurrency=1"])
    engine = Engine(
        settings=Settings.from_environment(),
        storage=open_storage(storage),
        read_sealed=name in READ_SEALED,
    )
    result = start_sweep(sweep, started(sweep), engine, on_begin=lambda: None)

    assert result.status == "completed", result.reason
    assert sweep.spec.search is not None
    assert result.counts["completed"] + result.counts["pruned"] == sweep.spec.search.trials, _errors(engine, result)
    assert result.best is not None
    for trial in read_state(engine.storage, result.sweep_id).trials.values():
        assert sweep.spec.objectives[0].value(trial.reports[-1].metrics) == trial.reports[-1].value


def _errors(engine: Engine, result: Any) -> list[str | None]:
    trials = read_state(engine.storage, result.sweep_id).trials.values()
    return [None if trial.ended is None else trial.ended.error for trial in trials]
