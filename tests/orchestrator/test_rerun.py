from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.reporting import EpochReport
from orchestrator import rerun
from orchestrator.errors import NotFoundError, SpecError
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.rerun import Original
from orchestrator.results.trial_metrics import reports_of
from tests.parts.sweeps import local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"


def trial_with(folder: Path, reports: list[EpochReport]) -> tuple[SweepState, TrialState]:
    storage = local(folder)
    run = make_run(storage, small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    for one in reports:
        run.epoch_reported(created.trial_id, one)
    run.trial_over(created.trial_id)
    state = read_state(storage, SWEEP)
    return state, state.trials[created.trial_id]


def original_with(folder: Path, reports: list[EpochReport]) -> Original:
    state, trial = trial_with(folder, reports)
    return Original(state, trial, reports_of(trial), {})


def timed(epoch: int, value: float, seconds: float) -> EpochReport:
    return EpochReport(epoch=epoch, metrics={"val/age_mae": value, "train/loss": 1.0, "time/epoch_s": seconds})


def test_equal_figures_are_identical_whatever_the_time_they_took(tmp_path: Path) -> None:
    original = original_with(tmp_path / "a", [timed(1, 5.0, 3.0), timed(2, 4.0, 3.0)])
    _, again = trial_with(tmp_path / "b", [timed(1, 5.0, 9.0), timed(2, 4.0, 1.0)])
    comparison = rerun.compare(original, again)
    assert (comparison.identical, comparison.max_abs_diff, comparison.differences) == (True, 0.0, ())


def test_the_last_bit_of_one_figure_is_a_difference(tmp_path: Path) -> None:
    original = original_with(tmp_path / "a", [report(1, 5.0), report(2, 4.0)])
    _, again = trial_with(tmp_path / "b", [report(1, 5.0), report(2, 4.000000000000001)])
    comparison = rerun.compare(original, again)
    assert not comparison.identical
    assert comparison.max_abs_diff == pytest.approx(1e-15, rel=0.2)
    assert len(comparison.differences) == 1
    assert "epoch 2 val/age_mae" in comparison.differences[0]


@pytest.mark.parametrize(
    "again",
    [[report(1, 5.0)], [report(1, 5.0), EpochReport(epoch=2, metrics={"val/age_mae": 4.0})]],
    ids=["an epoch is missing", "a figure is missing"],
)
def test_what_only_one_of_them_has_is_a_difference(tmp_path: Path, again: list[EpochReport]) -> None:
    original = original_with(tmp_path / "a", [report(1, 5.0), report(2, 4.0)])
    comparison = rerun.compare(original, trial_with(tmp_path / "b", again)[1])
    assert not comparison.identical
    assert comparison.differences


def test_a_figure_that_the_originals_version_did_not_know_is_new_and_no_difference(tmp_path: Path) -> None:
    original = original_with(tmp_path / "a", [timed(1, 5.0, 3.0), timed(2, 4.0, 3.0)])
    richer = [
        EpochReport(epoch=each.epoch, metrics={**each.metrics, "val/age_f1.mean_by_race": 0.5})
        for each in (timed(1, 5.0, 3.0), timed(2, 4.0, 3.0))
    ]
    _, again = trial_with(tmp_path / "b", richer)
    comparison = rerun.compare(original, again)
    assert (comparison.identical, comparison.differences) == (True, ())
    assert comparison.added == ("val/age_f1.mean_by_race",)


def test_a_trial_without_an_epoch_cannot_be_compared_with(tmp_path: Path) -> None:
    state, trial = trial_with(tmp_path, [])
    with pytest.raises(NotFoundError, match=f"{trial.trial_id} reported no epoch"):
        rerun.find_original(local(tmp_path), state, trial.trial_id)


def test_the_best_figures_are_those_of_the_objectives_best_epoch(tmp_path: Path) -> None:
    original = original_with(tmp_path, [report(1, 5.0), report(2, 3.0), report(3, 4.0)])
    assert rerun.best_figures(original.reports, original.sweep.started.objective) == {"best/age_mae": 3.0}


def test_a_rerun_is_one_trial_of_exactly_the_recorded_configuration(tmp_path: Path) -> None:
    original = original_with(tmp_path, [report(1, 5.0)])
    sweep = rerun.rerun_sweep(original, [])
    (point,) = sweep.space.points()
    assert sweep.space.build(lambda name, _: point[name]).config.to_document() == original.trial.created.config


def test_settings_of_a_fork_are_trial_config_paths(tmp_path: Path) -> None:
    original = original_with(tmp_path, [report(1, 5.0)])
    before: dict[str, Any] = original.trial.created.config
    sweep = rerun.rerun_sweep(original, ["batch_size=17"])
    (point,) = sweep.space.points()
    config = sweep.space.build(lambda name, _: point[name]).config
    assert config.batch_size == 17
    assert before["batch_size"] != 17
    with pytest.raises(SpecError, match="batch_sise"):
        rerun.rerun_sweep(original, ["batch_sise=17"])
