from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.search.predicted_ends import DIVERGED, PredictedStudy, predicted_ends


def trial(state: TrialState, *values: float, **more: Any) -> FrozenTrial:
    """A trial that reported ``values`` after its epochs 1, 2, ...; a completed one has the best of them."""
    return create_trial(
        state=state,
        value=min(values) if state == TrialState.COMPLETE else None,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=dict(enumerate(values, start=1)),
        **more,
    )


def study_of(*trials: FrozenTrial) -> optuna.Study:
    study = optuna.create_study(direction="minimize")
    study.add_trials(trials)
    return study


COMPLETED = [trial(TrialState.COMPLETE, 9.0, 7.0, 6.0), trial(TrialState.COMPLETE, 8.0, 8.5, 4.0)]


def test_a_stopped_trial_improves_as_the_completed_ones_did_after_its_epoch() -> None:
    stopped = [trial(TrialState.PRUNED, 8.0), trial(TrialState.PRUNED, 8.0, 7.5)]
    trials = study_of(*COMPLETED, *stopped).trials
    # After epoch 1 they improved by 3 and 4, after epoch 2 (best so far: 7 and 8) by 1 and 4.
    assert predicted_ends(trials, minimize=True) == {2: 8.0 - 3.5, 3: 7.5 - 2.5}


def test_where_more_is_better_it_is_the_same_upside_down() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            create_trial(state=TrialState.COMPLETE, value=0.9, intermediate_values={1: 0.5, 2: 0.9, 3: 0.8}),
            create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.4}),
        ]
    )
    assert predicted_ends(study.trials, minimize=False) == {1: pytest.approx(0.8)}


def test_before_any_trial_completed_stopped_ones_have_their_best_value() -> None:
    assert predicted_ends(study_of(trial(TrialState.PRUNED, 8.0, 8.5)).trials, minimize=True) == {0: 8.0}


def test_diverged_trials_and_those_without_an_epoch_are_not_predicted() -> None:
    diverged = trial(TrialState.PRUNED, 3.0, user_attrs={DIVERGED: True})
    assert predicted_ends(study_of(*COMPLETED, diverged, trial(TrialState.PRUNED)).trials, minimize=True) == {}


def test_a_sampler_sees_stopped_trials_as_completed_and_the_study_keeps_them_as_they_are() -> None:
    study = study_of(*COMPLETED, trial(TrialState.PRUNED, 6.0), trial(TrialState.PRUNED))
    seen = PredictedStudy(study, RandomSampler(seed=0))
    completed = seen.get_trials(states=(TrialState.COMPLETE,))
    assert [each.value for each in completed] == [6.0, 4.0, 2.5]
    assert [each.number for each in seen.get_trials(states=(TrialState.PRUNED,))] == [3]
    assert [each.state.name for each in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert seen.ask().number == 4
    assert study.trials[-1].state == TrialState.RUNNING
