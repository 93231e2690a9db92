"""``search.history``: what earlier sweeps found is known to the search, also after the earlier sweep is gone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.errors import InputError
from agr_core.objective import Objective
from orchestrator.errors import NotFoundError, SpecError
from orchestrator.journal.events import HistoryTaken, TrialEnded
from orchestrator.journal.segments import read_events
from orchestrator.search.history import read_history
from orchestrator.spec.load import Sweep
from tests.parts.sweeps import Deaf, local, make_run, report, small_sweep

Recorder = Callable[..., Any]

SPLIT = "5" * 64
EARLIER = "faces-20260102-030405-abcd"


def later_sweep(algorithm: str = "tpe", **changes: Any) -> Sweep:
    search = {"algorithm": algorithm, "trials": 30, "seed": 3, "history": [EARLIER]}
    trial = {"schedule": {"name": "constant", "epochs": 6}}
    return small_sweep(**{"trial": trial, "search": search, **changes})


def earlier_trial(sweep: Any, number: int, values: list[float], outcome: str = "completed", **params: Any) -> str:
    optimizer = {"optimizer.name": "nadam", "optimizer.lr": 1.0e-3, **params}
    trial: str = sweep.trial(number, values, outcome, params={"model.name": "resnet10t", **optimizer})
    return trial


@pytest.fixture
def earlier(record_sweep: Recorder) -> Any:
    """A sweep in which sgd did badly and nadam well, the better the nearer to a learning rate of 0.002."""
    sweep = record_sweep(sweep_id=EARLIER)
    for number in range(10):
        sgd = {"optimizer.name": "sgd", "optimizer.lr": 0.01 * (number + 1), "optimizer.momentum": 0.9}
        earlier_trial(sweep, 2 * number, [30.0], "pruned", **sgd)
        rate = 1.0e-3 * (1 + number / 4)
        earlier_trial(sweep, 2 * number + 1, [9.0, 5 + 1000 * abs(rate - 0.002)], **{"optimizer.lr": rate})
    earlier_trial(sweep, 20, [], "failed")
    return sweep


def optimizers(run: Any, trials: int) -> list[dict[str, Any]]:
    proposed = []
    for _ in range(trials):
        created = run.next_trial(1)
        proposed.append(created.config["optimizer"])
        run.epoch_reported(created.trial_id, report(1, 6.0, finished=True))
        run.trial_over(created.trial_id)
    return proposed


def test_completed_and_pruned_trials_are_taken_with_their_epochs_and_failed_ones_are_not(earlier: Any) -> None:
    [taken] = read_history(later_sweep(), earlier.storage, split_digest=SPLIT)

    assert (taken.sweep_id, len(taken.trials), taken.outside, taken.differing) == (EARLIER, 20, 0, ())
    first, second = taken.trials[:2]
    assert (first.outcome, first.epochs) == ("pruned", ((1, 30.0),))
    assert first.point == {
        "model": "resnet10t",
        "optimizer": "sgd",
        "optimizer[sgd].lr": 0.01,
        "optimizer[sgd].momentum": 0.9,
    }
    assert (second.outcome, second.values, second.epochs) == ("completed", (6.0,), ((1, 9.0), (2, 6.0)))


@pytest.mark.parametrize("algorithm", ["tpe", "branched_gp"])
def test_the_search_begins_where_the_earlier_one_ended(earlier: Any, tmp_path: Path, algorithm: str) -> None:
    """Without history the first ten are drawn at random; with it they are of the branch that did well."""
    history = read_history(later_sweep(algorithm), earlier.storage, split_digest=SPLIT)
    informed = make_run(local(tmp_path / "informed"), later_sweep(algorithm))
    informed.begin(history)
    ignorant = make_run(local(tmp_path / "ignorant"), later_sweep(algorithm))
    ignorant.begin()

    names = [[each["name"] for each in optimizers(run, 10)] for run in (informed, ignorant)]

    assert names[0].count("nadam") >= 8
    assert names[1].count("nadam") <= 7


@pytest.mark.parametrize("algorithm", ["tpe", "branched_gp"])
def test_a_resumed_sweep_proposes_the_same_although_the_earlier_one_is_gone(
    earlier: Any, tmp_path: Path, algorithm: str
) -> None:
    history = read_history(later_sweep(algorithm), earlier.storage, split_digest=SPLIT)
    whole = make_run(local(tmp_path / "whole"), later_sweep(algorithm))
    whole.begin(history)
    expected = optimizers(whole, 8)
    cut = make_run(local(tmp_path / "cut"), later_sweep(algorithm))
    cut.begin(history)
    made = optimizers(cut, 5)
    cut.end("interrupted")
    shutil.rmtree(Path(earlier.storage.uri) / "sweeps" / EARLIER)

    events, last = read_events(local(tmp_path / "cut"), cut.sweep_id)
    resumed = make_run(local(tmp_path / "cut"), later_sweep(algorithm), next_segment=last + 1)
    resumed.replay(events, Deaf())

    assert [event.kind for event in events[:3]] == ["sweep_started", "history_taken", "driver_started"]
    assert made + optimizers(resumed, 3) == expected


def test_what_lies_outside_the_space_is_counted_and_other_fixed_fields_are_named(record_sweep: Recorder) -> None:
    sweep = record_sweep(sweep_id=EARLIER)
    earlier_trial(sweep, 0, [5.0])
    earlier_trial(sweep, 1, [5.0], **{"optimizer.lr": 0.5})
    earlier_trial(sweep, 2, [5.0], **{"optimizer.weight_decay": 0.1})  # a field that this sweep's branch fixes
    earlier_trial(sweep, 3, [5.0], **{"image.size": 32})

    [taken] = read_history(later_sweep(), sweep.storage, split_digest=SPLIT)

    assert (len(taken.trials), taken.outside, taken.differing) == (2, 2, ("image.size",))


def test_confirmations_and_repetitions_are_not_taken(record_sweep: Recorder) -> None:
    sweep = record_sweep(sweep_id=EARLIER)
    first = earlier_trial(sweep, 0, [5.0])
    sweep.trial(1, [6.0], params={"model.name": "resnet10t"}, confirms=first, configuration=0)
    sweep.trial(2, [6.0], params={"model.name": "resnet10t"}, repeat=1, configuration=0)

    [taken] = read_history(later_sweep(), sweep.storage, split_digest=SPLIT)

    assert [known.trial_id for known in taken.trials] == [first]


def test_nsga2_breeds_from_an_earlier_sweep_at_once(record_sweep: Recorder, tmp_path: Path) -> None:
    two = (
        Objective(metric="val/age_mae", direction="minimize"),
        Objective(metric="val/gender_acc", direction="maximize"),
    )
    sweep = record_sweep(sweep_id=EARLIER, objective=two[0], further=two[1:])
    rates = [1.0e-3 * (number + 1) for number in range(4)]
    for number, rate in enumerate(rates):
        trial = sweep.create(number, {"model.name": "resnet10t", "optimizer.name": "nadam", "optimizer.lr": rate})
        sweep.start(trial)
        sweep.report(trial, 1, 5.0)
        point = {"value": 5.0, "values": (5.0, 0.9), "best_epoch": 1, "epochs": 1, "attempt": 0}
        sweep.record(TrialEnded(time=sweep.tick(), trial_id=trial, outcome="completed", **point))
    objective = [each.model_dump(mode="json") for each in two]
    search = {"algorithm": "nsga2", "trials": 30, "seed": 3, "population": 4, "history": [EARLIER]}
    later = later_sweep(objective=objective, scheduler="none", search=search)
    run = make_run(local(tmp_path), later)
    run.begin(read_history(later, sweep.storage, split_digest=SPLIT))

    created = [run.next_trial(30) for _ in range(12)]

    optimizers_bred = [trial.config["optimizer"] for trial in created if trial is not None]
    bred = [each["lr"] for each in optimizers_bred if each["name"] == "nadam"]
    # Of two parents, or a mutation away from one; drawn at random, two in seven would be among them.
    assert sum(0.7e-3 < rate < 5.0e-3 for rate in bred) >= 6


@pytest.mark.parametrize(
    ("changes", "split", "words"),
    [
        (
            {"objective": {"metric": "val/age_cs5", "direction": "maximize"}},
            SPLIT,
            "minimize val/age_mae, those of this one",
        ),
        ({}, "6" * 64, r"validated on another split \(55555555\)"),
        ({"space": {"batch_size": [16, 32]}}, SPLIT, "no completed, pruned or diverged trial in this space"),
    ],
    ids=["objective", "split", "space"],
)
def test_a_sweep_whose_figures_say_nothing_is_refused(
    earlier: Any, changes: dict[str, Any], split: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_history(later_sweep(**changes), earlier.storage, split_digest=split)


def test_an_unknown_sweep_is_refused_and_none_is_nothing(earlier: Any) -> None:
    search = {"algorithm": "tpe", "trials": 30, "history": ["nothing"]}
    with pytest.raises(NotFoundError, match="nothing"):
        read_history(later_sweep(search=search), earlier.storage, split_digest=SPLIT)
    assert read_history(small_sweep(), earlier.storage, split_digest=SPLIT) == []


@pytest.mark.parametrize("algorithm", ["random", "grid"])
def test_a_search_that_learns_nothing_takes_no_history(algorithm: str) -> None:
    search: dict[str, Any] = {"algorithm": algorithm, "history": [EARLIER]}
    with pytest.raises(SpecError, match=rf"search.history: {algorithm} does not use earlier trials"):
        small_sweep(space={"batch_size": [16, 32]}, search=search | ({"trials": 2} if algorithm == "random" else {}))


def test_a_long_history_is_bounded(earlier: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("orchestrator.search.search.HISTORY", 12)
    [taken] = read_history(later_sweep(), earlier.storage, split_digest=SPLIT)
    run = make_run(local(tmp_path), later_sweep())
    run.begin([HistoryTaken.model_validate(taken.model_dump())])

    kept = run.search._study.get_trials(deepcopy=False)

    assert len(kept) < 20
    assert min(trial.value for trial in kept if trial.value is not None) == pytest.approx(5.0)
