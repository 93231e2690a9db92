"""Names, params and tags as people see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agr_core.objective import Objective
from orchestrator.journal.events import SweepStarted, TrialCreated
from orchestrator.journal.outcome import OUTCOMES
from orchestrator.journal.segments import read_state
from orchestrator.results.wording import flat, short, trial_name, trial_params, varying
from orchestrator.tracking import describe
from orchestrator.tracking.describe import RUN_STATUS, shown_metrics, sweep_params, sweep_tags

Recorder = Callable[..., Any]


@pytest.fixture
def created(record_sweep: Recorder) -> Callable[..., TrialCreated]:
    sweep = record_sweep()

    def create(number: int = 7, params: dict[str, Any] | None = None, **more: Any) -> TrialCreated:
        trial = sweep.create(number, params, **more)
        event: TrialCreated = read_state(sweep.storage, sweep.sweep_id).trials[trial].created
        return event

    return create


@pytest.mark.parametrize(
    ("params", "name"),
    [
        (
            {"age.encoding": "onehot", "age.bins": "utk7", "optimizer.name": "adam", "model.name": "resnet10t"},
            "007 resnet10t adam onehot/utk7",
        ),
        ({"optimizer.name": "sgd", "optimizer.lr": 0.1, "sampler.name": "weighted"}, "007 sgd weighted"),
        ({"optimizer.lr": 0.00123456, "batch_size": 64}, "007 lr=0.00123 batch_size=64"),
        ({"age.encoding": "regression"}, "007 regression"),
        ({"age.bins": [0, 13, 60]}, "007 [0,13,60]"),
        ({"data.source": "s3://bucket/long/prefix/utkface-8k/"}, "007 utkface-8k"),
        ({}, "007"),
    ],
)
def test_a_name_says_the_number_and_what_varies(
    created: Callable[..., TrialCreated], params: dict[str, Any], name: str
) -> None:
    assert trial_name(created(7, params)) == name


def test_a_variant_comes_first_and_a_repeated_trial_names_its_seed(created: Callable[..., TrialCreated]) -> None:
    trial = created(12, {"optimizer.name": "sgd"}, variant="no dropout")

    assert trial_name(trial, repeated=True) == "012 no dropout sgd seed 42"


def test_a_name_stays_short(created: Callable[..., TrialCreated]) -> None:
    name = trial_name(created(1234, {"model.name": "vit_base_patch16_clip_quickgelu_224"}, variant="v" * 50))

    assert len(name) == 60
    assert name.startswith("1234 vvv")
    assert name.endswith("…")


def test_params_are_the_whole_configuration_flat_with_what_varies_first(created: Callable[..., TrialCreated]) -> None:
    trial = created(0, {"optimizer.name": "nadam", "optimizer.lr": 0.01, "age.encoding": "ordinal"})

    params = trial_params(trial)

    assert list(params)[:3] == ["optimizer.name", "optimizer.lr", "age.encoding"]
    assert params == dict(flat(trial.config))
    assert params["data.split.fractions"] == [0.8, 0.1, 0.1]
    assert (params["early_stopping"], params["age.bins"]) == (None, "utk7")


def test_params_of_one_part_stand_side_by_side_whatever_branch_brought_them(
    created: Callable[..., TrialCreated],
) -> None:
    first = created(0, {"optimizer.name": "nadam", "sampler.name": "weighted"})
    second = created(1, {"model.name": "resnet10t", "optimizer.name": "sgd", "optimizer.momentum": 0.9})

    assert varying([first, second]) == ("optimizer.name", "optimizer.momentum", "sampler.name", "model.name")


@pytest.mark.parametrize(
    ("value", "text"),
    [("adam", "adam"), (0.000123456, "0.000123"), (3, "3"), (True, "true"), (None, "null"), ([0, 13], "[0,13]")],
)
def test_values_are_short(value: Any, text: str) -> None:
    assert short(value) == text


def test_every_outcome_has_a_status() -> None:
    assert RUN_STATUS.keys() == set(OUTCOMES)


def test_the_objective_is_always_shown_and_about_fifteen_metrics_are(created: Callable[..., TrialCreated]) -> None:
    names = shown_metrics(created(0), [Objective(metric="val/age_acc1off.utk4", direction="maximize")])

    assert names[0] == "val/age_acc1off.utk4"
    assert 12 <= len(names) <= 20


def test_a_sweep_shows_how_it_searches_and_not_its_space(record_sweep: Recorder) -> None:
    started: SweepStarted = record_sweep(
        document={
            "name": "faces",
            "trial": {"batch_size": 64},
            "space": {"optimizer": [{"name": "sgd"}]},
            "search": {"algorithm": "tpe", "trials": 20},
            "scheduler": "none",
            "budget": {"wall": "20m"},
        }
    ).started

    assert sweep_params(started) == {
        "search.algorithm": "tpe",
        "search.trials": 20,
        "scheduler": "none",
        "budget.wall": "20m",
    }


def test_warnings_of_the_best_epoch_are_a_tag_and_figures_of_single_groups_stay_out(record_sweep: Any) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 9.0, **{"val/gender_acc": 0.5, "val/gender_majority": 0.5, "val/gender_constancy": 1.0})
    sweep.end_trial(trial, "completed", [9.0])
    test = {"test/age_mae": 8.0, "test/age_mae.by_race.White": 7.0, "test/age_mae.gap_by_race": 2.0}
    test |= {"train/age_mae": 5.0}  # with the kept weights, beside the curve of that name
    sweep.read_test(trial, test)
    sound = sweep.trial(1, [8.0])

    state = read_state(sweep.storage, sweep.sweep_id)

    assert describe.end_tags(state.trials[trial])["agr.warnings"].startswith("collapsed: the gender head")
    assert "agr.warnings" not in describe.end_tags(state.trials[sound])
    names = {point.name for point in describe.test_points(state.trials[trial])}
    assert names == {"test/age_mae", "test/age_mae.gap_by_race", "kept_train/age_mae"}


def test_the_profile_of_a_sweep_is_a_tag(record_sweep: Callable[..., Any]) -> None:
    assert sweep_tags(record_sweep(profile="cpu").started, "s3://agr")["agr.profile"] == "cpu"
    assert "agr.profile" not in sweep_tags(record_sweep("other-20260102-030405-abcd").started, "s3://agr")
